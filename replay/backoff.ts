// How long to wait before the next try: doubled each time, with jitter, so that many lanes do not knock together.

const FIRST_MS = 50

export class Backoff {
  readonly #mostMs: number
  readonly #random: () => number
  #tries = 0

  constructor(mostMs: number, random: () => number) {
    this.#mostMs = mostMs
    this.#random = random
  }

  /** Milliseconds to wait now: between half and the whole of the step. */
  next(): number {
    const step = Math.min(this.#mostMs, FIRST_MS * 2 ** Math.min(this.#tries++, 16))
    return step * (0.5 + this.#random() / 2)
  }

  reset(): void {
    this.#tries = 0
  }
}
