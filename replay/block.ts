// A block: a page of messages on disk, with the places of all and the bodies of those that have one here.
//
//   0  4 magic "TEEB"          4  4 crc32 of the header behind it, seeded with the salt of the file
//   8  4 bytes of the header  12  4 bytes of the places      16  4 crc32 of the places
//  20  4 bytes of the bodies  24  4 crc32 of the bodies      28  4 bytes of the bodies before compression (0: not compressed)
//  32  4 queue id             36  4 ordinal of the epoch     40  12 identity of the epoch (12 hex digits)
//  52  4 messages             56  4 those with a body        60  1 some are skipped   61 1 some stand behind higher offsets
//  62  1 some bodies cannot be had from the source again
//  64  8 lowest queue offset  72  8 highest queue offset     80  8 lowest sequence    88  8 highest sequence
//  96  8 time of the first ack   104 4 bytes of the topic    108 topic, zeros up to a multiple of 8
//      places, bodies, zeros up to a multiple of 8
//
// Big-endian. A place is a run of variable-length numbers, each the difference to the place before: sequence, queue offset,
// commit-log offset, born timestamp, time of the ack; then hash (4 bytes), flags (1 byte: place flags, 64 skip follows, 128
// a body follows), skip (4 bytes), and of a body its flag, sysFlag, bytes of properties, bytes of payload. A body is its
// properties, then its payload. So places can be read without bodies, and damage to bodies costs no place.

import { crc32 } from 'node:zlib'
import { compressBlock, decompressBlock } from '../codec/index.ts'
import { type Body, copyPayload, payloadLength } from './body.ts'
import { Message } from './message.ts'
import type { PageSummary } from './page.ts'
import { ALL_REMOTES, type Place, readLong, writeLong } from './place.ts'

const MAGIC = 0x54454542
export const BLOCK_HEADER_BYTES_MIN = 108
/** A topic has at most 255 bytes. */
export const BLOCK_HEADER_BYTES_MAX = 368
const SKIP_FOLLOWS = 64
const BODY_FOLLOWS = 128
/** Most that a place takes: 9 numbers of at most 8 bytes, and what is fixed. */
const PLACE_BYTES_MAX = 9 * 8 + 9

export interface BlockHeader extends PageSummary {
  topic: string
  queueId: number
  epochId: string
  headerBytes: number
  placesBytes: number
  placesCrc: number
  bodiesBytes: number
  bodiesCrc: number
  plainBytes: number
  /** Of the whole block. */
  bytes: number
}

export interface BlockMessage {
  place: Place
  body: Body | undefined
}

export function encodeBlock(
  topic: string,
  queueId: number,
  epochId: string,
  summary: PageSummary,
  messages: readonly BlockMessage[],
  salt: number,
  compress: boolean,
): Buffer {
  const name = Buffer.from(topic)
  const headerBytes = padded(BLOCK_HEADER_BYTES_MIN + name.length)
  let plainBytes = 0
  let withBody = 0
  for (const { body } of messages) {
    if (body === undefined) continue
    withBody++
    plainBytes += body.propertiesEnd - body.propertiesStart + payloadLength(body)
  }
  const out = Buffer.allocUnsafe(headerBytes + messages.length * PLACE_BYTES_MAX + plainBytes + 8)
  const placesEnd = writePlaces(out, headerBytes, messages)
  let end = placesEnd
  for (const { body } of messages) {
    if (body === undefined) continue
    end += body.propertyBytes.copy(out, end, body.propertiesStart, body.propertiesEnd)
    end = copyPayload(body, out, end)
  }
  let compressed = false
  if (compress && plainBytes > 0) {
    const smaller = compressBlock(out.subarray(placesEnd, end))
    compressed = smaller.length < plainBytes
    if (compressed) end = placesEnd + smaller.copy(out, placesEnd)
  }
  const bytes = padded(end)
  out.fill(0, end, bytes)
  out.fill(0, 0, headerBytes)
  out.writeUInt32BE(MAGIC, 0)
  out.writeUInt32BE(headerBytes, 8)
  out.writeUInt32BE(placesEnd - headerBytes, 12)
  out.writeUInt32BE(crc32(out.subarray(headerBytes, placesEnd), salt), 16)
  out.writeUInt32BE(end - placesEnd, 20)
  out.writeUInt32BE(crc32(out.subarray(placesEnd, end), salt), 24)
  out.writeUInt32BE(compressed ? plainBytes : 0, 28)
  out.writeInt32BE(queueId, 32)
  out.writeUInt32BE(summary.epoch, 36)
  out.write(epochId, 40, 12, 'latin1')
  out.writeUInt32BE(messages.length, 52)
  out.writeUInt32BE(withBody, 56)
  out.writeUInt8(summary.skips ? 1 : 0, 60)
  out.writeUInt8(summary.late ? 1 : 0, 61)
  out.writeUInt8(summary.keeps ? 1 : 0, 62)
  writeLong(out, 64, summary.minOffset)
  writeLong(out, 72, summary.maxOffset)
  writeLong(out, 80, summary.minSequence)
  writeLong(out, 88, summary.maxSequence)
  writeLong(out, 96, summary.firstAckedAt)
  out.writeUInt32BE(name.length, 104)
  name.copy(out, 108)
  out.writeUInt32BE(crc32(out.subarray(8, headerBytes), salt), 4)
  return out.subarray(0, bytes)
}

