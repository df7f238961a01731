// What is known of the end of a lane's remote queue, and finding out what of ours stands there: after its broker was settled
// anew, after an unclear answer, and at a start.
//
// First whether what is known to be there still is; what is not is unclear again, and goes first, in the order in which it
// was sent. Then what had arrived of what is unclear. It reads; it sends nothing.

import type { LostCause } from './account.ts'
import type { Cluster } from './cluster.ts'
import type { RemoteQueue } from './cursor.ts'
import type { Fold, Foldable } from './folded-places.ts'
import { type Missed, missedAgain } from './inquiry.ts'
import { type EncodedKnownEnds, type KnownEnd, KnownEnds } from './known-ends.ts'
import { lostTail, originOf, passAgain, placesOf, type SourceQueue, type TailContext, whereIs } from './lost-tail.ts'
import type { Page } from './page.ts'
import { inOrder, type Place, PlaceFlag } from './place.ts'
import type { Reader, Waiting } from './reader.ts'
import { logEnd, maxOffset } from './reading.ts'
import type { RemoteBroker, Settled } from './remote-broker.ts'
import { type Arrived, arrived, placeKey, proofOf, traceKey } from './settle.ts'
import { StoppedError } from './stopped-error.ts'
import { WaitError } from './wait-error.ts'

/** Offsets of torn messages that are said. */
const TORN_SAID = 10

export interface RemoteTailContext extends TailContext {
  source: Cluster
  sourceAddress(): string
  checkpoint(): Promise<void>
}

/** What the lane does with what is found out. */
export interface TailLane {
  isStopped(): boolean
  /** A place that is in its queue no more. */
  lost(place: Foldable, cause: LostCause): void
}

export class RemoteTail {
  ends = new KnownEnds()
  /** Whether messages of the lane may be at the remote without our knowing. */
  isUnclear = false
  /** What is known to be there is to be looked after. */
  mustLook = false
  readonly #context: RemoteTailContext
  readonly #source: SourceQueue
  readonly #queue: Reader
  readonly #lane: TailLane
  /** How often it was to look again. */
  #asked = 0
  /** The settling of the remote broker that is known here. */
  #settling = 0
  /** Whether the tail may be lost, though the link lives. */
  #isInDoubt = false
  /**
   * Reading begins there at most: where something was last answered, or where the last reading began, as long as what it found
   * is not passed. A known end that is newer says nothing of that.
   */
  #readFrom = Number.POSITIVE_INFINITY
  /** Unclear since a tail was lost, and not among the places yet: their source has to prove them first. */
  #toProve: Fold[] = []
  readonly #proofs = new Map<Fold, 'fits' | LostCause>()
  /** Where none stood so far. */
  readonly #missed = new Map<Fold, Missed>()
  /** The highest remote offset of what the lane has passed or stored since that reading: what is found below it is out of order. */
  #highest = -1
  /** Indexes in the backlog of what was found behind what was not: out of order, if that is sent. */
  #ahead: { index: number; epoch: number; queueOffset: number }[] = []
  /** Those of a process before this one. */
  #aheadBefore: EncodedKnownEnds['ahead']
  /** What was found at the remote. The lane may have more of it behind what is in memory now, up to an index. */
  #arrived: (Pick<Arrived, 'places' | 'unstamped'> & { until: number }) | undefined
  /** What was lost is known here, and to no slot. */
  #isToBeWritten = false
  /** Numbers for places that the journal does not have to know any more: below all of its own. */
  #againSequence = -1

  constructor(context: RemoteTailContext, source: SourceQueue, queue: Reader, lane: TailLane) {
    this.#context = context
    this.#source = source
    this.#queue = queue
    this.#lane = lane
  }

  /** What was known before this start; returns how many places are unclear since the remote lost its tail. */
  restore(encoded: EncodedKnownEnds): number {
    this.ends = KnownEnds.decode(encoded)
    const { again } = this.ends
    this.#readFrom = encoded.readFrom ?? Number.POSITIVE_INFINITY
    this.#highest = encoded.highest ?? -1
    this.#aheadBefore = encoded.ahead
    this.#toProve = [...again.folds]
    return again.count
  }

