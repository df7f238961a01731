// One broker of the source, from the ack to the lanes: journal, release, lanes, cursor, account.
//
// An acked message is journaled, then its ack is relayed, then it goes to its lane when its turn is sure. A send without an
// answer holds back later ones of its queue until `sendGiveUpTimeout`, whether its connection lives or not.

import { Account, type SkipReason } from './account.ts'
import { type BodyMemory, dropBody } from './body.ts'
import type { Cluster } from './cluster.ts'
import { Cursor, type LinkState, type QueueMark, type QueueState } from './cursor.ts'
import { DeadLetters } from './dead-letters.ts'
import type { Environment } from './environment.ts'
import { Journal } from './journal.ts'
import { Lane, type LaneContext } from './lane.ts'
import type { AckedMessage } from './message.ts'
import { Release } from './release.ts'
import type { Remote } from './remote.ts'
import { RemoteBroker } from './remote-broker.ts'
import type { Send } from './send.ts'
import { Turns } from './turns.ts'

/** Milliseconds between two cursors, while anything changes. */
const CURSOR_INTERVAL = 1_000
/** Between two looks for sends to give up. */
const GIVE_UP_INTERVAL = 1_000
/** Milliseconds for which it is known what a remote was seen to have, counted to its last answer. */
const RETENTION = 600_000
/** Bytes of known ends of one lane in a slot. */
const ENDS_BYTES_MAX = 64 * 1024
/** Requests to the source broker that read back, at a time. */
const PULLS_AT_A_TIME = 64

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
}

