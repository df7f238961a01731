// What a source broker's folder holds of messages that are not done, put back into backlogs at a start.
//
// A message's place is in a block, in a segment of places, or in both, or twice in segments after a failure: each counts
// once. Within a queue pages and places are put in the order of epochs and offsets. Nothing is appended to what is found here.
//
// Exact about what is missing: places that the cursor knew to wait and that are not found, and sequence numbers behind the
// cursor of which no record is left, are lost. Damaged bodies are not looked for: they are found when they are read.

import type { Backlog } from './backlog.ts'
import type { BlockPlaces } from './block.ts'
import { isWholeBlock, parseBlockFileName, readBlockPlaces, type ScannedBlock, scanBlockFile } from './block-file.ts'
import { type BlockFile, newBlockFile } from './compaction.ts'
import type { Environment } from './environment.ts'
import type { Feed } from './feed.ts'
import { NO_PLACES, type RecoveredSegment } from './journal.ts'
import type { Message } from './message.ts'
import { Page } from './page.ts'
import { ALL_REMOTES, eraOf, inOrder, PLACE_BYTES, type Place, PlaceFlag } from './place.ts'
import { readWhole, type StartFiles } from './readable-files.ts'
import { listed, parseSegmentName, readSegment } from './segment.ts'
import { SequenceSet } from './sequence-set.ts'
import { isAmong } from './slot-marks.ts'

/** Bytes of damage that are kept for who looks into it. */
const KEPT_DAMAGE = 64 * 1024

export interface Recovered {
  sequence: number
  nextSegmentId: number
  nextFileId: number
  topics: Map<number, string>
  epochIds: Map<number, string>
  segments: RecoveredSegment[]
  files: BlockFile[]
  bodiesHere: ReadonlySet<number>
  /** Pages in which something waits that may have its body in a file in which nothing is left to do. */
  mayNeedKept: readonly Page[]
  /** Messages that wait, for any remote. */
  waiting: number
  /** When the oldest of them was acked; undefined where there are none. */
  oldestAckedAt: number | undefined
}

interface Leftover {
  place: Place
  body: Message | undefined
}

interface FoundBlock extends ScannedBlock {
  file: BlockFile
  /** Of one that may have places in common with others: which of its places count in another. */
  elsewhere?: ReadonlySet<number>
}

interface QueueFound {
  blocks: FoundBlock[]
  leftovers: Leftover[]
}

export class Recovery {
  readonly #environment: Environment
  readonly #diskFiles: StartFiles
  readonly #folder: string
  readonly #feeds: readonly Feed[]
  readonly #backlog: (topic: string, queueId: number) => Backlog
  readonly #topics: Map<number, string>
  readonly #epochIds: Map<number, string>
  readonly #queues = new Map<string, Map<number, QueueFound>>()
  readonly #files: BlockFile[] = []
  readonly #segments: RecoveredSegment[] = []
  /** Sequences from the lowest that matters to the highest, and which of them a record was found of. */
  readonly #seen = new SequenceSet()
  /** Journaled with their bodies, in blocks without: done when those were written, and in no slot. */
  readonly #bodiless = new Set<number>()
  /** Of these: whose bodies segments have. */
  readonly #bodiesHere = new Set<number>()
  readonly #mayNeedKept: Page[] = []
  #low = Number.POSITIVE_INFINITY
  #high = -1
  /** Places whose topic or epoch nobody can tell: what named it is damaged. */
  readonly #nameless: Place[] = []
  /** Of the queue that is put back: behind the highest offset so far, by epoch. */
  readonly #ends = new Map<number, number>()
  /** Of the same: sequences of what two blocks have. */
  readonly #twice = new Set<number>()
  #waiting = 0
  #oldestAckedAt: number | undefined

  /** `known`: topics and epochs that cursors name. `backlog` makes a queue's backlog, with a reader for each feed. */
  constructor(
    environment: Environment,
    files: StartFiles,
    folder: string,
    feeds: readonly Feed[],
    known: { topics: ReadonlyMap<number, string>; epochIds: ReadonlyMap<number, string> },
    backlog: (topic: string, queueId: number) => Backlog,
  ) {
    this.#environment = environment
    this.#diskFiles = files
    this.#folder = folder
    this.#feeds = feeds
    this.#topics = new Map(known.topics)
    this.#epochIds = new Map(known.epochIds)
    this.#backlog = backlog
  }

