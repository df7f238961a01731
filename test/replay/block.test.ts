// A block's bytes: as the layout says, read as they were written, and nothing read that was not.

import { crc32 } from 'node:zlib'
import test from 'ava'
import fc from 'fast-check'
import {
  BLOCK_HEADER_BYTES_MAX,
  type BlockMessage,
  decodeBlockBodies,
  decodeBlockHeader,
  decodeBlockPlaces,
  encodeBlock,
} from '../../replay/block.ts'
import { type Body, payloadOf, propertiesOf } from '../../replay/body.ts'
import { Message } from '../../replay/message.ts'
import { Page, type PageSummary } from '../../replay/page.ts'
import { ALL_REMOTES, type Place } from '../../replay/place.ts'
import { int, long } from '../codec/wire.ts'
import { printedSeed, seededRandom } from '../support/random.ts'
import { bodyWith, placeAt } from './sample.ts'

const SALT = 0xfedcba98
const EPOCH_ID = '0123456789ab'

function pageOf(messages: readonly BlockMessage[]): Page {
  const page = new Page(messages[0]!.place.epoch, 0)
  for (const { place, body } of messages) page.add(place, body, 0)
  return page
}

function encoded(
  messages: readonly BlockMessage[],
  { topic = 'orders', queueId = 3, salt = SALT, compress = false } = {},
) {
  return encodeBlock(topic, queueId, EPOCH_ID, pageOf(messages), messages, salt, compress)
}

function shown(body: Body | undefined) {
  if (body === undefined) return undefined
  const { flag, sysFlag } = body
  return { flag, sysFlag, properties: propertiesOf(body), payload: Buffer.concat(payloadOf(body)) }
}

/** All of a block, as far as it is whole. */
function decoded(bytes: Buffer, salt = SALT) {
  const header = decodeBlockHeader(bytes, salt)
  const places = header && decodeBlockPlaces(bytes, header, salt)
  const bodies = places && decodeBlockBodies(bytes, header!, places, salt)
  return { header, places: places?.places, bodies: bodies?.map(shown) }
}

const sample: BlockMessage[] = [
  { place: placeAt(5), body: bodyWith('first') },
  { place: placeAt(6, { placeFlags: 3, skipReason: 4, skipMask: 2 }), body: undefined },
  { place: placeAt(4, { commitLogOffset: -1 }), body: bodyWith('third', Buffer.alloc(0), 0x301, -1) },
]

test('a header stands as its layout says', t => {
  const bytes = encoded(sample)
  const header = bytes.subarray(0, 120)
  t.deepEqual(header.subarray(0, 4), Buffer.from('TEEB'))
  t.is(header.readUInt32BE(4), crc32(header.subarray(8), SALT))
  t.is(header.readUInt32BE(8), 120)
  const placesBytes = header.readUInt32BE(12)
  const bodiesBytes = header.readUInt32BE(20)
  t.is(header.readUInt32BE(16), crc32(bytes.subarray(120, 120 + placesBytes), SALT))
  t.is(header.readUInt32BE(24), crc32(bytes.subarray(120 + placesBytes, 120 + placesBytes + bodiesBytes), SALT))
  t.is(bodiesBytes, Buffer.byteLength('UNIQ_KEY\u0001first\u0002firstthird'))
  t.deepEqual(
    header.subarray(28),
    Buffer.concat([
      int(0, 4),
      int(3, 4),
      int(1, 4),
      Buffer.from(EPOCH_ID),
      int(3, 4),
      int(2, 4),
      int(0x0101, 2),
      int(0, 2),
      ...[4n, 6n, 4n, 6n, BigInt(placeAt(0).ackedAt)].map(long),
      int(6, 4),
      Buffer.from('orders'),
      Buffer.alloc(6),
    ]),
  )
  t.is(bytes.length, Math.ceil((120 + placesBytes + bodiesBytes) / 8) * 8)
})

