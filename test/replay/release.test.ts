// Release against a plain model, and each of its rules by an example. No lane, no journal.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import fc from 'fast-check'
import { EPOCHS_IN_ORDER } from '../../replay/place.ts'
import { type Outstanding, type Releasable, Release } from '../../replay/release.ts'
import { printedSeed } from '../support/random.ts'

interface Released {
  epoch?: number
  queueId: number
  offset: number
  late: boolean
}

interface Message extends Releasable {
  queueId: number
}

function recorded() {
  const seen: Released[] = []
  const release = new Release<Message>(({ epoch, queueId, queueOffset }, late) =>
    seen.push({ epoch, queueId, offset: queueOffset, late }),
  )
  const offsets = () => seen.splice(0).map(({ offset }) => offset)
  const forward = (topic: string, queueId: number): Outstanding => {
    const send = { topic, queueId, forwarded: -1, settled: false }
    release.forwarded(send)
    return send
  }
  const acked = (send: Outstanding, queueId: number, ...queueOffsets: number[]) =>
    ackedIn(1, send, queueId, ...queueOffsets)
  const ackedIn = (epoch: number, send: Outstanding, queueId: number, ...queueOffsets: number[]) => {
    for (const queueOffset of queueOffsets)
      release.acked(send.topic, queueId, { epoch, queueId, queueOffset, before: -1, released: false })
    release.settled(send, queueId)
  }
  return { release, seen, offsets, forward, acked, ackedIn }
}

function byNumber(sends: readonly Outstanding[]): Outstanding[] {
  return [...sends].sort((a, b) => a.forwarded - b.forwarded)
}

test('a message waits for a send to its queue that was forwarded before its ack came', t => {
  const { release, offsets, forward, acked } = recorded()
  const a = forward('orders', 0)
  const b = forward('orders', 0)
  acked(b, 0, 11)
  t.deepEqual(offsets(), [])
  t.is(release.waiting, 1)
  acked(a, 0, 10)
  t.deepEqual(offsets(), [10, 11])
  t.is(release.waiting, 0)
})

test('it does not wait for a send that was forwarded after its ack came', t => {
  const { release, offsets, forward, acked } = recorded()
  acked(forward('orders', 0), 0, 10)
  t.deepEqual(offsets(), [10])
  const a = forward('orders', 0)
  const b = forward('orders', 0)
  acked(a, 0, 15)
  forward('orders', 0)
  t.deepEqual(offsets(), [])
  release.settled(b, 0)
  t.deepEqual(offsets(), [15])
})

test('with a message go all acked ones below it, though a later send is still out', t => {
  const { offsets, forward, acked } = recorded()
  const a = forward('orders', 0)
  const b = forward('orders', 0)
  acked(b, 0, 11)
  forward('orders', 0)
  acked(a, 0, 10)
  t.deepEqual(offsets(), [10, 11])
})

test('a message right behind the last released one need not wait', t => {
  const { offsets, forward, acked } = recorded()
  acked(forward('orders', 0), 0, 10)
  t.deepEqual(offsets(), [10])
  forward('orders', 0)
  acked(forward('orders', 0), 0, 11, 12)
  t.deepEqual(offsets(), [11, 12])
  acked(forward('orders', 0), 0, 14)
  t.deepEqual(offsets(), [])
})

test('all of an older epoch go before a newer one, whose offsets are lower', t => {
  const { offsets, forward, ackedIn } = recorded()
  const old = forward('orders', 0)
  const others = [forward('orders', 0), forward('orders', 0)] as const
  ackedIn(1, others[0], 0, 101)
  ackedIn(2, others[1], 0, 7)
  t.deepEqual(offsets(), [])
  ackedIn(1, old, 0, 100)
  t.deepEqual(offsets(), [100, 101, 7])
})

test('nor over that of two epochs of one era: the source may have taken offsets back after all', t => {
  const { offsets, forward, ackedIn } = recorded()
  ackedIn(1, forward('orders', 0), 0, 10)
  t.deepEqual(offsets(), [10])
  const doubtful = 1 + EPOCHS_IN_ORDER
  const below = forward('orders', 0)
  const behind = forward('orders', 0)
  ackedIn(doubtful, behind, 0, 11)
  t.deepEqual(offsets(), [])
  ackedIn(doubtful, below, 0, 10)
  t.deepEqual(offsets(), [10, 11])
})

