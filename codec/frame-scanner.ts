// Finds frames in a stream of chunks without copying what they carry.
//
// A chunk goes on as it came. Only a head that is cut by the end of a chunk is held back until it is whole, and copied
// then, for what becomes of a frame is decided at its head, before any of it has gone on. Between two chunks the scanner
// remembers just that cut head, and how much of the current body is still to come.
//
// It does not know what frames mean: the sink says whether a frame goes on, under another head, or not at all, and
// whether it wants to see the frame's body.

import { FRAME_BYTES_MAX, FRAME_PREFIX_BYTES, FrameHead, headBytes } from './frame-head.ts'

/** What becomes of a frame: it goes on as it came, under this head, or (null) not at all. */
export type Verdict = Buffer | null | undefined

export interface FrameSink {
  /**
   * A frame's head is there. `head` and its bytes are good for the length of the call only.
   * Where the sink calls `scanner.collect()` in it, `frame` follows when the body has come.
   */
  head(head: FrameHead): Verdict
  /** The body of a collected frame, as views of the chunks it came in. Called before the last of it goes on. */
  frame(body: Buffer[]): void
}

const NONE = Buffer.alloc(0)

export class FrameScanner {
  readonly #sink: FrameSink
  readonly #frameBytesMax: number
  readonly #head = new FrameHead()
  /** Bytes of a head that the last chunk cut. */
  #held = NONE
  #bodyLeft = 0
  #dropping = false
  #body: Buffer[] | undefined

  constructor(sink: FrameSink, frameBytesMax = FRAME_BYTES_MAX) {
    this.#sink = sink
    this.#frameBytesMax = frameBytesMax
  }

  /** Whether the stream stands between two frames. */
  get atBoundary(): boolean {
    return this.#bodyLeft === 0 && this.#held.length === 0
  }

  /** Called by the sink in `head`: it wants the body of this frame. */
  collect(): void {
    this.#body = []
  }

  /**
   * Takes the next chunk; what goes on is added to `out`, in order.
   * Throws CodecError at bytes that are no frame; `out` then has what came before them.
   */
  push(chunk: Buffer, out: Buffer[]): void {
    let at = 0
    // Everything in chunk from here to `at` goes on as it came.
    let runStart = 0
    if (this.#held.length > 0) {
      at = this.#completeHead(chunk, out)
      runStart = at
    }
    while (at < chunk.length) {
      if (this.#bodyLeft > 0) {
        const taken = Math.min(this.#bodyLeft, chunk.length - at)
        this.#body?.push(chunk.subarray(at, at + taken))
        if (this.#dropping) {
          if (runStart < at) out.push(chunk.subarray(runStart, at))
          runStart = at + taken
        }
        at += taken
        this.#bodyLeft -= taken
        if (this.#bodyLeft === 0) this.#endOfFrame()
        continue
      }
      const left = chunk.length - at
      const whole = left < FRAME_PREFIX_BYTES ? FRAME_PREFIX_BYTES : this.#headBytes(chunk, at, runStart, out)
      if (whole > left) {
        // Copied: a view would keep the whole chunk, and the rest of the head comes in another anyway.
        this.#held = Buffer.from(chunk.subarray(at))
        break
      }
      const verdict = this.#readHead(chunk, at, at + whole, runStart, out)
      if (verdict !== undefined) {
        if (runStart < at) out.push(chunk.subarray(runStart, at))
        if (verdict !== null) out.push(verdict)
        runStart = at + whole
      }
      at += whole
      if (this.#bodyLeft === 0) this.#endOfFrame()
    }
    if (runStart < at) out.push(chunk.subarray(runStart, at))
  }

  /** Takes from the chunk what the held head lacks; returns how much that was. */
  #completeHead(chunk: Buffer, out: Buffer[]): number {
    let at = 0
    for (;;) {
      const held = this.#held
      const whole = held.length < FRAME_PREFIX_BYTES ? FRAME_PREFIX_BYTES : headBytes(held, 0, this.#frameBytesMax)
      if (held.length === whole) {
        this.#held = NONE
        const verdict = this.#readHead(held, 0, whole, 0, out)
        if (verdict !== null) out.push(verdict ?? held)
        if (this.#bodyLeft === 0) this.#endOfFrame()
        return at
      }
      if (at === chunk.length) return at
      const taken = Math.min(whole - held.length, chunk.length - at)
      this.#held = Buffer.concat([held, chunk.subarray(at, at + taken)])
      at += taken
    }
  }

  #headBytes(chunk: Buffer, at: number, runStart: number, out: Buffer[]): number {
    try {
      return headBytes(chunk, at, this.#frameBytesMax)
    } catch (error) {
      if (runStart < at) out.push(chunk.subarray(runStart, at))
      throw error
    }
  }

  #readHead(bytes: Buffer, start: number, end: number, runStart: number, out: Buffer[]): Verdict {
    try {
      this.#head.read(bytes, start, end)
      this.#bodyLeft = this.#head.bodyBytes
      const verdict = this.#sink.head(this.#head)
      this.#dropping = verdict === null
      return verdict
    } catch (error) {
      if (runStart < start) out.push(bytes.subarray(runStart, start))
      throw error
    }
  }

  #endOfFrame(): void {
    const body = this.#body
    if (body === undefined) return
    this.#body = undefined
    this.#sink.frame(body)
  }
}
