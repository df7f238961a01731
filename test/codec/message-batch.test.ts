import test from 'ava'
import fc from 'fast-check'
import { CodecError, decodeBatch, encodeMember, memberBytes } from '../../codec/index.ts'
import { printedSeed, seededRandom } from '../support/random.ts'
import { int } from './wire.ts'

interface Member {
  flag: number
  body: Buffer
  properties: Buffer
}

/** As MessageDecoder.encodeMessage writes it; brokers ignore the first three fields. */
function member(
  { flag, body, properties }: Member,
  totalSize = 22 + body.length + properties.length,
  magic = 0,
  crc = 0,
) {
  const head = [int(totalSize, 4), int(magic, 4), int(crc, 4), int(flag, 4), int(body.length, 4)]
  return Buffer.concat([...head, body, int(properties.length, 2), properties])
}

const bytes = (max: number) => fc.uint8Array({ maxLength: max }).map(array => Buffer.from(array))
const members = fc.array(
  fc.record({ flag: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }), body: bytes(50), properties: bytes(30) }),
  { maxLength: 10 },
)

test('the members of a batch are read as views', t => {
  const given = [
    { flag: 1, body: Buffer.from('one'), properties: Buffer.from('KEYS\u0001a\u0002') },
    { flag: -1, body: Buffer.alloc(0), properties: Buffer.alloc(0) },
    { flag: 0, body: Buffer.from('three'), properties: Buffer.from('TAGS\u0001b') },
  ]
  const batch = Buffer.concat(given.map(one => member(one)))
  const found = decodeBatch(batch)
  t.deepEqual(found, given)
  t.true(found.every(({ body, properties }) => body.buffer === batch.buffer && properties.buffer === batch.buffer))
  t.deepEqual(decodeBatch(Buffer.alloc(0)), [])
})

test('size, magic and CRC of a member are not believed, as brokers do not', t => {
  const one = { flag: 5, body: Buffer.from('body'), properties: Buffer.from('A\u0001b') }
  t.deepEqual(decodeBatch(Buffer.concat([member(one, -1, 7, 9), member(one, 0)])), [one, one])
})

test('what any members are written as is read back, their bodies in any parts', t => {
  fc.assert(
    fc.property(members, fc.nat(10), (given, cut) => {
      const out = Buffer.alloc(given.reduce((sum, one) => sum + memberBytes(one.body.length, one.properties.length), 0))
      let at = 0
      for (const { flag, body, properties } of given) {
        const parts = [body.subarray(0, cut), body.subarray(cut)]
        at = encodeMember(out, at, flag, parts, body.length, properties)
      }
      t.is(at, out.length)
      t.deepEqual(out, Buffer.concat(given.map(one => member(one))))
      t.deepEqual(decodeBatch(out), given)
    }),
    { seed: printedSeed(t), numRuns: 500 },
  )
})

test('a batch cut anywhere within a member is refused', t => {
  const one = member({ flag: 1, body: Buffer.from('body'), properties: Buffer.from('A\u0001b\u0002') })
  const batch = Buffer.concat([one, one])
  for (let end = 1; end < batch.length; end++) {
    if (end === one.length) continue
    const error = t.throws(() => decodeBatch(batch.subarray(0, end)), { instanceOf: CodecError }, `cut at ${end}`)
    t.is(error?.reason, 'batch')
  }
})

test('lengths below zero or beyond the end are refused', t => {
  for (const length of [-1, -(2 ** 31), 2 ** 31 - 1, 5, 100]) {
    const batch = member({ flag: 0, body: Buffer.from('body'), properties: Buffer.alloc(0) })
    int(length, 4).copy(batch, 16)
    t.throws(() => decodeBatch(batch), { instanceOf: CodecError }, `body of ${length}`)
  }
  for (const length of [-1, -32_768, 32_767, 1]) {
    const batch = member({ flag: 0, body: Buffer.from('body'), properties: Buffer.alloc(0) })
    int(length, 2).copy(batch, 24)
    t.throws(() => decodeBatch(batch), { instanceOf: CodecError }, `properties of ${length}`)
  }
})

test('20,000 mutated batches are read within their bounds or refused', t => {
  const random = seededRandom(t)
  const one = member({ flag: 1, body: Buffer.from('a body'), properties: Buffer.from('A\u0001b\u0002') })
  for (let round = 0; round < 20_000; round++) {
    const batch = Buffer.concat([one, one, one])
    for (let i = random.integer(1, 3); i > 0; i--) batch[random.integer(0, batch.length - 1)] = random.integer(0, 255)
    try {
      decodeBatch(batch)
    } catch (error) {
      if (!(error instanceof CodecError)) throw error
    }
  }
  t.pass()
})
