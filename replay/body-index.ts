// Where bodies that may not be had again are in files of places and of blocks, found out when it is first asked for.
//
// Of each file it is known between which offsets of which queues it has some: 24 bytes for each queue in it. Which of its bytes are of
// which queue takes a hundred times as much, and is known of the files that were read last only.
//
// It reads; which files there are, and which of what it finds is the right one, others decide.

import { basename } from 'node:path'
import { decodeBlockBodies, decodeBlockHeader, decodeBlockPlaces } from './block.ts'
import { parseBlockFileName, scanBlockFile } from './block-file.ts'
import type { Body } from './body.ts'
import { type Clock, sleep } from './clock.ts'
import { type JournalRecord, type Place, queueOf } from './place.ts'
import type { ReadableFiles } from './readable-files.ts'
import { parseSegmentName, recordsIn, SEGMENT_HEADER_BYTES } from './segment.ts'

/** Files of which it is known which of their bytes are of which queue. */
const FILES_IN_DETAIL = 4
/** Records of one queue that stand nearer to each other than this are read at once. */
const STRETCH_BYTES = 1024 * 1024
/** Bytes of a segment that are looked through in one turn of the loop, and files that are known in one. */
const TURN_BYTES = 512 * 1024
const TURN_FILES = 64
/** Numbers of a range: the queue's, lowest and highest offset. */
const RANGE = 3

export interface KeptBody {
  /** As it was acked. */
  place: Place
  body: Body
}

/** Offsets of one queue and epoch, both ends included. */
export interface Offsets {
  minOffset: number
  maxOffset: number
}

/** Bytes of a file with records, or one block, of one queue and epoch. */
export interface Stretch extends Offsets {
  at: number
  bytes: number
}

interface State {
  /** Up to here it was looked through. */
  readTo: number
  isDamaged: boolean
  /** It does not end in a whole record or block: cut off, damaged, or being written. */
  isTorn: boolean
}

interface Outline extends State {
  /** Nothing is written to it any more, and all of it was looked through. */
  isFinal: boolean
  ranges: Float64Array
}

interface Detail extends State {
  /** By queue and epoch. */
  stretches: Map<string, Stretch[]>
  /** As a segment names them. */
  topics: Map<number, string>
  epochIds: Map<number, string>
}

export class BodyIndex {
  readonly #clock: Clock
  readonly #files: ReadableFiles
  /** Numbers of queues and epochs. */
  readonly #keys = new Map<string, number>()
  /** By name; `nameOf` gives the same for a file that got another. */
  readonly #nameOf: (path: string) => string
  readonly #outlines = new Map<string, Outline>()
  /** The one that was read last is the last. */
  readonly #details = new Map<string, Detail>()
  #known = 0

  constructor(clock: Clock, files: ReadableFiles, nameOf: (path: string) => string) {
    this.#clock = clock
    this.#files = files
    this.#nameOf = nameOf
  }

  /** Between which offsets a file has bodies of a queue and epoch, and whether it may have had more. */
  async outline(path: string): Promise<{ mayMiss: boolean; offsets(key: string): Offsets | undefined }> {
    const outline = await this.#outline(path)
    return {
      mayMiss: outline.isDamaged || outline.isTorn,
      offsets: key => this.#offsetsIn(outline, key),
    }
  }

  /** Parts of a file that have bodies of a queue and epoch. */
  async stretches(path: string, key: string): Promise<readonly Stretch[]> {
    return (await this.#detail(path)).stretches.get(key) ?? []
  }

  /**
   * What a part of a file has of a queue and epoch; undefined where it is damaged. Of a segment others' records are passed over by what
   * they say of their length, if that is to be quick: where one is damaged this misses what stands behind it.
   */
  async read(path: string, { at, bytes }: Stretch, key: string, isQuick: boolean): Promise<KeptBody[] | undefined> {
    const read = await this.#files.readAt(path, at, bytes)
    const name = this.#nameOf(path)
    const segment = parseSegmentName(name)
    const found: KeptBody[] = []
    if (segment !== undefined) {
      const detail = await this.#detail(path)
      for (const { record } of recordsIn(read, segment.salt, 0, read.length, isQuick ? queueOf(read, 0) : undefined))
        if (record.kind === 'place' && record.body !== undefined && recordKey(detail, record) === key)
          found.push({ place: record.place, body: record.body })
      return found
    }
    const { salt } = parseBlockFileName(name)!
    const header = decodeBlockHeader(read, salt)
    const places = header && decodeBlockPlaces(read, header, salt)
    const bodies = places && decodeBlockBodies(read, header!, places, salt)
    bodies?.forEach((body, index) => {
      if (body !== undefined) found.push({ place: places!.places[index]!, body })
    })
    return bodies && found
  }

  forget(name: string): void {
    this.#outlines.delete(name)
    this.#details.delete(name)
  }

  clear(): void {
    this.#outlines.clear()
    this.#details.clear()
    this.#keys.clear()
  }

  #offsetsIn({ ranges }: Outline, key: string): Offsets | undefined {
    const number = this.#keys.get(key)
    for (let at = 0; at < ranges.length; at += RANGE)
      if (ranges[at] === number) return { minOffset: ranges[at + 1]!, maxOffset: ranges[at + 2]! }
    return undefined
  }

