// What an embedded broker keeps: topics, a commit log, queues, an index, what is to be delivered later, and consumers'
// offsets. In memory; no socket, file or timer: who owns it says when to dispatch and when to deliver.
//
// It follows broker 5.3.3, whose words the refusals use: SendMessageProcessor, HookUtils, MessageExtEncoder,
// DefaultMessageStore.getMessage, EndTransactionProcessor in apache/rocketmq. Not there: check-backs and the op records
// of transactions, inner batches, replicas, files (so nothing is lost between two of them, and nothing survives us).
//
// A message is stored when it is in the log, and dispatched when it is in its queue and in the index: as in a real
// broker, it can be read by its commit-log offset before it can be pulled.

import { randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { decodeBatch, decodeProperties, PROPERTIES_BYTES_MAX, ResponseCode, SysFlag } from '../../codec/index.ts'

export const TEMPLATE_TOPIC = 'TBW102'
export const SCHEDULE_TOPIC = 'SCHEDULE_TOPIC_XXXX'
export const TIMER_TOPIC = 'rmq_sys_wheel_timer'
export const HALF_TOPIC = 'RMQ_SYS_TRANS_HALF_TOPIC'

export const MESSAGE_BYTES_MAX = 4_194_304
export const DELAY_LEVELS = '1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h'
const UNIT_MS: Record<string, number> = { s: 1_000, m: 60_000, h: 3_600_000 }
const delays = DELAY_LEVELS.split(' ').map(level => Number.parseInt(level, 10) * UNIT_MS[level.slice(-1)]!)
const TIMER_DELAY_MAX_MS = 259_200_000
const TIMER_PRECISION_MS = 1_000

const PULL_MESSAGES_MAX = 32
const PULL_BYTES_MAX = 262_144
const INDEX_ANSWERS_MAX = 64
/** Of a file of a queue. */
const ENTRIES_OF_A_FILE = 300_000

const COMMITTED = 0x8
/** The second layout is for topics with longer names, which 5.3.3 does not take. */
const TOPIC_CHARACTERS_MAX = 127
const MAGIC_V1 = 0xdaa320a7

const PERM_READ_WRITE = 6
const PERM_INHERIT = 1
const NOT_FOR_SENDS = new Set([
  SCHEDULE_TOPIC,
  HALF_TOPIC,
  'RMQ_SYS_TRANS_OP_HALF_TOPIC',
  'TRANS_CHECK_MAX_TIME_TOPIC',
  'SELF_TEST_TOPIC',
  'OFFSET_MOVED_EVENT',
])

export interface Topic {
  name: string
  readQueues: number
  writeQueues: number
  perm: number
  filterType: string
  sysFlag: number
  order: boolean
  attributes: Record<string, string>
}

/** A send request, in neither of its spellings. */
export interface Incoming {
  topic: string
  defaultTopic: string
  defaultQueues: number
  queueId: number
  sysFlag: number
  bornTimestamp: number
  flag: number
  properties: Buffer
  reconsumeTimes: number
  batch: boolean
  body: Buffer
  /** Address and port of the sender. */
  bornHost: Buffer
}

export interface Refusal {
  code: number
  remark: string
}

export interface Stored {
  code: 0
  queueId: number
  queueOffset: number
  /** Commit-log offsets: more than one for a batch. */
  offsets: number[]
  /** UNIQ_KEY. */
  transactionId: string | undefined
}

interface Message {
  topic: string
  queueId: number
  sysFlag: number
  flag: number
  bornTimestamp: number
  bornHost: Buffer
  reconsumeTimes: number
  preparedTransactionOffset: number
  properties: Buffer
  body: Buffer
}

/** A message in the log. */
export interface LogEntry extends Message {
  bytes: Buffer
  offset: number
  queueOffset: number
  storeTimestamp: number
}

export type PullStatus =
  | 'FOUND'
  | 'NO_MATCHED_MESSAGE'
  | 'NO_MESSAGE_IN_QUEUE'
  | 'OFFSET_OVERFLOW_ONE'
  | 'OFFSET_OVERFLOW_BADLY'
  | 'OFFSET_TOO_SMALL'

export interface Pulled {
  status: PullStatus
  code: number
  nextBeginOffset: number
  minOffset: number
  maxOffset: number
  bytes: Buffer[]
}

/** A list that loses its first entries and keeps counting. */
class Rows<T> {
  #items: (T | undefined)[] = []
  #base = 0
  first = 0

  get end(): number {
    return this.#base + this.#items.length
  }

  get(at: number): T | undefined {
    return this.#items[at - this.#base]
  }

  push(item: T): void {
    this.#items.push(item)
  }

  pop(): T | undefined {
    return this.#items.pop()
  }

  dropBefore(at: number): void {
    while (this.first < at) this.#items[this.first++ - this.#base] = undefined
    if (this.first - this.#base > 4096 && this.first - this.#base > this.#items.length / 2) {
      this.#items.splice(0, this.first - this.#base)
      this.#base = this.first
    }
  }
}

class Queue {
  /** The offset that the next message gets: counted when it is stored, not when it is dispatched. */
  next = 0
  readonly entries = new Rows<LogEntry>()
}

export interface StoreOptions {
  cluster: string
  broker: string
  /** Address and port of the broker, as messages keep it. */
  host: Buffer
  /** Bytes of messages kept: above them the oldest go, as if their files had expired. */
  keepBytes?: number
  now?: () => number
}

export class EmbeddedStore {
  readonly cluster: string
  readonly broker: string
  readonly topics = new Map<string, Topic>()
  readonly startedAt: number
  readonly #host: Buffer
  readonly #now: () => number
  readonly #keepBytes: number
  readonly #queues = new Map<string, Queue[]>()
  readonly #log = new Rows<LogEntry>()
  readonly #byOffset = new Map<number, LogEntry>()
  readonly #index = new Map<string, LogEntry[]>()
  /** What is to be delivered, the next at the end. */
  readonly #later: { at: number; entry: LogEntry }[] = []
  readonly #committed = new Map<string, number>()
  #logEnd = 0
  #logBytes = 0
  #dispatched = 0

  constructor(options: StoreOptions) {
    this.cluster = options.cluster
    this.broker = options.broker
    this.#host = options.host
    this.#now = options.now ?? Date.now
    this.#keepBytes = options.keepBytes ?? 512 * 1024 * 1024
    this.startedAt = this.#now()
    const system: [string, number, number][] = [
      [TEMPLATE_TOPIC, 8, PERM_READ_WRITE | PERM_INHERIT],
      [SCHEDULE_TOPIC, delays.length, PERM_READ_WRITE],
      [TIMER_TOPIC, 1, PERM_READ_WRITE],
      [HALF_TOPIC, 1, PERM_READ_WRITE],
      ['RMQ_SYS_TRANS_OP_HALF_TOPIC', 1, PERM_READ_WRITE],
      ['TRANS_CHECK_MAX_TIME_TOPIC', 1, PERM_READ_WRITE],
      ['SELF_TEST_TOPIC', 1, PERM_READ_WRITE],
      ['OFFSET_MOVED_EVENT', 1, PERM_READ_WRITE],
      ['RMQ_SYS_TRACE_TOPIC', 1, PERM_READ_WRITE],
      ['BenchmarkTest', 1024, PERM_READ_WRITE],
      [options.cluster, 16, PERM_READ_WRITE | PERM_INHERIT],
      [options.broker, 1, PERM_READ_WRITE | PERM_INHERIT],
      [`${options.cluster}_REPLY_TOPIC`, 1, PERM_READ_WRITE],
    ]
    for (const [name, queues, perm] of system) this.createTopic(name, queues, { perm })
  }

  // Topics

  createTopic(name: string, queues: number, rest: Partial<Topic> = {}): Topic {
    const topic: Topic = {
      name,
      readQueues: queues,
      writeQueues: queues,
      perm: PERM_READ_WRITE,
      filterType: 'SINGLE_TAG',
      sysFlag: 0,
      order: false,
      attributes: {},
      ...rest,
    }
    this.topics.set(name, topic)
    return topic
  }

  // Storing

  send(incoming: Incoming): Stored | Refusal {
    const refusal = this.#check(incoming)
    if (refusal !== undefined) return refusal
    const topic = this.topics.get(incoming.topic)!
    const queueId = incoming.queueId < 0 ? Math.floor(Math.random() * topic.writeQueues) : incoming.queueId
    const sent = { ...incoming, queueId }
    const properties = decodeProperties(incoming.properties)
    properties.delete('POP_CK')
    properties.set('MSG_REGION', 'DefaultRegion')
    properties.set('TRACE_ON', 'true')
    return incoming.batch ? this.#sendBatch(sent, properties) : this.#sendOne(sent, properties)
  }

  #check({ topic, defaultTopic, defaultQueues, queueId }: Incoming): Refusal | undefined {
    const wrong = invalidTopic(topic)
    if (wrong !== undefined) return { code: ResponseCode.INVALID_PARAMETER, remark: wrong }
    if (NOT_FOR_SENDS.has(topic)) {
      return { code: ResponseCode.NO_PERMISSION, remark: `Sending message to topic[${topic}] is forbidden.` }
    }
    let config = this.topics.get(topic)
    if (config === undefined) {
      const template = this.topics.get(defaultTopic)
      if (template !== undefined && template.perm & PERM_INHERIT) {
        const queues = Math.max(0, Math.min(defaultQueues, template.writeQueues))
        config = this.createTopic(topic, queues, { perm: template.perm & ~PERM_INHERIT })
      } else if (topic.startsWith('%RETRY%')) config = this.createTopic(topic, 1)
    }
    if (config === undefined) {
      const remark = `topic[${topic}] not exist, apply first please!\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.`
      return { code: ResponseCode.TOPIC_NOT_EXIST, remark }
    }
    if (queueId >= Math.max(config.writeQueues, config.readQueues)) {
      return {
        code: ResponseCode.INVALID_PARAMETER,
        remark: `request queueId[${queueId}] is illegal, ${topic} has ${config.writeQueues} queues`,
      }
    }
    return undefined
  }

  #sendOne(sent: Incoming, properties: Map<string, string>): Stored | Refusal {
    const uniqKey = properties.get('UNIQ_KEY') ?? randomBytes(16).toString('hex').toUpperCase()
    properties.set('UNIQ_KEY', uniqKey)
    properties.set('CLUSTER', this.cluster)
    if (properties.has('INNER_NUM') || sent.sysFlag & SysFlag.INNER_BATCH) return ILLEGAL
    let { topic, queueId, sysFlag } = sent
    // The property decides, not the flag.
    const half =
      properties.get('TRAN_MSG')?.toLowerCase() === 'true' && !(sent.reconsumeTimes > 0 && levelOf(properties) > 0)
    if (half) {
      properties.set('__transactionId__', uniqKey)
      moveTo(properties, topic, queueId)
      topic = HALF_TOPIC
      queueId = 0
      sysFlag &= ~SysFlag.TRANSACTION
    }
    const message = { ...sent, topic, queueId, sysFlag, preparedTransactionOffset: 0 }
    const entry = this.#putDelayed(message, properties)
    if ('code' in entry) return entry
    return {
      code: 0,
      // What was asked for, also where the message went to a system topic.
      queueId: sent.queueId,
      queueOffset: entry.queueOffset,
      offsets: [entry.offset],
      transactionId: uniqKey,
    }
  }

  #sendBatch(sent: Incoming, outer: Map<string, string>): Stored | Refusal {
    if (sent.topic.startsWith('%RETRY%')) {
      const remark = `batch request does not support retry group ${sent.topic}`
      return { code: ResponseCode.MESSAGE_ILLEGAL, remark }
    }
    outer.set('CLUSTER', this.cluster)
    if (sent.sysFlag & SysFlag.TRANSACTION || levelOf(outer) > 0) return ILLEGAL
    if (outer.has('INNER_NUM') || sent.sysFlag & SysFlag.INNER_BATCH) return ILLEGAL
    if (sent.body.length > MESSAGE_BYTES_MAX) throw new Error('message body size exceeded')
    const appended = encodeInJavaOrder(outer)
    const members: Message[] = decodeBatch(sent.body).map(member => ({
      ...sent,
      ...member,
      // 5.3.3: what the header brings stands behind the member's own.
      properties: joined(member.properties, appended),
      preparedTransactionOffset: 0,
    }))
    const entries = members.map(member => this.#append(member))
    return {
      code: 0,
      queueId: sent.queueId,
      queueOffset: entries[0]?.queueOffset ?? 0,
      offsets: entries.map(entry => entry.offset),
      transactionId: outer.get('UNIQ_KEY'),
    }
  }

  /** Puts a message where it belongs: what is to be delivered later goes to a system topic first. */
  #putDelayed(message: Message, properties: Map<string, string>): LogEntry | Refusal {
    let { topic, queueId } = message
    let at: number | undefined
    const transaction = message.sysFlag & SysFlag.TRANSACTION
    if (transaction === 0 || transaction === COMMITTED) {
      const level = Math.min(levelOf(properties), delays.length)
      if (level > 0) {
        for (const name of ['TIMER_DELIVER_MS', 'TIMER_DELAY_SEC', 'TIMER_DELAY_MS']) properties.delete(name)
        at = this.#now() + delays[level - 1]!
        moveTo(properties, topic, queueId)
        topic = SCHEDULE_TOPIC
        queueId = level - 1
      } else {
        const time = this.#timerOf(properties)
        if (time !== undefined && !(time <= this.#now() + TIMER_DELAY_MAX_MS)) return TIMER_ILLEGAL
        if (time !== undefined && time > this.#now()) {
          at = time % TIMER_PRECISION_MS === 0 ? time - TIMER_PRECISION_MS : time - (time % TIMER_PRECISION_MS)
          properties.set('TIMER_OUT_MS', String(at))
          moveTo(properties, topic, queueId)
          topic = TIMER_TOPIC
          queueId = 0
        }
      }
    }
    const encoded = encodeInJavaOrder(properties)
    if (encoded.length > PROPERTIES_BYTES_MAX || message.body.length > MESSAGE_BYTES_MAX) return ILLEGAL
    const entry = this.#append({ ...message, topic, queueId, properties: encoded })
    if (at !== undefined) this.#deliverAt(at, entry)
    return entry
  }

  /** When a timed message is due; NaN where it does not say it in numbers. */
  #timerOf(properties: Map<string, string>): number | undefined {
    if (properties.has('TIMER_OUT_MS')) return undefined
    const seconds = properties.get('TIMER_DELAY_SEC')
    if (seconds !== undefined) return this.#now() + Number(seconds) * 1000
    const ms = properties.get('TIMER_DELAY_MS')
    if (ms !== undefined) return this.#now() + Number(ms)
    const time = properties.get('TIMER_DELIVER_MS')
    return time === undefined ? undefined : Number(time)
  }

  #append(message: Message): LogEntry {
    const queue = this.#queue(message.topic, message.queueId)
    const queued = isQueued(message.sysFlag)
    const { topic, queueId, sysFlag, flag, bornTimestamp, bornHost, reconsumeTimes, preparedTransactionOffset } =
      message
    const entry: LogEntry = {
      topic,
      queueId,
      sysFlag,
      flag,
      bornTimestamp,
      bornHost,
      reconsumeTimes,
      preparedTransactionOffset,
      properties: message.properties,
      body: message.body,
      offset: this.#logEnd,
      queueOffset: queued ? queue.next++ : 0,
      storeTimestamp: this.#now(),
      bytes: NOTHING,
    }
    const bytes = encodeEntry(entry, this.#host)
    entry.bytes = bytes
    // Views of what was stored, so that nothing holds on to the request.
    entry.properties = bytes.subarray(bytes.length - message.properties.length)
    entry.body = bytes.subarray(BODY_OFFSET, BODY_OFFSET + message.body.length)
    this.#logEnd += entry.bytes.length
    this.#logBytes += entry.bytes.length
    this.#log.push(entry)
    this.#byOffset.set(entry.offset, entry)
    while (this.#logBytes > this.#keepBytes && this.#log.first < this.#dispatched) this.#expireOldest()
    return entry
  }

  #queue(topic: string, queueId: number): Queue {
    const queues = this.#queues.get(topic) ?? []
    if (queues.length === 0) this.#queues.set(topic, queues)
    const queue = queues[queueId] ?? new Queue()
    queues[queueId] = queue
    return queue
  }

  // Dispatching

  /**
   * Makes what was stored up to this time (all of it, by default) readable by queue and key. Says whether there was any.
   *
   * It stops for good at a batch's member whose properties became too long by those of the header. A real broker takes
   * such a batch, but cannot read it back: nothing that was stored behind it is ever dispatched, in any topic (5.3.3:
   * unless it was the batch's last; 4.9.7: always; 5.5.0 adds nothing and has no such member). See `cutUnreadable`.
   */
  dispatch(storedUpTo = Number.POSITIVE_INFINITY): boolean {
    const before = this.#dispatched
    for (; this.#dispatched < this.#log.end; this.#dispatched++) {
      const entry = this.#log.get(this.#dispatched)!
      if (entry.storeTimestamp > storedUpTo || isTooLong(entry)) break
      if (isQueued(entry.sysFlag)) this.#queue(entry.topic, entry.queueId).entries.push(entry)
      for (const key of keysOf(entry)) {
        const known = this.#index.get(key)
        if (known === undefined) this.#index.set(key, [entry])
        else known.push(entry)
      }
    }
    return this.#dispatched > before
  }

  /** When the oldest message was stored that is not dispatched. */
  get undispatchedSince(): number | undefined {
    return this.#log.get(this.#dispatched)?.storeTimestamp
  }

  get dispatchBehindBytes(): number {
    const entry = this.#log.get(this.#dispatched)
    return entry === undefined ? 0 : this.#logEnd - entry.offset
  }

  // Reading

  get commitLogMaxOffset(): number {
    return this.#logEnd
  }

  /** When its oldest message was stored; -1 where it has none. */
  get oldestAt(): number {
    return this.#log.get(this.#log.first)?.storeTimestamp ?? -1
  }

  get commitLogMinOffset(): number {
    return this.#log.get(this.#log.first)?.offset ?? this.#logEnd
  }

  /** Messages in the log. */
  get messages(): number {
    return this.#log.end - this.#log.first
  }

  pull(topic: string, queueId: number, offset: number, max: number, matches?: (entry: LogEntry) => boolean): Pulled {
    const { entries } = this.#queue(topic, queueId)
    const pulled = { minOffset: entries.first, maxOffset: entries.end, bytes: [] as Buffer[] }
    const moved = (status: PullStatus, nextBeginOffset: number): Pulled => {
      return { ...pulled, status, code: ResponseCode.PULL_OFFSET_MOVED, nextBeginOffset }
    }
    const nothing = (status: PullStatus): Pulled => {
      return { ...pulled, status, code: ResponseCode.PULL_NOT_FOUND, nextBeginOffset: offset }
    }
    if (entries.end === 0) return offset === 0 ? nothing('NO_MESSAGE_IN_QUEUE') : moved('NO_MESSAGE_IN_QUEUE', 0)
    if (offset < entries.first) return moved('OFFSET_TOO_SMALL', entries.first)
    if (offset === entries.end) return nothing('OFFSET_OVERFLOW_ONE')
    if (offset > entries.end) return moved('OFFSET_OVERFLOW_BADLY', entries.end)
    let at = offset
    let bytes = 0
    for (; at < entries.end; at++) {
      const entry = entries.get(at)!
      const count = pulled.bytes.length
      if (count > 0 && (count >= Math.min(max, PULL_MESSAGES_MAX) || bytes + entry.bytes.length > PULL_BYTES_MAX)) break
      if (matches !== undefined && !matches(entry)) continue
      pulled.bytes.push(entry.bytes)
      bytes += entry.bytes.length
    }
    if (pulled.bytes.length > 0) return { ...pulled, status: 'FOUND', code: 0, nextBeginOffset: at }
    return { ...pulled, status: 'NO_MATCHED_MESSAGE', code: ResponseCode.PULL_RETRY_IMMEDIATELY, nextBeginOffset: at }
  }

  at(offset: number): LogEntry | undefined {
    return this.#byOffset.get(offset)
  }

  /**
   * What a broker finds at any offset: the four bytes there are taken for a message's length. Undefined where nothing
   * can be cut out by that.
   */
  cutAt(offset: number): Buffer | undefined {
    const entry = this.#byOffset.get(offset) ?? this.#holding(offset)
    if (entry === undefined) return undefined
    const bytes = entry.bytes.subarray(offset - entry.offset)
    const size = bytes.length < 4 ? -1 : bytes.readInt32BE()
    return size < 0 || size > bytes.length ? undefined : bytes.subarray(0, size)
  }

  #holding(offset: number): LogEntry | undefined {
    let low = this.#log.first
    let high = this.#log.end
    while (low < high) {
      const middle = (low + high) >> 1
      const entry = this.#log.get(middle)!
      if (offset < entry.offset) high = middle
      else if (offset >= entry.offset + entry.bytes.length) low = middle + 1
      else return this.#byOffset.get(entry.offset)
    }
    return undefined
  }

  query(topic: string, key: string, max: number, begin: number, end: number): LogEntry[] {
    const found = this.#index.get(`${topic}#${key}`) ?? []
    const inTime = found.filter(
      ({ storeTimestamp: at, offset }) => at >= begin && at <= end && this.#byOffset.has(offset),
    )
    return inTime.slice(-Math.min(max, INDEX_ANSWERS_MAX)).reverse()
  }

  maxOffset(topic: string, queueId: number): number {
    return this.#queue(topic, queueId).entries.end
  }

  minOffset(topic: string, queueId: number): number {
    return this.#queue(topic, queueId).entries.first
  }

  /**
   * The first offset of a message stored at this time or later. Where all are younger it is where the queue's file begins, as
   * a broker has it: what stood there may have expired.
   */
  searchOffset(topic: string, queueId: number, timestamp: number): number {
    const { entries } = this.#queue(topic, queueId)
    let low = entries.first
    if (low < entries.end && entries.get(low)!.storeTimestamp > timestamp) return low - (low % ENTRIES_OF_A_FILE)
    let high = entries.end
    while (low < high) {
      const middle = (low + high) >> 1
      if (entries.get(middle)!.storeTimestamp < timestamp) low = middle + 1
      else high = middle
    }
    return low
  }

  earliestTimestamp(topic: string, queueId: number): number {
    const { entries } = this.#queue(topic, queueId)
    return entries.get(entries.first)?.storeTimestamp ?? -1
  }

  // Consumers' offsets

  commitOffset(group: string, topic: string, queueId: number, offset: number): void {
    this.#committed.set(`${topic}@${group}@${queueId}`, offset)
  }

  committedOffset(group: string, topic: string, queueId: number): number | undefined {
    return this.#committed.get(`${topic}@${group}@${queueId}`)
  }

  // Delivering later

  #deliverAt(at: number, entry: LogEntry): void {
    let low = 0
    let high = this.#later.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#later[middle]!.at > at) low = middle + 1
      else high = middle
    }
    this.#later.splice(low, 0, { at, entry })
  }

  /** When something is to be delivered next. */
  get nextDue(): number | undefined {
    return this.#later.at(-1)?.at
  }

  /** Stores what is due again, in its own topic. Says how many that were. */
  deliverDue(): number {
    let delivered = 0
    while (this.#later.length > 0 && this.#later.at(-1)!.at <= this.#now()) {
      const { entry } = this.#later.pop()!
      const properties = decodeProperties(entry.properties)
      // What said when stays among the properties: 5.3.3 makes the string before it takes it out.
      this.#append({
        ...entry,
        topic: properties.get('REAL_TOPIC')!,
        queueId: Number(properties.get('REAL_QID')),
      })
      delivered++
    }
    return delivered
  }

  // Transactions

  /** Stores the message of a half message in its own topic. */
  commit(group: string, tableOffset: number, logOffset: number): Refusal | undefined {
    const half = this.#preparedOf(group, tableOffset, logOffset)
    if ('code' in half) return half
    const properties = decodeProperties(half.properties)
    const message = {
      ...half,
      topic: properties.get('REAL_TOPIC')!,
      queueId: Number(properties.get('REAL_QID')),
      sysFlag: (half.sysFlag & ~SysFlag.TRANSACTION) | COMMITTED,
      preparedTransactionOffset: logOffset,
    }
    const entry = this.#putDelayed(message, properties)
    return 'code' in entry ? entry : undefined
  }

  rollback(group: string, tableOffset: number, logOffset: number): Refusal | undefined {
    const half = this.#preparedOf(group, tableOffset, logOffset)
    return 'code' in half ? half : undefined
  }

  #preparedOf(group: string, tableOffset: number, logOffset: number): LogEntry | Refusal {
    const refused = (remark: string) => ({ code: ResponseCode.SYSTEM_ERROR, remark })
    const half = this.#byOffset.get(logOffset)
    if (half === undefined) return refused('Find prepared transaction message failed')
    if (decodeProperties(half.properties).get('PGROUP') !== group) return refused('The producer group wrong')
    if (half.queueOffset !== tableOffset) return refused('The transaction state table offset wrong')
    return half
  }

  // Losing

  /** Forgets the messages stored last, as a broker does that comes back from a crash without them. Says how many. */
  dropTail(count: number): number {
    let dropped = 0
    for (; dropped < count && this.#log.end > this.#log.first; dropped++) {
      const entry = this.#log.pop()!
      const queue = this.#queue(entry.topic, entry.queueId)
      if (this.#dispatched > this.#log.end) {
        this.#dispatched--
        if (isQueued(entry.sysFlag)) queue.entries.pop()
        for (const key of keysOf(entry)) this.#index.get(key)?.pop()
      }
      if (isQueued(entry.sysFlag)) queue.next--
      this.#byOffset.delete(entry.offset)
      this.#logEnd = entry.offset
      this.#logBytes -= entry.bytes.length
      const later = this.#later.findIndex(item => item.entry === entry)
      if (later >= 0) this.#later.splice(later, 1)
    }
    return dropped
  }

  /**
   * What a broker does when it is started again: the first message that it cannot read is taken for the end of the log,
   * and cut off with everything that was stored, and acked, behind it. So it went on 4.9.7, 5.3.3 and 5.5.0.
   */
  cutUnreadable(): number {
    for (let at = this.#log.first; at < this.#log.end; at++) {
      const entry = this.#log.get(at)!
      if (isTooLong(entry) || saysV6(entry.sysFlag)) return this.dropTail(this.#log.end - at)
    }
    return 0
  }

  /** Forgets a queue's messages before this offset, as when their files have expired. */
  expire(topic: string, queueId: number, before: number): void {
    const { entries } = this.#queue(topic, queueId)
    const end = Math.min(before, entries.end)
    for (let at = entries.first; at < end; at++) this.#byOffset.delete(entries.get(at)!.offset)
    entries.dropBefore(end)
  }

  #expireOldest(): void {
    const entry = this.#log.get(this.#log.first)!
    this.#log.dropBefore(this.#log.first + 1)
    this.#logBytes -= entry.bytes.length
    this.#byOffset.delete(entry.offset)
    if (isQueued(entry.sysFlag)) this.#queue(entry.topic, entry.queueId).entries.dropBefore(entry.queueOffset + 1)
    for (const key of keysOf(entry)) {
      const known = this.#index.get(key)
      known?.shift()
      if (known?.length === 0) this.#index.delete(key)
    }
  }
}

