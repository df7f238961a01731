// What of ours has arrived in a remote queue? Read when the remote broker is settled (remote-broker.ts), by a lane whose
// last request had no clear outcome, and at a start with messages that may have been sent before. First: is the tail of what
// is known to be there still there?
//
// Reading collects the set of our stamps from a known end on, to where the queue ended when the reading began. No order
// among stamps is assumed. A tail is lost only on proof: the queue does not reach so far, or another message stands there;
// what has expired is not lost.

import {
  bindOf,
  decodeStamp,
  findProperty,
  isPayloadBind,
  type OriginStamp,
  STAMP_PROPERTY,
  type StoredMessage,
} from '../codec/index.ts'
import { UNSTAMPED_BYTES_MIN } from './batcher.ts'
import { firstValue, isTheAcked, unpacked } from './check.ts'
import type { Asked } from './cluster.ts'
import type { Fold } from './folded-places.ts'
import type { KnownEnd } from './known-ends.ts'
import { hashOf } from './place.ts'
import { pull } from './reading.ts'
import { StoppedError } from './stopped-error.ts'

export interface Origin {
  gateway: string
  broker: string
  queueId: number
}

/** Identity of a message within its lane. */
export function placeKey(epochId: string, queueOffset: number): string {
  return `${epochId}:${queueOffset}`
}

export interface Arrived {
  /** Places of the origin, and where they stand. */
  places: Map<string, number>
  /** Messages without any stamp and without room for one, as `traceKey` has them, and where they stand. */
  unstamped: Map<string, number[]>
  /** Remote offsets of what its broker tore as it died, and kept. */
  torn: number[]
  /** Where the reading ended. */
  end: number
  /** The last of them with a stamp, where there is one. */
  newest: Omit<KnownEnd, 'at'> | undefined
}

/** What a message without room for a stamp is known by. */
export function traceKey(bornTimestamp: number, hash: number): string {
  return `${bornTimestamp}:${hash}`
}

/** What of `origin` stands in the remote queue from `from` on. Throws StoppedError. */
export async function arrived(
  cluster: Asked,
  address: string,
  topic: string,
  queueId: number,
  from: number,
  origin: Origin,
  isStopped: () => boolean,
): Promise<Arrived> {
  const places = new Map<string, number>()
  const unstamped = new Map<string, number[]>()
  const torn: number[] = []
  let newest: Arrived['newest']
  let end = from
  let last: number | undefined
  for (;;) {
    if (isStopped()) throw new StoppedError('the gateway stops')
    const { messages, nextOffset, maxOffset } = await pull(cluster, address, topic, queueId, end)
    // Others write there, too: what comes from now on is not ours.
    last ??= maxOffset
    for (const message of messages.flatMap(unpacked)) {
      if (isTorn(message)) {
        torn.push(message.queueOffset)
        continue
      }
      const stamp = stampOf(message)
      if (stamp !== undefined && isFrom(stamp, origin)) {
        places.set(placeKey(stamp.epoch, stamp.queueOffset), message.queueOffset)
        const { epoch: epochId, queueOffset } = stamp
        newest = { remoteOffset: message.queueOffset, epochId, queueOffset, trace: '' }
      } else
        for (const trace of tracesOf(message))
          unstamped.set(trace, [...(unstamped.get(trace) ?? []), message.queueOffset])
    }
    if (messages.length === 0 && (nextOffset <= end || nextOffset >= maxOffset))
      return { places, unstamped, torn, newest, end: Math.max(end, Math.min(nextOffset, maxOffset)) }
    end = Math.max(nextOffset, end, (messages.at(-1)?.queueOffset ?? -1) + 1)
    if (end >= last) return { places, unstamped, torn, newest, end }
  }
}

/**
 * Index of the newest known end (oldest first) that stands in the remote queue, -1 where none does, and where the queue
 * ends. One that has expired does stand. The newest is tried first: where it stands all do.
 */
export async function newestThatStands(
  cluster: Asked,
  address: string,
  topic: string,
  queueId: number,
  ends: readonly KnownEnd[],
  origin: Origin,
): Promise<{ stands: number; maxOffset: number }> {
  let maxOffset = 0
  const stands = async (index: number) => {
    const end = ends[index]!
    const { messages, minOffset, ...pulled } = await pull(cluster, address, topic, queueId, end.remoteOffset)
    maxOffset = pulled.maxOffset
    if (end.remoteOffset < minOffset) return true
    if (end.remoteOffset >= maxOffset) return false
    const there = messages.flatMap(unpacked).find(({ queueOffset }) => queueOffset === end.remoteOffset)
    // The log is gone under its index: it is about to expire.
    return there === undefined || isThatOf(end, there, origin)
  }
  const newest = ends.length - 1
  if (newest < 0 || (await stands(newest))) return { stands: newest, maxOffset }
  for (let index = 0; index < newest; index++) if (!(await stands(index))) return { stands: index - 1, maxOffset }
  return { stands: newest - 1, maxOffset }
}