/** The header at the beginning of `bytes`, which may end before the block does; undefined where no whole one stands there. */
export function decodeBlockHeader(bytes: Buffer, salt: number): BlockHeader | undefined {
  if (bytes.length < BLOCK_HEADER_BYTES_MIN || bytes.readUInt32BE(0) !== MAGIC) return undefined
  const headerBytes = bytes.readUInt32BE(8)
  if (headerBytes < BLOCK_HEADER_BYTES_MIN || headerBytes > Math.min(bytes.length, BLOCK_HEADER_BYTES_MAX))
    return undefined
  if (bytes.readUInt32BE(4) !== crc32(bytes.subarray(8, headerBytes), salt)) return undefined
  const placesBytes = bytes.readUInt32BE(12)
  const bodiesBytes = bytes.readUInt32BE(20)
  return {
    headerBytes,
    placesBytes,
    placesCrc: bytes.readUInt32BE(16),
    bodiesBytes,
    bodiesCrc: bytes.readUInt32BE(24),
    plainBytes: bytes.readUInt32BE(28),
    bytes: padded(headerBytes + placesBytes + bodiesBytes),
    queueId: bytes.readInt32BE(32),
    epoch: bytes.readUInt32BE(36),
    epochId: bytes.toString('latin1', 40, 52),
    count: bytes.readUInt32BE(52),
    withBody: bytes.readUInt32BE(56),
    skips: bytes[60] === 1,
    late: bytes[61] === 1,
    keeps: bytes[62] === 1,
    minOffset: readLong(bytes, 64),
    maxOffset: readLong(bytes, 72),
    minSequence: readLong(bytes, 80),
    maxSequence: readLong(bytes, 88),
    firstAckedAt: readLong(bytes, 96),
    topic: bytes.toString('utf8', 108, 108 + bytes.readUInt32BE(104)),
  }
}

/** What a place says of its body. */
interface BodyShape {
  flag: number
  sysFlag: number
  propertiesBytes: number
  payloadBytes: number
}

export interface BlockPlaces {
  places: Place[]
  shapes: (BodyShape | undefined)[]
}

/** The places of a block, of which `bytes` has at least header and places; undefined where they are damaged. */
export function decodeBlockPlaces(bytes: Buffer, header: BlockHeader, salt: number): BlockPlaces | undefined {
  const { headerBytes, placesBytes, placesCrc, count, epoch } = header
  const end = headerBytes + placesBytes
  if (bytes.length < end || crc32(bytes.subarray(headerBytes, end), salt) !== placesCrc) return undefined
  const reader = new NumberReader(bytes, headerBytes)
  const places: Place[] = []
  const shapes: (BodyShape | undefined)[] = []
  let last: Place | undefined
  while (places.length < count) {
    const place: Place = {
      epoch,
      sequence: reader.from(last?.sequence ?? 0),
      queueOffset: reader.from(last?.queueOffset ?? 0),
      commitLogOffset: reader.from(last?.commitLogOffset ?? 0),
      bornTimestamp: reader.from(last?.bornTimestamp ?? 0),
      ackedAt: reader.from(last?.ackedAt ?? 0),
      hash: reader.fixed(),
      placeFlags: 0,
      skipReason: 0,
      skipMask: 0,
    }
    const flags = reader.byte()
    place.placeFlags = flags & ~(SKIP_FOLLOWS | BODY_FOLLOWS)
    if ((flags & SKIP_FOLLOWS) !== 0) {
      const skip = reader.fixed()
      place.skipReason = skip >>> 24
      place.skipMask = skip & ALL_REMOTES
    }
    places.push(place)
    shapes.push(
      (flags & BODY_FOLLOWS) === 0
        ? undefined
        : {
            flag: reader.from(0),
            sysFlag: reader.from(0),
            propertiesBytes: reader.from(0),
            payloadBytes: reader.from(0),
          },
    )
    last = place
  }
  return { places, shapes }
}

