// The place of an acked message in its source: what the journal holds of it.
//
//   0  4 crc32 of what follows, seeded with the salt of the journal
//   4  1 kind (1 place, 3 place with its body)   5  1 flags   6  2 zero
//   8  4 bytes of the record, a multiple of 8
//  12  4 topic number    16  4 queue id          20  4 hash of the UNIQ_KEY, else of the payload
//  24  8 sequence        32  8 queue offset      40  8 commit-log offset (-1: unknown)
//  48  8 born timestamp  56  8 time of the ack   64  1 reason why it is skipped   65  3 remotes it is skipped for, a bit each
//  68  4 ordinal of the epoch
//  72    kind 3: 4 flag, 4 sysFlag, 4 bytes of properties, 4 bytes of payload; properties; payload; zeros
//
// Big-endian. A record of kind 2 names a topic: 12 topic number, 16 bytes of the name, 20 name, zeros. One of kind 4 names
// an epoch: 12 ordinal, 16 identity (12 hex digits), zeros.
// The check of a place is born timestamp and hash: what is read back from the source must fit it.

import { crc32 } from 'node:zlib'
import { type Body, copyPayload, payloadLength } from './body.ts'
import { Message } from './message.ts'

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
  /** It was in a queue that its lane has left, and goes behind what stands in the present one. Never in a record. */
  BEHIND: 16,
  /** Its body was in the journal before the ack, and is kept there for a time: it may not be had from the source. */
  JOURNALED: 32,
} as const

/**
 * Why a message does not go to a remote; decided once, at its ack. Their numbers are in the journal. `full`: it had to be
 * kept here, and there was no room: it is lost.
 */
export const SKIP_REASONS = ['', 'delayed', 'transaction', 'reply', 'loop', 'full'] as const
export type SkipReason = 'delayed' | 'transaction' | 'reply' | 'loop'
/** Skipped for every remote, also those that come later. */
export const ALL_REMOTES = 0xffffff
export const REMOTES_MAX = 24

/**
 * Epochs that began only because nobody could tell whether the source's offsets go on are of one era with the one before:
 * most often they do, and within an era the order is that of offsets. The lower 24 bits of an epoch's ordinal are its era; the
 * others number such epochs within it.
 */
export function eraOf(epoch: number): number {
  return epoch & (EPOCHS_IN_ORDER - 1)
}

/** In the order of the source: above 0 where the first stands behind the other. */
export function inOrder(
  one: Pick<Place, 'epoch' | 'queueOffset'>,
  other: Pick<Place, 'epoch' | 'queueOffset'>,
): number {
  return eraOf(one.epoch) - eraOf(other.epoch) || one.queueOffset - other.queueOffset
}

export const EPOCHS_IN_ORDER = 0x1000000
/** Epochs of one era, at most. */
export const ERA_EPOCHS_MAX = 255

export interface Place {
  /** Ordinal of the epoch of the source that gave the offsets. */
  epoch: number
  /** Number of the record in the journal, over all segments, never used again. */
  sequence: number
  queueOffset: number
  commitLogOffset: number
  bornTimestamp: number
  /** Milliseconds, our clock. */
  ackedAt: number
  hash: number
  placeFlags: number
  /** Index into SKIP_REASONS. */
  skipReason: number
  /** A bit for each remote that it is skipped for. */
  skipMask: number
}

export const PLACE_BYTES = 72
const BODY_PREFIX_BYTES = 16
const KIND_PLACE = 1
const KIND_TOPIC = 2
const KIND_PLACE_WITH_BODY = 3
const KIND_EPOCH = 4
export const RECORD_BYTES_MIN = 32
export const EPOCH_RECORD_BYTES = 32
/** No record is longer: a frame has at most some 16 MiB. */
const RECORD_BYTES_MAX = 64 * 1024 * 1024

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
  writePlace(out, at, place, topicNumber, queueId, KIND_PLACE, PLACE_BYTES)
  return seal(out, at, at + PLACE_BYTES, salt)
}

