// The journal of a source broker, read by a tool: nothing is written, nothing locked, whatever state it is in, and also
// while the gateway runs.
//
// Each place is given once, though it may stand in a segment, in a block, or in several. A gateway that runs appends
// meanwhile, moves places from segments to blocks, and deletes what is done. So blocks are read first, then segments, the
// newest first, then the blocks that have come meanwhile: what waited when this began, and still does, is found. What is
// half written is no damage: it is read again at the end.
//
// In memory is one segment or block at a time, and a bit for each place.

import { type BlockHeader, decodeBlockBodies, decodeBlockPlaces } from './block.ts'
import { parseBlockFileName, type ScannedBlock, scanBlockFile } from './block-file.ts'
import type { Body } from './body.ts'
import type { Environment } from './environment.ts'
import { type KeptFile, parseKeptFileName } from './kept-bodies.ts'
import type { Place } from './place.ts'
import { type ReadableFiles, readableFiles, readWhole, unlessGone } from './readable-files.ts'
import { type RemoteName, RemoteReading } from './remote-reading.ts'
import {
  type DamagedRange,
  listed,
  parseSegmentName,
  readSegment,
  SEGMENT_HEADER_BYTES,
  type SegmentName,
} from './segment.ts'
import { SequenceSet } from './sequence-set.ts'

/** A place, where it was found first. */
export interface JournalPlace {
  /** Undefined where the record of its name is lost. */
  topic: string | undefined
  queueId: number
  epochId: string | undefined
  place: Place
  where: 'places' | 'bodies'
  /** Whether its body is there, and whole where bodies are read. */
  hasBody: boolean
  /** Where bodies are read. */
  body: Body | undefined
}

/**
 * `header`: of a file. `records`: what is no record in a segment. `blocks`: what is no block in a file of them. `places`,
 * `bodies`: those of a block. `unreadable`: the disk does not give it.
 */
export type DamageKind = 'header' | 'records' | 'blocks' | 'places' | 'bodies' | 'unreadable'

export interface Damage extends DamagedRange {
  /** Its path in the broker's folder. */
  file: string
  kind: DamageKind
  /** Of a block: whose. */
  block?: { topic: string; queueId: number; epoch: number; messages: number; minOffset: number; maxOffset: number }
}

/** What was read of a segment, or of a block. */
export interface Batch {
  places: JournalPlace[]
  damage: Damage[]
}

interface FileReading {
  name: string
  bytes: number
  headerWhole: boolean
  /** At its end: half written when the process or the machine ended, or being written. */
  tornBytes: number
  epochs: Set<number>
}

export interface SegmentReading extends FileReading {
  /** Nothing is written to it yet. */
  isEmpty: boolean
  records: number
  places: number
  firstSequence: number
  lastSequence: number
  topics: Set<number>
}

export interface BlockFileReading extends FileReading {
  blocks: number
  compressedBlocks: number
  messages: number
  withBody: number
  /** Up to here it was read. */
  readTo: number
}

export type KeptFileReading = Pick<KeptFile, 'name' | 'since'> & { bytes: number }

type Visit = (batch: Batch) => void | Promise<void>

export class JournalReading {
  readonly remotes: readonly RemoteReading[]
  readonly segments: SegmentReading[] = []
  readonly blockFiles: BlockFileReading[] = []
  /** What is done, and kept for a while: its places are not read. */
  readonly keptFiles: KeptFileReading[] = []
  /** Files that are none of these: damage that was kept aside, and what nobody knows. */
  readonly otherFiles: string[] = []
  /** Sequences of which a record was found. */
  readonly seen = new SequenceSet()
  /** Behind the highest of them, without what came while this was reading. */
  end = 0
  readonly #files: ReadableFiles
  readonly #folder: string
  readonly #topics = new Map<number, string>()
  readonly #epochIds = new Map<number, string>()
  /** What the disk did not give, and is not said yet; and all that there was of it. */
  #unreadable: Damage[] = []
  readonly #knownUnreadable = new Set<string>()

