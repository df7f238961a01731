// Bodies that may not be had from the source again, for as long as they may be needed once more: a remote can lose its tail
// (remote-tail.ts), and then what was done has to be sent anew.
//
// A file with such bodies in which nothing is left to do is not removed but renamed. No start takes what it has for waiting, and its
// name says since when it is kept:
//
//   kept-<milliseconds, 12 hex digits>-<the name that it had>
//
// It goes when every remote has answered for long enough since then, or when the journal needs its room, the oldest first. Bodies are
// found in these files, and in those that are in use still. Which part of a file is of which queue is found out when it is first
// asked for, and forgotten when nobody has asked for a while: nothing is in memory until a tail is lost.
//
// Who is done with a file, and what becomes of a body that is not found, others decide.

import { basename } from 'node:path'
import type { LostCause } from './account.ts'
import { decodeBlockBodies, decodeBlockHeader, decodeBlockPlaces } from './block.ts'
import { parseBlockFileName, scanBlockFile } from './block-file.ts'
import { type Body, payloadLength } from './body.ts'
import { sleep } from './clock.ts'
import type { Environment } from './environment.ts'
import { type JournalRecord, type Place, queueOf } from './place.ts'
import { type ReadableFiles, readableFiles, unlessGone } from './readable-files.ts'
import { parseSegmentName, recordsIn, SEGMENT_HEADER_BYTES } from './segment.ts'
import { Turns } from './turns.ts'

/** Records of one queue that stand nearer to each other than this are read at once. */
const STRETCH_BYTES = 1024 * 1024
/** Bytes of bodies that are found for one question, nearly: the rest is asked for once more. */
const FOUND_MOST = 4 * 1024 * 1024
/** Bytes of a segment that are looked through in one turn of the loop. */
const TURN_BYTES = 1024 * 1024
/** Milliseconds after the last question for which it is known where bodies are. */
const REMEMBERED_FOR = 60_000
/** A file may get another name, or go, while it is read. */
const TRIES = 5

export interface KeptFile {
  /** In its folder. */
  name: string
  /** The name that it had. */
  formerName: string
  /** Milliseconds, our clock: nothing in it was left to do then. */
  since: number
}

export function keptFileName({ formerName, since }: Omit<KeptFile, 'name'>): string {
  return `kept-${since.toString(16).padStart(12, '0')}-${formerName}`
}

/** Undefined where it is none. */
export function parseKeptFileName(name: string): KeptFile | undefined {
  const match = /^kept-([0-9a-f]{12})-(.*)$/.exec(name)
  const formerName = match?.[2] ?? ''
  if (parseSegmentName(formerName) === undefined && parseBlockFileName(formerName) === undefined) return undefined
  return { name, formerName, since: Number.parseInt(match![1]!, 16) }
}

export interface KeptBodiesContext {
  environment: Pick<Environment, 'clock' | 'fileSystem' | 'log'>
  folder: string
  /** Milliseconds for which a file is kept, counted to the last answer of the remotes. */
  retention: number
  /** Paths of files with such bodies in which something is left to do. */
  inUse(): Iterable<string>
  /** Bytes that have to be given up, for there is no room for them. */
  excess(): number
  epochId(epoch: number): string
}

export interface KeptBody {
  /** As it was acked. */
  place: Place
  body: Body
}

export interface Found {
  /** By the sequence of the place that was asked for. */
  bodies: Map<number, KeptBody>
  /** Why the others are not there; undefined where not all was looked through. */
  cause: LostCause | undefined
}

/** Bytes of a file with records, or one block, of one queue and epoch. */
interface Stretch {
  at: number
  bytes: number
  minOffset: number
  maxOffset: number
}

interface FileIndex {
  /** Up to here it was looked through. */
  readTo: number
  /** Nothing is written to it any more, and all of it was looked through. */
  isFinal: boolean
  isDamaged: boolean
  /** It does not end in a whole record: cut off, damaged, or being written. */
  isTorn: boolean
  /** By queue and epoch. */
  stretches: Map<string, Stretch[]>
  /** As a segment names them. */
  topics: Map<number, string>
  epochIds: Map<number, string>
}

export class KeptBodies {
  readonly #context: KeptBodiesContext
  readonly #files: ReadableFiles
  /** The oldest first. */
  #kept: (KeptFile & { bytes: number })[] = []
  /** By the name that a file had when it was in use. */
  readonly #indexes = new Map<string, FileIndex>()
  /** Of these the disk did not give all at the last question. */
  readonly #unreadable = new Set<string>()
  readonly #turns = new Turns(1)
  #askedAt = Number.NEGATIVE_INFINITY
  /** When one was last given up for its room. */
  #gaveUpAt = Number.NEGATIVE_INFINITY

  constructor(context: KeptBodiesContext) {
    this.#context = context
    this.#files = readableFiles(context.environment.fileSystem, path => this.#unreadable.add(formerNameOf(path)))
  }