  /** Throws SegmentVersionError, and where the disk gives nothing. */
  async run(): Promise<Recovered> {
    const names = await this.#diskFiles.list(this.#folder)
    const segments = listed(names, parseSegmentName)
    const files = listed(names, parseBlockFileName)
    for (const segment of segments) await this.#readNames(segment.name, segment.salt)
    // By lowest sequence: a page may have been written anew, and both are there. The later counts, where it got to the disk.
    const blocks = new Map<number, FoundBlock>()
    for (const file of files) await this.#readHeaders(file.name, file.salt, blocks)
    for (const { slotSequence } of this.#feeds) this.#low = Math.min(this.#low, slotSequence ?? this.#low)
    for (const block of blocks.values()) await this.#readBlock(block)
    for (const segment of segments) await this.#readPlaces(segment.name, segment.salt)
    const { given, unreadable } = this.#diskFiles
    if (unreadable > 0 && given === 0)
      throw new Error(
        `${this.#folder}: the disk gives nothing of ${unreadable} bytes (EIO): it is away, or failing. Once it works, start again; to give up what it holds, move the folder away`,
      )
    const found = await this.#restore()
    this.#account(found)
    return {
      // Numbers of what was not read are not given again: the disk may give it at another start.
      sequence:
        Math.max(this.#high + 1, ...this.#feeds.map(feed => feed.slotSequence ?? 0)) +
        Math.ceil(unreadable / PLACE_BYTES),
      nextSegmentId: (segments.at(-1)?.id ?? 0) + 1,
      nextFileId: (files.at(-1)?.id ?? 0) + 1,
      topics: this.#topics,
      epochIds: this.#epochIds,
      segments: this.#segments,
      files: this.#files,
      bodiesHere: this.#bodiesHere,
      mayNeedKept: this.#mayNeedKept,
      waiting: this.#waiting,
      oldestAckedAt: this.#oldestAckedAt,
    }
  }

  /** First reading: topics, epochs, and which sequences there are. */
  async #readNames(name: string, salt: number): Promise<void> {
    // A process that was killed may not have synced it, and the next slots count on what is found here.
    await this.#environment.fileSystem.sync(`${this.#folder}/${name}`)
    const bytes = await this.#read(name)
    readSegment(bytes, salt, {
      topic: (number, topic) => void this.#topics.set(number, topic),
      epoch: (ordinal, id) => void this.#epochIds.set(ordinal, id),
      place: (_topic, _queue, { sequence }) => {
        this.#low = Math.min(this.#low, sequence)
        this.#high = Math.max(this.#high, sequence)
      },
    })
  }

  async #readHeaders(name: string, salt: number, blocks: Map<number, FoundBlock>): Promise<void> {
    const path = `${this.#folder}/${name}`
    const file = newBlockFile(path)
    this.#files.push(file)
    await this.#environment.fileSystem.sync(path)
    const { bytes, damaged, tornBytes } = await scanBlockFile(this.#diskFiles, path, salt, async scanned => {
      const { header } = scanned
      this.#high = Math.max(this.#high, header.maxSequence)
      this.#epochIds.set(header.epoch, header.epochId)
      file.era = Math.min(file.era, eraOf(header.epoch))
      file.keeps ||= header.keeps
      if (blocks.has(header.minSequence) && !(await isWholeBlock(this.#diskFiles, scanned))) return
      blocks.set(header.minSequence, { ...scanned, file })
    })
    file.bytes = bytes
    const damagedBytes = damaged.reduce((sum, range) => sum + range.bytes, tornBytes)
    if (damagedBytes > 0)
      this.#environment.log.warn(
        { file: name, bytes: damagedBytes },
        'file of bodies is damaged or torn: what is whole is used',
      )
  }

  /** Which places a block has is read where the journal may have them, too. */
  async #readBlock(block: FoundBlock): Promise<void> {
    const { topic, queueId, maxSequence } = block.header
    if (maxSequence >= this.#low) {
      const read = await readBlockPlaces(this.#diskFiles, block)
      // Its messages are with the journal still, or missing there.
      if (read === undefined) return
      for (const [at, place] of read.places.entries()) {
        if (this.#see(place.sequence) && place.skipMask !== 0) this.#countSkipped(place)
        const isBodiless = read.shapes[at] === undefined && (place.placeFlags & PlaceFlag.JOURNALED) !== 0
        if (isBodiless && !this.#feeds.every(feed => feed.isDone(topic, queueId, place)))
          this.#bodiless.add(place.sequence)
      }
    }
    this.#queue(topic, queueId).blocks.push(block)
  }

  /** Second reading: the places that no block has. */
  async #readPlaces(name: string, salt: number): Promise<void> {
    const path = `${this.#folder}/${name}`
    const bytes = await this.#read(name)
    const segment: RecoveredSegment = {
      path,
      bytes: bytes.length,
      ...NO_PLACES,
    }
    const read = readSegment(bytes, salt, {
      topic: () => {},
      epoch: () => {},
      place: (topicNumber, queueId, place, body) => {
        if (segment.firstSequence < 0) segment.era = eraOf(place.epoch)
        segment.era = Math.min(segment.era, eraOf(place.epoch))
        // What was written anew after a failure may stand behind higher ones.
        segment.firstSequence =
          segment.firstSequence < 0 ? place.sequence : Math.min(segment.firstSequence, place.sequence)
        segment.lastSequence = Math.max(segment.lastSequence, place.sequence)
        // A block that has it may be torn: that is found when it is read.
        if (body !== undefined) segment.hasBodies = segment.isDoneHere = true
        if (!this.#see(place.sequence)) {
          if (body === undefined || !this.#bodiless.delete(place.sequence)) return
          segment.live++
          this.#bodiesHere.add(place.sequence)
          return
        }
        if (place.skipMask !== 0) this.#countSkipped(place)
        const topic = this.#topics.get(topicNumber)
        if (place.skipMask === ALL_REMOTES) return
        if (topic === undefined || !this.#epochIds.has(place.epoch)) {
          this.#nameless.push(place)
          return
        }
        if (this.#feeds.every(feed => feed.isDone(topic, queueId, place))) return
        segment.live++
        this.#queue(topic, queueId).leftovers.push({ place, body })
      },
    })
    this.#segments.push(segment)
    if (!read.headerWhole && bytes.length > 0)
      this.#environment.log.warn(
        { segment: name },
        'journal segment has a damaged header: its records are read all the same',
      )
    if (read.tornBytes > 0)
      this.#environment.log.warn({ segment: name, bytes: read.tornBytes }, 'journal segment ends in a torn record')
    for (const { at, bytes: length } of read.damaged) {
      this.#environment.log.error(
        { segment: name, at, bytes: length },
        'journal segment is damaged: what is whole behind it is used',
      )
      await this.#keepAside(`damaged-${name}-${at}`, bytes.subarray(at, at + Math.min(length, KEPT_DAMAGE)))
    }
  }

  /** A disk that does not take it does not stop the start. */
  async #keepAside(name: string, bytes: Buffer): Promise<void> {
    const { fileSystem, log } = this.#environment
    await fileSystem
      .replace(`${this.#folder}/${name}`, bytes)
      .catch(error => log.warn({ file: name, err: error }, 'what is damaged could not be kept aside'))
  }

  async #read(name: string): Promise<Buffer> {
    return (await readWhole(this.#diskFiles, `${this.#folder}/${name}`)) ?? Buffer.alloc(0)
  }

  #queue(topic: string, queueId: number): QueueFound {
    const queues = this.#queues.get(topic) ?? new Map<number, QueueFound>()
    this.#queues.set(topic, queues)
    const queue = queues.get(queueId) ?? { blocks: [], leftovers: [] }
    queues.set(queueId, queue)
    return queue
  }

  /** False where it had been seen before. */
  #see(sequence: number): boolean {
    return sequence < this.#low || sequence > this.#high || this.#seen.add(sequence)
  }

