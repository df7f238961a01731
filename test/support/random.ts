// Random that can be had again: a test prints its seed, and TEST_SEED=<seed> repeats it.

import { randomInt } from 'node:crypto'

export const SEED = process.env.TEST_SEED === undefined ? randomInt(2 ** 31) : Number(process.env.TEST_SEED) | 0

/** Prints the seed where the test's log shows it, and gives it back: for fast-check. */
export function printedSeed(t: { log(...values: unknown[]): void }): number {
  t.log(`TEST_SEED=${SEED}`)
  return SEED
}

/** The same each time, unless TEST_SEED says another: for long random flows, of which the soak run takes others. */
export function regularSeed(t: { log(...values: unknown[]): void }, regular = 1): number {
  const seed = process.env.TEST_SEED === undefined ? regular : SEED
  t.log(`TEST_SEED=${seed}`)
  return seed
}

/** A generator of its own for each test, all from the one seed. */
export function seededRandom(t: { log(...values: unknown[]): void }): Random {
  return new Random(printedSeed(t))
}

/** mulberry32: small, quick, and good enough to choose test cases. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed | 0
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let bits = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61)
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32
  }

  /** In [min, max]. */
  integer(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1))
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.integer(0, choices.length - 1)]!
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  bytes(length: number): Buffer {
    const out = Buffer.alloc(length)
    for (let i = 0; i < length; i++) out[i] = this.integer(0, 255)
    return out
  }
}
