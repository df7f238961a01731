// Fills the gaps of one lane: reads back from the source the messages whose bodies are not here, in lane order.
//
// A round asks for the next few stretches at once and goes on beside the lane's sending. Where a message cannot be had,
// the lane waits and says so; it is given up as lost only where the source proves that it is gone: its offset is below
// the queue's oldest, or another message stands at its offset.

import type { StoredMessage } from '../codec/index.ts'
import type { Account, LostCause } from './account.ts'
import type { BodyMemory } from './body.ts'
import { asSent, hashIn, isTheAcked, unpacked } from './check.ts'
import { type Clock, sleep } from './clock.ts'
import type { Cluster } from './cluster.ts'
import { PlaceFlag } from './place.ts'
import type { PlaceQueue } from './place-queue.ts'
import { PULL_MESSAGES_MAX, pull } from './reading.ts'
import type { Turns } from './turns.ts'
import { WaitError } from './wait-error.ts'

/** Places from the head of the lane within which gaps are filled ahead of being sent. */
const WINDOW = 512
const PULLS = 8
/** Right after its ack a message cannot be read yet; milliseconds until the next look, and until that is worth saying. */
const NOT_YET_PAUSE = 20
const NOT_YET_MOST = 5_000

export interface GapSource {
  cluster: Cluster
  topic: string
  queueId: number
  /** Address of the source broker's master now. */
  address(): string
  /** All lanes of a broker share what it is asked at a time. */
  turns: Turns
}

export class GapFiller {
  readonly #clock: Clock
  readonly #source: GapSource
  readonly #queue: PlaceQueue
  readonly #memory: BodyMemory
  readonly #account: Account
  readonly #giveUp: (index: number, cause: LostCause) => void
  #round: Promise<void> | undefined
  /** Since when the first gap lies beyond what the source lets us read. */
  #notYetSince: number | undefined

  constructor(
    clock: Clock,
    source: GapSource,
    queue: PlaceQueue,
    memory: BodyMemory,
    account: Account,
    giveUp: (index: number, cause: LostCause) => void,
  ) {
    this.#clock = clock
    this.#source = source
    this.#queue = queue
    this.#memory = memory
    this.#account = account
    this.#giveUp = giveUp
  }

  /** The round that is under way, or one that begins now; undefined where nothing near the head is missing. */
  fill(): Promise<void> | undefined {
    if (this.#round !== undefined) return this.#round
    const starts = this.#starts()
    if (starts.length === 0) return undefined
    const round = this.#fill(starts).finally(() => {
      this.#round = undefined
    })
    // Who sends meanwhile does not wait for it; who finds its head missing does, and gets the error.
    round.catch(() => {})
    this.#round = round
    return round
  }

  /** Offsets to read from. While memory is full, only what the head itself needs. */
  #starts(): number[] {
    const queue = this.#queue
    const window = Math.min(queue.span, this.#memory.isFull ? 1 : WINDOW)
    const starts: number[] = []
    let from = 0
    for (let index = 0; index < window && starts.length < PULLS; index++) {
      if (queue.isDone(index) || queue.body(index) !== undefined) continue
      const offset = queue.queueOffset(index)
      if (starts.length > 0 && offset >= from && offset < from + PULL_MESSAGES_MAX) continue
      from = offset
      starts.push(offset)
    }
    return starts
  }

  async #fill(starts: readonly number[]): Promise<void> {
    const { cluster, topic, queueId, turns } = this.#source
    const address = this.#source.address()
    const answers = await Promise.all(
      starts.map((offset, index) =>
        turns.take(async () =>
          // Many lanes may have begun while there was room.
          index > 0 && this.#memory.isFull ? undefined : pull(cluster, address, topic, queueId, offset),
        ),
      ),
    )
    const found = new Map<number, StoredMessage>()
    let minOffset = 0
    let maxOffset = 0
    for (const answer of answers) {
      if (answer === undefined) continue
      minOffset = Math.max(minOffset, answer.minOffset)
      maxOffset = Math.max(maxOffset, answer.maxOffset)
      for (const record of answer.messages)
        for (const message of unpacked(record)) found.set(message.queueOffset, message)
    }
    if (this.#take(found, minOffset)) {
      this.#notYetSince = undefined
      return
    }
    const [offset] = starts as [number]
    if (offset >= maxOffset) {
      this.#notYetSince ??= this.#clock.now()
      if (this.#clock.now() - this.#notYetSince < NOT_YET_MOST) return sleep(this.#clock, NOT_YET_PAUSE)
    }
    throw new WaitError(
      `the source does not let the lane read what was acked in ${topic} queue ${queueId}`,
      `offset ${offset}; the queue has ${minOffset} to ${maxOffset - 1}`,
    )
  }

  /** Gives the lane what was found; false where none of it helps. */
  #take(found: ReadonlyMap<number, StoredMessage>, minOffset: number): boolean {
    const queue = this.#queue
    let moved = false
    for (let index = 0; index < Math.min(queue.span, WINDOW * 2); index++) {
      if (queue.isDone(index) || queue.body(index) !== undefined) continue
      const offset = queue.queueOffset(index)
      const stored = found.get(offset)
      if (stored === undefined) {
        if (offset >= minOffset) continue
        this.#giveUp(index, 'expired')
      } else if (!isTheAcked(queue.place(index), stored)) this.#giveUp(index, 'source')
      else {
        if (moved && this.#memory.isFull) break
        const { placeFlags } = queue.place(index)
        if ((placeFlags & PlaceFlag.AGAIN) !== 0)
          queue.setCheck(index, stored.bornTimestamp, hashIn(stored, placeFlags))
        const body = asSent(queue.place(index), stored)
        this.#memory.keepAnyway(body)
        queue.setBody(index, body)
        this.#account.moved('queued')
        this.#account.readBack++
      }
      moved = true
    }
    queue.trim()
    return moved
  }
}
