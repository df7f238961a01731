// One broker of the source, from the ack to the feeds: journal, release, backlogs, spill, and a feed for each remote.
//
// An acked message is journaled, then its ack is relayed, then it goes to its backlog when its turn is sure. A send without an
// answer holds back later ones of its queue until `sendGiveUpTimeout`, whether its connection lives or not.

import { Backlog } from './backlog.ts'
import { type Batch, Batches } from './batches.ts'
import { type BodyMemory, dropBody, payloadLength } from './body.ts'
import { Checkpoints } from './checkpoints.ts'
import type { Cluster } from './cluster.ts'
import { Confirmation } from './confirmation.ts'
import type { Slot } from './cursor.ts'
import type { Environment } from './environment.ts'
import { Epochs, SourceConnection } from './epoch.ts'
import { Feed, noteLeftOut } from './feed.ts'
import { Journal } from './journal.ts'
import type { JournalSettings } from './journal-settings.ts'
import { KeptBodies } from './kept-bodies.ts'
import { KeptNeed } from './kept-need.ts'
import { Losses } from './losses.ts'
import type { AckedMessage } from './message.ts'
import { Pace, QUESTIONS_MOST } from './pace.ts'
import { PAGE_BYTES, type Page } from './page.ts'
import { ALL_REMOTES, eraOf, type Place, PlaceFlag, SKIP_REASONS } from './place.ts'
import { Readable } from './readable.ts'
import { StartFiles } from './readable-files.ts'
import { Recovery } from './recovery.ts'
import { Release } from './release.ts'
import type { Remote } from './remote.ts'
import { Retention } from './retention.ts'
import { Room } from './room.ts'
import type { Send } from './send.ts'
import { Spill } from './spill.ts'
import { Turns } from './turns.ts'
import { newestKnown, UncleanEnd } from './unclean-end.ts'
import { type Unanswered, Unresolved } from './unresolved.ts'

/** Milliseconds between two looks for sends to give up. */
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
  journal: JournalSettings
}

export class SourceBroker {
  readonly options: SourceBrokerOptions
  readonly feeds: readonly Feed[]
  readonly journal: Journal
  readonly spill: Spill
  readonly kept: KeptBodies
  readonly #keptNeed: KeptNeed
  readonly #losses: Losses
  readonly #room: Room
  readonly #uncleanEnd: UncleanEnd
  readonly #environment: Environment
  readonly #memory: BodyMemory
  readonly #release: Release<AckedMessage>
  readonly #unresolved: Unresolved
  readonly #retention: Retention
  /** Which topics may be read back from the source. */
  readonly readable: Readable
  readonly #pace = new Pace()
  readonly #turns = new Turns(QUESTIONS_MOST)
  /** The send whose ack is waited for with a watch in hand, and since when. */
  #timed: Send | undefined
  #timedSince = 0
  readonly #source: Cluster
  #address: string
  #epochs!: Epochs
  #confirmation!: Confirmation
  /** Of those who forward without a connection of their own. */
  #ownConnection!: SourceConnection
  readonly #backlogs = new Map<string, Map<number, Backlog>>()
  readonly #batches = new Batches(batch => this.#written(batch))
  readonly #checkpoints: Checkpoints
  #cancelGiveUp: (() => void) | undefined
  #started = false

