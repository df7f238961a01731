// What an operator sets of a journal.

import type { RoomOptions } from './room.ts'

export interface JournalSettings extends RoomOptions {
  /** `always`: bodies are journaled before the ack, as they are of topics that may not be read back from the source. */
  bodies: 'spill' | 'always'
  /** What becomes of sends when a body has to wait and there is no room: it is a gap, or they are refused. */
  onFull: 'gap' | 'reject'
  ack: 'append' | 'fsync'
  /** Milliseconds. */
  spillAfter: number
  stallTimeout: number
  retention: number
  compress: boolean
}
