// What one remote has still to do of a backlog: the messages from its head on, and what of them is done already.
//
// Indexes count from the head, the first message that is not done: they change when the head is done, and only then. Messages
// done behind one that is not are few. A window of pages from the head on is in memory; what lies behind it may be on disk.

import type { Account } from './account.ts'
import type { Backlog } from './backlog.ts'
import type { Body } from './body.ts'
import type { QueueMark } from './cursor.ts'
import { Page } from './page.ts'
import { eraOf, type Place } from './place.ts'

/** Messages that are made ready from the head on. */
const WINDOW = 1_024

export type LoadPage = (page: Page, backlog: Backlog) => Promise<'loaded' | 'damaged'>

/** Places that are unclear again, page by page, and where the head goes on behind them. */
interface Again {
  places: Iterator<Place, undefined>
  next: Place | undefined
  /** Of that one. */
  index: number
  resume: { page: Page | undefined; at: number }
}

/** A message that is not done. */
export interface Waiting {
  page: Page
  at: number
  place: Place
}

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
  /** Index in the backlog behind what is in a request whose outcome is not known. */
  #outEnd = Number.NEGATIVE_INFINITY
  /** Done behind the head, by index in the backlog: epoch and offset. */
  readonly #ahead = new Map<number, [epoch: number, queueOffset: number]>()
  /** Not done, and came after a higher one was released: the cursor's mark must not cover them. By epoch. */
  readonly #late = new Map<number, Set<number>>()
  /** Offset behind the highest that the head has passed, by epoch. */
  readonly #passedEnd = new Map<number, number>()
  /**
   * Done behind the mark at this start, or lost, by epoch, as runs of offsets: no page may have them, and the cursor names
   * them all the same. A late one among them that waits is named late.
   */
  readonly #doneApart = new Map<number, [first: number, count: number][]>()
  /** Pages that are lost before the head has come to them. */
  readonly #lostPages = new Set<Page>()
  /** The newest run of what was lost, and the index behind it. */
  #lostRun: [first: number, count: number] | undefined
  #lostEnd = -1
  /** Where the head goes on behind what is unclear again, the latest last. */
  readonly #again: Again[] = []
  /** Of these: not done. */
  #againCount = 0
  /** Lowest index of what was unclear again: they are below all of the backlog's. */
  #lowest = 0
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

  /** The same, what is unclear again left aside. */
  get #resumeIndex(): number {
    const { page, at } = this.#again[0]?.resume ?? { page: this.#page, at: this.#at }
    return page === undefined ? this.backlog.end : page.firstIndex + at
  }

  // What the backlog tells

  began(page: Page): void {
    const behind = this.#again[0]?.resume
    if (behind === undefined) {
      if (this.#page === undefined) this.#page = page
      else this.#advance()
    } else behind.page ??= page
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
    const head = page.owner === undefined ? this.#resumeIndex : this.headIndex
    return index < head || this.#ahead.has(index) || this.#isPassedOver(page)
  }

  /** Whether it has begun with this page and is not done with it. */
  isWithin(page: Page): boolean {
    if (page === this.#page && this.#at > 0) return true
    if (this.#again.some(({ resume }) => resume.page === page && resume.at > 0)) return true
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
      if (done.length > 0) this.#doneApart.set(epoch, [...done])
    }
  }

  /** A place comes behind higher ones: the cursor's mark must not cover it. */
  expectLate(epoch: number, queueOffset: number): void {
    const late = this.#late.get(epoch) ?? new Set()
    this.#late.set(epoch, late.add(queueOffset))
  }

  /** Places that were done, and are unclear again: they go first, without bodies. They are counted already. */
  prepend(places: Iterable<Place>, count: number): void {
    if (count === 0) return
    this.#lowest -= count
    const iterator = places[Symbol.iterator]()
    const resume = { page: this.#page, at: this.#at }
    this.#again.push({ places: iterator, next: iterator.next().value, index: this.#lowest, resume })
    this.count += count
    this.#againCount += count
    this.#beginAgain()
  }

  /** What is unclear again and not done is taken out, as if it had never been put before. */
  withdraw(): void {
    const [first, ...later] = this.#again
    if (first === undefined) return
    for (const page of [this.#page!, ...later.map(({ resume }) => resume.page!)]) {
      this.backlog.dropBodies(page)
      this.backlog.passed(page)
      this.#unpin(page)
    }
    this.#again.length = 0
    for (const index of this.#ahead.keys()) if (index < 0) this.#ahead.delete(index)
    this.count -= this.#againCount
    this.#againCount = 0
    this.#page = first.resume.page
    this.#at = first.resume.at
    this.#advance()
  }

  // Losing

  /**
   * A page can be kept no longer. It is lost here, unless the head has passed it or has come near it. Returns how many messages
   * that is.
   */
  lose(page: Page): number {
    // What is near may be out, or being read back.
    if (page.firstIndex < this.#resumeIndex + WINDOW || this.#isPassedOver(page)) return 0
    const { epoch, firstIndex, count } = page
    const runs = this.#doneApart.get(epoch) ?? []
    this.#doneApart.set(epoch, runs)
    let run = this.#lostEnd === firstIndex && runs.includes(this.#lostRun!) ? this.#lostRun : undefined
    const late = this.#late.get(epoch)
    const undone: number[] = []
    let withBody = 0
    for (let at = 0; at < count; at++) {
      const offset = page.queueOffset(at)
      const isDone = this.#ahead.delete(firstIndex + at)
      if (!isDone) {
        undone.push(at)
        if (page.hasBody(at)) withBody++
      }
      // The offsets between two that rise are of others, or late. One that is late itself stands alone.
      if (late?.delete(offset) || isDone) runs.push([offset, 1])
      else if (run !== undefined && offset >= run[0] + run[1]) run[1] = offset + 1 - run[0]
      else {
        run = [offset, 1]
        runs.push(run)
      }
    }
    this.#lostRun = run
    this.#lostEnd = firstIndex + count
    this.#lostPages.add(page)
    this.count -= undone.length
    this.account.lostPage('journal', withBody, undone.length - withBody)
    for (const at of undone) this.backlog.done(page, at)
    this.backlog.passed(page)
    return undone.length
  }

  /** This page is part of the lost one before it now. */
  isWithinLost(page: Page): void {
    this.#lostPages.delete(page)
  }

  #isPassedOver(page: Page): boolean {
    return this.#skippedPages.has(page) || this.#lostPages.has(page)
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
      if (this.#isPassedOver(page)) return
      this.#pin(page)
      if (!page.isLoaded) {
        // It is ready when its turn comes; where it cannot be read, that is said then.
        if (!this.backlog.memory.isFull) void this.#load(page, this.backlog).catch(() => {})
        return
      }
      ready += page.count
    }
  }

  /** What waits in memory, from the head on. */
  *inWindow(): Generator<Waiting> {
    const { span } = this
    for (let index = 0; index < span; index++) {
      if (this.isDone(index)) continue
      const { page, at } = this.#entry(index)
      yield { page, at, place: page.place(at) }
    }
  }

  /** What waits up to an index of the backlog, in pages that matter: each is in memory while it is looked at. Throws where the disk cannot be read. */
  async through(until: number, matters: (page: Page) => boolean, visit: (waiting: Waiting[]) => void): Promise<void> {
    for (let page = this.#page; page !== undefined && page.firstIndex < until; page = page.next) {
      if (this.#isPassedOver(page) || !matters(page)) continue
      const wasPinned = this.#pinned.has(page)
      this.#pin(page)
      if (page.hasPlaces || (await this.#load(page, this.backlog)) === 'loaded') {
        const waiting: Waiting[] = []
        for (let at = 0; at < page.count; at++)
          if (!this.hasDone(page, at)) waiting.push({ page, at, place: page.place(at) })
        visit(waiting)
      }
      if (!wasPinned) this.#unpin(page)
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
    for (; page?.isLoaded && !this.#isPassedOver(page) && span < WINDOW; page = page.next) span += page.count
    return Math.max(0, span)
  }

  /**
   * It goes into a request: until the outcome of that is known nobody fills it, or gives it up, though its body may leave memory; its place
   * does not.
   */
  goesOut(index: number): void {
    const { page, at } = this.#entry(index)
    // It may have come since what is near the head was made ready.
    this.#pin(page)
    this.#outEnd = page.firstIndex + at + 1
  }

  isOut(index: number): boolean {
    return this.headIndex + index < this.#outEnd
  }

  /** Of all that was out it is known. */
  nothingIsOut(): void {
    this.#outEnd = Number.NEGATIVE_INFINITY
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

  setCheck(index: number, bornTimestamp: number, hash: number): void {
    const { page, at } = this.#entry(index)
    page.setCheck(at, bornTimestamp, hash)
  }

  fill(index: number, body: Body): void {
    const { page, at } = this.#entry(index)
    this.backlog.fill(page, at, body)
  }

  /** The message is done, whatever the account was told. Returns whether it had a body, here or on disk. */
  done(index: number): boolean {
    const { page, at } = this.#entry(index)
    return this.isDoneNow(page, at)
  }

  /** The same of a message by where it stands, in the window or behind it. */
  isDoneNow(page: Page, at: number): boolean {
    const place = page.place(at)
    const hadBody = page.hasBody(at)
    if (this.#late.size > 0) this.#late.get(place.epoch)?.delete(place.queueOffset)
    this.count--
    if (page.owner === undefined) this.account.newestDoneAt = Math.max(this.account.newestDoneAt, place.ackedAt)
    else this.#againCount--
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

  /** What is done, of the eras from this one on. */
  marks(oldestEra: number): QueueMark[] {
    const done = this.#doneRuns()
    const marks: QueueMark[] = []
    for (const epoch of new Set([...this.#passedEnd.keys(), ...this.#late.keys(), ...done.keys()])) {
      if (eraOf(epoch) < oldestEra) {
        this.#passedEnd.delete(epoch)
        this.#late.delete(epoch)
        this.#doneApart.delete(epoch)
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
    if (this.#ahead.size === 0 && this.#doneApart.size === 0) return runs
    const done: [epoch: number, first: number, end: number][] = []
    for (const [index, [epoch, offset]] of this.#ahead) if (index >= 0) done.push([epoch, offset, offset + 1])
    for (const [epoch, apart] of this.#doneApart)
      for (const [first, count] of apart) done.push([epoch, first, first + count])
    for (const [epoch, from, end] of done.sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
      const first = Math.max(from, this.#passedEnd.get(epoch) ?? 0)
      if (first >= end) continue
      const list = runs.get(epoch) ?? []
      if (list.length === 0) runs.set(epoch, list)
      const last = list.at(-1)
      if (last === undefined || last[0] + last[1] < first) list.push([first, end - first])
      else last[1] = Math.max(last[1], end - last[0])
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
    // The journal need not know of what was done before.
    if (this.#page?.owner !== undefined) return
    this.#passedTo(epoch, queueOffset)
  }

  #passedTo(epoch: number, queueOffset: number): void {
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
      else if (this.#lostPages.delete(page)) {
        this.backlog.leftLost(page)
        this.#page = page.next
      } else if (done !== undefined && this.#at < page.count) {
        this.#ahead.delete(index)
        this.#passed(...done)
      } else if (this.#at === page.count && page.sealed) this.#leave(page)
      else return
    }
  }

  /** The next page of what is unclear again; where there is no more, the head goes on where it was. */
  #beginAgain(): void {
    const again = this.#again.at(-1)!
    const { places, next, resume } = again
    if (next === undefined) {
      this.#again.pop()
      this.#page = resume.page
      this.#at = resume.at
      this.#advance()
      return
    }
    const page = new Page(next.epoch, again.index, this)
    for (; again.next?.epoch === page.epoch && !page.isFull; again.next = places.next().value)
      page.add(again.next, undefined, 0)
    again.index += page.count
    page.sealed = true
    page.readers = 1
    this.#page = page
    this.#at = 0
  }

  #leave(page: Page): void {
    if (page.owner !== undefined) {
      this.backlog.passed(page)
      this.#unpin(page)
      this.#beginAgain()
      return
    }
    this.#page = page.next
    this.#at = 0
    this.backlog.passed(page)
    this.#unpin(page)
  }

  /** The page cannot be read any more: its messages are lost here, and in the source they are still. */
  #lose(page: Page): void {
    this.account.lostPage('journal', page.withBody, page.count - page.withBody)
    this.count -= page.count
    // Or the next start would find the page, and lose it once more.
    this.#passedTo(page.epoch, page.maxOffset)
    this.#leave(page)
    this.#advance()
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
    // Its source does not give them, and its block may not be on the disk.
    if (page.keeps && !page.folded) return
    if (page.isLoaded) this.backlog.dropBodies(page)
    this.backlog.dropPlaces(page)
  }
}