  get counts(): { bytes: number; files: number } {
    return { bytes: this.#kept.reduce((sum, { bytes }) => sum + bytes, 0), files: this.#kept.length }
  }

  /** Finds what an earlier process has kept. */
  async open(): Promise<void> {
    for (const name of await this.#files.list(this.#context.folder)) {
      const file = parseKeptFileName(name)
      if (file !== undefined) this.#kept.push({ ...file, bytes: await this.#files.size(this.#pathOf(name)) })
    }
    this.#sort()
  }

  /** In place of removing it: nothing in it is left to do. */
  async keep(path: string): Promise<void> {
    const { clock, fileSystem } = this.#context.environment
    const file = { formerName: basename(path), since: clock.now() }
    const name = keptFileName(file)
    const bytes = await unlessGone(() => fileSystem.size(path))
    await fileSystem.rename(path, this.#pathOf(name))
    if (bytes === undefined) return
    this.#kept.push({ ...file, name, bytes })
    this.#sort()
  }

  /** Removes what is needed no more, or has no room. `answeredUntil`: up to then every remote has answered, and has what it had. */
  async forget(answeredUntil: number): Promise<void> {
    const { environment, retention } = this.#context
    const now = environment.clock.now()
    if (now - this.#askedAt > REMEMBERED_FOR) this.#indexes.clear()
    while (this.#kept.length > 0 && this.#kept[0]!.since < answeredUntil - retention) await this.#removeOldest()
    await this.giveWay()
  }

  /** Where there is no room for more the oldest go. */
  async giveWay(): Promise<void> {
    const { environment, excess, retention, folder } = this.#context
    for (let left = excess(); left > 0 && this.#kept.length > 0; ) {
      const now = environment.clock.now()
      if (now - this.#gaveUpAt > retention)
        environment.log.warn(
          { folder, ...this.counts },
          'bodies that may not be had from the source again make room before their time: what the remote loses of its tail may be lost',
        )
      this.#gaveUpAt = now
      left -= await this.#removeOldest()
    }
  }

  /**
   * The bodies of these places of a queue, as many as are read at once. A body that is damaged in one file may be whole in another.
   * Rejects where the disk does not let a file be read.
   */
  find(topic: string, queueId: number, places: readonly Place[]): Promise<Found> {
    this.#askedAt = this.#context.environment.clock.now()
    return this.#turns.take(async () => {
      for (let tries = 1; ; tries++) {
        try {
          return await this.#find(topic, queueId, places)
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || tries === TRIES) throw error
          await this.#forgetMissing()
        }
      }
    })
  }

  async #find(topic: string, queueId: number, places: readonly Place[]): Promise<Found> {
    const { environment, epochId, inUse, retention } = this.#context
    const wanted = new Map<string, Map<number, Place>>()
    for (const place of places) {
      const key = keyOf(topic, queueId, epochId(place.epoch))
      const offsets = wanted.get(key) ?? new Map<number, Place>()
      wanted.set(key, offsets.set(place.queueOffset, place))
    }
    const bodies: Found['bodies'] = new Map()
    let isDamaged = false
    let bytes = 0
    for (const path of [...this.#kept.map(({ name }) => this.#pathOf(name)), ...inUse()]) {
      if (bodies.size === places.length) break
      const index = await this.#indexOf(path)
      isDamaged ||= index.isDamaged || index.isTorn
      for (const [key, offsets] of wanted)
        for (const stretch of index.stretches.get(key) ?? []) {
          const isMissing = () => hasOneIn(offsets.values(), stretch, bodies)
          if (!isMissing()) continue
          if (bytes >= FOUND_MOST) return { bodies, cause: undefined }
          for (const isQuick of [true, false]) {
            const read = isMissing() ? await this.#read(path, index, stretch, key, isQuick) : []
            isDamaged ||= read === undefined
            for (const found of read ?? []) {
              const place = offsets.get(found.place.queueOffset)
              if (place === undefined || bodies.has(place.sequence) || !isThat(place, found.place)) continue
              bodies.set(place.sequence, found)
              bytes += payloadLength(found.body)
            }
          }
        }
    }
    // The disk may give it at the next question.
    for (const name of this.#unreadable) this.#indexes.delete(name)
    isDamaged ||= this.#unreadable.size > 0
    this.#unreadable.clear()
    const isGivenUp = environment.clock.now() - this.#gaveUpAt <= retention
    return { bodies, cause: isDamaged ? 'journal' : isGivenUp ? 'full' : 'remote' }
  }

  /** What somebody else has removed. */
  async #forgetMissing(): Promise<void> {
    const before = new Set(this.#kept)
    const names = new Set(await this.#files.list(this.#context.folder))
    // What is kept meanwhile is not among these names.
    this.#kept = this.#kept.filter(file => names.has(file.name) || !before.has(file))
  }

  #pathOf(name: string): string {
    return `${this.#context.folder}/${name}`
  }

  #sort(): void {
    this.#kept.sort((one, other) => (one.name < other.name ? -1 : 1))
  }

  /** Returns how many bytes it had. */
  async #removeOldest(): Promise<number> {
    const [oldest] = this.#kept as [KeptFile & { bytes: number }]
    await this.#context.environment.fileSystem.remove(this.#pathOf(oldest.name))
    this.#kept = this.#kept.filter(file => file !== oldest)
    this.#indexes.delete(oldest.formerName)
    return oldest.bytes
  }

  // Where bodies are

  async #indexOf(path: string): Promise<FileIndex> {
    const name = formerNameOf(path)
    const index = this.#indexes.get(name) ?? newIndex()
    if (index.isFinal) return index
    const segment = parseSegmentName(name)
    if (segment !== undefined) await this.#lookThroughSegment(path, segment.salt, index)
    else await this.#lookThroughBlocks(path, parseBlockFileName(name)!.salt, index)
    index.isFinal = name !== basename(path)
    this.#indexes.set(name, index)
    return index
  }

