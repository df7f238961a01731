// Queues of the remote that a lane has left, and what of ours is known to stand there.
//
// A broker that was away may come back without its tail. Each time that it is settled they are looked after, until it has
// answered for `journalRetention` since anything of ours came there. What they have lost goes to the queue that the lane has
// now, by the lane. It reads; it sends nothing, and holds up nobody.

import { Backoff } from './backoff.ts'
import { Sleep } from './clock.ts'
import type { Cluster } from './cluster.ts'
import { Coalesced } from './coalesced.ts'
import type { RemoteQueue } from './cursor.ts'
import type { Fold } from './folded-places.ts'
import { type EncodedKnownEnds, KnownEnds } from './known-ends.ts'
import { lostTail, originOf, passAgain, type SourceQueue, type TailContext } from './lost-tail.ts'
import { isQueueGone } from './reading.ts'
import type { Remote } from './remote.ts'
import type { RemoteBroker } from './remote-broker.ts'
import { arrived } from './settle.ts'

/** Milliseconds after a queue was left for which bodies are kept for it, though its broker is away: that may never come back. */
const WAITED_FOR = 24 * 60 * 60_000
/** Milliseconds between two tries, at most. */
const RETRY_MOST = 5_000

export interface FormerQueuesContext extends TailContext {
  source: Cluster
  remote: Remote
  remoteBroker(name: string): Pick<RemoteBroker, 'settled' | 'settleSoon' | 'lastAnswerAt'>
}

export interface EncodedFormerQueue {
  remote: RemoteQueue
  ends: EncodedKnownEnds
  /** Milliseconds, our clock. */
  leftAt?: number
}

interface FormerQueue {
  remote: RemoteQueue
  ends: KnownEnds
  leftAt: number
  /** Number of the settling of its broker that it was looked after at. */
  lookedAt: number
}

export class FormerQueues {
  readonly #context: FormerQueuesContext
  readonly #source: SourceQueue
  /** What is gone is to be sent to the lane's queue, before all that waits there. */
  readonly #sendAgain: (folds: readonly Fold[]) => void
  readonly #looks = new Coalesced(() => this.#lookAtAll())
  readonly #backoff: Backoff
  readonly #sleep: Sleep
  #queues: FormerQueue[] = []
  #said = ''
  #stopped = false

  constructor(context: FormerQueuesContext, source: SourceQueue, sendAgain: (folds: readonly Fold[]) => void) {
    const { clock, random } = context.environment
    this.#context = context
    this.#source = source
    this.#sendAgain = sendAgain
    this.#backoff = new Backoff(RETRY_MOST, random)
    this.#sleep = new Sleep(clock)
  }

  /** The lane has left a queue. */
  add(remote: RemoteQueue, ends: KnownEnds): void {
    if (!ends.hasDone) return
    this.#queues.push({ remote: { ...remote }, ends, leftAt: this.#context.environment.clock.now(), lookedAt: 0 })
    this.start()
  }

  /** As a slot has them; returns how many places are unclear. */
  restore(encoded: readonly EncodedFormerQueue[]): number {
    const now = this.#context.environment.clock.now()
    for (const { remote, ends, leftAt = now } of encoded)
      this.#queues.push({ remote: { ...remote }, ends: KnownEnds.decode(ends), leftAt, lookedAt: 0 })
    return this.#queues.reduce((count, { ends }) => count + ends.again.count, 0)
  }

