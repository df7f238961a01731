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
    write(chunk, at, place, epoch)
    if (body !== undefined) setBody(chunk, at, body)
    this.span++
    this.count++
  }

  /** In front of all others, without a body. Indexes change with it. */
  prepend(place: Place, epoch: number): void {
    if (this.#head === 0) {
      this.#chunks.unshift(new Chunk())
      this.#head = CHUNK
    }
    write(this.#chunks[0]!, --this.#head, place, epoch)
    this.span++
    this.count++
  }

  /**
   * Puts a place, without a body, where its epoch and offset belong. Meant for places that come nearly in order, as a
   * journal has them: it goes there step by step from the end.
   */
  insert(place: Place, epoch: number, done = false): void {
    this.push(place, epoch, undefined)
    if (done) this.done(this.span - 1)
    for (let index = this.span - 1; index > 0 && this.#isBefore(index, index - 1); index--) this.#swap(index, index - 1)
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
      placeFlags: chunk.flags[at]!,
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

  /** What a place is known by, where it was not known. */
  setCheck(index: number, bornTimestamp: number, hash: number): void {
    const { chunk, at } = this.#entry(index)
    chunk.numbers[at * NUMBERS + 3] = bornTimestamp
    chunk.hashes[at] = hash
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

  #isBefore(a: number, b: number): boolean {
    const one = this.#entry(a)
    const other = this.#entry(b)
    const oneEpoch = one.chunk.numbers[one.at * NUMBERS + 5]!
    const otherEpoch = other.chunk.numbers[other.at * NUMBERS + 5]!
    return oneEpoch === otherEpoch ? this.queueOffset(a) < this.queueOffset(b) : oneEpoch < otherEpoch
  }

  #swap(a: number, b: number): void {
    const one = this.#entry(a)
    const other = this.#entry(b)
    for (let i = 0; i < NUMBERS; i++)
      swap(one.chunk.numbers, one.at * NUMBERS + i, other.chunk.numbers, other.at * NUMBERS + i)
    swap(one.chunk.hashes, one.at, other.chunk.hashes, other.at)
    swap(one.chunk.flags, one.at, other.chunk.flags, other.at)
    swap(one.chunk.done, one.at, other.chunk.done, other.at)
  }

  #entry(index: number): { chunk: Chunk; at: number } {
    const position = this.#head + index
    return { chunk: this.#chunks[Math.floor(position / CHUNK)]!, at: position % CHUNK }
  }
}

function write(chunk: Chunk, at: number, place: Place, epoch: number): void {
  const { numbers } = chunk
  const from = at * NUMBERS
  numbers[from] = place.sequence
  numbers[from + 1] = place.queueOffset
  numbers[from + 2] = place.commitLogOffset
  numbers[from + 3] = place.bornTimestamp
  numbers[from + 4] = place.ackedAt
  numbers[from + 5] = epoch
  chunk.hashes[at] = place.hash
  chunk.flags[at] = place.placeFlags
  chunk.done[at] = 0
}

type Column = Float64Array | Uint32Array | Uint8Array

function swap(column: Column, at: number, other: Column, otherAt: number): void {
  const value = column[at]!
  column[at] = other[otherAt]!
  other[otherAt] = value
}

function setBody(chunk: Chunk, at: number, body: Body): void {
  chunk.bodies ??= new Array(CHUNK)
  chunk.bodies[at] = body
}
