// Order without guessing: when may an acked message go to its lane?
//
// Acks of one queue come back on different connections, out of offset order. An acked message is released when every
// send to its queue that was forwarded before that ack came is answered or given up, for a send forwarded later cannot
// get a smaller offset. With it go all acked messages of that queue below it, lowest first.
// (Without "with it": A and B are out; B is acked at 11; C is forwarded; A is acked at 10. B may go, and A would wait.)
// That is so within an epoch; of what is below in another one both wait.
// A message that stands right behind the last released one need not wait: nothing can come between the two.
//
// Offsets count within an epoch, and epochs go by ordinal: all of an older one come before all of a newer one. Nothing more
// is needed for that, as the first message of a newer epoch waits, like any other, for every send that was forwarded before
// its ack came, those on connections of the older epoch among them; but nothing stands 'right behind' over the border.
// What is acked in an older epoch later still (a send given up, or one that a former master took, which knows nothing of its
// successor) comes behind what went: late.
//
// Pure: no clock, no disk. It does not know what a message is, only its offset and how many it stands for.

import { eraOf, inOrder } from './place.ts'

export interface Releasable {
  /** Ordinal of the epoch that its offset counts in. */
  epoch: number
  queueOffset: number
  /** Set here: sends with a smaller number were forwarded before this message's ack came. */
  before: number
  /** Set here, of a message that had to wait. */
  released: boolean
}

/** A send that was forwarded and is not answered. */
export interface Outstanding {
  topic: string
  /** Below 0 it counts for all queues of its topic, for the broker chooses. */
  queueId: number
  /** Set here: its number among all sends that were forwarded. */
  forwarded: number
  /** Set here, when it was answered or given up. */
  settled: boolean
}

class Queue<M extends Releasable> {
  readonly outstanding = new Fifo<Outstanding>(isSettled)
  /** In order of acks, and in order of places. */
  readonly byAck = new Fifo<M>(isReleased)
  readonly byOffset: M[] = []
  /** The highest era that anything was released of, and the offset behind its last. */
  releasedEra = 0
  releasedEnd = -1
  /** The epoch of that last one: of another of its era it is not known that it goes on in the same log. */
  releasedEpoch = 0
}

interface Topic<M extends Releasable> {
  /** Sends for which the broker chooses the queue. */
  anyQueue: Fifo<Outstanding>
  queues: Map<number, Queue<M>>
}

export class Release<M extends Releasable> {
  readonly #release: (message: M, late: boolean) => void
  readonly #topics = new Map<string, Topic<M>>()
  #forwarded = 0
  #waitsForNone = false

  /** `late`: it comes behind one that was released before; only after a send was given up, or in an epoch that has ended. */
  constructor(release: (message: M, late: boolean) => void) {
    this.#release = release
  }

  /** How many sends were forwarded so far. */
  get forwardedSoFar(): number {
    return this.#forwarded
  }

  /** A send is about to be forwarded. */
  forwarded(send: Outstanding): void {
    send.forwarded = this.#forwarded++
    if (send.queueId < 0) this.#topic(send.topic).anyQueue.push(send)
    else this.#queue(send.topic, send.queueId).outstanding.push(send)
  }

  /** The ack of a message has come, and its place is written. Its send is settled after all of its messages. */
  acked(topic: string, queueId: number, message: M): void {
    const queue = this.#queue(topic, queueId)
    if (isNext(queue, message) && queue.byOffset.length === 0) {
      queue.releasedEnd++
      this.#release(message, false)
      return
    }
    message.before = this.#forwarded
    queue.byAck.push(message)
    insert(queue.byOffset, message)
  }

  /** A send was answered: its messages, if it has any, are in this queue. */
  settled(send: Outstanding, queueId: number): void {
    send.settled = true
    const topic = this.#topics.get(send.topic)
    if (topic === undefined) return
    if (send.queueId < 0) topic.anyQueue.oneIsGone()
    else topic.queues.get(send.queueId)?.outstanding.oneIsGone()
    if (send.queueId >= 0 && send.queueId === queueId) this.#pump(topic, queueId)
    else for (const id of topic.queues.keys()) this.#pump(topic, id)
    this.#forgetUnused(send.topic, topic)
  }

  /** Waits no longer for the answers to sends with a smaller number, and tells which they are. */
  giveUp(before: number, givenUp: (send: Outstanding) => void): void {
    for (const [name, topic] of this.#topics) {
      const old: Outstanding[] = []
      take(topic.anyQueue, before, old)
      for (const { outstanding } of topic.queues.values()) take(outstanding, before, old)
      for (const send of old) givenUp(send)
      if (old.length > 0) for (const id of topic.queues.keys()) this.#pump(topic, id)
      this.#forgetUnused(name, topic)
    }
  }

