// A segment of places: a header, then records (place.ts), one behind the other, never changed.
//
//   0 8 magic "TEEPLACE"   8 4 version   12 4 salt   16 8 segment id   24 36 zero   60 4 crc32 of the 60 bytes before
//
// Big-endian. The id, which is never used again, and the salt are also in the file's name, so that the records of a segment
// whose header is damaged can be read all the same. What is read here is a file as it was left: whole, torn, or damaged.

import { crc32 } from 'node:zlib'
import type { Message } from './message.ts'
import { bytesOfOther, decodeRecord, type JournalRecord, type Place, type QueueNumbers } from './place.ts'

const MAGIC = 'TEEPLACE'
const VERSION = 2
export const SEGMENT_HEADER_BYTES = 64
/** Records begin at multiples of this. */
const ALIGNMENT = 8

/** What the name of a segment of either kind, of places and of bodies, says. */
export interface SegmentName {
  id: number
  salt: number
}

export function segmentName(name: SegmentName): string {
  return nameOf('places', name)
}

export function parseSegmentName(name: string): SegmentName | undefined {
  return parseName('places', name)
}

export function nameOf(kind: 'places' | 'bodies', { id, salt }: SegmentName): string {
  return `${kind}-${id.toString(16).padStart(12, '0')}-${salt.toString(16).padStart(8, '0')}`
}

/** Undefined where it is none of this kind. */
export function parseName(kind: 'places' | 'bodies', name: string): SegmentName | undefined {
  const match = /^([a-z]+)-([0-9a-f]{12})-([0-9a-f]{8})$/.exec(name)
  if (match?.[1] !== kind) return undefined
  return { id: Number.parseInt(match[2]!, 16), salt: Number.parseInt(match[3]!, 16) }
}

/** Those of a folder's names that `parse` knows, by id. */
export function listed(
  names: readonly string[],
  parse: (name: string) => SegmentName | undefined,
): (SegmentName & { name: string })[] {
  return [...names].sort().flatMap(name => {
    const parsed = parse(name)
    return parsed === undefined ? [] : [{ name, ...parsed }]
  })
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

export interface DamagedRange {
  at: number
  bytes: number
}

export interface ReadSegment {
  headerWhole: boolean
  /** Ranges of bytes that are no whole record, with whole ones behind them. */
  damaged: DamagedRange[]
  /** Bytes behind the last whole record: a torn tail. */
  tornBytes: number
}

/** Reads what is whole in a segment. Throws SegmentVersionError. */
export function readSegment(bytes: Buffer, salt: number, visitor: PlaceVisitor): ReadSegment {
  const headerWhole = isWholeHeader(bytes)
  const damaged: ReadSegment['damaged'] = []
  const end = writtenEnd(bytes)
  let readTo = SEGMENT_HEADER_BYTES
  for (const { record, at, end: recordEnd } of recordsIn(bytes, salt, SEGMENT_HEADER_BYTES, end)) {
    if (at > readTo) damaged.push({ at: readTo, bytes: at - readTo })
    readTo = recordEnd
    if (record.kind === 'topic') visitor.topic(record.topicNumber, record.name)
    else if (record.kind === 'epoch') visitor.epoch(record.ordinal, record.id)
    else visitor.place(record.topicNumber, record.queueId, record.place, record.body)
  }
  return { headerWhole, damaged, tornBytes: Math.max(0, end - readTo) }
}

/** The whole records in these bytes; what is none is passed over, and, unread, what is of another queue than `only`. */
export function* recordsIn(
  bytes: Buffer,
  salt: number,
  from = 0,
  end = writtenEnd(bytes),
  only?: QueueNumbers,
): Generator<{ record: JournalRecord; at: number; end: number }> {
  for (let at = from; at < end; ) {
    const passed = only === undefined ? 0 : bytesOfOther(bytes, at, only)
    const read = passed > 0 ? undefined : decodeRecord(bytes, at, salt)
    if (read !== undefined) yield { at, ...read }
    at = read?.end ?? at + (passed || ALIGNMENT)
  }
}

/** Behind what was written, nearly: space that was set aside is zeros. The last record may end in zeros of its own. */
function writtenEnd(bytes: Buffer): number {
  let end = bytes.length
  while (
    end > 0 &&
    bytes.subarray(Math.max(0, end - ZEROS.length), end).equals(ZEROS.subarray(0, Math.min(ZEROS.length, end)))
  )
    end = Math.max(0, end - ZEROS.length)
  while (end > 0 && bytes[end - 1] === 0) end--
  // A few are what a record ends in, or was cut to.
  return bytes.length - end < SET_ASIDE_MIN ? bytes.length : end
}

const ZEROS = Buffer.alloc(64 * 1024)
/** With less space than this left of what was set aside, it is read through. */
const SET_ASIDE_MIN = 8 * 1024