  /** From where the last look ended: it may still be written to. */
  async #lookThroughSegment(path: string, salt: number, index: FileIndex): Promise<void> {
    const start = index.readTo
    const size = await this.#files.size(path)
    if (size <= start) return
    const bytes = await this.#files.readAt(path, start, size - start)
    let turnEnd = TURN_BYTES
    for (const { record, at, end } of recordsIn(bytes, salt)) {
      if (start + at > index.readTo) index.isDamaged = true
      index.readTo = start + end
      if (record.kind === 'topic') index.topics.set(record.topicNumber, record.name)
      else if (record.kind === 'epoch') index.epochIds.set(record.ordinal, record.id)
      else if (record.body !== undefined) addRecord(index, record, start + at, start + end)
      if (end < turnEnd) continue
      turnEnd = end + TURN_BYTES
      await sleep(this.#context.environment.clock, 0)
    }
    const rest = bytes.subarray(index.readTo - start)
    index.isTorn = !rest.equals(Buffer.alloc(rest.length))
  }

  async #lookThroughBlocks(path: string, salt: number, index: FileIndex): Promise<void> {
    if ((await this.#files.size(path)) <= index.readTo) return
    const { damaged } = await scanBlockFile(
      this.#files,
      path,
      salt,
      ({ header, location, isCut }) => {
        if (isCut) return
        index.readTo = location.at + location.bytes
        if (!header.keeps) return
        const { minOffset, maxOffset } = header
        stretchesOf(index, keyOf(header.topic, header.queueId, header.epochId)).push({
          at: location.at,
          bytes: location.bytes,
          minOffset,
          maxOffset,
        })
      },
      index.readTo,
    )
    if (damaged.length > 0) index.isDamaged = true
  }

  /**
   * What it has of a queue and epoch; undefined where it is damaged. Of a segment others' records are passed over by what they say of
   * their length, if that is to be quick: where one is damaged this misses what stands behind it.
   */
  async #read(
    path: string,
    index: FileIndex,
    { at, bytes }: Stretch,
    key: string,
    isQuick: boolean,
  ): Promise<KeptBody[] | undefined> {
    const read = await this.#files.readAt(path, at, bytes)
    const name = formerNameOf(path)
    const segment = parseSegmentName(name)
    const found: KeptBody[] = []
    if (segment !== undefined) {
      for (const { record } of recordsIn(read, segment.salt, 0, read.length, isQuick ? queueOf(read, 0) : undefined))
        if (record.kind === 'place' && record.body !== undefined && recordKey(index, record) === key)
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
}

function newIndex(): FileIndex {
  return {
    readTo: SEGMENT_HEADER_BYTES,
    isFinal: false,
    isDamaged: false,
    isTorn: false,
    stretches: new Map(),
    topics: new Map(),
    epochIds: new Map(),
  }
}

/** Whether any of these is in a stretch, as it seems, and not found yet. */
function hasOneIn(
  places: Iterable<Place>,
  { minOffset, maxOffset }: Stretch,
  found: ReadonlyMap<number, unknown>,
): boolean {
  for (const { queueOffset, sequence } of places)
    if (queueOffset >= minOffset && queueOffset <= maxOffset && !found.has(sequence)) return true
  return false
}

type PlaceRecord = Extract<JournalRecord, { kind: 'place' }>

function addRecord(index: FileIndex, record: PlaceRecord, at: number, end: number): void {
  const stretches = stretchesOf(index, recordKey(index, record))
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

function stretchesOf({ stretches }: FileIndex, key: string): Stretch[] {
  const known = stretches.get(key)
  if (known !== undefined) return known
  const made: Stretch[] = []
  stretches.set(key, made)
  return made
}

function recordKey({ topics, epochIds }: FileIndex, { topicNumber, queueId, place }: PlaceRecord): string {
  return keyOf(topics.get(topicNumber) ?? '', queueId, epochIds.get(place.epoch) ?? '')
}

/** An epoch is known by its identity: its number may be given once more, where all cursors are lost. */
function keyOf(topic: string, queueId: number, epochId: string): string {
  return `${topic}\n${queueId}\n${epochId}`
}

function formerNameOf(path: string): string {
  const name = basename(path)
  return parseKeptFileName(name)?.formerName ?? name
}

/** Of one that was folded no check is known, and its offset in its epoch tells. */
function isThat(place: Place, found: Place): boolean {
  const isKnown = place.bornTimestamp !== 0 || place.hash !== 0
  return !isKnown || (place.bornTimestamp === found.bornTimestamp && place.hash === found.hash)
}
