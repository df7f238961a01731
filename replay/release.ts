// Order without guessing: when may an acked message go to its lane?
//
// Acks of one queue come back on different connections, out of offset order. An acked message is released when every
// send to its queue that was forwarded before that ack came is answered or given up, for a send forwarded later cannot
// get a smaller offset. With it go all acked messages of that queue below it, lowest first.
// (Without "with it": A and B are out; B is acked at 11; C is forwarded; A is acked at 10. B may go, and A would wait.)
// A message that stands right behind the last released one need not wait: nothing can come between the two.
//
// Pure: no clock, no disk. It does not know what a message is, only its offset and how many it stands for.

export interface Releasable {
  queueOffset: number
}

/** A send that was forwarded and is not answered. A queue id below 0 counts for all queues of its topic. */
export class Outstanding {
  readonly topic: string
  readonly queueId: number
  readonly sequence: number
  settled = false

  constructor(topic: string, queueId: number, sequence: number) {
    this.topic = topic
    this.queueId = queueId
    this.sequence = sequence
  }
}

interface Waiting<M> {
  message: M
  /** Sends with a smaller sequence were forwarded before this message's ack came. */
  before: number
  released: boolean
}

class Queue<M> {
  readonly outstanding = new Fifo<Outstanding>()
  /** In order of acks, and in order of offsets. */
  readonly byAck = new Fifo<Waiting<M>>()
  readonly byOffset: Waiting<M>[] = []
  releasedEnd = -1
}

interface Topic<M> {
  /** Sends for which the broker chooses the queue. */
  anyQueue: Fifo<Outstanding>
  queues: Map<number, Queue<M>>
}

export class Release<M extends Releasable> {
  readonly #release: (topic: string, queueId: number, message: M, late: boolean) => void
  readonly #topics = new Map<string, Topic<M>>()
  #sequence = 0

  /** `late`: an offset below one that was released before; only after a send was given up. */
  constructor(release: (topic: string, queueId: number, message: M, late: boolean) => void) {
    this.#release = release
  }

  /** A send is about to be forwarded. */
  forwarded(topic: string, queueId: number): Outstanding {
    const send = new Outstanding(topic, queueId, this.#sequence++)
    if (queueId < 0) this.#topic(topic).anyQueue.push(send)
    else this.#queue(topic, queueId).outstanding.push(send)
    return send
  }

  /** A send was answered with these messages (none: it was refused), or given up. */
  settled(send: Outstanding, queueId: number, messages: readonly M[]): void {
    send.settled = true
    const before = this.#sequence
    if (messages.length > 0) {
      const queue = this.#queue(send.topic, queueId)
      for (const message of messages) {
        const waiting = { message, before, released: false }
        queue.byAck.push(waiting)
        insert(queue.byOffset, waiting)
      }
    }
    if (send.queueId >= 0 && send.queueId === queueId) this.#pump(send.topic, queueId)
    else for (const id of this.#topic(send.topic).queues.keys()) this.#pump(send.topic, id)
  }

  /** Acked messages that wait here. */
  get waiting(): number {
    let count = 0
    for (const topic of this.#topics.values()) for (const queue of topic.queues.values()) count += queue.byOffset.length
    return count
  }

  #topic(name: string): Topic<M> {
    let topic = this.#topics.get(name)
    if (topic === undefined) {
      topic = { anyQueue: new Fifo(), queues: new Map() }
      this.#topics.set(name, topic)
    }
    return topic
  }

  #queue(topicName: string, queueId: number): Queue<M> {
    const { queues } = this.#topic(topicName)
    let queue = queues.get(queueId)
    if (queue === undefined) {
      queue = new Queue()
      queues.set(queueId, queue)
    }
    return queue
  }

  #pump(topicName: string, queueId: number): void {
    const { anyQueue, queues } = this.#topic(topicName)
    const queue = queues.get(queueId)
    if (queue === undefined) return
    const oldest = Math.min(oldestOf(queue.outstanding), oldestOf(anyQueue))
    // The highest offset that may go; all acked below it go with it.
    let limit = -1
    for (
      let first = queue.byAck.first;
      first !== undefined && (first.released || first.before <= oldest);
      first = queue.byAck.first
    ) {
      if (!first.released) limit = Math.max(limit, first.message.queueOffset)
      queue.byAck.shift()
    }
    let count = 0
    for (const waiting of queue.byOffset) {
      const { queueOffset } = waiting.message
      if (queueOffset > limit && queueOffset !== queue.releasedEnd) break
      const late = queueOffset < queue.releasedEnd
      if (!late) queue.releasedEnd = queueOffset + 1
      waiting.released = true
      count++
      this.#release(topicName, queueId, waiting.message, late)
    }
    if (count > 0) queue.byOffset.splice(0, count)
  }
}

function oldestOf(outstanding: Fifo<Outstanding>): number {
  while (outstanding.first?.settled) outstanding.shift()
  return outstanding.first?.sequence ?? Number.POSITIVE_INFINITY
}

/** Keeps the list sorted by offset; acks come nearly in order, so the place is near the end. */
function insert<M extends Releasable>(sorted: Waiting<M>[], waiting: Waiting<M>): void {
  let at = sorted.length
  while (at > 0 && sorted[at - 1]!.message.queueOffset > waiting.message.queueOffset) at--
  if (at === sorted.length) sorted.push(waiting)
  else sorted.splice(at, 0, waiting)
}

/** First in, first out; an array's own shift moves everything. */
class Fifo<T> {
  #items: (T | undefined)[] = []
  #head = 0

  get first(): T | undefined {
    return this.#items[this.#head]
  }

  push(item: T): void {
    this.#items.push(item)
  }

  shift(): void {
    this.#items[this.#head++] = undefined
    if (this.#head === this.#items.length) {
      this.#items = []
      this.#head = 0
    } else if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
  }
}
