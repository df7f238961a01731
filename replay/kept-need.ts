// Whether bodies that are kept of what is done (kept-bodies.ts) have to be sent once more. While they have to, they make room for nothing,
// and what has come since is not kept beside them.

import type { Clock } from './clock.ts'

/** Milliseconds between two looks at all lanes: a send does not look at them for it. */
const AGAIN_AFTER = 100

interface Needing {
  readonly account: { readonly inGap: number }
  readonly needsKept: boolean
}

/** A page from before this start, and how many remotes have not passed it. */
interface Restored {
  readonly readers: number
}

export class KeptNeed {
  readonly #clock: Clock
  readonly #feeds: () => readonly Needing[]
  readonly #sequence: () => number
  #isNeeded = false
  #asOf = Number.NEGATIVE_INFINITY
  /** Pages that wait, and may have bodies nowhere else, as the start found them: until all are passed, or no gap waits. */
  #restored: readonly Restored[] = []
  /** Nothing that was acked from this sequence on was done when it began. */
  #from = 0

  /** `sequence`: of the newest place. */
  constructor(clock: Clock, feeds: () => readonly Needing[], sequence: () => number) {
    this.#clock = clock
    this.#feeds = feeds
    this.#sequence = sequence
  }

  /** Pages with gaps whose bodies may be among those that are kept. */
  recovered(pages: readonly Restored[]): void {
    this.#restored = pages
  }

  get isThere(): boolean {
    const now = this.#clock.uptime()
    if (now - this.#asOf >= AGAIN_AFTER) {
      this.#asOf = now
      const feeds = this.#feeds()
      const isGap = feeds.some(({ account }) => account.inGap > 0)
      this.#restored = isGap ? this.#restored.filter(({ readers }) => readers > 0) : []
      const isNeeded = this.#restored.length > 0 || feeds.some(({ needsKept }) => needsKept)
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
