// The messages of one source queue that some remote has not, in the order of their release. Each remote reads it with a
// reader of its own; what no reader has to do any more is forgotten.
//
// It keeps the accounts right when a body comes, goes or is done, for it knows who still waits for it.

import type { BlockPlaces } from './block.ts'
import { type Body, type BodyMemory, payloadLength } from './body.ts'
import { type BlockLocation, Page } from './page.ts'
import { eraOf, type Place } from './place.ts'
import type { Reader } from './reader.ts'

export interface BacklogEvents {
  /** Identity of an epoch by its ordinal. */
  epochId(epoch: number): string
  /** No message is added to this page any more. */
  sealed(page: Page, backlog: Backlog): void
  /** A place is done; `isInBlock`: a synced block has it, so that the journal knows it no more, unless for its body. */
  done(sequence: number, isInBlock: boolean): void
  /** Nobody needs this page any more. */
  passed(page: Page): void
}

export class Backlog {
  readonly topic: string
  readonly queueId: number
  readonly memory: BodyMemory
  readonly readers: Reader[] = []
  readonly #events: BacklogEvents
  /** Offsets below this were released. */
  releasedEnd = 0
  #releasedEra = 0
  #last: Page | undefined
  /** What stands for the newest pages that all readers have lost, while a reader has it before it. */
  #lost: Page | undefined
  /** Index behind the newest message. */
  end = 0

  constructor(topic: string, queueId: number, memory: BodyMemory, events: BacklogEvents) {
    this.topic = topic
    this.queueId = queueId
    this.memory = memory
    this.#events = events
  }

  /** The page that messages are added to. */
  get open(): Page | undefined {
    return this.#last?.sealed === false ? this.#last : undefined
  }

  epochId(epoch: number): string {
    return this.#events.epochId(epoch)
  }

  isOfOlderEra(epoch: number): boolean {
    return eraOf(epoch) < this.#releasedEra
  }

  /** Whether a message of this offset would come behind higher ones. */
  isLate(epoch: number, queueOffset: number): boolean {
    const era = eraOf(epoch)
    return era < this.#releasedEra || (era === this.#releasedEra && queueOffset < this.releasedEnd)
  }

  /** A message whose turn it is, behind all others. It is counted already. */
  push(place: Place, body: Body | undefined, keeps = false): void {
    const late = this.isLate(place.epoch, place.queueOffset)
    if (!late) {
      this.#releasedEra = eraOf(place.epoch)
      this.releasedEnd = place.queueOffset + 1
    }
    let page = this.open
    if (page === undefined || page.epoch !== place.epoch) page = this.#begin(place.epoch)
    const bytes = body === undefined ? 0 : payloadLength(body) + body.propertiesEnd - body.propertiesStart
    page.add(place, body, bytes)
    if (keeps) page.keeps = true
    this.end++
    if (page.isFull) this.seal(page)
    const at = page.count - 1
    for (const reader of this.readers) reader.pushed(page, at, place, late)
  }

