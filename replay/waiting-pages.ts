// Pages that wait to be written to disk, oldest first, and what their places take of memory.
//
// Where the disk takes nothing for long they are given up, the oldest first, and for those remotes only that have not come
// near them: their messages are lost, which is said with their queues' offsets. It knows no disk: who writes says when.

import type { Backlog } from './backlog.ts'
import type { Clock } from './clock.ts'
import type { Log } from './log.ts'
import type { Page } from './page.ts'

/** This share of the limit is left when it was exceeded: few long stretches are lost, not many short ones. */
const LEFT = 0.9
/** Milliseconds between two lines on what a queue has lost. */
const SAY_INTERVAL = 10_000

/** What a queue has lost and nobody was told yet. */
interface Lost {
  fromOffset: number
  toOffset: number
  messages: number
}

export class WaitingPages {
  /** Of memory, for places; bodies are counted by BodyMemory. */
  bytes = 0
  readonly #clock: Clock
  readonly #log: Log
  #pages = new Map<Page, Backlog>()
  readonly #lost = new Map<Backlog, Lost>()
  #cancelSaying: (() => void) | undefined

  constructor(clock: Clock, log: Log) {
    this.#clock = clock
    this.#log = log
  }

  get size(): number {
    return this.#pages.size
  }

  [Symbol.iterator](): Iterator<[Page, Backlog]> {
    return this.#pages[Symbol.iterator]()
  }

  add(page: Page, backlog: Backlog): void {
    this.#pages.set(page, backlog)
    this.bytes += page.placesMemory
  }

  /** Before all others, those that nobody needs any more left out. */
  addFirst(pages: readonly (readonly [Page, Backlog])[]): void {
    const others = this.#pages
    this.#pages = new Map()
    for (const [page, backlog] of pages) if (page.readers > 0) this.add(page, backlog)
    for (const [page, backlog] of others) this.#pages.set(page, backlog)
  }

  delete(page: Page): void {
    if (this.#pages.delete(page)) this.bytes -= page.placesMemory
  }

  /** Gives up the oldest where their places take more than so many bytes. */
  loseBeyond(most: number): void {
    if (this.bytes <= most) return
    for (const [page, backlog] of this.#pages) {
      if (this.bytes <= most * LEFT) return
      const messages = backlog.lose(page)
      if (messages > 0) this.#note(page, backlog, messages)
    }
  }

  /** Says what nobody was told yet. */
  close(): void {
    this.#cancelSaying?.()
    this.#say()
  }

  #note({ minOffset, maxOffset }: Page, backlog: Backlog, messages: number): void {
    const { fromOffset = minOffset, toOffset = maxOffset, messages: before = 0 } = this.#lost.get(backlog) ?? {}
    this.#lost.set(backlog, {
      fromOffset: Math.min(fromOffset, minOffset),
      toOffset: Math.max(toOffset, maxOffset),
      messages: before + messages,
    })
    this.#cancelSaying ??= this.#clock.after(SAY_INTERVAL, () => {
      this.#cancelSaying = undefined
      this.#say()
    })
  }

  #say(): void {
    for (const [{ topic, queueId }, lost] of this.#lost)
      this.#log.error(
        { topic, queueId, ...lost, cause: 'journal' },
        'messages lost: the disk does not take their places, and there are more than memory may hold',
      )
    this.#lost.clear()
  }
}
