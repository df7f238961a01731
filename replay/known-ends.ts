// The known ends of a lane: where messages of ours were seen to stand in its remote queue, and which became done between
// them. A remote that lost its tail (a power cut with asynchronous flush, a slave that took over, a topic made anew) no
// longer has them; then what became done since the last that still stands is unclear again.
//
// One end a minute is kept for a time, and the newest; with each the places that became done since the one before. What is
// unclear again is kept until all of it is done anew, for the journal may not know of it any more. Pure: who reads the
// remote queue, and what becomes of the places, is not decided here.
//
//   done before    ends[0]    done since    ends[1]    done since    newest
//   (counted)                 (folded)                 (folded)

import { type EncodedFold, type Fold, type Foldable, FoldedPlaces } from './folded-places.ts'
import { eraOf, PlaceFlag } from './place.ts'

/** A message of ours at the remote. */
export interface KnownEnd {
  remoteOffset: number
  epochId: string
  queueOffset: number
  /** What it is known by where it has no stamp; else empty. */
  trace: string
  /** Milliseconds, our clock. */
  at: number
}

interface Kept {
  end: KnownEnd
  /** Done since the end before. */
  done: FoldedPlaces
  /** How many more of them: those that had no room in a slot. */
  unknown: number
  encoded: EncodedFold[] | undefined
}

interface Again {
  fold: Fold
  done: Set<number>
}

type EncodedEnd = [
  remoteOffset: number,
  epochId: string,
  queueOffset: number,
  trace: string,
  at: number,
  done: EncodedFold[],
  unknown: number,
]

export interface EncodedKnownEnds {
  ends: EncodedEnd[]
  /** Places that were done earlier. */
  earlier: number
  /** Places that are unclear again, since a tail was lost. */
  again: EncodedFold[]
  /** Where the next reading begins, at most. */
  readFrom?: number
  /** The highest remote offset of what the lane has passed or stored since the reading before it. */
  highest?: number
  /** How many were found behind one that was not, and may have to be sent; epoch and offset of the last of them. */
  ahead?: [count: number, epoch: number, queueOffset: number]
}

export interface LostTail {
  /** Unclear again. */
  places: FoldedPlaces
  /** Of these: with the first end that is gone. */
  first: number
  /** How many more may be gone of which no more is known than that they were done. */
  unknown: number
}

/** Milliseconds between two ends that are kept. */
const INTERVAL = 60_000
/** Bytes of an end in a slot without its folds, and of a fold without its runs, at most. */
const END_BYTES = 160
const FOLD_BYTES = 100

export class KnownEnds {
  #kept: Kept[] = []
  /** Done before the places of the oldest end. */
  #earlier = 0
  #again: Again[] = []
  /** Of those: where the last was found. Most become done in their order. */
  #lastAgain: Again | undefined

  /** Oldest first. */
  get ends(): readonly KnownEnd[] {
    return this.#kept.map(({ end }) => end)
  }

  get isEmpty(): boolean {
    return this.#kept.length === 0 && this.#again.length === 0
  }

  get newest(): KnownEnd | undefined {
    return this.#kept.at(-1)?.end
  }

