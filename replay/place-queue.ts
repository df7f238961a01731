// The places of one lane that are not done, in the order in which they go to the remote, each with its body or without.
//
// Kept as columns of numbers, some 60 bytes a place: an outage may bring millions. An index counts from the first place
// that is not done; places done in the middle stay as empty entries until those before them are done.

import type { Body } from './body.ts'
import type { Place } from './place.ts'

const CHUNK = 512
const NUMBERS = 6

class Chunk {
  readonly numbers = new Float64Array(CHUNK * NUMBERS)
  readonly hashes = new Uint32Array(CHUNK)
  readonly flags = new Uint8Array(CHUNK)
  readonly done = new Uint8Array(CHUNK)
  /** Made when the first body comes: a chunk of gaps has none. */
  bodies: (Body | undefined)[] | undefined
}

export interface QueuedPlace extends Place {
  /** Ordinal of the epoch it was acked in. */
  epoch: number
}

export class PlaceQueue {
  #chunks: Chunk[] = []
  /** Position of index 0 in the first chunk. */
  #head = 0
  /** Entries from index 0 on, done ones included. */
  span = 0
  /** Places that are not done. */
  count = 0

  push(place: Place, epoch: number, body: Body | undefined): void {
    const position = this.#head + this.span
    const at = position % CHUNK
    if (position === this.#chunks.length * CHUNK) this.#chunks.push(new Chunk())
    const chunk = this.#chunks[this.#chunks.length - 1]!
    chunk.numbers.set(
      [place.sequence, place.queueOffset, place.commitLogOffset, place.bornTimestamp, place.ackedAt, epoch],
      at * NUMBERS,
    )
    chunk.hashes[at] = place.hash
    chunk.flags[at] = place.flags
    chunk.done[at] = 0
    if (body !== undefined) setBody(chunk, at, body)
    this.span++
    this.count++
  }

  isDone(index: number): boolean {
    const { chunk, at } = this.#entry(index)
    return chunk.done[at] === 1
  }

  place(index: number): QueuedPlace {
    const { chunk, at } = this.#entry(index)
    const from = at * NUMBERS
    const { numbers } = chunk
    return {
      sequence: numbers[from]!,
      queueOffset: numbers[from + 1]!,
      commitLogOffset: numbers[from + 2]!,
      bornTimestamp: numbers[from + 3]!,
      ackedAt: numbers[from + 4]!,
      epoch: numbers[from + 5]!,
      hash: chunk.hashes[at]!,
      flags: chunk.flags[at]!,
    }
  }

  queueOffset(index: number): number {
    const { chunk, at } = this.#entry(index)
    return chunk.numbers[at * NUMBERS + 1]!
  }

  body(index: number): Body | undefined {
    const { chunk, at } = this.#entry(index)
    return chunk.bodies?.[at]
  }

  setBody(index: number, body: Body): void {
    const { chunk, at } = this.#entry(index)
    setBody(chunk, at, body)
  }

  /** The place is done; done places at the front are left behind. Returns its body, for who counts them. */
  done(index: number): Body | undefined {
    const { chunk, at } = this.#entry(index)
    const body = chunk.bodies?.[at]
    if (chunk.bodies !== undefined) chunk.bodies[at] = undefined
    chunk.done[at] = 1
    this.count--
    return body
  }

  /** Forgets the done places at the front. Indexes change with it. */
  trim(): void {
    while (this.span > 0 && this.#chunks[0]!.done[this.#head] === 1) {
      this.span--
      this.#head++
      if (this.#head === CHUNK) {
        this.#chunks.shift()
        this.#head = 0
      }
    }
    if (this.span === 0) {
      this.#chunks = []
      this.#head = 0
    }
  }

  #entry(index: number): { chunk: Chunk; at: number } {
    const position = this.#head + index
    return { chunk: this.#chunks[Math.floor(position / CHUNK)]!, at: position % CHUNK }
  }
}

function setBody(chunk: Chunk, at: number, body: Body): void {
  chunk.bodies ??= new Array(CHUNK)
  chunk.bodies[at] = body
}
