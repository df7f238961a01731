// The JSON header, read strictly and in place.
//
//   {"code":310,"extFields":{"a":"group",…},"flag":0,"language":"JAVA","opaque":7,"serializeTypeCurrentRPC":"JSON","version":479}
//
// Strictly, because brokers are lenient in different ways (fastjson 1 matches "CODE" and "co-de" to code, fastjson 2
// does not; both read "25" and 25.0 as 25): a header is accepted only where all of them would read the same. Only the
// members that RemotingCommand has, each at most once, code, opaque and flag plain integers of 32 bits, extFields flat.
// It does not look at what extFields hold: see ext-fields.ts.

import { CodecError } from './codec-error.ts'
import type { FrameHead } from './frame-head.ts'
import { FRAME_PREFIX_BYTES } from './frame-head.ts'

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c
const BRACE_OPEN = 0x7b
const BRACE_CLOSE = 0x7d
const MINUS = 0x2d
const LOWER_U = 0x75

const INT32_MAX = 2_147_483_647
const INT32_MIN = -2_147_483_648

// Members seen, as bits, so that each is accepted once.
const CODE = 1
const FLAG = 2
const OPAQUE = 4
const REMARK = 8
const VERSION = 16
const LANGUAGE = 32
const EXT_FIELDS = 64
const SERIALIZE_TYPE = 128
const REQUIRED = CODE | FLAG | OPAQUE

export function malformed(head: FrameHead, position: number, what: string): CodecError {
  return new CodecError('header', `JSON header: ${what} at byte ${position - head.start - FRAME_PREFIX_BYTES}`)
}

export function readJsonHeader(head: FrameHead): void {
  const { bytes, end } = head
  let at = skipSpace(bytes, head.start + FRAME_PREFIX_BYTES, end)
  if (at >= end || bytes[at] !== BRACE_OPEN) throw malformed(head, at, 'no object')
  at = skipSpace(bytes, at + 1, end)
  let seen = 0
  while (true) {
    if (bytes[at] !== QUOTE || at >= end) throw malformed(head, at, 'a member name is missing')
    const nameStart = at + 1
    const nameEnd = stringEnd(head, nameStart)
    const member = memberOf(bytes, nameStart, nameEnd)
    if (member === 0) throw malformed(head, nameStart, 'a member that RemotingCommand does not have')
    if (seen & member) throw malformed(head, nameStart, 'a member twice')
    seen |= member
    at = skipSpace(bytes, nameEnd + 1, end)
    if (at >= end || bytes[at] !== COLON) throw malformed(head, at, 'no colon')
    at = skipSpace(bytes, at + 1, end)
    const valueStart = at
    if (member === EXT_FIELDS) at = extFieldsEnd(head, at)
    else if (member === CODE || member === OPAQUE || member === FLAG || member === VERSION) {
      at = integerEnd(head, at)
      setInteger(head, member, valueStart, at)
    } else {
      at = scalarEnd(head, at)
      if (member === LANGUAGE) {
        head.languageStart = valueStart
        head.languageEnd = at
      } else if (member === REMARK && bytes[valueStart] === QUOTE) {
        head.remarkStart = valueStart + 1
        head.remarkEnd = at - 1
      }
    }
    at = skipSpace(bytes, at, end)
    if (at < end && bytes[at] === BRACE_CLOSE) break
    if (at >= end || bytes[at] !== COMMA) throw malformed(head, at, 'neither a comma nor the end')
    at = skipSpace(bytes, at + 1, end)
  }
  if (skipSpace(bytes, at + 1, end) !== end) throw malformed(head, at + 1, 'bytes behind the object')
  if ((seen & REQUIRED) !== REQUIRED)
    throw malformed(head, head.start + FRAME_PREFIX_BYTES, 'code, opaque or flag is missing')
}

function memberOf(bytes: Buffer, start: number, end: number): number {
  switch (end - start) {
    case 4:
      return equals(bytes, start, 'code') ? CODE : equals(bytes, start, 'flag') ? FLAG : 0
    case 6:
      return equals(bytes, start, 'opaque') ? OPAQUE : equals(bytes, start, 'remark') ? REMARK : 0
    case 7:
      return equals(bytes, start, 'version') ? VERSION : 0
    case 8:
      return equals(bytes, start, 'language') ? LANGUAGE : 0
    case 9:
      return equals(bytes, start, 'extFields') ? EXT_FIELDS : 0
    case 23:
      return equals(bytes, start, 'serializeTypeCurrentRPC') ? SERIALIZE_TYPE : 0
    default:
      return 0
  }
}

/** Whether the bytes at `start` are these ASCII characters. */
export function equals(bytes: Buffer, start: number, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[start + i] !== text.charCodeAt(i)) return false
  return true
}

