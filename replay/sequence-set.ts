// A set of sequence numbers: a bit each, in pieces that are made when they are needed.

const PIECE_BYTES = 4096
const PIECE_NUMBERS = PIECE_BYTES * 8

export class SequenceSet {
  readonly #pieces = new Map<number, Uint8Array>()

  /** False where it was in already. */
  add(sequence: number): boolean {
    const number = Math.floor(sequence / PIECE_NUMBERS)
    let piece = this.#pieces.get(number)
    if (piece === undefined) {
      piece = new Uint8Array(PIECE_BYTES)
      this.#pieces.set(number, piece)
    }
    const at = sequence - number * PIECE_NUMBERS
    const bit = 1 << (at & 7)
    if ((piece[at >>> 3]! & bit) !== 0) return false
    piece[at >>> 3]! |= bit
    return true
  }

  has(sequence: number): boolean {
    const number = Math.floor(sequence / PIECE_NUMBERS)
    const at = sequence - number * PIECE_NUMBERS
    return ((this.#pieces.get(number)?.[at >>> 3] ?? 0) & (1 << (at & 7))) !== 0
  }

  /** How many from `from` up to, and without, `end` are not in. */
  missing(from: number, end: number): number {
    let missing = 0
    for (let sequence = from; sequence < end; sequence++) if (!this.has(sequence)) missing++
    return missing
  }
}
