// The account of a source broker's messages, for the sum that holds at all times:
//
//   acked = replicated + queued + in gap + dead-lettered + skipped by rule + lost
//
// Each change is one synchronous step from one term to another, so that no scrape sees it half done. One message of a
// batch counts 1. Sends whose outcome nobody was told are counted apart.

import { SKIP_REASONS, type SkipReason } from './place.ts'

export type LostCause = 'expired' | 'source' | 'remote' | 'journal' | 'full'

/** What is kept with the cursor, so that it survives restarts. */
export interface Totals {
  replicated: number
  deadLettered: number
  skipped: Record<string, number>
  lost: Record<string, number>
  unresolved: number
  reordered: number
  unstamped: number
  sent: number
  sentAgain: number
}

export class Account {
  totals: Totals = {
    replicated: 0,
    deadLettered: 0,
    skipped: {},
    lost: {},
    unresolved: 0,
    reordered: 0,
    unstamped: 0,
    sent: 0,
    sentAgain: 0,
  }
  /** Acked, not done, with a body here. */
  queued = 0
  /** Acked, not done, to be read back from the source. */
  inGap = 0
  /** Read back from the source since the start. */
  readBack = 0
  /** Time of the latest ack of a message that is done since the start. */
  newestDoneAt = 0

  get acked(): number {
    const { replicated, deadLettered, skipped, lost } = this.totals
    return replicated + deadLettered + sum(skipped) + sum(lost) + this.queued + this.inGap
  }

  /** Not to be copied, by the number of its reason in the journal. */
  passedOver(skipReason: number): void {
    // Without a reason this remote had done it, and its cursor was lost since.
    const reason = SKIP_REASONS[skipReason] || 'before'
    if (reason === 'full') this.lostUnseen('full', 1)
    else this.skipped(reason as SkipReason | 'before', 1)
  }

  /** Skipped at the ack; `before`: acked before this remote was known, or while it was left out. */
  skipped(reason: SkipReason | 'before', count: number): void {
    this.totals.skipped[reason] = (this.totals.skipped[reason] ?? 0) + count
  }

  /** Accepted before it was known that it comes from where it would go. */
  skippedLate(reason: SkipReason, withBody: boolean): void {
    this.#left(withBody)
    this.skipped(reason, 1)
  }

  accepted(withBody: boolean): void {
    if (withBody) this.queued++
    else this.inGap++
  }

  /** Found at a start. */
  restored(withBody: number, inGap: number): void {
    this.queued += withBody
    this.inGap += inGap
  }

  /** A gap was filled, or a body given up. */
  moved(to: 'queued' | 'gap'): void {
    this.queued += to === 'queued' ? 1 : -1
    this.inGap += to === 'queued' ? -1 : 1
  }

  replicated(withBody: boolean): void {
    this.#left(withBody)
    this.totals.replicated++
  }

  /** The remote has lost its tail: these have to be found there again, or to be sent again. */
  unclearAgain(count: number): void {
    this.totals.replicated -= count
    this.inGap += count
  }

  /** They were done, may be gone at the remote, and nobody knows any more which they were. */
  lostAtRemote(count: number): void {
    if (count === 0) return
    this.totals.replicated -= count
    this.lostUnseen('remote', count)
  }

  deadLettered(withBody: boolean): void {
    this.#left(withBody)
    this.totals.deadLettered++
  }

  lost(cause: LostCause, withBody: boolean): void {
    this.#left(withBody)
    this.lostUnseen(cause, 1)
  }

  /** A page that cannot be read any more: messages with a body on disk, and gaps. */
  lostPage(cause: LostCause, withBody: number, inGap: number): void {
    this.queued -= withBody
    this.inGap -= inGap
    this.lostUnseen(cause, withBody + inGap)
  }

  /** Lost before it was counted as anything else: places that are missing from the journal. */
  lostUnseen(cause: LostCause, count: number): void {
    this.totals.lost[cause] = (this.totals.lost[cause] ?? 0) + count
  }

  /** So many that were found may count as lost: a disk did not give then what it gives now, or a name is known again. */
  foundAgain(cause: LostCause, count: number): void {
    const lost = this.totals.lost[cause] ?? 0
    if (count > 0 && lost > 0) this.totals.lost[cause] = Math.max(0, lost - count)
  }

  #left(withBody: boolean): void {
    if (withBody) this.queued--
    else this.inGap--
  }
}

function sum(counts: Record<string, number>): number {
  let total = 0
  for (const count of Object.values(counts)) total += count
  return total
}
