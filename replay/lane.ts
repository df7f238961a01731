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
import type { BodyMemory } from './body.ts'
import { Sleep } from './clock.ts'
import { type Cluster, RefusedError } from './cluster.ts'
import type { RemoteQueue } from './cursor.ts'
import type { DeadLetters } from './dead-letters.ts'
import type { Environment } from './environment.ts'
import type { Fold, Foldable } from './folded-places.ts'
import { type EncodedFormerQueue, FormerQueues } from './former-queues.ts'
import { GapFiller } from './gap-filler.ts'
import type { KeptBodies } from './kept-bodies.ts'
import type { EncodedKnownEnds } from './known-ends.ts'
import { LinkError } from './link.ts'
import { Losses } from './losses.ts'
import { type Place, PlaceFlag } from './place.ts'
import type { Reader } from './reader.ts'
import { isQueueGone, maxOffset, offsetAt } from './reading.ts'
import { AwayError, type Remote } from './remote.ts'
import type { RemoteBroker, Settled } from './remote-broker.ts'
import { RemoteTail } from './remote-tail.ts'
import { newestOfAll, traceKey } from './settle.ts'
import type { Turns } from './turns.ts'
import { WaitError } from './wait-error.ts'

/** Milliseconds after which a lane goes to another broker, where that is wanted. */
const AWAY_MOST = 60_000
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
  kept: Pick<KeptBodies, 'find'>
  account: Account
  deadLetters: DeadLetters
  remoteBroker(name: string): RemoteBroker
  bornTimestampTolerance: number
  /** Milliseconds for which it is known what a remote was seen to have, counted to its last answer. */
  retention: number
  stamper: Omit<Stamper, 'queueId'>
  /** The source refused to be read back from. */
  refused(topic: string, reason: string): void
  /** Makes the lanes' remote queues durable. */
  checkpoint(): Promise<void>
}

export class Lane {
  readonly topic: string
  readonly queueId: number
  readonly queue: Reader
  readonly tail: RemoteTail
  readonly formers: FormerQueues
  readonly #context: LaneContext
  readonly #stamper: Stamper
  readonly #gaps: GapFiller
  readonly #backoff: Backoff
  /** Between two tries. */
  readonly #sleep: Sleep
  /** Without a remote queue: messages of it may be there that came from this time on. Milliseconds, our clock. */
  sentSince: number | undefined
  /** Sequences of what was sent, and is at the remote or not: it counts as sent again where it has to be. */
  readonly #unclear = new Set<number>()
  #remoteQueue: RemoteQueue | undefined
  #remoteQueueDurable = false
  #awaySince: number | undefined
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
  #running: Promise<void> | undefined
  #trouble: Error | undefined
  readonly #losses: Losses

  constructor(context: LaneContext, queue: Reader, remoteQueue?: RemoteQueue) {
    const { topic, queueId } = queue.backlog
    this.#context = context
    this.topic = topic
    this.queueId = queueId
    this.queue = queue
    queue.onPush = () => this.#wake()
    this.#remoteQueue = remoteQueue
    this.#remoteQueueDurable = remoteQueue !== undefined
    this.#losses = new Losses(context.environment)
    this.#stamper = { ...context.stamper, queueId }
    this.#backoff = new Backoff(RETRY_MOST, context.environment.random)
    this.#sleep = new Sleep(context.environment.clock)
    const source = { topic, queueId }
    this.formers = new FormerQueues(context, source, folds => this.#sendAgain(folds))
    this.tail = new RemoteTail(context, source, this.queue, {
      isStopped: () => this.#stopped,
      lost: (place, cause) => this.#lost(place, cause, false),
    })
    this.#gaps = new GapFiller(
      context.environment.clock,
      {
        cluster: context.source,
        topic,
        queueId,
        address: context.sourceAddress,
        turns: context.turns,
        kept: places => context.kept.find(topic, queueId, places),
        ends: () => this.tail.ends,
        passArrived: () => this.#fewerInParts(this.tail.passArrived()),
        refused: reason => context.refused(topic, reason),
      },
      this.queue,
      context.memory,
      context.account,
      (index, cause) => this.#lose(index, cause),
    )
  }

  get remoteQueue(): RemoteQueue | undefined {
    return this.#remoteQueue
  }

  /** Whether something waits whose body may be in a file in which nothing is left to do. */
  get needsKept(): boolean {
    return this.tail.ends.isAgain || this.tail.hasToProve || this.formers.isAgain || this.#gaps.needsKept
  }

