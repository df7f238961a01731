// A page: up to some hundred messages of one source queue in the order of their release, on their way to every remote.
//
// In memory its places are columns of numbers, some 60 bytes each: an outage may bring millions. Bodies stand beside them, in
// memory, or in the page's block on disk (block.ts), or nowhere: such a message is a gap. A page has one epoch.
//
// It only holds; who counts, spills and loads is backlog.ts and spill.ts.

import type { Body } from './body.ts'
import type { Place } from './place.ts'
import type { Reader } from './reader.ts'

/** Messages of a page, and bytes of its bodies, at most. */
export const PAGE_MESSAGES = 512
export const PAGE_BYTES = 256 * 1024

/** Messages for which a page has room at first: most queues have few that wait, and keep a page all the same. */
const FIRST_ROOM = 8

/** Sequence, queue offset, commit-log offset, born timestamp, time of the ack. */
const NUMBERS = 5
/** Bytes of a place in its columns, and of where its body would be. */
const PLACE_MEMORY = NUMBERS * 8 + 2 * 4 + 2 + 8

const IN_BLOCK = 1
const READ_BACK = 2

interface Columns {
  numbers: Float64Array
  hashes: Uint32Array
  skips: Uint32Array
  placeFlags: Uint8Array
  /** Whether the block has a body for it (IN_BLOCK), or what is in memory was read back from the source (READ_BACK). */
  stored: Uint8Array
  bodies: (Body | undefined)[]
}

/** What is known of a page while its places are not in memory. */
export interface PageSummary {
  epoch: number
  count: number
  minOffset: number
  maxOffset: number
  minSequence: number
  maxSequence: number
  firstAckedAt: number
  /** Messages with a body in the block. */
  withBody: number
  /** Whether any is skipped for some remote. */
  skips: boolean
  /** Whether any stands behind a higher offset. */
  late: boolean
  /** Whether some bodies cannot be had from the source again. */
  keeps: boolean
}

/** Where a page's block is. */
export interface BlockLocation {
  path: string
  at: number
  bytes: number
  /** Of its header and places, in front of its bodies. */
  headBytes: number
}

export class Page implements PageSummary {
  readonly epoch: number
  /** The only reader of places that are unclear again; undefined where all have them. */
  readonly owner: Reader | undefined
  /** Of its first message, among all of its queue since the start. */
  readonly firstIndex: number
  count = 0
  minOffset = Number.POSITIVE_INFINITY
  maxOffset = -1
  minSequence = Number.POSITIVE_INFINITY
  maxSequence = -1
  firstAckedAt = 0
  withBody = 0
  skips = false
  late = false
  next: Page | undefined
  /** No message is added any more. */
  sealed = false
  /** Bytes of the bodies that it was given. */
  bodyBytes = 0
  block: BlockLocation | undefined
  /** The block is synced: the journal need not know these places any more. */
  folded = false
  /** Whether some bodies cannot be had from the source again: they leave memory only when the block is synced. */
  keeps = false
  /** Readers that have not passed it. */
  readers = 0
  /** Readers that work on it: its places stay in memory. */
  pins = 0
  #columns: Columns | undefined
  /** Whether what the block has of bodies is in memory, too. */
  #bodiesHere = true

  constructor(epoch: number, firstIndex: number, owner?: Reader) {
    this.epoch = epoch
    this.owner = owner
    this.firstIndex = firstIndex
    this.#columns = newColumns(FIRST_ROOM)
  }

  /** A page that is on disk. */
  static stored(summary: PageSummary, firstIndex: number, block: BlockLocation): Page {
    const page = new Page(summary.epoch, firstIndex)
    page.#columns = undefined
    page.#bodiesHere = false
    page.block = block
    page.sealed = page.folded = true
    page.count = summary.count
    page.minOffset = summary.minOffset
    page.maxOffset = summary.maxOffset
    page.minSequence = summary.minSequence
    page.maxSequence = summary.maxSequence
    page.firstAckedAt = summary.firstAckedAt
    page.withBody = summary.withBody
    page.skips = summary.skips
    page.late = summary.late
    page.keeps = summary.keeps
    return page
  }

  get end(): number {
    return this.firstIndex + this.count
  }

  get isFull(): boolean {
    return this.count === PAGE_MESSAGES || this.bodyBytes >= PAGE_BYTES
  }

  /** Places are in memory, and whatever bodies there are. */
  get isLoaded(): boolean {
    return this.#columns !== undefined && this.#bodiesHere
  }

