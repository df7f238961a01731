// A whole header as a value, and frames made from it: for requests of our own, for answers to them, and for tools.
//
// Not for the forward path: that reads heads in place (frame-head.ts) and passes on what it was given.

import { ExtFields, unescapeJson } from './ext-fields.ts'
import {
  FLAG_ONEWAY,
  FRAME_LENGTH_BYTES,
  FRAME_PREFIX_BYTES,
  type FrameHead,
  type HeaderType,
  JSON_HEADER,
} from './frame-head.ts'

/** MQVersion ordinal that our own requests carry: V5_3_3 (common/.../MQVersion.java). */
export const OWN_VERSION = 479
/** LanguageCode OTHER, for both header types (LanguageCode.java). */
const OWN_LANGUAGE = 7

export interface Header {
  code: number
  opaque: number
  flag: number
  version: number
  remark: string | undefined
  ext: Map<string, string>
}

/** Reads a head as a value. Throws CodecError. */
export function decodeHeader(head: FrameHead): Header {
  const ext = new Map<string, string>()
  const fields = new ExtFields(head)
  while (fields.next()) {
    if (fields.isNull) ext.delete(fields.name)
    else ext.set(fields.name, fields.value)
  }
  const { code, opaque, flag, version } = head
  return { code, opaque, flag, version, remark: remarkOf(head), ext }
}

/** The remark: the broker's own words about a refusal. */
export function remarkOf(head: FrameHead): string | undefined {
  if (head.remarkEnd === head.remarkStart) return undefined
  const raw = head.bytes.subarray(head.remarkStart, head.remarkEnd)
  return (head.type === JSON_HEADER ? unescapeJson(raw) : raw).toString()
}

export type ExtValue = string | number | boolean | Buffer

export interface OwnFrame {
  code: number
  opaque: number
  flag?: number
  remark?: string
  ext?: Iterable<readonly [string, ExtValue]>
  version?: number
}

/**
 * The bytes of a frame up to its body. `bodyBytes` is what the caller writes behind it.
 * Binary by default: both ends read either type, frame by frame (RemotingCommand.decode).
 */
export function encodeHead(frame: OwnFrame, bodyBytes: number, type: HeaderType = 1): Buffer {
  return type === JSON_HEADER ? encodeJsonHead(frame, bodyBytes) : encodeBinaryHead(frame, bodyBytes)
}

/** A whole frame in one buffer. */
export function encodeFrame(frame: OwnFrame, body?: Buffer, type: HeaderType = 1): Buffer {
  const head = encodeHead(frame, body?.length ?? 0, type)
  return body === undefined ? head : Buffer.concat([head, body])
}

function encodeBinaryHead(frame: OwnFrame, bodyBytes: number): Buffer {
  const remark = Buffer.from(frame.remark ?? '')
  let extBytes = 0
  const entries: Buffer[] = []
  for (const [name, value] of frame.ext ?? []) {
    const nameBytes = Buffer.from(name)
    const valueBytes = Buffer.isBuffer(value) ? value : Buffer.from(String(value))
    entries.push(nameBytes, valueBytes)
    extBytes += 6 + nameBytes.length + valueBytes.length
  }
  const out = Buffer.allocUnsafe(FRAME_PREFIX_BYTES + 21 + remark.length + extBytes)
  let at = writePrefix(out, bodyBytes, 1)
  at = out.writeInt16BE(frame.code, at)
  at = out.writeUInt8(OWN_LANGUAGE, at)
  at = out.writeInt16BE(frame.version ?? OWN_VERSION, at)
  at = out.writeInt32BE(frame.opaque, at)
  at = out.writeInt32BE(frame.flag ?? 0, at)
  at = out.writeInt32BE(remark.length, at)
  at += remark.copy(out, at)
  at = out.writeInt32BE(extBytes, at)
  for (let i = 0; i < entries.length; i += 2) {
    const name = entries[i]!
    const value = entries[i + 1]!
    at = out.writeUInt16BE(name.length, at)
    at += name.copy(out, at)
    at = out.writeInt32BE(value.length, at)
    at += value.copy(out, at)
  }
  return out
}

function encodeJsonHead(frame: OwnFrame, bodyBytes: number): Buffer {
  const ext: Record<string, string> = Object.create(null)
  for (const [name, value] of frame.ext ?? []) ext[name] = String(value)
  const { code, opaque, flag = 0, remark, version = OWN_VERSION } = frame
  const text = JSON.stringify({
    code,
    extFields: ext,
    flag,
    language: 'OTHER',
    opaque,
    remark,
    serializeTypeCurrentRPC: 'JSON',
    version,
  })
  const out = Buffer.allocUnsafe(FRAME_PREFIX_BYTES + Buffer.byteLength(text))
  out.write(text, writePrefix(out, bodyBytes, 0))
  return out
}

function writePrefix(out: Buffer, bodyBytes: number, type: HeaderType): number {
  const at = out.writeInt32BE(out.length - FRAME_LENGTH_BYTES + bodyBytes)
  out.writeUInt8(type, at)
  return out.writeUIntBE(out.length - FRAME_PREFIX_BYTES, at + 1, 3)
}

/** The head again, with another opaque and without the oneway bit: how a oneway send goes on, so that it is answered. */
export function asTwoWay(head: FrameHead, opaque: number): Buffer {
  const flag = head.flag & ~FLAG_ONEWAY
  if (head.type !== JSON_HEADER) {
    const out = Buffer.from(head.bytes.subarray(head.start, head.end))
    out.writeInt32BE(opaque, head.opaqueStart - head.start)
    out.writeInt32BE(flag, head.flagStart - head.start)
    return out
  }
  const text = (from: number, to: number) => head.bytes.subarray(from, to)
  const edits = [
    { start: head.opaqueStart, end: head.opaqueEnd, value: String(opaque) },
    { start: head.flagStart, end: head.flagEnd, value: String(flag) },
  ]
    .filter(edit => edit.start < edit.end)
    .sort((a, b) => a.start - b.start)
  const parts: Buffer[] = []
  let from = head.headerStart
  for (const edit of edits) {
    parts.push(text(from, edit.start), Buffer.from(edit.value))
    from = edit.end
  }
  const out = Buffer.concat([Buffer.alloc(FRAME_PREFIX_BYTES), ...parts, text(from, head.end)])
  writePrefix(out, head.bodyBytes, JSON_HEADER)
  return out
}
