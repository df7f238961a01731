// What one remote has still to do of a backlog: the messages from its head on, and what of them is done already.
//
// Indexes count from the head, the first message that is not done: they change when the head is done, and only then. Messages
// done behind one that is not are few. A window of pages from the head on is in memory; what lies behind it may be on disk.

import type { Account } from './account.ts'
import type { Backlog } from './backlog.ts'
import type { Body } from './body.ts'
import type { QueueMark } from './cursor.ts'
import type { Page } from './page.ts'
import type { Place } from './place.ts'

/** Messages that are made ready from the head on. */
const WINDOW = 1_024

export type LoadPage = (page: Page, backlog: Backlog) => Promise<'loaded' | 'damaged'>

export class Reader {
  readonly backlog: Backlog
  readonly account: Account
  /** Bit of this remote in what is skipped. */
  readonly bit: number
  /** Called when there is something to do. */
  onPush: () => void = () => {}
  /** Messages that are not done. */
  count = 0
  readonly #load: LoadPage
  #page: Page | undefined
  /** The head in its page. */
  #at = 0
  /** Done behind the head, by index in the backlog: epoch and offset. */
  readonly #ahead = new Map<number, [epoch: number, queueOffset: number]>()
  /** Not done, and came after a higher one was released: the cursor's mark must not cover them. By epoch. */
  readonly #late = new Map<number, Set<number>>()
  /** Offset behind the highest that the head has passed, by epoch. */
  readonly #passedEnd = new Map<number, number>()
  /** Done behind the mark at this start, by epoch: no page may have them, and the cursor names them all the same. */
  readonly #doneBefore = new Map<number, readonly [number, number][]>()
  readonly #pinned = new Set<Page>()
  /** Pages from before this start of which nothing is to be done. */
  readonly #skippedPages = new Set<Page>()

  constructor(backlog: Backlog, account: Account, bit: number, load: LoadPage) {
    this.backlog = backlog
    this.account = account
    this.bit = bit
    this.#load = load
    backlog.readers.push(this)
  }

  /** Index of the head in the backlog. */
  get headIndex(): number {
    return this.#page === undefined ? this.backlog.end : this.#page.firstIndex + this.#at
  }

  // What the backlog tells