  constructor({ fileSystem, clock }: Pick<Environment, 'fileSystem' | 'clock'>, folder: string, remotes: RemoteName[]) {
    this.#folder = folder
    this.#files = readableFiles(fileSystem, (path, at, bytes) => this.#notRead(path, at, bytes))
    this.remotes = remotes.map(remote => new RemoteReading(this.#files, clock, folder, remote))
  }

  /** Throws SegmentVersionError, SlotVersionError, and where the folder cannot be read. */
  async read(visit: Visit, { bodies }: { bodies: boolean }): Promise<void> {
    for (const remote of this.remotes) {
      await remote.open()
      for (const [number, topic] of remote.slot?.topics ?? []) this.#topics.set(number, topic)
      for (const [ordinal, id] of remote.slot?.epochIds ?? []) this.#epochIds.set(ordinal, id)
    }
    for (const { name, salt } of await this.#list(parseSegmentName)) await this.#readNames(name, salt)
    await this.#readBlocks(visit, bodies, false)
    // The newest first: what a gateway appends meanwhile can only be missed behind all that is found.
    for (const { name, salt } of (await this.#list(parseSegmentName)).reverse())
      await this.#readPlaces(name, salt, visit)
    const { end } = this
    await this.#readBlocks(visit, bodies, true)
    this.end = end
    this.segments.reverse()
    for (const name of (await this.#files.list(this.#folder)).sort()) {
      if (name === 'remotes' || parseSegmentName(name) !== undefined || parseBlockFileName(name) !== undefined) continue
      const kept = parseKeptFileName(name)
      if (kept === undefined) this.otherFiles.push(name)
      else await this.#noteKept(kept)
    }
  }

  async #noteKept({ name, since }: KeptFile): Promise<void> {
    const bytes = await unlessGone(() => this.#files.size(`${this.#folder}/${name}`))
    if (bytes !== undefined) this.keptFiles.push({ name, since, bytes })
  }

  /** Whether the gateway has written a cursor since this began: then what it knew to wait may be done and gone. */
  async hasMoved(): Promise<boolean> {
    for (const remote of this.remotes) if (await remote.hasMoved()) return true
    return false
  }

  /** By id. */
  async #list(parse: (name: string) => SegmentName | undefined) {
    return listed(await this.#files.list(this.#folder), parse)
  }

  // Segments of places

  /** A name may be lost where it is used, and stand in another segment. */
  async #readNames(name: string, salt: number): Promise<void> {
    const bytes = await readWhole(this.#files, `${this.#folder}/${name}`)
    if (bytes === undefined) return
    readSegment(bytes, salt, {
      topic: (number, topic) => void this.#topics.set(number, topic),
      epoch: (ordinal, id) => void this.#epochIds.set(ordinal, id),
      place: () => {},
    })
  }

  async #readPlaces(name: string, salt: number, visit: Visit): Promise<void> {
    const bytes = await readWhole(this.#files, `${this.#folder}/${name}`)
    if (bytes === undefined) return
    const segment: SegmentReading = {
      ...newFile(name),
      bytes: bytes.length,
      isEmpty: false,
      records: 0,
      places: 0,
      firstSequence: -1,
      lastSequence: -1,
      topics: new Set(),
    }
    const found: { topicNumber: number; queueId: number; place: Place; body: Body | undefined }[] = []
    const read = readSegment(bytes, salt, {
      topic: (number, topic) => {
        segment.records++
        this.#topics.set(number, topic)
      },
      epoch: (ordinal, id) => {
        segment.records++
        this.#epochIds.set(ordinal, id)
      },
      place: (topicNumber, queueId, place, body) => {
        const { sequence } = place
        segment.records++
        segment.places++
        segment.firstSequence = segment.firstSequence < 0 ? sequence : Math.min(segment.firstSequence, sequence)
        segment.lastSequence = Math.max(segment.lastSequence, sequence)
        segment.topics.add(topicNumber)
        segment.epochs.add(place.epoch)
        this.end = Math.max(this.end, sequence + 1)
        if (this.seen.add(sequence)) found.push({ topicNumber, queueId, place, body })
      },
    })
    segment.headerWhole = read.headerWhole
    segment.isEmpty = !read.headerWhole && bytes.equals(Buffer.alloc(bytes.length))
    segment.tornBytes = segment.isEmpty ? 0 : read.tornBytes
    this.segments.push(segment)
    const damage: Damage[] = read.damaged.map(range => ({ file: name, kind: 'records', ...range }))
    if (!read.headerWhole && !segment.isEmpty) damage.unshift(headerDamage(name))
    await this.#give(
      visit,
      found.map(({ topicNumber, queueId, place, body }) => ({
        topic: this.#topics.get(topicNumber),
        queueId,
        epochId: this.#epochIds.get(place.epoch),
        place,
        where: 'places',
        hasBody: body !== undefined,
        body,
      })),
      damage,
    )
  }

  // Files of bodies

  /** All that was not read before. `last`: what is half written stays so. */
  async #readBlocks(visit: Visit, bodies: boolean, last: boolean): Promise<void> {
    for (const { name, salt } of await this.#list(parseBlockFileName)) {
      let file = this.blockFiles.find(known => known.name === name)
      if (file === undefined) {
        const counts = { blocks: 0, compressedBlocks: 0, messages: 0, withBody: 0, readTo: SEGMENT_HEADER_BYTES }
        file = { ...newFile(name), ...counts }
        this.blockFiles.push(file)
      }
      await unlessGone(() => this.#readBlockFile(file, salt, visit, bodies, last))
    }
  }

  async #readBlockFile(
    file: BlockFileReading,
    salt: number,
    visit: Visit,
    bodies: boolean,
    last: boolean,
  ): Promise<void> {
    const { name, readTo } = file
    let cutAt: number | undefined
    const read = await scanBlockFile(
      this.#files,
      `${this.#folder}/${name}`,
      salt,
      block => {
        if (block.isCut) cutAt = block.location.at
        if (last || !block.isCut) return this.#readBlock(file, block, visit, bodies)
      },
      readTo,
    )
    file.bytes = read.bytes
    file.headerWhole = read.headerWhole
    file.tornBytes = cutAt === undefined ? read.tornBytes : read.bytes - cutAt
    file.readTo = Math.max(readTo, read.bytes - file.tornBytes)
    const damage: Damage[] = read.damaged.map(range => ({ file: name, kind: 'blocks', ...range }))
    if (last && !read.headerWhole && read.bytes > 0) damage.unshift(headerDamage(name))
    await this.#give(visit, [], damage)
  }

  async #readBlock(
    file: BlockFileReading,
    { header, location, salt, isCut }: ScannedBlock,
    visit: Visit,
    bodies: boolean,
  ): Promise<void> {
    const { path, at, headBytes } = location
    file.blocks++
    file.messages += header.count
    file.withBody += header.withBody
    if (header.plainBytes > 0) file.compressedBlocks++
    file.epochs.add(header.epoch)
    this.#epochIds.set(header.epoch, header.epochId)
    this.end = Math.max(this.end, header.maxSequence + 1)
    const bytes = await this.#files.readAt(path, at, bodies ? location.bytes : headBytes)
    const read = decodeBlockPlaces(bytes, header, salt)
    const whole = bodies && read ? decodeBlockBodies(bytes, header, read, salt) : undefined
    const bodiesDamaged = bodies && whole === undefined
    const damage: Damage[] = []
    const damaged = (kind: DamageKind, start: number, length: number) =>
      damage.push({ file: file.name, kind, at: at + start, bytes: length, block: ownerOf(header) })
    if (read === undefined) damaged('places', header.headerBytes, header.placesBytes)
    // What a crash has cut off is torn, and said as such.
    else if (bodiesDamaged && !isCut) damaged('bodies', headBytes, header.bodiesBytes)
    const places: JournalPlace[] = []
    read?.places.forEach((place, index) => {
      if (!this.seen.add(place.sequence)) return
      places.push({
        topic: header.topic,
        queueId: header.queueId,
        epochId: header.epochId,
        place,
        where: 'bodies',
        hasBody: read.shapes[index] !== undefined && !bodiesDamaged,
        body: whole?.[index],
      })
    })
    await this.#give(visit, places, damage)
  }

  // What is given

  #notRead(path: string, at: number, bytes: number): void {
    const file = path.slice(this.#folder.length + 1)
    const key = `${file} ${at}`
    if (this.#knownUnreadable.has(key)) return
    this.#knownUnreadable.add(key)
    const last = this.#unreadable.at(-1)
    if (last?.file === file && last.at + last.bytes === at) last.bytes += bytes
    else this.#unreadable.push({ file, kind: 'unreadable', at, bytes })
  }

  async #give(visit: Visit, places: JournalPlace[], damage: Damage[]): Promise<void> {
    const unreadable = this.#unreadable
    this.#unreadable = []
    if (places.length > 0 || damage.length > 0 || unreadable.length > 0)
      await visit({ places, damage: [...unreadable, ...damage] })
  }
}

function newFile(name: string): FileReading {
  return { name, bytes: 0, headerWhole: false, tornBytes: 0, epochs: new Set() }
}

function headerDamage(file: string): Damage {
  return { file, kind: 'header', at: 0, bytes: SEGMENT_HEADER_BYTES }
}

function ownerOf({ topic, queueId, epoch, count, minOffset, maxOffset }: BlockHeader) {
  return { topic, queueId, epoch, messages: count, minOffset, maxOffset }
}