test('what is written is read', t => {
  for (const compress of [false, true]) {
    const bytes = encoded(sample, { compress })
    const { header, places, bodies } = decoded(bytes)
    t.like(header, {
      topic: 'orders',
      queueId: 3,
      epoch: 1,
      epochId: EPOCH_ID,
      count: 3,
      withBody: 2,
      skips: true,
      late: true,
      minOffset: 4,
      maxOffset: 6,
      minSequence: 4,
      maxSequence: 6,
      firstAckedAt: placeAt(0).ackedAt,
      bytes: bytes.length,
    })
    t.deepEqual(
      places,
      sample.map(({ place }) => place),
    )
    t.deepEqual(
      bodies,
      sample.map(({ body }) => shown(body)),
    )
  }
})

test('any messages come back as they were, compressed or not', t => {
  const number = fc.maxSafeInteger()
  const unsigned = fc.integer({ min: 0, max: 0xffffffff })
  const integer = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
  const place = fc.record({
    sequence: fc.maxSafeNat(),
    queueOffset: fc.maxSafeNat(),
    commitLogOffset: fc.oneof(fc.constant(-1), fc.maxSafeNat()),
    bornTimestamp: number,
    ackedAt: number,
    hash: unsigned,
    placeFlags: fc.nat(63),
    skip: fc.option(fc.record({ reason: fc.nat(255), mask: fc.integer({ min: 1, max: ALL_REMOTES }) })),
  })
  const body = fc.record({
    flag: integer,
    sysFlag: integer,
    properties: fc.oneof(fc.string({ maxLength: 50 }), fc.constant('a property of paris '.repeat(10))),
    payload: fc.array(fc.string({ maxLength: 50 }), { minLength: 1, maxLength: 3 }),
  })
  const message = fc.tuple(place, fc.option(body, { nil: undefined }))
  const block = fc.record({
    messages: fc.array(message, { minLength: 1, maxLength: 20 }),
    epoch: unsigned,
    topic: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }),
    queueId: integer,
    salt: unsigned,
    compress: fc.boolean(),
  })
  fc.assert(
    fc.property(block, ({ messages, epoch, topic, queueId, salt, compress }) => {
      const given = messages.map(([{ skip, ...rest }, body]): BlockMessage => {
        const place: Place = { ...rest, epoch, skipReason: skip?.reason ?? 0, skipMask: skip?.mask ?? 0 }
        if (body === undefined) return { place, body }
        const [first, ...others] = body.payload as [string, ...string[]]
        const message = new Message(body.flag, body.sysFlag, Buffer.from(body.properties), Buffer.from(first))
        if (others.length > 0) message.payloadRest = others.map(part => Buffer.from(part))
        return { place, body: message }
      })
      const bytes = encoded(given, { topic, queueId, salt, compress })
      t.is(bytes.length % 8, 0)
      const { header, places, bodies } = decoded(Buffer.concat([bytes, Buffer.alloc(8, 0xff)]), salt)
      t.like(header, { topic, queueId, epoch, count: given.length, bytes: bytes.length })
      t.deepEqual(
        places,
        given.map(({ place }) => place),
      )
      t.deepEqual(
        bodies,
        given.map(({ body }) => shown(body)),
      )
    }),
    { seed: printedSeed(t), numRuns: 300 },
  )
})

test('what does not get smaller is not compressed', t => {
  const noise = seededRandom(t).bytes(200)
  const place = placeAt(1)
  const once = encoded([{ place, body: new Message(0, 0, Buffer.alloc(0), noise) }], { compress: true })
  t.is(decoded(once).header!.plainBytes, 0)
  t.deepEqual(decoded(once).bodies![0]!.payload, noise)
  const often = encoded([{ place, body: new Message(0, 0, Buffer.alloc(0), Buffer.alloc(5_000, 'ab')) }], {
    compress: true,
  })
  t.is(decoded(often).header!.plainBytes, 5_000)
  t.true(often.length < 500)
})