const NOTHING = Buffer.alloc(0)
/** Bytes of a stored message without its body, topic and properties. */
const FIXED_BYTES = 91
const BODY_OFFSET = 88

const ILLEGAL: Refusal = {
  code: ResponseCode.MESSAGE_ILLEGAL,
  remark: `the message is illegal, maybe msg body or properties length not matched. msg body length limit ${MESSAGE_BYTES_MAX}B, msg properties length limit 32KB.`,
}
const TIMER_ILLEGAL: Refusal = {
  code: ResponseCode.MESSAGE_ILLEGAL,
  remark: `timer message illegal, the delay time should not be bigger than the max delay ${TIMER_DELAY_MAX_MS}ms; or if set del msg, the delay time should be bigger than the current time`,
}

const systemTopics = new Set([
  ...NOT_FOR_SENDS,
  TEMPLATE_TOPIC,
  'BenchmarkTest',
  'RMQ_SYS_TRACE_TOPIC',
  'CHECKPOINT_TOPIC',
])

export function isSystemTopic(topic: string): boolean {
  return systemTopics.has(topic) || topic.startsWith('rmq_sys_')
}

/** What is wrong with a topic's name (TopicValidator.validateTopic). */
export function invalidTopic(topic: string): string | undefined {
  if (topic.trim() === '') return 'The specified topic is blank.'
  if (!/^[%|a-zA-Z0-9_-]+$/.test(topic)) {
    return 'The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$'
  }
  return topic.length > TOPIC_CHARACTERS_MAX ? 'The specified topic is longer than topic max length.' : undefined
}

