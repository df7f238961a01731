// The property string of a message: name 0x01 value 0x02, repeated; the last 0x02 may be missing.
//
// Kept as bytes throughout, for what is copied must be what was sent. Names are compared as ASCII.
// Source: MessageDecoder.messageProperties2String and string2messageProperties in apache/rocketmq's common. There an
// entry without a value does not exist, and of two of one name the last counts.

const NAME_END = 0x01
const VALUE_END = 0x02

/** Longest property string: its length is a signed 16-bit number in the store (MessageExtEncoder). */
export const PROPERTIES_BYTES_MAX = 32_767

/** A walk over the entries, in place. */
export class Properties {
  readonly bytes: Buffer
  start = 0
  nameEnd = 0
  valueEnd = 0
  #next = 0

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  /** Goes to the next entry that has a name and a value; false behind the last. */
  next(): boolean {
    const { bytes } = this
    while (this.#next < bytes.length) {
      this.start = this.#next
      let at = this.start
      while (at < bytes.length && bytes[at] !== NAME_END && bytes[at] !== VALUE_END) at++
      this.nameEnd = at
      while (at < bytes.length && bytes[at] !== VALUE_END) at++
      this.valueEnd = at
      this.#next = at + 1
      if (this.nameEnd > this.start && this.nameEnd < this.valueEnd - 1) return true
    }
    return false
  }

  /** Behind the entry and the 0x02 that ends it. */
  get end(): number {
    return Math.min(this.valueEnd + 1, this.bytes.length)
  }

  nameIs(name: string): boolean {
    if (this.nameEnd - this.start !== name.length) return false
    for (let i = 0; i < name.length; i++) if (this.bytes[this.start + i] !== name.charCodeAt(i)) return false
    return true
  }

  get name(): string {
    return this.bytes.toString('utf8', this.start, this.nameEnd)
  }

  get value(): string {
    return this.bytes.toString('utf8', this.nameEnd + 1, this.valueEnd)
  }

  get valueBytes(): Buffer {
    return this.bytes.subarray(this.nameEnd + 1, this.valueEnd)
  }
}

/** The value of the first property of this name. */
export function findProperty(bytes: Buffer, name: string): string | undefined {
  const properties = new Properties(bytes)
  while (properties.next()) if (properties.nameIs(name)) return properties.value
  return undefined
}

export function decodeProperties(bytes: Buffer): Map<string, string> {
  const out = new Map<string, string>()
  const properties = new Properties(bytes)
  while (properties.next()) out.set(properties.name, properties.value)
  return out
}

export function encodeProperties(entries: Iterable<readonly [string, string]>): Buffer {
  let text = ''
  for (const [name, value] of entries) text += `${name}\u0001${value}\u0002`
  return Buffer.from(text)
}

/**
 * These properties without those that `drop` says (`seen`: one of that name came before); the bytes themselves when
 * there is none of them.
 */
export function withoutProperties(bytes: Buffer, drop: (name: string, seen: boolean) => boolean): Buffer {
  const properties = new Properties(bytes)
  const seen = new Set<string>()
  const kept: Buffer[] = []
  let dropped = false
  while (properties.next()) {
    const { name } = properties
    if (drop(name, seen.has(name))) dropped = true
    else kept.push(bytes.subarray(properties.start, properties.valueEnd), SEPARATOR)
    seen.add(name)
  }
  return dropped ? Buffer.concat(kept) : bytes
}

const SEPARATOR = Buffer.from([VALUE_END])

/** These properties and one more behind them. */
export function withProperty(bytes: Buffer, name: string, value: string): Buffer {
  const ended = bytes.length === 0 || bytes[bytes.length - 1] === VALUE_END
  return Buffer.concat([bytes, ended ? NOTHING : SEPARATOR, Buffer.from(`${name}\u0001${value}\u0002`)])
}

const NOTHING = Buffer.alloc(0)
