// The place of an acked message in its source: what the journal holds of it, some 50 bytes.
//
//   0  4 crc32 of what follows, seeded with the segment's salt
//   4  1 kind (1 place)   5  1 flags   6  2 bytes of the record
//   8  4 topic number    12  4 queue id
//  16  8 sequence        24  8 queue offset    32  8 commit-log offset (-1: unknown)
//  40  8 born timestamp  48  8 time of the ack 56  4 hash of the UNIQ_KEY, else of the payload   60 4 zero
//
// Big-endian. A record of kind 2 names a topic: 8 topic number, 12 bytes of the name, 16 name, zeros up to a multiple of 8.
// The check of a place is born timestamp and hash: what is read back from the source must fit it.

import { crc32 } from 'node:zlib'

export const PlaceFlag = {
  /** It came in a batch: the source may have put the batch's properties behind its own, and ignored its delay. */
  BATCH_MEMBER: 1,
  /** It had no UNIQ_KEY: the hash is of the payload. */
  PAYLOAD_HASH: 2,
  /**
   * It was done, and is unclear since its remote lost its tail: its check was folded away, and its fold's proof stands for
   * it. Never in a record.
   */
  AGAIN: 4,
  /** It went without a stamp, and is known by its check alone. Never in a record. */
  UNSTAMPED: 8,
} as const

export interface Place {
  /** Number of the record in the journal, over all segments, never used again. */
  sequence: number
  queueOffset: number
  commitLogOffset: number
  bornTimestamp: number
  /** Milliseconds, our clock. */
  ackedAt: number
  hash: number
  placeFlags: number
}

export const PLACE_BYTES = 64
const KIND_PLACE = 1
const KIND_TOPIC = 2
export const RECORD_PREFIX_BYTES = 8

export function hashOf(uniqKey: Buffer | undefined, payload: readonly Buffer[]): number {
  if (uniqKey !== undefined) return crc32(uniqKey)
  let crc = 0
  for (const part of payload) crc = crc32(part, crc)
  return crc
}

export function encodePlace(
  out: Buffer,
  at: number,
  salt: number,
  place: Place,
  topicNumber: number,
  queueId: number,
): number {
  out.writeUInt8(KIND_PLACE, at + 4)
  out.writeUInt8(place.placeFlags, at + 5)
  out.writeUInt16BE(PLACE_BYTES, at + 6)
  out.writeUInt32BE(topicNumber, at + 8)
  out.writeInt32BE(queueId, at + 12)
  writeLong(out, at + 16, place.sequence)
  writeLong(out, at + 24, place.queueOffset)
  writeLong(out, at + 32, place.commitLogOffset)
  writeLong(out, at + 40, place.bornTimestamp)
  writeLong(out, at + 48, place.ackedAt)
  out.writeUInt32BE(place.hash, at + 56)
  out.writeUInt32BE(0, at + 60)
  return seal(out, at, at + PLACE_BYTES, salt)
}

export function topicRecordBytes(name: Buffer): number {
  return Math.ceil((16 + name.length) / 8) * 8
}

export function encodeTopic(out: Buffer, at: number, salt: number, topicNumber: number, name: Buffer): number {
  const end = at + topicRecordBytes(name)
  out.fill(0, at, end)
  out.writeUInt8(KIND_TOPIC, at + 4)
  out.writeUInt16BE(end - at, at + 6)
  out.writeUInt32BE(topicNumber, at + 8)
  out.writeUInt32BE(name.length, at + 12)
  name.copy(out, at + 16)
  return seal(out, at, end, salt)
}

function seal(out: Buffer, at: number, end: number, salt: number): number {
  out.writeUInt32BE(crc32(out.subarray(at + 4, end), salt), at)
  return end
}

export type JournalRecord =
  | { kind: 'place'; place: Place; topicNumber: number; queueId: number }
  | { kind: 'topic'; topicNumber: number; name: string }

/** The record at `at` and where it ends; undefined where no whole record stands there. */
export function decodeRecord(
  bytes: Buffer,
  at: number,
  salt: number,
): { record: JournalRecord; end: number } | undefined {
  if (at + RECORD_PREFIX_BYTES > bytes.length) return undefined
  const length = bytes.readUInt16BE(at + 6)
  const end = at + length
  if (length < 16 || end > bytes.length || bytes.readUInt32BE(at) !== crc32(bytes.subarray(at + 4, end), salt))
    return undefined
  const topicNumber = bytes.readUInt32BE(at + 8)
  if (bytes[at + 4] === KIND_TOPIC) {
    const nameBytes = bytes.readUInt32BE(at + 12)
    return { record: { kind: 'topic', topicNumber, name: bytes.toString('utf8', at + 16, at + 16 + nameBytes) }, end }
  }
  if (bytes[at + 4] !== KIND_PLACE || length !== PLACE_BYTES) return undefined
  const place: Place = {
    sequence: readLong(bytes, at + 16),
    queueOffset: readLong(bytes, at + 24),
    commitLogOffset: readLong(bytes, at + 32),
    bornTimestamp: readLong(bytes, at + 40),
    ackedAt: readLong(bytes, at + 48),
    hash: bytes.readUInt32BE(at + 56),
    placeFlags: bytes[at + 5]!,
  }
  return { record: { kind: 'place', place, topicNumber, queueId: bytes.readInt32BE(at + 12) }, end }
}

// Two's complement of 53-bit numbers, without the cost of a BigInt for each.
function writeLong(out: Buffer, at: number, value: number): void {
  out.writeInt32BE(Math.floor(value / 0x100000000), at)
  out.writeUInt32BE(value - Math.floor(value / 0x100000000) * 0x100000000, at + 4)
}

function readLong(bytes: Buffer, at: number): number {
  return bytes.readInt32BE(at) * 0x100000000 + bytes.readUInt32BE(at + 4)
}
