// A segment of places: a header, then records (place.ts), one behind the other, never changed.
//
//   0 8 magic "TEEPLACE"   8 4 version   12 4 salt   16 8 segment id   24 4 epoch ordinal   28 12 epoch's random number (hex)
//  40 8 first sequence    48 12 zero    60 4 crc32 of the 60 bytes before
//
// Big-endian. The id, which is never used again, and the salt are also in the file's name. An epoch begins with a new
// segment, so that each segment has one. What is read here is a file as it was left, whole or torn.

import { crc32 } from 'node:zlib'
import { decodeRecord, type Place } from './place.ts'

const MAGIC = 'TEEPLACE'
const VERSION = 1
export const SEGMENT_HEADER_BYTES = 64
/** A segment is ended when it is longer than this. */
export const SEGMENT_BYTES = 64 * 1024 * 1024

export interface SegmentHeader {
  id: number
  salt: number
  epoch: number
  /** Identity of the epoch: 12 hex digits. */
  epochId: string
  firstSequence: number
}

export function segmentName({ id, salt }: { id: number; salt: number }): string {
  return `places-${id.toString(16).padStart(12, '0')}-${salt.toString(16).padStart(8, '0')}`
}

export function isSegmentName(name: string): boolean {
  return /^places-[0-9a-f]{12}-[0-9a-f]{8}$/.test(name)
}

export function segmentId(name: string): number {
  return Number.parseInt(name.split('-')[1]!, 16)
}

export function encodeSegmentHeader({ id, salt, epoch, epochId, firstSequence }: SegmentHeader): Buffer {
  const out = Buffer.alloc(SEGMENT_HEADER_BYTES)
  out.write(MAGIC, 0, 'latin1')
  out.writeUInt32BE(VERSION, 8)
  out.writeUInt32BE(salt, 12)
  out.writeBigUInt64BE(BigInt(id), 16)
  out.writeUInt32BE(epoch, 24)
  out.write(epochId, 28, 'latin1')
  out.writeBigUInt64BE(BigInt(firstSequence), 40)
  out.writeUInt32BE(crc32(out.subarray(0, 60)), 60)
  return out
}

export class SegmentVersionError extends Error {}

/** Undefined where the header is damaged or cut. Throws SegmentVersionError for one that is whole and of another version. */
export function decodeSegmentHeader(bytes: Buffer): SegmentHeader | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES || bytes.readUInt32BE(60) !== crc32(bytes.subarray(0, 60))) return undefined
  if (bytes.toString('latin1', 0, 8) !== MAGIC) return undefined
  const version = bytes.readUInt32BE(8)
  if (version !== VERSION)
    throw new SegmentVersionError(`journal segment of version ${version}; this program reads version ${VERSION}`)
  return {
    salt: bytes.readUInt32BE(12),
    id: Number(bytes.readBigUInt64BE(16)),
    epoch: bytes.readUInt32BE(24),
    epochId: bytes.toString('latin1', 28, 40),
    firstSequence: Number(bytes.readBigUInt64BE(40)),
  }
}

export interface ReadSegment {
  header: SegmentHeader
  /** Bytes behind the last whole record: a torn tail. */
  tornBytes: number
}

/** Reads a segment's places up to the first record that is not whole. Undefined where the header is not. */
export function readSegment(
  bytes: Buffer,
  visit: (topic: string, queueId: number, place: Place, header: SegmentHeader) => void,
): ReadSegment | undefined {
  const header = decodeSegmentHeader(bytes)
  if (header === undefined) return undefined
  const topics = new Map<number, string>()
  let at = SEGMENT_HEADER_BYTES
  for (;;) {
    const read = decodeRecord(bytes, at, header.salt)
    if (read === undefined) break
    at = read.end
    const { record } = read
    if (record.kind === 'topic') topics.set(record.topicNumber, record.name)
    else visit(topics.get(record.topicNumber) ?? '', record.queueId, record.place, header)
  }
  return { header, tornBytes: bytes.length - at }
}