test('a header that is cut, or has another bit, is none', t => {
  const bytes = encoded(sample)
  const { headerBytes } = decodeBlockHeader(bytes, SALT)!
  for (let length = 0; length < headerBytes; length++)
    t.is(decodeBlockHeader(bytes.subarray(0, length), SALT), undefined, `cut to ${length}`)
  for (let bit = 0; bit < headerBytes * 8; bit++) {
    const other = Buffer.from(bytes)
    other[bit >> 3]! ^= 1 << (bit & 7)
    t.is(decodeBlockHeader(other, SALT), undefined, `bit ${bit}`)
  }
  t.is(decodeBlockHeader(bytes, SALT + 1), undefined)
  t.is(decodeBlockHeader(Buffer.alloc(200), 0), undefined)
})

for (const compress of [false, true])
  test(`damage to places costs the places, damage to bodies the bodies${compress ? ', compressed' : ''}`, t => {
    const bytes = encoded(sample, { compress })
    const { headerBytes, placesBytes, bodiesBytes } = decodeBlockHeader(bytes, SALT)!
    const bodiesAt = headerBytes + placesBytes
    for (let bit = headerBytes * 8; bit < (bodiesAt + bodiesBytes) * 8; bit++) {
      const other = Buffer.from(bytes)
      other[bit >> 3]! ^= 1 << (bit & 7)
      const { header, places, bodies } = decoded(other)
      t.truthy(header)
      t.is(places === undefined, bit >> 3 < bodiesAt, `bit ${bit}`)
      t.is(bodies, undefined)
    }
  })

test('cut anywhere, what is whole before the cut is read', t => {
  const bytes = encoded(sample)
  const { headerBytes, placesBytes, bodiesBytes } = decodeBlockHeader(bytes, SALT)!
  const bodiesAt = headerBytes + placesBytes
  for (let length = headerBytes; length <= bytes.length; length++) {
    const { header, places, bodies } = decoded(bytes.subarray(0, length))
    t.truthy(header)
    t.is(places !== undefined, length >= bodiesAt, `cut to ${length}`)
    t.is(bodies !== undefined, length >= bodiesAt + bodiesBytes)
  }
})

test('the longest topic has a header of the largest size', t => {
  const topic = 'x'.repeat(255)
  const bytes = encoded(sample, { topic })
  const header = decodeBlockHeader(bytes.subarray(0, BLOCK_HEADER_BYTES_MAX), SALT)
  t.is(header?.topic, topic)
  t.is(header?.headerBytes, BLOCK_HEADER_BYTES_MAX)
})

test('places of a hundred messages in a row take some 20 bytes each', t => {
  const messages = Array.from({ length: 512 }, (_, index) => ({
    place: placeAt(1_000_000 + index, { commitLogOffset: 5_000_000_000 + index * 1_100 }),
    body: bodyWith('body'),
  }))
  t.true(decodeBlockHeader(encoded(messages), SALT)!.placesBytes < 512 * 20)
})

test('a summary of a page says what its header says', t => {
  const { header } = decoded(encoded(sample))
  const summary: PageSummary = pageOf(sample)
  t.like(header, {
    count: summary.count,
    minOffset: summary.minOffset,
    maxOffset: summary.maxOffset,
    minSequence: summary.minSequence,
    maxSequence: summary.maxSequence,
    firstAckedAt: summary.firstAckedAt,
    skips: summary.skips,
    late: summary.late,
  })
})

test('born timestamps as far apart as a client may send them are exact', t => {
  const far = Number.MAX_SAFE_INTEGER
  const messages = [far, -far, 0, far - 1, -far + 1, 2 ** 52, -(2 ** 52), 5].map((bornTimestamp, index) => ({
    place: placeAt(index, { bornTimestamp }),
    body: undefined,
  }))
  t.deepEqual(
    decoded(encoded(messages)).places,
    messages.map(({ place }) => place),
  )
})
