// Known ends of a lane: what became done between them, and what is unclear again when the remote has lost its tail.

import test from 'ava'
import type { Foldable, FoldedPlaces } from '../../replay/folded-places.ts'
import { type KnownEnd, KnownEnds } from '../../replay/known-ends.ts'
import { PlaceFlag } from '../../replay/place.ts'
import { seededRandom } from '../support/random.ts'

const MINUTE = 60_000

const endAt = (remoteOffset: number, at: number): KnownEnd => ({
  remoteOffset,
  epochId: 'e1',
  queueOffset: remoteOffset,
  trace: '',
  at,
})
const place = (queueOffset: number, placeFlags = 0): Foldable => ({
  epoch: 1,
  queueOffset,
  bornTimestamp: 5,
  hash: queueOffset,
  placeFlags,
})
const offsets = ({ folds }: FoldedPlaces) => folds.flatMap(fold => [...fold.offsets()])
const remoteOffsets = ({ ends }: KnownEnds) => ends.map(({ remoteOffset }) => remoteOffset)
const text = (known: KnownEnds) => JSON.stringify(known.encode(Number.POSITIVE_INFINITY))

/** One message a second, for so long. */
function aMessageASecond(seconds: number): KnownEnds {
  const known = new KnownEnds()
  for (let second = 0; second < seconds; second++) known.note(endAt(second, second * 1_000), [place(second)])
  return known
}

test('one end a minute is kept, and the newest', t => {
  const known = aMessageASecond(200)
  t.deepEqual(remoteOffsets(known), [0, 60, 120, 180, 199])
  t.is(known.newest!.remoteOffset, 199)
})

test('what became done since the last end that stands is unclear again, and is kept as such', t => {
  const known = aMessageASecond(200)
  const { places, unknown } = known.tailLostAfter(1)
  t.deepEqual(
    offsets(places),
    Array.from({ length: 139 }, (_, index) => 61 + index),
  )
  t.is(unknown, 0)
  t.deepEqual(remoteOffsets(known), [0, 60])
  t.is(known.again.count, 139)
  t.is(KnownEnds.decode(known.encode(0)).again.count, 139)
})

test('where no end stands all is unclear that is kept, and what was done earlier may be gone, too', t => {
  const known = aMessageASecond(700)
  known.forgetBefore(301_000)
  t.deepEqual(remoteOffsets(known), [300, 360, 420, 480, 540, 600, 660, 699])
  const { places, unknown } = known.tailLostAfter(-1)
  t.is(offsets(places)[0], 241)
  t.is(places.count, 700 - 241)
  t.is(unknown, 241)
  t.is(known.newest, undefined)
  t.is(known.tailLostAfter(-1).unknown, 0)
})

test('the newest end is kept however old it is', t => {
  const known = aMessageASecond(10)
  known.forgetBefore(Number.POSITIVE_INFINITY)
  t.deepEqual(remoteOffsets(known), [9])
})

test('what is done anew is not unclear any more, and belongs to the end that showed it', t => {
  const known = aMessageASecond(200)
  known.tailLostAfter(1)
  const anew = Array.from({ length: 100 }, (_, index) => place(61 + index, PlaceFlag.AGAIN))
  known.note(endAt(70, 300_000), anew)
  t.deepEqual(offsets(known.again)[0], 161)
  known.gaveUp(place(161, PlaceFlag.AGAIN))
  t.is(known.again.count, 38)
  // It is lost once more.
  const { places } = known.tailLostAfter(1)
  t.deepEqual(offsets(places), [...anew.map(({ queueOffset }) => queueOffset)])
  t.is(places.folds[0]!.placeFlags, 0)
  t.is(known.again.count, 138)
})

