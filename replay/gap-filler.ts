// Fills the gaps of one lane: reads back from the source the messages whose bodies are not here, in lane order.
//
// A round asks for the next few stretches at once and goes on beside the lane's sending. Where a message cannot be had,
// the lane waits and says so; it is given up as lost only where the source proves that it is gone: its offset is below
// the queue's oldest, or what the log says of it (inquiry.ts) when the queue does not give it: it passes over it, has something
// else there, does not reach so far, or is no more.

import { ResponseCode, type StoredMessage } from '../codec/index.ts'
import type { Account, LostCause } from './account.ts'
import type { BodyMemory } from './body.ts'
import { asSent, hashIn, isTheAcked, unpacked } from './check.ts'
import { type Clock, sleep } from './clock.ts'
import { type Cluster, RefusedError } from './cluster.ts'
import type { Fold } from './folded-places.ts'
import { Inquiry, type Verdict } from './inquiry.ts'
import type { Found } from './kept-bodies.ts'
import type { KnownEnds } from './known-ends.ts'
import { type Place, PlaceFlag } from './place.ts'
import type { Reader } from './reader.ts'
import { isQueueGone, PULL_MESSAGES_MAX, type Pulled, pull } from './reading.ts'
import { proofOf } from './settle.ts'
import type { Turns } from './turns.ts'
import { WaitError } from './wait-error.ts'

/** Places from the head of the lane within which gaps are filled ahead of being sent. */
const WINDOW = 512
const PULLS = 8
/** The same within which what was found is taken: the head moves meanwhile. */
const TAKEN = WINDOW * 2
/** Right after its ack a message cannot be read yet; milliseconds until the next look, and until its log is asked. */
const NOT_YET_PAUSE = 20
const NOT_YET_MOST = 1_000
/** Places asked for by their commit-log offsets at a time. */
const INQUIRIES = 32
/** Milliseconds for which the source has to refuse what the journal should have, and has not, until it is lost. */
const REFUSED_MOST = 60_000
/** With more than this between two refusals nobody asked meanwhile, and the second is a new one. */
const REFUSED_APART = 30_000

const REFUSALS: ReadonlySet<number> = new Set([ResponseCode.NO_PERMISSION, ResponseCode.NOT_LEADER_FOR_QUEUE])

/** Of a queue that is not there (any more). */
const GONE: Pulled = { messages: [], nextOffset: 0, minOffset: 0, maxOffset: 0 }

/** Of folds: as `proofOf` has it. */
type Proofs = Map<Fold, 'fits' | LostCause | undefined>

export interface GapSource {
  cluster: Cluster
  topic: string
  queueId: number
  /** Address of the source broker's master now. */
  address(): string
  /** All lanes of a broker share what it is asked at a time. */
  turns: Turns
  /** The lane's: of a place that is unclear again no more is known than its fold. */
  ends(): Pick<KnownEnds, 'foldOf' | 'isAgain'>
  /** What was found at the remote, of pages that came into memory meanwhile, is done: it must not count as lost. */
  passArrived(): void
  /** What the journal has of these, that may not be had from the source. */
  kept(places: readonly Place[]): Promise<Found>
  /** It does not let us read. */
  refused(reason: string): void
}

export class GapFiller {
  /** Whether a body is missing that the journal may have kept. */
  needsKept = false
  readonly #clock: Clock
  readonly #source: GapSource
  readonly #queue: Reader
  readonly #memory: BodyMemory
  readonly #account: Account
  readonly #giveUp: (index: number, cause: LostCause) => void
  readonly #inquiry: Inquiry
  #round: Promise<void> | undefined
  /** Uptime since which the first gap lies beyond what the source lets us read. */
  #notYetSince: number | undefined
  /** What the journal should have, and has not, by sequence; and from which uptime to which the source has refused that at each round. */
  #absent = new Map<number, LostCause>()
  #refused: { since: number; last: number } | undefined