export function placeWithBodyBytes(body: Body): number {
  return padded(PLACE_BYTES + BODY_PREFIX_BYTES + body.propertiesEnd - body.propertiesStart + payloadLength(body))
}

export function encodePlaceWithBody(
  out: Buffer,
  at: number,
  salt: number,
  place: Place,
  body: Body,
  topicNumber: number,
  queueId: number,
): number {
  const end = at + placeWithBodyBytes(body)
  writePlace(out, at, place, topicNumber, queueId, KIND_PLACE_WITH_BODY, end - at)
  const { propertiesStart, propertiesEnd } = body
  out.writeInt32BE(body.flag, at + 72)
  out.writeInt32BE(body.sysFlag, at + 76)
  out.writeUInt32BE(propertiesEnd - propertiesStart, at + 80)
  out.writeUInt32BE(payloadLength(body), at + 84)
  const payloadAt = at + 88 + body.propertyBytes.copy(out, at + 88, propertiesStart, propertiesEnd)
  out.fill(0, copyPayload(body, out, payloadAt), end)
  return seal(out, at, end, salt)
}

function writePlace(
  out: Buffer,
  at: number,
  place: Place,
  topicNumber: number,
  queueId: number,
  kind: number,
  bytes: number,
): void {
  out.writeUInt32BE(((kind << 24) | (place.placeFlags << 16)) >>> 0, at + 4)
  out.writeUInt32BE(bytes, at + 8)
  out.writeUInt32BE(topicNumber, at + 12)
  out.writeInt32BE(queueId, at + 16)
  out.writeUInt32BE(place.hash, at + 20)
  writeLong(out, at + 24, place.sequence)
  writeLong(out, at + 32, place.queueOffset)
  writeLong(out, at + 40, place.commitLogOffset)
  writeLong(out, at + 48, place.bornTimestamp)
  writeLong(out, at + 56, place.ackedAt)
  out.writeUInt32BE(((place.skipReason << 24) | place.skipMask) >>> 0, at + 64)
  out.writeUInt32BE(place.epoch, at + 68)
}

export function topicRecordBytes(name: Buffer): number {
  return Math.max(RECORD_BYTES_MIN, padded(20 + name.length))
}

export function encodeTopic(out: Buffer, at: number, salt: number, topicNumber: number, name: Buffer): number {
  const end = at + topicRecordBytes(name)
  out.fill(0, at, end)
  out.writeUInt8(KIND_TOPIC, at + 4)
  out.writeUInt32BE(end - at, at + 8)
  out.writeUInt32BE(topicNumber, at + 12)
  out.writeUInt32BE(name.length, at + 16)
  name.copy(out, at + 20)
  return seal(out, at, end, salt)
}

export function encodeEpoch(out: Buffer, at: number, salt: number, ordinal: number, id: string): number {
  const end = at + EPOCH_RECORD_BYTES
  out.fill(0, at, end)
  out.writeUInt8(KIND_EPOCH, at + 4)
  out.writeUInt32BE(end - at, at + 8)
  out.writeUInt32BE(ordinal, at + 12)
  out.write(id, at + 16, 12, 'latin1')
  return seal(out, at, end, salt)
}

function seal(out: Buffer, at: number, end: number, salt: number): number {
  out.writeUInt32BE(crc32(out.subarray(at + 4, end), salt), at)
  return end
}

export type JournalRecord =
  | { kind: 'place'; place: Place; topicNumber: number; queueId: number; body: Message | undefined }
  | { kind: 'topic'; topicNumber: number; name: string }
  | { kind: 'epoch'; ordinal: number; id: string }

/** The record at `at` and where it ends; undefined where no whole record stands there. */
export function decodeRecord(
  bytes: Buffer,
  at: number,
  salt: number,
): { record: JournalRecord; end: number } | undefined {
  if (at + RECORD_BYTES_MIN > bytes.length) return undefined
  const length = bytes.readUInt32BE(at + 8)
  const end = at + length
  if (length < RECORD_BYTES_MIN || length > RECORD_BYTES_MAX || length % 8 !== 0 || end > bytes.length) return undefined
  if (bytes.readUInt32BE(at) !== crc32(bytes.subarray(at + 4, end), salt)) return undefined
  const record = decodeWhole(bytes, at, length)
  return record && { record, end }
}

