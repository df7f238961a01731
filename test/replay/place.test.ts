// The journal's records: bytes as the layout says, and nothing read that was not written.

import { crc32 } from 'node:zlib'
import test from 'ava'
import fc from 'fast-check'
import { type Body, payloadOf, propertiesOf } from '../../replay/body.ts'
import { Message } from '../../replay/message.ts'
import {
  ALL_REMOTES,
  decodeRecord,
  EPOCH_RECORD_BYTES,
  encodeEpoch,
  encodePlace,
  encodePlaceWithBody,
  encodeTopic,
  hashOf,
  PLACE_BYTES,
  PlaceFlag,
  placeWithBodyBytes,
  topicRecordBytes,
} from '../../replay/place.ts'
import { int, long } from '../codec/wire.ts'
import { printedSeed } from '../support/random.ts'
import { bodyWith, placeAt } from './sample.ts'

const SALT = 0xfedcba98

function seal(rest: Buffer, salt = SALT): Buffer {
  return Buffer.concat([int(crc32(rest, salt), 4), rest])
}

function encoded(place = placeAt(5), topicNumber = 3, queueId = 2): Buffer {
  const out = Buffer.alloc(PLACE_BYTES)
  encodePlace(out, 0, SALT, place, topicNumber, queueId)
  return out
}

test('a place stands as its layout says', t => {
  const place = {
    epoch: 0xfedcba98,
    sequence: 7,
    queueOffset: 0x1_2345_6789,
    commitLogOffset: -1,
    bornTimestamp: 1_763_928_347_123,
    ackedAt: 1_763_928_347_200,
    hash: 0xdeadbeef,
    placeFlags: PlaceFlag.BATCH_MEMBER | PlaceFlag.PAYLOAD_HASH,
    skipReason: 4,
    skipMask: 0x800001,
  }
  const rest = [int(1, 1), int(3, 1), int(0, 2), int(72, 4), int(9, 4), int(4, 4), int(0xdeadbeef, 4)]
  const longs = [7n, 0x1_2345_6789n, -1n, 1_763_928_347_123n, 1_763_928_347_200n].map(long)
  const bytes = encoded(place, 9, 4)
  t.deepEqual(bytes, seal(Buffer.concat([...rest, ...longs, int(0x04800001, 4), int(0xfedcba98, 4)])))
  const record = { kind: 'place' as const, place, topicNumber: 9, queueId: 4, body: undefined }
  t.deepEqual(decodeRecord(bytes, 0, SALT), { record, end: PLACE_BYTES })
})

test('a place with its body has it behind the place, with zeros up to a multiple of 8', t => {
  const body = bodyWith('hello', Buffer.from('UNIQ_KEY\u0001K\u0002'), 0x301, -7)
  const out = Buffer.alloc(placeWithBodyBytes(body), 0xff)
  t.is(encodePlaceWithBody(out, 0, SALT, placeAt(5), body, 3, 2), out.length)
  const place = encoded(placeAt(5), 3, 2)
  place.writeUInt8(3, 4)
  place.writeUInt32BE(out.length, 8)
  const text = Buffer.from('UNIQ_KEY\u0001K\u0002hello')
  const behind = [int(-7, 4), int(0x301, 4), int(11, 4), int(5, 4), text]
  t.deepEqual(
    out.subarray(4),
    Buffer.concat([place.subarray(4), ...behind, Buffer.alloc(out.length - 88 - text.length)]),
  )
  const { record } = decodeRecord(out, 0, SALT)!
  if (record.kind !== 'place') return t.fail(record.kind)
  t.deepEqual(record.place, placeAt(5))
  t.like(record.body, { flag: -7, sysFlag: 0x301 })
  t.is(propertiesOf(record.body!).toString(), 'UNIQ_KEY\u0001K\u0002')
  t.is(Buffer.concat(payloadOf(record.body!)).toString(), 'hello')
})

test('a topic stands as its layout says, with zeros up to a multiple of 8', t => {
  const name = Buffer.from('orders of paris')
  const out = Buffer.alloc(topicRecordBytes(name), 0xff)
  t.is(encodeTopic(out, 0, SALT, 9, name), 40)
  t.deepEqual(
    out,
    seal(Buffer.concat([int(2, 1), int(0, 3), int(40, 4), int(9, 4), int(15, 4), name, Buffer.alloc(5)])),
  )
})

test('an epoch stands as its layout says', t => {
  const out = Buffer.alloc(EPOCH_RECORD_BYTES, 0xff)
  t.is(encodeEpoch(out, 0, SALT, 9, '0123456789ab'), 32)
  t.deepEqual(
    out,
    seal(Buffer.concat([int(4, 1), int(0, 3), int(32, 4), int(9, 4), Buffer.from('0123456789ab'), Buffer.alloc(4)])),
  )
})