  /** For a slot of the cursor: undefined where nothing is known. */
  encode(bytesMax: number): EncodedKnownEnds | undefined {
    const isPending = this.#readFrom < Number.POSITIVE_INFINITY
    const ahead = this.#encodedAhead
    if (this.ends.isEmpty && !isPending && ahead === undefined) return undefined
    return {
      ...this.ends.encode(bytesMax),
      ...(isPending ? { readFrom: this.#readFrom, highest: this.#highest } : {}),
      ...(ahead === undefined ? {} : { ahead }),
    }
  }

  /** Whether anything is unclear since a tail was lost, and not in the queue yet. */
  get hasToProve(): boolean {
    return this.#toProve.length > 0
  }

  /** Whether there is something to find out. */
  get hasToLook(): boolean {
    return this.mustLook || this.isUnclear || this.hasToProve
  }

  lookAgain(): void {
    this.mustLook = !this.ends.isEmpty
    this.#asked++
  }

  /** A send was said to be stored where that cannot be, or was not said where: at this offset, or nobody knows. */
  doubt(offset: number | undefined): void {
    this.isUnclear = true
    this.#isInDoubt = true
    this.#readFrom = Math.min(this.#readFrom, offset ?? Number.POSITIVE_INFINITY)
  }

  /** The lane goes to another queue; gives away what is known of this one. */
  leave(): KnownEnds {
    this.isUnclear = false
    this.#forgetReading()
    this.#ahead = []
    this.#aheadBefore = undefined
    this.#settling = 0
    return this.ends.leave()
  }

  /** What a queue that the lane has left has lost goes first. */
  sendAgain(folds: readonly Fold[]): void {
    this.ends.againFirst(folds)
    this.#toProve.unshift(...folds)
    this.#isToBeWritten = true
  }

  /** Finds out what of ours the remote queue has, where that is not known; returns how many messages were found. */
  async look(broker: RemoteBroker, settled: Settled, target: RemoteQueue): Promise<number> {
    const isAnew = settled.number !== this.#settling
    const asked = this.#asked
    // The link lives, and an answer was unclear: what the broker did is done, but may not be readable yet.
    if (!isAnew && (this.isUnclear || this.#isInDoubt)) await broker.readable()
    // Where reading begins, too: a topic that was made anew since ends below it.
    if (this.isUnclear || this.#isInDoubt || (isAnew && !this.ends.isEmpty))
      await this.#lookAfterTail(settled.address, target)
    const there = this.isUnclear ? await this.#read(settled.address, target) : undefined
    if (this.#toProve.length > 0) await this.#prove(there)
    const found = there === undefined ? 0 : await this.#findOut(there, target)
    this.#settling = settled.number
    this.#isInDoubt = false
    // Its broker may have been settled once more meanwhile.
    if (this.#asked === asked) this.mustLook = false
    // What is sent again may come to stand just where it stood: the next process must know that it was gone. A disk that fails now
    // holds up nothing.
    if (this.#isToBeWritten) {
      this.#isToBeWritten = false
      await this.#context.checkpoint().catch(() => {})
    }
    return found
  }

  /** What is known to be there and is no more is unclear again. */
  async #lookAfterTail(address: string, target: RemoteQueue): Promise<void> {
    if (this.ends.ends.length > 0) {
      const lost = await lostTail(this.#context, address, this.#source, target, this.ends)
      if (lost === undefined) return
      this.#toProve.unshift(...lost.folds)
      this.isUnclear = true
    } else {
      const { cluster } = this.#context.remote
      if ((await maxOffset(cluster, address, this.#source.topic, target.queueId)) >= target.end) return
      target.end = 0
    }
    this.#isToBeWritten = true
  }

  /**
   * Places that are unclear again go first, in the order in which they were sent. What the source cannot be proven to have any
   * more is lost, where the remote has not got it either.
   */
  async #prove(there: Arrived | undefined): Promise<void> {
    const { source, sourceAddress } = this.#context
    const { topic, queueId } = this.#source
    // More may come meanwhile.
    const toProve = [...this.#toProve]
    for (const fold of toProve) {
      if (this.#proofs.has(fold)) continue
      // Its bodies are here; what is not is asked for, and proven, one by one.
      const isHere = (fold.placeFlags & PlaceFlag.JOURNALED) !== 0
      const proof = isHere ? 'fits' : await proofOf(source, sourceAddress(), topic, queueId, fold)
      this.#proofs.set(fold, proof ?? (await this.#noneStandsThere(fold)))
      if (this.#lane.isStopped()) throw new StoppedError('the gateway stops')
    }
    const left: Fold[] = []
    for (const fold of toProve) {
      const proof = this.#proofs.get(fold)!
      const lost = new Set<number>()
      if (proof !== 'fits')
        for (const place of this.#placesOf([fold]))
          if (!this.#isThere(there, place)) {
            lost.add(place.queueOffset)
            this.#lane.lost(place, proof)
          }
      const rest = fold.without(lost)
      if (rest !== undefined) left.push(rest)
    }
    this.#queue.prepend(
      this.#placesOf(left),
      left.reduce((count, fold) => count + fold.count, 0),
    )
    this.#toProve = this.#toProve.filter(fold => !toProve.includes(fold))
    this.#proofs.clear()
    this.#missed.clear()
  }

  /** It has none at two looks, with all readable that was stored at the first: then it has lost it. Throws WaitError until then. */
  async #noneStandsThere(fold: Fold): Promise<LostCause> {
    const { environment, source, sourceAddress } = this.#context
    const { topic, queueId } = this.#source
    const log = await logEnd(source, sourceAddress())
    const { missed, isLost } = missedAgain(this.#missed.get(fold), log, environment.clock.uptime())
    this.#missed.set(fold, missed)
    if (isLost) return 'source'
    throw new WaitError(
      `the source does not let the lane read what was acked in ${topic} queue ${queueId}`,
      `offset ${fold.proof.queueOffset}: none stands there`,
    )
  }

  #isThere(there: Arrived | undefined, { epoch, queueOffset, bornTimestamp, hash }: Place): boolean {
    if (there === undefined) return false
    const epochId = this.#context.stamper.epochId(epoch)
    return there.places.has(placeKey(epochId, queueOffset)) || there.unstamped.has(traceKey(bornTimestamp, hash))
  }

  #placesOf(folds: readonly Fold[]): Generator<Place, undefined> {
    return placesOf(folds, this.#context.environment.clock.now(), () => --this.#againSequence)
  }

  #read(address: string, target: RemoteQueue): Promise<Arrived> {
    const { cluster } = this.#context.remote
    const { isStopped } = this.#lane
    const origin = originOf(this.#context, this.#source)
    target.end = Math.min(target.end, this.#readFrom)
    return arrived(cluster, address, this.#source.topic, target.queueId, target.end, origin, isStopped)
  }

  async #findOut({ places, unstamped, torn, end, newest }: Arrived, target: RemoteQueue): Promise<number> {
    const { environment } = this.#context
    if (torn.length > 0)
      environment.log.warn(
        {
          topic: this.#source.topic,
          broker: target.broker,
          remoteQueueId: target.queueId,
          offsets: torn.slice(0, TORN_SAID),
        },
        'the remote queue has messages that its broker tore as it died: their properties end in zeros; what is ours is sent again, whole',
      )
    await this.#queue.load()
    if (newest !== undefined) this.ends.note({ ...newest, at: environment.clock.now() }, [])
    this.#readFrom = target.end
    // What is gone again with a tail is not above anything.
    this.#highest = Math.min(this.#highest, end - 1)
    this.#arrived = { places, unstamped, until: this.#queue.backlog.end }
    const found = this.passArrived()
    this.isUnclear = false
    target.end = end
    environment.log.info(
      { ...this.#source, arrived: found, waiting: this.#queue.count },
      'found out what had arrived at the remote',
    )
    return found
  }

  /** These are stored at the remote, from this offset on, the head first: what was found behind it comes before it there. */
  stored(messages: readonly { place: Place }[], first: number): void {
    const { totals } = this.#context.account
    totals.reordered += this.#aheadOfHead.length
    if (this.#aheadBefore !== undefined) {
      const [count, epoch, queueOffset] = this.#aheadBefore
      if (inOrder({ epoch, queueOffset }, this.#queue.place(0)) > 0) totals.reordered += count
    }
    this.#ahead = []
    this.#aheadBefore = undefined
    for (const [at, { place }] of messages.entries()) {
      // What was found goes before such a one, and is in order.
      if ((place.placeFlags & PlaceFlag.BEHIND) !== 0) totals.reordered++
      else if (this.#arrived !== undefined) this.#highest = Math.max(this.#highest, first + at)
    }
  }

  get #aheadOfHead() {
    const head = this.#queue.headIndex
    return this.#ahead.filter(({ index }) => index > head)
  }

  get #encodedAhead(): EncodedKnownEnds['ahead'] {
    const ahead = this.#aheadOfHead
    const before = this.#aheadBefore
    const last = ahead.at(-1)
    if (last === undefined) return before
    return [ahead.length + (before?.[0] ?? 0), last.epoch, last.queueOffset]
  }

  #forgetReading(): void {
    this.#arrived = undefined
    this.#readFrom = Number.POSITIVE_INFINITY
    this.#highest = -1
  }

  /** What was found at the remote of what is in memory now is done. Returns how many messages. */
  passArrived(): number {
    if (this.#arrived === undefined) return 0
    const { until } = this.#arrived
    const { isMissing, passed } = this.#pass(this.#queue.inWindow(), false)
    if (!isMissing) this.#aheadBefore = undefined
    if (this.#queue.headIndex >= until) this.#forgetReading()
    return passed
  }

  /** All that was found is done, also what is not in memory: the lane leaves, and nobody will know of it. Throws where the disk cannot be read. */
  async passAllArrived(): Promise<void> {
    const arrived = this.#arrived
    if (arrived === undefined) return
    // What of it stands there is done; what is left goes to the next queue, when its source has proven it once more.
    this.#queue.withdraw()
    this.#toProve = []
    const { stamper } = this.#context
    passAgain(this.#context, this.ends, arrived)
    this.#toProve = [...this.ends.again.folds]
    const ranges = rangesOf(arrived)
    const mayBeThere = ({ epoch, minOffset, maxOffset }: Page) => {
      const range = ranges.get(stamper.epochId(epoch))
      return arrived.unstamped.size > 0 || (range !== undefined && minOffset <= range.max && maxOffset >= range.min)
    }
    await this.#queue.through(arrived.until, mayBeThere, waiting => void this.#pass(waiting, true))
  }

  /** Returns whether any of them was not found, and how many were. */
  #pass(waiting: Iterable<Waiting>, isBehindMissing: boolean): { isMissing: boolean; passed: number } {
    const { environment, account, stamper } = this.#context
    const at = environment.clock.now()
    const found: [entry: Waiting, end: KnownEnd][] = []
    let isMissing = isBehindMissing
    for (const entry of waiting) {
      const { place } = entry
      const { epoch, queueOffset, placeFlags } = place
      const end = whereIs(this.#arrived!, stamper.epochId(epoch), place, at)
      const isBehind = (placeFlags & PlaceFlag.BEHIND) !== 0
      if (end === undefined) {
        // One that goes behind in any case is counted when it does.
        if (!isBehind) isMissing = true
        continue
      }
      if (end.trace !== '') {
        account.totals.unstamped++
        place.placeFlags |= PlaceFlag.UNSTAMPED
      }
      found.push([entry, end])
      // What goes before it stands behind it, or will: the remote had lost that, or it was late.
      if (end.remoteOffset < this.#highest || isBehind) account.totals.reordered++
      else if (isMissing) this.#ahead.push({ index: entry.page.firstIndex + entry.at, epoch, queueOffset })
      this.#highest = Math.max(this.#highest, end.remoteOffset)
    }
    for (const [{ page, at }] of found.toReversed()) account.replicated(this.#queue.isDoneNow(page, at))
    for (const [{ place }, end] of found) this.ends.found(place, end)
    return { isMissing, passed: found.length }
  }
}

/** Of what was found with a stamp, by epoch: the lowest and the highest offset. */
function rangesOf({ places }: Pick<Arrived, 'places'>): Map<string, { min: number; max: number }> {
  const ranges = new Map<string, { min: number; max: number }>()
  for (const key of places.keys()) {
    const [epochId, text] = key.split(':') as [string, string]
    const offset = Number(text)
    const range = ranges.get(epochId) ?? { min: offset, max: offset }
    ranges.set(epochId, { min: Math.min(range.min, offset), max: Math.max(range.max, offset) })
  }
  return ranges
}
