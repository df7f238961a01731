// The cursor of a remote: two slots, written in turn, each one snapshot of what is done.
//
// For each queue that means a mark: all of its places up to the slot's sequence are done when their offset is below the
// mark, but for those that are named as late, and those behind it that are named as done. Places from the slot's sequence
// on it says nothing of. (A mark alone would lose 11 where it was acked after 12 was done, and the crash came between.)
// One of the two may be damaged: what something else rests on (a file is deleted, a lane sends) is in both before that.
// A slot is text (JSON) behind a line with its version, length and checksum (CRC-32, seeded with the version): small, rare,
// and readable by a person. It has room to grow, zeros behind it, so that a disk that is full since takes the next all the same.

import { crc32 } from 'node:zlib'
import type { Totals } from './account.ts'
import type { FileSystem } from './file-system.ts'
import type { EncodedFormerQueue } from './former-queues.ts'
import type { EncodedKnownEnds } from './known-ends.ts'
import { type ReadableFiles, readWhole } from './readable-files.ts'

export interface QueueMark {
  epoch: number
  mark: number
  /** Offsets below the mark that are not done. */
  late: number[]
  /** Runs of offsets from the mark on that are done: first offset and how many. */
  done: [number, number][]
}

/** Where a lane leads, and how far the remote queue was when our newest message, or the lane, was seen there. */
export interface RemoteQueue {
  broker: string
  queueId: number
  /** Offset behind the newest message of ours that is known to be there. */
  end: number
}

export interface QueueState {
  topic: string
  queueId: number
  marks: QueueMark[]
  remote: RemoteQueue | undefined
  /** Undefined where there are none. */
  ends: EncodedKnownEnds | undefined
  /** Queues that the lane has left. */
  formers?: EncodedFormerQueue[] | undefined
  /** Of a lane without a remote queue, since a cursor was lost: messages of it may be there that came from this time on. */
  sentSince?: number | undefined
}

/** What is known of our links to a remote broker: the groups of those of which bytes may still arrive. */
export interface LinkState {
  broker: string
  groups: string[]
  /** When it last answered: milliseconds, our clock. */
  lastAnswerAt: number | undefined
}

export interface Slot {
  generation: number
  /** Places from here on are not covered. */
  sequence: number
  /** Places before this one were acked before the remote was known. */
  from?: number
  nextSegmentId: number
  nextEpoch: number
  remoteCluster: string
  /** Places below `sequence` that were not done: as many must be found again. */
  waiting: number
  /** By topic number, and by ordinal: the journal has them too, where it is whole. */
  topics: [number: number, name: string][]
  epochIds: [ordinal: number, id: string][]
  queues: QueueState[]
  links: LinkState[]
  /** Since a cursor was lost: there may be links that nobody knows, whose bytes may arrive until then. Milliseconds, our clock. */
  unknownLinksUntil?: number | undefined
  totals: Totals
}

const VERSION = 2
/** Bytes that a slot has on the disk, at least. */
const SLOT_BYTES_MIN = 16 * 1024
/** In the folder of the remote. */
export const SLOT_FILES = ['cursor-0', 'cursor-1'] as const

export class Cursor {
  readonly #fileSystem: FileSystem
  readonly #paths: readonly string[]
  #generation = 0
  /** Bytes that each has on the disk. */
  readonly #room = [0, 0]

  constructor(fileSystem: FileSystem, folder: string) {
    this.#fileSystem = fileSystem
    this.#paths = SLOT_FILES.map(file => `${folder}/${file}`)
  }

  /** The newest slot that is whole; `damaged` where there are slots and none is, `none` where there is none. Throws SlotVersionError. */
  async read(files: ReadableFiles = this.#fileSystem): Promise<Slot | 'damaged' | 'none'> {
    let newest: Slot | undefined
    let found = false
    for (const [at, path] of this.#paths.entries()) {
      const bytes = await readWhole(files, path)
      this.#room[at] = bytes?.length ?? 0
      found ||= bytes !== undefined && bytes.length > 0
      const slot = bytes === undefined ? undefined : decodeSlot(bytes, path)
      if (slot !== undefined && (newest === undefined || slot.generation > newest.generation)) newest = slot
    }
    this.#generation = newest?.generation ?? 0
    return newest ?? (found ? 'damaged' : 'none')
  }

  /** Writes and syncs the next slot. One at a time: the caller waits for it. */
  async write(slot: Omit<Slot, 'generation'>): Promise<void> {
    const generation = this.#generation + 1
    const at = generation % 2
    const bytes = encodeSlot({ ...slot, generation })
    // What a lost tail makes unclear makes it longer, and the disk may be full then.
    const isNearlyFull = bytes.length * 1.5 > this.#room[at]!
    if (!isNearlyFull || !(await this.#writeWithRoom(at, bytes)))
      await this.#fileSystem.overwrite(this.#paths[at]!, bytes)
    this.#generation = generation
  }

  /** With zeros behind it, twice as long as it is; false where the disk has no room for them. */
  async #writeWithRoom(at: number, bytes: Buffer): Promise<boolean> {
    const room = Math.max(SLOT_BYTES_MIN, bytes.length * 2)
    try {
      await this.#fileSystem.overwrite(this.#paths[at]!, Buffer.concat([bytes, Buffer.alloc(room - bytes.length)]))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error
      return false
    }
    this.#room[at] = room
    return true
  }
}

function encodeSlot(slot: Slot): Buffer {
  const text = Buffer.from(JSON.stringify(slot))
  return Buffer.concat([
    Buffer.from(`tee-cursor ${VERSION} ${text.length} ${crc32(text, VERSION).toString(16)}\n`),
    text,
  ])
}

export class SlotVersionError extends Error {}

/** Undefined where it is damaged. Throws SlotVersionError. */
export function decodeSlot(bytes: Buffer, path: string): Slot | undefined {
  const lineEnd = bytes.indexOf(0x0a)
  const match = /^tee-cursor (\d+) (\d+) ([0-9a-f]+)$/.exec(bytes.toString('latin1', 0, Math.max(0, lineEnd)))
  if (match === null) return undefined
  // What lies behind it is left of a longer one.
  const text = bytes.subarray(lineEnd + 1, lineEnd + 1 + Number(match[2]))
  const version = Number(match[1])
  if (text.length !== Number(match[2]) || crc32(text, version).toString(16) !== match[3]) return undefined
  if (version !== VERSION)
    throw new SlotVersionError(`${path} is of version ${match[1]}; this program reads version ${VERSION}`)
  return JSON.parse(text.toString()) as Slot
}
