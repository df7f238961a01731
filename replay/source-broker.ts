// One broker of the source, from the ack to the lanes: journal, release, lanes, cursor, account.
//
// An acked message is journaled, then its ack is relayed, then it goes to its lane when its turn is sure. A send without an
// answer holds back later ones of its queue until `sendGiveUpTimeout`, whether its connection lives or not.

import { Account, type SkipReason } from './account.ts'
import { type BodyMemory, dropBody } from './body.ts'
import type { Cluster } from './cluster.ts'
import { Confirmation } from './confirmation.ts'
import { Cursor, type QueueMark, type QueueState } from './cursor.ts'
import { DeadLetters } from './dead-letters.ts'
import type { Environment } from './environment.ts'
import { Epochs, SourceConnection } from './epoch.ts'
import { Journal } from './journal.ts'
import { Lane, type LaneContext } from './lane.ts'
import type { AckedMessage } from './message.ts'
import { Pace, QUESTIONS_MOST } from './pace.ts'
import { Release } from './release.ts'
import type { Remote } from './remote.ts'
import { Retention } from './retention.ts'
import type { Send } from './send.ts'
import { Turns } from './turns.ts'
import { type Unanswered, Unresolved } from './unresolved.ts'

/** Milliseconds between two cursors, while anything changes. */
const CURSOR_INTERVAL = 1_000
/** Between two looks for sends to give up. */
const GIVE_UP_INTERVAL = 1_000

export interface SourceBrokerOptions {
  folder: string
  name: string
  /** Number of the broker in its cluster, the same over restarts. */
  ordinal: number
  cluster: string
  gatewayId: string
  group: string
  bornTimestampTolerance: number
  sendGiveUpTimeout: number
  unresolvedMemory?: number
}

export class SourceBroker {
  readonly options: SourceBrokerOptions
  readonly account = new Account()
  readonly journal: Journal
  readonly #environment: Environment
  readonly #remote: Remote
  readonly #memory: BodyMemory
  readonly #cursor: Cursor
  readonly #release: Release<AckedMessage>
  readonly #lanes = new Map<string, Map<number, Lane>>()
  readonly #laneContext: LaneContext
  readonly #deadLetters: DeadLetters
  readonly #unresolved: Unresolved
  readonly #retention: Retention
  readonly #pace = new Pace()
  /** The send whose ack is waited for with a watch in hand, and since when. */
  #timed: Send | undefined
  #timedSince = 0
  readonly #source: Cluster
  #address: string
  #epochs!: Epochs
  #confirmation!: Confirmation
  /** Of those who forward without a connection of their own. */
  #ownConnection!: SourceConnection
  #epochIds = new Map<number, string>()
  #checkpointing: Promise<void> | undefined
  #checkpointAgain: Promise<void> | undefined
  #cancelTimer: (() => void) | undefined
  #cancelGiveUp: (() => void) | undefined
  #closed = false
  #lastSlot = ''
  /** Acked messages whose places are not written yet, sends that are answered with them, and who is told. */
  #unwritten: AckedMessage[] = []
  #answered: Send[] = []
  #relays: (() => void)[] = []

