// A segment's header, its name, and what is read of it when it was cut or damaged.

import { crc32 } from 'node:zlib'
import test from 'ava'
import {
  EPOCH_RECORD_BYTES,
  encodeEpoch,
  encodePlace,
  encodeTopic,
  PLACE_BYTES,
  type Place,
  topicRecordBytes,
} from '../../replay/place.ts'
import {
  encodeSegmentHeader,
  isWholeHeader,
  parseSegmentName,
  type ReadSegment,
  readSegment,
  SEGMENT_HEADER_BYTES,
  SegmentVersionError,
  segmentName,
} from '../../replay/segment.ts'
import { int, long } from '../codec/wire.ts'
import { placeAt } from './sample.ts'

const NAME = { id: 0x1_0000_0002, salt: 0xcafe0001 }

function withCrc(bytes: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, 60), int(crc32(bytes.subarray(0, 60)), 4)])
}

test('a header stands as its layout says', t => {
  const parts = [Buffer.from('TEEPLACE'), int(2, 4), int(0xcafe0001, 4), long(0x1_0000_0002n), Buffer.alloc(40)]
  const bytes = encodeSegmentHeader(NAME)
  t.deepEqual(bytes, withCrc(Buffer.concat(parts)))
  t.true(isWholeHeader(bytes))
})

test('a header that is cut, or has another bit, is none', t => {
  const bytes = encodeSegmentHeader(NAME)
  for (let length = 0; length < SEGMENT_HEADER_BYTES; length++)
    t.false(isWholeHeader(bytes.subarray(0, length)), `cut to ${length}`)
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const other = Buffer.from(bytes)
    other[bit >> 3]! ^= 1 << (bit & 7)
    t.false(isWholeHeader(other), `bit ${bit}`)
  }
})

test('a whole header of another version is said to be one, a whole header of another magic is none', t => {
  const later = encodeSegmentHeader(NAME)
  later.writeUInt32BE(3, 8)
  t.throws(() => isWholeHeader(withCrc(later)), { instanceOf: SegmentVersionError, message: /version 3/ })
  t.throws(() => read(withCrc(later)), { instanceOf: SegmentVersionError })
  const other = encodeSegmentHeader(NAME)
  other.write('TEEOTHER')
  t.false(isWholeHeader(withCrc(other)))
})

test("names tell ids and salts, sort as ids do, and are not mistaken for other files' names", t => {
  const all = [1, 2, 0xf, 0x10, 0xffff, 2 ** 40].map(id => ({ id, salt: 0xffffffff - (id % 7) }))
  const names = all.map(segmentName)
  t.deepEqual([...names].sort(), names)
  t.deepEqual(names.map(parseSegmentName), all)
  for (const name of ['cursor-0', 'places-1-2', `${names[0]}.new`, `x${names[0]}`, `damaged-${names[0]}-64`])
    t.is(parseSegmentName(name), undefined, name)
})

interface Found extends ReadSegment {
  epochs: [number, string][]
  topics: [number, string][]
  places: [number, number, Place][]
}

function read(bytes: Buffer): Found {
  const epochs: Found['epochs'] = []
  const topics: Found['topics'] = []
  const places: Found['places'] = []
  const result = readSegment(bytes, NAME.salt, {
    epoch: (...epoch) => epochs.push(epoch),
    topic: (...topic) => topics.push(topic),
    place: (topicNumber, queueId, place) => places.push([topicNumber, queueId, place]),
  })
  return { ...result, epochs, topics, places }
}

/** A segment with an epoch, two topics and six places; the places, and where each begins and ends. */
function sixPlaces() {
  const out = Buffer.alloc(1_000)
  let at = encodeSegmentHeader(NAME).copy(out)
  at = encodeEpoch(out, at, NAME.salt, 1, '0123456789ab')
  const starts: number[] = []
  const places: Found['places'] = []
  for (const [number, name] of ['orders', 'bills'].entries()) {
    at = encodeTopic(out, at, NAME.salt, number, Buffer.from(name))
    for (let offset = 0; offset < 3; offset++) {
      starts.push(at)
      at = encodePlace(out, at, NAME.salt, placeAt(offset), number, offset)
      places.push([number, offset, placeAt(offset)])
    }
  }
  return { bytes: out.subarray(0, at), places, starts, ends: starts.map(start => start + PLACE_BYTES) }
}

test('what was written is read, in its order', t => {
  const { bytes, places } = sixPlaces()
  const topicBytes = topicRecordBytes(Buffer.from('orders'))
  t.is(bytes.length, SEGMENT_HEADER_BYTES + EPOCH_RECORD_BYTES + 2 * topicBytes + 6 * PLACE_BYTES)
  t.deepEqual(read(bytes), {
    headerWhole: true,
    damaged: [],
    tornBytes: 0,
    epochs: [[1, '0123456789ab']],
    topics: [
      [0, 'orders'],
      [1, 'bills'],
    ],
    places,
  })
})

test('cut at any byte, its whole places before the cut are read, and what is left is said', t => {
  const { bytes, places, starts, ends } = sixPlaces()
  for (let length = 0; length <= bytes.length; length++) {
    const found = read(bytes.subarray(0, length))
    t.deepEqual(found.places, places.slice(0, ends.filter(end => end <= length).length), `cut to ${length}`)
    t.is(found.headerWhole, length >= SEGMENT_HEADER_BYTES)
    t.deepEqual(found.damaged, [])
    const start = starts.find(start => start < length && length < start + PLACE_BYTES)
    if (start !== undefined) t.is(found.tornBytes, length - start)
    else if (ends.includes(length)) t.is(found.tornBytes, 0)
  }
})

test('with any bit flipped, all records but that one are read, and none is altered', t => {
  const { bytes, places, starts } = sixPlaces()
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const other = Buffer.from(bytes)
    const byte = bit >> 3
    other[byte]! ^= 1 << (bit & 7)
    const found = read(other)
    const hit = starts.findIndex(start => start <= byte && byte < start + PLACE_BYTES)
    t.deepEqual(
      found.places,
      places.filter((_, index) => index !== hit),
      `bit ${bit}`,
    )
    t.is(found.headerWhole, byte >= SEGMENT_HEADER_BYTES)
    if (hit === places.length - 1) t.like(found, { damaged: [], tornBytes: PLACE_BYTES })
    else if (hit >= 0) t.like(found, { damaged: [{ at: starts[hit]!, bytes: PLACE_BYTES }], tornBytes: 0 })
  }
})

test('zeros and strangers of any length between records are skipped, and said', t => {
  const { bytes, places, starts } = sixPlaces()
  const stranger = Buffer.alloc(PLACE_BYTES)
  encodePlace(stranger, 0, NAME.salt + 1, placeAt(9), 0, 0)
  for (const between of [Buffer.alloc(8), Buffer.alloc(4_096), stranger]) {
    const at = starts[2]!
    const found = read(Buffer.concat([bytes.subarray(0, at), between, bytes.subarray(at)]))
    t.deepEqual(found.places, places)
    t.deepEqual(found.damaged, [{ at, bytes: between.length }])
  }
})

test('records with a body larger than the rest of the file do not run away', t => {
  const { bytes, places, starts } = sixPlaces()
  const other = Buffer.from(bytes)
  other.writeUInt32BE(0x03fffff8, starts[1]! + 8)
  t.deepEqual(
    read(other).places,
    places.filter((_, index) => index !== 1),
  )
})
