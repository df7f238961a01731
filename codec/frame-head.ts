// The head of a frame, read in place: code, opaque, flag, and where the rest stands. Nothing is copied and nothing is
// allocated, for one FrameHead serves all frames of a connection, one after the other.
//
//   offset size
//   0      4    LEN, bytes after this field = 4 + H + B
//   4      1    header type: 0 JSON, 1 ROCKETMQ (binary)
//   5      3    H, bytes of the header
//   8      H    header
//   8+H    B    body
//
// Source: RemotingCommand.java (decode, markProtocolType), NettyDecoder.java in apache/rocketmq's remoting.
// It does not decide what a frame is for, and does not look into extFields: see ext-fields.ts.

import { CodecError } from './codec-error.ts'
import { readBinaryHeader } from './header-binary.ts'
import { readJsonHeader } from './header-json.ts'

export const FRAME_LENGTH_BYTES = 4
/** Bytes before the header: LEN, and the word that holds the header's type and length. */
export const FRAME_PREFIX_BYTES = 8
/** RocketMQ's own limit for a whole frame (NettyDecoder, com.rocketmq.remoting.frameMaxLength). */
export const FRAME_BYTES_MAX = 16_777_216
/** Longest header accepted. The longest a client has reason to send holds 32,767 bytes of properties, escaped. */
export const HEADER_BYTES_MAX = 262_144
/** Longest header of an answer: that to a batch lists 33 bytes for each message, and 4 MiB hold up to 190,650 of them. */
export const ANSWER_HEADER_BYTES_MAX = 8_388_608

export const FLAG_RESPONSE = 1
export const FLAG_ONEWAY = 2

export const JSON_HEADER = 0
export const BINARY_HEADER = 1
export type HeaderType = typeof JSON_HEADER | typeof BINARY_HEADER

const NONE = Buffer.alloc(0)

export class FrameHead {
  /** The bytes that the positions below point into. */
  bytes: Buffer = NONE
  /** Where the frame starts (its LEN field) and where its header ends. */
  start = 0
  end = 0
  type: HeaderType = JSON_HEADER
  bodyBytes = 0

  code = 0
  opaque = 0
  flag = 0
  version = 0
  /**
   * Where the values stand: in JSON as text, in binary as the fields' bytes; equal where JSON leaves one out.
   * `language` is the field as it stands.
   */
  opaqueStart = 0
  opaqueEnd = 0
  flagStart = 0
  flagEnd = 0
  languageStart = 0
  languageEnd = 0
  remarkStart = 0
  remarkEnd = 0
  /** The extFields: in JSON from `{` to behind `}`, in binary the entries; equal when there are none. */
  extStart = 0
  extEnd = 0

  get headerStart(): number {
    return this.start + FRAME_PREFIX_BYTES
  }

  get isResponse(): boolean {
    return (this.flag & FLAG_RESPONSE) !== 0
  }

  get isOneway(): boolean {
    return (this.flag & FLAG_ONEWAY) !== 0
  }

  get frameBytes(): number {
    return this.end - this.start + this.bodyBytes
  }

  /**
   * Reads the head that starts at `start`; all of it must be in `bytes` (see `headBytes`).
   * Throws CodecError where it is not plainly well-formed.
   */
  read(bytes: Buffer, start: number, end: number): void {
    this.bytes = bytes
    this.start = start
    this.end = end
    this.bodyBytes = bytes.readInt32BE(start) + FRAME_LENGTH_BYTES - (end - start)
    this.type = bytes[start + 4] as HeaderType
    this.code = this.flag = this.version = 0
    this.flagStart = this.flagEnd = 0
    this.languageStart = this.languageEnd = 0
    this.remarkStart = this.remarkEnd = 0
    this.extStart = this.extEnd = 0
    if (this.type === JSON_HEADER) readJsonHeader(this)
    else readBinaryHeader(this)
  }
}

/**
 * Bytes of a frame up to the end of its header, read from the eight bytes at `start`.
 * Throws CodecError where the lengths are wrong, lie about each other, or exceed their limits.
 */
export function headBytes(
  bytes: Buffer,
  start: number,
  frameBytesMax = FRAME_BYTES_MAX,
  headerBytesMax = HEADER_BYTES_MAX,
): number {
  const length = bytes.readInt32BE(start)
  const headerBytes = bytes.readUIntBE(start + 5, 3)
  const type = bytes[start + 4]!
  if (length < FRAME_LENGTH_BYTES) throw new CodecError('frame-length', `frame length ${length} is below 4`)
  if (length + FRAME_LENGTH_BYTES > frameBytesMax) {
    throw new CodecError(
      'frame-too-long',
      `frame of ${length + FRAME_LENGTH_BYTES} bytes exceeds frameBytesMax ${frameBytesMax}`,
    )
  }
  if (type !== JSON_HEADER && type !== BINARY_HEADER) {
    throw new CodecError('header-type', `header type ${type} is neither 0 (JSON) nor 1 (ROCKETMQ)`)
  }
  if (headerBytes > length - FRAME_LENGTH_BYTES) {
    throw new CodecError('frame-length', `header of ${headerBytes} bytes does not fit into a frame length of ${length}`)
  }
  if (headerBytes > headerBytesMax) {
    throw new CodecError('frame-too-long', `header of ${headerBytes} bytes exceeds headerBytesMax ${headerBytesMax}`)
  }
  return FRAME_PREFIX_BYTES + headerBytes
}
