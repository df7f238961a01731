// Backlogs, their pages and their readers against plain arrays: whatever is pushed, stored, loaded, lost, filled and done.

import test, { type ExecutionContext } from 'ava'
import { Account } from '../../replay/account.ts'
import { Backlog } from '../../replay/backlog.ts'
import { decodeBlockBodies, decodeBlockHeader, decodeBlockPlaces, encodeBlock } from '../../replay/block.ts'
import { type Body, BodyMemory, payloadOf } from '../../replay/body.ts'
import type { QueueMark } from '../../replay/cursor.ts'
import { PAGE_BYTES, PAGE_MESSAGES, type Page } from '../../replay/page.ts'
import type { Place } from '../../replay/place.ts'
import { Reader } from '../../replay/reader.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { bodyWith, placeAt } from './sample.ts'

const SALT = 7
const BITS = [1, 2] as const

/** A backlog with readers, and a disk for its pages. */
class Lab {
  readonly memory = new BodyMemory(1_000_000_000)
  readonly accounts: Account[] = []
  readonly readers: Reader[] = []
  readonly sealed: Page[] = []
  readonly passed: Page[] = []
  readonly done: number[] = []
  readonly blocks = new Map<Page, Buffer>()
  loads = 0
  readonly backlog: Backlog

  constructor(readers = 1) {
    this.backlog = new Backlog('orders', 0, this.memory, {
      epochId: () => '0123456789ab',
      sealed: page => this.sealed.push(page),
      done: sequence => this.done.push(sequence),
      passed: page => this.passed.push(page),
    })
    for (const bit of BITS.slice(0, readers)) {
      const account = new Account()
      this.accounts.push(account)
      this.readers.push(new Reader(this.backlog, account, bit, page => this.load(page)))
    }
  }

  push(place: Place, body?: Body): void {
    if (body !== undefined) this.memory.keepAnyway(body)
    this.readers.forEach((reader, index) => {
      if ((place.skipMask & reader.bit) === 0) this.accounts[index]!.accepted(body !== undefined)
      else this.accounts[index]!.skipped('loop', 1)
    })
    this.backlog.push(place, body)
  }

  /** The page goes to disk, as spill.ts does it. */
  store(page: Page): void {
    const messages = Array.from({ length: page.count }, (_, at) => ({ place: page.place(at), body: page.body(at) }))
    this.blocks.set(page, encodeBlock('orders', 0, '0123456789ab', page, messages, SALT, false))
    page.wasStored(
      { path: 'a block', at: 0, headBytes: 8, bytes: 1 },
      messages.map(({ body }) => body !== undefined),
    )
    if (page.pins === 0) this.backlog.dropBodies(page)
    page.folded = true
    this.backlog.dropPlaces(page)
  }

  async load(page: Page): Promise<'loaded' | 'damaged'> {
    this.loads++
    const bytes = this.blocks.get(page)!
    await null
    if (page.isLoaded) return 'loaded'
    const header = decodeBlockHeader(bytes, SALT)
    const places = header && decodeBlockPlaces(bytes, header, SALT)
    if (places === undefined && !page.hasPlaces) return 'damaged'
    if (page.withBody === 0 && places !== undefined) places.shapes.fill(undefined)
    this.backlog.loaded(page, places, places && decodeBlockBodies(bytes, header!, places, SALT))
    return 'loaded'
  }

  text(reader: Reader, index: number): string | undefined {
    const body = reader.body(index)
    return body && Buffer.concat(payloadOf(body)).toString()
  }
}