  #countSkipped(place: Place): void {
    for (const feed of this.#feeds)
      if (feed.isSkipped(place) && feed.isBehindSlot(place.sequence)) feed.account.passedOver(place.skipReason)
  }

  /** Returns for each feed how many places that its cursor covers wait. */
  async #restore(): Promise<Map<Feed, number>> {
    const covered = new Map(this.#feeds.map(feed => [feed, 0]))
    const counted = (feed: Feed, sequence: number) => {
      if (!feed.isBehindSlot(sequence)) covered.set(feed, covered.get(feed)! + 1)
    }
    for (const [topic, queues] of this.#queues)
      for (const [queueId, { blocks, leftovers }] of queues) {
        const backlog = this.#backlog(topic, queueId)
        blocks.sort((a, b) => orderOf(a.header, b.header))
        leftovers.sort((a, b) => inOrder(a.place, b.place))
        let next = 0
        this.#ends.clear()
        for (const block of await this.#withoutTwins(blocks)) {
          // A page may have gone to disk before one that stands before it.
          for (; next < leftovers.length && isBefore(leftovers[next]!.place, block.header); next++)
            this.#restorePlace(backlog, leftovers[next]!, counted)
          await this.#restorePage(backlog, block, counted)
        }
        for (; next < leftovers.length; next++) this.#restorePlace(backlog, leftovers[next]!, counted)
      }
    return covered
  }

  /**
   * Of a block that an earlier start could not read, the places were taken from the segments, and are in a later block, too. Where
   * it is read again each of them counts in one of the two. Where it is damaged for good it is left out: what only it
   * had is missing by the cursors' counts.
   */
  async #withoutTwins(blocks: readonly FoundBlock[]): Promise<readonly FoundBlock[]> {
    this.#twice.clear()
    const left = new Set(blocks)
    const met = new Set<number>()
    for (const block of withPlacesInCommon(blocks)) {
      const read = await readBlockPlaces(this.#diskFiles, block)
      if (read === undefined) left.delete(block)
      const elsewhere = new Set<number>()
      for (const [at, { sequence }] of read?.places.entries() ?? []) {
        if (met.has(sequence)) {
          this.#twice.add(sequence)
          elsewhere.add(at)
        } else met.add(sequence)
      }
      block.elsewhere = elsewhere
    }
    return [...left]
  }

  async #restorePage(
    backlog: Backlog,
    block: FoundBlock,
    counted: (feed: Feed, sequence: number) => void,
  ): Promise<void> {
    const { header, location, file, elsewhere } = block
    const { topic, queueId, epoch, count, withBody, minSequence, maxSequence } = header
    const whole = this.#feeds.map(feed => wholePage(feed, header))
    if (whole.every(undone => undone === 'none')) return
    const isStraddled = this.#feeds.some(feed => !feed.isBehindSlot(minSequence) && feed.isBehindSlot(maxSequence))
    // Some stand behind higher offsets: those must not be taken for done with them.
    const isLate = header.late || backlog.isLate(epoch, header.minOffset)
    let read: BlockPlaces | undefined
    if (isStraddled || isLate || elsewhere !== undefined || whole.includes('some')) {
      read = await readBlockPlaces(this.#diskFiles, block)
      if (read === undefined) return
    }
    const done = this.#feeds.map((feed, index) =>
      read?.places.map(
        (place, at) =>
          elsewhere?.has(at) ||
          (whole[index] === 'some' ? feed.isDone(topic, queueId, place) : whole[index] === 'none'),
      ),
    )
    if (done.every((list, index) => list?.every(isDone => isDone) ?? whole[index] === 'none')) return
    const page = Page.stored(header, backlog.end, location)
    file.pages.set(page, backlog)
    if (header.keeps && withBody < count) this.#mayNeedKept.push(page)
    this.#waits(count, header.firstAckedAt)
    if (read !== undefined && done.some(list => list!.includes(true) && list!.includes(false)))
      page.loadPlaces(
        read.places,
        read.shapes.map(shape => shape !== undefined),
      )
    const late = (read?.places ?? []).map((place, at) =>
      elsewhere?.has(at) ? undefined : this.#comesBehind(backlog, place),
    )
    if (read === undefined) this.#hasUpTo(epoch, header.maxOffset)
    backlog.restore(page)
    this.#feeds.forEach((feed, index) => {
      const list = done[index]
      const reader = feed.lane(backlog).queue
      if (list === undefined) {
        if (whole[index] === 'none') return reader.restorePassed(page)
        feed.account.restored(withBody, count - withBody)
        for (let at = 0; at < count; at++) counted(feed, minSequence)
        return
      }
      read!.places.forEach((place, at) => {
        if (list[at]) return reader.restoreDone(page, at, place)
        feed.account.accepted(read!.shapes[at] !== undefined)
        counted(feed, place.sequence)
        // Where it counts no more it is passed as done, and the mark must not cover it.
        if (this.#isLate(feed, topic, queueId, place, late[at]) || this.#twice.has(place.sequence))
          reader.expectLate(epoch, place.queueOffset)
      })
    })
  }

  #restorePlace(backlog: Backlog, { place, body }: Leftover, counted: (feed: Feed, sequence: number) => void): void {
    const { topic, queueId } = backlog
    this.#waits(1, place.ackedAt)
    if (body !== undefined) backlog.memory.keepAnyway(body)
    const behind = this.#comesBehind(backlog, place)
    // Who has done it passes over it, as over one that is skipped for it.
    for (const feed of this.#feeds) {
      if (feed.isDone(topic, queueId, place)) place.skipMask |= feed.remote.bit
      else {
        feed.account.accepted(body !== undefined)
        counted(feed, place.sequence)
        if (this.#isLate(feed, topic, queueId, place, behind))
          feed.lane(backlog).queue.expectLate(place.epoch, place.queueOffset)
      }
    }
    backlog.push(place, body, body !== undefined)
  }

  #waits(count: number, ackedAt: number): void {
    this.#waiting += count
    this.#oldestAckedAt = Math.min(this.#oldestAckedAt ?? ackedAt, ackedAt)
  }

  #hasUpTo(epoch: number, queueOffset: number): void {
    this.#ends.set(epoch, Math.max(queueOffset + 1, this.#ends.get(epoch) ?? 0))
  }

  /** What a place comes behind, as it is put back: higher ones of its epoch, or of another one of its era. */
  #comesBehind(backlog: Backlog, { epoch, queueOffset }: Place): Behind {
    const behind = queueOffset < (this.#ends.get(epoch) ?? 0) ? 'its own' : undefined
    this.#hasUpTo(epoch, queueOffset)
    return behind ?? (backlog.isLate(epoch, queueOffset) ? 'others' : undefined)
  }

  /** Whether it comes behind higher ones: those that are done, or that wait before it. */
  #isLate(feed: Feed, topic: string, queueId: number, place: Place, behind: Behind): boolean {
    const { epoch, queueOffset, sequence } = place
    const mark = feed.mark(topic, queueId, epoch)
    const isPassed = mark !== undefined && (queueOffset < mark.mark || isAmong(mark.done, queueOffset))
    if (!isPassed && behind === undefined) return false
    // Acked after the cursor was written: it does not count it. What stands before it in another epoch, its source has lost.
    if ((isPassed || behind === 'its own') && feed.isBehindSlot(sequence)) feed.account.totals.reordered++
    return true
  }

  #account(covered: ReadonlyMap<Feed, number>): void {
    for (const [feed, found] of covered) {
      feed.foundWaiting(found)
      const gone = feed.slotSequence === undefined ? 0 : this.#seen.missing(feed.slotSequence, this.#high + 1)
      const isMissing = (place: Place) => feed.isBehindSlot(place.sequence) && !feed.isSkipped(place)
      feed.missing(gone + this.#nameless.filter(isMissing).length)
    }
  }
}

