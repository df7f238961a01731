// Work that many ask for, done one at a time. Who asks while it is under way may have come too late for that run: all who do
// share the next.

export class Coalesced {
  readonly #work: () => Promise<void>
  #current: Promise<void> | undefined
  #next: Promise<void> | undefined

  constructor(work: () => Promise<void>) {
    this.#work = work
  }

  /** Resolves when a run has ended that began at this call or later; rejects as that run does. */
  run(): Promise<void> {
    if (this.#current === undefined) {
      this.#current = this.#work().finally(() => {
        this.#current = undefined
      })
      return this.#current
    }
    this.#next ??= this.#current
      .catch(() => {})
      .then(() => {
        this.#next = undefined
        return this.run()
      })
    return this.#next
  }
}
