// A segment of places: a header, then records (place.ts), one behind the other, never changed.
//
//   0 8 magic "TEEPLACE"   8 4 version   12 4 salt   16 8 segment id   24 36 zero   60 4 crc32 of the 60 bytes before
//
// Big-endian. The id, which is never used again, and the salt are also in the file's name, so that the records of a segment
// whose header is damaged can be read all the same. What is read here is a file as it was left: whole, torn, or damaged.

import { crc32 } from 'node:zlib'
import type { Message } from './message.ts'
import { decodeRecord, type Place } from './place.ts'

const MAGIC = 'TEEPLACE'
const VERSION = 2
export const SEGMENT_HEADER_BYTES = 64
/** Records begin at multiples of this. */
const ALIGNMENT = 8

export interface SegmentName {
  id: number
  salt: number
}

export function segmentName({ id, salt }: SegmentName): string {
  return `places-${id.toString(16).padStart(12, '0')}-${salt.toString(16).padStart(8, '0')}`
}

export function parseSegmentName(name: string): SegmentName | undefined {
  const match = /^places-([0-9a-f]{12})-([0-9a-f]{8})$/.exec(name)
  return match === null ? undefined : { id: Number.parseInt(match[1]!, 16), salt: Number.parseInt(match[2]!, 16) }
}

export function encodeSegmentHeader({ id, salt }: SegmentName): Buffer {
  return encodeHeader(MAGIC, VERSION, id, salt)
}

/** The header of either kind of segment, of places and of bodies. */
export function encodeHeader(magic: string, version: number, id: number, salt: number): Buffer {
  const out = Buffer.alloc(SEGMENT_HEADER_BYTES)
  out.write(magic, 0, 'latin1')
  out.writeUInt32BE(version, 8)
  out.writeUInt32BE(salt, 12)
  out.writeBigUInt64BE(BigInt(id), 16)
  out.writeUInt32BE(crc32(out.subarray(0, 60)), 60)
  return out
}

export class SegmentVersionError extends Error {}

/** False where the header is damaged or cut. Throws SegmentVersionError for one that is whole and of another version. */
export function isWholeHeader(bytes: Buffer, magic = MAGIC, version = VERSION): boolean {
  if (bytes.length < SEGMENT_HEADER_BYTES || bytes.readUInt32BE(60) !== crc32(bytes.subarray(0, 60))) return false
  if (bytes.toString('latin1', 0, 8) !== magic) return false
  const found = bytes.readUInt32BE(8)
  if (found !== version)
    throw new SegmentVersionError(
      `journal segment of version ${found}; this program reads version ${version}: use the version that wrote it, or move the data directory away`,
    )
  return true
}

export interface PlaceVisitor {
  topic(topicNumber: number, name: string): void
  epoch(ordinal: number, id: string): void
  place(topicNumber: number, queueId: number, place: Place, body: Message | undefined): void
}

export interface ReadSegment {
  headerWhole: boolean
  /** Ranges of bytes that are no whole record, with whole ones behind them. */
  damaged: { at: number; bytes: number }[]
  /** Bytes behind the last whole record: a torn tail. */
  tornBytes: number
}

/** Reads what is whole in a segment. Throws SegmentVersionError. */
export function readSegment(bytes: Buffer, salt: number, visitor: PlaceVisitor): ReadSegment {
  const headerWhole = isWholeHeader(bytes)
  const damaged: ReadSegment['damaged'] = []
  let at = SEGMENT_HEADER_BYTES
  let damagedFrom = -1
  while (at < bytes.length) {
    const read = decodeRecord(bytes, at, salt)
    if (read === undefined) {
      if (damagedFrom < 0) damagedFrom = at
      at += ALIGNMENT
      continue
    }
    if (damagedFrom >= 0) damaged.push({ at: damagedFrom, bytes: at - damagedFrom })
    damagedFrom = -1
    at = read.end
    const { record } = read
    if (record.kind === 'topic') visitor.topic(record.topicNumber, record.name)
    else if (record.kind === 'epoch') visitor.epoch(record.ordinal, record.id)
    else visitor.place(record.topicNumber, record.queueId, record.place, record.body)
  }
  const tornBytes = damagedFrom < 0 ? 0 : bytes.length - damagedFrom
  return { headerWhole, damaged, tornBytes }
}