  /** Bytes of memory that its places take. */
  get placesMemory(): number {
    return (this.#columns?.hashes.length ?? 0) * PLACE_MEMORY
  }

  get hasPlaces(): boolean {
    return this.#columns !== undefined
  }

  add(place: Place, body: Body | undefined, bodyBytes: number): void {
    const at = this.count++
    if (at === this.#columns!.hashes.length) this.#columns = grown(this.#columns!)
    const { numbers, hashes, skips, placeFlags, bodies } = this.#columns!
    const from = at * NUMBERS
    numbers[from] = place.sequence
    numbers[from + 1] = place.queueOffset
    numbers[from + 2] = place.commitLogOffset
    numbers[from + 3] = place.bornTimestamp
    numbers[from + 4] = place.ackedAt
    hashes[at] = place.hash
    skips[at] = (place.skipReason << 24) | place.skipMask
    placeFlags[at] = place.placeFlags
    if (body !== undefined) bodies[at] = body
    this.bodyBytes += bodyBytes
    if (at === 0) this.firstAckedAt = place.ackedAt
    this.minOffset = Math.min(this.minOffset, place.queueOffset)
    if (place.skipMask !== 0) this.skips = true
    if (place.queueOffset < this.maxOffset) this.late = true
    this.maxOffset = Math.max(this.maxOffset, place.queueOffset)
    this.minSequence = Math.min(this.minSequence, place.sequence)
    this.maxSequence = Math.max(this.maxSequence, place.sequence)
  }

  place(at: number): Place {
    const { numbers, hashes, skips, placeFlags } = this.#columns!
    const from = at * NUMBERS
    const skip = skips[at]!
    return {
      epoch: this.epoch,
      sequence: numbers[from]!,
      queueOffset: numbers[from + 1]!,
      commitLogOffset: numbers[from + 2]!,
      bornTimestamp: numbers[from + 3]!,
      ackedAt: numbers[from + 4]!,
      hash: hashes[at]!,
      placeFlags: placeFlags[at]!,
      skipReason: skip >>> 24,
      skipMask: skip & 0xffffff,
    }
  }

  sequence(at: number): number {
    return this.#columns!.numbers[at * NUMBERS]!
  }

  queueOffset(at: number): number {
    return this.#columns!.numbers[at * NUMBERS + 1]!
  }

  ackedAt(at: number): number {
    return this.#columns!.numbers[at * NUMBERS + 4]!
  }

  /** Its body, where that is in memory. */
  body(at: number): Body | undefined {
    return this.#columns!.bodies[at]
  }

  /** Whether its body is in memory or in the block: else it is a gap. */
  hasBody(at: number): boolean {
    return this.#columns!.bodies[at] !== undefined || this.#columns!.stored[at] === IN_BLOCK
  }

  /** What a message is known by, where it was not known. */
  setCheck(at: number, bornTimestamp: number, hash: number): void {
    this.#columns!.numbers[at * NUMBERS + 3] = bornTimestamp
    this.#columns!.hashes[at] = hash
  }

  /** A body that was read back from the source. */
  setBody(at: number, body: Body): void {
    const { bodies, stored } = this.#columns!
    bodies[at] = body
    if (stored[at] !== IN_BLOCK) stored[at] = READ_BACK
  }

  /** Whether its body is here because it was read back, and nowhere else. */
  isReadBack(at: number): boolean {
    return this.#columns?.stored[at] === READ_BACK && this.#columns.bodies[at] !== undefined
  }

  /** Takes its body out of memory. */
  takeBody(at: number): Body | undefined {
    const { bodies } = this.#columns!
    const body = bodies[at]
    bodies[at] = undefined
    return body
  }

  /** The block has been written, with the bodies of these. */
  wasStored(block: BlockLocation, withBody: readonly boolean[]): void {
    this.block = block
    this.withBody = 0
    for (let at = 0; at < this.count; at++) {
      if (withBody[at]) this.withBody++
      if (this.#columns !== undefined) this.#columns.stored[at] = withBody[at] ? IN_BLOCK : 0
    }
  }

  /** As if it had never been written. */
  forgetBlock(): void {
    this.block = undefined
    this.#columns!.stored.fill(0)
    this.#bodiesHere = true
  }

  /** Bodies that are in memory go to `take`; those of the block have to be loaded again. */
  dropBodies(take: (body: Body, at: number) => void): void {
    const { bodies } = this.#columns!
    for (let at = 0; at < this.count; at++) {
      const body = bodies[at]
      if (body === undefined) continue
      bodies[at] = undefined
      take(body, at)
    }
    if (this.block !== undefined) this.#bodiesHere = false
  }

  /** Forgets the places: they are in the block, and bodies were dropped before. */
  dropPlaces(): void {
    this.#columns = undefined
  }

  /** Takes back the places alone. */
  loadPlaces(places: readonly Place[], stored: readonly boolean[]): void {
    this.load(places, [], stored)
    this.#bodiesHere = false
  }

  /** Takes back what the block has: places, where they are not in memory, these bodies, and which ones it has. */
  load(places: readonly Place[], bodies: readonly (Body | undefined)[], stored: readonly boolean[] | undefined): void {
    if (this.#columns === undefined) {
      const { bodyBytes } = this
      this.#columns = newColumns(this.count)
      this.count = 0
      for (const place of places) this.add(place, undefined, 0)
      this.bodyBytes = bodyBytes
    }
    const columns = this.#columns
    for (let at = 0; at < this.count; at++) {
      columns.stored[at] = stored?.[at] ? IN_BLOCK : 0
      if (bodies[at] !== undefined) columns.bodies[at] = bodies[at]
    }
    this.#bodiesHere = true
  }
}

function grown(columns: Columns): Columns {
  const { numbers, hashes, skips, placeFlags, stored, bodies } = newColumns(columns.hashes.length * 4)
  numbers.set(columns.numbers)
  hashes.set(columns.hashes)
  skips.set(columns.skips)
  placeFlags.set(columns.placeFlags)
  stored.set(columns.stored)
  for (let at = 0; at < columns.bodies.length; at++) bodies[at] = columns.bodies[at]
  return { numbers, hashes, skips, placeFlags, stored, bodies }
}

function newColumns(size: number): Columns {
  return {
    numbers: new Float64Array(size * NUMBERS),
    hashes: new Uint32Array(size),
    skips: new Uint32Array(size),
    placeFlags: new Uint8Array(size),
    stored: new Uint8Array(size),
    bodies: new Array(size),
  }
}
