// The journal of a source broker: the place of each acked message, written before the ack is relayed.
//
// What gathers while the loop reads its sockets goes to the disk in one append; who waits for it is called when that has
// returned. Synced at most 100 ms later. A storage failure does not stop the local path: who waits is called all the
// same, the failure is counted and said, and a fresh segment is tried once a second; what is not written is in memory only.
//
// It knows what is not done in each of its segments, and forgets a segment when nothing in it is left to do and the
// cursor says so. It does not know what a lane or a remote is.

import type { Environment } from './environment.ts'
import type { AppendFile } from './file-system.ts'
import { encodePlace, encodeTopic, PLACE_BYTES, type Place, topicRecordBytes } from './place.ts'
import {
  encodeSegmentHeader,
  isSegmentName,
  readSegment,
  SEGMENT_BYTES,
  type SegmentHeader,
  segmentId,
  segmentName,
} from './segment.ts'

/** Milliseconds from an append to its sync, at most. */
const SYNC_DELAY = 100
/** Milliseconds from a failed append to the next try: a full disk must not cost the loop a file a turn. */
const RETRY_DELAY = 1_000

interface Segment {
  path: string
  header: SegmentHeader
  bytes: number
  lastSequence: number
  /** Places in it that are not done. */
  live: number
}

export interface JournalCounts {
  bytes: number
  segments: number
  errors: number
}

export interface Recovered {
  /** Epochs by ordinal. */
  epochIds: Map<number, string>
  places: number
  tornBytes: number
}

export class Journal {
  readonly #environment: Environment
  readonly #folder: string
  /** Told of each append and sync: seconds it took. */
  onAppend: (seconds: number) => void = () => {}
  onSync: (seconds: number) => void = () => {}
  /** Called when all that was appended so far is written, or could not be. */
  onWritten: () => void = () => {}
  errors = 0
  /** The epoch that begins with this start of the gateway. */
  epoch = 1
  epochId = ''
  nextSegmentId = 1
  sequence = 0

  #segments: Segment[] = []
  #file: AppendFile | undefined
  #current: Segment | undefined
  #topics = new Map<string, number>()
  #buffer = Buffer.allocUnsafe(64 * 1024)
  #buffered = 0
  #flushing = false
  #dirty = false
  /** The next place begins a segment. */
  #startAfresh = false
  #failed = false
  #retryAt = 0
  #cancelSync: (() => void) | undefined
  #syncing: Promise<void> = Promise.resolve()

  constructor(environment: Environment, folder: string) {
    this.#environment = environment
    this.#folder = folder
  }

  /** Whether the last append or sync failed. */
  get failed(): boolean {
    return this.#failed
  }