/** The bodies of a whole block, as views into it; undefined where they are damaged. */
export function decodeBlockBodies(
  bytes: Buffer,
  header: BlockHeader,
  { shapes }: BlockPlaces,
  salt: number,
): (Body | undefined)[] | undefined {
  const start = header.headerBytes + header.placesBytes
  let bodies = bytes.subarray(start, start + header.bodiesBytes)
  if (bodies.length < header.bodiesBytes || crc32(bodies, salt) !== header.bodiesCrc) return undefined
  if (header.plainBytes > 0) bodies = decompressBlock(bodies, header.plainBytes)
  let at = 0
  return shapes.map(shape => {
    if (shape === undefined) return undefined
    const properties = bodies.subarray(at, at + shape.propertiesBytes)
    at += shape.propertiesBytes
    const payload = bodies.subarray(at, at + shape.payloadBytes)
    at += shape.payloadBytes
    return new Message(shape.flag, shape.sysFlag, properties, payload)
  })
}

function writePlaces(out: Buffer, start: number, messages: readonly BlockMessage[]): number {
  const writer = new NumberWriter(out, start)
  let last: Place | undefined
  for (const { place, body } of messages) {
    writer.from(last?.sequence ?? 0, place.sequence)
    writer.from(last?.queueOffset ?? 0, place.queueOffset)
    writer.from(last?.commitLogOffset ?? 0, place.commitLogOffset)
    writer.from(last?.bornTimestamp ?? 0, place.bornTimestamp)
    writer.from(last?.ackedAt ?? 0, place.ackedAt)
    writer.fixed(place.hash)
    const skipped = place.skipMask !== 0
    writer.byte(place.placeFlags | (skipped ? SKIP_FOLLOWS : 0) | (body === undefined ? 0 : BODY_FOLLOWS))
    if (skipped) writer.fixed(((place.skipReason << 24) | place.skipMask) >>> 0)
    if (body !== undefined) {
      writer.from(0, body.flag)
      writer.from(0, body.sysFlag)
      writer.from(0, body.propertiesEnd - body.propertiesStart)
      writer.from(0, payloadLength(body))
    }
    last = place
  }
  return writer.at
}

// The difference of two numbers of 53 bits and a sign, seven bits a byte, the lowest first; the sign is the lowest bit.
// The largest, of a client that sends any born timestamps, are beyond what a number holds: those go by BigInt.

class NumberWriter {
  at: number
  readonly #out: Buffer

  constructor(out: Buffer, at: number) {
    this.#out = out
    this.at = at
  }

  /** So far from `last`. */
  from(last: number, value: number): void {
    const difference = value - last
    if (Math.abs(difference) >= 2 ** 52) return this.#fromFar(BigInt(value) - BigInt(last))
    let rest = difference < 0 ? -difference * 2 - 1 : difference * 2
    while (rest >= 0x80) {
      this.#out[this.at++] = (rest % 0x80) | 0x80
      rest = Math.floor(rest / 0x80)
    }
    this.#out[this.at++] = rest
  }

  #fromFar(difference: bigint): void {
    let rest = difference < 0n ? -difference * 2n - 1n : difference * 2n
    for (; rest >= 0x80n; rest >>= 7n) this.#out[this.at++] = Number(rest & 0x7fn) | 0x80
    this.#out[this.at++] = Number(rest)
  }

  fixed(value: number): void {
    this.at = this.#out.writeUInt32BE(value, this.at)
  }

  byte(value: number): void {
    this.#out[this.at++] = value
  }
}

class NumberReader {
  #at: number
  readonly #bytes: Buffer

  constructor(bytes: Buffer, at: number) {
    this.#bytes = bytes
    this.#at = at
  }

  from(last: number): number {
    let value = 0
    for (let unit = 1; unit < 2 ** 49; unit *= 0x80) {
      const byte = this.#bytes[this.#at++]!
      value += (byte & 0x7f) * unit
      if (byte < 0x80) return last + (value % 2 === 1 ? -(value + 1) / 2 : value / 2)
    }
    const far = BigInt(value) + (BigInt(this.#bytes[this.#at++]!) << 49n)
    return Number(BigInt(last) + (far % 2n === 1n ? -(far + 1n) / 2n : far / 2n))
  }

  fixed(): number {
    this.#at += 4
    return this.#bytes.readUInt32BE(this.#at - 4)
  }

  byte(): number {
    return this.#bytes[this.#at++]!
  }
}

function padded(bytes: number): number {
  return Math.ceil(bytes / 8) * 8
}
