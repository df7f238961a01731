// Bodies: all that is needed to send a message again. (Its payload is the body field of the message.)
//
// They live in memory as places in the chunks they came in, for a view of each would be two more objects a message.
// Memory is counted by chunks: one small message keeps a whole chunk. What does not fit becomes a gap, to be read back
// from the source; and with it everything that comes for a while, for a gap of a few messages costs as much to fill as
// a long one.

const NONE = Buffer.alloc(0)

export interface Body {
  flag: number
  sysFlag: number
  /** The property string stands in these bytes. */
  propertyBytes: Buffer
  propertiesStart: number
  propertiesEnd: number
  /** The payload, or its first part. */
  payloadBytes: Buffer
  payloadStart: number
  payloadEnd: number
  /** The other parts of a payload that came in several chunks. */
  payloadRest: readonly Buffer[] | undefined
}

export function propertiesOf({ propertyBytes, propertiesStart, propertiesEnd }: Body): Buffer {
  return propertyBytes.subarray(propertiesStart, propertiesEnd)
}

/** The payload's parts. */
export function payloadOf({ payloadBytes, payloadStart, payloadEnd, payloadRest }: Body): Buffer[] {
  const first = payloadBytes.subarray(payloadStart, payloadEnd)
  return payloadRest === undefined ? [first] : [first, ...payloadRest]
}

export function payloadLength({ payloadStart, payloadEnd, payloadRest }: Body): number {
  let length = payloadEnd - payloadStart
  if (payloadRest !== undefined) for (const part of payloadRest) length += part.length
  return length
}

/** Copies the payload to `at`; returns where it ends. */
export function copyPayload({ payloadBytes, payloadStart, payloadEnd, payloadRest }: Body, out: Buffer, at: number) {
  let next = at + payloadBytes.copy(out, at, payloadStart, payloadEnd)
  if (payloadRest !== undefined) for (const part of payloadRest) next += part.copy(out, next)
  return next
}

/** Lets go of its bytes: whoever still holds the message does not hold them. */
export function dropBody(body: Body): void {
  body.propertyBytes = body.payloadBytes = NONE
  body.propertiesStart = body.propertiesEnd = body.payloadStart = body.payloadEnd = 0
  body.payloadRest = undefined
}

/** What a kept body costs beside its chunks: the object that holds it (408 bytes, measured), and its place in a page. */
const OBJECT_BYTES = 480
/** After bodies did not fit, this share of the limit must be free again before the next is kept. */
const FREE_AGAIN = 0.25

export class BodyMemory {
  readonly limit: number
  /** Bytes of chunks that bodies keep, and of what holds them. */
  used = 0
  #full = false
  readonly #references = new Map<ArrayBufferLike, number>()

  constructor(limit: number) {
    this.limit = limit
  }

  get isFull(): boolean {
    return this.used > this.limit
  }

  /** Keeps a body's chunks; false where there is no room. */
  keep(body: Body): boolean {
    if (this.#full && this.used > this.limit * (1 - FREE_AGAIN)) return false
    this.#full = this.used + payloadLength(body) + body.propertiesEnd - body.propertiesStart > this.limit
    if (this.#full) return false
    this.keepAnyway(body)
    return true
  }

  /** Keeps a body that was read back for the head of a lane: without it the lane could not go on and free any. */
  keepAnyway(body: Body): void {
    this.used += OBJECT_BYTES
    this.#each(body, 1)
  }

  letGo(body: Body): void {
    this.forget(body)
    dropBody(body)
  }

  /** It is kept by somebody else now. */
  forget(body: Body): void {
    this.used -= OBJECT_BYTES
    this.#each(body, -1)
  }

  #each({ propertyBytes, payloadBytes, payloadRest }: Body, change: 1 | -1): void {
    this.#count(payloadBytes.buffer, change)
    // Most often one chunk holds both.
    if (propertyBytes.buffer !== payloadBytes.buffer) this.#count(propertyBytes.buffer, change)
    if (payloadRest !== undefined) for (const part of payloadRest) this.#count(part.buffer, change)
  }

  #count(chunk: ArrayBufferLike, change: 1 | -1): void {
    const before = this.#references.get(chunk) ?? 0
    const count = before + change
    if (count > 0) this.#references.set(chunk, count)
    else this.#references.delete(chunk)
    if (before === 0) this.used += chunk.byteLength
    else if (count === 0) this.used -= chunk.byteLength
  }
}
