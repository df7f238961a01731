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
// An ack that did not say where in the log leaves the queue's word alone: passed over at two looks.
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

interface Suspicion {
  what: 'none there' | 'beyond the end'
  since: number
  /** The log's end at the first look. */
  end: number
  /** Whether all up to there could be read at the look before this one: before its queue was asked. */
  wasReadable: boolean
}

export class Inquiry {
  readonly #clock: Clock
  readonly #cluster: Cluster
  readonly #topic: string
  /** By sequence; of the places that were asked for last. */
  #suspicions = new Map<number, Suspicion>()

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
    const suspicions = new Map<number, Suspicion>()
    const verdicts = await Promise.all(places.map(place => this.#about(address, place, log, suspicions)))
    this.#suspicions = suspicions
    if (refusal !== undefined && verdicts.every(verdict => verdict === 'wait')) throw refusal
    return verdicts
  }

  async #about(
    address: string,
    place: Place,
    log: LogState | undefined,
    suspicions: Map<number, Suspicion>,
  ): Promise<Verdict> {
    const { commitLogOffset } = place
    const suspect = (what: Suspicion['what'], state: LogState): Verdict => {
      const known = this.#suspicions.get(place.sequence)
      // It may have lost more since, and never come to that end again.
      const isSame = known?.what === what && (what === 'beyond the end' || state.end >= known.end)
      const suspicion = isSame ? known : { what, since: this.#clock.now(), end: state.end, wasReadable: false }
      const { since, end, wasReadable } = suspicion
      suspicions.set(place.sequence, { ...suspicion, wasReadable: state.readable >= end })
      if (this.#clock.now() - since < PROOF_TIME) return 'wait'
      return what === 'beyond the end' || wasReadable ? 'source' : 'wait'
    }
    if (commitLogOffset < 0) return log === undefined ? 'wait' : suspect('none there', log)
    if (log !== undefined && commitLogOffset < log.start) return 'expired'
    if (log !== undefined && commitLogOffset >= log.end) return suspect('beyond the end', log)
    const record = await view(this.#cluster, address, commitLogOffset)
    const message = record && unpacked(record).find(stored => isTheAcked(place, stored))
    if (message !== undefined && message.topic === this.#topic) return message
    if (log === undefined) return 'wait'
    return record === undefined ? suspect('none there', log) : 'source'
  }
}