  began(page: Page): void {
    if (this.#page === undefined) this.#page = page
    else this.#advance()
  }

  sealed(page: Page): void {
    if (page === this.#page) this.#advance()
  }

  pushed(page: Page, at: number, place: Place, late: boolean): void {
    if ((place.skipMask & this.bit) !== 0) {
      this.#pass(page, at, place)
      this.backlog.done(page, at)
      return
    }
    this.count++
    if (late) this.expectLate(place.epoch, place.queueOffset)
    this.onPush()
  }

  hasDone(page: Page, at: number): boolean {
    const index = page.firstIndex + at
    return index < this.headIndex || this.#ahead.has(index) || this.#skippedPages.has(page)
  }

  /** Whether it has begun with this page and is not done with it. */
  isWithin(page: Page): boolean {
    if (page === this.#page && this.#at > 0) return true
    if (this.#ahead.size > 0)
      for (const index of this.#ahead.keys()) if (index >= page.firstIndex && index < page.end) return true
    return false
  }

  // From before this start

  restored(page: Page): void {
    this.count += page.count
  }

  /** A message of a page from before this start is done, or was never to be done. */
  restoreDone(page: Page, at: number, place: Place): void {
    this.count--
    this.#pass(page, at, place)
  }

  /** Nothing of a page from before this start is to be done here. */
  restorePassed(page: Page): void {
    this.count -= page.count
    this.#skippedPages.add(page)
    this.#advance()
  }

  restoreMarks(marks: readonly QueueMark[]): void {
    for (const { epoch, mark, done } of marks) {
      this.#passedEnd.set(epoch, mark)
      if (done.length > 0) this.#doneBefore.set(epoch, done)
    }
  }

  /** A place comes behind higher ones: the cursor's mark must not cover it. */
  expectLate(epoch: number, queueOffset: number): void {
    const late = this.#late.get(epoch) ?? new Set()
    this.#late.set(epoch, late.add(queueOffset))
  }

  // The window

  /** Makes what is at the head ready, and what is next. Throws where the disk cannot be read. */
  async load(): Promise<void> {
    for (let page = this.#page; page !== undefined && !page.isLoaded; page = this.#page) {
      this.#pin(page)
      if ((await this.#load(page, this.backlog)) === 'loaded') break
      this.#lose(page)
    }
    let ready = 0
    for (let page = this.#page; page !== undefined && ready < WINDOW; page = page.next) {
      this.#pin(page)
      if (!page.isLoaded) {
        // It is ready when its turn comes; where it cannot be read, that is said then.
        if (!this.backlog.memory.isFull) void this.#load(page, this.backlog).catch(() => {})
        return
      }
      ready += page.count
    }
  }

  /** Holds nothing in memory while it cannot go on. */
  park(): void {
    for (const page of [...this.#pinned]) this.#unpin(page)
  }

  /** Messages in memory from the head on, done ones included. */
  get span(): number {
    let span = -this.#at
    let page = this.#page
    for (; page?.isLoaded && span < WINDOW; page = page.next) span += page.count
    return Math.max(0, span)
  }

  isDone(index: number): boolean {
    return this.#ahead.size > 0 && this.#ahead.has(this.headIndex + index)
  }

  place(index: number): Place {
    const { page, at } = this.#entry(index)
    return page.place(at)
  }

  queueOffset(index: number): number {
    const { page, at } = this.#entry(index)
    return page.queueOffset(at)
  }

  body(index: number): Body | undefined {
    const { page, at } = this.#entry(index)
    return page.body(at)
  }

  fill(index: number, body: Body): void {
    const { page, at } = this.#entry(index)
    this.backlog.fill(page, at, body)
  }

  /** The message is done, whatever the account was told. Returns whether it had a body, here or on disk. */
  done(index: number): boolean {
    const { page, at } = this.#entry(index)
    const place = page.place(at)
    const hadBody = page.hasBody(at)
    if (this.#late.size > 0) this.#late.get(place.epoch)?.delete(place.queueOffset)
    this.count--
    this.#pass(page, at, place)
    this.backlog.done(page, at)
    return hadBody
  }

  // For the cursor

  /** Time of the ack of the message at the head; undefined where nothing waits. */
  get headAckedAt(): number | undefined {
    if (this.#page === undefined || this.count === 0) return undefined
    return this.#page.hasPlaces ? this.#page.ackedAt(this.#at) : this.#page.firstAckedAt
  }

  /** What is done, of the epochs from this one on. */
  marks(oldestEpoch: number): QueueMark[] {
    const done = this.#doneRuns()
    const marks: QueueMark[] = []
    for (const epoch of new Set([...this.#passedEnd.keys(), ...this.#late.keys(), ...done.keys()])) {
      if (epoch < oldestEpoch) {
        this.#passedEnd.delete(epoch)
        this.#late.delete(epoch)
        this.#doneBefore.delete(epoch)
        continue
      }
      const mark = this.#passedEnd.get(epoch) ?? 0
      marks.push({ epoch, mark, late: [...(this.#late.get(epoch) ?? [])], done: done.get(epoch) ?? [] })
    }
    return marks
  }

  /** Messages that are done behind the mark, by epoch, as runs of offsets. */
  #doneRuns(): Map<number, [number, number][]> {
    const runs = new Map<number, [number, number][]>()
    if (this.#ahead.size === 0 && this.#doneBefore.size === 0) return runs
    const done = [...this.#ahead.values()]
    for (const [epoch, before] of this.#doneBefore)
      for (const [first, count] of before) for (let at = 0; at < count; at++) done.push([epoch, first + at])
    for (const [epoch, offset] of done.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
      if (offset < (this.#passedEnd.get(epoch) ?? 0)) continue
      const list = runs.get(epoch) ?? []
      if (list.length === 0) runs.set(epoch, list)
      const last = list.at(-1)
      if (last !== undefined && last[0] + last[1] === offset) last[1]++
      else if (last === undefined || last[0] + last[1] < offset) list.push([offset, 1])
    }
    return runs
  }

  #pass(page: Page, at: number, { epoch, queueOffset }: Place): void {
    if (page !== this.#page || at !== this.#at) {
      this.#ahead.set(page.firstIndex + at, [epoch, queueOffset])
      return
    }
    this.#passed(epoch, queueOffset)
    this.#advance()
  }

  #passed(epoch: number, queueOffset: number): void {
    this.#at++
    const end = this.#passedEnd.get(epoch)
    if (end === undefined || end <= queueOffset) this.#passedEnd.set(epoch, queueOffset + 1)
  }

  /** Moves the head over what is done. An open page is not left: more may come. */
  #advance(): void {
    while (this.#page !== undefined) {
      const page = this.#page
      const index = page.firstIndex + this.#at
      const done = this.#ahead.size === 0 ? undefined : this.#ahead.get(index)
      if (this.#skippedPages.delete(page)) this.#leave(page)
      else if (done !== undefined && this.#at < page.count) {
        this.#ahead.delete(index)
        this.#passed(...done)
      } else if (this.#at === page.count && page.sealed) this.#leave(page)
      else return
    }
  }

  #leave(page: Page): void {
    this.#page = page.next
    this.#at = 0
    this.backlog.passed(page)
    this.#unpin(page)
  }

  /** The page cannot be read any more: its messages are lost here, and in the source they are still. */
  #lose(page: Page): void {
    this.account.lostPage('journal', page.withBody, page.count - page.withBody)
    this.count -= page.count
    this.#leave(page)
  }

  #entry(index: number): { page: Page; at: number } {
    let page = this.#page!
    let at = this.#at + index
    while (at >= page.count) {
      at -= page.count
      page = page.next!
    }
    return { page, at }
  }

  #pin(page: Page): void {
    if (this.#pinned.has(page)) return
    this.#pinned.add(page)
    page.pins++
  }

  #unpin(page: Page): void {
    if (!this.#pinned.delete(page)) return
    page.pins--
    if (page.pins > 0 || page.block === undefined || page.readers === 0) return
    if (page.isLoaded) this.backlog.dropBodies(page)
    this.backlog.dropPlaces(page)
  }
}
