// The journal of a source broker: the place of each acked message, written before the ack is relayed.
//
// What gathers while the loop reads its sockets goes to the disk in one append; who waits for it is told when that has
// returned, with `journalAck=fsync` when it is synced.
//
// A storage failure does not stop the local path: who waits is told all the same, and the failure is counted and said. What
// was not synced is in doubt, and is written anew to a fresh file, once a second, until that is synced. A place that is
// read twice is one message.
//
// It knows how much is not done in each of its segments, and forgets a segment when nothing in it is left to do and the
// cursors say so. It knows no lane, no remote, and not what a message is.

import { basename } from 'node:path'
import { crc32 } from 'node:zlib'
import type { Body } from './body.ts'
import type { Environment } from './environment.ts'
import type { Epoch } from './epoch.ts'
import {
  EPOCH_RECORD_BYTES,
  encodeEpoch,
  encodePlace,
  encodePlaceWithBody,
  encodeTopic,
  eraOf,
  PLACE_BYTES,
  type Place,
  placeWithBodyBytes,
  topicRecordBytes,
} from './place.ts'
import { PlaceFile, type PlaceFileEvents } from './place-file.ts'
import { encodeSegmentHeader, parseSegmentName, segmentName } from './segment.ts'

/** Milliseconds from an append to its sync, at most. */
const SYNC_DELAY = 100
/** Milliseconds between two tries after a failure. */
const RETRY_DELAY = 1_000
/** A sync for which nobody waits may take so much longer than a write. */
const PATIENCE = 10
/** Bytes in doubt that are kept to be written anew; what exceeds it is in memory only, as places of messages that wait. */
const DOUBT_BYTES_MAX = 32 * 1024 * 1024
const SLAB_BYTES = 256 * 1024

export interface JournalOptions {
  /** Who waits is told when a place is written, or when it is synced. */
  ack: 'append' | 'fsync'
  /** A segment is ended when it is longer than this. */
  segmentBytes: number
  /** Milliseconds after which a write or sync that somebody waits for counts as failed. */
  stallTimeout: number
  /** What is done with a segment that has bodies, in place of removing it. */
  keep(path: string, firstSequence: number): Promise<void>
  /** That, or removing it, failed: it is tried again at the next checkpoint. */
  notRemoved(error: Error): void
}

/** A stretch of sequences, in one file or, after a failure, several. */
interface Segment {
  paths: string[]
  bytes: number
  firstSequence: number
  lastSequence: number
  /** Places in it that are not done. */
  live: number
  /** Lowest era of its places. */
  era: number
  /** Whether it has bodies, and whether anything in it was done before a block had it. */
  hasBodies: boolean
  isDoneHere: boolean
}

/** Bytes of a segment of which it is not known whether they are on the disk. */
interface Doubt {
  segment: Segment
  bytes: Buffer[]
}

/** Of a segment that has none yet. */
export const NO_PLACES = {
  firstSequence: -1,
  lastSequence: -1,
  live: 0,
  era: 0,
  hasBodies: false,
  isDoneHere: false,
}

export type RecoveredSegment = Omit<Segment, 'paths'> & { path: string }

export interface JournalStart {
  sequence: number
  nextSegmentId: number
  /** By topic number. */
  topics: ReadonlyMap<number, string>
  /** By ordinal. */
  epochIds: Map<number, string>
  /** Those with places that are not done. */
  segments: readonly RecoveredSegment[]
  /** Places that wait, and that a block has without their bodies, which are in segments still. */
  bodiesHere: ReadonlySet<number>
}

export class Journal {
  readonly #environment: Environment
  readonly #folder: string
  readonly #options: JournalOptions
  readonly #salt: number
  /** Told of each append and sync: seconds it took. */
  onAppend: (seconds: number) => void = () => {}
  onSync: (seconds: number) => void = () => {}
  /** Called when places begin to be in memory only, and when all of them are on the disk again. */
  onFailure: (fails: boolean) => void = () => {}
  /** Called when what was appended so far begins to be written; what it gives back is called when that is done. */
  onFlush: () => () => void = () => () => {}
  errors = 0
  nextSegmentId = 1
  sequence = 0
  epochIds = new Map<number, string>()

