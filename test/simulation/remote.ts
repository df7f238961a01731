// One remote of a history: its cluster, what the gateway's processes have counted for it, and what is known of what it had.

import type { ModelCluster } from './cluster.ts'
import type { Message } from './ledger.ts'
import type { RemoteSide } from './step.ts'

/** Messages that were acked, or skipped, and places that were begun to be written. */
export interface Counts {
  acked: number
  skipped: number
  begun: number
}

export class Remote implements Counts {
  readonly side: RemoteSide
  /** As the gateway's configuration has it. */
  readonly label: string
  readonly cluster: ModelCluster
  /** What all processes of the gateway have counted together. */
  acked = 0
  skipped = 0
  begun = 0
  reordered = 0
  /** Of that: what the slots had when the process began. */
  reorderedBefore = 0
  /** What the last process counted as lost, cause journal, and how many of such a later start found again. */
  lostFromJournal = 0
  foundAgain = 0
  /** The queue that has, or had, a message. */
  readonly wentTo = new Map<Message, number>()
  /** Whether others write to it. */
  hasStrangers = false
  /** In what is skipped for it. */
  readonly bit: number
  /** What the next start has to count as lost, cause journal, in all; undefined where nothing was damaged before it. */
  lostAtStart: number | undefined
  /** Of that: what was damaged since a start served. */
  lostOfNow = 0
  /** Places that were damaged and that no start can know of. */
  untold = 0
  /** Whether its cursor was lost: its totals began anew. What counted as lost until then. */
  isCursorLost = false
  lostBefore = 0
  /** Messages that are not there, where the disk was damaged: as many count as lost. */
  readonly missing = new Set<number>()
  /** Messages that stood in queues that are no more. */
  readonly goneWithQueues = new Set<number>()

  constructor(side: RemoteSide, cluster: ModelCluster) {
    this.side = side
    this.label = side === 'remote' ? 'default' : 'second'
    this.bit = side === 'remote' ? 1 : 2
    this.cluster = cluster
  }
}
