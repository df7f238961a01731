// Is what is known to be in a remote queue still there? What is not is unclear again, and counted so.
//
// It reads; what becomes of what is unclear others decide.

import type { Account } from './account.ts'
import type { Cluster } from './cluster.ts'
import type { RemoteQueue } from './cursor.ts'
import type { Environment } from './environment.ts'
import type { Fold, FoldedPlaces } from './folded-places.ts'
import type { KnownEnd, KnownEnds } from './known-ends.ts'
import { type Place, PlaceFlag } from './place.ts'
import { type Arrived, newestThatStands, type Origin, placeKey, traceKey } from './settle.ts'

export interface TailContext {
  environment: Environment
  remote: { cluster: Cluster }
  sourceBroker: string
  account: Account
  stamper: { gateway: string; epochId(epoch: number): string }
}

/** A source queue, as its messages are stamped. */
export interface SourceQueue {
  topic: string
  queueId: number
}

export function originOf({ sourceBroker, stamper }: TailContext, { queueId }: SourceQueue): Origin {
  return { gateway: stamper.gateway, broker: sourceBroker, queueId }
}

/**
 * Looks for the newest of these ends that stands in the remote queue: behind it reading begins. What became done since is unclear again; undefined where
 * the newest of all stands, or there is none.
 */
export async function lostTail(
  context: TailContext,
  address: string,
  source: SourceQueue,
  target: RemoteQueue,
  known: KnownEnds,
): Promise<FoldedPlaces | undefined> {
  const { account, environment, remote } = context
  const { topic, queueId } = source
  const { ends } = known
  const origin = originOf(context, source)
  const there = await newestThatStands(remote.cluster, address, topic, target.queueId, ends, origin)
  const { stands } = there
  // How far it was read proves nothing of a queue that may have been cut off before, and filled again.
  if (ends.length > 0) target.end = stands < 0 ? 0 : ends[stands]!.remoteOffset + 1
  if (stands === ends.length - 1) return undefined
  const gone = ends[stands + 1]!.remoteOffset + 1 - there.maxOffset
  const { places, first, unknown } = known.tailLostAfter(stands)
  // Of what is known by its number only, no more than was between where the queue ends now and where it is known again.
  const lost = gone < 0 ? unknown : Math.min(unknown, Math.max(0, gone - first))
  account.unclearAgain(places.count)
  account.lostAtRemote(lost)
  if (places.count + lost > 0)
    environment.log.error(
      { topic, queueId, broker: target.broker, remoteQueueId: target.queueId, messages: places.count, lost },
      'the remote has lost its tail: what was there is looked for, and sent again',
    )
  return places
}

/** Places of which no more is known than their fold; of its proof, its check. Their sequences are below all of the journal's. */
export function* placesOf(
  folds: readonly Fold[],
  ackedAt: number,
  sequence: () => number,
): Generator<Place, undefined> {
  for (const fold of folds) {
    const { epoch, proof, placeFlags } = fold
    for (const queueOffset of fold.offsets()) {
      const isProof = queueOffset === proof.queueOffset
      yield {
        epoch,
        sequence: sequence(),
        queueOffset,
        commitLogOffset: -1,
        bornTimestamp: isProof ? proof.bornTimestamp : 0,
        ackedAt,
        hash: isProof ? proof.hash : 0,
        placeFlags: placeFlags | PlaceFlag.AGAIN,
        skipReason: 0,
        skipMask: 0,
      }
    }
  }
  return undefined
}

/** What of ours was found in a remote queue. */
type There = Pick<Arrived, 'places' | 'unstamped'>

/** What is unclear again, and was found to stand there, is done. */
export function passAgain({ account, environment, stamper }: TailContext, ends: KnownEnds, there: There): void {
  const at = environment.clock.now()
  for (const place of placesOf(ends.again.folds, at, () => -1)) {
    const end = whereIs(there, stamper.epochId(place.epoch), place, at)
    if (end === undefined) continue
    if ((place.placeFlags & PlaceFlag.BEHIND) !== 0) account.totals.reordered++
    ends.found(place, end)
    account.replicated(false)
  }
}

/** Where a place was found to stand, at a time by our clock; undefined: it was not. */
export function whereIs(
  { places, unstamped }: There,
  epochId: string,
  { queueOffset, bornTimestamp, hash }: Place,
  at: number,
): KnownEnd | undefined {
  const stampedAt = places.get(placeKey(epochId, queueOffset))
  if (stampedAt !== undefined) return { remoteOffset: stampedAt, epochId, queueOffset, trace: '', at }
  const trace = traceKey(bornTimestamp, hash)
  const remoteOffset = unstamped.get(trace)?.shift()
  return remoteOffset === undefined ? undefined : { remoteOffset, epochId, queueOffset, trace, at }
}
