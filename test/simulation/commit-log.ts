// What a model broker keeps: one log of records at their positions, and queues that point into it.
//
// A record is in its queue, and has its offset, when it is appended; it can be read by queue when dispatch has passed it.
// A log that loses its tail takes positions and offsets back, as a recovery does; a topic made anew begins its offsets at 0,
// while its old records stay in the log.

import type { StoredMessage } from '../../codec/index.ts'
import { encodeStored } from '../replay/sample.ts'

export interface LogRecord extends StoredMessage {
  /** As the broker answers it. */
  encoded: Buffer
  /** Position behind it. */
  end: number
}

export interface ModelQueue {
  topic: string
  queueId: number
  minOffset: number
  nextOffset: number
  /** The highest that it ever had. */
  highestEnd: number
  records: LogRecord[]
}

export type NewMessage = Pick<
  StoredMessage,
  'topic' | 'queueId' | 'sysFlag' | 'flag' | 'bornTimestamp' | 'body' | 'properties'
>

export class CommitLog {
  records: LogRecord[] = []
  readonly expired: LogRecord[] = []
  min: number
  end: number
  /** What is behind this can be read by queue. */
  dispatched: number
  /** What is behind this survives a power cut. */
  flushed: number
  readonly topics = new Map<string, ModelQueue[]>()

  constructor(start: number) {
    this.min = this.end = this.dispatched = this.flushed = start
  }

  /** What another broker has that copied this log up to a position. */
  copy(upTo = this.end): CommitLog {
    const copy = new CommitLog(this.min)
    copy.records = [...this.records]
    copy.end = copy.dispatched = copy.flushed = this.end
    for (const [topic, queues] of this.topics)
      copy.topics.set(
        topic,
        queues.map(queue => ({ ...queue, records: [...queue.records] })),
      )
    copy.truncate(upTo)
    return copy
  }

  makeTopic(topic: string, queues: number): void {
    this.topics.set(
      topic,
      Array.from({ length: queues }, (_, queueId) => ({
        topic,
        queueId,
        minOffset: 0,
        nextOffset: 0,
        highestEnd: 0,
        records: [],
      })),
    )
  }

  queue(topic: string, queueId: number): ModelQueue | undefined {
    return this.topics.get(topic)?.[queueId]
  }

  append(message: NewMessage, storeTimestamp: number): LogRecord {
    const queue = this.queue(message.topic, message.queueId)
    if (queue === undefined) throw new Error(`no queue ${message.queueId} of ${message.topic}`)
    const stored: StoredMessage = {
      ...message,
      queueOffset: queue.nextOffset++,
      commitLogOffset: this.end,
      storeTimestamp,
      preparedTransactionOffset: 0,
    }
    queue.highestEnd = Math.max(queue.highestEnd, queue.nextOffset)
    const encoded = encodeStored(stored)
    const record: LogRecord = { ...stored, encoded, end: this.end + encoded.length }
    this.end = record.end
    this.records.push(record)
    queue.records.push(record)
    return record
  }

  at(position: number): LogRecord | undefined {
    let low = 0
    let high = this.records.length - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const record = this.records[middle]!
      if (record.commitLogOffset === position) return record
      if (record.commitLogOffset < position) low = middle + 1
      else high = middle - 1
    }
    return undefined
  }

  dispatch(): void {
    this.dispatched = this.end
  }

  /** Offset behind the newest that can be read. */
  readableEnd(queue: ModelQueue): number {
    let end = queue.nextOffset
    for (let at = queue.records.length - 1; at >= 0 && queue.records[at]!.commitLogOffset >= this.dispatched; at--)
      end--
    return end
  }

  /** Loses what is behind a position. Returns how many records. */
  truncate(position: number): number {
    let lost = 0
    while ((this.records.at(-1)?.end ?? 0) > position) {
      const record = this.records.pop()!
      lost++
      this.end = record.commitLogOffset
      const queue = this.queue(record.topic, record.queueId)
      // A record of a topic that was made anew since is in no queue.
      if (queue?.records.at(-1) === record) {
        queue.records.pop()
        queue.nextOffset = record.queueOffset
      }
    }
    this.dispatched = Math.min(this.dispatched, this.end)
    this.flushed = Math.min(this.flushed, this.end)
    return lost
  }

  /** Forgets what is before a position. */
  expire(position: number): void {
    this.expired.push(...this.records.filter(({ commitLogOffset }) => commitLogOffset < position))
    this.records = this.records.filter(({ commitLogOffset }) => commitLogOffset >= position)
    this.min = this.records[0]?.commitLogOffset ?? this.end
    for (const queues of this.topics.values())
      for (const queue of queues) {
        queue.records = queue.records.filter(({ commitLogOffset }) => commitLogOffset >= position)
        queue.minOffset = queue.records[0]?.queueOffset ?? queue.nextOffset
      }
  }
}
