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
  bytes: Buffer
  start = 0
  nameEnd = 0
  valueEnd = 0
  #next: number
  #end: number

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.bytes = bytes
    this.#next = start
    this.#end = end
  }

  /** Begins anew with these bytes. */
  walk(bytes: Buffer, start: number, end: number): this {
    this.bytes = bytes
    this.#next = start
    this.#end = end
    return this
  }

  /** Goes to the next entry that has a name and a value; false behind the last. */
  next(): boolean {
    const { bytes } = this
    const end = this.#end
    while (this.#next < end) {
      this.start = this.#next
      let at = this.start
      while (at < end && bytes[at] !== NAME_END && bytes[at] !== VALUE_END) at++
      this.nameEnd = at
      while (at < end && bytes[at] !== VALUE_END) at++
      this.valueEnd = at
      this.#next = at + 1
      if (this.nameEnd > this.start && this.nameEnd < this.valueEnd - 1) return true
    }
    return false
  }

  /** Behind the entry and the 0x02 that ends it. */
  get end(): number {
    return Math.min(this.valueEnd + 1, this.#end)
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

/** Bytes of the properties from `start` to `end` and one more behind them. Its name is ASCII. */
export function propertyBytes(bytes: Buffer, start: number, end: number, name: string, value: string): number {
  return end - start + (isEnded(bytes, start, end) ? 2 : 3) + name.length + Buffer.byteLength(value)
}

/** Writes them to `at`, that one behind them; returns where it ends. */
export function writeProperty(
  out: Buffer,
  at: number,
  bytes: Buffer,
  start: number,
  end: number,
  name: string,
  value: string,
): number {
  let next = at + bytes.copy(out, at, start, end)
  if (!isEnded(bytes, start, end)) out[next++] = VALUE_END
  next += out.write(name, next, 'latin1')
  out[next++] = NAME_END
  next += out.write(value, next)
  out[next++] = VALUE_END
  return next
}

function isEnded(bytes: Buffer, start: number, end: number): boolean {
  return start === end || bytes[end - 1] === VALUE_END
}