/** Whether the source's log is still the one in which the places of a fold were acked; undefined: none stands there now. */
export async function proofOf(
  source: Asked,
  address: string,
  topic: string,
  queueId: number,
  { proof, placeFlags }: Fold,
): Promise<'fits' | 'expired' | 'source' | undefined> {
  const { queueOffset } = proof
  const { messages, minOffset } = await pull(source, address, topic, queueId, queueOffset)
  if (queueOffset < minOffset) return 'expired'
  const there = messages.flatMap(unpacked).find(message => message.queueOffset === queueOffset)
  if (there === undefined) return undefined
  return isTheAcked({ ...proof, placeFlags }, there) ? 'fits' : 'source'
}

function isFrom(stamp: OriginStamp, origin: Origin): boolean {
  return stamp.gateway === origin.gateway && stamp.broker === origin.broker && stamp.queueId === origin.queueId
}

/**
 * The newest message of a remote queue that can be read, whoever's it is: while nothing of ours is known to be there, it
 * shows whether the queue's tail was lost. Undefined where there is none.
 */
export async function newestOfAll(
  cluster: Asked,
  address: string,
  topic: string,
  queueId: number,
  maxOffset: number,
): Promise<Omit<KnownEnd, 'at'> | undefined> {
  const remoteOffset = maxOffset - 1
  if (remoteOffset < 0) return undefined
  const { messages } = await pull(cluster, address, topic, queueId, remoteOffset)
  const there = messages.flatMap(unpacked).find(({ queueOffset }) => queueOffset === remoteOffset)
  return there && { remoteOffset, epochId: '', queueOffset: -1, trace: traceOfAny(there) }
}

function traceOfAny({ bornTimestamp, storeTimestamp, body }: StoredMessage): string {
  return `any:${storeTimestamp}:${traceKey(bornTimestamp, hashOf(undefined, [body]))}`
}

function isThatOf(end: KnownEnd, message: StoredMessage, origin: Origin): boolean {
  if (isTorn(message)) return false
  if (end.trace.startsWith('any:')) return traceOfAny(message) === end.trace
  if (end.trace !== '') return tracesOf(message).includes(end.trace)
  const stamp = stampOf(message)
  return (
    stamp !== undefined && isFrom(stamp, origin) && stamp.epoch === end.epochId && stamp.queueOffset === end.queueOffset
  )
}

/** What a message without a stamp, and without room for one, may be known by. Any other is not ours, whatever it says. */
function tracesOf({ properties, bornTimestamp, body }: StoredMessage): string[] {
  if (properties.length < UNSTAMPED_BYTES_MIN || findProperty(properties, STAMP_PROPERTY) !== undefined) return []
  const uniqKey = firstValue(properties, 'UNIQ_KEY')
  // Under both, for the key may be one that a 5.x broker gave it.
  const keys = uniqKey === undefined ? [undefined] : [undefined, uniqKey]
  return keys.map(key => traceKey(bornTimestamp, hashOf(key, [body])))
}

/**
 * A broker that is killed while it appends a message may have its properties to a point only, and zeros behind it. Its recovery keeps such a one,
 * for it checks the payload alone (CommitLog.checkMessageAndReturnSize) [seen]. Nobody was told that it is stored; ours is sent again, whole. That its stamp is
 * there says nothing: a broker stores the properties of a single send in an order of its own (SendMessageProcessor, a HashMap).
 */
export function isTorn({ properties }: StoredMessage): boolean {
  return properties.at(-1) === 0
}

/** A message's stamp, where it has one that fits it. */
export function stampOf({ properties, body }: StoredMessage): OriginStamp | undefined {
  const text = findProperty(properties, STAMP_PROPERTY)
  const stamp = text === undefined ? undefined : decodeStamp(text)
  if (stamp === undefined) return undefined
  // A 5.x broker gives a message that came without a UNIQ_KEY one of its own.
  const key = isPayloadBind(stamp.bind) ? undefined : findProperty(properties, 'UNIQ_KEY')
  return stamp.bind === bindOf(key, [body]) ? stamp : undefined
}
