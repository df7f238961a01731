// Blocks of LZ4: what was compressed comes back exactly, and whatever else is given, nothing larger than was asked for.

import test from 'ava'
import fc from 'fast-check'
import { compressSync, uncompressSync } from 'lz4-napi'
import { CodecError, compressBlock, decompressBlock } from '../../codec/index.ts'
import { printedSeed, seededRandom } from '../support/random.ts'
import { int } from './wire.ts'

/** What becomes of it: its bytes, or that it is refused. Anything else is thrown. */
function outcome(bytes: Buffer, plainBytes: number): Buffer | 'refused' {
  try {
    return decompressBlock(bytes, plainBytes)
  } catch (error) {
    if (error instanceof CodecError && error.reason === 'lz4') return 'refused'
    throw error
  }
}

test('what is compressed comes back as it was', t => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 2_000 }),
    fc
      .array(fc.constantFrom('order', 'bill', ' of paris'), { maxLength: 2_000 })
      .map(words => Buffer.from(words.join(''))),
  )
  fc.assert(
    fc.property(bytes, plain => {
      const compressed = compressBlock(Buffer.from(plain))
      t.deepEqual(decompressBlock(compressed, plain.length), Buffer.from(plain))
    }),
    { seed: printedSeed(t), numRuns: 300 },
  )
})

test('words that repeat get smaller, and noise hardly larger', t => {
  const words = Buffer.from('an order of paris '.repeat(1_000))
  t.true(compressBlock(words).length < words.length / 50)
  const noise = seededRandom(t).bytes(10_000)
  t.true(compressBlock(noise).length < 10_100)
})

test('another size than was said is refused, before anything is decompressed', t => {
  const plain = Buffer.from('an order of paris '.repeat(100))
  const compressed = compressBlock(plain)
  for (const plainBytes of [0, 1, plain.length - 1, plain.length + 1, 2 ** 31])
    t.is(outcome(compressed, plainBytes), 'refused', `${plainBytes}`)
  const error = t.throws(() => decompressBlock(compressed, 5), { instanceOf: CodecError })
  t.is(error.message, 'block says that it has 1800 bytes, not 5')
})

test('a block that says that it has 4 GiB is refused without taking them', t => {
  const little = Buffer.from([0xff, 0xff, 0xff, 0xff])
  const block = Buffer.concat([little, Buffer.from([0x10, 0x41])])
  const before = process.memoryUsage().rss
  t.is(outcome(block, 1_000), 'refused')
  t.is(outcome(Buffer.alloc(0), 0), 'refused')
  t.is(outcome(little.subarray(0, 3), 0), 'refused')
  t.true(process.memoryUsage().rss - before < 100_000_000)
})

test('cut at any byte it is refused', t => {
  const random = seededRandom(t)
  for (const plain of [Buffer.from('an order of paris '.repeat(40)), random.bytes(300), Buffer.from('x')]) {
    const compressed = compressBlock(plain)
    for (let length = 0; length < compressed.length; length++)
      t.is(outcome(compressed.subarray(0, length), plain.length), 'refused', `cut to ${length}`)
  }
})

test('with any bit flipped it is refused, or has the size that was asked for', t => {
  const plain = Buffer.concat([Buffer.from('an order of paris '.repeat(20)), seededRandom(t).bytes(40)])
  const compressed = compressBlock(plain)
  let refused = 0
  for (let bit = 0; bit < compressed.length * 8; bit++) {
    const other = Buffer.from(compressed)
    other[bit >> 3]! ^= 1 << (bit & 7)
    const result = outcome(other, plain.length)
    if (result === 'refused') refused++
    else t.is(result.length, plain.length, `bit ${bit}`)
  }
  t.true(refused >= 32, 'those of the size at least')
})

test('noise is refused, or has the size that was asked for', t => {
  const random = seededRandom(t)
  for (let round = 0; round < 5_000; round++) {
    const plainBytes = random.integer(0, 5_000)
    const size = Buffer.from(int(plainBytes, 4)).reverse()
    const result = outcome(Buffer.concat([size, random.bytes(random.integer(0, 60))]), plainBytes)
    t.true(result === 'refused' || result.length === plainBytes)
  }
})

test('a block that would go on beyond its size is refused', t => {
  // A match of 64 KiB of zeros, where 100 bytes were said.
  const long = compressSync(Buffer.alloc(65_536))
  const lying = Buffer.concat([Buffer.from(int(100, 4)).reverse(), long.subarray(4)])
  t.is(outcome(lying, 100), 'refused')
  // And one that ends before.
  const short = Buffer.concat([Buffer.from(int(70_000, 4)).reverse(), long.subarray(4)])
  t.is(outcome(short, 70_000), 'refused')
  t.is(uncompressSync(long).length, 65_536)
})