type Behind = 'its own' | 'others' | undefined

type Stretch = Pick<ScannedBlock['header'], 'epoch' | 'minOffset' | 'maxOffset' | 'minSequence'>

/**
 * In the order of release, nearly: what came late went behind higher offsets. Of two epochs of one era that have offsets in common one has what the
 * source has lost: the later one came behind it.
 */
function orderOf(a: Stretch, b: Stretch): number {
  const eras = eraOf(a.epoch) - eraOf(b.epoch)
  if (eras !== 0) return eras
  const overlap = a.minOffset <= b.maxOffset && b.minOffset <= a.maxOffset
  const offsets = overlap && a.epoch !== b.epoch ? 0 : a.maxOffset - b.maxOffset
  return offsets || a.minSequence - b.minSequence
}

/**
 * Blocks that may have a place in common with another one, by their lowest offsets: stretches of both their offsets and their sequences
 * meet. (Those of their offsets alone meet wherever one message was late.)
 */
function withPlacesInCommon(blocks: readonly FoundBlock[]): Set<FoundBlock> {
  const found = new Set<FoundBlock>()
  const rising = [...blocks].sort((a, b) => a.header.epoch - b.header.epoch || a.header.minOffset - b.header.minOffset)
  let before: FoundBlock[] = []
  for (const block of rising) {
    const { epoch, minOffset, minSequence, maxSequence } = block.header
    before = before.filter(({ header }) => header.epoch === epoch && header.maxOffset >= minOffset)
    for (const one of before)
      if (one.header.minSequence <= maxSequence && minSequence <= one.header.maxSequence) found.add(one).add(block)
    before.push(block)
  }
  return found
}

function isBefore({ epoch, queueOffset, sequence }: Place, header: Stretch): boolean {
  // Acked after what stands in the block was released: it went behind that.
  if (epoch === header.epoch && header.minOffset < queueOffset && queueOffset < header.maxOffset) return false
  return orderOf({ epoch, minOffset: queueOffset, maxOffset: queueOffset, minSequence: sequence }, header) < 0
}

/** Whether a feed has to do all messages of a page, none, or it takes a look at each to tell. */
function wholePage(feed: Feed, header: ScannedBlock['header']): 'all' | 'none' | 'some' {
  const { topic, queueId, epoch, minOffset, maxOffset, minSequence, maxSequence, skips } = header
  if (skips) return 'some'
  if (feed.isBehindSlot(minSequence)) return 'all'
  const mark = feed.mark(topic, queueId, epoch)
  if (feed.isFromBefore(maxSequence)) return 'none'
  if (mark === undefined) return 'all'
  if (mark.done.length > 0 || mark.late.length > 0) return 'some'
  if (minOffset >= mark.mark) return 'all'
  return maxOffset < mark.mark && !feed.isBehindSlot(maxSequence) ? 'none' : 'some'
}
