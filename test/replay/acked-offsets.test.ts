// Which offsets were acked, against a plain set.

import test from 'ava'
import fc from 'fast-check'
import { AckedOffsets } from '../../replay/acked-offsets.ts'
import { printedSeed } from '../support/random.ts'

test('whatever is added in whatever order: it has what was added, and nothing else', t => {
  fc.assert(
    fc.property(fc.array(fc.nat(60), { maxLength: 80 }), offsets => {
      const acked = new AckedOffsets()
      for (const offset of offsets) acked.add(offset)
      const known = new Set(offsets)
      for (let offset = 0; offset <= 61; offset++) t.is(acked.has(offset), known.has(offset), `${offset}`)
      t.is(acked.highest, Math.max(-1, ...offsets))
    }),
    { seed: printedSeed(t), numRuns: 300 },
  )
})

test('between offsets of others it forgets the oldest, says up to where, and never claims what it does not know', t => {
  const acked = new AckedOffsets()
  for (let index = 0; index < 1_000; index++) acked.add(index * 2)
  t.true(acked.forgottenBelow > 0)
  t.true(acked.forgottenBelow < 1_998)
  for (let offset = 0; offset < acked.forgottenBelow; offset++) t.false(acked.has(offset))
  for (let offset = acked.forgottenBelow + 1; offset < 2_000; offset++) t.is(acked.has(offset), offset % 2 === 0)
  acked.add(0)
  t.false(acked.has(0))
  t.is(acked.highest, 1_998)
})