  get counts(): JournalCounts {
    let bytes = 0
    for (const segment of this.#segments) bytes += segment.bytes
    return { bytes, segments: this.#segments.length, errors: this.errors }
  }

  /** The lowest epoch of which the journal holds anything. */
  get oldestEpoch(): number {
    return this.#segments[0]?.header.epoch ?? this.epoch
  }

  /**
   * Reads what is there, in the order in which it was written. `visit` says of each place whether it is still to be done.
   * Begins a new epoch.
   * Throws SegmentVersionError.
   */
  async open(
    from: { sequence: number; nextSegmentId: number; nextEpoch: number },
    visit: (topic: string, queueId: number, place: Place, header: SegmentHeader) => boolean,
  ): Promise<Recovered> {
    const { fileSystem, log, randomId } = this.#environment
    await fileSystem.makeFolder(this.#folder)
    const names = (await fileSystem.list(this.#folder)).filter(isSegmentName).sort()
    const recovered: Recovered = { epochIds: new Map(), places: 0, tornBytes: 0 }
    this.sequence = from.sequence
    this.epoch = from.nextEpoch
    this.nextSegmentId = from.nextSegmentId
    for (const name of names) {
      this.nextSegmentId = Math.max(this.nextSegmentId, segmentId(name) + 1)
      const path = `${this.#folder}/${name}`
      // A process that was killed may not have synced it, and the next slot counts on what is found here.
      await fileSystem.sync(path)
      const bytes = (await fileSystem.read(path)) ?? Buffer.alloc(0)
      let live = 0
      let lastSequence = -1
      const read = readSegment(bytes, (topic, queueId, place, header) => {
        lastSequence = place.sequence
        if (visit(topic, queueId, place, header)) live++
      })
      if (read === undefined) {
        // A start that was cut short leaves such a file empty; one with bytes is left for who looks into it.
        log.warn({ segment: name, bytes: bytes.length }, 'journal segment without a readable header is left alone')
        continue
      }
      if (lastSequence < 0) lastSequence = read.header.firstSequence - 1
      this.sequence = Math.max(this.sequence, lastSequence + 1)
      if (read.tornBytes > 0)
        log.warn({ segment: name, bytes: read.tornBytes }, 'journal segment ends in a torn record')
      recovered.places += live
      recovered.tornBytes += read.tornBytes
      recovered.epochIds.set(read.header.epoch, read.header.epochId)
      this.epoch = Math.max(this.epoch, read.header.epoch + 1)
      this.#segments.push({ path, header: read.header, bytes: bytes.length, lastSequence, live })
    }
    this.epochId = randomId(6)
    recovered.epochIds.set(this.epoch, this.epochId)
    return recovered
  }

  /** Adds a place; it is written with what else comes in this turn of the loop. Its sequence is set here. */
  append(topic: string, queueId: number, place: Place): void {
    place.sequence = this.sequence++
    if (!this.#flushing) {
      this.#flushing = true
      this.#environment.clock.soon(() => this.flush())
    }
    const segment = this.#segment()
    let topicNumber = this.#topics.get(topic)
    if (topicNumber === undefined) {
      topicNumber = this.#topics.size
      this.#topics.set(topic, topicNumber)
      const name = Buffer.from(topic)
      this.#room(topicRecordBytes(name))
      this.#buffered = encodeTopic(this.#buffer, this.#buffered, segment.header.salt, topicNumber, name)
    }
    this.#room(PLACE_BYTES)
    this.#buffered = encodePlace(this.#buffer, this.#buffered, segment.header.salt, place, topicNumber, queueId)
    segment.live++
    segment.lastSequence = place.sequence
  }

  /** A place needs no more. */
  done(sequence: number): void {
    // One that was in memory only is in none of them.
    for (const segment of this.#segments) {
      if (sequence > segment.lastSequence) continue
      if (sequence >= segment.header.firstSequence) segment.live--
      return
    }
  }

  /**
   * Syncs what is written, then runs `writeCursor`, then deletes the segments that had nothing left to do when this was
   * called. The cursor must say what is done as of the call.
   */
  async checkpoint(writeCursor: () => Promise<void>): Promise<void> {
    const needless = this.#segments.filter(segment => segment.live === 0 && segment !== this.#current)
    await this.sync()
    await writeCursor()
    for (const segment of needless) {
      await this.#environment.fileSystem.remove(segment.path)
      this.#segments.splice(this.#segments.indexOf(segment), 1)
    }
  }

  /** Writes what was appended so far, now. */
  flush(): void {
    if (this.#buffered > 0) this.#write()
    if (!this.#flushing) return
    this.#flushing = false
    this.onWritten()
  }

  async sync(): Promise<void> {
    this.flush()
    this.#cancelSync?.()
    this.#cancelSync = undefined
    const file = this.#file
    if (file === undefined || !this.#dirty) return this.#syncing
    this.#dirty = false
    const started = performance.now()
    this.#syncing = this.#syncing
      .then(() => file.sync())
      .then(
        () => this.onSync((performance.now() - started) / 1000),
        error => {
          this.#fail('sync', error as Error)
          // What was not synced may be a hole now: places behind it would not be found.
          if (this.#file === file) this.#startAfresh = true
        },
      )
    return this.#syncing
  }

  async close(): Promise<void> {
    await this.sync()
    await this.#file?.close().catch(error => this.#fail('close', error as Error))
    this.#file = undefined
  }

  #segment(): Segment {
    const current = this.#current
    if (current !== undefined && !this.#startAfresh && current.bytes + this.#buffered < SEGMENT_BYTES) return current
    this.#startAfresh = false
    // What is buffered belongs to the segment that it was encoded for; who waits for it is called with the rest.
    if (this.#buffered > 0) this.#write()
    if (this.#file !== undefined) this.#endSegment()
    const header: SegmentHeader = {
      id: this.nextSegmentId++,
      salt: Number.parseInt(this.#environment.randomId(4), 16),
      epoch: this.epoch,
      epochId: this.epochId,
      firstSequence: this.sequence - 1,
    }
    const path = `${this.#folder}/${segmentName(header)}`
    this.#current = { path, header, bytes: 0, lastSequence: header.firstSequence, live: 0 }
    this.#topics = new Map()
    this.#buffered = encodeSegmentHeader(header).copy(this.#buffer)
    return this.#current
  }

  #endSegment(): void {
    const file = this.#file!
    this.#file = undefined
    this.#dirty = false
    this.#syncing = this.#syncing
      .then(() => file.sync())
      .finally(() => file.close())
      .catch(error => this.#fail('sync', error as Error))
  }

  #room(bytes: number): void {
    if (this.#buffered + bytes <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(this.#buffer.length * 2)
    this.#buffer.copy(larger, 0, 0, this.#buffered)
    this.#buffer = larger
  }

  #write(): void {
    const { clock, fileSystem } = this.#environment
    const bytes = this.#buffer.subarray(0, this.#buffered)
    this.#buffered = 0
    const segment = this.#current!
    if (clock.now() < this.#retryAt) {
      this.#current = undefined
      return
    }
    const started = performance.now()
    try {
      this.#file ??= fileSystem.create(segment.path)
      this.#file.append(bytes)
      if (segment.bytes === 0) this.#segments.push(segment)
      segment.bytes += bytes.length
      this.#failed = false
      this.#retryAt = 0
      this.onAppend((performance.now() - started) / 1000)
    } catch (error) {
      // Nothing is known of the file's end now, so nothing more goes into it.
      this.#fail('append', error as Error)
      this.#retryAt = clock.now() + RETRY_DELAY
      this.#current = undefined
      if (this.#file !== undefined) this.#endSegment()
      // Nothing of it counts, whatever came to the disk.
      if (segment.bytes === 0) fileSystem.remove(segment.path).catch(() => {})
      return
    }
    this.#dirty = true
    this.#cancelSync ??= this.#environment.clock.after(SYNC_DELAY, () => void this.sync())
  }

  #fail(operation: string, error: Error): void {
    this.errors++
    if (!this.#failed) {
      this.#environment.log.error(
        { operation, err: error, folder: this.#folder },
        'journal failure: places are in memory only until it writes again',
      )
    }
    this.#failed = true
  }
}
