// Sequences against a plain set.

import test from 'ava'
import { SequenceSet } from '../../replay/sequence-set.ts'
import { seededRandom } from '../support/random.ts'

test('it holds what was added, near and far apart, and counts what is missing', t => {
  const random = seededRandom(t)
  const set = new SequenceSet()
  const plain = new Set<number>()
  const bases = [0, 32_768 - 50, 1_000_000, 2 ** 40]
  for (let times = 0; times < 2_000; times++) {
    const sequence = random.pick(bases) + random.integer(0, 200)
    t.is(set.add(sequence), !plain.has(sequence))
    plain.add(sequence)
  }
  for (const base of bases) {
    let missing = 0
    for (let sequence = base; sequence < base + 300; sequence++) {
      t.is(set.has(sequence), plain.has(sequence))
      if (!plain.has(sequence)) missing++
    }
    t.is(set.missing(base, base + 300), missing)
  }
  t.is(set.missing(7, 7), 0)
})
