// What became of acked messages that their queue at the source does not give? Asked by their commit-log offsets.
//
// The log is the last word: a message that stands there is had, whatever became of its topic or of the index. It is
// lost only on proof:
//
//   expired   its commit-log offset is below the log's oldest (28)
//   source    another record stands there, while the log's end (28) is beyond it: the source has lost its tail, and gone on;
//             or none does, at two looks 5 s apart, with all readable by queue that was stored before the first (with a
//             transient store pool one look misses what is not committed);
//             or the log's end stays at or below it for 5 s: the source has lost its tail
//
// An ack that did not say where in the log leaves the queue's word alone: passed over at two looks. Who asks has read there.
// No answer, or a refusal, is no proof.

import type { StoredMessage } from '../codec/index.ts'
import type { LostCause } from './account.ts'
import { isTheAcked, unpacked } from './check.ts'
import type { Clock } from './clock.ts'
import { type Cluster, RefusedError } from './cluster.ts'
import type { Place } from './place.ts'
import { type LogState, logEnd, view } from './reading.ts'

/** Milliseconds between the two looks. */
const PROOF_TIME = 5_000

export type Verdict = StoredMessage | LostCause | 'wait'

/** What was asked for, and does not stand there. */
export interface Missed {
  /** Uptime at the first look, and the log's end then. A wall clock that is set forward proves nothing. */
  since: number
  end: number
  /** Whether all up to there could be read at the look before the next one: before its queue was asked. */
  wasReadable: boolean
}

/** None stands there at one look more: what is known of it from now on, and whether the source is proven to have lost it. */
export function missedAgain(
  before: Missed | undefined,
  { end, readable }: Pick<LogState, 'end' | 'readable'>,
  now: number,
): { missed: Missed; isLost: boolean } {
  // It may have lost more since, and never come to that end again.
  const first = before !== undefined && end >= before.end ? before : { since: now, end, wasReadable: false }
  const isLost = now - first.since >= PROOF_TIME && first.wasReadable
  return { missed: { ...first, wasReadable: readable >= first.end }, isLost }
}

/** By sequence. */
interface Suspicions {
  missed: Map<number, Missed>
  /** Uptime since which the log ends at or below it. */
  beyondSince: Map<number, number>
}

export class Inquiry {
  readonly #clock: Clock
  readonly #cluster: Cluster
  readonly #topic: string
  /** Of the places that were asked for last. */
  #suspicions: Suspicions = { missed: new Map(), beyondSince: new Map() }

  constructor(clock: Clock, cluster: Cluster, topic: string) {
    this.#clock = clock
    this.#cluster = cluster
    this.#topic = topic
  }

  /** The verdicts on these places, in their order. Throws LinkError, and RefusedError where nothing else is known. */
  async about(address: string, places: readonly Place[]): Promise<Verdict[]> {
    let log: LogState | undefined
    let refusal: RefusedError | undefined
    try {
      log = await logEnd(this.#cluster, address)
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      refusal = error
    }
    const suspicions: Suspicions = { missed: new Map(), beyondSince: new Map() }
    const verdicts = await Promise.all(places.map(place => this.#about(address, place, log, suspicions)))
    this.#suspicions = suspicions
    if (refusal !== undefined && verdicts.every(verdict => verdict === 'wait')) throw refusal
    return verdicts
  }

  async #about(address: string, place: Place, log: LogState | undefined, suspicions: Suspicions): Promise<Verdict> {
    const { commitLogOffset, sequence } = place
    const noneThere = (state: LogState): Verdict => {
      const { missed, isLost } = missedAgain(this.#suspicions.missed.get(sequence), state, this.#clock.uptime())
      suspicions.missed.set(sequence, missed)
      return isLost ? 'source' : 'wait'
    }
    if (commitLogOffset < 0) return log === undefined ? 'wait' : noneThere(log)
    if (log !== undefined && commitLogOffset < log.start) return 'expired'
    if (log !== undefined && commitLogOffset >= log.end) {
      const now = this.#clock.uptime()
      const since = this.#suspicions.beyondSince.get(sequence) ?? now
      suspicions.beyondSince.set(sequence, since)
      return now - since < PROOF_TIME ? 'wait' : 'source'
    }
    const record = await view(this.#cluster, address, commitLogOffset)
    const message = record && unpacked(record).find(stored => isTheAcked(place, stored))
    if (message !== undefined && message.topic === this.#topic) return message
    if (log === undefined) return 'wait'
    return record === undefined ? noneThere(log) : 'source'
  }
}
