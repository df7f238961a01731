import test from 'ava'
import fc from 'fast-check'
import { CodecError, decodeStoredMessages, isStorageLeftover, type StoredMessage } from '../../codec/index.ts'
import { printedSeed, seededRandom } from '../support/random.ts'
import { int, long } from './wire.ts'

/** As MessageExtEncoder writes it. */
function stored(message: StoredMessage, version: 1 | 2, reconsumeTimes = 3): Buffer {
  const { topic, queueId, queueOffset, commitLogOffset, sysFlag, flag, bornTimestamp, storeTimestamp } = message
  const host = (v6: boolean) => Buffer.alloc(v6 ? 20 : 8, 0x7f)
  const name = Buffer.from(topic)
  const rest = Buffer.concat([
    int(version === 1 ? 0xdaa320a7 : 0xdaa320ab, 4),
    int(0x12345678, 4),
    int(queueId, 4),
    int(flag, 4),
    long(BigInt(queueOffset)),
    long(BigInt(commitLogOffset)),
    int(sysFlag, 4),
    long(BigInt(bornTimestamp)),
    host((sysFlag & 0x10) !== 0),
    long(BigInt(storeTimestamp)),
    host((sysFlag & 0x20) !== 0),
    int(reconsumeTimes, 4),
    long(BigInt(message.preparedTransactionOffset)),
    int(message.body.length, 4),
    message.body,
    int(name.length, version),
    name,
    int(message.properties.length, 2),
    message.properties,
  ])
  return Buffer.concat([int(rest.length + 4, 4), rest])
}

/** With what `stored` writes as its born host. */
function read(message: StoredMessage): StoredMessage {
  return { ...message, bornHost: Buffer.alloc(message.sysFlag & 0x10 ? 20 : 8, 0x7f) }
}

const sample: StoredMessage = {
  topic: 'orders',
  queueId: 3,
  queueOffset: 12_345,
  commitLogOffset: 9_876_543_210,
  sysFlag: 0,
  flag: -7,
  bornTimestamp: 1_763_928_347_123,
  storeTimestamp: 1_763_928_347_125,
  preparedTransactionOffset: 0,
  body: Buffer.from('a body'),
  properties: Buffer.from('KEYS\u0001k\u0002'),
}

for (const version of [1, 2] as const) {
  for (const sysFlag of [0, 0x10, 0x20, 0x30, 0x301]) {
    const name = `a stored message of version ${version} with sysFlag 0x${sysFlag.toString(16)}`
    test(`${name} is read`, t => {
      const message = { ...sample, sysFlag }
      const bytes = stored(message, version)
      const found = decodeStoredMessages(Buffer.concat([bytes, bytes]))
      t.deepEqual(found, [read(message), read(message)])
      t.is(decodeStoredMessages(bytes)[0]!.body.buffer, bytes.buffer)
    })

    test(`${name}, cut or with a size too small, is refused`, t => {
      const bytes = stored({ ...sample, sysFlag, body: Buffer.alloc(0), properties: Buffer.alloc(0) }, version)
      for (let end = 1; end < bytes.length; end++) {
        t.throws(() => decodeStoredMessages(bytes.subarray(0, end)), { instanceOf: CodecError }, `cut at ${end}`)
        const small = Buffer.from(bytes.subarray(0, end))
        if (end >= 4) int(end, 4).copy(small)
        const error = t.throws(() => decodeStoredMessages(small), { instanceOf: CodecError }, `size ${end}`)
        t.is(error?.reason, 'stored-message')
      }
    })
  }
}

test('a long topic, as version 2 is for, is read', t => {
  const message = { ...sample, topic: `%RETRY%${'g'.repeat(240)}` }
  t.deepEqual(decodeStoredMessages(stored(message, 2)), [read(message)])
})

test('an empty body, topic or property string is read', t => {
  const message = { ...sample, topic: '', body: Buffer.alloc(0), properties: Buffer.alloc(0) }
  for (const version of [1, 2] as const) t.deepEqual(decodeStoredMessages(stored(message, version)), [read(message)])
  t.deepEqual(decodeStoredMessages(Buffer.alloc(0)), [])
})

test('any message is read as it was stored', t => {
  const bytes = fc.uint8Array({ maxLength: 60 }).map(array => Buffer.from(array))
  const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
  const message = fc.record({
    topic: fc.string({ unit: fc.constantFrom('a', 'B', '%', '-'), minLength: 1, maxLength: 100 }),
    queueId: int32,
    queueOffset: fc.maxSafeInteger(),
    commitLogOffset: fc.maxSafeNat(),
    sysFlag: int32,
    flag: int32,
    bornTimestamp: fc.maxSafeInteger(),
    storeTimestamp: fc.maxSafeInteger(),
    preparedTransactionOffset: fc.maxSafeInteger(),
    body: bytes,
    properties: bytes,
  })
  fc.assert(
    fc.property(fc.array(message, { maxLength: 4 }), fc.constantFrom(1, 2), (messages, version) => {
      const body = Buffer.concat(messages.map(one => stored(one, version as 1 | 2)))
      t.deepEqual(decodeStoredMessages(body), messages.map(read))
    }),
    { seed: printedSeed(t), numRuns: 500 },
  )
})

test("an unknown magic is refused, the log's filler among them", t => {
  for (const magic of [0, 0xcbd43194, 0xdaa320a8]) {
    const bytes = stored(sample, 1)
    int(magic, 4).copy(bytes, 4)
    t.throws(() => decodeStoredMessages(bytes), { instanceOf: CodecError })
  }
})

test('20,000 mutated answers are read within their bounds or refused', t => {
  const random = seededRandom(t)
  const source = Buffer.concat([stored(sample, 1), stored({ ...sample, sysFlag: 0x30 }, 2)])
  for (let round = 0; round < 20_000; round++) {
    const bytes = Buffer.from(source)
    for (let i = random.integer(1, 3); i > 0; i--) bytes[random.integer(0, bytes.length - 1)] = random.integer(0, 255)
    try {
      decodeStoredMessages(bytes)
    } catch (error) {
      if (!(error instanceof CodecError)) throw error
    }
  }
  t.pass()
})

test("what a broker's storage adds is known, what a client set is kept", t => {
  for (const name of [
    'TRAN_MSG',
    'PGROUP',
    'DELAY',
    'TIMER_DELIVER_MS',
    'REAL_TOPIC',
    'REAL_QID',
    'CLUSTER',
    '__CRC32#',
  ])
    t.true(isStorageLeftover(name), name)
  for (const name of ['KEYS', 'TAGS', 'UNIQ_KEY', 'WAIT', 'TEE_ORIGIN', 'delay', 'REALM', '__SHARDINGKEY'])
    t.false(isStorageLeftover(name), name)
})