test('what is below in another epoch of the era does not go with a message: both wait', t => {
  const { offsets, forward, acked, ackedIn } = recorded()
  const first = forward('orders', 0)
  const [behind, out] = [forward('orders', 0), forward('orders', 0)]
  acked(first, 0, 1)
  t.deepEqual(offsets(), [])
  acked(behind, 0, 10)
  const [below, last] = [forward('orders', 0), forward('orders', 0)]
  // The source has lost 10, and stores 9 behind 8.
  ackedIn(1 + EPOCHS_IN_ORDER, below, 0, 9)
  ackedIn(1, out, 0)
  t.deepEqual(offsets(), [1])
  ackedIn(1 + EPOCHS_IN_ORDER, last, 0, 8)
  t.deepEqual(offsets(), [8, 9, 10])
})

test('nothing stands right behind the last one over the border of an epoch', t => {
  const { offsets, forward, ackedIn } = recorded()
  ackedIn(1, forward('orders', 0), 0, 10)
  t.deepEqual(offsets(), [10])
  const old = forward('orders', 0)
  ackedIn(2, forward('orders', 0), 0, 11)
  t.deepEqual(offsets(), [])
  ackedIn(1, old, 0, 11)
  t.deepEqual(offsets(), [11, 11])
})

test('what is acked in an older epoch, after a newer one has gone, is late whatever its offset', t => {
  const { seen, offsets, forward, ackedIn } = recorded()
  ackedIn(1, forward('orders', 0), 0, 10)
  ackedIn(2, forward('orders', 0), 0, 3)
  t.deepEqual(offsets(), [10, 3])
  ackedIn(1, forward('orders', 0), 0, 11)
  ackedIn(2, forward('orders', 0), 0, 4)
  t.deepEqual(
    seen.map(({ offset, late }) => [offset, late]),
    [
      [11, true],
      [4, false],
    ],
  )
})

test('a send for which the broker chooses the queue holds back every queue of its topic, and no other topic', t => {
  const { seen, offsets, forward, acked } = recorded()
  const any = forward('orders', -1)
  acked(forward('orders', 0), 0, 5)
  acked(forward('orders', 1), 1, 6)
  t.deepEqual(offsets(), [])
  acked(forward('bills', 0), 0, 7)
  t.deepEqual(offsets(), [7])
  acked(any, 1, 5)
  t.deepEqual(
    seen.map(({ queueId, offset }) => [queueId, offset]),
    [
      [0, 5],
      [1, 5],
      [1, 6],
    ],
  )
})

test('a send to one queue holds back no other', t => {
  const { offsets, forward, acked } = recorded()
  forward('orders', 0)
  acked(forward('orders', 1), 1, 5)
  t.deepEqual(offsets(), [5])
})

test('an answer that names another queue than the send frees both', t => {
  const { seen, forward, acked } = recorded()
  const send = forward('orders', 0)
  acked(forward('orders', 0), 0, 5)
  acked(send, 1, 9)
  t.deepEqual(
    seen.map(({ queueId, offset }) => [queueId, offset]),
    [
      [0, 5],
      [1, 9],
    ],
  )
})

test('a message below one that went is released at once, as late', t => {
  const { release, seen, forward, acked } = recorded()
  const a = forward('orders', 0)
  acked(forward('orders', 0), 0, 11)
  release.giveUp(1, () => {})
  acked(a, 0, 10)
  acked(forward('orders', 0), 0, 12)
  t.deepEqual(
    seen.map(({ offset, late }) => [offset, late]),
    [
      [11, false],
      [10, true],
      [12, false],
    ],
  )
})

test('what is given up is told, and holds back nothing any more', t => {
  const { release, offsets, forward, acked } = recorded()
  const old = forward('orders', 0)
  const any = forward('orders', -1)
  const other = forward('bills', 3)
  acked(forward('orders', 0), 0, 5)
  const young = forward('orders', 0)
  t.deepEqual(offsets(), [])
  const told: Outstanding[] = []
  release.giveUp(young.forwarded, send => told.push(send))
  t.deepEqual(byNumber(told), [old, any, other])
  t.deepEqual(offsets(), [5])
  t.deepEqual([old.settled, young.settled], [true, false])
})