  /** A page from before this start, behind all others. Nothing of it is done yet. */
  restore(page: Page): void {
    if (this.#last !== undefined) this.seal(this.#last)
    if (eraOf(page.epoch) > this.#releasedEra) this.releasedEnd = 0
    this.#releasedEra = eraOf(page.epoch)
    this.releasedEnd = Math.max(this.releasedEnd, page.maxOffset + 1)
    this.#append(page)
    this.end += page.count
    for (const reader of this.readers) reader.restored(page)
  }

  seal(page: Page): void {
    if (page.sealed) return
    page.sealed = true
    this.#events.sealed(page, this)
    // Who was waiting for more of it goes on.
    for (const reader of this.readers) reader.sealed(page)
  }

  /** A reader has done this one. Its body goes when all have. */
  done(page: Page, at: number): void {
    const isDone = this.readers.length === 1 || this.#readersOf(page).every(reader => reader.hasDone(page, at))
    if (!isDone && !this.#isInTheWay(page, at)) return
    // Who left the page with it may have let its places go, and bodies before them.
    const body = page.hasPlaces ? page.takeBody(at) : undefined
    if (body !== undefined) this.memory.letGo(body)
    if (!isDone) return this.becomesGap(page, at)
    if (page.owner === undefined && page.hasPlaces) this.#events.done(page.sequence(at), page.folded)
  }

  /** Read back for the head of one reader: while memory is full it is not kept for another that is not there. */
  #isInTheWay(page: Page, at: number): boolean {
    if (!this.memory.isFull || !page.isReadBack(at)) return false
    return this.#readersOf(page).every(({ headIndex }) => headIndex !== page.firstIndex + at)
  }

  /** A reader has passed this page. */
  passed(page: Page): void {
    if (--page.readers === 0 && page.owner === undefined) this.#events.passed(page)
  }

  /**
   * A page that can be kept no longer is lost for every reader that has not come near it. Returns how many messages that is,
   * for the reader that loses most.
   */
  lose(page: Page): number {
    // Pages behind it hang on it.
    if (page.next === undefined) return 0
    const lost = Math.max(...this.readers.map(reader => reader.lose(page)))
    if (page.readers === 0) this.#shrink(page)
    return lost
  }

  /** A reader has come to a page that it had lost. */
  leftLost(page: Page): void {
    // It would keep all behind it in memory.
    if (page === this.#lost) this.#lost = undefined
  }

  /** Of a page that all have lost or passed, only its place in the row is left; of several in a row, one. */
  #shrink(page: Page): void {
    page.dropPlaces()
    const before = this.#lost
    if (before?.next !== page) {
      this.#lost = page
      return
    }
    before.next = page.next
    before.count += page.count
    for (const reader of this.readers) reader.isWithinLost(page)
  }

  /** A body that was read back from the source. */
  fill(page: Page, at: number, body: Body): void {
    const had = page.hasBody(at)
    page.setBody(at, body)
    if (!had) this.#isNoGap(page, at)
  }

  /** Its block has been written, with the bodies of these. */
  wasStored(page: Page, block: BlockLocation, withBody: readonly boolean[]): void {
    // Some may have been let go of meanwhile.
    for (let at = 0; at < page.count; at++) if (withBody[at] && !page.hasBody(at)) this.#isNoGap(page, at)
    page.wasStored(block, withBody)
  }

  /** Its block is another now, that lacks some bodies which the former had. */
  movesTo(page: Page, block: BlockLocation, had: readonly boolean[], has: readonly boolean[]): void {
    const before = page.hasPlaces ? had.map((_, at) => page.hasBody(at)) : had
    page.wasStored(block, has)
    for (let at = 0; at < page.count; at++)
      if (before[at] && !(page.hasPlaces ? page.hasBody(at) : has[at])) this.becomesGap(page, at)
  }

  #isNoGap(page: Page, at: number): void {
    for (const reader of this.#readersOf(page)) if (!reader.hasDone(page, at)) reader.account.moved('queued')
  }

  /** Its body is given up: the message is a gap. */
  becomesGap(page: Page, at: number): void {
    for (const reader of this.#readersOf(page)) if (!reader.hasDone(page, at)) reader.account.moved('gap')
  }

  /** A page has come back from its block; what is undefined is damaged. */
  loaded(page: Page, block: BlockPlaces | undefined, bodies: readonly (Body | undefined)[] | undefined): void {
    const stored = bodies === undefined ? undefined : block?.shapes.map(shape => shape !== undefined)
    const taken: (Body | undefined)[] = []
    for (let at = 0; at < page.count; at++) {
      const isWanted = this.readers.some(reader => !reader.hasDone(page, at))
      const had = page.hasPlaces ? page.hasBody(at) : block?.shapes[at] !== undefined
      const here = page.hasPlaces ? page.body(at) : undefined
      const body = isWanted && here === undefined ? bodies?.[at] : undefined
      if (body !== undefined) this.memory.keepAnyway(body)
      taken.push(body)
      if (isWanted && had && here === undefined && body === undefined) this.becomesGap(page, at)
    }
    page.load(block?.places ?? [], taken, stored)
    // They are gaps from now on, also where it is loaded once more.
    if (bodies === undefined) page.withBody = 0
  }

  /** Whether its block is on the disk is not known any more. */
  forgetBlock(page: Page): void {
    const before: boolean[] = []
    for (let at = 0; at < page.count; at++) before.push(page.hasBody(at))
    page.forgetBlock()
    for (let at = 0; at < page.count; at++) if (before[at] && !page.hasBody(at)) this.becomesGap(page, at)
  }

  /** Bodies of a page leave memory; what the block does not have becomes gaps. */
  dropBodies(page: Page): void {
    page.dropBodies((body, at) => {
      this.memory.letGo(body)
      if (!page.hasBody(at)) this.becomesGap(page, at)
    })
  }

  /** Places that are in the block leave memory, where nobody is in the midst of them. */
  dropPlaces(page: Page): void {
    if (page.pins > 0 || !page.folded || page.isLoaded || !page.hasPlaces) return
    if (this.readers.some(reader => reader.isWithin(page))) return
    page.dropPlaces()
  }

  #readersOf(page: Page): readonly Reader[] {
    return page.owner === undefined ? this.readers : [page.owner]
  }

  #begin(epoch: number): Page {
    if (this.#last !== undefined) this.seal(this.#last)
    const page = new Page(epoch, this.end)
    this.#append(page)
    return page
  }

  #append(page: Page): void {
    if (this.#last !== undefined) this.#last.next = page
    this.#last = page
    page.readers = this.readers.length
    for (const reader of this.readers) reader.began(page)
  }
}