test('what is pushed is read in its order, and its body with it', async t => {
  const lab = new Lab()
  const [reader] = lab.readers as [Reader]
  let pushes = 0
  reader.onPush = () => {
    pushes++
  }
  for (let offset = 0; offset < 5; offset++)
    lab.push(placeAt(offset), offset === 2 ? undefined : bodyWith(`m${offset}`))
  await reader.load()
  t.is(pushes, 5)
  t.deepEqual([reader.count, reader.span, reader.headIndex], [5, 5, 0])
  for (let index = 0; index < 5; index++) t.deepEqual(reader.place(index), placeAt(index))
  t.deepEqual(
    [0, 1, 2, 3, 4].map(index => lab.text(reader, index)),
    ['m0', 'm1', undefined, 'm3', 'm4'],
  )
  t.is(reader.headAckedAt, placeAt(0).ackedAt)
})

test('a place is given back exactly, whatever its numbers', async t => {
  const lab = new Lab()
  const place = placeAt(Number.MAX_SAFE_INTEGER - 1, {
    epoch: 4_000_000_000,
    commitLogOffset: -1,
    bornTimestamp: -5,
    hash: 2 ** 32 - 1,
    placeFlags: 3,
    skipReason: 255,
    skipMask: 0xfffffe,
  })
  lab.push(place)
  t.deepEqual(lab.readers[0]!.place(0), place)
})

test('a page ends with so many messages, with so many bytes, and with its epoch', t => {
  const lab = new Lab()
  for (let offset = 0; offset < PAGE_MESSAGES + 1; offset++) lab.push(placeAt(offset))
  t.deepEqual(
    lab.sealed.map(page => page.count),
    [PAGE_MESSAGES],
  )
  const large = bodyWith('x'.repeat(PAGE_BYTES / 4), Buffer.alloc(0))
  for (let offset = 0; offset < 5; offset++) lab.push(placeAt(1_000 + offset), { ...large })
  t.deepEqual(
    lab.sealed.map(page => page.count),
    [PAGE_MESSAGES, 5],
  )
  lab.push(placeAt(3_000))
  lab.push(placeAt(0, { epoch: 2 }))
  t.deepEqual(
    lab.sealed.map(page => page.count),
    [PAGE_MESSAGES, 5, 2],
  )
})

test('done in any order, the head is the first that is not done, and the marks say what is', t => {
  const lab = new Lab()
  const [reader] = lab.readers as [Reader]
  for (let offset = 0; offset < 6; offset++) lab.push(placeAt(offset))
  t.false(reader.done(2))
  t.false(reader.done(4))
  t.deepEqual(reader.marks(0), [
    {
      epoch: 1,
      mark: 0,
      late: [],
      done: [
        [2, 1],
        [4, 1],
      ],
    },
  ])
  t.true(reader.isDone(2))
  reader.done(3)
  t.deepEqual(reader.marks(0), [{ epoch: 1, mark: 0, late: [], done: [[2, 3]] }])
  reader.done(0)
  t.is(reader.headIndex, 1)
  reader.done(0)
  t.is(reader.headIndex, 5)
  t.deepEqual(reader.marks(0), [{ epoch: 1, mark: 5, late: [], done: [] }])
  t.is(reader.count, 1)
})

test('one that comes behind higher ones is late until it is done', t => {
  const lab = new Lab()
  const [reader] = lab.readers as [Reader]
  for (const offset of [5, 6, 3, 4]) lab.push(placeAt(offset))
  reader.done(0)
  reader.done(0)
  t.deepEqual(reader.marks(0), [{ epoch: 1, mark: 7, late: [3, 4], done: [] }])
  reader.done(1)
  t.deepEqual(reader.marks(0), [{ epoch: 1, mark: 7, late: [3], done: [] }])
  reader.done(0)
  t.deepEqual(reader.marks(0), [{ epoch: 1, mark: 7, late: [], done: [] }])
})

