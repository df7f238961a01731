// A walk over the extFields of a frame head, both header types, in place.
//
// It yields positions; text is made only of the fields that somebody asks for. Names are not checked for being there
// twice, as that would cost a set for each frame: who reads a field that matters checks it (send-message.ts).

import { CodecError } from './codec-error.ts'
import type { FrameHead } from './frame-head.ts'
import { JSON_HEADER } from './frame-head.ts'
import { hexDigit, scalarEnd, skipSpace, stringEnd } from './header-json.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c

export class ExtFields {
  nameStart = 0
  nameEnd = 0
  valueStart = 0
  valueEnd = 0
  #head: FrameHead
  #at: number

  constructor(head: FrameHead) {
    this.#head = head
    // Behind the brace that opens the object, or at the first entry.
    this.#at = head.type === JSON_HEADER ? head.extStart + 1 : head.extStart
  }

  /** Goes to the next field; false behind the last. */
  next(): boolean {
    return this.#head.type === JSON_HEADER ? this.#nextJson() : this.#nextBinary()
  }

  get name(): string {
    return this.#head.bytes.toString('latin1', this.nameStart, this.nameEnd)
  }

  get value(): string {
    const { bytes, type } = this.#head
    if (type === JSON_HEADER && bytes.subarray(this.valueStart, this.valueEnd).includes(BACKSLASH))
      return this.valueBytes().toString()
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
    return negative ? -value : value
  }

  #notAnInteger(): CodecError {
    return new CodecError(
      'header',
      `extFields: ${this.name} is not an integer: ${JSON.stringify(this.value.slice(0, 64))}`,
    )
  }

  #nextJson(): boolean {
    const head = this.#head
    const { bytes } = head
    const end = head.extEnd - 1
    let at = skipSpace(bytes, this.#at, end)
    if (at >= end) return false
    this.nameStart = at + 1
    this.nameEnd = stringEnd(head, at + 1)
    at = skipSpace(bytes, skipSpace(bytes, this.nameEnd + 1, end) + 1, end)
    const valueEnd = scalarEnd(head, at)
    const quoted = bytes[at] === QUOTE
    this.valueStart = quoted ? at + 1 : at
    this.valueEnd = quoted ? valueEnd - 1 : valueEnd
    this.#at = skipSpace(bytes, valueEnd, end) + 1
    return true
  }

  #nextBinary(): boolean {
    const { bytes, extEnd } = this.#head
    const at = this.#at
    if (at >= extEnd) return false
    if (extEnd - at < 2) throw cut(at, extEnd)
    this.nameStart = at + 2
    this.nameEnd = this.nameStart + bytes.readUInt16BE(at)
    if (this.nameEnd + 4 > extEnd) throw cut(at, extEnd)
    const valueBytes = bytes.readInt32BE(this.nameEnd)
    this.valueStart = this.nameEnd + 4
    this.valueEnd = this.valueStart + valueBytes
    if (valueBytes < 0 || this.valueEnd > extEnd) throw cut(at, extEnd)
    this.#at = this.valueEnd
    return true
  }
}

function cut(at: number, end: number): CodecError {
  return new CodecError('header', `binary header: a field of extFields does not fit into the ${end - at} bytes left`)
}

/** What a JSON string's inside stands for, in UTF-8. Escapes were checked by the header's reader. */
export function unescapeJson(raw: Buffer): Buffer {
  let backslash = raw.indexOf(BACKSLASH)
  if (backslash < 0) return raw
  // No escape is shorter than what it stands for.
  const out = Buffer.allocUnsafe(raw.length)
  let written = 0
  let from = 0
  while (backslash >= 0) {
    written += raw.copy(out, written, from, backslash)
    const kind = raw[backslash + 1]!
    from = backslash + 2
    if (kind === 0x75) {
      let unit = codeUnit(raw, from)
      from += 4
      if (unit >= 0xd800 && unit < 0xdc00 && raw[from] === BACKSLASH && raw[from + 1] === 0x75) {
        const low = codeUnit(raw, from + 2)
        if (low >= 0xdc00 && low < 0xe000) {
          unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
          from += 6
        }
      }
      if (unit < 0x80) out[written++] = unit
      else written += out.write(String.fromCodePoint(unit), written)
    } else
      out[written++] =
        kind === 0x62 ? 8 : kind === 0x66 ? 12 : kind === 0x6e ? 10 : kind === 0x72 ? 13 : kind === 0x74 ? 9 : kind
    backslash = raw.indexOf(BACKSLASH, from)
  }
  written += raw.copy(out, written, from)
  return out.subarray(0, written)
}

function codeUnit(raw: Buffer, at: number): number {
  return (
    (hexDigit(raw[at]!) << 12) | (hexDigit(raw[at + 1]!) << 8) | (hexDigit(raw[at + 2]!) << 4) | hexDigit(raw[at + 3]!)
  )
}
