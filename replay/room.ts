// Room on the disk for a source broker's journal: how much of it bodies may take. Places and cursors come first.
//
// It knows limits and what is used; what is written, and what gives way, others decide.

import type { FileSystem } from './file-system.ts'

/** A segment of places: it is ended when it is longer, or, in a small journal, than this share of it. */
const PLACES_SEGMENT_BYTES = 16 * 1024 * 1024
const BODIES_FILE_BYTES = 64 * 1024 * 1024
const SEGMENT_SHARE = 1 / 8
/** With more segments of places than this, the oldest is made needless: its places go into blocks. */
export const PLACES_SEGMENTS = 2
/** After the journal was full, this share of it must be free before sends are taken again. */
const FREE_AGAIN = 0.1

export interface RoomOptions {
  /** Bytes on disk for this broker. */
  maxBytes: number
  /** Bytes that are left free on the disk. */
  minFreeBytes: number
}

/** Bytes that are used. */
export interface Used {
  places: number
  blocks: number
  deadLetters: number
  /** Of what is done, and kept for a while: it makes room for everything else, unless it is needed. */
  kept: number
  isKeptNeeded: boolean
}

export class Room {
  readonly #fileSystem: FileSystem
  readonly #folder: string
  readonly #options: RoomOptions
  readonly #used: () => Used
  #freeBytes = Number.POSITIVE_INFINITY
  #wasFull = false

  constructor(fileSystem: FileSystem, folder: string, options: RoomOptions, used: () => Used) {
    this.#fileSystem = fileSystem
    this.#folder = folder
    this.#options = options
    this.#used = used
  }

  get placesSegmentBytes(): number {
    return Math.min(PLACES_SEGMENT_BYTES, this.#options.maxBytes * SEGMENT_SHARE)
  }

  get bodiesFileBytes(): number {
    return Math.min(BODIES_FILE_BYTES, this.#options.maxBytes * SEGMENT_SHARE)
  }

  /** Asks the disk how much is free; where it does not say, it is what it was. */
  async look(): Promise<void> {
    this.#freeBytes = await this.#fileSystem.freeBytes(this.#folder).catch(() => this.#freeBytes)
  }

  /** So many bytes were removed since the disk was asked. */
  freed(bytes: number): void {
    this.#freeBytes += bytes
  }

  /** Whether bodies may take so many bytes more. */
  has(bytes: number): boolean {
    const { maxBytes, minFreeBytes } = this.#options
    const used = this.#used()
    const mayGo = used.isKeptNeeded ? 0 : used.kept
    const stays = this.#needed(used) + used.kept - mayGo
    return stays + bytes <= maxBytes && this.#freeBytes + mayGo - bytes >= minFreeBytes
  }

  /** Bytes that are to be given up of what is kept, so that a file of bodies has room. */
  get excess(): number {
    const { maxBytes, minFreeBytes } = this.#options
    const used = this.#used()
    if (used.isKeptNeeded) return 0
    const ahead = this.bodiesFileBytes
    return Math.max(this.#needed(used) + used.kept + ahead - maxBytes, minFreeBytes + ahead - this.#freeBytes)
  }

  #needed({ places, blocks, deadLetters }: Used): number {
    const segment = this.placesSegmentBytes
    // Room for the segments of places before the oldest goes into blocks, and for the blocks without bodies that follow.
    return blocks + deadLetters + Math.max(places, (PLACES_SEGMENTS + 1) * segment) + segment
  }

  /**
   * Whether neither memory nor disk takes more, a page of so many bytes at a time. Once full, until there is room again. While what is
   * kept is needed memory does not help: what is done by way of it is to be kept, too.
   */
  isFullWith({ limit, used }: { limit: number; used: number }, pageBytes: number): boolean {
    const isShort = used > limit * (this.#wasFull ? 1 - FREE_AGAIN : 1) || this.#used().isKeptNeeded
    if (isShort && !this.has(pageBytes)) this.#wasFull = true
    else if (this.has(this.#options.maxBytes * FREE_AGAIN)) this.#wasFull = false
    return this.#wasFull
  }
}
