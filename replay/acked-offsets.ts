// Which offsets of a queue were acked in an epoch, as runs: one number more for each ack of a queue that only we write to.
//
// Bounded: what others write between ours makes a run of each of ours, and the oldest runs are forgotten. Pure.

/** Runs kept; when there are more, the older half goes. */
const RUNS_MOST = 256

export class AckedOffsets {
  highest = -1
  /** Nothing is known of offsets below this. */
  forgottenBelow = 0
  /** Runs from `starts` up to and without `ends`, rising; no two touch. */
  #starts: number[] = []
  #ends: number[] = []

  add(offset: number): void {
    const last = this.#ends.length - 1
    if (offset > this.highest) this.highest = offset
    if (last >= 0 && this.#ends[last] === offset) {
      this.#ends[last] = offset + 1
      return
    }
    if (offset < this.forgottenBelow) return
    const at = this.#after(offset)
    if (at > 0 && this.#ends[at - 1]! > offset) return
    const joinsLeft = at > 0 && this.#ends[at - 1] === offset
    const joinsRight = at < this.#starts.length && this.#starts[at] === offset + 1
    if (joinsLeft && joinsRight) {
      this.#ends[at - 1] = this.#ends[at]!
      this.#starts.splice(at, 1)
      this.#ends.splice(at, 1)
    } else if (joinsLeft) this.#ends[at - 1] = offset + 1
    else if (joinsRight) this.#starts[at] = offset
    else {
      this.#starts.splice(at, 0, offset)
      this.#ends.splice(at, 0, offset + 1)
      if (this.#starts.length > RUNS_MOST) this.#forget()
    }
  }

  /** False also where it is forgotten. */
  has(offset: number): boolean {
    if (offset > this.highest) return false
    const at = this.#after(offset)
    return at > 0 && this.#ends[at - 1]! > offset
  }

  /** Index of the first run that starts behind the offset; acks come nearly in order, so it is near the end. */
  #after(offset: number): number {
    let at = this.#starts.length
    while (at > 0 && this.#starts[at - 1]! > offset) at--
    return at
  }

  #forget(): void {
    const count = this.#starts.length >> 1
    this.forgottenBelow = this.#ends[count - 1]!
    this.#starts.splice(0, count)
    this.#ends.splice(0, count)
  }
}