  constructor(
    environment: Environment,
    options: SourceBrokerOptions,
    address: string,
    source: Cluster,
    remotes: readonly Remote[],
    memory: BodyMemory,
  ) {
    const { folder, name, gatewayId, journal } = options
    this.options = options
    this.#address = address
    this.#source = source
    this.#environment = environment
    this.#memory = memory
    this.#losses = new Losses(environment)
    this.#keptNeed = new KeptNeed(
      environment.clock,
      () => this.feeds,
      () => this.journal.sequence,
    )
    this.#room = new Room(environment.fileSystem, folder, journal, () => ({
      places: this.journal.counts.bytes,
      blocks: this.spill.counts.bytes,
      deadLetters: this.feeds.reduce((sum, { deadLetterBytes }) => sum + deadLetterBytes, 0),
      kept: this.kept.counts.bytes,
      isKeptNeeded: this.#keptNeed.isThere,
    }))
    const notRemoved = (error: Error) => this.#checkpoints.notRemoved(error)
    this.kept = new KeptBodies({
      environment,
      folder,
      retention: journal.retention,
      inUse: () => [...this.journal.pathsWithBodies, ...this.spill.pathsThatKeep],
      excess: () => this.#room.excess,
      epochId: epoch => this.journal.epochIds.get(epoch) ?? '',
      freed: bytes => this.#room.freed(bytes),
      notRemoved,
    })
    this.journal = new Journal(environment, folder, {
      ack: journal.ack,
      segmentBytes: this.#room.placesSegmentBytes,
      stallTimeout: journal.stallTimeout,
      keep: (path, firstSequence) => this.#keep(path, firstSequence),
      notRemoved,
    })
    this.spill = new Spill(
      environment,
      folder,
      {
        fileBytes: this.#room.bodiesFileBytes,
        after: journal.spillAfter,
        compress: journal.compress,
        refuses: journal.onFull === 'reject',
        hasRoom: bytes => this.#room.has(bytes),
        giveWay: () => this.#giveWay(),
        keep: path => this.kept.keep(path),
        checkpoint: () => this.checkpoint(),
        folded: sequence => this.journal.folded(sequence),
        openPages: () => this.#openPages(),
      },
      memory,
    )
    this.#uncleanEnd = new UncleanEnd(environment.fileSystem, folder, gatewayId)
    this.journal.onFailure = fails => this.#uncleanEnd.journalFails(fails)
    this.journal.onFlush = () => this.#batches.flushed(this.journal.sequence)
    this.#release = new Release((message, late) => this.#released(message, late))
    const shared = {
      environment,
      source,
      sourceBroker: name,
      sourceOrdinal: options.ordinal,
      sourceAddress: () => this.address,
      turns: this.#turns,
      memory,
      kept: this.kept,
      bornTimestampTolerance: options.bornTimestampTolerance,
      retention: journal.retention,
      stamper: {
        group: options.group,
        gateway: gatewayId,
        sourceCluster: options.cluster,
        broker: name,
        epochId: (epoch: number) => this.journal.epochIds.get(epoch) ?? '',
      },
      refused: (topic: string, reason: string) => this.readable.refused(topic, reason),
      checkpoint: () => this.#checkpoints.restOn(),
    }
    const load = (page: Page, backlog: Backlog) => this.spill.load(page, backlog)
    this.feeds = remotes.map(remote => new Feed(environment, folder, remote, shared, load))
    this.#checkpoints = new Checkpoints({
      environment,
      broker: name,
      journal: this.journal,
      spill: this.spill,
      kept: this.kept,
      keptNeed: this.#keptNeed,
      room: this.#room,
      uncleanEnd: this.#uncleanEnd,
      feeds: this.feeds,
      sequence: () => this.#batches.sequence,
      epoch: () => this.epoch,
    })
    const { clock, log } = environment
    const asking = { clock, log, source, broker: name, address: () => this.address }
    this.readable = new Readable(asking)
    this.#retention = new Retention({ ...asking, oldestGap: () => this.#oldestGap })
    this.#unresolved = new Unresolved({
      ...asking,
      turns: this.#turns,
      sendGiveUpTimeout: options.sendGiveUpTimeout,
      epochs: () => this.#epochs,
      has: message => this.#confirmation.has(message, this.address),
      settled: send => this.refused(send),
      unresolved: count => this.unresolved(count),
      ...(options.unresolvedMemory === undefined ? {} : { memoryMost: options.unresolvedMemory }),
    })
  }

  /** Reads the journal; what is not done waits in lanes. Throws SegmentVersionError, SlotVersionError. */
  async open(): Promise<void> {
    const { clock, fileSystem, log, randomId } = this.#environment
    const { folder, name } = this.options
    await fileSystem.makeFolder(folder)
    const inDoubt = await this.#uncleanEnd.read()
    // Where it cannot be noted they are counted as lost later: no reason not to start.
    await noteLeftOut(fileSystem, folder, this.feeds).catch(error =>
      log.error({ err: error, broker: name }, 'it could not be noted which remotes are not configured now'),
    )
    const files = new StartFiles(fileSystem, clock, (file, at, bytes) =>
      log.error({ file, at, bytes }, 'the disk does not give a part of the journal: it is taken for damaged'),
    )
    const slots: Slot[] = []
    for (const feed of this.feeds) {
      const slot = await feed.open(files)
      if (slot !== undefined) slots.push(slot)
    }
    for (const feed of this.feeds) for (const { topic, queueId } of feed.knownQueues) this.#backlog(topic, queueId)
    // Of all, the newest last: what one that was left out knows to be at its remote may be named by its cursor alone.
    slots.sort((a, b) => a.sequence - b.sequence)
    const known = {
      topics: new Map(slots.flatMap(({ topics }) => topics)),
      epochIds: new Map(slots.flatMap(({ epochIds }) => epochIds)),
    }
    const recovery = new Recovery(this.#environment, files, folder, this.feeds, known, (topic, queueId) =>
      this.#backlog(topic, queueId),
    )
    const recovered = await recovery.run()
    const acked = Math.max(0, ...this.feeds.map(({ account }) => account.acked))
    for (const feed of this.feeds) {
      feed.recovered(recovered.sequence, recovered.oldestAckedAt)
      feed.countBefore(acked)
    }
    this.#keptNeed.recovered(recovered.mayNeedKept)
    await this.kept.open()
    await this.journal.open({
      ...recovered,
      nextSegmentId: Math.max(recovered.nextSegmentId, ...slots.map(slot => slot.nextSegmentId)),
    })
    this.spill.restore(recovered.files, recovered.nextFileId)
    this.#batches.beginAt(this.journal.sequence)
    const eras = [...recovered.epochIds.keys()].map(eraOf)
    const last = Math.max(0, ...eras, ...slots.map(slot => slot.nextEpoch - 1))
    this.#epochs = new Epochs(
      this.#address,
      { ordinal: last + 1, id: randomId(6) },
      () => randomId(6),
      epoch => {
        this.journal.beginEpoch(epoch)
        log.info({ broker: name, epoch: epoch.ordinal }, 'a new epoch of the source broker begins')
      },
    )
    this.journal.beginEpoch(this.#epochs.newest)
    this.#confirmation = new Confirmation(clock, log, this.#source, this.#epochs)
    this.#ownConnection = this.connection(this.#address)
    if (inDoubt !== undefined)
      log.error(
        { broker: name, reason: inDoubt, from: this.#newestKnown() },
        'what was acked last may be missing from the journal: messages of the source from these offsets on, up to this start, may not be at the remotes',
      )
    this.#uncleanEnd.journalFails(this.journal.failed)
    if (recovered.waiting > 0)
      log.info({ broker: name, messages: recovered.waiting }, 'messages from before this start wait to be replicated')
    // A disk that takes nothing now does not keep producers from the source; lanes wait for their cursors.
    await this.checkpoint().catch(error => log.error({ err: error, broker: name }, 'a cursor could not be written'))
    this.#started = true
    for (const lane of this.#allLanes()) lane.start(true)
    this.#checkpoints.start()
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

  /** Ordinal of the newest epoch that has a number. */
  get epoch(): number {
    return this.#epochs.ordinal
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
      this.#timedSince = this.#environment.clock.uptime()
    }
    if (this.#epochs.forwarded(send, connection)) this.#confirmation.confirm(connection)
  }

  /** A send was answered, and has no messages. */
  refused(send: Send): void {
    if (send === this.#timed) this.#took()
    dropBody(send)
    this.#release.settled(send, send.queueId)
  }

  /** A send whose outcome nobody can find out. */
  unresolved(count = 1): void {
    for (const { account } of this.feeds) account.totals.unresolved += count
  }

  /** A send whose answer will not come, or does not tell: it holds back its queue while it is looked for at the source. */
  findOut(send: Send, from: Unanswered): void {
    this.#unresolved.add(send, from)
  }

  /** Sends that are being looked for. */
  get unresolvedNow(): number {
    return this.#unresolved.count
  }

  /** Milliseconds until the source forgets something that has to be read back from it; infinite where that is not in sight. */
  get gapTimeLeft(): number {
    return this.#retention.timeLeft
  }

  /**
   * The source has this message of a send, whose connection is confirmed. Its place is written with what else comes in this
   * turn of the loop. False where it was found there, and taken, before.
   */
  acked(send: Send, queueId: number, message: AckedMessage): boolean {
    const { topic } = send
    if (!this.#unresolved.take(send, queueId, message)) return false
    const isSkipped = message.skipMask === ALL_REMOTES
    // The offsets of one that is delayed, or half of a transaction, are those of a system topic.
    message.epoch = isSkipped ? this.epoch : this.#epochOf(send, queueId, message)
    message.backlog = this.#backlog(topic, queueId)
    message.journaled = !isSkipped && this.#mustJournal(topic, queueId, message)
    if (message.journaled && !this.#hasRoomFor(topic, message)) this.#keepsNoBody(topic, queueId, message)
    if (message.journaled) message.placeFlags |= PlaceFlag.JOURNALED
    this.journal.append(topic, queueId, message, message.journaled ? message : undefined)
    if (message.journaled) this.#memory.keepAnyway(message)
    message.kept = message.journaled || (message.skipMask !== ALL_REMOTES && this.#keeps(message))
    if (!message.kept) dropBody(message)
    if (this.#memory.used > this.#memory.limit / 2) this.spill.pressed()
    this.#batches.open.messages.push(message)
    this.#batches.open.sends.push(send)
    return true
  }

  #epochOf(send: Send, queueId: number, message: AckedMessage): number {
    const epoch = this.#epochs.acked(send, queueId, message)
    // Its connection was quiet until nothing of it was on disk, and no checkpoint had to name it any more.
    if (!this.journal.epochIds.has(epoch.ordinal)) this.journal.beginEpoch(epoch)
    return epoch.ordinal
  }

  /** Whether sends are to be refused: what they bring could not be kept. */
  get isFull(): boolean {
    if (this.options.journal.onFull === 'gap') return false
    return this.#room.isFullWith(this.#memory, PAGE_BYTES)
  }

  /** What came since what is kept is needed is not kept where there is no room beside that. */
  #keep(path: string, firstSequence: number): Promise<void> {
    const isInTheWay = this.#keptNeed.hasComeSince(firstSequence) && !this.#room.has(0)
    return isInTheWay ? this.#environment.fileSystem.remove(path) : this.kept.keep(path)
  }

  /** What is kept of what is done makes room for what waits. */
  async #giveWay(): Promise<void> {
    if (this.kept.counts.files === 0) return
    this.#keptNeed.lookAgain()
    await this.#room.look()
    await this.kept.giveWay()
  }

  #mustJournal(topic: string, queueId: number, { queueOffset }: Place): boolean {
    // Asked in any case: when there is no room it has to be known.
    const mayReadBack = this.readable.mayReadBack(topic, queueId, queueOffset)
    return this.options.journal.bodies === 'always' || !mayReadBack
  }

  /** Where sends are refused when memory is full, what is out by then has its room all the same. */
  #keeps(message: AckedMessage): boolean {
    if (this.options.journal.onFull === 'gap' || (this.#memory.isFull && !this.isFull))
      return this.#memory.keep(message)
    this.#memory.keepAnyway(message)
    return true
  }

  /** What surely cannot be had again may exceed the memory for as long as it takes to go to disk. */
  #hasRoomFor(topic: string, message: AckedMessage): boolean {
    // Where sends are refused from now on, those that are out may exceed it, too.
    if (!this.#memory.isFull || this.isFull) return true
    return this.readable.isRefused(topic) && !this.spill.failed && this.#room.has(payloadLength(message))
  }

  /** It can be kept nowhere: it is a gap, unless it is known that the source does not let it be read back. */
  #keepsNoBody(topic: string, queueId: number, message: AckedMessage): void {
    message.journaled = false
    // A refusal may end, and so may the failure of a disk; a journal that is full is meant to be.
    if (!this.readable.isRefused(topic) || this.#room.has(payloadLength(message))) return
    message.skipReason = SKIP_REASONS.indexOf('full')
    message.skipMask = ALL_REMOTES
    const reason = 'they may not be read back from the source, and neither memory nor disk has room for them'
    this.#losses.add({ topic, queueId }, message.queueOffset, 'full', reason)
  }

  /** All messages of a send are acked; they are in this queue. */
  answered(send: Send, queueId: number): void {
    if (send === this.#timed) this.#took()
    // The members have what they need of it.
    if (send.batch) dropBody(send)
    send.backlog = this.#backlog(send.topic, queueId)
    this.#batches.open.answered.push(send)
  }

  #took(): void {
    this.#timed = undefined
    const now = this.#environment.clock.uptime()
    this.#pace.ackTook(now - this.#timedSince, now)
    this.#turns.limit = this.#pace.questions
  }

  /** Calls back, never at once, when the places of what was acked so far are written. */
  whenWritten(relay: () => void): void {
    const { newest } = this.#batches
    if (newest !== undefined) newest.relays.push(relay)
    // What was acked was found before, and its place is written.
    else this.#environment.clock.soon(relay)
  }

  /** Writes a cursor of what is done now for each remote, and drops what that makes needless. */
  checkpoint(): Promise<void> {
    return this.#checkpoints.run()
  }

  /** Ends the lanes, and leaves cursors that know what they did. */
  async close(): Promise<void> {
    this.#checkpoints.close()
    this.#cancelGiveUp?.()
    this.#confirmation.close()
    this.#unresolved.close()
    this.#retention.close()
    this.readable.close()
    await Promise.all(this.feeds.map(feed => feed.stop()))
    await this.spill.close()
    // Behind the last block: what is acked while it stops may stand before it.
    this.#release.releaseAll()
    await this.journal.sync()
    await this.checkpoint().catch(error =>
      this.#environment.log.error({ err: error }, 'the last cursor could not be written'),
    )
    await this.journal.close()
    if (!this.journal.failed) await this.#uncleanEnd.end().catch(() => {})
    await Promise.all(this.feeds.map(feed => feed.close()))
  }

  // From the ack to the backlog

  #written(batch: Batch): void {
    for (const relay of batch.relays) relay()
    for (let index = 0; index < batch.messages.length; index++) {
      const message = batch.messages[index]!
      message.isOverdue = batch.sends[index]!.settled
      this.#count(message)
      if (message.skipMask === ALL_REMOTES) {
        this.journal.done(message.sequence)
        continue
      }
      const backlog = message.backlog!
      // It may wait for its turn while higher ones are done already.
      if (backlog.isLate(message.epoch, message.queueOffset)) {
        for (const reader of backlog.readers) reader.expectLate(message.epoch, message.queueOffset)
        this.#countIfReordered(message)
      }
      this.#release.acked(backlog.topic, backlog.queueId, message)
    }
    for (const send of batch.answered) this.#release.settled(send, send.backlog!.queueId)
  }

  /** Counted once its place is written: from then on it is acked, for whoever looks. */
  #count({ skipMask, skipReason, kept }: AckedMessage): void {
    for (const { account, remote } of this.feeds) {
      if ((skipMask & remote.bit) === 0) account.accepted(kept)
      else account.passedOver(skipReason)
    }
  }

  /**
   * It comes behind higher ones. Within an era those were acked before its send was forwarded, or they would have waited for it until that was
   * given up: the source has lost them.
   */
  #countIfReordered(message: AckedMessage): void {
    if (!message.isOverdue && !message.backlog!.isOfOlderEra(message.epoch)) return
    message.isReordered = true
    for (const { account } of this.feeds) account.totals.reordered++
  }

  #released(message: AckedMessage, late: boolean): void {
    if (late && !message.isReordered) this.#countIfReordered(message)
    message.backlog!.push(message, message.kept ? message : undefined, message.journaled)
  }

  /** `marks`: how many sends had been forwarded at the last looks, the oldest first. */
  #watchForGivingUp(marks: readonly number[]): void {
    const looks = Math.ceil(this.options.sendGiveUpTimeout / GIVE_UP_INTERVAL)
    this.#cancelGiveUp = this.#environment.clock.after(GIVE_UP_INTERVAL, () => {
      const kept = [...marks, this.#release.forwardedSoFar].slice(-looks - 1)
      if (kept.length > looks) {
        this.#release.giveUp(kept[0]!, send => this.#gaveUp(send as Send))
        this.#epochs.settled(kept[0]!)
      }
      this.#watchForGivingUp(kept)
    })
  }

  #gaveUp(send: Send): void {
    // It has taken that long at least, and others are to be measured.
    if (send === this.#timed) this.#took()
    send.givenUp?.(send)
  }

  // Backlogs and lanes

  #backlog(topic: string, queueId: number): Backlog {
    const known = this.#backlogs.get(topic)?.get(queueId)
    if (known !== undefined) return known
    const backlog = new Backlog(topic, queueId, this.#memory, {
      epochId: epoch => this.journal.epochIds.get(epoch) ?? '',
      sealed: (page, of) => this.spill.sealed(page, of),
      done: (sequence, isInBlock) => (isInBlock ? this.journal.doneInBlock(sequence) : this.journal.done(sequence)),
      passed: page => this.spill.passed(page),
    })
    const backlogs = this.#backlogs.get(topic) ?? new Map<number, Backlog>()
    this.#backlogs.set(topic, backlogs.set(queueId, backlog))
    for (const feed of this.feeds) {
      const lane = feed.addLane(backlog)
      if (this.#started) lane.start(false)
    }
    return backlog
  }

  #newestKnown() {
    const backlogs = [...this.#backlogs.values()].flatMap(queues => [...queues.values()])
    return newestKnown(
      backlogs,
      this.feeds.flatMap(feed => feed.knownQueues),
    )
  }

  *#allLanes() {
    for (const feed of this.feeds) yield* feed.lanes
  }

  *#openPages(): Generator<[Page, Backlog]> {
    for (const backlogs of this.#backlogs.values())
      for (const backlog of backlogs.values()) {
        const page = backlog.open
        if (page !== undefined && page.readers > 0 && backlog.readers.some(reader => reader.headIndex < page.end))
          yield [page, backlog]
      }
  }

  /** When the oldest message that may have to be read back was acked. */
  get #oldestGap(): number | undefined {
    let oldest: number | undefined
    for (const feed of this.feeds)
      if (feed.account.inGap > 0)
        oldest = Math.min(oldest ?? Number.POSITIVE_INFINITY, feed.oldestWaiting ?? Number.POSITIVE_INFINITY)
    return oldest
  }
}