test('a place that is done anew has the proof of its fold, for nothing is known of itself', t => {
  const known = aMessageASecond(30)
  known.tailLostAfter(-1)
  known.note(endAt(50, MINUTE), [
    { epoch: 1, queueOffset: 3, bornTimestamp: 0, hash: 0, placeFlags: PlaceFlag.AGAIN | PlaceFlag.BATCH_MEMBER },
  ])
  const { places } = known.tailLostAfter(-1)
  t.is(places.folds[0]!.proof.hash, 29)
  t.is(places.folds[0]!.placeFlags, PlaceFlag.BATCH_MEMBER)
})

test('a slot has at most so many bytes of what is done: the oldest is left out, and counted', t => {
  const known = new KnownEnds()
  for (let second = 0; second < 600; second++) {
    const every = Array.from({ length: 20 }, (_, index) => place((second * 20 + index) * 3))
    known.note(endAt(second, second * 1_000), every)
  }
  const whole = text(known).length
  const slot = known.encode(whole / 3)
  t.true(JSON.stringify(slot).length < whole / 3)
  const restored = KnownEnds.decode(slot)
  t.deepEqual(restored.ends, known.ends)
  const { places, unknown } = restored.tailLostAfter(3)
  t.true(unknown > 0 && places.count > 0)
  t.is(places.count + unknown, known.tailLostAfter(3).places.count)
})

test('whatever is noted, lost, done anew and forgotten, and however often it is stored: nothing is twice or missing', t => {
  const random = seededRandom(t)
  for (let round = 0; round < 100; round++) {
    let known = new KnownEnds()
    let now = 0
    let remoteOffset = 0
    let queueOffset = 0
    /** Done, in the order of the ends; what is unclear again. */
    let done: { end: number; queueOffset: number }[] = []
    const again = new Set<number>()
    for (let step = 0; step < 200; step++) {
      now += random.integer(1, 30_000)
      const count = random.integer(1, 5)
      if (random.chance(0.7)) {
        const places: Foldable[] = []
        for (let i = 0; i < count; i++) {
          const [old] = random.chance(0.5) ? again : []
          if (old !== undefined) {
            again.delete(old)
            places.push({ ...place(old, PlaceFlag.AGAIN), hash: 0 })
          } else {
            queueOffset += random.pick([1, 1, 1, 4])
            places.push(place(queueOffset))
          }
        }
        remoteOffset += count
        for (const { queueOffset } of places) done.push({ end: remoteOffset, queueOffset })
        known.note(endAt(remoteOffset, now), places)
      } else if (random.chance(0.15)) {
        const { ends } = known
        const index = random.integer(-1, ends.length - 1)
        const stands = ends[index]?.remoteOffset ?? -1
        const lost = done.filter(({ end }) => end > stands)
        done = done.filter(({ end }) => end <= stands)
        for (const { queueOffset } of lost) again.add(queueOffset)
        const { places, unknown } = known.tailLostAfter(index)
        t.deepEqual(
          offsets(places).sort((a, b) => a - b),
          lost.map(({ queueOffset }) => queueOffset).sort((a, b) => a - b),
        )
        t.is(unknown, 0)
      } else if (random.chance(0.2)) {
        const [old] = again
        if (old !== undefined) {
          again.delete(old)
          known.gaveUp(place(old, PlaceFlag.AGAIN))
        }
      } else known = KnownEnds.decode(JSON.parse(text(known)))
      t.deepEqual(
        offsets(known.again).sort((a, b) => a - b),
        [...again].sort((a, b) => a - b),
      )
      for (const fold of known.again.folds) t.is(fold.proof.hash, fold.proof.queueOffset)
    }
  }
})

test('what is found above all that is known is the newest end, and done with it', t => {
  const known = aMessageASecond(3)
  known.tailLostAfter(0)
  known.found(place(2, PlaceFlag.AGAIN), endAt(7, MINUTE))
  known.found(place(1, PlaceFlag.AGAIN), endAt(6, MINUTE))
  t.is(known.newest!.remoteOffset, 7)
  t.deepEqual(offsets(known.again), [])
  const { places } = known.tailLostAfter(0)
  t.deepEqual(offsets(places).sort(), [1, 2])
})
