// A walk over the extFields of a frame head, both header types, in place.
//
// The header's reader has checked that the fields are well-formed, so nothing here is checked again.
// It yields positions; text is made only of the fields that somebody asks for. Names are not checked for being there
// twice, as that would cost a set for each frame: who reads a field that matters checks it (send-message.ts).

import { CodecError } from './codec-error.ts'
import type { FrameHead } from './frame-head.ts'
import { JSON_HEADER } from './frame-head.ts'
import { int16, int32 } from './header-binary.ts'
import { equals, hexDigit, skipSpace } from './header-json.ts'

const QUOTE = 0x22
const COMMA = 0x2c
const QUESTION_MARK = 0x3f
const BACKSLASH = 0x5c
const BRACE_CLOSE = 0x7d
const LOWER_N = 0x6e
const LOWER_U = 0x75

export class ExtFields {
  nameStart = 0
  nameEnd = 0
  valueStart = 0
  valueEnd = 0
  /** Whether JSON says null, which a broker reads as a field that is not there. */
  isNull = false
  #head!: FrameHead
  #at = 0

  constructor(head: FrameHead) {
    this.walk(head)
  }

  /** Begins anew with this head. */
  walk(head: FrameHead): this {
    this.#head = head
    // Behind the brace that opens the object, or at the first entry.
    this.#at = head.type === JSON_HEADER ? head.extStart + 1 : head.extStart
    return this
  }

  /** Goes to the next field; false behind the last. */
  next(): boolean {
    return this.#head.type === JSON_HEADER ? this.#nextJson() : this.#nextBinary()
  }

  /** Whether this is the field's name, which is ASCII. */
  nameIs(name: string): boolean {
    return this.nameEnd - this.nameStart === name.length && equals(this.#head.bytes, this.nameStart, name)
  }

  get name(): string {
    return this.#head.bytes.toString('utf8', this.nameStart, this.nameEnd)
  }

  get value(): string {
    const { bytes, type } = this.#head
    if (type === JSON_HEADER)
      for (let at = this.valueStart; at < this.valueEnd; at++)
        if (bytes[at] === BACKSLASH) return this.valueBytes().toString()
    return bytes.toString('utf8', this.valueStart, this.valueEnd)
  }

  /** The value's bytes: a view, or a copy where JSON has escapes in it. */
  valueBytes(): Buffer {
    const { bytes, type } = this.#head
    const raw = bytes.subarray(this.valueStart, this.valueEnd)
    return type === JSON_HEADER ? unescapeJson(raw) : raw
  }

  /** The value as an integer of up to 53 bits. Throws CodecError where it is none. */
  integer(): number {
    const { bytes } = this.#head
    let at = this.valueStart
    const negative = bytes[at] === 0x2d
    if (negative) at++
    let value = 0
    if (at === this.valueEnd || this.valueEnd - at > 16) throw this.#notAnInteger()
    for (; at < this.valueEnd; at++) {
      const digit = bytes[at]! - 0x30
      if (digit < 0 || digit > 9) throw this.#notAnInteger()
      value = value * 10 + digit
    }
    if (value > Number.MAX_SAFE_INTEGER) throw this.#notAnInteger()
    return negative && value !== 0 ? -value : value
  }

  #notAnInteger(): CodecError {
    return new CodecError(
      'header',
      `extFields: ${this.name.slice(0, 64)} is not an integer of 53 bits: ${JSON.stringify(this.value.slice(0, 64))}`,
    )
  }

  #nextJson(): boolean {
    const { bytes, extEnd } = this.#head
    const end = extEnd - 1
    let at = skipSpace(bytes, this.#at, end)
    if (at >= end) return false
    this.nameStart = at + 1
    this.nameEnd = endOfString(bytes, at + 1)
    at = skipSpace(bytes, skipSpace(bytes, this.nameEnd + 1, end) + 1, end)
    if (bytes[at] === QUOTE) {
      this.valueStart = at + 1
      this.valueEnd = endOfString(bytes, at + 1)
      this.isNull = false
      at = this.valueEnd + 1
    } else {
      this.valueStart = at
      while (!endsScalar(bytes[at]!)) at++
      this.valueEnd = at
      this.isNull = bytes[this.valueStart] === LOWER_N
    }
    // Behind the comma, or the brace that closes the object.
    this.#at = skipSpace(bytes, at, end) + 1
    return true
  }

  #nextBinary(): boolean {
    const { bytes, extEnd } = this.#head
    const at = this.#at
    if (at >= extEnd) return false
    this.nameStart = at + 2
    this.nameEnd = this.nameStart + int16(bytes, at)
    this.valueStart = this.nameEnd + 4
    this.valueEnd = this.valueStart + int32(bytes, this.nameEnd)
    this.#at = this.valueEnd
    return true
  }
}

function endOfString(bytes: Buffer, from: number): number {
  let at = from
  while (bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1
  return at
}

function endsScalar(c: number): boolean {
  return c === COMMA || c === BRACE_CLOSE || c <= 0x20
}

/** What a JSON string's inside stands for, in UTF-8. Escapes were checked by the header's reader. */
export function unescapeJson(raw: Buffer): Buffer {
  const first = raw.indexOf(BACKSLASH)
  if (first < 0) return raw
  // No escape is shorter than what it stands for.
  const out = Buffer.allocUnsafe(raw.length)
  let written = raw.copy(out, 0, 0, first)
  let at = first
  while (at < raw.length) {
    const c = raw[at]!
    if (c !== BACKSLASH) {
      out[written++] = c
      at++
    } else if (raw[at + 1] !== LOWER_U) {
      out[written++] = escaped(raw[at + 1]!)
      at += 2
    } else {
      let unit = codeUnit(raw, at + 2)
      at += 6
      if (unit >= 0xd800 && unit < 0xdc00 && raw[at] === BACKSLASH && raw[at + 1] === LOWER_U) {
        const low = codeUnit(raw, at + 2)
        if (low >= 0xdc00 && low < 0xe000) {
          unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
          at += 6
        }
      }
      // Half a pair is what Java writes for it when the broker stores it.
      if (unit >= 0xd800 && unit < 0xe000) unit = QUESTION_MARK
      if (unit < 0x80) out[written++] = unit
      else written += out.write(String.fromCodePoint(unit), written)
    }
  }
  return out.subarray(0, written)
}

/** The character that a backslash and this one stand for. */
function escaped(kind: number): number {
  switch (kind) {
    case 0x62:
      return 8
    case 0x66:
      return 12
    case LOWER_N:
      return 10
    case 0x72:
      return 13
    case 0x74:
      return 9
    default:
      return kind
  }
}

function codeUnit(raw: Buffer, at: number): number {
  return (
    (hexDigit(raw[at]!) << 12) | (hexDigit(raw[at + 1]!) << 8) | (hexDigit(raw[at + 2]!) << 4) | hexDigit(raw[at + 3]!)
  )
}
