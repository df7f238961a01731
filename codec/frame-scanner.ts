// Finds frames in a stream of chunks without copying what they carry.
//
// A chunk goes on as it came. Only a head that is cut by the end of a chunk is held back until it is whole, and copied
// then, for what becomes of a frame is decided at its head, before any of it has gone on. Between two chunks the scanner
// remembers just that cut head, and how much of the current body is still to come.
//
// It does not know what frames mean: the sink says whether a frame goes on, under another head, or not at all, and
// whether it wants to see the frame's body.

import { FRAME_BYTES_MAX, FRAME_PREFIX_BYTES, FrameHead, HEADER_BYTES_MAX, headBytes } from './frame-head.ts'

/** What becomes of a frame: it goes on as it came, under this head, or (null) not at all. */
export type Verdict = Buffer | null | undefined

export interface FrameSink {
  /**
   * A frame's head is there. `head` and its bytes are good for the length of the call only.
   * Where the sink calls `scanner.collect()` in it, `body` follows.
   */
  head(head: FrameHead): Verdict
  /**
   * A piece of a collected frame's body stands in `chunk` from `start` to `end`; with the last, which is the only one of
   * an empty body, the frame is whole. Called before the piece goes on.
   */
  body(chunk: Buffer, start: number, end: number, last: boolean): void
}

const NONE = Buffer.alloc(0)

export class FrameScanner {
  readonly #sink: FrameSink
  readonly #frameBytesMax: number
  readonly #headerBytesMax: number
  readonly #head = new FrameHead()
  /** A head that the last chunk cut: room for as much of it as is known to come, and how much of that is there. */
  #held = NONE
  #heldBytes = 0
  #bodyLeft = 0
  #dropping = false
  #collecting = false

  /** Answers of brokers need ANSWER_HEADER_BYTES_MAX. */
  constructor(sink: FrameSink, frameBytesMax = FRAME_BYTES_MAX, headerBytesMax = HEADER_BYTES_MAX) {
    this.#sink = sink
    this.#frameBytesMax = frameBytesMax
    this.#headerBytesMax = headerBytesMax
  }

  /** Whether the stream stands between two frames. */
  get atBoundary(): boolean {
    return this.#bodyLeft === 0 && this.#held.length === 0
  }

  /** Called by the sink in `head`: it wants the body of this frame. */
  collect(): void {
    this.#collecting = true
  }

  /**
   * Takes the next chunk; what goes on is added to `out`, in order.
   * Throws CodecError at bytes that are no frame; `out` then has what came before them.
   */
  push(chunk: Buffer, out: Buffer[]): void {
    let at = this.#held.length > 0 ? this.#completeHead(chunk, out) : 0
    // Everything in chunk from here to `at` goes on as it came.
    let from = at
    try {
      while (at < chunk.length) {
        if (this.#bodyLeft > 0) {
          const end = Math.min(at + this.#bodyLeft, chunk.length)
          this.#bodyLeft -= end - at
          if (this.#collecting) this.#collect(chunk, at, end)
          if (this.#dropping) {
            if (from < at) out.push(chunk.subarray(from, at))
            from = end
          }
          at = end
          continue
        }
        const left = chunk.length - at
        const whole = left < FRAME_PREFIX_BYTES ? FRAME_PREFIX_BYTES : this.#headBytes(chunk, at)
        if (whole > left) {
          // Copied: a view would keep the whole chunk, and the rest of the head comes in another anyway.
          this.#held = Buffer.allocUnsafe(whole)
          this.#heldBytes = chunk.copy(this.#held, 0, at)
          return
        }
        const verdict = this.#readHead(chunk, at, at + whole)
        if (verdict !== undefined) {
          if (from < at) out.push(chunk.subarray(from, at))
          if (verdict !== null) out.push(verdict)
          from = at + whole
        }
        at += whole
        if (this.#collecting && this.#bodyLeft === 0) this.#collect(NONE, 0, 0)
      }
    } finally {
      if (from < at) out.push(chunk.subarray(from, at))
    }
  }

  /** Takes from the chunk what the held head lacks; returns how much that was. */
  #completeHead(chunk: Buffer, out: Buffer[]): number {
    let at = 0
    for (;;) {
      const held = this.#held
      const taken = chunk.copy(held, this.#heldBytes, at)
      at += taken
      this.#heldBytes += taken
      if (this.#heldBytes < held.length) return at
      // Eight bytes may be all that was known to come; they say how many more do.
      const whole = held.length === FRAME_PREFIX_BYTES ? this.#headBytes(held, 0) : held.length
      if (whole === held.length) {
        this.#held = NONE
        const verdict = this.#readHead(held, 0, whole)
        if (verdict !== null) out.push(verdict ?? held)
        if (this.#collecting && this.#bodyLeft === 0) this.#collect(NONE, 0, 0)
        return at
      }
      this.#held = Buffer.allocUnsafe(whole)
      held.copy(this.#held)
    }
  }

  #headBytes(bytes: Buffer, start: number): number {
    return headBytes(bytes, start, this.#frameBytesMax, this.#headerBytesMax)
  }

  #readHead(bytes: Buffer, start: number, end: number): Verdict {
    this.#head.read(bytes, start, end)
    this.#bodyLeft = this.#head.bodyBytes
    const verdict = this.#sink.head(this.#head)
    this.#dropping = verdict === null
    return verdict
  }

  #collect(chunk: Buffer, start: number, end: number): void {
    const last = this.#bodyLeft === 0
    if (last) this.#collecting = false
    this.#sink.body(chunk, start, end, last)
  }
}