  /** The lowest era of which places are kept. */
  get oldestEra(): number {
    let oldest = Number.POSITIVE_INFINITY
    for (const { fold } of this.#again) oldest = Math.min(oldest, eraOf(fold.epoch))
    for (const { done } of this.#kept) for (const { epoch } of done.folds) oldest = Math.min(oldest, eraOf(epoch))
    return oldest
  }

  /** In the order in which they were sent: places that are unclear since a tail was lost, and not done anew. */
  get again(): FoldedPlaces {
    const left = new FoldedPlaces()
    for (const { fold, done } of this.#again) {
      const rest = fold.without(done)
      if (rest !== undefined) left.addFold(rest)
    }
    return left
  }

  /** A message of ours was seen at the remote, the newest so far; these places became done with it. */
  note(end: KnownEnd, done: Iterable<Foldable>): void {
    let kept = this.#kept.at(-1)
    const before = this.#kept.at(-2)
    if (kept === undefined || before === undefined || kept.end.at - before.end.at >= INTERVAL) {
      kept = { end, done: new FoldedPlaces(), unknown: 0, encoded: undefined }
      this.#kept.push(kept)
    }
    kept.end = end
    kept.encoded = undefined
    for (const place of done) this.#add(kept, place)
  }

  /** A place became done, for it was found to stand there. */
  found(place: Foldable, end: KnownEnd): void {
    const { remoteOffset } = end
    if (this.newest === undefined || this.newest.remoteOffset < remoteOffset) return this.note(end, [place])
    const kept = this.#kept.find(({ end }) => end.remoteOffset >= remoteOffset)
    if (kept !== undefined) this.#add(kept, place)
  }

  /** Whether anything is unclear again, and not done anew. */
  get isAgain(): boolean {
    return this.#again.length > 0
  }

  /** What a place is of that is unclear again. */
  foldOf(place: Foldable): Fold | undefined {
    return this.#againOf(place)?.fold
  }

  /** A place that was unclear again is lost, a dead letter, or a loop. */
  gaveUp(place: Foldable): void {
    this.#isDoneAgain(place)
  }

  /** The ends behind this index are gone (-1: all): what became done since is unclear again, and is kept as such. */
  tailLostAfter(index: number): LostTail {
    const places = new FoldedPlaces()
    let unknown = 0
    const gone = this.#kept.splice(index + 1)
    for (const kept of gone) {
      for (const fold of kept.done.folds) places.addFold(fold)
      unknown += kept.unknown
    }
    if (index < 0) {
      unknown += this.#earlier
      this.#earlier = 0
    }
    // Before what is unclear since an earlier loss: that was still to be sent.
    this.againFirst(places.folds)
    return { places, first: gone[0]?.done.count ?? 0, unknown }
  }

  /** The lane goes to another queue: gives away what is known of the old one. What is unclear again stays, to be sent there. */
  leave(): KnownEnds {
    const former = new KnownEnds()
    former.#kept = this.#kept
    former.#earlier = this.#earlier
    this.#kept = []
    this.#earlier = 0
    return former
  }

  /** Whether anything of ours became done here. */
  get hasDone(): boolean {
    return this.#earlier > 0 || this.#kept.some(({ done, unknown }) => done.count + unknown > 0)
  }

  /** Gives away what is unclear again: it is looked for, and sent, elsewhere. */
  takeAgain(): readonly Fold[] {
    const { folds } = this.again
    this.#again = []
    this.#lastAgain = undefined
    return folds
  }

  /** What was lost in another queue is unclear again here, before all else. */
  againFirst(folds: readonly Fold[]): void {
    this.#again.unshift(...folds.map(fold => ({ fold, done: new Set<number>() })))
  }

  /** Drops what is older than this. The newest stays. */
  forgetBefore(at: number): void {
    while (this.#kept.length > 1 && this.#kept[1]!.end.at < at) {
      const { done, unknown } = this.#kept.shift()!
      this.#earlier += done.count + unknown
    }
  }

  /**
   * For a slot of the cursor. Of what is done at most about so many bytes: the places of the oldest ends are left out, and
   * counted. What is unclear again is never left out.
   */
  encode(bytesMax: number): EncodedKnownEnds {
    const again = this.again.encode()
    let bytes = 0
    const ends: EncodedEnd[] = []
    for (const kept of this.#kept.toReversed()) {
      kept.encoded ??= kept.done.encode()
      let folds = kept.encoded
      let { unknown } = kept
      bytes += END_BYTES
      for (const fold of folds) bytes += FOLD_BYTES + fold[3].length
      if (bytes > bytesMax) {
        folds = []
        unknown += kept.done.count
      }
      const { remoteOffset, epochId, queueOffset, trace, at } = kept.end
      ends.push([remoteOffset, epochId, queueOffset, trace, at, folds, unknown])
    }
    return { ends: ends.reverse(), earlier: this.#earlier, again }
  }

  static decode({ ends, earlier, again }: EncodedKnownEnds): KnownEnds {
    const known = new KnownEnds()
    known.#earlier = earlier
    known.#again = FoldedPlaces.decode(again).folds.map(fold => ({ fold, done: new Set() }))
    known.#kept = ends.map(([remoteOffset, epochId, queueOffset, trace, at, folds, unknown]) => ({
      end: { remoteOffset, epochId, queueOffset, trace, at },
      done: FoldedPlaces.decode(folds),
      unknown,
      encoded: folds,
    }))
    return known
  }

  #add(kept: Kept, place: Foldable): void {
    kept.encoded = undefined
    if ((place.placeFlags & PlaceFlag.AGAIN) === 0) return kept.done.add(place)
    // Of such a place no more is known than of its fold.
    const { fold } = this.#isDoneAgain(place) ?? {}
    kept.done.add({ ...place, placeFlags: place.placeFlags & ~(PlaceFlag.AGAIN | PlaceFlag.BEHIND) }, fold?.proof)
  }

  #againOf({ epoch, queueOffset }: Foldable): Again | undefined {
    const isIn = ({ fold, done }: Again) => fold.has(epoch, queueOffset) && !done.has(queueOffset)
    const again = this.#lastAgain && isIn(this.#lastAgain) ? this.#lastAgain : this.#again.find(isIn)
    if (again !== undefined) this.#lastAgain = again
    return again
  }

  #isDoneAgain(place: Foldable): Again | undefined {
    const again = this.#againOf(place)
    if (again === undefined) return undefined
    again.done.add(place.queueOffset)
    if (again.done.size === again.fold.count) {
      this.#again = this.#again.filter(one => one !== again)
      this.#lastAgain = undefined
    }
    return again
  }
}
