// A feed: what one broker of the source has for one remote. Its lanes, its cursor, its account, its dead letters.
//
// Several remotes are several feeds of one journal; none knows of another.

import { dirname } from 'node:path'
import { Account } from './account.ts'
import type { Backlog } from './backlog.ts'
import { Cursor, type LinkState, type QueueMark, type QueueState, type Slot } from './cursor.ts'
import { DeadLetters } from './dead-letters.ts'
import type { Environment } from './environment.ts'
import type { FileSystem } from './file-system.ts'
import { Lane, type LaneContext } from './lane.ts'
import type { Place } from './place.ts'
import type { ReadableFiles } from './readable-files.ts'
import { type LoadPage, Reader } from './reader.ts'
import type { Remote } from './remote.ts'
import { OUTAGE_MOST, RemoteBroker } from './remote-broker.ts'
import { SlotMarks } from './slot-marks.ts'

/** A file in the folder of a remote that was not configured at some start: what is missing was done without it. */
const LEFT_OUT = 'left-out'
/** Milliseconds by which the remote's clock may be behind ours. */
const CLOCKS_APART = 600_000
/** Bytes of known ends of one lane in a slot. */
const ENDS_BYTES_MAX = 64 * 1024

/** What all feeds of a source broker share of a lane's context. */
export type SharedContext = Omit<LaneContext, 'remote' | 'account' | 'deadLetters' | 'remoteBroker'>

/** Notes which remotes of a source broker's folder are not among these: what is done from now on is done without them. */
export async function noteLeftOut(fileSystem: FileSystem, folder: string, feeds: readonly Feed[]): Promise<void> {
  for (const label of await fileSystem.list(`${folder}/remotes`)) {
    if (feeds.some(({ remote }) => remote.label === label)) continue
    const path = `${folder}/remotes/${label}/${LEFT_OUT}`
    if ((await fileSystem.read(path)) === undefined) await fileSystem.replace(path, Buffer.from(''))
  }
}

export class Feed {
  readonly remote: Remote
  readonly account = new Account()
  readonly #environment: Environment
  readonly #folder: string
  readonly #cursor: Cursor
  readonly #deadLetters: DeadLetters
  readonly #context: LaneContext
  readonly #load: LoadPage
  readonly #lanes = new Map<Backlog, Lane>()
  readonly #remoteBrokers = new Map<string, RemoteBroker>()
  /** By remote broker; those that an earlier process left, too. */
  readonly #links = new Map<string, LinkState>()
  /** Until when bytes of links may arrive that nobody knows, for the cursor that named them was lost. */
  #unknownLinksUntil: number | undefined
  #slot: Slot | undefined
  /** Whether it was never seen before: what is in the journal was before this remote. */
  isNew = false
  /** Places with a lower sequence are from before it was known. */
  #from = 0
  /** Whether it was not configured at a start before this one, and its cursor has not been written since. */
  #wasLeftOut = false
  /** There was a cursor, and nothing of it can be read, or is there. */
  #lostCursor: 'damaged' | 'gone' | undefined
  #marks: SlotMarks | undefined
  readonly #remoteQueues = new Map<string, QueueState>()
  /** What the two slots say, the newer last. */
  #lastSlots = ['', '']
  /** Unclear since the remote lost its tail, as the cursor has it. */
  #waitingAgain = 0

