// One broker of the source, from the ack to the lanes: journal, release, lanes, cursor, account.
//
// An acked message is journaled, then its ack is relayed, then it goes to its lane when its turn is sure. A send whose
// connection ended is waited for until `sendGiveUpTimeout`, and counted as unresolved: nobody was told of its outcome.

import { Account, type SkipReason } from './account.ts'
import type { Body, BodyMemory } from './body.ts'
import type { Cluster } from './cluster.ts'
import { Cursor, type QueueMark, type QueueState } from './cursor.ts'
import { DeadLetters } from './dead-letters.ts'
import type { Environment } from './environment.ts'
import { Journal } from './journal.ts'
import { Lane, type LaneContext } from './lane.ts'
import type { Place } from './place.ts'
import { type Outstanding, Release } from './release.ts'
import type { Remote } from './remote.ts'

/** Milliseconds between two cursors, while anything changes. */
const CURSOR_INTERVAL = 1_000

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

/** An acked message: its place (the sequence is not known yet) and its body. */
export interface AckedMessage {
  place: Place
  body: Body
}

interface Accepted {
  queueOffset: number
  place: Place
  epoch: number
  body: Body | undefined
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
  readonly #release: Release<Accepted>
  readonly #lanes = new Map<string, Map<number, Lane>>()
  readonly #laneContext: LaneContext
  readonly #deadLetters: DeadLetters
  #epochIds = new Map<number, string>()
  #checkpointing: Promise<void> | undefined
  #checkpointAgain: Promise<void> | undefined
  #cancelTimer: (() => void) | undefined
  #lastSlot = ''
  readonly #givingUp = new Set<() => void>()

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
    this.#deadLetters = new DeadLetters(environment, `${options.folder}/dead-letters-${environment.clock.now()}.jsonl`)
    this.#release = new Release((topic, queueId, message, late) => {
      if (late) this.account.totals.reordered++
      this.#lane(topic, queueId).push(message.place, message.epoch, message.body)
    })
    this.#laneContext = {
      environment,
      source,
      remote,
      sourceBroker: options.name,
      sourceOrdinal: options.ordinal,
      sourceAddress: () => this.address,
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
    const waiting = new Map<string, { topic: string; queueId: number; places: { place: Place; epoch: number }[] }>()
    let covered = 0
    const recovered = await this.journal.open(
      slot ?? { sequence: 0, nextSegmentId: 1, nextEpoch: 1 },
      (topic, queueId, place, { epoch }) => {
        if (slot !== undefined && place.sequence < slot.sequence) {
          const mark = marks.get(`${topic}\n${queueId}\n${epoch}`)
          if (mark !== undefined && place.queueOffset < mark.mark && !mark.late.includes(place.queueOffset))
            return false
          covered++
        }
        const key = `${topic}\n${queueId}`
        const queue = waiting.get(key) ?? { topic, queueId, places: [] }
        waiting.set(key, queue)
        queue.places.push({ place, epoch })
        return true
      },
    )
    this.#epochIds = recovered.epochIds
    const missing = (slot?.waiting ?? 0) - covered
    if (missing > 0) {
      this.account.lostUnseen('journal', missing)
      log.error(
        { broker: this.options.name, messages: missing },
        'places are missing from the journal: those messages are lost',
      )
    }
    for (const { topic, queueId, marks: list, remote } of slot?.queues ?? [])
      this.#newLane(topic, queueId, remote).restoreMarks(list)
    for (const { topic, queueId, places } of waiting.values()) {
      places.sort((a, b) => a.epoch - b.epoch || a.place.queueOffset - b.place.queueOffset)
      const lane = this.#lanes.get(topic)?.get(queueId) ?? this.#newLane(topic, queueId)
      for (const { place, epoch } of places) {
        this.account.accepted(false)
        lane.push(place, epoch, undefined)
      }
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
  }

  /** A send is about to be forwarded. */
  forwarded(topic: string, queueId: number): Outstanding {
    return this.#release.forwarded(topic, queueId)
  }

  /** The source refused a send. */
  refused(send: Outstanding): void {
    this.#release.settled(send, send.queueId, [])
  }

  /** A send's connection ended before its answer came. */
  unanswered(send: Outstanding): void {
    this.account.totals.unresolved++
    const giveUp = () => {
      cancel()
      this.#givingUp.delete(giveUp)
      this.refused(send)
    }
    const cancel = this.#environment.clock.after(this.options.sendGiveUpTimeout, giveUp)
    this.#givingUp.add(giveUp)
  }

  /** The source has a send's messages. `relay` is called when their places are written. */
  acked(send: Outstanding, queueId: number, messages: readonly AckedMessage[], relay: () => void): void {
    const accepted: Accepted[] = []
    const lane = this.#lane(send.topic, queueId)
    const { epoch } = this.journal
    for (const { place, body } of messages) {
      this.journal.append(send.topic, queueId, place)
      if (place.queueOffset < lane.releasedEnd) lane.expectLate(epoch, place.queueOffset)
      const kept = this.#memory.keep(body)
      this.account.accepted(kept)
      accepted.push({ queueOffset: place.queueOffset, place, epoch, body: kept ? body : undefined })
    }
    this.journal.whenWritten(() => {
      relay()
      this.#release.settled(send, queueId, accepted)
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
    this.#cancelTimer?.()
    for (const giveUp of [...this.#givingUp]) giveUp()
    await Promise.all([...this.#allLanes()].map(lane => lane.stop()))
    await this.checkpoint().catch(error =>
      this.#environment.log.error({ err: error }, 'the last cursor could not be written'),
    )
    await this.journal.close()
    await this.#deadLetters.close()
  }

  async #checkpoint(): Promise<void> {
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
      nextEpoch: this.journal.epoch + 1,
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
        .finally(() => this.#scheduleCheckpoint())
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
