// Checkpoints of a source broker: a cursor of what is done for each remote, and then the end of what that makes needless, in journal,
// blocks, kept bodies and names of epochs. One at a time, once a second, and whenever somebody has to rest on one.
//
// What a cursor says is the feed's (feed.ts), how it lies on disk the slot's (cursor.ts).

import { Coalesced } from './coalesced.ts'
import type { Environment } from './environment.ts'
import type { Feed } from './feed.ts'
import type { Journal } from './journal.ts'
import type { KeptBodies } from './kept-bodies.ts'
import type { KeptNeed } from './kept-need.ts'
import { eraOf } from './place.ts'
import { PLACES_SEGMENTS, type Room } from './room.ts'
import type { Spill } from './spill.ts'
import type { UncleanEnd } from './unclean-end.ts'

/** Milliseconds between two of them. */
const INTERVAL = 1_000
/** Between two words on files that cannot be removed. */
const NOT_REMOVED_AGAIN = 600_000

export interface CheckpointsContext {
  environment: Pick<Environment, 'clock' | 'log'>
  /** The source broker's name. */
  broker: string
  journal: Journal
  spill: Spill
  kept: KeptBodies
  keptNeed: KeptNeed
  room: Room
  uncleanEnd: UncleanEnd
  feeds: readonly Feed[]
  /** What is appended and not with its lane yet lies behind this: no cursor covers it. */
  sequence(): number
  /** Ordinal of the newest epoch that has a number. */
  epoch(): number
}

export class Checkpoints {
  readonly #context: CheckpointsContext
  readonly #runs = new Coalesced(() => this.#checkpoint())
  /** Whether something rests on what the next says, as a start does. */
  #isRestedOn = true
  /** When it was last said that a file could not be removed. */
  #notRemovedSaidAt = Number.NEGATIVE_INFINITY
  #cancelTimer: (() => void) | undefined
  #closed = false

  constructor(context: CheckpointsContext) {
    this.#context = context
  }

  start(): void {
    const { clock, log } = this.#context.environment
    this.#cancelTimer = clock.after(INTERVAL, () => {
      this.run()
        .catch(error => log.error({ err: error }, 'a cursor could not be written'))
        .finally(() => this.#closed || this.start())
    })
  }

  /** None comes by itself any more. */
  close(): void {
    this.#closed = true
    this.#cancelTimer?.()
  }

  /** Resolves when one is done that knows the caller's change. Rejects where a cursor could not be written. */
  run(): Promise<void> {
    return this.#runs.run()
  }

  /** As run(), and both slots of each cursor say it: whatever becomes of one, the other is not older. */
  restOn(): Promise<void> {
    this.#isRestedOn = true
    return this.run()
  }

  /** It is tried at the next checkpoint, and holds up nobody who waits for a cursor. */
  notRemoved(error: Error): void {
    const { environment, broker } = this.#context
    const { clock, log } = environment
    if (clock.uptime() - this.#notRemovedSaidAt < NOT_REMOVED_AGAIN) return
    this.#notRemovedSaidAt = clock.uptime()
    log.error({ err: error, broker }, 'files of the journal could not be removed, or not be kept under another name')
  }

  async #checkpoint(): Promise<void> {
    const { environment, journal, spill, kept, keptNeed, room, uncleanEnd, feeds, sequence, epoch } = this.#context
    await uncleanEnd
      .mark()
      .catch(error => environment.log.error({ err: error }, 'it could not be noted that a process runs'))
    await room.look()
    const stale = journal.oldestBeyond(PLACES_SEGMENTS)
    if (stale !== undefined) spill.force(stale)
    const common = {
      sequence: sequence(),
      nextSegmentId: journal.nextSegmentId + 1,
      nextEpoch: epoch() + 1,
      topics: journal.topics,
      epochIds: [...journal.epochIds],
    }
    const oldestEra = this.#oldestEra()
    const writes = feeds.map(feed => feed.snapshot(common, oldestEra))
    const needless = spill.needless()
    const isRestedOn = this.#isRestedOn
    this.#isRestedOn = false
    try {
      await journal.checkpoint(async areSegmentsNeedless => {
        const both = isRestedOn || areSegmentsNeedless || needless.length > 0
        // One that fails does not end the others, and the next are not to be written beside them.
        const written = await Promise.allSettled(writes.map(write => write(both)))
        for (const one of written) if (one.status === 'rejected') throw one.reason
      })
    } catch (error) {
      this.#isRestedOn ||= isRestedOn
      throw error
    }
    for (const file of needless) await spill.remove(file).catch(error => this.notRemoved(error as Error))
    if (needless.length > 0) await room.look()
    keptNeed.lookAgain()
    await kept.forget(Math.min(...feeds.map(feed => feed.answeredUntil)))
    // What was acked meanwhile may be of an older one.
    const oldestNamed = Math.min(oldestEra, this.#oldestEra(), ...feeds.map(feed => feed.oldestKnownEra))
    for (const epoch of journal.epochIds.keys()) if (eraOf(epoch) < oldestNamed) journal.epochIds.delete(epoch)
  }

  /** Of the eras of which anything is on disk: cursors have to say what of it is done. */
  #oldestEra(): number {
    const { journal, spill, epoch } = this.#context
    return Math.min(epoch(), journal.oldestEra ?? epoch(), spill.oldestEra)
  }
}
