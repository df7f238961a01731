// A lane: one source queue on its way to one remote queue, in order.
//
// It has at most one request in flight, because a broker's threads may reorder two; speed comes from batches: what has
// gathered while one request was out goes in the next. A body is taken from memory, else from the source; there is no
// second path. What becomes of a request is decided by the answer table; what is unclear is found out before anything is
// sent again. A lane that cannot go on waits, says so once, and tries again; it disturbs nobody else.

import { type Frame, type FrameHead, readSendAnswer, remarkOf } from '../codec/index.ts'
import type { Account, LostCause } from './account.ts'
import { meaningOf } from './answer.ts'
import { Backoff } from './backoff.ts'
import { bytesInBatch, encodeRequest, fits, type Outgoing, type Stamper, stamp } from './batcher.ts'
import type { Body, BodyMemory } from './body.ts'
import type { Cluster } from './cluster.ts'
import type { QueueMark, RemoteQueue } from './cursor.ts'
import type { DeadLetters } from './dead-letters.ts'
import type { Environment } from './environment.ts'
import { GapFiller } from './gap-filler.ts'
import { LinkError } from './link.ts'
import type { Place } from './place.ts'
import { PlaceQueue } from './place-queue.ts'
import { maxOffset } from './reading.ts'
import type { Remote } from './remote.ts'
import { arrived, placeKey, traceKey } from './settle.ts'
import type { Turns } from './turns.ts'
import { WaitError } from './wait-error.ts'

/** Milliseconds for an answer to a send; then the link is ended. */
const SEND_TIMEOUT = 10_000
/** Milliseconds between two tries, at most. */
const RETRY_MOST = 1_000
/** Tries of one request that was answered with an unclear code, while its broker stored others. */
const UNCLEAR_TRIES = 3

export interface LaneContext {
  environment: Environment
  source: Cluster
  remote: Remote
  sourceBroker: string
  /** Place of the source broker among its cluster's, the same over restarts. */
  sourceOrdinal: number
  sourceAddress(): string
  /** How much the source broker is asked at a time. */
  turns: Turns
  memory: BodyMemory
  account: Account
  deadLetters: DeadLetters
  producerGroup: string
  bornTimestampTolerance: number
  stamper: Omit<Stamper, 'queueId'>
  /** A place needs no more. */
  done(sequence: number): void
  /** Makes the lanes' remote queues durable. */
  checkpoint(): Promise<void>
}

export class Lane {
  readonly topic: string
  readonly queueId: number
  readonly queue = new PlaceQueue()
  /** The highest epoch that anything was released of, and the offset behind its last. */
  #releasedEpoch = 0
  #releasedEnd = 0
  readonly #context: LaneContext
  readonly #stamper: Stamper
  readonly #gaps: GapFiller
  readonly #backoff: Backoff
  #remoteQueue: RemoteQueue | undefined
  #remoteQueueDurable = false
  /** Whether messages of the queue may be at the remote without our knowing. */
  #unclear = false
  /** Places not done that came after a higher one was released, by epoch. */
  readonly #late = new Map<number, Set<number>>()
  /** Offset behind the highest done place, by epoch. */
  readonly #doneEnd = new Map<number, number>()
  /** After a refused batch: how many messages a request may have, until so many are done. */
  #most = Number.POSITIVE_INFINITY
  #mostFor = 0
  /** The head that was answered unclearly, by its sequence, how often, and what its broker had stored at the first. */
  #unclearHead = -1
  #unclearAnswers = 0
  #storedBefore = 0
  /** The message that is a dead letter unless it is found to have arrived, and why. */
  #hopeless: { sequence: number; reason: string } | undefined
  #stopped = false
  #wake: () => void = () => {}
  #cancelSleep: () => void = () => {}
  #running: Promise<void> | undefined
  #trouble: Error | undefined