test('what the cursor named as done at the start is named until the mark is past it', t => {
  const lab = new Lab()
  const [reader] = lab.readers as [Reader]
  reader.restoreMarks([
    {
      epoch: 1,
      mark: 2,
      late: [],
      done: [
        [4, 2],
        [8, 1],
      ],
    },
  ])
  for (const offset of [2, 3, 6, 7]) lab.push(placeAt(offset))
  t.deepEqual(reader.marks(0)[0]!.done, [
    [4, 2],
    [8, 1],
  ])
  reader.done(2)
  t.deepEqual(reader.marks(0)[0]!.done, [
    [4, 3],
    [8, 1],
  ])
  reader.done(0)
  reader.done(0)
  t.deepEqual(reader.marks(0), [{ epoch: 1, mark: 7, late: [], done: [[8, 1]] }])
  reader.done(0)
  t.deepEqual(reader.marks(0), [{ epoch: 1, mark: 8, late: [], done: [[8, 1]] }])
  t.deepEqual(reader.marks(2), [])
})

test('a message that is skipped for one reader is done for it, and waits for the other', t => {
  const lab = new Lab(2)
  const [first, second] = lab.readers as [Reader, Reader]
  lab.push(placeAt(0), bodyWith('m0'))
  lab.push(placeAt(1, { skipReason: 4, skipMask: 1 }), bodyWith('m1'))
  lab.push(placeAt(2, { skipReason: 4, skipMask: 3 }), undefined)
  t.deepEqual([first.count, second.count], [1, 2])
  t.deepEqual(lab.done, [2])
  first.done(0)
  t.is(first.headIndex, 3)
  t.deepEqual(lab.done, [2])
  t.true(second.done(0))
  t.true(second.done(0))
  t.deepEqual(lab.done, [2, 0, 1])
  t.is(lab.memory.used, 0)
})

test('a page on disk gives its places and bodies back, to each reader when its turn comes', async t => {
  const lab = new Lab(2)
  const [first, second] = lab.readers as [Reader, Reader]
  for (let offset = 0; offset < 3_000; offset++) lab.push(placeAt(offset), bodyWith(`m${offset}`))
  for (const page of lab.sealed) lab.store(page)
  const inMemory = lab.memory.used
  for (const reader of [first, second]) {
    for (let offset = 0; offset < 3_000; offset++) {
      await reader.load()
      t.is(lab.text(reader, 0), `m${offset}`)
      const index = lab.readers.indexOf(reader)
      lab.accounts[index]!.replicated(reader.done(0))
      t.true(lab.memory.used <= inMemory + 1_600 * 600, 'a window of it')
    }
    t.deepEqual(reader.marks(0), [{ epoch: 1, mark: 3_000, late: [], done: [] }])
  }
  t.is(lab.memory.used, 0)
  t.is(lab.passed.length, 5)
  for (const account of lab.accounts)
    t.deepEqual([account.queued, account.inGap, account.totals.replicated], [0, 0, 3_000])
})

test('one that is parked holds nothing of what is on disk in memory', async t => {
  const lab = new Lab()
  const [reader] = lab.readers as [Reader]
  for (let offset = 0; offset < PAGE_MESSAGES * 3; offset++) lab.push(placeAt(offset), bodyWith(`m${offset}`))
  for (const page of lab.sealed) lab.store(page)
  t.is(lab.memory.used, 0)
  await reader.load()
  t.true(lab.memory.used > 0)
  reader.park()
  t.is(lab.memory.used, 0)
  t.true(lab.sealed.every(page => !page.hasPlaces))
  t.is(reader.count, PAGE_MESSAGES * 3)
  await reader.load()
  t.is(lab.text(reader, 0), 'm0')
})

test('a page whose places are damaged is lost, and counted by what it had', async t => {
  const lab = new Lab()
  const [reader] = lab.readers as [Reader]
  const [account] = lab.accounts as [Account]
  for (let offset = 0; offset < PAGE_MESSAGES + 3; offset++)
    lab.push(placeAt(offset), offset % 2 === 0 ? bodyWith(`m${offset}`) : undefined)
  lab.store(lab.sealed[0]!)
  lab.blocks.get(lab.sealed[0]!)![130]! ^= 1
  await reader.load()
  t.deepEqual(account.totals.lost, { journal: PAGE_MESSAGES })
  t.is(account.acked, PAGE_MESSAGES + 3)
  t.deepEqual([account.queued, account.inGap], [2, 1])
  t.is(reader.place(0).queueOffset, PAGE_MESSAGES)
})