  constructor(
    environment: Environment,
    options: SourceBrokerOptions,
    address: string,
    source: Cluster,
    remote: Remote,
    memory: BodyMemory,
  ) {
    this.options = options
    this.#address = address
    this.#source = source
    this.#environment = environment
    this.#remote = remote
    this.#memory = memory
    this.journal = new Journal(environment, options.folder)
    this.#cursor = new Cursor(environment.fileSystem, options.folder)
    this.#deadLetters = new DeadLetters(environment, options.folder)
    this.#release = new Release((message, late) => {
      if (late) this.account.totals.reordered++
      message.lane!.push(message, message.epoch, message.kept ? message : undefined)
    })
    this.journal.onWritten = () => this.#written()
    this.#laneContext = {
      environment,
      source,
      remote,
      sourceBroker: options.name,
      sourceOrdinal: options.ordinal,
      sourceAddress: () => this.address,
      turns: new Turns(QUESTIONS_MOST),
      memory,
      account: this.account,
      deadLetters: this.#deadLetters,
      producerGroup: `TEE_${options.gatewayId}`,
      bornTimestampTolerance: options.bornTimestampTolerance,
      stamper: {
        group: options.group,
        gateway: options.gatewayId,
        sourceCluster: options.cluster,
        broker: options.name,
        epochId: epoch => this.#epochIds.get(epoch) ?? '',
      },
      done: sequence => this.journal.done(sequence),
      checkpoint: () => this.checkpoint(),
    }
    this.#retention = new Retention({
      clock: environment.clock,
      log: environment.log,
      source,
      broker: options.name,
      address: () => this.address,
      oldestGap: () => (this.account.inGap > 0 ? this.#oldestWaiting : undefined),
    })
    this.#unresolved = new Unresolved({
      clock: environment.clock,
      log: environment.log,
      source,
      broker: options.name,
      address: () => this.address,
      turns: this.#laneContext.turns,
      sendGiveUpTimeout: options.sendGiveUpTimeout,
      epochsAround: (epoch, commitLogOffset) => this.#epochs.around(epoch, commitLogOffset),
      has: message => this.#confirmation.has(message, this.address),
      settled: send => this.refused(send),
      unresolved: count => this.unresolved(count),
      ...(options.unresolvedMemory === undefined ? {} : { memoryMost: options.unresolvedMemory }),
    })
  }

  /** Reads the journal; what is not done waits in lanes. Throws SegmentVersionError, SlotVersionError. */
  async open(): Promise<void> {
    const { fileSystem, log } = this.#environment
    await fileSystem.makeFolder(this.options.folder)
    const slot = await this.#cursor.read()
    // Away at the start: no matter. Its name is learnt with the first route.
    this.#remote.learnName(slot?.remoteCluster).catch(() => {})
    if (slot !== undefined) this.account.totals = slot.totals
    const marks = new Map<string, QueueMark>()
    for (const { topic, queueId, marks: list } of slot?.queues ?? [])
      for (const mark of list) marks.set(`${topic}\n${queueId}\n${mark.epoch}`, mark)
    for (const { topic, queueId, marks: list, remote } of slot?.queues ?? [])
      this.#newLane(topic, queueId, remote).restoreMarks(list)
    let covered = 0
    const recovered = await this.journal.open(
      slot ?? { sequence: 0, nextSegmentId: 1, nextEpoch: 1 },
      (topic, queueId, place, { epoch }) => {
        const mark = marks.get(`${topic}\n${queueId}\n${epoch}`)
        if (slot !== undefined && place.sequence < slot.sequence) {
          if (mark !== undefined && isDone(mark, place.queueOffset)) {
            if (place.queueOffset >= mark.mark) this.#lanes.get(topic)?.get(queueId)?.restoreDone(place, epoch)
            return false
          }
          covered++
        }
        this.account.accepted(false)
        const lane = this.#lanes.get(topic)?.get(queueId) ?? this.#newLane(topic, queueId)
        lane.restore(place, epoch, mark !== undefined && place.queueOffset < mark.mark)
        return true
      },
    )
    this.#epochIds = recovered.epochIds
    const { epoch: ordinal, epochId: id } = this.journal
    this.#epochs = new Epochs(
      this.#address,
      { ordinal, id },
      () => this.#environment.randomId(6),
      epoch => {
        this.#epochIds.set(epoch.ordinal, epoch.id)
        log.info({ broker: this.options.name, epoch: epoch.ordinal }, 'a new epoch of the source broker begins')
      },
    )
    this.#confirmation = new Confirmation(this.#environment.clock, log, this.#source, this.#epochs)
    this.#ownConnection = this.connection(this.#address)
    const missing = (slot?.waiting ?? 0) - covered
    if (missing > 0) {
      this.account.lostUnseen('journal', missing)
      log.error(
        { broker: this.options.name, messages: missing },
        'places are missing from the journal: those messages are lost',
      )
    }
    if (recovered.places > 0)
      log.info(
        { broker: this.options.name, messages: recovered.places },
        'messages from before this start wait to be replicated',
      )
    // Durable before the first record of the new epoch: a slot is what keeps ordinals from being drawn twice.
    await this.checkpoint()
    for (const lane of this.#allLanes()) lane.start(true)
    this.#scheduleCheckpoint()
    this.#retention.start()
    this.#watchForGivingUp([])
  }

  /** The address of its master now; set by who knows the routes. */
  get address(): string {
    return this.#address
  }

  set address(address: string) {
    this.#address = address
    this.#epochs?.moved(address)
  }

  /** A connection to this address of the source broker is up. */
  connection(address: string): SourceConnection {
    return new SourceConnection(address)
  }

  /** A send is about to be forwarded. */
  forwarded(send: Send, connection = this.#ownConnection): void {
    this.#release.forwarded(send)
    if (this.#timed === undefined) {
      this.#timed = send
      this.#timedSince = this.#environment.clock.now()
    }
    if (this.#epochs.forwarded(send, connection)) this.#confirmation.confirm(connection)
  }

  /** A send was answered, and has no messages that are to be replicated. */
  refused(send: Send): void {
    if (send === this.#timed) this.#took()
    dropBody(send)
    this.#release.settled(send, send.queueId)
  }

  /** A send whose outcome nobody can find out. */
  unresolved(count = 1): void {
    this.account.totals.unresolved += count
  }

  /** A send whose answer will not come, or does not tell: it holds back its queue while it is looked for at the source. */
  findOut(send: Send, from: Unanswered): void {
    this.#unresolved.add(send, from)
  }

  /** Sends that are being looked for. */
  get unresolvedNow(): number {
    return this.#unresolved.count
  }

  /**
   * The source has this message of a send, whose connection is confirmed. Its place is written with what else comes in this
   * turn of the loop.
   */
  acked(send: Send, queueId: number, message: AckedMessage): void {
    const { topic } = send
    const lane = this.#lane(topic, queueId)
    const epoch = this.#epochs.acked(send, queueId, message)
    message.epoch = epoch.ordinal
    message.lane = lane
    this.journal.append(topic, queueId, message, epoch)
    message.kept = this.#memory.keep(message)
    this.account.accepted(message.kept)
    if (!message.kept) dropBody(message)
    this.#unwritten.push(message)
  }

  /** All messages of a send are acked; they are in this queue. */
  answered(send: Send, queueId: number): void {
    if (send === this.#timed) this.#took()
    // The members have what they need of it.
    if (send.batch) dropBody(send)
    send.lane = this.#lane(send.topic, queueId)
    this.#answered.push(send)
  }

  #took(): void {
    this.#timed = undefined
    const now = this.#environment.clock.now()
    this.#pace.ackTook(now - this.#timedSince, now)
    this.#laneContext.turns.limit = this.#pace.questions
  }

  /** Calls back when the places of what was acked in this turn of the loop are written. */
  whenWritten(relay: () => void): void {
    this.#relays.push(relay)
  }

  #written(): void {
    const relays = this.#relays
    const messages = this.#unwritten
    const sends = this.#answered
    this.#relays = []
    this.#unwritten = []
    this.#answered = []
    for (const relay of relays) relay()
    for (const message of messages) {
      const { topic, queueId } = message.lane!
      const { epoch, queueOffset } = message
      // Not before: what is refused in the same turn may have let higher ones go.
      const lane = this.#lane(topic, queueId)
      if (lane.isBehind(epoch, queueOffset)) lane.expectLate(epoch, queueOffset)
      this.#release.acked(topic, queueId, message)
    }
    for (const send of sends) this.#release.settled(send, send.lane!.queueId)
  }

  /** `marks`: how many sends had been forwarded at the last looks, the oldest first. */
  #watchForGivingUp(marks: readonly number[]): void {
    const looks = Math.ceil(this.options.sendGiveUpTimeout / GIVE_UP_INTERVAL)
    this.#cancelGiveUp = this.#environment.clock.after(GIVE_UP_INTERVAL, () => {
      const kept = [...marks, this.#release.forwardedSoFar].slice(-looks - 1)
      if (kept.length > looks) this.#release.giveUp(kept[0]!, send => this.#gaveUp(send as Send))
      this.#watchForGivingUp(kept)
    })
  }

  #gaveUp(send: Send): void {
    // It has taken that long at least, and others are to be measured.
    if (send === this.#timed) this.#took()
    send.givenUp?.(send)
  }

  skipped(reason: SkipReason, count: number): void {
    this.account.skipped(reason, count)
  }

  /** Milliseconds since the ack of the oldest message that waits in a lane; 0 where none does. */
  get lagMs(): number {
    const oldest = this.#oldestWaiting
    return oldest === undefined ? 0 : Math.max(0, this.#environment.clock.now() - oldest)
  }

  /** Milliseconds until the source forgets something that has to be read back from it; infinite where that is not in sight. */
  get gapTimeLeft(): number {
    return this.#retention.timeLeft
  }

  /** When the oldest message that waits in a lane was acked. */
  get #oldestWaiting(): number | undefined {
    let oldest = Number.POSITIVE_INFINITY
    for (const { queue } of this.#allLanes()) if (queue.count > 0) oldest = Math.min(oldest, queue.place(0).ackedAt)
    return oldest === Number.POSITIVE_INFINITY ? undefined : oldest
  }

  /** Lanes that cannot go on, with what they wait for. */
  get troubles(): { topic: string; queueId: number; reason: string }[] {
    return [...this.#allLanes()]
      .filter(lane => lane.trouble !== '')
      .map(({ topic, queueId, trouble }) => ({ topic, queueId, reason: trouble }))
  }

  /** Writes a cursor of what is done now, and drops what it makes needless. */
  checkpoint(): Promise<void> {
    if (this.#checkpointing === undefined) {
      this.#checkpointing = this.#checkpoint().finally(() => {
        this.#checkpointing = undefined
      })
      return this.#checkpointing
    }
    // One is being written that does not know of the caller's change: all who come meanwhile share the next.
    this.#checkpointAgain ??= this.#checkpointing
      .catch(() => {})
      .then(() => {
        this.#checkpointAgain = undefined
        return this.checkpoint()
      })
    return this.#checkpointAgain
  }

  /** Ends the lanes, and leaves a cursor that knows what they did. */
  async close(): Promise<void> {
    this.#closed = true
    this.#cancelTimer?.()
    this.#cancelGiveUp?.()
    this.#confirmation.close()
    this.#unresolved.close()
    this.#retention.close()
    this.#release.giveUp(Number.POSITIVE_INFINITY, () => {})
    await Promise.all([...this.#allLanes()].map(lane => lane.stop()))
    await this.checkpoint().catch(error =>
      this.#environment.log.error({ err: error }, 'the last cursor could not be written'),
    )
    await this.journal.close()
    await this.#deadLetters.close()
  }

  async #checkpoint(): Promise<void> {
    // A place that is appended and not yet with its lane would be below the mark of those that are done.
    this.journal.flush()
    const { sequence, nextSegmentId, oldestEpoch } = this.journal
    const queues: QueueState[] = [...this.#allLanes()].map(lane => ({
      topic: lane.topic,
      queueId: lane.queueId,
      marks: lane.marks(oldestEpoch),
      remote: lane.remoteQueue && { ...lane.remoteQueue },
    }))
    const slot = {
      sequence,
      nextSegmentId: nextSegmentId + 1,
      nextEpoch: this.#epochs.ordinal + 1,
      remoteCluster: this.#remote.name ?? '',
      waiting: this.account.queued + this.account.inGap,
      queues,
      totals: structuredClone(this.account.totals),
    }
    const text = JSON.stringify(slot)
    if (text === this.#lastSlot) return
    await this.journal.checkpoint(() => this.#cursor.write(slot))
    this.#lastSlot = text
  }

  #scheduleCheckpoint(): void {
    this.#cancelTimer = this.#environment.clock.after(CURSOR_INTERVAL, () => {
      this.checkpoint()
        .catch(error => this.#environment.log.error({ err: error }, 'a cursor could not be written'))
        .finally(() => this.#closed || this.#scheduleCheckpoint())
    })
  }

  #lane(topic: string, queueId: number): Lane {
    const known = this.#lanes.get(topic)?.get(queueId)
    if (known !== undefined) return known
    const lane = this.#newLane(topic, queueId)
    lane.start(false)
    return lane
  }

  #newLane(topic: string, queueId: number, remote?: QueueState['remote']): Lane {
    const lane = new Lane(this.#laneContext, topic, queueId, remote)
    const lanes = this.#lanes.get(topic) ?? new Map()
    this.#lanes.set(topic, lanes.set(queueId, lane))
    return lane
  }

  *#allLanes(): Generator<Lane> {
    for (const lanes of this.#lanes.values()) yield* lanes.values()
  }
}

function isDone({ mark, late, done }: QueueMark, offset: number): boolean {
  if (offset < mark) return !late.includes(offset)
  return done.some(([first, count]) => offset >= first && offset < first + count)
}