  /** The end: nothing is forwarded any more, and what is acked from now on goes at once. No send counts as given up. */
  releaseAll(): void {
    this.#waitsForNone = true
    for (const topic of this.#topics.values()) for (const id of topic.queues.keys()) this.#pump(topic, id)
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
      topic = { anyQueue: new Fifo<Outstanding>(isSettled), queues: new Map() }
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

  #pump({ anyQueue, queues }: Topic<M>, queueId: number): void {
    const queue = queues.get(queueId)
    if (queue === undefined) return
    const oldest = this.#waitsForNone
      ? Number.POSITIVE_INFINITY
      : Math.min(oldestOf(queue.outstanding), oldestOf(anyQueue))
    // A client may name any number of queues that do not exist.
    if (queue.releasedEnd < 0 && queue.byOffset.length === 0 && queue.outstanding.first === undefined)
      queues.delete(queueId)
    // The highest place that may go; all of its epoch that are acked below it go with it.
    let limit: M | undefined
    for (let { first } = queue.byAck; first !== undefined && first.before <= oldest; { first } = queue.byAck) {
      if (limit === undefined || isBehind(first, limit)) limit = first
      first.released = true
    }
    let count = 0
    for (const message of queue.byOffset) {
      const { epoch, queueOffset } = message
      // Of another epoch it may be of another log, and need not be older than what stands above it.
      const goesWith = limit !== undefined && epoch === limit.epoch && !isBehind(message, limit)
      if (!message.released && !goesWith && !isNext(queue, message)) break
      const era = eraOf(epoch)
      const late = era < queue.releasedEra || (era === queue.releasedEra && queueOffset < queue.releasedEnd)
      if (!late) {
        queue.releasedEra = era
        queue.releasedEpoch = epoch
        queue.releasedEnd = queueOffset + 1
      }
      message.released = true
      queue.byAck.oneIsGone()
      count++
      this.#release(message, late)
    }
    if (count > 0) queue.byOffset.splice(0, count)
  }

  /** Nor is a topic kept that a client has only named. */
  #forgetUnused(name: string, { anyQueue, queues }: Topic<M>): void {
    if (queues.size === 0 && oldestOf(anyQueue) === Number.POSITIVE_INFINITY) this.#topics.delete(name)
  }
}

function isNext(queue: { releasedEpoch: number; releasedEnd: number }, { epoch, queueOffset }: Releasable): boolean {
  return queueOffset === queue.releasedEnd && epoch === queue.releasedEpoch
}

function isBehind(one: Releasable, other: Releasable): boolean {
  return inOrder(one, other) > 0
}

function isSettled({ settled }: Outstanding): boolean {
  return settled
}

function isReleased({ released }: Releasable): boolean {
  return released
}

function oldestOf(outstanding: Fifo<Outstanding>): number {
  return outstanding.first?.forwarded ?? Number.POSITIVE_INFINITY
}

/** Moves to `old` those that have a smaller number; they count as settled. */
function take(outstanding: Fifo<Outstanding>, before: number, old: Outstanding[]): void {
  for (let { first } = outstanding; first !== undefined && first.forwarded < before; { first } = outstanding) {
    first.settled = true
    old.push(first)
  }
}

/** Keeps the list sorted by place; acks come nearly in order, so the place is near the end. */
function insert<M extends Releasable>(sorted: M[], message: M): void {
  let at = sorted.length
  while (at > 0 && isBehind(sorted[at - 1]!, message)) at--
  if (at === sorted.length) sorted.push(message)
  else sorted.splice(at, 0, message)
}

/**
 * First in, first out, of what is not gone; an array's own shift moves everything. What is gone behind one that stays is
 * not kept for long: a source that answers one send never, and thousands behind it, must not fill the memory.
 */
class Fifo<T> {
  readonly #isGone: (item: T) => boolean
  #items: T[] = []
  #head = 0
  #gone = 0

  constructor(isGone: (item: T) => boolean) {
    this.#isGone = isGone
  }

  get first(): T | undefined {
    while (this.#head < this.#items.length && this.#isGone(this.#items[this.#head]!)) this.#head++
    if (this.#head > 0 && this.#head === this.#items.length) {
      this.#items = []
      this.#head = this.#gone = 0
    }
    return this.#items[this.#head]
  }

  push(item: T): void {
    this.#items.push(item)
  }

  oneIsGone(): void {
    if (++this.#gone < 1024 || this.#gone * 2 < this.#items.length) return
    this.#items = this.#items.filter(item => !this.#isGone(item))
    this.#head = this.#gone = 0
  }
}