/**
 * Whether a message comes into its queue. Prepared and rolled-back ones are in the log alone, and so is one that a
 * client flagged as having IPv6 hosts, for a real broker writes IPv4 hosts into it all the same and cannot read it back.
 */
function isQueued(sysFlag: number): boolean {
  if (saysV6(sysFlag)) return false
  const transaction = sysFlag & SysFlag.TRANSACTION
  return transaction === 0 || transaction === COMMITTED
}

function saysV6(sysFlag: number): boolean {
  return (sysFlag & (SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6)) !== 0
}

function isTooLong(entry: LogEntry): boolean {
  return entry.properties.length > PROPERTIES_BYTES_MAX
}

/** Throws where it is no number, as Integer.parseInt does. */
function levelOf(properties: Map<string, string>): number {
  const level = properties.get('DELAY') ?? '0'
  if (!/^[-+]?\d+$/.test(level)) throw new Error(`java.lang.NumberFormatException: For input string: "${level}"`)
  return Number(level)
}

function moveTo(properties: Map<string, string>, topic: string, queueId: number): void {
  properties.set('REAL_TOPIC', topic)
  properties.set('REAL_QID', String(queueId))
}

function keysOf(entry: LogEntry): string[] {
  if (saysV6(entry.sysFlag)) return []
  if ((entry.sysFlag & SysFlag.TRANSACTION) === SysFlag.TRANSACTION) return []
  const properties = decodeProperties(entry.properties)
  const keys = new Set((properties.get('KEYS') ?? '').split(' '))
  keys.add(properties.get('UNIQ_KEY') ?? '')
  keys.delete('')
  return [...keys].map(key => `${entry.topic}#${key}`)
}