  /** What it waits for, in words; empty while it goes. */
  get trouble(): string {
    if (this.#trouble instanceof WaitError && this.#trouble.detail !== '')
      return `${this.#trouble.message}: ${this.#trouble.detail}`
    return this.#trouble?.message ?? ''
  }

  /** What was known of its remote queues before this start; returns how many places are unclear since a tail was lost. */
  restoreEnds(encoded: EncodedKnownEnds | undefined, formers: readonly EncodedFormerQueue[] = []): number {
    return (encoded === undefined ? 0 : this.tail.restore(encoded)) + this.formers.restore(formers)
  }

  /** The remote broker was settled anew: what is known to be there may be gone. */
  lookAfterTail(): void {
    this.tail.lookAgain()
    this.#wake()
  }

  /** Places from before this start may have been sent. */
  start(mayHaveBeenSent: boolean): void {
    const mayWait = this.queue.count > 0 || this.tail.hasToProve
    this.tail.isUnclear = mayHaveBeenSent && mayWait && this.#remoteQueue !== undefined
    this.tail.lookAgain()
    this.formers.start()
    this.#running = this.#run()
  }

  /** Sends no more; resolves when what is out is answered, or given up. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#wake()
    this.#sleep.wake()
    await Promise.all([this.#running, this.formers.stop()])
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      if (this.queue.count === 0) this.#gaps.nothingWaits()
      if (this.queue.count === 0 && !this.tail.mustLook && !this.tail.hasToProve) {
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
        this.queue.park()
        await this.#sleep.for(this.#backoff.next())
      }
    }
  }

  async #step(): Promise<void> {
    const { remote, source, sourceBroker } = this.#context
    const target = await this.#target()
    const address = await remote
      .masterFor(this.topic, target.broker, source, sourceBroker)
      .catch(error => this.#away(error, target))
    this.#awaySince = undefined
    const broker = this.#context.remoteBroker(target.broker)
    const settled = await broker.ready(address)
    const isThere = await remote.hasQueue(this.topic, target, source, sourceBroker)
    // A round that is under way knows nothing of what is unclear since, and may give it up.
    if (this.tail.hasToLook) await this.#gaps.ended()
    try {
      this.#fewerInParts(await this.tail.look(broker, settled, target))
      this.queue.nothingIsOut()
    } catch (error) {
      // What stands in a queue that nobody can read any more will be read by nobody.
      if (isThere || !isQueueGone(error)) throw error
    }
    if (!isThere) return await this.#leave(target, 'the remote queue is gone')
    if (this.queue.count === 0) return
    await this.queue.load()
    this.#fewerInParts(this.tail.passArrived())
    const filling = this.#gaps.fill()
    // Before they are gathered: their bodies may leave memory while there is no room.
    while (!this.#stopped && !broker.hasRoom(settled)) await broker.roomChange()
    // What has come into memory meanwhile may be among what was found there.
    this.#fewerInParts(this.tail.passArrived())
    const messages = this.#gather()
    const hopeless = this.#hopeless
    this.#hopeless = undefined
    if (hopeless !== undefined && messages[0]?.place.sequence === hopeless.sequence)
      return this.#deadLetter(messages[0], hopeless.reason)
    if (this.#stopped) return
    if (messages.length > 0) await this.#send(broker, settled, messages, target)
    else if (this.queue.count > 0) await filling
  }

  /** Its broker is away. It is waited for, or, where that is wanted, and nothing of ours may have arrived there, left. */
  async #away(error: Error, target: RemoteQueue): Promise<never> {
    const { environment, remote } = this.#context
    if (error instanceof AwayError && remote.options.remoteBrokerAway === 'reroute' && !this.tail.isUnclear) {
      this.#awaySince ??= environment.clock.uptime()
      // Without anything to send it may as well wait.
      const waits = this.queue.count > 0 || this.tail.hasToProve
      if (waits && environment.clock.uptime() - this.#awaySince >= AWAY_MOST) await this.#leave(target, error.message)
    }
    throw error
  }

  /** The next step chooses a queue anew. */
  async #leave(target: RemoteQueue, reason: string): Promise<void> {
    await this.#gaps.ended()
    await this.tail.passAllArrived()
    const { broker, queueId: remoteQueueId } = target
    this.#context.environment.log.warn({ ...this.#named, broker, remoteQueueId, reason }, 'lane goes to another queue')
    this.#context.remote.forgetRoute(this.topic)
    this.formers.add(target, this.tail.leave())
    // A link that may have been there is found out about, also where no lane sends.
    this.#context.remoteBroker(broker).settleSoon()
    this.#remoteQueue = undefined
    this.#remoteQueueDurable = false
    this.#awaySince = undefined
  }

