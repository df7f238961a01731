// The journal's records: bytes as the layout says, and nothing read that was not written.

import { crc32 } from 'node:zlib'
import test from 'ava'
import fc from 'fast-check'
import {
  decodeRecord,
  encodePlace,
  encodeTopic,
  hashOf,
  PLACE_BYTES,
  PlaceFlag,
  topicRecordBytes,
} from '../../replay/place.ts'
import { int, long } from '../codec/wire.ts'
import { printedSeed } from '../support/random.ts'
import { placeAt } from './sample.ts'

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
    sequence: 7,
    queueOffset: 0x1_2345_6789,
    commitLogOffset: -1,
    bornTimestamp: 1_763_928_347_123,
    ackedAt: 1_763_928_347_200,
    hash: 0xdeadbeef,
    placeFlags: PlaceFlag.BATCH_MEMBER | PlaceFlag.PAYLOAD_HASH,
  }
  const rest = [int(1, 1), int(3, 1), int(64, 2), int(9, 4), int(4, 4), long(7n), long(0x1_2345_6789n), long(-1n)]
  const end = [long(1_763_928_347_123n), long(1_763_928_347_200n), int(0xdeadbeef, 4), int(0, 4)]
  const bytes = encoded(place, 9, 4)
  t.deepEqual(bytes, seal(Buffer.concat([...rest, ...end])))
  t.deepEqual(decodeRecord(bytes, 0, SALT), { record: { kind: 'place', place, topicNumber: 9, queueId: 4 }, end: 64 })
})

test('a topic stands as its layout says, with zeros up to a multiple of 8', t => {
  const name = Buffer.from('orders')
  const out = Buffer.alloc(topicRecordBytes(name), 0xff)
  t.is(encodeTopic(out, 0, SALT, 9, name), 24)
  t.deepEqual(out, seal(Buffer.concat([int(2, 1), int(0, 1), int(24, 2), int(9, 4), int(6, 4), name, Buffer.alloc(2)])))
})

test('any places and topics, one behind the other, are read as they were written', t => {
  const number = fc.maxSafeInteger()
  const place = fc.record({
    sequence: fc.maxSafeNat(),
    queueOffset: fc.maxSafeNat(),
    commitLogOffset: fc.oneof(fc.constant(-1), fc.maxSafeNat()),
    bornTimestamp: number,
    ackedAt: number,
    hash: fc.integer({ min: 0, max: 0xffffffff }),
    placeFlags: fc.nat(255),
  })
  const topicNumber = fc.integer({ min: 0, max: 0xffffffff })
  const record = fc.oneof(
    fc.record({
      kind: fc.constant('place' as const),
      place,
      topicNumber,
      queueId: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    }),
    fc.record({
      kind: fc.constant('topic' as const),
      topicNumber,
      name: fc.string({ unit: 'grapheme', maxLength: 300 }),
    }),
  )
  fc.assert(
    fc.property(fc.array(record, { maxLength: 6 }), topicNumber, (records, salt) => {
      const out = Buffer.alloc(32_768)
      let at = 0
      for (const one of records)
        if (one.kind === 'place') at = encodePlace(out, at, salt, one.place, one.topicNumber, one.queueId)
        else at = encodeTopic(out, at, salt, one.topicNumber, Buffer.from(one.name))
      t.is(at % 8, 0)
      const bytes = out.subarray(0, at)
      const found: unknown[] = []
      for (let from = 0; from < at; ) {
        const read = decodeRecord(bytes, from, salt)
        if (read === undefined) return t.fail(`no record at ${from}`)
        found.push(read.record)
        from = read.end
      }
      t.deepEqual(found, records)
    }),
    { seed: printedSeed(t), numRuns: 300 },
  )
})

test('a record that is cut, or has another bit, is none', t => {
  const name = Buffer.from('orders')
  const topic = Buffer.alloc(topicRecordBytes(name))
  encodeTopic(topic, 0, SALT, 1, name)
  for (const bytes of [encoded(), topic]) {
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

test('a whole record of an unknown kind, or a place of another length, is not taken for a place', t => {
  const rest = encoded().subarray(4)
  t.is(decodeRecord(seal(Buffer.concat([int(3, 1), rest.subarray(1)])), 0, SALT), undefined)
  const longer = Buffer.concat([rest, Buffer.alloc(8)])
  longer.writeUInt16BE(72, 2)
  t.is(decodeRecord(seal(longer), 0, SALT), undefined)
})

test('the hash is of the key, else of the payload in any parts', t => {
  // The check value of CRC-32 (ISO-HDLC).
  t.is(hashOf(undefined, [Buffer.from('1234'), Buffer.alloc(0), Buffer.from('56789')]), 0xcbf43926)
  t.is(hashOf(Buffer.from('123456789'), [Buffer.from('x')]), 0xcbf43926)
  t.is(hashOf(undefined, []), 0)
})
