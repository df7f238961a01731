// How long the source will still have what waits to be read back: an alarm when that is little.
//
// Asked every 10 s while there are gaps (28). Once the source has begun to forget, what was stored when its oldest message was
// is next: the time left is that between the oldest message and the gap. A source that never forgot anything says nothing.

import type { Clock } from './clock.ts'
import type { Cluster } from './cluster.ts'
import type { Log } from './log.ts'
import { logEnd } from './reading.ts'

const INTERVAL = 10_000
/** Milliseconds left below which it is an alarm, and between two words about it. */
const ALARM = 3_600_000
const SAY_AGAIN = 600_000

export interface RetentionContext {
  clock: Clock
  log: Log
  source: Cluster
  broker: string
  address(): string
  /** When the oldest message that has to be read back was acked; undefined where none has. */
  oldestGap(): number | undefined
}

export class Retention {
  /** Milliseconds until the source forgets something that has to be read back; infinite where that is not in sight. */
  timeLeft = Number.POSITIVE_INFINITY
  readonly #context: RetentionContext
  #cancel: () => void = () => {}
  #closed = false
  #saidAt = Number.NEGATIVE_INFINITY

  constructor(context: RetentionContext) {
    this.#context = context
  }

  start(): void {
    this.#cancel = this.#context.clock.after(
      INTERVAL,
      () => void this.#look().finally(() => this.#closed || this.start()),
    )
  }

  close(): void {
    this.#closed = true
    this.#cancel()
  }

  async #look(): Promise<void> {
    const { clock, log, source, broker, address, oldestGap } = this.#context
    const gap = oldestGap()
    if (gap === undefined) {
      this.timeLeft = Number.POSITIVE_INFINITY
      return
    }
    // Where it is not told nothing is known; that the source cannot be reached is said elsewhere.
    const state = await logEnd(source, address()).catch(() => undefined)
    if (state === undefined || this.#closed) return
    const isForgetting = state.start > 0 && state.oldestAt > 0
    this.timeLeft = isForgetting ? Math.max(0, gap - state.oldestAt) : Number.POSITIVE_INFINITY
    if (this.timeLeft >= ALARM || clock.uptime() - this.#saidAt < SAY_AGAIN) return
    this.#saidAt = clock.uptime()
    log.error(
      { broker, secondsLeft: Math.round(this.timeLeft / 1_000), oldestGap: new Date(gap).toISOString() },
      'the source will soon forget messages that are not replicated and not kept here',
    )
  }
}