  /** A queue that it has left has lost these. They go behind what it may have in another. */
  #sendAgain(folds: readonly Fold[]): void {
    this.tail.sendAgain(folds.map(fold => fold.flagged(PlaceFlag.BEHIND)))
    this.#wake()
  }

  /** The remote queue; chosen once, and durable before the first message goes there. */
  async #target(): Promise<RemoteQueue> {
    const { environment, remote, source, sourceBroker, sourceOrdinal } = this.#context
    if (this.#remoteQueue === undefined) {
      const chosen = await remote.chooseQueue(source, this.topic, sourceBroker, sourceOrdinal, this.queueId)
      const address = await remote.masterFor(this.topic, chosen.broker, source, sourceBroker)
      const end = await maxOffset(remote.cluster, address, this.topic, chosen.queueId)
      const before = await newestOfAll(remote.cluster, address, this.topic, chosen.queueId, end)
      if (before !== undefined) this.tail.ends.note({ ...before, at: environment.clock.now() }, [])
      if (this.sentSince !== undefined) this.tail.doubt(await this.#sentFrom(address, chosen.queueId, this.sentSince))
      this.sentSince = undefined
      this.#remoteQueue = { ...chosen, end }
    }
    if (!this.#remoteQueueDurable) {
      await this.#context.checkpoint()
      this.#remoteQueueDurable = true
    }
    return this.#remoteQueue
  }

  /** From where on messages of the lane may stand in a remote queue that came there since a time. */
  async #sentFrom(address: string, queueId: number, since: number): Promise<number> {
    try {
      return await offsetAt(this.#context.remote.cluster, address, this.topic, queueId, since)
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      return 0
    }
  }

  /** The next request's messages: from the head, up to the first gap or what does not fit. */
  #gather(): Outgoing[] {
    const { bornTimestampTolerance, account, remote } = this.#context
    const messages: Outgoing[] = []
    const loops: number[] = []
    let bytes = 0
    const { span } = this.queue
    for (let index = 0; index < span; index++) {
      if (this.queue.isDone(index)) continue
      const body = this.queue.body(index)
      if (body === undefined) break
      const message = stamp(this.#stamper, this.queue.place(index), body)
      // Acked before the remote's name was known, which is known now that there is a route.
      if (message.been.includes(remote.name!)) {
        loops.push(index)
        continue
      }
      const [first] = messages
      if (first !== undefined && !fits(first, message, messages.length, bytes, bornTimestampTolerance)) break
      if (messages.length >= this.#most) break
      messages.push(message)
      bytes += bytesInBatch(message)
      this.queue.goesOut(index)
    }
    // From the last on: what is done at the head moves the indexes.
    for (const index of loops.reverse()) {
      this.#isOver(this.queue.place(index))
      account.skippedLate('loop', this.queue.done(index))
    }
    return messages
  }

  async #send(
    broker: RemoteBroker,
    settled: Settled,
    messages: readonly Outgoing[],
    target: RemoteQueue,
  ): Promise<void> {
    const { account, remote } = this.#context
    account.totals.sent += messages.length
    account.totals.sentAgain += this.#sentBefore(messages)
    let answer: Frame
    try {
      answer = await broker.send(settled, (opaque, producerGroup) =>
        encodeRequest(messages, this.topic, target.queueId, producerGroup, opaque),
      )
    } catch (error) {
      if (error instanceof LinkError && error.unclear) {
        this.tail.isUnclear = true
        this.#noteUnclear(messages)
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
        return this.#stored(messages, answer.head)
      case 'dead':
        if (messages.length === 1) return this.#deadLetter(messages[0]!, refusal)
        return this.#inParts(1, messages.length)
      case 'unclear':
        this.tail.isUnclear = true
        this.#noteUnclear(messages)
        // 'The queue id is illegal' is one.
        remote.forgetRoute(this.topic)
        return this.#unclearAnswer(messages, remote.stored.get(target.broker) ?? 0, refusal)
      case 'again':
        throw new WaitError('the remote does not take it now', refusal)
      case 'wait':
        remote.forgetRoute(this.topic)
        throw new WaitError(`the remote refuses: ${refusal}`)
    }
  }

  #noteUnclear(messages: readonly Outgoing[]): void {
    for (const { place } of messages) this.#unclear.add(place.sequence)
  }

  /** How many of them were sent before, and did not arrive or are there no more. */
  #sentBefore(messages: readonly Outgoing[]): number {
    const isAgain = ({ placeFlags }: Place) => (placeFlags & PlaceFlag.AGAIN) !== 0
    const count = messages.filter(({ place }) => this.#unclear.has(place.sequence) || isAgain(place)).length
    // They go first: what is left of them was found.
    if (count === 0) this.#unclear.clear()
    return count
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

  #stored(messages: readonly Outgoing[], answer: FrameHead): void {
    const { account, environment, stamper } = this.#context
    const target = this.#remoteQueue!
    const first = readSendAnswer(answer)?.queueOffset
    if (first === undefined || first < target.end) {
      // The topic was made anew there, or its tail is gone; or it is not said where it is.
      this.tail.doubt(first)
      this.#noteUnclear(messages)
      return
    }
    this.tail.stored(messages, first)
    for (let left = messages.length; left > 0; left--) account.replicated(this.queue.done(0))
    this.#fewerInParts(messages.length)
    target.end = first + messages.length
    const { place, stamp } = messages.at(-1)!
    const end = {
      remoteOffset: target.end - 1,
      epochId: stamper.epochId(place.epoch),
      queueOffset: place.queueOffset,
      trace: stamp === '' ? traceKey(place.bornTimestamp, place.hash) : '',
      at: environment.clock.now(),
    }
    if (stamp === '') {
      place.placeFlags |= PlaceFlag.UNSTAMPED
      account.totals.unstamped++
    }
    this.tail.ends.note(
      end,
      messages.map(message => message.place),
    )
  }

  async #deadLetter({ place, body }: Outgoing, reason: string): Promise<void> {
    const { account, deadLetters, environment } = this.#context
    // It has left memory meanwhile: the next step has it again.
    if (this.queue.body(0) !== body) {
      this.#hopeless = { sequence: place.sequence, reason }
      return
    }
    await deadLetters.add(this.topic, this.queueId, place, body, reason)
    environment.log.error(
      { ...this.#named, queueOffset: place.queueOffset, reason },
      'the remote will never take this message: it is a dead letter',
    )
    this.#isOver(place)
    account.deadLettered(this.queue.done(0))
    this.#fewerInParts(1)
  }

  #lose(index: number, cause: LostCause): void {
    const place = this.queue.place(index)
    this.#lost(place, cause, this.queue.done(index))
  }

  #lost(place: Foldable, cause: LostCause, hadBody: boolean): void {
    const isGone = cause === 'expired' || cause === 'source'
    const reason = isGone
      ? 'the source no longer has them'
      : 'they are not here any more, and may not be had from the source'
    this.#losses.add(this.#named, place.queueOffset, cause, reason)
    this.#context.account.lost(cause, hadBody)
    this.#isOver(place)
  }

  /** It will not be sent: where it was unclear again it is so no more. */
  #isOver(place: Foldable): void {
    if ((place.placeFlags & PlaceFlag.AGAIN) !== 0) this.tail.ends.gaveUp(place)
  }

  /** What it is called where it is told of. */
  get #named(): { remote: string; topic: string; queueId: number } {
    const { topic, queueId } = this
    return { remote: this.#context.remote.label, topic, queueId }
  }

  #say(error: Error): void {
    const said = this.#trouble?.message === error.message
    this.#trouble = error
    if (said) return
    const fields = { ...this.#named, waiting: this.queue.count, reason: error.message }
    if (error instanceof WaitError)
      this.#context.environment.log.warn({ ...fields, detail: error.detail }, 'lane waits')
    else if (error instanceof LinkError) this.#context.environment.log.warn(fields, 'lane waits')
    else this.#context.environment.log.error({ ...fields, err: error }, 'lane waits')
  }

  #recovered(): void {
    this.#backoff.reset()
    if (this.#trouble === undefined) return
    this.#trouble = undefined
    this.#context.environment.log.info({ ...this.#named, waiting: this.queue.count }, 'lane goes on')
  }
}