function joined(own: Buffer, appended: Buffer): Buffer {
  if (own.length === 0 || own[own.length - 1] === 0x02) return Buffer.concat([own, appended])
  return Buffer.concat([own, Buffer.from([0x02]), appended])
}

/**
 * The property string in the order that a broker writes it: that of a Java HashMap made for 128 entries, which has
 * little to do with the order in which the client wrote them.
 */
export function encodeInJavaOrder(properties: Map<string, string>): Buffer {
  let buckets = 128
  while (properties.size > buckets * 0.75) buckets *= 2
  const entries = [...properties].map(([name, value]) => ({ name, value, bucket: javaHash(name) & (buckets - 1) }))
  entries.sort((a, b) => a.bucket - b.bucket)
  let text = ''
  for (const { name, value } of entries) text += `${name}\u0001${value}\u0002`
  return Buffer.from(text)
}

function javaHash(text: string): number {
  let hash = 0
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0
  return hash ^ (hash >>> 16)
}

/** The layout is told in codec/stored-message.ts. */
function encodeEntry(entry: LogEntry, host: Buffer): Buffer {
  const topic = Buffer.from(entry.topic)
  const bytes = Buffer.allocUnsafeSlow(FIXED_BYTES + entry.body.length + topic.length + entry.properties.length)
  let at = bytes.writeInt32BE(bytes.length, 0)
  at = bytes.writeUInt32BE(MAGIC_V1, at)
  // A broker keeps the checksum's low 31 bits (UtilAll.crc32).
  at = bytes.writeInt32BE(crc32(entry.body) & 0x7fffffff, at)
  at = bytes.writeInt32BE(entry.queueId, at)
  at = bytes.writeInt32BE(entry.flag, at)
  at = bytes.writeBigInt64BE(BigInt(entry.queueOffset), at)
  at = bytes.writeBigInt64BE(BigInt(entry.offset), at)
  at = bytes.writeInt32BE(entry.sysFlag, at)
  at = bytes.writeBigInt64BE(BigInt(entry.bornTimestamp), at)
  at += entry.bornHost.copy(bytes, at)
  at = bytes.writeBigInt64BE(BigInt(entry.storeTimestamp), at)
  at += host.copy(bytes, at)
  at = bytes.writeInt32BE(entry.reconsumeTimes, at)
  at = bytes.writeBigInt64BE(BigInt(entry.preparedTransactionOffset), at)
  at = bytes.writeInt32BE(entry.body.length, at)
  at += entry.body.copy(bytes, at)
  at = bytes.writeUInt8(topic.length, at)
  at += topic.copy(bytes, at)
  at = bytes.writeUInt16BE(entry.properties.length, at)
  entry.properties.copy(bytes, at)
  return bytes
}