  async #outline(path: string): Promise<Outline> {
    const name = this.#nameOf(path)
    const known = this.#outlines.get(name)
    if (known?.isFinal && ++this.#known % TURN_FILES === 0) await sleep(this.#clock, 0)
    if (known !== undefined && (known.isFinal || !(await this.#hasMore(path, known.readTo)))) {
      known.isFinal = name !== basename(path)
      return known
    }
    const { readTo, isDamaged, isTorn, stretches } = await this.#detail(path, true)
    const ranges: number[] = []
    for (const [key, parts] of stretches) {
      const minOffset = parts.reduce((min, part) => Math.min(min, part.minOffset), Number.POSITIVE_INFINITY)
      const maxOffset = parts.reduce((max, part) => Math.max(max, part.maxOffset), Number.NEGATIVE_INFINITY)
      ranges.push(this.#numberOf(key), minOffset, maxOffset)
    }
    const isFinal = name !== basename(path)
    const outline = { readTo, isDamaged, isTorn, isFinal, ranges: Float64Array.from(ranges) }
    this.#outlines.set(name, outline)
    return outline
  }

  #numberOf(key: string): number {
    const known = this.#keys.get(key) ?? this.#keys.size
    this.#keys.set(key, known)
    return known
  }

  /** Whether anything was written behind what was looked through. Space that was set aside is zeros. */
  async #hasMore(path: string, readTo: number): Promise<boolean> {
    return (await this.#files.readAt(path, readTo, SEGMENT_HEADER_BYTES)).some(byte => byte !== 0)
  }

  /** As it was when it was last looked through; `isNewer`: from there on once more, for it may still be written to. */
  async #detail(path: string, isNewer = false): Promise<Detail> {
    const name = this.#nameOf(path)
    const known = this.#details.get(name)
    const detail = known ?? newDetail()
    if (known === undefined || isNewer) {
      const segment = parseSegmentName(name)
      if (segment !== undefined) await this.#lookThroughSegment(path, segment.salt, detail)
      else await this.#lookThroughBlocks(path, parseBlockFileName(name)!.salt, detail)
    }
    this.#details.delete(name)
    this.#details.set(name, detail)
    const [oldest] = this.#details.keys()
    if (this.#details.size > FILES_IN_DETAIL) this.#details.delete(oldest!)
    return detail
  }

  async #lookThroughSegment(path: string, salt: number, detail: Detail): Promise<void> {
    const start = detail.readTo
    const size = await this.#files.size(path)
    if (size <= start) return
    const bytes = await this.#files.readAt(path, start, size - start)
    let turnEnd = TURN_BYTES
    for (const { record, at, end } of recordsIn(bytes, salt)) {
      if (start + at > detail.readTo) detail.isDamaged = true
      detail.readTo = start + end
      if (record.kind === 'topic') detail.topics.set(record.topicNumber, record.name)
      else if (record.kind === 'epoch') detail.epochIds.set(record.ordinal, record.id)
      else if (record.body !== undefined) addRecord(detail, record, start + at, start + end)
      if (end < turnEnd) continue
      turnEnd = end + TURN_BYTES
      await sleep(this.#clock, 0)
    }
    const rest = bytes.subarray(detail.readTo - start)
    detail.isTorn = !rest.equals(Buffer.alloc(rest.length))
  }

  async #lookThroughBlocks(path: string, salt: number, detail: Detail): Promise<void> {
    if ((await this.#files.size(path)) <= detail.readTo) return
    let isCutOff = false
    const { damaged, tornBytes } = await scanBlockFile(
      this.#files,
      path,
      salt,
      ({ header, location: { at, bytes }, isCut }) => {
        isCutOff = isCut
        if (isCut) return
        detail.readTo = at + bytes
        if (!header.keeps) return
        const { minOffset, maxOffset } = header
        const key = keyOf(header.topic, header.queueId, header.epochId)
        stretchesOf(detail, key).push({ at, bytes, minOffset, maxOffset })
      },
      detail.readTo,
    )
    detail.isTorn = isCutOff || tornBytes > 0
    if (damaged.length > 0) detail.isDamaged = true
  }
}

function newDetail(): Detail {
  return {
    readTo: SEGMENT_HEADER_BYTES,
    isDamaged: false,
    isTorn: false,
    stretches: new Map(),
    topics: new Map(),
    epochIds: new Map(),
  }
}

type PlaceRecord = Extract<JournalRecord, { kind: 'place' }>

function addRecord(detail: Detail, record: PlaceRecord, at: number, end: number): void {
  const stretches = stretchesOf(detail, recordKey(detail, record))
  const { queueOffset } = record.place
  const last = stretches.at(-1)
  if (last === undefined || end - last.at > STRETCH_BYTES) {
    stretches.push({ at, bytes: end - at, minOffset: queueOffset, maxOffset: queueOffset })
    return
  }
  last.bytes = end - last.at
  last.minOffset = Math.min(last.minOffset, queueOffset)
  last.maxOffset = Math.max(last.maxOffset, queueOffset)
}

function stretchesOf({ stretches }: Detail, key: string): Stretch[] {
  const known = stretches.get(key)
  if (known !== undefined) return known
  const made: Stretch[] = []
  stretches.set(key, made)
  return made
}

function recordKey({ topics, epochIds }: Detail, { topicNumber, queueId, place }: PlaceRecord): string {
  return keyOf(topics.get(topicNumber) ?? '', queueId, epochIds.get(place.epoch) ?? '')
}

/** An epoch is known by its identity: its number may be given once more, where all cursors are lost. */
export function keyOf(topic: string, queueId: number, epochId: string): string {
  return `${topic}\n${queueId}\n${epochId}`
}
