// Places folded into runs: all come back, and each fold keeps what proves it.

import test from 'ava'
import { Fold, type Foldable, FoldedPlaces } from '../../replay/folded-places.ts'
import { seededRandom } from '../support/random.ts'

const place = (queueOffset: number, more: Partial<Foldable> = {}): Foldable => ({
  epoch: 1,
  queueOffset,
  bornTimestamp: 1_000 + queueOffset,
  hash: queueOffset * 7,
  placeFlags: 0,
  ...more,
})

const unfolded = ({ folds }: FoldedPlaces) =>
  folds.flatMap(fold => {
    const { epoch, placeFlags } = fold
    return [...fold.offsets()].map(queueOffset => ({ epoch, placeFlags, queueOffset }))
  })

test('a run is one fold, whose last is its proof', t => {
  const places = new FoldedPlaces()
  for (let offset = 5; offset < 905; offset++) places.add(place(offset))
  t.is(places.folds.length, 1)
  t.is(places.count, 900)
  t.deepEqual(places.folds[0]!.proof, { queueOffset: 904, bornTimestamp: 1_904, hash: 904 * 7 })
  t.deepEqual([...places.folds[0]!.offsets()].slice(0, 3), [5, 6, 7])
  t.true(JSON.stringify(places.encode()).length < 80)
})

test('another epoch, other flags, a lower offset and 1,000 messages begin a new one', t => {
  const places = new FoldedPlaces()
  for (let offset = 0; offset < 1_001; offset++) places.add(place(offset))
  places.add(place(2_000, { placeFlags: 1 }))
  places.add(place(2_001, { placeFlags: 1, epoch: 2 }))
  places.add(place(1_500, { placeFlags: 1, epoch: 2 }))
  t.deepEqual(
    places.folds.map(({ count }) => count),
    [1_000, 1, 1, 1, 1],
  )
})

test('whatever is folded comes back, also from its text, and a fold knows what is in it', t => {
  const random = seededRandom(t)
  for (let round = 0; round < 200; round++) {
    const places = new FoldedPlaces()
    const all: { epoch: number; placeFlags: number; queueOffset: number }[] = []
    let offset = random.integer(0, 1_000_000_000)
    let epoch = 1
    for (let count = random.integer(1, 3_000); count > 0; count--) {
      offset += random.chance(0.8) ? 1 : random.integer(-3, 200)
      if (random.chance(0.001)) epoch++
      const placeFlags = random.chance(0.005) ? 1 : 0
      all.push({ epoch, placeFlags, queueOffset: offset })
      places.add(place(offset, { epoch, placeFlags }))
    }
    t.deepEqual(unfolded(places), all)
    const again = FoldedPlaces.decode(JSON.parse(JSON.stringify(places.encode())))
    t.deepEqual(unfolded(again), all)
    t.is(again.count, all.length)
    for (const [at, fold] of again.folds.entries()) {
      t.deepEqual(fold.proof, places.folds[at]!.proof)
      const offsets = [...fold.offsets()]
      t.is(fold.proof.queueOffset, offsets.at(-1)!)
      const is = new Set(offsets)
      for (let probe = fold.first - 1; probe < fold.first + 50; probe++)
        t.is(fold.has(fold.epoch, probe), is.has(probe))
      t.false(fold.has(fold.epoch + 1, fold.first))
    }
  }
})

test('what is taken out of a fold leaves the rest with the same proof', t => {
  const fold = new Fold(place(0), place(0))
  for (const offset of [1, 2, 5, 6, 9]) fold.add(place(offset), place(offset))
  const rest = fold.without(new Set([0, 5, 9]))!
  t.deepEqual([...rest.offsets()], [1, 2, 6])
  t.is(rest.proof.queueOffset, 9)
  t.is(fold.without(new Set([0, 1, 2, 5, 6, 9])), undefined)
  t.is(fold.without(new Set()), fold)
})

test('a place of which no more is known than its fold has the proof of that', t => {
  const places = new FoldedPlaces()
  const proof = place(9)
  places.add(place(1, { hash: 0 }), proof)
  places.add(place(2, { hash: 0 }), proof)
  places.add(place(4))
  t.deepEqual(places.folds[0]!.proof.queueOffset, 9)
  places.add(place(12))
  t.is(places.folds.length, 1)
  t.is(places.folds[0]!.proof.queueOffset, 12)
})