  #segments: Segment[] = []
  /** As `JournalStart` has them. */
  readonly #bodiesHere = new Set<number>()
  readonly #segmentOf = new Map<PlaceFile, Segment>()
  #current: Segment | undefined
  #file: PlaceFile | undefined
  /** Made in time, so that nobody waits for it. */
  #next: PlaceFile | undefined
  #preparing = false
  readonly #topics = new Map<string, number>()
  readonly #topicNames = new Map<number, string>()
  // What gathers: encoded records from #start to #end, and how many are places.
  #slab = Buffer.allocUnsafeSlow(SLAB_BYTES)
  #start = 0
  #end = 0
  #gathered = 0
  #gatheredEra = 0
  #gatheredBodies = false
  #flushScheduled = false
  #cancelSync: (() => void) | undefined
  #ending: Promise<unknown> = Promise.resolve()
  #doubts: Doubt[] = []
  #doubtBytes = 0
  #rewriting = false
  #cancelRetry: (() => void) | undefined
  #failed = false
  #closed = false
  readonly #events: PlaceFileEvents = {
    appended: seconds => this.onAppend(seconds),
    synced: seconds => this.onSync(seconds),
    failed: (file, operation, error, inDoubt) => this.#left(file, operation, error, inDoubt),
  }

  constructor(environment: Environment, folder: string, options: JournalOptions) {
    this.#environment = environment
    this.#folder = folder
    this.#options = options
    this.#salt = Number.parseInt(environment.randomId(4), 16)
  }

  /** Whether places may be in memory only. */
  get failed(): boolean {
    return this.#failed
  }

  get counts(): { bytes: number; files: number } {
    let bytes = 0
    let files = 0
    for (const segment of this.#segments) {
      bytes += segment.bytes
      files += segment.paths.length
    }
    return { bytes, files }
  }

  /** Topics with their numbers. */
  get topics(): [number: number, name: string][] {
    return [...this.#topicNames]
  }

  /** Lowest era of which there is a place on disk, or on its way there; undefined where there is none. */
  get oldestEra(): number | undefined {
    let oldest = this.#gathered > 0 ? this.#gatheredEra : undefined
    for (const { era, lastSequence } of this.#segments)
      if (lastSequence >= 0 && (oldest === undefined || era < oldest)) oldest = era
    return oldest
  }

  /** Of those older than the newest so many in which something is left to do: how far their sequences go. */
  oldestBeyond(segments: number): number | undefined {
    return this.#segments.at(-segments - 1)?.lastSequence
  }

  /** Those with bodies. */
  get pathsWithBodies(): string[] {
    return this.#segments.flatMap(({ hasBodies, paths }) => (hasBodies ? paths : []))
  }

  /** Goes on from what recovery found. */
  async open({ sequence, nextSegmentId, topics, epochIds, segments, bodiesHere }: JournalStart): Promise<void> {
    this.sequence = sequence
    for (const one of bodiesHere) this.#bodiesHere.add(one)
    this.nextSegmentId = nextSegmentId
    this.epochIds = epochIds
    for (const [number, name] of topics) this.#nameTopic(number, name)
    for (const { path, ...segment } of [...segments].sort((a, b) => a.firstSequence - b.firstSequence)) {
      const last = this.#segments.at(-1)
      // What was in doubt after a failure was written anew: which of the two has a place is not known here, so they go together.
      if (last !== undefined && segment.firstSequence >= 0 && segment.firstSequence <= last.lastSequence) {
        last.paths.push(path)
        last.bytes += segment.bytes
        last.live += segment.live
        last.lastSequence = Math.max(last.lastSequence, segment.lastSequence)
        last.era = Math.min(last.era, segment.era)
        last.hasBodies ||= segment.hasBodies
        last.isDoneHere ||= segment.isDoneHere
      } else this.#segments.push({ ...segment, paths: [path] })
    }
    await this.#prepare()
  }

  /** Names an epoch; it is in the journal before the first place of it. */
  beginEpoch({ ordinal, id }: Epoch): void {
    this.epochIds.set(ordinal, id)
    this.#room(EPOCH_RECORD_BYTES)
    this.#end = encodeEpoch(this.#slab, this.#end, this.#salt, ordinal, id)
  }

  /** Adds a place, with its body where that is given; it is written with what else comes in this turn. Sets its sequence. */
  append(topic: string, queueId: number, place: Place, body?: Body): void {
    let topicNumber = this.#topics.get(topic)
    if (topicNumber === undefined) {
      topicNumber = this.#numberOf(topic)
      this.#nameTopic(topicNumber, topic)
      const name = Buffer.from(topic)
      this.#room(topicRecordBytes(name))
      this.#end = encodeTopic(this.#slab, this.#end, this.#salt, topicNumber, name)
    }
    place.sequence = this.sequence++
    const era = eraOf(place.epoch)
    if (this.#gathered++ === 0 || era < this.#gatheredEra) this.#gatheredEra = era
    if (body === undefined) {
      this.#room(PLACE_BYTES)
      this.#end = encodePlace(this.#slab, this.#end, this.#salt, place, topicNumber, queueId)
    } else {
      this.#gatheredBodies = true
      this.#room(placeWithBodyBytes(body))
      this.#end = encodePlaceWithBody(this.#slab, this.#end, this.#salt, place, body, topicNumber, queueId)
    }
    if (this.#flushScheduled) return
    this.#flushScheduled = true
    this.#environment.clock.soon(() => {
      this.#flushScheduled = false
      this.#flush()
    })
  }

  /**
   * A number that hardly another topic ever has, in whichever process: where the record of a name is lost, its places must
   * not be taken for those of another.
   */
  #numberOf(topic: string): number {
    let number = crc32(topic)
    while (this.#topicNames.has(number)) number = (number + 1) >>> 0
    return number
  }

  #nameTopic(number: number, name: string): void {
    this.#topics.set(name, number)
    this.#topicNames.set(number, name)
  }

  /** A place is done. */
  done(sequence: number): void {
    const segment = this.#needsNoMore(sequence)
    if (segment !== undefined) segment.isDoneHere = true
  }

  /** A place is safe in a synced block, and needs no more of the journal. */
  folded(sequence: number): void {
    this.#needsNoMore(sequence)
  }

  /** A place that was folded before is done: its segment may have its body still. */
  doneInBlock(sequence: number): void {
    if (this.#bodiesHere.size > 0 && this.#bodiesHere.delete(sequence)) this.done(sequence)
  }

  /** The segment that has it. */
  #needsNoMore(sequence: number): Segment | undefined {
    const segment = this.#segments.find(({ lastSequence }) => sequence <= lastSequence)
    if (segment !== undefined && sequence >= segment.firstSequence) segment.live--
    return segment
  }

  /**
   * Syncs what is written, then runs `writeCursors`, then deletes the segments that had nothing left to do when this was
   * called. The cursors must say what is done as of the call: in both slots where there are such segments, for one of the
   * two may be damaged, and what the other says to wait must be found.
   */
  async checkpoint(writeCursors: (areSegmentsNeedless: boolean) => Promise<void>): Promise<void> {
    const needless = this.#segments.filter(segment => segment.live === 0 && segment !== this.#current)
    await this.sync()
    try {
      await writeCursors(needless.length > 0)
    } catch (error) {
      this.errors++
      throw error
    }
    for (const segment of needless) {
      this.#forgetDoubts(segment)
      // Where blocks had all of it they are kept.
      const isKept = segment.hasBodies && segment.isDoneHere
      try {
        for (const path of segment.paths)
          if (isKept) await this.#options.keep(path, segment.firstSequence)
          else await this.#environment.fileSystem.remove(path)
      } catch (error) {
        this.#options.notRemoved(error as Error)
        continue
      }
      const at = this.#segments.indexOf(segment)
      if (at >= 0) this.#segments.splice(at, 1)
    }
  }

  /** Resolves when what is written so far is synced, or has failed. */
  async sync(): Promise<void> {
    this.#flush()
    // What gathered while an append was out goes with the next.
    for (let writes = 0; writes < 2 && this.#file?.isBusy; writes++) {
      await this.#file.idle
      this.#flush()
    }
    await Promise.all([this.#file?.sync(), this.#ending])
  }

  async close(): Promise<void> {
    await this.sync()
    this.#closed = true
    this.#cancelSync?.()
    this.#cancelRetry?.()
    const next = this.#next
    this.#next = undefined
    await Promise.all([this.#file?.end(), next?.end(), this.#ending])
    if (next !== undefined) await this.#environment.fileSystem.remove(next.path).catch(() => {})
  }

  #room(bytes: number): void {
    if (this.#end + bytes <= this.#slab.length) return
    const gathered = this.#slab.subarray(this.#start, this.#end)
    // What was handed on stays as it is: it may have to be written anew.
    this.#slab = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, (gathered.length + bytes) * 2))
    this.#start = 0
    this.#end = gathered.copy(this.#slab)
  }

  #flush(): void {
    // What gathers while an append is out goes with the next.
    if (this.#end === this.#start || this.#file?.isBusy) return
    const told = this.onFlush()
    const bytes = this.#slab.subarray(this.#start, this.#end)
    this.#start = this.#end
    const segment = this.#segment()
    const file = this.#file
    if (this.#gathered > 0) {
      if (segment.firstSequence < 0) {
        segment.firstSequence = this.sequence - this.#gathered
        segment.era = this.#gatheredEra
      }
      segment.era = Math.min(segment.era, this.#gatheredEra)
      segment.lastSequence = this.sequence - 1
      segment.live += this.#gathered
      segment.hasBodies ||= this.#gatheredBodies
      this.#gathered = 0
      this.#gatheredBodies = false
    }
    segment.bytes += bytes.length
    if (file === undefined) {
      this.#doubt(segment, [bytes])
      return told()
    }
    const head = file.bytes === 0 ? this.#prologue(file.path) : undefined
    file.append(bytes, head, () => {
      if (this.#options.ack === 'fsync') void file.sync().then(told)
      else told()
      this.#syncSoon()
      if (!this.#flushScheduled) this.#flush()
    })
  }

  #syncSoon(): void {
    this.#cancelSync ??= this.#environment.clock.after(SYNC_DELAY, () => {
      this.#cancelSync = undefined
      void this.#file?.sync()
    })
  }

  /** The segment that is written to; it ends where it is long enough and the next file is there. */
  #segment(): Segment {
    const current = this.#current
    const mayGoOn = this.#file !== undefined && current !== undefined && current.bytes < this.#options.segmentBytes
    if (current !== undefined && (mayGoOn || this.#next === undefined)) return current
    const ended = this.#file
    if (ended !== undefined) {
      const end = ended.end().then(() => this.#segmentOf.delete(ended))
      this.#ending = Promise.all([this.#ending, end])
    }
    this.#file = this.#next
    this.#next = undefined
    const paths = this.#file === undefined ? [] : [this.#file.path]
    this.#current = {
      paths,
      bytes: 0,
      ...NO_PLACES,
    }
    if (this.#file !== undefined) this.#segmentOf.set(this.#file, this.#current)
    this.#segments.push(this.#current)
    // After a failure the retry makes it: a full disk must not cost a file a turn.
    if (!this.#failed) void this.#prepare()
    return this.#current
  }

  /** Makes the next file. */
  async #prepare(): Promise<void> {
    if (this.#preparing || this.#next !== undefined || this.#closed) return
    this.#preparing = true
    try {
      const file = await this.#create()
      if (this.#closed) await file.end()
      else this.#next = file
    } catch (error) {
      this.#fail('create', error as Error)
      this.#retrySoon()
    } finally {
      this.#preparing = false
    }
  }

  #nextPath(): string {
    return `${this.#folder}/${segmentName({ id: this.nextSegmentId++, salt: this.#salt })}`
  }

  async #create(): Promise<PlaceFile> {
    const path = this.#nextPath()
    // A disk that is full may not take the places of what is acked meanwhile: theirs is set aside.
    const { fileSystem } = this.#environment
    // Not all of a small disk: cursors need some, too.
    const free = await fileSystem.freeBytes(this.#folder)
    const file = await fileSystem.create(path, Math.min(this.#options.segmentBytes, Math.floor(free / 8)))
    const { ack, stallTimeout } = this.#options
    const timeouts = { write: stallTimeout, sync: ack === 'fsync' ? stallTimeout : stallTimeout * PATIENCE }
    return new PlaceFile(this.#environment, path, file, timeouts, this.#events)
  }

  /** What a file begins with: its header, and every name that its places use. */
  #prologue(path: string): Buffer {
    const parts = [encodeSegmentHeader(parseSegmentName(basename(path))!)]
    for (const [ordinal, epochId] of this.epochIds) {
      const record = Buffer.alloc(EPOCH_RECORD_BYTES)
      encodeEpoch(record, 0, this.#salt, ordinal, epochId)
      parts.push(record)
    }
    for (const [topic, number] of this.#topics) {
      const name = Buffer.from(topic)
      const record = Buffer.alloc(topicRecordBytes(name))
      encodeTopic(record, 0, this.#salt, number, name)
      parts.push(record)
    }
    return Buffer.concat(parts)
  }

  // Failure

  /** A file has failed. */
  #left(file: PlaceFile, operation: string, error: Error, inDoubt: Buffer[]): void {
    this.#fail(operation, error)
    if (this.#next === file) this.#next = undefined
    const segment = this.#segmentOf.get(file)
    this.#segmentOf.delete(file)
    if (this.#file === file) this.#file = undefined
    if (segment !== undefined && inDoubt.length > 0) this.#doubt(segment, inDoubt)
    else this.#retrySoon()
  }

  #doubt(segment: Segment, bytes: Buffer[]): void {
    const last = this.#doubts.at(-1)
    if (last?.segment === segment) last.bytes.push(...bytes)
    else this.#doubts.push({ segment, bytes })
    this.#doubtBytes += lengthOf(bytes)
    while (this.#doubtBytes > DOUBT_BYTES_MAX) {
      const [oldest] = this.#doubts as [Doubt]
      this.#doubtBytes -= oldest.bytes.shift()?.length ?? 0
      if (oldest.bytes.length === 0) this.#doubts.shift()
    }
    this.#retrySoon()
  }

  /** These bytes of a segment, or all of it, are not in doubt any more. */
  #forgetDoubts(segment: Segment, written?: ReadonlySet<Buffer>): void {
    for (const doubt of this.#doubts)
      if (doubt.segment === segment)
        doubt.bytes = written === undefined ? [] : doubt.bytes.filter(bytes => !written.has(bytes))
    this.#doubts = this.#doubts.filter(({ bytes }) => bytes.length > 0)
    this.#doubtBytes = this.#doubts.reduce((sum, { bytes }) => sum + lengthOf(bytes), 0)
  }

  #retrySoon(): void {
    if (this.#closed || this.#rewriting) return
    this.#cancelRetry ??= this.#environment.clock.after(RETRY_DELAY, () => {
      this.#cancelRetry = undefined
      void this.#rewrite()
    })
  }

  /** Writes what is in doubt anew; then places go to the disk again. */
  async #rewrite(): Promise<void> {
    this.#rewriting = true
    try {
      // With a file for what comes, or it would be in doubt at once.
      while (this.#doubts.length > 0 || (this.#file === undefined && this.#next === undefined)) {
        if (this.#doubts.length === 0) {
          await this.#prepare()
          if (this.#file === undefined && this.#next === undefined) break
          continue
        }
        const { segment, bytes } = this.#doubts[0]!
        const whole = [...bytes]
        const path = await this.#writeWhole(whole)
        this.#forgetDoubts(segment, new Set(whole))
        if (this.#segments.includes(segment)) segment.paths.push(path)
        // Meanwhile all in it was done.
        else await this.#environment.fileSystem.remove(path)
      }
      if (this.#next !== undefined || this.#file !== undefined) this.#recovered()
    } catch (error) {
      this.#fail('append', error as Error)
    }
    this.#rewriting = false
    if (this.#failed || this.#doubts.length > 0) this.#retrySoon()
  }

  async #writeWhole(bytes: readonly Buffer[]): Promise<string> {
    const { fileSystem } = this.#environment
    const path = this.#nextPath()
    const file = await fileSystem.create(path)
    try {
      await file.append(Buffer.concat([this.#prologue(path), ...bytes]))
      await file.sync()
      return path
    } catch (error) {
      await fileSystem.remove(path).catch(() => {})
      throw error
    } finally {
      await file.close().catch(() => {})
    }
  }

  #fail(operation: string, error: Error): void {
    this.errors++
    if (this.#failed) return
    this.#failed = true
    this.onFailure(true)
    this.#environment.log.error(
      { operation, err: error, folder: this.#folder },
      'journal failure: places are in memory only until it writes again',
    )
  }

  #recovered(): void {
    if (!this.#failed) return
    this.#failed = false
    this.onFailure(false)
    this.#environment.log.info({ folder: this.#folder }, 'the journal writes again: what was in doubt is on the disk')
  }
}

function lengthOf(bytes: readonly Buffer[]): number {
  let length = 0
  for (const part of bytes) length += part.length
  return length
}