function setInteger(head: FrameHead, member: number, start: number, end: number): void {
  let value = 0
  const negative = head.bytes[start] === MINUS
  for (let i = negative ? start + 1 : start; i < end; i++) value = value * 10 + (head.bytes[i]! - 0x30)
  if (negative) value = -value
  if (value > INT32_MAX || value < INT32_MIN) throw malformed(head, start, `${value} does not fit into 32 bits`)
  if (member === CODE) head.code = value
  else if (member === VERSION) head.version = value
  else if (member === OPAQUE) {
    head.opaque = value
    head.opaqueStart = start
    head.opaqueEnd = end
  } else {
    head.flag = value
    head.flagStart = start
    head.flagEnd = end
  }
}

export function skipSpace(bytes: Buffer, from: number, end: number): number {
  let at = from
  while (at < end) {
    const c = bytes[at]
    if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) break
    at++
  }
  return at
}

/** Position of the quote that ends the string whose first character is at `from`. */
export function stringEnd(head: FrameHead, from: number): number {
  const { bytes, end } = head
  let at = from
  while (at < end) {
    const c = bytes[at]!
    if (c === QUOTE) return at
    if (c === BACKSLASH) at = escapeEnd(head, at)
    else if (c < 0x20) throw malformed(head, at, 'a control character in a string')
    else at++
  }
  throw malformed(head, from, 'a string without end')
}

function escapeEnd(head: FrameHead, at: number): number {
  const kind = head.bytes[at + 1]!
  if (at + 1 >= head.end) throw malformed(head, at, 'a cut escape')
  if (kind !== LOWER_U) {
    // " \ / b f n r t
    if (
      kind === 0x22 ||
      kind === 0x5c ||
      kind === 0x2f ||
      kind === 0x62 ||
      kind === 0x66 ||
      kind === 0x6e ||
      kind === 0x72 ||
      kind === 0x74
    )
      return at + 2
    throw malformed(head, at, 'an unknown escape')
  }
  if (at + 6 > head.end) throw malformed(head, at, 'a cut escape')
  for (let i = at + 2; i < at + 6; i++) if (hexDigit(head.bytes[i]!) < 0) throw malformed(head, at, 'a bad \\u escape')
  return at + 6
}

export function hexDigit(c: number): number {
  if (c >= 0x30 && c <= 0x39) return c - 0x30
  if (c >= 0x41 && c <= 0x46) return c - 0x37
  if (c >= 0x61 && c <= 0x66) return c - 0x57
  return -1
}

function integerEnd(head: FrameHead, from: number): number {
  const { bytes, end } = head
  let at = bytes[from] === MINUS ? from + 1 : from
  const digits = at
  while (at < end && bytes[at]! >= 0x30 && bytes[at]! <= 0x39) at++
  if (at === digits || at - digits > 10) throw malformed(head, from, 'not an integer of 32 bits')
  if (bytes[digits] === 0x30 && at - digits > 1) throw malformed(head, from, 'an integer with a leading zero')
  return at
}

/** End of a string, a number, true, false or null. */
export function scalarEnd(head: FrameHead, from: number): number {
  const { bytes, end } = head
  if (bytes[from] === QUOTE && from < end) return stringEnd(head, from + 1) + 1
  let at = from
  while (at < end) {
    const c = bytes[at]!
    const inScalar =
      (c >= 0x30 && c <= 0x39) || (c >= 0x61 && c <= 0x7a) || c === MINUS || c === 0x2b || c === 0x2e || c === 0x45
    if (!inScalar) break
    at++
  }
  if (!/^(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null)$/.test(bytes.toString('latin1', from, at))) {
    throw malformed(head, from, 'neither a string, a number, true, false nor null')
  }
  return at
}

function extFieldsEnd(head: FrameHead, from: number): number {
  const { bytes, end } = head
  if (bytes[from] !== BRACE_OPEN) {
    const at = scalarEnd(head, from)
    if (bytes.toString('latin1', from, at) !== 'null') throw malformed(head, from, 'extFields is not an object')
    return at
  }
  let at = skipSpace(bytes, from + 1, end)
  if (bytes[at] === BRACE_CLOSE && at < end) return at + 1
  while (true) {
    if (at >= end || bytes[at] !== QUOTE) throw malformed(head, at, 'a name in extFields is missing')
    at = skipSpace(bytes, stringEnd(head, at + 1) + 1, end)
    if (at >= end || bytes[at] !== COLON) throw malformed(head, at, 'no colon in extFields')
    at = skipSpace(bytes, scalarEnd(head, skipSpace(bytes, at + 1, end)), end)
    if (at < end && bytes[at] === BRACE_CLOSE) break
    if (at >= end || bytes[at] !== COMMA) throw malformed(head, at, 'neither a comma nor the end of extFields')
    at = skipSpace(bytes, at + 1, end)
  }
  head.extStart = from
  head.extEnd = at + 1
  return at + 1
}