  constructor(context: LaneContext, topic: string, queueId: number, remoteQueue?: RemoteQueue) {
    this.#context = context
    this.topic = topic
    this.queueId = queueId
    this.#remoteQueue = remoteQueue
    this.#remoteQueueDurable = remoteQueue !== undefined
    this.#stamper = { ...context.stamper, queueId }
    this.#backoff = new Backoff(RETRY_MOST, context.environment.random)
    this.#gaps = new GapFiller(
      context.environment.clock,
      { cluster: context.source, topic, queueId, address: context.sourceAddress, turns: context.turns },
      this.queue,
      context.memory,
      context.account,
      (index, cause) => this.#lose(index, cause),
    )
  }

  get remoteQueue(): RemoteQueue | undefined {
    return this.#remoteQueue
  }

  /** What it waits for, in words; empty while it goes. */
  get trouble(): string {
    if (this.#trouble instanceof WaitError && this.#trouble.detail !== '')
      return `${this.#trouble.message}: ${this.#trouble.detail}`
    return this.#trouble?.message ?? ''
  }

  /** A released place, behind all others. It is counted already. */
  push(place: Place, epoch: number, body: Body | undefined): void {
    if (!this.#released(epoch, place.queueOffset)) this.expectLate(epoch, place.queueOffset)
    this.queue.push(place, epoch, body)
    this.#wake()
  }

  /** A place from before this start, in any order. It is counted already. */
  restore(place: Place, epoch: number, isLate: boolean): void {
    this.#released(epoch, place.queueOffset)
    if (isLate) this.expectLate(epoch, place.queueOffset)
    this.queue.insert(place, epoch)
  }

  /** A place from before this start that is done, behind one that is not: the next cursor has to name it, too. */
  restoreDone(place: Place, epoch: number): void {
    this.#doneEnd.set(epoch, Math.max(this.#doneEnd.get(epoch) ?? 0, place.queueOffset + 1))
    this.queue.insert(place, epoch, true)
  }

  /** Whether something was released that stands behind this. */
  isBehind(epoch: number, queueOffset: number): boolean {
    return epoch < this.#releasedEpoch || (epoch === this.#releasedEpoch && queueOffset < this.#releasedEnd)
  }

  #released(epoch: number, queueOffset: number): boolean {
    if (this.isBehind(epoch, queueOffset)) return false
    this.#releasedEpoch = epoch
    this.#releasedEnd = queueOffset + 1
    return true
  }

  /** A place was journaled that comes behind higher ones: the cursor's mark must not cover it. */
  expectLate(epoch: number, queueOffset: number): void {
    const late = this.#late.get(epoch) ?? new Set()
    this.#late.set(epoch, late.add(queueOffset))
  }

  /** Places from before this start may have been sent. */
  start(mayHaveBeenSent: boolean): void {
    this.#unclear = mayHaveBeenSent && this.#remoteQueue !== undefined
    this.#running = this.#run()
  }

  /** Sends no more; resolves when what is out is answered, or given up. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#wake()
    this.#cancelSleep()
    await this.#running
  }

  /** What of this lane is done, for the cursor. */
  marks(oldestEpoch: number): QueueMark[] {
    const marks: QueueMark[] = []
    const epochs = new Set([...this.#doneEnd.keys(), ...this.#late.keys()])
    let first = 0
    while (first < this.queue.span && (this.queue.isDone(first) || this.#isLate(first))) first++
    const head = first < this.queue.span ? this.queue.place(first) : undefined
    const done = this.#doneBehind(first, head)
    if (head !== undefined) epochs.add(head.epoch)
    for (const epoch of done.keys()) epochs.add(epoch)
    for (const epoch of epochs) {
      if (epoch < oldestEpoch) {
        this.#doneEnd.delete(epoch)
        this.#late.delete(epoch)
        continue
      }
      const late = [...(this.#late.get(epoch) ?? [])]
      const runs = done.get(epoch) ?? []
      if (head === undefined || epoch < head.epoch)
        marks.push({ epoch, mark: this.#doneEnd.get(epoch) ?? 0, late, done: [] })
      else if (epoch === head.epoch) marks.push({ epoch, mark: head.queueOffset, late, done: runs })
      else if (runs.length > 0) marks.push({ epoch, mark: 0, late, done: runs })
    }
    return marks
  }

  /** Places that are done while the head, before them, is not: by epoch, as runs of offsets. There are few. */
  #doneBehind(first: number, head: (Place & { epoch: number }) | undefined): Map<number, [number, number][]> {
    const done = new Map<number, [number, number][]>()
    if (head === undefined) return done
    let left = this.queue.span - this.queue.count
    for (let index = 0; left > 0 && index < this.queue.span; index++) {
      if (!this.queue.isDone(index)) continue
      left--
      if (index < first) continue
      const { epoch, queueOffset } = this.queue.place(index)
      // A late one: it is below the mark, and not named as late any more.
      if (epoch === head.epoch && queueOffset < head.queueOffset) continue
      const runs = done.get(epoch) ?? []
      if (runs.length === 0) done.set(epoch, runs)
      const last = runs.at(-1)
      if (last !== undefined && last[0] + last[1] === queueOffset) last[1]++
      else runs.push([queueOffset, 1])
    }
    return done
  }

  /** Takes over what a cursor said was done. */
  restoreMarks(marks: readonly QueueMark[]): void {
    for (const { epoch, mark } of marks) this.#doneEnd.set(epoch, mark)
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      this.queue.trim()
      if (this.queue.count === 0) {
        await new Promise<void>(resolve => {
          this.#wake = resolve
        })
        continue
      }
      try {
        await this.#step()
        this.#recovered()
      } catch (error) {
        if (this.#stopped) return
        this.#say(error as Error)
        await new Promise<void>(resolve => {
          const cancel = this.#context.environment.clock.after(this.#backoff.next(), resolve)
          this.#cancelSleep = () => {
            cancel()
            resolve()
          }
        })
      }
    }
  }

  async #step(): Promise<void> {
    const { remote, source, sourceBroker } = this.#context
    const target = await this.#target()
    const { link, address } = await remote.linkTo(this.topic, target.broker, source, sourceBroker)
    if (this.#unclear) await this.#settle(address, target)
    const filling = this.#gaps.fill()
    const messages = this.#gather()
    this.queue.trim()
    const hopeless = this.#hopeless
    this.#hopeless = undefined
    if (hopeless !== undefined && messages[0]?.place.sequence === hopeless.sequence)
      return this.#deadLetter(messages[0], hopeless.reason)
    if (this.#stopped) return
    if (messages.length > 0) await this.#send(link.request.bind(link), messages, target)
    else if (this.queue.count > 0) await filling
  }

  /** The remote queue; chosen once, and durable before the first message goes there. */
  async #target(): Promise<RemoteQueue> {
    const { remote, source, sourceBroker, sourceOrdinal } = this.#context
    if (this.#remoteQueue === undefined) {
      const chosen = await remote.chooseQueue(source, this.topic, sourceBroker, sourceOrdinal, this.queueId)
      const { address } = await remote.linkTo(this.topic, chosen.broker, source, sourceBroker)
      this.#remoteQueue = { ...chosen, end: await maxOffset(remote.cluster, address, this.topic, chosen.queueId) }
    }
    if (!this.#remoteQueueDurable) {
      await this.#context.checkpoint()
      this.#remoteQueueDurable = true
    }
    return this.#remoteQueue
  }

  async #settle(address: string, target: RemoteQueue): Promise<void> {
    const { environment, remote, sourceBroker, account, stamper } = this.#context
    const origin = { gateway: stamper.gateway, broker: sourceBroker, queueId: this.queueId }
    const { places, unstamped, end } = await arrived(
      environment.clock,
      remote.cluster,
      address,
      this.topic,
      target.queueId,
      target.end,
      origin,
      () => this.#stopped,
    )
    let found = 0
    let left = places.size
    for (const count of unstamped.values()) left += count
    for (let index = 0; index < this.queue.span && found < left; index++) {
      if (this.queue.isDone(index)) continue
      const { epoch, queueOffset, bornTimestamp, hash } = this.queue.place(index)
      if (!places.has(placeKey(stamper.epochId(epoch), queueOffset))) {
        const key = traceKey(bornTimestamp, hash)
        const count = unstamped.get(key) ?? 0
        if (count === 0) continue
        unstamped.set(key, count - 1)
        account.totals.unstamped++
      }
      found++
      account.replicated(this.queue.body(index) !== undefined)
      this.#done(index)
    }
    this.queue.trim()
    this.#fewerInParts(found)
    this.#unclear = false
    target.end = end
    environment.log.info(
      { topic: this.topic, queueId: this.queueId, arrived: found, waiting: this.queue.count },
      'found out what had arrived at the remote',
    )
  }

  /** The next request's messages: from the head, up to the first gap or what does not fit. */
  #gather(): Outgoing[] {
    const { bornTimestampTolerance, account, remote } = this.#context
    const messages: Outgoing[] = []
    let bytes = 0
    for (let index = 0; index < this.queue.span; index++) {
      if (this.queue.isDone(index)) continue
      const body = this.queue.body(index)
      if (body === undefined) break
      const message = stamp(this.#stamper, this.queue.place(index), body)
      // Acked before the remote's name was known, which is known now that there is a route.
      if (message.been.includes(remote.name!)) {
        account.skippedLate('loop', true)
        this.#done(index)
        continue
      }
      const [first] = messages
      if (first !== undefined && !fits(first, message, messages.length, bytes, bornTimestampTolerance)) break
      if (messages.length >= this.#most) break
      messages.push(message)
      bytes += bytesInBatch(message)
    }
    return messages
  }

  async #send(
    request: (encode: (opaque: number) => Buffer, timeoutMs: number) => Promise<Frame>,
    messages: readonly Outgoing[],
    target: RemoteQueue,
  ): Promise<void> {
    const { account, producerGroup, remote } = this.#context
    account.totals.sent += messages.length
    let answer: Frame
    try {
      answer = await request(
        opaque => encodeRequest(messages, this.topic, target.queueId, producerGroup, opaque),
        SEND_TIMEOUT,
      )
    } catch (error) {
      if (error instanceof LinkError && error.unclear) {
        this.#unclear = true
        account.totals.sentAgain += messages.length
      }
      remote.forgetRoute(this.topic)
      throw error
    }
    const remark = remarkOf(answer.head) ?? ''
    const { code } = answer.head
    const refusal = `code ${code}${remark ? `: ${remark.split('\n')[0]!.slice(0, 256)}` : ''}`
    switch (meaningOf(code, remark)) {
      case 'stored':
        remote.stored.set(target.broker, (remote.stored.get(target.broker) ?? 0) + 1)
        if (messages[0]!.stamp === '') account.totals.unstamped++
        return this.#stored(messages.length, answer.head)
      case 'dead':
        if (messages.length === 1) return this.#deadLetter(messages[0]!, refusal)
        return this.#inParts(1, messages.length)
      case 'unclear':
        this.#unclear = true
        return this.#unclearAnswer(messages, remote.stored.get(target.broker) ?? 0, refusal)
      case 'again':
        throw new WaitError('the remote does not take it now', refusal)
      case 'wait':
        remote.forgetRoute(this.topic)
        throw new WaitError(`the remote refuses: ${refusal}`)
    }
  }

  /** The messages of a refused request go in smaller ones. */
  #inParts(most: number, messages: number): void {
    this.#most = most
    this.#mostFor = messages
    this.#unclearHead = -1
  }

  /** So many of them are done. */
  #fewerInParts(count: number): void {
    this.#mostFor -= count
    if (this.#mostFor <= 0) this.#most = Number.POSITIVE_INFINITY
  }

  /** After three in a row a batch is halved; one message is at fault itself, where its broker stored others meanwhile. */
  #unclearAnswer(messages: readonly Outgoing[], stored: number, refusal: string): void {
    const { sequence } = messages[0]!.place
    if (sequence !== this.#unclearHead) {
      this.#unclearHead = sequence
      this.#unclearAnswers = 0
      this.#storedBefore = stored
    }
    if (++this.#unclearAnswers >= UNCLEAR_TRIES) {
      if (messages.length > 1) return this.#inParts(messages.length >> 1, messages.length)
      if (stored > this.#storedBefore) {
        // Whether it arrived all the same is found out first.
        this.#hopeless = { sequence, reason: refusal }
        return
      }
    }
    throw new WaitError('the remote answers so that the outcome is unclear', refusal)
  }

  #stored(count: number, answer: FrameHead): void {
    const { account } = this.#context
    let left = count
    for (let index = 0; left > 0; index++) {
      if (this.queue.isDone(index)) continue
      account.replicated(true)
      this.#done(index)
      left--
    }
    this.queue.trim()
    this.#fewerInParts(count)
    const remoteOffset = readSendAnswer(answer)?.queueOffset
    if (remoteOffset !== undefined) this.#remoteQueue!.end = remoteOffset + count
  }

  async #deadLetter({ place, body }: Outgoing, reason: string): Promise<void> {
    const { account, deadLetters, environment } = this.#context
    await deadLetters.add(this.topic, this.queueId, place, body, reason)
    environment.log.error(
      { topic: this.topic, queueId: this.queueId, queueOffset: place.queueOffset, reason },
      'the remote will never take this message: it is a dead letter',
    )
    account.deadLettered(true)
    this.#done(this.#head())
    this.queue.trim()
    this.#fewerInParts(1)
  }

  #lose(index: number, cause: LostCause): void {
    const { account, environment } = this.#context
    const { queueOffset } = this.queue.place(index)
    environment.log.error(
      { topic: this.topic, queueId: this.queueId, queueOffset, cause },
      'message lost: the source no longer has it',
    )
    account.lost(cause, false)
    this.#done(index)
  }

  #head(): number {
    let index = 0
    while (this.queue.isDone(index)) index++
    return index
  }

  #done(index: number): void {
    const { epoch, queueOffset, sequence } = this.queue.place(index)
    const body = this.queue.done(index)
    if (body !== undefined) this.#context.memory.letGo(body)
    this.#late.get(epoch)?.delete(queueOffset)
    // Also for a late one: it may be the highest of its epoch.
    this.#doneEnd.set(epoch, Math.max(this.#doneEnd.get(epoch) ?? 0, queueOffset + 1))
    this.#context.done(sequence)
  }

  #isLate(index: number): boolean {
    if (this.#late.size === 0) return false
    const { epoch, queueOffset } = this.queue.place(index)
    return this.#late.get(epoch)?.has(queueOffset) ?? false
  }

  #say(error: Error): void {
    const said = this.#trouble?.message === error.message
    this.#trouble = error
    if (said) return
    const fields = { topic: this.topic, queueId: this.queueId, waiting: this.queue.count, reason: error.message }
    if (error instanceof WaitError)
      this.#context.environment.log.warn({ ...fields, detail: error.detail }, 'lane waits')
    else if (error instanceof LinkError) this.#context.environment.log.warn(fields, 'lane waits')
    else this.#context.environment.log.error({ ...fields, err: error }, 'lane waits')
  }

  #recovered(): void {
    this.#backoff.reset()
    if (this.#trouble === undefined) return
    this.#trouble = undefined
    this.#context.environment.log.info(
      { topic: this.topic, queueId: this.queueId, waiting: this.queue.count },
      'lane goes on',
    )
  }
}
