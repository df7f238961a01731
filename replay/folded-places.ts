// Places that are done, folded: runs of offsets, and for each fold one place with all that proves it when it is read back
// from the source.
//
// A commit log is a prefix: where the proof of a fold is still what was acked, all of the fold is. A fold has at most 1,000
// messages of one epoch, rising, with equal flags, and its last is its proof; only of a fold of which a part was taken is
// the proof behind the last. What has no stamp is a fold of its own, for it is known by its check. Some 60 bytes a fold, and 4 a message where others write between ours. Pure.

import { PlaceFlag } from './place.ts'

/** What is folded of a place. */
export interface Foldable {
  /** Ordinal of the epoch. */
  epoch: number
  queueOffset: number
  bornTimestamp: number
  hash: number
  placeFlags: number
}

/** What a message of the source must be, for a fold to be its log's. */
export type Proof = Pick<Foldable, 'queueOffset' | 'bornTimestamp' | 'hash'>

const PLACES_MAX = 1_000

export class Fold {
  readonly epoch: number
  readonly placeFlags: number
  readonly first: number
  last: number
  count = 1
  #proofOffset: number
  #proofBorn: number
  #proofHash: number
  /** How many offsets there are, then how many are left out, and so on, from the first on. */
  readonly #runs: number[] = [1]

  constructor({ epoch, placeFlags, queueOffset }: Foldable, proof: Proof) {
    this.epoch = epoch
    this.placeFlags = placeFlags
    this.first = queueOffset
    this.last = queueOffset
    this.#proofOffset = proof.queueOffset
    this.#proofBorn = proof.bornTimestamp
    this.#proofHash = proof.hash
  }

  get proof(): Proof {
    return { queueOffset: this.#proofOffset, bornTimestamp: this.#proofBorn, hash: this.#proofHash }
  }

  /** False where it does not belong there. */
  add({ epoch, placeFlags, queueOffset }: Foldable, proof: Proof): boolean {
    const gap = queueOffset - this.last - 1
    if (epoch !== this.epoch || placeFlags !== this.placeFlags || gap < 0 || this.count === PLACES_MAX) return false
    if ((placeFlags & PlaceFlag.UNSTAMPED) !== 0) return false
    this.#append(gap, 1)
    this.count++
    if (proof.queueOffset > this.#proofOffset) {
      this.#proofOffset = proof.queueOffset
      this.#proofBorn = proof.bornTimestamp
      this.#proofHash = proof.hash
    }
    return true
  }

  has(epoch: number, queueOffset: number): boolean {
    if (epoch !== this.epoch || queueOffset < this.first || queueOffset > this.last) return false
    let offset = this.first
    for (let at = 0; at < this.#runs.length; at++) {
      offset += this.#runs[at]!
      if (queueOffset < offset) return at % 2 === 0
    }
    return false
  }

  *offsets(): Generator<number> {
    let offset = this.first
    for (let at = 0; at < this.#runs.length; at++) {
      const end = offset + this.#runs[at]!
      if (at % 2 === 0) for (; offset < end; offset++) yield offset
      offset = end
    }
  }

  /** The same without these; undefined where nothing is left. */
  without(offsets: ReadonlySet<number>): Fold | undefined {
    if (offsets.size === 0) return this
    let left: Fold | undefined
    for (const queueOffset of this.offsets()) {
      if (offsets.has(queueOffset)) continue
      const place = { ...this.proof, epoch: this.epoch, placeFlags: this.placeFlags, queueOffset }
      if (left === undefined) left = new Fold(place, this.proof)
      else left.add(place, this.proof)
    }
    return left
  }

  /** The same with these flags, too. */
  flagged(placeFlags: number): Fold {
    const [epoch, flags, ...rest] = this.encode()
    return Fold.decode([epoch, flags | placeFlags, ...rest])
  }

  encode(): EncodedFold {
    const runs = this.#runs.map(run => run.toString(36)).join(' ')
    return [this.epoch, this.placeFlags, this.first, runs, this.#proofOffset, this.#proofBorn, this.#proofHash]
  }

  static decode([epoch, placeFlags, first, text, queueOffset, bornTimestamp, hash]: EncodedFold): Fold {
    const proof = { queueOffset, bornTimestamp, hash }
    const fold = new Fold({ ...proof, epoch, placeFlags, queueOffset: first }, proof)
    const [head = 1, ...runs] = text.split(' ').map(run => Number.parseInt(run, 36))
    fold.#append(0, head - 1)
    fold.count = head
    for (let at = 0; at < runs.length; at += 2) {
      fold.#append(runs[at]!, runs[at + 1]!)
      fold.count += runs[at + 1]!
    }
    return fold
  }

  #append(gap: number, count: number): void {
    if (gap === 0) this.#runs[this.#runs.length - 1]! += count
    else this.#runs.push(gap, count)
    this.last += gap + count
  }
}

/** Epoch, flags, first offset, runs in base 36; of the proof: queue offset, born timestamp, hash. */
export type EncodedFold = [number, number, number, string, number, number, number]

export class FoldedPlaces {
  readonly folds: Fold[] = []
  count = 0

  /** `proof`: of the fold that it is from, where nothing is known of the place itself. */
  add(place: Foldable, proof: Proof = place): void {
    if (!this.folds.at(-1)?.add(place, proof)) this.folds.push(new Fold(place, proof))
    this.count++
  }

  addFold(fold: Fold): void {
    this.folds.push(fold)
    this.count += fold.count
  }

  encode(): EncodedFold[] {
    return this.folds.map(fold => fold.encode())
  }

  static decode(encoded: readonly EncodedFold[]): FoldedPlaces {
    const places = new FoldedPlaces()
    for (const one of encoded) places.addFold(Fold.decode(one))
    return places
  }
}
