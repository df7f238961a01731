// What is acked in one turn of the loop is a batch: its places are written together, and what waits for them goes on when
// they are. (Without: the ack of a later turn is relayed with an earlier write, and its place is lost.)
//
// Pure: it writes nothing itself.

import type { AckedMessage } from './message.ts'
import type { Send } from './send.ts'

export interface Batch {
  /** Sequence of the first place. */
  sequence: number
  messages: AckedMessage[]
  /** Theirs. */
  sends: Send[]
  /** Sends that are answered with them. */
  answered: Send[]
  relays: (() => void)[]
  written: boolean
}

export class Batches {
  /** Of this turn. */
  open: Batch = newBatch(0)
  readonly #written: (batch: Batch) => void
  /** Those whose places are being written, the oldest first. */
  readonly #undelivered: Batch[] = []

  /** `written` is called for each batch, in their order. */
  constructor(written: (batch: Batch) => void) {
    this.#written = written
  }

  /** The next place has this sequence. */
  beginAt(sequence: number): void {
    this.open = newBatch(sequence)
  }

  /** Sequence of the oldest place that may not be written yet. */
  get sequence(): number {
    return (this.#undelivered[0] ?? this.open).sequence
  }

  /** The newest batch with anything in it; undefined where all is written. */
  get newest(): Batch | undefined {
    return this.open.sends.length > 0 ? this.open : this.#undelivered.at(-1)
  }

  /** The open batch begins to be written, and the next place has this sequence; what is given back is called when it is written. */
  flushed(sequence: number): () => void {
    const batch = this.open
    this.beginAt(sequence)
    this.#undelivered.push(batch)
    return () => {
      batch.written = true
      // A later file may be synced first: but what a cursor covers ends where the oldest batch begins that is not written.
      for (let [oldest] = this.#undelivered; oldest?.written; [oldest] = this.#undelivered) {
        this.#undelivered.shift()
        this.#written(oldest)
      }
    }
  }
}

function newBatch(sequence: number): Batch {
  return { sequence, messages: [], sends: [], answered: [], relays: [], written: false }
}
