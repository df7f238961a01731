// The body of a batch: messages one after the other.
//
//   4 totalSize   4 magic   4 bodyCRC   4 flag   4 bodyLen   n body   2 propLen   m properties
//
// Source: MessageDecoder.encodeMessage in apache/rocketmq's common, MessageExtEncoder in its store. The broker goes by
// bodyLen and propLen alone, and so does this; magic and bodyCRC are written as 0, as clients do.

import { CodecError } from './codec-error.ts'

const FIXED_BYTES = 22

export interface BatchMember {
  flag: number
  body: Buffer
  properties: Buffer
}

/** The members of a batch body, as views. Throws CodecError where a length does not fit. */
export function decodeBatch(bytes: Buffer): BatchMember[] {
  const members: BatchMember[] = []
  let at = 0
  while (at < bytes.length) {
    const bodyStart = at + 20
    if (bodyStart > bytes.length) throw doesNotFit(at, bytes.length)
    const bodyEnd = bodyStart + bytes.readInt32BE(at + 16)
    if (bodyEnd < bodyStart || bodyEnd + 2 > bytes.length) throw doesNotFit(at, bytes.length)
    const end = bodyEnd + 2 + bytes.readInt16BE(bodyEnd)
    if (end < bodyEnd + 2 || end > bytes.length) throw doesNotFit(at, bytes.length)
    members.push({
      flag: bytes.readInt32BE(at + 12),
      body: bytes.subarray(bodyStart, bodyEnd),
      properties: bytes.subarray(bodyEnd + 2, end),
    })
    at = end
  }
  return members
}

function doesNotFit(at: number, length: number): CodecError {
  return new CodecError('batch', `batch: the member at byte ${at} does not fit into a body of ${length} bytes`)
}

/** Bytes that a member takes in a batch. */
export function memberBytes(bodyBytes: number, propertiesBytes: number): number {
  return FIXED_BYTES + bodyBytes + propertiesBytes
}

/**
 * Writes of a member all but its body and properties. Returns where the body goes; the properties go two bytes behind it.
 */
export function encodeMemberFrame(
  out: Buffer,
  at: number,
  flag: number,
  bodyBytes: number,
  propertiesBytes: number,
): number {
  let next = out.writeInt32BE(memberBytes(bodyBytes, propertiesBytes), at)
  next = out.writeInt32BE(0, next)
  next = out.writeInt32BE(0, next)
  next = out.writeInt32BE(flag, next)
  next = out.writeInt32BE(bodyBytes, next)
  out.writeInt16BE(propertiesBytes, next + bodyBytes)
  return next
}

/** Writes a member at `at`; its body may be in parts. Returns where the next goes. */
export function encodeMember(
  out: Buffer,
  at: number,
  flag: number,
  body: readonly Buffer[],
  bodyBytes: number,
  properties: Buffer,
): number {
  let next = encodeMemberFrame(out, at, flag, bodyBytes, properties.length)
  for (const part of body) next += part.copy(out, next)
  return next + 2 + properties.copy(out, next + 2)
}
