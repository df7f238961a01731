// Whether bodies that are kept of what is done (kept-bodies.ts) have to be sent once more. While they have to, they make room for nothing,
// and what has come since is not kept beside them.

import type { Clock } from './clock.ts'

/** Milliseconds between two looks at all lanes: a send does not look at them for it. */
const AGAIN_AFTER = 100

interface Needing {
  readonly account: { readonly inGap: number }
  readonly needsKept: boolean
}

export class KeptNeed {
  readonly #clock: Clock
  readonly #feeds: () => readonly Needing[]
  readonly #sequence: () => number
  #isNeeded = false
  #asOf = Number.NEGATIVE_INFINITY
  /** As the start found it, until no gap waits. */
  #mayBe = false
  /** Nothing that was acked from this sequence on was done when it began. */
  #from = 0

  /** `sequence`: of the newest place. */
  constructor(clock: Clock, feeds: () => readonly Needing[], sequence: () => number) {
    this.#clock = clock
    this.#feeds = feeds
    this.#sequence = sequence
  }

  /** `mayBe`: gaps wait whose bodies may be among those that are kept. */
  recovered(mayBe: boolean): void {
    this.#mayBe = mayBe
  }

  get isThere(): boolean {
    const now = this.#clock.uptime()
    if (now - this.#asOf >= AGAIN_AFTER) {
      this.#asOf = now
      const feeds = this.#feeds()
      this.#mayBe &&= feeds.some(({ account }) => account.inGap > 0)
      const isNeeded = this.#mayBe || feeds.some(({ needsKept }) => needsKept)
      if (isNeeded && !this.#isNeeded) this.#from = this.#sequence()
      this.#isNeeded = isNeeded
    }
    return this.#isNeeded
  }

  /** Whether what begins at this sequence has come since. */
  hasComeSince(firstSequence: number): boolean {
    return this.isThere && firstSequence >= this.#from
  }

  /** What was found is not taken for true any longer. */
  lookAgain(): void {
    this.#asOf = Number.NEGATIVE_INFINITY
  }
}
