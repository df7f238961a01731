// A set of sequence numbers: a bit each, in pieces that are made when they are needed.

const PIECE_BYTES = 4096
const PIECE_NUMBERS = PIECE_BYTES * 8

export class SequenceSet {
  readonly #pieces = new Map<number, Uint8Array>()
  /** The last that was used: most often they come in a row. */
  #number = -1
  #piece: Uint8Array = new Uint8Array(0)

  /** False where it was in already. */
  add(sequence: number): boolean {
    const at = this.#find(sequence, true)
    const bit = 1 << (at & 7)
    if ((this.#piece[at >>> 3]! & bit) !== 0) return false
    this.#piece[at >>> 3]! |= bit
    return true
  }

  has(sequence: number): boolean {
    const at = this.#find(sequence, false)
    return at >= 0 && (this.#piece[at >>> 3]! & (1 << (at & 7))) !== 0
  }

  /** How many from `from` up to, and without, `end` are not in. */
  missing(from: number, end: number): number {
    let missing = 0
    for (let sequence = from; sequence < end; sequence++) if (!this.has(sequence)) missing++
    return missing
  }

  /** Where it is in the piece at hand; -1 where there is no such piece, and none is made. */
  #find(sequence: number, make: boolean): number {
    const number = Math.floor(sequence / PIECE_NUMBERS)
    if (number !== this.#number) {
      const piece = this.#pieces.get(number) ?? (make ? new Uint8Array(PIECE_BYTES) : undefined)
      if (piece === undefined) return -1
      this.#pieces.set(number, piece)
      this.#number = number
      this.#piece = piece
    }
    return sequence - number * PIECE_NUMBERS
  }
}
