// So many at a time: who comes when all turns are taken waits, first come, first served. How many may change.

export class Turns {
  #limit: number
  #taken = 0
  readonly #waiting: (() => void)[] = []

  constructor(atATime: number) {
    this.#limit = atATime
  }

  get limit(): number {
    return this.#limit
  }

  /** More may begin at once; fewer, when some have ended. */
  set limit(limit: number) {
    this.#limit = limit
    this.#begin()
  }

  /** Does the work when its turn has come. */
  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#taken < this.#limit) this.#taken++
    else await new Promise<void>(resolve => this.#waiting.push(resolve))
    try {
      return await work()
    } finally {
      this.#taken--
      this.#begin()
    }
  }

  #begin(): void {
    while (this.#taken < this.#limit && this.#waiting.length > 0) {
      this.#taken++
      this.#waiting.shift()!()
    }
  }
}