test('the index of a message is the same, whatever is stored and loaded', async t => {
  const lab = new Lab()
  const [reader] = lab.readers as [Reader]
  for (let offset = 0; offset < 600; offset++) lab.push(placeAt(offset), bodyWith(`m${offset}`))
  await reader.load()
  reader.done(5)
  reader.done(0)
  lab.store(lab.sealed[0]!)
  reader.park()
  t.is(lab.sealed[0]!.hasPlaces, true, 'it is in the midst of it')
  await reader.load()
  t.is(reader.headIndex, 1)
  t.true(reader.isDone(4))
  t.is(lab.text(reader, 3), 'm4')
  t.is(lab.text(reader, 5), 'm6')
})

interface Expected {
  place: Place
  text: string
  done: boolean[]
}

class Model {
  readonly #lab: Lab
  readonly #random: Random
  readonly #t: ExecutionContext
  readonly #messages: Expected[] = []
  #nextOffset = 0
  #epoch = 1
  readonly #holes: number[] = []
  lost = 0

  constructor(t: ExecutionContext, random: Random) {
    this.#t = t
    this.#random = random
    this.#lab = new Lab(2)
  }

  async step(): Promise<void> {
    const random = this.#random
    switch (random.integer(0, 8)) {
      case 0:
      case 1:
      case 2:
        for (let count = random.pick([1, 5, 300]); count > 0; count--) this.#push()
        break
      case 3: {
        const page = random.pick([...this.#lab.sealed, undefined])
        if (page !== undefined && page.block === undefined && page.readers > 0) this.#lab.store(page)
        break
      }
      case 4: {
        const page = random.pick([...this.#lab.blocks.keys(), undefined])
        if (page !== undefined && !page.isLoaded && random.chance(0.3)) this.#damageBodies(page)
        break
      }
      case 5:
        random.pick(this.#lab.readers).park()
        break
      case 6: {
        const open = this.#lab.backlog.open
        if (open !== undefined && open.count > 0 && random.chance(0.3)) this.#lab.backlog.seal(open)
        break
      }
      case 7:
        for (const page of this.#lab.sealed)
          if (page.block === undefined && page.readers > 0 && random.chance(0.3)) this.#lose(page)
        break
      default:
        await this.#work(random.integer(0, 1), random.integer(1, 400))
    }
    await this.#check()
  }

  async end(): Promise<void> {
    const t = this.#t
    for (const index of [0, 1]) {
      while (this.#lab.readers[index]!.count > 0) {
        await this.#work(index, 1_000)
      }
      const { queued, inGap } = this.#lab.accounts[index]!
      t.deepEqual([queued, inGap], [0, 0])
    }
    await this.#check()
    t.is(this.#lab.memory.used, 0)
    t.is(new Set(this.#lab.done).size, this.#lab.done.length, 'a place is done once')
  }

  #push(): void {
    const random = this.#random
    if (random.chance(0.005)) {
      this.#epoch++
      this.#nextOffset = random.integer(0, 3)
      this.#holes.length = 0
    }
    if (random.chance(0.05)) this.#holes.push(this.#nextOffset++)
    const isLate = this.#holes.length > 0 && random.chance(0.05)
    const offset = isLate ? this.#holes.splice(random.integer(0, this.#holes.length - 1), 1)[0]! : this.#nextOffset++
    const skipMask = random.chance(0.03) ? random.integer(1, 3) : 0
    const place = placeAt(offset, { epoch: this.#epoch, sequence: this.#messages.length, skipMask })
    const text = `message ${place.sequence}`
    this.#messages.push({ place, text, done: BITS.map(bit => (skipMask & bit) !== 0) })
    this.#lab.push(place, skipMask === 3 || random.chance(0.1) ? undefined : bodyWith(text))
  }

  #lose(page: Page): void {
    const sequences = Array.from({ length: page.count }, (_, at) => page.sequence(at))
    const { count } = page
    const lost = this.#lab.backlog.lose(page)
    this.lost += lost
    const byReader = this.#lab.readers.map((reader, index) => {
      let lost = 0
      for (let at = 0; at < count; at++) {
        const { done } = this.#messages[sequences[at]!]!
        if (done[index] || (page.readers > 0 && !reader.hasDone(page, at))) continue
        done[index] = true
        lost++
      }
      return lost
    })
    this.#t.is(Math.max(...byReader), lost)
  }

  #damageBodies(page: Page): void {
    const bytes = this.#lab.blocks.get(page)!
    const { headerBytes, placesBytes, bodiesBytes } = decodeBlockHeader(bytes, SALT)!
    if (bodiesBytes > 0) bytes[headerBytes + placesBytes] = 0xff
  }

  /** A reader does some of what is in its window. */
  async #work(index: number, most: number): Promise<void> {
    const random = this.#random
    const reader = this.#lab.readers[index]!
    const account = this.#lab.accounts[index]!
    if (reader.count === 0) return
    await reader.load()
    for (let left = most; left > 0 && reader.span > 0 && reader.count > 0; left--) {
      const at = random.chance(0.9) ? 0 : random.integer(0, reader.span - 1)
      if (reader.isDone(at)) continue
      const message = this.#messages[reader.place(at).sequence]!
      this.#t.deepEqual(reader.place(at), message.place)
      const text = this.#lab.text(reader, at)
      if (text === undefined && random.chance(0.8)) {
        const body = bodyWith(message.text)
        this.#lab.memory.keepAnyway(body)
        reader.fill(at, body)
      } else if (text !== undefined) this.#t.is(text, message.text)
      account.replicated(reader.done(at))
      message.done[index] = true
    }
  }

  async #check(): Promise<void> {
    const t = this.#t
    for (const [index, reader] of this.#lab.readers.entries()) {
      const undone = this.#messages.filter(({ done }) => !done[index])
      t.is(reader.count, undone.length)
      const { queued, inGap } = this.#lab.accounts[index]!
      t.is(queued + inGap, undone.length)
      t.true(queued >= 0 && inGap >= 0)
      const marks = new Map(reader.marks(0).map(mark => [mark.epoch, mark]))
      const wrong = this.#messages.find(({ place, done }) => isNamedDone(marks.get(place.epoch), place) !== done[index])
      if (wrong !== undefined)
        t.fail(`reader ${index}: ${JSON.stringify(wrong)} ${JSON.stringify([...marks.values()])}`)
    }
    // A body is in memory for whom it waits, and for nobody else.
    for (const sequence of this.#lab.done) {
      const { done } = this.#messages[sequence]!
      if (!done.every(Boolean)) t.fail(`${sequence} is not done`)
    }
  }
}

function isNamedDone(mark: QueueMark | undefined, { queueOffset }: Place): boolean {
  if (mark === undefined) return false
  if (mark.late.includes(queueOffset)) return false
  return (
    queueOffset < mark.mark || mark.done.some(([first, count]) => queueOffset >= first && queueOffset < first + count)
  )
}

test('whatever is pushed, stored, loaded, damaged, lost, filled and done by two readers, each gets it once and in order', async t => {
  const random = seededRandom(t)
  let lost = 0
  for (let round = 0; round < 25; round++) {
    const model = new Model(t, random)
    for (let step = 0; step < 60; step++) await model.step()
    await model.end()
    lost += model.lost
  }
  t.true(lost > 1_000, `${lost} lost`)
})
