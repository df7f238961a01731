// A history as a person can read it: who did what, when. Kept while it runs, printed only where it failed.

export class History {
  readonly #now: () => number
  readonly #start: number
  readonly #lines: { at: number; who: string; what: string }[] = []

  constructor(now: () => number) {
    this.#now = now
    this.#start = now()
  }

  readonly say = (who: string, what: string): void => {
    this.#lines.push({ at: this.#now() - this.#start, who, what })
  }

  get length(): number {
    return this.#lines.length
  }

  /** Only lines in which one of these words stands, or all. */
  print(about?: readonly string[]): string {
    const width = Math.max(...this.#lines.map(({ who }) => who.length), 0)
    return this.#lines
      .filter(({ who, what }) => about === undefined || about.some(word => `${who} ${what}`.includes(word)))
      .map(({ at, who, what }) => `${(at / 1000).toFixed(4).padStart(10)} s  ${who.padEnd(width)}  ${what}`)
      .join('\n')
  }
}