  constructor(environment: Environment, folder: string, remote: Remote, shared: SharedContext, load: LoadPage) {
    this.remote = remote
    this.#environment = environment
    this.#folder = `${folder}/remotes/${remote.label}`
    this.#cursor = new Cursor(environment.fileSystem, this.#folder)
    this.#deadLetters = new DeadLetters(environment, this.#folder)
    this.#context = {
      ...shared,
      remote,
      account: this.account,
      deadLetters: this.#deadLetters,
      remoteBroker: name => this.#remoteBroker(name),
    }
    this.#load = load
  }

  get deadLetterBytes(): number {
    return this.#deadLetters.bytes
  }

  get lanes(): Iterable<Lane> {
    return this.#lanes.values()
  }

  /** The newest slot; undefined where there is none, or none that is whole. Throws SlotVersionError, OtherClusterError. */
  async open(files: ReadableFiles): Promise<Slot | undefined> {
    const { fileSystem } = this.#environment
    // It has a folder from its first start on.
    const isKnown = (await fileSystem.list(dirname(this.#folder))).includes(this.remote.label)
    await fileSystem.makeFolder(this.#folder)
    await this.#deadLetters.open(files)
    const slot = await this.#cursor.read(files)
    this.#wasLeftOut = (await fileSystem.read(`${this.#folder}/${LEFT_OUT}`)) !== undefined
    this.isNew = slot === 'none' && !isKnown
    if (slot === 'damaged') this.#lostCursor = 'damaged'
    else if (slot === 'none' && isKnown) this.#lostCursor = 'gone'
    if (typeof slot === 'string') return undefined
    if (slot.remoteCluster !== '' && this.remote.isOtherThan(slot.remoteCluster)) this.#beginAnewAt(slot)
    this.#slot = slot
    this.#from = slot.from ?? 0
    this.#unknownLinksUntil = slot.unknownLinksUntil
    this.account.totals = slot.totals
    for (const link of slot.links) this.#links.set(link.broker, link)
    this.#marks = new SlotMarks(slot)
    for (const state of slot.queues) this.#remoteQueues.set(`${state.topic}\n${state.queueId}`, state)
    return slot
  }

  /** The remote is another cluster: what waits goes there, and nothing of ours stands there yet. */
  #beginAnewAt(slot: Slot): void {
    this.#environment.log.warn(
      {
        broker: this.#context.sourceBroker,
        remote: this.remote.label,
        before: slot.remoteCluster,
        now: this.remote.name,
      },
      'the remote is another cluster from now on: what waits goes there',
    )
    slot.links = []
    for (const state of slot.queues) {
      state.remote = undefined
      state.sentSince = undefined
      const again = [...(state.formers ?? []).flatMap(({ ends }) => ends.again), ...(state.ends?.again ?? [])]
      state.ends = again.length === 0 ? undefined : { ends: [], earlier: 0, again }
      state.formers = undefined
    }
  }

  /** Queues that the cursor names. */
  get knownQueues(): readonly QueueState[] {
    return this.#slot?.queues ?? []
  }

  // At a start

  mark(topic: string, queueId: number, epoch: number): QueueMark | undefined {
    return this.#marks?.mark(topic, queueId, epoch)
  }

  /** Whether a place that the journal has is done, as far as the cursor knows, or was never to be done here. */
  isDone(topic: string, queueId: number, place: Place): boolean {
    if (this.isFromBefore(place.sequence) || this.isSkipped(place)) return true
    return this.#marks?.isDone(topic, queueId, place) ?? false
  }

  /** Whether a place was acked before this remote was known: it is never to be done here. */
  isFromBefore(sequence: number): boolean {
    return this.isNew || sequence < this.#from
  }

  isSkipped({ skipMask }: Place): boolean {
    return (skipMask & this.remote.bit) !== 0
  }

  /** Whether the cursor does not cover a place: it was acked later. */
  isBehindSlot(sequence: number): boolean {
    return this.#marks === undefined ? !this.isNew : !this.#marks.covers(sequence)
  }

  /**
   * Of so many that were acked: those from before this remote was known, or while it was not configured, are not to be copied, and
   * counted so that the sum is right.
   */
  countBefore(acked: number): void {
    const unknown = acked - this.account.acked
    if (unknown > 0) this.account.skipped('before', unknown)
  }

  /** Places that the cursor names and that were found; what is missing is lost. */
  foundWaiting(found: number): void {
    const missing = (this.#slot?.waiting ?? 0) - found - this.#waitingAgain
    if (missing > 0) this.#lostPlaces(missing)
    else this.account.foundAgain('journal', -missing)
  }

  #lostPlaces(count: number): void {
    if (this.#wasLeftOut) return this.account.skipped('before', count)
    this.account.lostUnseen('journal', count)
    this.#environment.log.error(
      { broker: this.#context.sourceBroker, remote: this.remote.label, messages: count },
      'places are missing from the journal: those messages are lost',
    )
  }

  /**
   * The journal is read: its next place has this sequence, its oldest one was acked then (undefined: it has none). Without a
   * cursor it is not known what of it was sent, to which queues, over which links: it is looked for where it may be.
   */
  recovered(sequence: number, oldestAckedAt: number | undefined): void {
    // A first start that came to no slot leaves the same.
    if (this.#lostCursor === 'gone' && oldestAckedAt === undefined) {
      this.isNew = true
      this.#lostCursor = undefined
    }
    if (this.isNew) this.#from = sequence
    if (this.#lostCursor === undefined) return
    const { clock, log } = this.#environment
    log.error(
      { folder: this.#folder },
      `both slots of the cursor are ${this.#lostCursor}: what the journal holds is looked for at the remote, its totals begin anew`,
    )
    this.#unknownLinksUntil = clock.now() + OUTAGE_MOST
    if (oldestAckedAt === undefined) return
    for (const lane of this.#lanes.values()) if (lane.queue.count > 0) lane.sentSince = oldestAckedAt - CLOCKS_APART
  }

  /** Places behind the slot whose records are damaged or gone. */
  missing(count: number): void {
    if (count > 0) this.#lostPlaces(count)
  }

  /** First sequence that the cursor does not cover; undefined where there is no cursor. */
  get slotSequence(): number | undefined {
    return this.#slot?.sequence
  }

  // Lanes

  addLane(backlog: Backlog): Lane {
    const state = this.#remoteQueues.get(`${backlog.topic}\n${backlog.queueId}`)
    const reader = new Reader(backlog, this.account, this.remote.bit, this.#load)
    if (state !== undefined) reader.restoreMarks(state.marks)
    const lane = new Lane(this.#context, reader, state?.remote)
    lane.sentSince = state?.sentSince
    const again = lane.restoreEnds(state?.ends, state?.formers)
    this.#waitingAgain += again
    this.account.restored(0, again)
    this.#lanes.set(backlog, lane)
    return lane
  }

  lane(backlog: Backlog): Lane {
    return this.#lanes.get(backlog)!
  }

  /** When the oldest message that waits was acked. */
  get oldestWaiting(): number | undefined {
    let oldest: number | undefined
    for (const { queue } of this.#lanes.values()) {
      const { headAckedAt } = queue
      if (headAckedAt !== undefined && headAckedAt < (oldest ?? Number.POSITIVE_INFINITY)) oldest = headAckedAt
    }
    return oldest
  }

  /** Whether what was sent is still to be looked after at some broker of the remote. */
  get isUnsettled(): boolean {
    for (const broker of this.#remoteBrokers.values()) if (broker.isUnsettled) return true
    for (const { tail, formers } of this.#lanes.values()) if (tail.mustLook || formers.isDue) return true
    return false
  }

  /** Whether bodies of what was done wait to be sent once more, as far as is known. */
  get needsKept(): boolean {
    for (const lane of this.#lanes.values()) if (lane.needsKept) return true
    return false
  }

  /** Whether a broker of the remote can be sent to; undefined before any was needed. */
  get isUp(): boolean | undefined {
    if (this.#remoteBrokers.size === 0) return undefined
    for (const broker of this.#remoteBrokers.values()) if (broker.isUp) return true
    return false
  }

  /** Milliseconds since the oldest message that waits was acked; 0 where nothing waits. */
  get lagMs(): number {
    const oldest = this.oldestWaiting
    return oldest === undefined ? 0 : Math.max(0, this.#environment.clock.now() - oldest)
  }

  /** Lanes that cannot go on, with what they wait for. */
  get troubles(): { topic: string; queueId: number; reason: string }[] {
    return [...this.#lanes.values()]
      .filter(lane => lane.trouble !== '')
      .map(({ topic, queueId, trouble }) => ({ topic, queueId, reason: trouble }))
  }

  /** Sends no more. */
  async stop(): Promise<void> {
    for (const broker of this.#remoteBrokers.values()) broker.stop()
    await Promise.all([...this.#lanes.values()].map(lane => lane.stop()))
    for (const broker of this.#remoteBrokers.values()) broker.end()
  }

  async close(): Promise<void> {
    await this.#deadLetters.close()
  }

  /** Up to then all brokers of the remote have answered, and what is known to be there was looked after. */
  get answeredUntil(): number {
    let until = this.#environment.clock.now()
    for (const { remoteQueue, tail, formers } of this.#lanes.values()) {
      until = Math.min(until, formers.answeredUntil)
      if (tail.ends.isEmpty) continue
      const answeredAt = remoteQueue && this.#remoteBrokers.get(remoteQueue.broker)?.lastAnswerAt
      const isOpen = tail.mustLook || tail.ends.isAgain || answeredAt === undefined
      until = Math.min(until, isOpen ? Number.NEGATIVE_INFINITY : answeredAt)
    }
    return until
  }

  // The cursor

  /** What is done now; `common` is what all feeds of the journal have alike. The returned function writes it, to one slot or to both. */
  snapshot(
    common: Pick<Slot, 'sequence' | 'nextSegmentId' | 'nextEpoch' | 'topics' | 'epochIds'>,
    oldestEra: number,
  ): (both: boolean) => Promise<void> {
    const queues: QueueState[] = [...this.#lanes.values()].map(lane => {
      const { topic, queueId, queue, remoteQueue, tail, formers, sentSince } = lane
      const lastAnswerAt = remoteQueue && this.#remoteBrokers.get(remoteQueue.broker)?.lastAnswerAt
      // What is not looked after since the last settling may be gone.
      if (lastAnswerAt !== undefined && !tail.hasToLook) tail.ends.forgetBefore(lastAnswerAt - this.#context.retention)
      formers.forget(this.#context.retention)
      return {
        topic,
        queueId,
        marks: queue.marks(oldestEra),
        remote: remoteQueue && { ...remoteQueue },
        ends: tail.encode(ENDS_BYTES_MAX),
        formers: formers.encode(ENDS_BYTES_MAX),
        sentSince,
      }
    })
    const slot = {
      ...common,
      from: this.#from,
      remoteCluster: this.remote.name ?? '',
      waiting: this.account.queued + this.account.inGap,
      queues,
      links: [...this.#links.values()].map(link => ({
        ...link,
        lastAnswerAt: this.#remoteBrokers.get(link.broker)?.lastAnswerAt ?? link.lastAnswerAt,
      })),
      unknownLinksUntil: this.#unknownLinksUntil,
      totals: structuredClone(this.account.totals),
    }
    // That a broker answers is no change: an older time only makes a pause longer.
    const text = JSON.stringify({ ...slot, links: slot.links.map(({ groups }) => groups) })
    return async both => {
      // One that is older than the time without it would miss what was done then.
      const needsBoth = both || this.#wasLeftOut
      while (this.#lastSlots.at(-1) !== text || (needsBoth && this.#lastSlots[0] !== text)) {
        await this.#cursor.write(slot)
        this.#lastSlots = [this.#lastSlots[1]!, text]
      }
      if (!this.#wasLeftOut) return
      await this.#environment.fileSystem.remove(`${this.#folder}/${LEFT_OUT}`)
      this.#wasLeftOut = false
    }
  }

  /** Lowest era of which known ends have places: cursors have to name it. */
  get oldestKnownEra(): number {
    let oldest = Number.POSITIVE_INFINITY
    for (const { tail, formers } of this.#lanes.values())
      oldest = Math.min(oldest, tail.ends.oldestEra, formers.oldestEra)
    return oldest
  }

  /** Whether an earlier process may have had links that nobody knows. */
  get #hasUnknownLinks(): boolean {
    return this.#unknownLinksUntil !== undefined && this.#environment.clock.now() < this.#unknownLinksUntil
  }

  #remoteBroker(name: string): RemoteBroker {
    const known = this.#remoteBrokers.get(name)
    if (known !== undefined) return known
    const earlier = this.#links.get(name)
    const link: LinkState = { broker: name, groups: [...(earlier?.groups ?? [])], lastAnswerAt: earlier?.lastAnswerAt }
    this.#links.set(name, link)
    const broker = new RemoteBroker(this.#environment, {
      name,
      gatewayId: this.#context.stamper.gateway,
      topicSync: this.remote.options.topicSync,
      inFlightBytes: this.remote.options.inFlightBytes,
      earlier: this.#hasUnknownLinks ? { groups: undefined, lastAnswerAt: undefined } : earlier,
      rememberGroup: async group => {
        if (!link.groups.includes(group)) link.groups.push(group)
        await this.#context.checkpoint()
      },
      forgetGroup: group => {
        link.groups = link.groups.filter(one => one !== group)
      },
      address: () => this.remote.masterOf(name),
      settledAnew: () => {
        for (const lane of this.#lanes.values()) {
          if (lane.remoteQueue?.broker === name) lane.lookAfterTail()
          lane.formers.look()
        }
      },
    })
    this.#remoteBrokers.set(name, broker)
    return broker
  }
}
