// Cuts a stream of chunks into frames that each stand in a buffer of their own.
//
// For connections that we are an end of (links, the name-server listener), where frames are few or short-lived. A frame
// that lies in one chunk is a view of it; one that is cut is assembled once, into a buffer of exactly its size.

import { CodecError } from './codec-error.ts'
import {
  FRAME_BYTES_MAX,
  FRAME_LENGTH_BYTES,
  FRAME_PREFIX_BYTES,
  FrameHead,
  HEADER_BYTES_MAX,
  headBytes,
} from './frame-head.ts'

export interface Frame {
  head: FrameHead
  /** The whole frame. */
  bytes: Buffer
  body: Buffer
}

const NONE = Buffer.alloc(0)

export class Framer {
  readonly #frameBytesMax: number
  readonly #headerBytesMax: number
  #rest = NONE
  /** A frame that is being assembled, and how much of it is there. */
  #partial: Buffer | undefined
  #filled = 0

  constructor(frameBytesMax = FRAME_BYTES_MAX, headerBytesMax = HEADER_BYTES_MAX) {
    this.#frameBytesMax = frameBytesMax
    this.#headerBytesMax = headerBytesMax
  }

  /** The frames that this chunk completes. Throws CodecError at bytes that are no frame. */
  *push(chunk: Buffer): Generator<Frame> {
    let at = 0
    if (this.#partial !== undefined) {
      at = chunk.copy(this.#partial, this.#filled)
      this.#filled += at
      if (this.#filled < this.#partial.length) return
      const bytes = this.#partial
      this.#partial = undefined
      yield frameOf(bytes)
    } else if (this.#rest.length > 0) {
      chunk = Buffer.concat([this.#rest, chunk])
      this.#rest = NONE
    }
    while (chunk.length - at >= FRAME_PREFIX_BYTES) {
      headBytes(chunk, at, this.#frameBytesMax, this.#headerBytesMax)
      const frameBytes = FRAME_LENGTH_BYTES + chunk.readInt32BE(at)
      if (chunk.length - at < frameBytes) {
        this.#partial = Buffer.allocUnsafe(frameBytes)
        this.#filled = chunk.copy(this.#partial, 0, at)
        return
      }
      yield frameOf(chunk.subarray(at, at + frameBytes))
      at += frameBytes
    }
    // Fewer bytes than a prefix.
    if (at < chunk.length) this.#rest = Buffer.from(chunk.subarray(at))
  }
}

/** Reads one whole frame, of any size. Throws CodecError. */
export function frameOf(bytes: Buffer): Frame {
  const head = new FrameHead()
  if (bytes.length < FRAME_PREFIX_BYTES || FRAME_LENGTH_BYTES + bytes.readInt32BE() !== bytes.length) {
    throw new CodecError('frame-length', `${bytes.length} bytes are not one whole frame`)
  }
  const end = headBytes(bytes, 0, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY)
  head.read(bytes, 0, end)
  return { head, bytes, body: bytes.subarray(end) }
}
