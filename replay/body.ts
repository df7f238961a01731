// Bodies: all that is needed to send a message again. (Its payload is the body field of the message.)
//
// They live in memory as views of the chunks they came in, and memory is counted by chunks, for one small view keeps a
// whole chunk. What does not fit becomes a gap, to be read back from the source; and with it everything that comes for
// a while, for a gap of a few messages costs as much to fill as a long one.

export interface Body {
  flag: number
  sysFlag: number
  properties: Buffer
  payload: readonly Buffer[]
  payloadBytes: number
}

export function bodyOf(flag: number, sysFlag: number, properties: Buffer, payload: readonly Buffer[]): Body {
  let payloadBytes = 0
  for (const part of payload) payloadBytes += part.length
  return { flag, sysFlag, properties, payload, payloadBytes }
}

/** After bodies did not fit, this share of the limit must be free again before the next is kept. */
const FREE_AGAIN = 0.25

export class BodyMemory {
  readonly limit: number
  /** Bytes of chunks that bodies keep. */
  used = 0
  #full = false
  readonly #references = new Map<ArrayBufferLike, number>()

  constructor(limit: number) {
    this.limit = limit
  }

  /** Keeps a body's chunks; false where there is no room. */
  keep(body: Body): boolean {
    if (this.#full && this.used > this.limit * (1 - FREE_AGAIN)) return false
    this.#full = this.used + body.payloadBytes + body.properties.length > this.limit
    if (this.#full) return false
    this.keepAnyway(body)
    return true
  }

  /** Keeps a body that was read back for the head of a lane: without it the lane could not go on and free any. */
  keepAnyway(body: Body): void {
    this.#add(body.properties.buffer)
    for (const part of body.payload) this.#add(part.buffer)
  }

  letGo(body: Body): void {
    this.#remove(body.properties.buffer)
    for (const part of body.payload) this.#remove(part.buffer)
  }

  #add(chunk: ArrayBufferLike): void {
    const count = this.#references.get(chunk) ?? 0
    if (count === 0) this.used += chunk.byteLength
    this.#references.set(chunk, count + 1)
  }

  #remove(chunk: ArrayBufferLike): void {
    const count = this.#references.get(chunk)
    if (count === undefined) return
    if (count > 1) {
      this.#references.set(chunk, count - 1)
      return
    }
    this.#references.delete(chunk)
    this.used -= chunk.byteLength
  }
}