  /** For a slot; undefined where there are none. */
  encode(bytesMax: number): EncodedFormerQueue[] | undefined {
    if (this.#queues.length === 0) return undefined
    return this.#queues.map(({ remote, ends, leftAt }) => ({
      remote: { ...remote },
      ends: ends.encode(bytesMax),
      leftAt,
    }))
  }

  /** What may have been lost while nobody looked is looked after when their brokers are settled, which is soon. */
  start(): void {
    for (const { remote } of this.#queues) this.#context.remoteBroker(remote.broker).settleSoon()
    this.look()
  }

  /** A remote broker was settled anew, or a queue was left. */
  look(): void {
    if (this.isDue) void this.#looks.run()
  }

  /** Whether there is something to look after now. */
  get isDue(): boolean {
    return this.#queues.some(queue => this.#isDue(queue))
  }

  /** Whether anything of a queue that was left within a day is unclear again, and not passed on yet. */
  get isAgain(): boolean {
    return this.#waitedFor.some(({ ends }) => ends.isAgain)
  }

  get #waitedFor(): FormerQueue[] {
    const leftAfter = this.#context.environment.clock.now() - WAITED_FOR
    return this.#queues.filter(({ leftAt }) => leftAt > leftAfter)
  }

  /** The lowest era of which places are kept. */
  get oldestEra(): number {
    return Math.min(...this.#queues.map(({ ends }) => ends.oldestEra))
  }

  /** Up to then their brokers have answered, and they were looked after; without limit where none was left within a day. */
  get answeredUntil(): number {
    const until = this.#waitedFor.map(({ remote, lookedAt }) => {
      const { lastAnswerAt, settled } = this.#context.remoteBroker(remote.broker)
      return settled?.number === lookedAt ? lastAnswerAt : undefined
    })
    return Math.min(...until.map(at => at ?? Number.NEGATIVE_INFINITY))
  }

  /** Forgets what its broker has kept for so many milliseconds. */
  forget(retention: number): void {
    this.#queues = this.#queues.filter(queue => {
      const { remote, ends, lookedAt } = queue
      const { lastAnswerAt, settled } = this.#context.remoteBroker(remote.broker)
      // What is not looked after since the last settling may be gone.
      if (lastAnswerAt === undefined || settled?.number !== lookedAt) return true
      const before = lastAnswerAt - retention
      ends.forgetBefore(before)
      return ends.isAgain || (ends.newest !== undefined && ends.newest.at >= before)
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    this.#sleep.wake()
    await this.#looks.run()
  }

  #isDue({ remote, lookedAt }: FormerQueue): boolean {
    const { settled } = this.#context.remoteBroker(remote.broker)
    return settled !== undefined && settled.number !== lookedAt
  }

  async #lookAtAll(): Promise<void> {
    while (!this.#stopped) {
      const due = this.#queues.filter(queue => this.#isDue(queue))
      if (due.length === 0) return
      let trouble: Error | undefined
      for (const queue of due) {
        if (this.#stopped) return
        await this.#look(queue).catch(error => {
          trouble = error
        })
      }
      if (trouble === undefined) this.#backoff.reset()
      else {
        this.#say(trouble)
        if (!this.#stopped) await this.#sleep.for(this.#backoff.next())
      }
    }
  }

  async #look(queue: FormerQueue): Promise<void> {
    const settled = this.#context.remoteBroker(queue.remote.broker).settled
    if (settled === undefined) return
    try {
      await this.#lookAfter(queue, settled.address)
      queue.lookedAt = settled.number
    } catch (error) {
      if (!isQueueGone(error) || (await this.#isThere(queue.remote))) throw error
      // What stands in a queue that nobody can read any more will be read by nobody.
      this.#queues = this.#queues.filter(one => one !== queue)
      this.#passOn(queue.ends)
    }
  }

  /** Throws where a route that is older than the broker's return does not name it. */
  async #isThere(queue: RemoteQueue): Promise<boolean> {
    const { remote, source, sourceBroker } = this.#context
    const { topic } = this.#source
    await remote.masterFor(topic, queue.broker, source, sourceBroker)
    return remote.hasQueue(topic, queue, source, sourceBroker)
  }

  async #lookAfter({ remote, ends }: FormerQueue, address: string): Promise<void> {
    const { cluster } = this.#context.remote
    const { topic } = this.#source
    await lostTail(this.#context, address, this.#source, remote, ends)
    if (!ends.isAgain) return
    const origin = originOf(this.#context, this.#source)
    const there = await arrived(cluster, address, topic, remote.queueId, remote.end, origin, () => this.#stopped)
    passAgain(this.#context, ends, there)
    this.#passOn(ends)
  }

  #passOn(ends: KnownEnds): void {
    const folds = ends.takeAgain()
    if (folds.length > 0) this.#sendAgain(folds)
  }

  #say(error: Error): void {
    if (this.#stopped || error.message === this.#said) return
    this.#said = error.message
    const { topic, queueId } = this.#source
    this.#context.environment.log.warn(
      { topic, queueId, reason: error.message },
      'a queue that a lane has left cannot be looked after now',
    )
  }
}
