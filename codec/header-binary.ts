// The ROCKETMQ (binary) header, read in place.
//
//   2 code   1 language   2 version   4 opaque   4 flag
//   4 remark bytes   n remark   4 ext bytes   { 2 key bytes   key   4 value bytes   value }*
//
// Source: RocketMQSerializable.java in apache/rocketmq's remoting. The ext bytes must end where the header ends, and the
// last entry where they end: the broker's own reader can otherwise be led past them.

import { CodecError } from './codec-error.ts'
import type { FrameHead } from './frame-head.ts'

const OPAQUE_OFFSET = 5
const FLAG_OFFSET = 9
const REMARK_OFFSET = 13
const FIXED_BYTES = 21

export function readBinaryHeader(head: FrameHead): void {
  const { bytes, headerStart: at, end } = head
  if (end - at < FIXED_BYTES) {
    throw new CodecError('header', `binary header of ${end - at} bytes is shorter than its ${FIXED_BYTES} fixed bytes`)
  }
  head.code = bytes.readInt16BE(at)
  head.languageStart = at + 2
  head.languageEnd = at + 3
  head.version = bytes.readInt16BE(at + 3)
  head.opaque = bytes.readInt32BE(at + OPAQUE_OFFSET)
  head.opaqueStart = at + OPAQUE_OFFSET
  head.opaqueEnd = head.opaqueStart + 4
  head.flag = bytes.readInt32BE(at + FLAG_OFFSET)
  head.flagStart = at + FLAG_OFFSET
  head.flagEnd = head.flagStart + 4
  const remarkBytes = bytes.readInt32BE(at + REMARK_OFFSET)
  const remarkStart = at + REMARK_OFFSET + 4
  if (remarkBytes < 0 || remarkBytes > end - remarkStart - 4) {
    throw new CodecError('header', `binary header: remark of ${remarkBytes} bytes in a header of ${end - at}`)
  }
  head.remarkStart = remarkStart
  head.remarkEnd = remarkStart + remarkBytes
  const extBytes = bytes.readInt32BE(head.remarkEnd)
  head.extStart = head.remarkEnd + 4
  if (extBytes !== end - head.extStart) {
    throw new CodecError(
      'header',
      `binary header: extFields of ${extBytes} bytes where ${end - head.extStart} are left`,
    )
  }
  head.extEnd = end
  let entry = head.extStart
  while (entry < end) entry = entryEnd(bytes, entry, end)
}

function entryEnd(bytes: Buffer, start: number, end: number): number {
  if (end - start < 6) throw cut(start, end)
  const keyEnd = start + 2 + int16(bytes, start)
  if (keyEnd < start + 2 || keyEnd + 4 > end) throw cut(start, end)
  const valueBytes = int32(bytes, keyEnd)
  if (valueBytes < 0 || valueBytes > end - keyEnd - 4) throw cut(start, end)
  return keyEnd + 4 + valueBytes
}

// Buffer's own readers check their arguments, which costs more than the reading.

export function int16(bytes: Buffer, at: number): number {
  return ((bytes[at]! << 24) >> 16) | bytes[at + 1]!
}

export function int32(bytes: Buffer, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!
}

function cut(at: number, end: number): CodecError {
  return new CodecError('header', `binary header: a field of extFields does not fit into the ${end - at} bytes left`)
}
