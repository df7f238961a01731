// A segment's header, its name, and how it is read when it was cut or damaged.

import { crc32 } from 'node:zlib'
import test from 'ava'
import { encodePlace, encodeTopic, PLACE_BYTES, type Place, topicRecordBytes } from '../../replay/place.ts'
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  isSegmentName,
  readSegment,
  SEGMENT_HEADER_BYTES,
  SegmentVersionError,
  segmentId,
  segmentName,
} from '../../replay/segment.ts'
import { int, long } from '../codec/wire.ts'
import { placeAt } from './sample.ts'

const header = { id: 0x1_0000_0002, salt: 0xcafe0001, epoch: 7, epochId: '0123456789ab', firstSequence: 5_000_000_000 }

function withCrc(bytes: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, 60), int(crc32(bytes.subarray(0, 60)), 4)])
}

test('a header stands as its layout says, and is read as it was written', t => {
  const parts = [Buffer.from('TEEPLACE'), int(1, 4), int(0xcafe0001, 4), long(0x1_0000_0002n), int(7, 4)]
  const rest = [Buffer.from('0123456789ab'), long(5_000_000_000n), Buffer.alloc(12)]
  const bytes = encodeSegmentHeader(header)
  t.deepEqual(bytes, withCrc(Buffer.concat([...parts, ...rest])))
  t.deepEqual(decodeSegmentHeader(bytes), header)
})

test('a header that is cut, or has another bit, is none', t => {
  const bytes = encodeSegmentHeader(header)
  for (let length = 0; length < SEGMENT_HEADER_BYTES; length++)
    t.is(decodeSegmentHeader(bytes.subarray(0, length)), undefined, `cut to ${length}`)
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const other = Buffer.from(bytes)
    other[bit >> 3]! ^= 1 << (bit & 7)
    t.is(decodeSegmentHeader(other), undefined, `bit ${bit}`)
  }
})

test('a whole header of another version is said to be one, a whole header of another magic is none', t => {
  const later = encodeSegmentHeader(header)
  later.writeUInt32BE(2, 8)
  t.throws(() => decodeSegmentHeader(withCrc(later)), { instanceOf: SegmentVersionError, message: /version 2/ })
  const other = encodeSegmentHeader(header)
  other.write('TEEOTHER')
  t.is(decodeSegmentHeader(withCrc(other)), undefined)
})

test("names tell ids, sort as ids do, and are not mistaken for other files' names", t => {
  const names = [1, 2, 0xf, 0x10, 0xffff, 2 ** 40].map(id => segmentName({ id, salt: 0xffffffff - (id % 7) }))
  t.deepEqual([...names].sort(), names)
  t.deepEqual(names.map(segmentId), [1, 2, 0xf, 0x10, 0xffff, 2 ** 40])
  t.true(names.every(isSegmentName))
  for (const name of ['cursor-0', 'places-1-2', `${names[0]}.new`, `x${names[0]}`]) t.false(isSegmentName(name), name)
})

test('cut anywhere, its whole places before the cut are read, and what is left is said', t => {
  const out = Buffer.alloc(1_000)
  let at = encodeSegmentHeader(header).copy(out)
  const ends: number[] = []
  const given: [string, number, Place][] = []
  for (const [number, name] of ['orders', 'bills'].entries()) {
    at = encodeTopic(out, at, header.salt, number, Buffer.from(name))
    for (let offset = 0; offset < 2; offset++) {
      at = encodePlace(out, at, header.salt, placeAt(offset), number, offset)
      ends.push(at)
      given.push([name, offset, placeAt(offset)])
    }
  }
  t.is(at, SEGMENT_HEADER_BYTES + 2 * topicRecordBytes(Buffer.from('orders')) + 4 * PLACE_BYTES)
  for (let length = 0; length <= at; length++) {
    const found: [string, number, Place][] = []
    const read = readSegment(out.subarray(0, length), (topic, queueId, place) => found.push([topic, queueId, place]))
    t.deepEqual(found, given.slice(0, ends.filter(end => end <= length).length), `cut to ${length}`)
    if (length < SEGMENT_HEADER_BYTES) t.is(read, undefined)
    else t.deepEqual(read?.header, header)
    if (ends.includes(length)) t.is(read?.tornBytes, 0)
    else if (length > ends[0]! && !ends.includes(length) && length < ends[1]!) t.is(read?.tornBytes, length - ends[0]!)
  }
})