  constructor(
    clock: Clock,
    source: GapSource,
    queue: Reader,
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
    this.#inquiry = new Inquiry(clock, source.cluster, source.topic)
  }

  /** The round that is under way, or one that begins now; undefined where nothing near the head is missing. */
  fill(): Promise<void> | undefined {
    if (this.#round !== undefined) return this.#round
    const starts = this.#starts()
    if (starts.length === 0) {
      // While memory is full only the head was looked at.
      this.needsKept &&= !this.#gaps(WINDOW).next().done
      return undefined
    }
    const round = this.#fill(starts).finally(() => {
      this.#round = undefined
      if (this.#queue.count === 0) this.nothingWaits()
    })
    // Who sends meanwhile does not wait for it; who finds its head missing does, and gets the error.
    round.catch(() => {})
    this.#round = round
    return round
  }

  /** What was missing was found, or is lost: no round comes to say so. */
  nothingWaits(): void {
    this.needsKept = false
  }

  /** Resolves when the round that is under way has ended, however. */
  async ended(): Promise<void> {
    await this.#round?.catch(() => {})
  }

  /** Indexes of what is missing, so far from the head. What is filled meanwhile is one no more; what is done moves them. */
  *#gaps(window: number): Generator<number> {
    const queue = this.#queue
    for (let index = 0; index < Math.min(queue.span, window); index++)
      if (!queue.isOut(index) && !queue.isDone(index) && queue.body(index) === undefined) yield index
  }

  /** While memory is full, only what the head itself needs. */
  get #window(): number {
    return this.#memory.isFull ? 1 : WINDOW
  }

  /** Offsets to read from. */
  #starts(): number[] {
    const starts: number[] = []
    let from = 0
    for (const index of this.#gaps(this.#window)) {
      if (starts.length === PULLS) break
      const offset = this.#queue.queueOffset(index)
      if (starts.length > 0 && offset >= from && offset < from + PULL_MESSAGES_MAX) continue
      from = offset
      starts.push(offset)
    }
    return starts
  }

  async #fill(starts: readonly number[]): Promise<void> {
    // That says nothing of what is missing still.
    if (await this.#takeKept()) return
    let refused: { since: number; last: number } | undefined
    try {
      await this.#fillFromSource(starts)
      this.needsKept = false
    } catch (error) {
      if (this.#absent.size === 0 || !isRefusal(error)) throw error
      const now = this.#clock.uptime()
      const before = this.#refused
      refused = { since: before !== undefined && now - before.last < REFUSED_APART ? before.since : now, last: now }
      if (now - refused.since < REFUSED_MOST || !this.#giveUpAbsent()) throw error
    } finally {
      // Any other end of a round says that it is not refused all the time.
      this.#refused = refused
    }
  }

  /** Takes what the journal has kept; false where it has not what is missing first: that is to be had from the source, or waited for. */
  async #takeKept(): Promise<boolean> {
    const queue = this.#queue
    const wanted: Place[] = []
    let first: Place | undefined
    this.#absent.clear()
    for (const index of this.#gaps(this.#window)) {
      const place = queue.place(index)
      first ??= place
      if ((place.placeFlags & PlaceFlag.JOURNALED) !== 0) wanted.push(place)
    }
    this.needsKept = wanted.length > 0
    if (!this.needsKept) return false
    const { bodies, cause } = await this.#source.kept(wanted)
    if (bodies.size === wanted.length) this.#refused = undefined
    for (const place of wanted)
      if (cause !== undefined && !bodies.has(place.sequence))
        this.#absent.set(place.sequence, isAgain(place) ? cause : 'journal')
    let filled = 0
    this.#source.passArrived()
    // What was done meanwhile has moved the others.
    for (const index of this.#gaps(TAKEN)) {
      const place = queue.place(index)
      const found = bodies.get(place.sequence)
      if (found === undefined) continue
      if (index > 0 && this.#memory.isFull) break
      if (isAgain(place)) queue.setCheck(index, found.place.bornTimestamp, found.place.hash)
      this.#memory.keepAnyway(found.body)
      queue.fill(index, found.body)
      filled++
    }
    this.needsKept = filled < wanted.length
    return bodies.has(first!.sequence)
  }

  /** What the journal has not, and the source has refused for long enough, is lost. */
  #giveUpAbsent(): boolean {
    const lost: [index: number, cause: LostCause][] = []
    this.#source.passArrived()
    for (const index of this.#gaps(TAKEN)) {
      const cause = this.#absent.get(this.#queue.place(index).sequence)
      if (cause !== undefined) lost.push([index, cause])
    }
    this.#giveUpAll(lost)
    return lost.length > 0
  }

  async #fillFromSource(starts: readonly number[]): Promise<void> {
    const { topic, queueId, turns } = this.#source
    const address = this.#source.address()
    const answers = await Promise.all(
      starts.map((offset, index) =>
        turns.take(async () =>
          // Many lanes may have begun while there was room.
          index > 0 && this.#memory.isFull ? undefined : this.#pull(address, offset),
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
    const proofs = await this.#proofs(address, found)
    if (this.#take(found, proofs, minOffset)) {
      this.#notYetSince = undefined
      return
    }
    const [offset] = starts as [number]
    if (offset >= maxOffset && answers[0] !== GONE) {
      this.#notYetSince ??= this.#clock.uptime()
      if (this.#clock.uptime() - this.#notYetSince < NOT_YET_MOST) return sleep(this.#clock, NOT_YET_PAUSE)
    }
    const wasRead = (offset: number) =>
      answers.some((answer, index) => answer !== undefined && isOf(starts[index]!, answer, offset))
    const isMissed = (place: Place) => {
      const stored = found.get(place.queueOffset)
      return wasRead(place.queueOffset) && (stored === undefined || this.#verdict(place, stored, proofs) === undefined)
    }
    if (await this.#inquire(address, isMissed)) {
      this.#notYetSince = undefined
      return
    }
    throw new WaitError(
      `the source does not let the lane read what was acked in ${topic} queue ${queueId}`,
      answers[0] === GONE
        ? `offset ${offset}; the queue is no more`
        : `offset ${offset}; the queue has ${minOffset} to ${maxOffset - 1}`,
    )
  }

  async #pull(address: string, offset: number): Promise<Pulled> {
    const { cluster, topic, queueId } = this.#source
    try {
      return await pull(cluster, address, topic, queueId, offset)
    } catch (error) {
      if (isQueueGone(error)) return GONE
      if (error instanceof RefusedError) this.#source.refused(error.message)
      throw error
    }
  }

  /**
   * Asks for the first places that are missing by their commit-log offsets; of those that have none only for what the queue was asked for now,
   * and has not given (`isMissed`). False where that changes nothing.
   */
  async #inquire(address: string, isMissed: (place: Place) => boolean): Promise<boolean> {
    const queue = this.#queue
    const places: Place[] = []
    for (const index of this.#gaps(WINDOW)) {
      if (places.length === INQUIRIES) break
      const place = queue.place(index)
      if (place.commitLogOffset >= 0 || isMissed(place)) places.push(place)
    }
    const verdicts = await this.#source.turns.take(() => this.#inquiry.about(address, places))
    const bySequence = new Map<number, Verdict>()
    for (const [index, { sequence }] of places.entries()) bySequence.set(sequence, verdicts[index]!)
    const lost: [index: number, cause: LostCause][] = []
    let filled = 0
    this.#source.passArrived()
    // What was done meanwhile has moved the others.
    for (const index of this.#gaps(WINDOW)) {
      const place = queue.place(index)
      const verdict = bySequence.get(place.sequence)
      if (verdict === undefined || verdict === 'wait') continue
      if (typeof verdict === 'string') lost.push([index, verdict])
      else if (index > 0 && this.#memory.isFull) break
      else {
        this.#fillIn(index, place, verdict)
        filled++
      }
    }
    this.#giveUpAll(lost)
    return filled + lost.length > 0
  }

  /**
   * Of what was found and is known by its fold only: whether the proofs of these folds stand now, after it was read. The source may have lost its tail
   * since they were proven, and have others at their offsets.
   */
  async #proofs(address: string, found: ReadonlyMap<number, StoredMessage>): Promise<Proofs> {
    const { cluster, topic, queueId, turns } = this.#source
    const ends = this.#source.ends()
    if (!ends.isAgain) return new Map()
    const queue = this.#queue
    const folds = new Set<Fold>()
    for (const index of this.#gaps(TAKEN)) {
      if (!found.has(queue.queueOffset(index))) continue
      const place = queue.place(index)
      const fold = isAgain(place) ? ends.foldOf(place) : undefined
      if (fold !== undefined) folds.add(fold)
    }
    const proofs: Proofs = new Map()
    const ask = async (fold: Fold) =>
      proofs.set(fold, await turns.take(() => proofOf(cluster, address, topic, queueId, fold)))
    await Promise.all([...folds].map(ask))
    return proofs
  }

  /** Gives the lane what was found; false where none of it helps. */
  #take(found: ReadonlyMap<number, StoredMessage>, proofs: Proofs, minOffset: number): boolean {
    const queue = this.#queue
    const lost: [index: number, cause: LostCause][] = []
    let filled = 0
    this.#source.passArrived()
    for (const index of this.#gaps(TAKEN)) {
      const offset = queue.queueOffset(index)
      const stored = found.get(offset)
      if (stored === undefined) {
        if (offset < minOffset) lost.push([index, 'expired'])
        continue
      }
      const place = queue.place(index)
      const verdict = this.#verdict(place, stored, proofs)
      // Another message: its log is asked.
      if (verdict === undefined) continue
      if (verdict !== 'fits') lost.push([index, verdict])
      // The head needs it, and nobody else while memory is full.
      else if (index > 0 && this.#memory.isFull) break
      else {
        this.#fillIn(index, place, stored)
        filled++
      }
    }
    this.#giveUpAll(lost)
    return filled + lost.length > 0
  }

  /** Whether what was found is what was acked; undefined where that says nothing. */
  #verdict(place: Place, stored: StoredMessage, proofs: Proofs): 'fits' | LostCause | undefined {
    if (!isAgain(place)) return isTheAcked(place, stored) ? 'fits' : undefined
    const fold = this.#source.ends().foldOf(place)
    return fold && proofs.get(fold)
  }

  /** From the last on: what is done at the head moves the indexes. */
  #giveUpAll(lost: readonly [index: number, cause: LostCause][]): void {
    for (const [index, cause] of lost.toReversed()) this.#giveUp(index, cause)
  }

  #fillIn(index: number, place: Place, stored: StoredMessage): void {
    if (isAgain(place)) this.#queue.setCheck(index, stored.bornTimestamp, hashIn(stored, place.placeFlags))
    const body = asSent(place, stored)
    this.#memory.keepAnyway(body)
    this.#queue.fill(index, body)
    this.#account.readBack++
  }
}

/** Whether the source does not let it be read, and not only now: a broker that is busy or has troubles of its own says other codes. */
function isRefusal(error: unknown): boolean {
  return error instanceof RefusedError && (REFUSALS.has(error.code) || isQueueGone(error))
}

/** Whether an answer to reading from `start` on tells of what stands at this offset, or that nothing does. */
function isOf(start: number, { nextOffset, maxOffset }: Pulled, offset: number): boolean {
  return offset === start || (offset > start && (offset < nextOffset || offset >= maxOffset))
}

/** Whether it is known by its fold only. */
function isAgain({ placeFlags }: Place): boolean {
  return (placeFlags & PlaceFlag.AGAIN) !== 0
}