export class SourceBroker {
  readonly options: SourceBrokerOptions
  readonly account = new Account()
  readonly journal: Journal
  /** The address of its master now; set by who knows the routes. */
  address: string
  readonly #environment: Environment
  readonly #remote: Remote
  readonly #memory: BodyMemory
  readonly #cursor: Cursor
  readonly #release: Release<AckedMessage>
  readonly #lanes = new Map<string, Map<number, Lane>>()
  readonly #laneContext: LaneContext
  readonly #deadLetters: DeadLetters
  readonly #remoteBrokers = new Map<string, RemoteBroker>()
  /** By remote broker; those that an earlier process left, too. */
  readonly #links = new Map<string, LinkState>()
  /** Whether an earlier process may have had links that nobody knows. */
  #unknownLinks = false
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
    this.address = address
    this.#environment = environment
    this.#remote = remote
    this.#memory = memory
    this.journal = new Journal(environment, options.folder)
    this.#cursor = new Cursor(environment.fileSystem, options.folder)
    this.#deadLetters = new DeadLetters(environment, options.folder)
    this.#release = new Release((message, late) => {
      if (late) this.account.totals.reordered++
      message.lane!.push(message, this.journal.epoch, message.kept ? message : undefined)
    })
    this.journal.onWritten = () => this.#written()
    this.#laneContext = {
      environment,
      source,
      remote,
      sourceBroker: options.name,
      sourceOrdinal: options.ordinal,
      sourceAddress: () => this.address,
      turns: new Turns(PULLS_AT_A_TIME),
      memory,
      account: this.account,
      deadLetters: this.#deadLetters,
      remoteBroker: name => this.#remoteBroker(name),
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
    let covered = 0
    for (const { topic, queueId, marks: list, remote, ends } of slot?.queues ?? []) {
      const lane = this.#newLane(topic, queueId, remote)
      lane.restoreMarks(list)
      if (ends === undefined) continue
      const again = lane.restoreEnds(ends)
      covered += again
      for (let count = again; count > 0; count--) this.account.accepted(false)
    }
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
    this.#epochIds = new Map([...(slot?.epochs ?? []), ...recovered.epochIds])
    for (const link of slot?.links ?? []) this.#links.set(link.broker, link)
    this.#unknownLinks = slot === undefined ? recovered.places > 0 : slot.links === undefined
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
    this.#watchForGivingUp([])
  }

  /** A send is about to be forwarded. */
  forwarded(send: Send): void {
    this.#release.forwarded(send)
  }

  /** A send was answered, and has no messages that are to be replicated. */
  refused(send: Send): void {
    dropBody(send)
    this.#release.settled(send, send.queueId)
  }

  /** A send whose outcome nobody will be told: it is still waited for, but its answer will not come. */
  unanswered(): void {
    this.account.totals.unresolved++
  }

  /** The source has this message. Its place is written with what else comes in this turn of the loop. */
  acked(topic: string, queueId: number, message: AckedMessage): void {
    const lane = this.#lane(topic, queueId)
    message.lane = lane
    this.journal.append(topic, queueId, message)
    if (message.queueOffset < lane.releasedEnd) lane.expectLate(this.journal.epoch, message.queueOffset)
    message.kept = this.#memory.keep(message)
    this.account.accepted(message.kept)
    if (!message.kept) dropBody(message)
    this.#unwritten.push(message)
  }

  /** All messages of a send are acked; they are in this queue. */
  answered(send: Send, queueId: number): void {
    // The members have what they need of it.
    if (send.batch) dropBody(send)
    send.lane = this.#lane(send.topic, queueId)
    this.#answered.push(send)
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
      this.#release.acked(topic, queueId, message)
    }
    for (const send of sends) this.#release.settled(send, send.lane!.queueId)
  }

  /** `marks`: how many sends had been forwarded at the last looks, the oldest first. */
  #watchForGivingUp(marks: readonly number[]): void {
    const looks = Math.ceil(this.options.sendGiveUpTimeout / GIVE_UP_INTERVAL)
    this.#cancelGiveUp = this.#environment.clock.after(GIVE_UP_INTERVAL, () => {
      const kept = [...marks, this.#release.forwardedSoFar].slice(-looks - 1)
      if (kept.length > looks) this.#release.giveUp(kept[0]!, send => (send as Send).givenUp?.(send as Send))
      this.#watchForGivingUp(kept)
    })
  }

  skipped(reason: SkipReason, count: number): void {
    this.account.skipped(reason, count)
  }

  /** Milliseconds since the ack of the oldest message that waits in a lane; 0 where none does. */
  get lagMs(): number {
    let oldest = Number.POSITIVE_INFINITY
    for (const { queue } of this.#allLanes()) if (queue.count > 0) oldest = Math.min(oldest, queue.place(0).ackedAt)
    return oldest === Number.POSITIVE_INFINITY ? 0 : Math.max(0, this.#environment.clock.now() - oldest)
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
    this.#release.giveUp(Number.POSITIVE_INFINITY, () => {})
    for (const broker of this.#remoteBrokers.values()) broker.stop()
    await Promise.all([...this.#allLanes()].map(lane => lane.stop()))
    for (const broker of this.#remoteBrokers.values()) broker.end()
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
    let oldestKept = oldestEpoch
    const queues: QueueState[] = [...this.#allLanes()].map(lane => {
      const { topic, queueId, remoteQueue } = lane
      const { ends } = lane.tail
      const lastAnswerAt = remoteQueue && this.#remoteBrokers.get(remoteQueue.broker)?.lastAnswerAt
      if (lastAnswerAt !== undefined) ends.forgetBefore(lastAnswerAt - RETENTION)
      oldestKept = Math.min(oldestKept, ends.oldestEpoch)
      return {
        topic,
        queueId,
        marks: lane.marks(oldestEpoch),
        remote: remoteQueue && { ...remoteQueue },
        ends: ends.isEmpty ? undefined : ends.encode(ENDS_BYTES_MAX),
      }
    })
    const slot = {
      sequence,
      nextSegmentId: nextSegmentId + 1,
      nextEpoch: this.journal.epoch + 1,
      epochs: [...this.#epochIds].filter(([epoch]) => epoch >= oldestKept),
      remoteCluster: this.#remote.name ?? '',
      waiting: this.account.queued + this.account.inGap,
      queues,
      links: [...this.#links.values()].map(link => ({
        ...link,
        lastAnswerAt: this.#remoteBrokers.get(link.broker)?.lastAnswerAt ?? link.lastAnswerAt,
      })),
      totals: structuredClone(this.account.totals),
    }
    // That a broker answers is no change: an older time only makes a pause longer.
    const text = JSON.stringify({ ...slot, links: slot.links.map(({ groups }) => groups) })
    if (text === this.#lastSlot) return
    await this.journal.checkpoint(() => this.#cursor.write(slot))
    this.#lastSlot = text
  }

  #remoteBroker(name: string): RemoteBroker {
    const known = this.#remoteBrokers.get(name)
    if (known !== undefined) return known
    const earlier = this.#links.get(name)
    const link: LinkState = { broker: name, groups: [...(earlier?.groups ?? [])], lastAnswerAt: earlier?.lastAnswerAt }
    this.#links.set(name, link)
    const broker = new RemoteBroker(this.#environment, {
      name,
      gatewayId: this.options.gatewayId,
      topicSync: this.#remote.options.topicSync,
      earlier: this.#unknownLinks ? { groups: undefined, lastAnswerAt: undefined } : earlier,
      rememberGroup: async group => {
        if (!link.groups.includes(group)) link.groups.push(group)
        await this.checkpoint()
      },
      forgetGroup: group => {
        link.groups = link.groups.filter(one => one !== group)
      },
      address: () => this.#remote.masterOf(name),
      settledAnew: () => {
        for (const lane of this.#allLanes()) if (lane.remoteQueue?.broker === name) lane.lookAfterTail()
      },
    })
    this.#remoteBrokers.set(name, broker)
    return broker
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