test('at the end everything goes, and no send counts as given up', t => {
  const { release, seen, forward, acked } = recorded()
  const slow = forward('orders', 0)
  acked(forward('orders', 0), 0, 11)
  release.releaseAll()
  t.false(slow.settled)
  acked(slow, 0, 10)
  t.deepEqual(
    seen.map(({ offset, late }) => [offset, late]),
    [
      [11, false],
      [10, true],
    ],
  )
})

// The model: a source that gives offsets when it stores, and that answers whenever it likes.

interface Send {
  handle: Outstanding
  /** Below 0: the source chooses. */
  asked: number
  forwardedAt: number
  queueId: number
  offsets: number[]
  state: 'out' | 'stored' | 'given up' | 'settled'
}

const QUEUES = 3
/** The model's offsets have their epoch in them: this many are one. */
const EPOCH = 1_000
type Step = [
  kind: 'forward' | 'store' | 'ack' | 'refuse' | 'give up' | 'ack late' | 'take back',
  pick: number,
  count: number,
]

const step: fc.Arbitrary<Step> = fc.tuple(
  fc.constantFrom('forward', 'forward', 'store', 'store', 'ack', 'ack', 'refuse', 'give up', 'ack late', 'take back'),
  fc.nat(1_000),
  fc.integer({ min: 1, max: 3 }),
)

class Model {
  readonly sends: Send[] = []
  readonly ends = Array<number>(QUEUES).fill(EPOCH)
  /** Acked and not released: queue, offset, how many sends were forwarded before the ack. */
  waiting: { queueId: number; offset: number; ackedAt: number }[] = []
  readonly releasedEnds = Array<number>(QUEUES).fill(-1)
  gaveUp = false

  /** What has to go now, in order. */
  due(): Released[] {
    const out: Released[] = []
    for (let queueId = 0; queueId < QUEUES; queueId++) {
      const out0 = this.sends.filter(
        ({ asked, state }) => (asked < 0 || asked === queueId) && (state === 'out' || state === 'stored'),
      )
      const mine = this.waiting.filter(one => one.queueId === queueId).sort((a, b) => a.offset - b.offset)
      const sure = mine.filter(({ ackedAt }) => out0.every(({ forwardedAt }) => forwardedAt >= ackedAt))
      const limit = Math.max(-1, ...sure.map(({ offset }) => offset))
      for (const { offset } of mine) {
        const late = offset < this.releasedEnds[queueId]!
        if (offset > limit && offset !== this.releasedEnds[queueId]) break
        if (!late) this.releasedEnds[queueId] = offset + 1
        out.push({ queueId, offset, late })
      }
    }
    this.waiting = this.waiting.filter(
      one => !out.some(({ queueId, offset }) => queueId === one.queueId && offset === one.offset),
    )
    return out
  }

  store(send: Send, pick: number, count: number): void {
    send.queueId = send.asked < 0 ? pick % QUEUES : send.asked
    send.offsets = Array.from({ length: count }, () => this.ends[send.queueId]!++)
    send.state = 'stored'
  }
}

