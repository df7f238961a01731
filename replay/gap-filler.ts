// Fills the gaps of one lane: reads back from the source the messages whose bodies are not here, in lane order.
//
// A round asks for the next few stretches at once and goes on beside the lane's sending. Where a message cannot be had,
// the lane waits and says so; it is given up as lost only where the source proves that it is gone: its offset is below
// the queue's oldest, or another message stands at its offset.

import type { StoredMessage } from '../codec/index.ts'
import type { Account, LostCause } from './account.ts'
import type { BodyMemory } from './body.ts'
import { asSent, isTheAcked, unpacked } from './check.ts'
import type { Cluster } from './cluster.ts'
import type { PlaceQueue } from './place-queue.ts'
import { PULL_MESSAGES_MAX, pull } from './reading.ts'

/** Places from the head of the lane within which gaps are filled ahead of being sent. */
const WINDOW = 512
const PULLS = 8

export interface GapSource {
  cluster: Cluster
  topic: string
  queueId: number
  /** Address of the source broker's master now. */
  address(): string
}

export class GapFiller {
  readonly #source: GapSource
  readonly #queue: PlaceQueue
  readonly #memory: BodyMemory
  readonly #account: Account
  readonly #giveUp: (index: number, cause: LostCause) => void
  #round: Promise<void> | undefined

  constructor(
    source: GapSource,
    queue: PlaceQueue,
    memory: BodyMemory,
    account: Account,
    giveUp: (index: number, cause: LostCause) => void,
  ) {
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
    const full = this.#memory.used > this.#memory.limit
    const window = Math.min(queue.span, full ? 1 : WINDOW)
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
    const { cluster, topic, queueId } = this.#source
    const address = this.#source.address()
    const answers = await Promise.all(starts.map(offset => pull(cluster, address, topic, queueId, offset)))
    const found = new Map<number, StoredMessage>()
    let minOffset = 0
    for (const answer of answers) {
      minOffset = Math.max(minOffset, answer.minOffset)
      for (const record of answer.messages)
        for (const message of unpacked(record)) found.set(message.queueOffset, message)
    }
    const queue = this.#queue
    let moved = 0
    for (let index = 0; index < Math.min(queue.span, WINDOW * 2); index++) {
      if (queue.isDone(index) || queue.body(index) !== undefined) continue
      const offset = queue.queueOffset(index)
      const stored = found.get(offset)
      if (stored === undefined) {
        if (offset >= minOffset) continue
        this.#giveUp(index, 'expired')
      } else if (!isTheAcked(queue.place(index), stored)) this.#giveUp(index, 'source')
      else {
        const body = asSent(queue.place(index), stored)
        this.#memory.keepAnyway(body)
        queue.setBody(index, body)
        this.#account.moved('queued')
        this.#account.readBack++
      }
      moved++
    }
    queue.trim()
    if (moved === 0) {
      const [answer] = answers
      throw new Error(
        `the source does not have ${topic} queue ${queueId} offset ${starts[0]} to read: it holds ${answer!.minOffset} to ${answer!.maxOffset - 1}`,
      )
    }
  }
}
