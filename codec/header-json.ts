// The JSON header, read strictly and in place.
//
//   {"code":310,"extFields":{"a":"group",…},"flag":0,"language":"JAVA","opaque":7,"serializeTypeCurrentRPC":"JSON","version":479}
//
// Strictly, because brokers are lenient in different ways (fastjson 1 matches "CODE" and "co-de" to code, fastjson 2
// does not; both read "25" and 25.0 as 25): a header is accepted only where all of them would read the same. Only the
// members that RemotingCommand has, each at most once, code, opaque and flag plain integers of 32 bits, extFields flat
// with names in plain ASCII, strings in UTF-8 (at a cut sequence fastjson 2 reads over the quote behind it).
// What all of them take is taken, where clients write it: raw control characters in strings, and no flag where it is 0
// (NewLife.RocketMQ, .NET), numbers in extFields (C++).
// It does not look at what extFields hold: see ext-fields.ts.

import { isUtf8 } from 'node:buffer'
import { CodecError } from './codec-error.ts'
import type { FrameHead } from './frame-head.ts'

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c
const BRACE_OPEN = 0x7b
const BRACE_CLOSE = 0x7d
const MINUS = 0x2d
const DOLLAR = 0x24
const AT_SIGN = 0x40
const LOWER_F = 0x66
const LOWER_N = 0x6e
const LOWER_T = 0x74
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

function malformed(head: FrameHead, position: number, what: string): CodecError {
  return new CodecError('header', `JSON header: ${what} at byte ${position - head.headerStart}`)
}

export function readJsonHeader(head: FrameHead): void {
  const { bytes, end } = head
  let at = skipSpace(bytes, head.headerStart, end)
  if (at >= end || bytes[at] !== BRACE_OPEN) throw malformed(head, at, 'no object')
  at = skipSpace(bytes, at + 1, end)
  let seen = 0
  while (true) {
    if (at >= end || bytes[at] !== QUOTE) throw malformed(head, at, 'a member name is missing')
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
  // Left out, code and flag are 0 to all brokers: fine in an answer, whose code 0 is success, but no request has it.
  if ((seen & OPAQUE) === 0 || ((seen & CODE) === 0 && !head.isResponse))
    throw malformed(head, head.headerStart, 'code or opaque is missing')
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
function stringEnd(head: FrameHead, from: number): number {
  const { bytes, end } = head
  let at = from
  let bits = 0
  while (at < end) {
    const c = bytes[at]!
    if (c === QUOTE) {
      if (bits >= 0x80 && !isUtf8(bytes.subarray(from, at))) throw malformed(head, from, 'a string that is not UTF-8')
      return at
    }
    bits |= c
    at = c === BACKSLASH ? escapeEnd(head, at) : at + 1
  }
  throw malformed(head, from, 'a string without end')
}

/** The same for a name in extFields, which must be one that all brokers take as it stands. */
function extNameEnd(head: FrameHead, from: number): number {
  const { bytes, end } = head
  if (bytes[from] === DOLLAR || bytes[from] === AT_SIGN)
    throw malformed(head, from, 'a name in extFields that fastjson may take for $ref or @type')
  for (let at = from; at < end; at++) {
    const c = bytes[at]!
    if (c === QUOTE) return at
    if (c === BACKSLASH || c < 0x20 || c >= 0x80)
      throw malformed(head, at, 'a character that is not plain ASCII in a name in extFields')
  }
  throw malformed(head, from, 'a name in extFields without end')
}

function escapeEnd(head: FrameHead, at: number): number {
  if (at + 1 >= head.end) throw malformed(head, at, 'a cut escape')
  const kind = head.bytes[at + 1]!
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

/** End of an integer as JSON writes it: no leading zero, no plus; and no -0, which brokers write out in two ways. */
function integerEnd(head: FrameHead, from: number): number {
  const { bytes, end } = head
  const digits = from < end && bytes[from] === MINUS ? from + 1 : from
  let at = digits
  while (at < end && bytes[at]! >= 0x30 && bytes[at]! <= 0x39) at++
  if (at === digits) throw malformed(head, from, 'not an integer')
  if (bytes[digits] === 0x30 && at - from > 1) throw malformed(head, from, 'an integer with a leading zero')
  return at
}

/** End of a string, an integer, true, false or null. */
function scalarEnd(head: FrameHead, from: number): number {
  const first = from < head.end ? head.bytes[from] : undefined
  switch (first) {
    case QUOTE:
      return stringEnd(head, from + 1) + 1
    case LOWER_T:
      return wordEnd(head, from, 'true')
    case LOWER_F:
      return wordEnd(head, from, 'false')
    case LOWER_N:
      return wordEnd(head, from, 'null')
    default:
      return integerEnd(head, from)
  }
}

function wordEnd(head: FrameHead, from: number, word: string): number {
  const at = from + word.length
  if (at > head.end || !equals(head.bytes, from, word)) throw malformed(head, from, `not ${word}`)
  return at
}

function extFieldsEnd(head: FrameHead, from: number): number {
  const { bytes, end } = head
  if (from < end && bytes[from] === LOWER_N) return wordEnd(head, from, 'null')
  if (from >= end || bytes[from] !== BRACE_OPEN) throw malformed(head, from, 'extFields is not an object')
  let at = skipSpace(bytes, from + 1, end)
  if (at < end && bytes[at] === BRACE_CLOSE) return at + 1
  while (true) {
    if (at >= end || bytes[at] !== QUOTE) throw malformed(head, at, 'a name in extFields is missing')
    at = skipSpace(bytes, extNameEnd(head, at + 1) + 1, end)
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