test('any records, one behind the other, are read as they were written', t => {
  const number = fc.maxSafeInteger()
  const unsigned = fc.integer({ min: 0, max: 0xffffffff })
  const integer = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
  const place = fc.record({
    epoch: unsigned,
    sequence: fc.maxSafeNat(),
    queueOffset: fc.maxSafeNat(),
    commitLogOffset: fc.oneof(fc.constant(-1), fc.maxSafeNat()),
    bornTimestamp: number,
    ackedAt: number,
    hash: unsigned,
    placeFlags: fc.nat(255),
    skipReason: fc.nat(255),
    skipMask: fc.integer({ min: 0, max: ALL_REMOTES }),
  })
  const body = fc.record({
    flag: integer,
    sysFlag: integer,
    properties: fc.string({ maxLength: 100 }),
    payload: fc.string({ maxLength: 100 }),
  })
  const record = fc.oneof(
    fc.record({
      kind: fc.constant('place' as const),
      place,
      topicNumber: unsigned,
      queueId: integer,
      body: fc.option(body, { nil: undefined }),
    }),
    fc.record({
      kind: fc.constant('topic' as const),
      topicNumber: unsigned,
      name: fc.string({ unit: 'grapheme', maxLength: 300 }),
    }),
    fc.record({
      kind: fc.constant('epoch' as const),
      ordinal: unsigned,
      id: fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 12, maxLength: 12 }),
    }),
  )
  fc.assert(
    fc.property(fc.array(record, { maxLength: 6 }), unsigned, (records, salt) => {
      const out = Buffer.alloc(65_536, 0xff)
      let at = 0
      for (const one of records)
        if (one.kind === 'topic') at = encodeTopic(out, at, salt, one.topicNumber, Buffer.from(one.name))
        else if (one.kind === 'epoch') at = encodeEpoch(out, at, salt, one.ordinal, one.id)
        else if (one.body === undefined) at = encodePlace(out, at, salt, one.place, one.topicNumber, one.queueId)
        else {
          const { flag, sysFlag, properties, payload } = one.body
          const body = new Message(flag, sysFlag, Buffer.from(properties), Buffer.from(payload))
          at = encodePlaceWithBody(out, at, salt, one.place, body, one.topicNumber, one.queueId)
        }
      t.is(at % 8, 0)
      const bytes = out.subarray(0, at)
      const found: unknown[] = []
      for (let from = 0; from < at; ) {
        const read = decodeRecord(bytes, from, salt)
        if (read === undefined) return t.fail(`no record at ${from}`)
        const { record } = read
        found.push(record.kind === 'place' ? { ...record, body: record.body && shown(record.body) } : record)
        from = read.end
      }
      t.deepEqual(found, records)
    }),
    { seed: printedSeed(t), numRuns: 300 },
  )
})

function shown(body: Body) {
  const { flag, sysFlag } = body
  return {
    flag,
    sysFlag,
    properties: propertiesOf(body).toString(),
    payload: Buffer.concat(payloadOf(body)).toString(),
  }
}

test('a record that is cut, or has another bit, is none', t => {
  const name = Buffer.from('orders')
  const topic = Buffer.alloc(topicRecordBytes(name))
  encodeTopic(topic, 0, SALT, 1, name)
  const epoch = Buffer.alloc(EPOCH_RECORD_BYTES)
  encodeEpoch(epoch, 0, SALT, 1, '0123456789ab')
  const body = bodyWith('a body')
  const withBody = Buffer.alloc(placeWithBodyBytes(body))
  encodePlaceWithBody(withBody, 0, SALT, placeAt(1), body, 1, 0)
  for (const bytes of [encoded(), topic, epoch, withBody]) {
    for (let length = 0; length < bytes.length; length++)
      t.is(decodeRecord(bytes.subarray(0, length), 0, SALT), undefined, `cut to ${length}`)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const other = Buffer.concat([bytes, bytes])
      other[bit >> 3]! ^= 1 << (bit & 7)
      t.is(decodeRecord(other, 0, SALT), undefined, `bit ${bit}`)
    }
  }
})

test('a record of another segment is none, nor are zeros', t => {
  t.is(decodeRecord(encoded(), 0, SALT + 1), undefined)
  t.is(decodeRecord(Buffer.alloc(128), 0, SALT), undefined)
  t.is(decodeRecord(Buffer.alloc(128), 0, 0), undefined)
})

test('a whole record of an unknown kind, or of a length that is none, is not taken for a place', t => {
  const rest = encoded().subarray(4)
  t.is(decodeRecord(seal(Buffer.concat([int(5, 1), rest.subarray(1)])), 0, SALT), undefined)
  for (const length of [PLACE_BYTES - 8, PLACE_BYTES - 4, PLACE_BYTES + 8, 0, 0xfffffff8]) {
    const other = Buffer.from(rest)
    other.writeUInt32BE(length, 4)
    const end = Math.max(0, Math.min(other.length, length - 4))
    const bytes = Buffer.concat([int(crc32(other.subarray(0, end), SALT), 4), other])
    t.is(decodeRecord(bytes, 0, SALT), undefined, `${length} bytes`)
  }
})

test('the hash is of the key, else of the payload in any parts', t => {
  // The check value of CRC-32 (ISO-HDLC).
  t.is(hashOf(undefined, [Buffer.from('1234'), Buffer.alloc(0), Buffer.from('56789')]), 0xcbf43926)
  t.is(hashOf(Buffer.from('123456789'), [Buffer.from('x')]), 0xcbf43926)
  t.is(hashOf(undefined, []), 0)
})
