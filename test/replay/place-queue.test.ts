// The queue of a lane's places against a plain array.

import test from 'ava'
import fc from 'fast-check'
import type { Body } from '../../replay/body.ts'
import { PlaceQueue } from '../../replay/place-queue.ts'
import { printedSeed } from '../support/random.ts'
import { bodyWith, placeAt } from './sample.ts'

interface Entry {
  offset: number
  epoch: number
  body: Body | undefined
  done: boolean
}

/** Numbers choose an entry; places come by the hundred, so that chunks fill and go. */
const command = fc.oneof(
  fc.record({ kind: fc.constant('push' as const), n: fc.integer({ min: 1, max: 400 }) }),
  fc.record({ kind: fc.constant('done' as const), n: fc.nat(1_000) }),
  fc.record({ kind: fc.constant('done from the front' as const), n: fc.nat(600) }),
  fc.record({ kind: fc.constant('body' as const), n: fc.nat(1_000) }),
  fc.record({ kind: fc.constant('trim' as const), n: fc.constant(0) }),
)

test('pushed, filled, done and trimmed in whatever order, it holds what an array holds', t => {
  const body = bodyWith('a body')
  fc.assert(
    fc.property(fc.array(command, { maxLength: 30 }), commands => {
      const queue = new PlaceQueue()
      const model: Entry[] = []
      let pushed = 0
      const done = (index: number) => {
        const entry = model[index]
        if (entry === undefined || entry.done) return
        t.is(queue.done(index), entry.body)
        entry.done = true
        entry.body = undefined
      }
      for (const { kind, n } of commands) {
        if (kind === 'push')
          for (let i = 0; i < n; i++) {
            const entry = { offset: pushed++, epoch: n, body: i % 2 === 0 ? body : undefined, done: false }
            queue.push(placeAt(entry.offset), entry.epoch, entry.body)
            model.push(entry)
          }
        else if (kind === 'done') done(n)
        else if (kind === 'done from the front') for (let index = 0; index < n; index++) done(index)
        else if (kind === 'body') {
          const entry = model[n]
          if (entry === undefined || entry.done) continue
          queue.setBody(n, body)
          entry.body = body
        } else {
          queue.trim()
          while (model[0]?.done) model.shift()
        }
        t.is(queue.span, model.length)
        t.is(queue.count, model.filter(entry => !entry.done).length)
      }
      for (const [index, { offset, epoch, body, done }] of model.entries()) {
        t.is(queue.isDone(index), done)
        t.is(queue.body(index), body)
        t.is(queue.queueOffset(index), offset)
        if (index % 50 === 0) t.deepEqual(queue.place(index), { ...placeAt(offset), epoch })
      }
    }),
    { seed: printedSeed(t), numRuns: 60 },
  )
})

test('a place is given back exactly, whatever its numbers', t => {
  const queue = new PlaceQueue()
  const place = placeAt(Number.MAX_SAFE_INTEGER, {
    commitLogOffset: -1,
    bornTimestamp: -5,
    hash: 2 ** 32 - 1,
    placeFlags: 3,
  })
  queue.push(place, 4_000_000_000, undefined)
  t.deepEqual(queue.place(0), { ...place, epoch: 4_000_000_000 })
})

test('places that are inserted in whatever order stand by epoch and offset', t => {
  const place = fc.record({ epoch: fc.integer({ min: 1, max: 3 }), offset: fc.nat(2_000) })
  const unique = fc.uniqueArray(place, { selector: ({ epoch, offset }) => `${epoch}:${offset}`, maxLength: 600 })
  fc.assert(
    fc.property(unique, places => {
      const queue = new PlaceQueue()
      for (const { epoch, offset } of places)
        queue.insert(placeAt(offset, { hash: offset * 7, placeFlags: offset % 4 }), epoch)
      const sorted = [...places].sort((a, b) => a.epoch - b.epoch || a.offset - b.offset)
      for (const [index, { epoch, offset }] of sorted.entries())
        t.deepEqual(queue.place(index), { ...placeAt(offset, { hash: offset * 7, placeFlags: offset % 4 }), epoch })
      t.is(queue.count, places.length)
    }),
    { seed: printedSeed(t), numRuns: 15 },
  )
})