/** As a place's record has them. */
export interface QueueNumbers {
  topicNumber: number
  queueId: number
}

/** Of the record at `at`, that is of a place. */
export function queueOf(bytes: Buffer, at: number): QueueNumbers {
  return { topicNumber: bytes.readUInt32BE(at + 12), queueId: bytes.readInt32BE(at + 16) }
}

/** Bytes of the record at `at`, as it says itself, where it is a place's of another queue; else 0. */
export function bytesOfOther(bytes: Buffer, at: number, { topicNumber, queueId }: QueueNumbers): number {
  if (at + PLACE_BYTES > bytes.length) return 0
  const kind = bytes[at + 4]!
  if (kind !== KIND_PLACE && kind !== KIND_PLACE_WITH_BODY) return 0
  const own = queueOf(bytes, at)
  if (own.topicNumber === topicNumber && own.queueId === queueId) return 0
  const length = bytes.readUInt32BE(at + 8)
  return length >= PLACE_BYTES && length <= RECORD_BYTES_MAX && length % 8 === 0 ? length : 0
}

function decodeWhole(bytes: Buffer, at: number, length: number): JournalRecord | undefined {
  const kind = bytes[at + 4]!
  const number = bytes.readUInt32BE(at + 12)
  switch (kind) {
    case KIND_TOPIC: {
      const nameBytes = bytes.readUInt32BE(at + 16)
      return { kind: 'topic', topicNumber: number, name: bytes.toString('utf8', at + 20, at + 20 + nameBytes) }
    }
    case KIND_EPOCH:
      return { kind: 'epoch', ordinal: number, id: bytes.toString('latin1', at + 16, at + 28) }
    case KIND_PLACE:
    case KIND_PLACE_WITH_BODY: {
      if (length < PLACE_BYTES) return undefined
      const place = readPlace(bytes, at)
      const body = kind === KIND_PLACE_WITH_BODY ? readBody(bytes, at) : undefined
      return { kind: 'place', place, topicNumber: number, queueId: bytes.readInt32BE(at + 16), body }
    }
    default:
      return undefined
  }
}

function readPlace(bytes: Buffer, at: number): Place {
  const skip = bytes.readUInt32BE(at + 64)
  return {
    epoch: bytes.readUInt32BE(at + 68),
    sequence: readLong(bytes, at + 24),
    queueOffset: readLong(bytes, at + 32),
    commitLogOffset: readLong(bytes, at + 40),
    bornTimestamp: readLong(bytes, at + 48),
    ackedAt: readLong(bytes, at + 56),
    hash: bytes.readUInt32BE(at + 20),
    placeFlags: bytes[at + 5]!,
    skipReason: skip >>> 24,
    skipMask: skip & ALL_REMOTES,
  }
}

function readBody(bytes: Buffer, at: number): Message {
  const propertiesAt = at + PLACE_BYTES + BODY_PREFIX_BYTES
  const payloadAt = propertiesAt + bytes.readUInt32BE(at + 80)
  // Copied: a view would keep the whole segment in memory.
  const own = Buffer.from(bytes.subarray(propertiesAt, payloadAt + bytes.readUInt32BE(at + 84)))
  const properties = payloadAt - propertiesAt
  return new Message(
    bytes.readInt32BE(at + 72),
    bytes.readInt32BE(at + 76),
    own.subarray(0, properties),
    own.subarray(properties),
  )
}

function padded(bytes: number): number {
  return Math.ceil(bytes / 8) * 8
}

// Two's complement of 53-bit numbers, without the cost of a BigInt for each.
export function writeLong(out: Buffer, at: number, value: number): void {
  out.writeInt32BE(Math.floor(value / 0x100000000), at)
  out.writeUInt32BE(value - Math.floor(value / 0x100000000) * 0x100000000, at + 4)
}

export function readLong(bytes: Buffer, at: number): number {
  return bytes.readInt32BE(at) * 0x100000000 + bytes.readUInt32BE(at + 4)
}
