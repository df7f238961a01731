// What a source broker's folder holds of a remote, read without being changed: its cursor, and its dead letters.
//
// A slot may be in the midst of being written by a gateway that runs: what is damaged is read again before it is said to be.

import { type Clock, sleep } from './clock.ts'
import { decodeSlot, SLOT_FILES, type Slot } from './cursor.ts'
import { isDeadLetterFile } from './dead-letters.ts'
import type { Place } from './place.ts'
import { type ReadableFiles, readWhole } from './readable-files.ts'
import { SlotMarks } from './slot-marks.ts'

/** How often a damaged slot is read again, and milliseconds between. */
const TRIES = 4
const PAUSE = 50
const CHUNK_BYTES = 1024 * 1024

export interface SlotReading {
  file: string
  state: 'whole' | 'damaged' | 'none'
  generation?: number
  sequence?: number
}

export interface DeadLetterFile {
  name: string
  bytes: number
  lines: number
  /** Behind the last whole line. */
  tornBytes: number
}

/** A remote that the data directory knows. */
export interface RemoteName {
  label: string
  /** 0 where it has no number: nothing can be told to be skipped for it. */
  bit: number
}

export class RemoteReading {
  readonly label: string
  readonly bit: number
  /** The newest that is whole. */
  slot: Slot | undefined
  slots: SlotReading[] = []
  #marks: SlotMarks | undefined
  readonly #files: ReadableFiles
  readonly #clock: Clock
  readonly #folder: string

  constructor(files: ReadableFiles, clock: Clock, folder: string, { label, bit }: RemoteName) {
    this.#files = files
    this.#clock = clock
    this.#folder = `${folder}/remotes/${label}`
    this.label = label
    this.bit = bit
  }

  /** Reads the cursor. Throws SlotVersionError. */
  async open(): Promise<void> {
    const { slot, slots } = await this.#readSlots()
    this.slot = slot
    this.slots = slots
    this.#marks = slot && new SlotMarks(slot)
  }

  /** `none`, `damaged`: what the journal holds is looked for at the remote. */
  get cursor(): SlotReading['state'] {
    if (this.slot !== undefined) return 'whole'
    return this.slots.some(({ state }) => state === 'damaged') ? 'damaged' : 'none'
  }

  /** Whether the cursor is another now. */
  async hasMoved(): Promise<boolean> {
    return (await this.#readSlots()).slot?.generation !== this.slot?.generation
  }

  isSkipped({ skipMask }: Place): boolean {
    return (skipMask & this.bit) !== 0
  }

  covers(sequence: number): boolean {
    return this.#marks?.covers(sequence) ?? false
  }

  /** Whether a start would take it for one that has to be done. */
  isWaiting(topic: string | undefined, queueId: number, place: Place): boolean {
    if (topic === undefined || this.isSkipped(place)) return false
    return !this.#marks?.isDone(topic, queueId, place)
  }

  async deadLetters(): Promise<DeadLetterFile[]> {
    const found: DeadLetterFile[] = []
    for (const name of (await this.#files.list(this.#folder)).sort())
      if (isDeadLetterFile(name)) found.push(await this.#countLines(name))
    return found
  }

  async #countLines(name: string): Promise<DeadLetterFile> {
    const path = `${this.#folder}/${name}`
    const bytes = await this.#files.size(path)
    let lines = 0
    let lastEnd = 0
    for (let at = 0; at < bytes; at += CHUNK_BYTES) {
      const chunk = await this.#files.readAt(path, at, Math.min(CHUNK_BYTES, bytes - at))
      for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, end + 1)) {
        lines++
        lastEnd = at + end + 1
      }
    }
    return { name, bytes, lines, tornBytes: bytes - lastEnd }
  }

  async #readSlots(): Promise<{ slot: Slot | undefined; slots: SlotReading[] }> {
    for (let tries = 1; ; tries++) {
      let slot: Slot | undefined
      const slots: SlotReading[] = []
      for (const file of SLOT_FILES) {
        const bytes = await readWhole(this.#files, `${this.#folder}/${file}`)
        const found = bytes && decodeSlot(bytes, `${this.#folder}/${file}`)
        if (found !== undefined) {
          slots.push({ file, state: 'whole', generation: found.generation, sequence: found.sequence })
          if (slot === undefined || found.generation > slot.generation) slot = found
        } else slots.push({ file, state: bytes?.length ? 'damaged' : 'none' })
      }
      if (tries === TRIES || !slots.some(({ state }) => state === 'damaged')) return { slot, slots }
      await sleep(this.#clock, PAUSE)
    }
  }
}