test('whatever is forwarded, stored, acked, refused and given up in whatever order: released as the model says', t => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), steps => {
      const { release, seen, forward, ackedIn } = recorded()
      const model = new Model()
      const all: Released[] = []
      const compare = () => {
        const due = model.due()
        const went = seen
          .splice(0)
          .map(({ epoch, queueId, offset, late }) => ({ queueId, offset: epoch! * EPOCH + offset, late }))
        all.push(...went)
        const byQueue = (list: Released[]) => [...list].sort((a, b) => a.queueId - b.queueId)
        t.deepEqual(byQueue(went), due)
        t.is(release.forwardedSoFar, model.sends.length)
        t.is(release.waiting, model.waiting.length)
      }
      const ack = (send: Send) => {
        send.state = 'settled'
        for (const offset of send.offsets)
          model.waiting.push({ queueId: send.queueId, offset, ackedAt: model.sends.length })
        const epoch = Math.floor((send.offsets[0] ?? EPOCH) / EPOCH)
        ackedIn(epoch, send.handle, send.queueId, ...send.offsets.map(offset => offset % EPOCH))
        compare()
      }
      const refuse = (send: Send) => {
        send.state = 'settled'
        release.settled(send.handle, send.asked)
        compare()
      }
      const among = (...states: Send['state'][]) => model.sends.filter(({ state }) => states.includes(state))
      for (const [kind, pick, count] of steps) {
        if (kind === 'forward') {
          const asked = (pick % (QUEUES + 1)) - 1
          const handle = forward('orders', asked)
          model.sends.push({ handle, asked, forwardedAt: model.sends.length, queueId: -1, offsets: [], state: 'out' })
          continue
        }
        if (kind === 'give up') {
          const before = pick % (model.sends.length + 1)
          const old = among('out', 'stored').filter(({ forwardedAt }) => forwardedAt < before)
          const told: Outstanding[] = []
          for (const send of old) send.state = 'given up'
          release.giveUp(before, send => told.push(send))
          t.deepEqual(
            byNumber(told),
            old.map(({ handle }) => handle),
          )
          model.gaveUp ||= old.length > 0
          compare()
          continue
        }
        if (kind === 'take back') {
          const queueId = pick % QUEUES
          model.ends[queueId] = (Math.floor(model.ends[queueId]! / EPOCH) + 1) * EPOCH + (pick % 7)
          continue
        }
        const choices =
          kind === 'store' || kind === 'refuse'
            ? among('out')
            : kind === 'ack'
              ? among('stored')
              : among('given up').filter(({ offsets }) => offsets.length > 0)
        const send = choices[pick % choices.length]
        if (send === undefined) continue
        if (kind === 'store') model.store(send, pick, count)
        else if (kind === 'refuse') refuse(send)
        else ack(send)
      }
      for (const send of among('out', 'stored')) {
        if (send.state === 'out') model.store(send, send.forwardedAt, 1)
        ack(send)
      }

      // In the end: everything that was acked has gone, once, each queue's in its order but for what came late.
      const due = among('settled').flatMap(({ queueId, offsets }) => offsets.map(offset => `${queueId}:${offset}`))
      t.deepEqual(all.map(({ queueId, offset }) => `${queueId}:${offset}`).sort(), due.sort())
      for (let queueId = 0; queueId < QUEUES; queueId++) {
        const inTime = all.filter(one => one.queueId === queueId && !one.late).map(({ offset }) => offset)
        t.deepEqual(
          inTime,
          [...inTime].sort((a, b) => a - b),
        )
      }
      t.true(model.gaveUp || all.every(({ late }) => !late))
    }),
    { seed: printedSeed(t), numRuns: 400 },
  )
})

/** Messages that stand behind one that stays are not kept: what holds them is gone after a collection. */
async function kept(refs: readonly WeakRef<object>[]): Promise<number> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  for (let turns = 0; turns < 3; turns++) {
    await new Promise(resolve => setImmediate(resolve))
    collect()
  }
  return refs.filter(ref => ref.deref() !== undefined).length
}

test('a send that is never answered does not keep the thousands behind it that are done', async t => {
  const release = new Release<Message>(() => {})
  const refs: WeakRef<object>[] = []
  const send = (queueOffset: number) => {
    const one = { topic: 'orders', queueId: 0, forwarded: -1, settled: false }
    release.forwarded(one)
    release.acked('orders', 0, { epoch: 1, queueId: 0, queueOffset, before: -1, released: false })
    release.settled(one, 0)
    refs.push(new WeakRef(one))
  }
  send(0)
  release.forwarded({ topic: 'orders', queueId: 0, forwarded: -1, settled: false })
  for (let queueOffset = 1; queueOffset <= 10_000; queueOffset++) send(queueOffset)
  t.is(release.waiting, 0)
  const count = await kept(refs)
  t.true(count <= 1_024, `${count} are kept`)
})

test('messages that were released out of the order of their acks are not kept', async t => {
  const release = new Release<Message>(() => {})
  const refs: WeakRef<object>[] = []
  const forward = () => {
    const one = { topic: 'orders', queueId: 0, forwarded: -1, settled: false }
    release.forwarded(one)
    return one
  }
  const ack = (one: Outstanding, queueOffset: number) => {
    const message = { epoch: 1, queueId: 0, queueOffset, before: -1, released: false }
    refs.push(new WeakRef(message))
    release.acked('orders', 0, message)
    release.settled(one, 0)
  }
  ack(forward(), 0)
  const lower = forward()
  const some = Array.from({ length: 500 }, forward)
  const last = forward()
  some.forEach((one, index) => {
    ack(one, 2 + index)
  })
  ack(lower, 1)
  ack(last, 502)
  ack(forward(), 503)
  t.is(release.waiting, 0)
  t.is(await kept(refs), 0)
})
