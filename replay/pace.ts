// How much is read back from a source at a time: it yields to producers.
//
// Measured is how long acks take, of one send at a time. Where the smoothed time is above twice the best that it was in the
// last minute, half as much is read back, down to one question at a time; else an eighth more, up to all. A step at most
// every 100 ms. A best below a millisecond counts as one: below that it is the clock that is measured.

export const QUESTIONS_MOST = 64
const SMOOTHING = 1 / 8
const SLOWED = 2
const BEST_LEAST = 1
const STEP = 100
/** The best of the last minute, kept as those of its parts. */
const PARTS = 6
const PART = 10_000

export class Pace {
  questions = QUESTIONS_MOST
  #smoothed: number | undefined
  /** The newest last. */
  #bests: number[] = []
  #partEnd = 0
  #stepAt = 0

  /** Milliseconds that an ack took, and the time now. */
  ackTook(ms: number, now: number): void {
    const smoothed = this.#smoothed === undefined ? ms : this.#smoothed + (ms - this.#smoothed) * SMOOTHING
    this.#smoothed = smoothed
    if (now >= this.#partEnd) {
      // After a silence the old parts are too old.
      const passed = this.#partEnd === 0 ? PARTS : Math.ceil((now - this.#partEnd + 1) / PART)
      for (let part = 0; part < Math.min(passed, PARTS); part++) this.#bests.push(smoothed)
      this.#bests = this.#bests.slice(-PARTS)
      this.#partEnd = now + PART
    }
    const last = this.#bests.length - 1
    this.#bests[last] = Math.min(this.#bests[last]!, smoothed)
    if (now < this.#stepAt) return
    this.#stepAt = now + STEP
    const best = Math.max(BEST_LEAST, Math.min(...this.#bests))
    this.questions =
      smoothed > SLOWED * best
        ? Math.max(1, this.questions >> 1)
        : Math.min(QUESTIONS_MOST, this.questions + Math.max(1, this.questions >> 3))
  }
}
