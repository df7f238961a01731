// What of ours has arrived in a remote queue? Read when the remote broker is settled (remote-broker.ts), by a lane whose
// last request had no clear outcome, and at a start with messages that may have been sent before.
//
// It collects the set of our stamps from a known end on, to where the queue ended when the reading began. No order among
// stamps is assumed.

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
import { firstValue, unpacked } from './check.ts'
import type { Asked } from './cluster.ts'
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
  /** Places of the origin. */
  places: Set<string>
  /** Messages without any stamp and without room for one, as `traceKey` has them, and how many of each. */
  unstamped: Map<string, number>
  /** Where the reading ended. */
  end: number
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
  const places = new Set<string>()
  const unstamped = new Map<string, number>()
  let end = from
  let last: number | undefined
  for (;;) {
    if (isStopped()) throw new StoppedError('the gateway stops')
    const { messages, nextOffset, maxOffset } = await pull(cluster, address, topic, queueId, end)
    // Others write there, too: what comes from now on is not ours.
    last ??= maxOffset
    for (const message of messages.flatMap(unpacked)) {
      const stamp = stampOf(message)
      if (stamp?.gateway === origin.gateway && stamp.broker === origin.broker && stamp.queueId === origin.queueId) {
        places.add(placeKey(stamp.epoch, stamp.queueOffset))
      } else if (
        // Any other is not ours, whatever it says.
        message.properties.length >= UNSTAMPED_BYTES_MIN &&
        findProperty(message.properties, STAMP_PROPERTY) === undefined
      ) {
        const uniqKey = firstValue(message.properties, 'UNIQ_KEY')
        // Under both, for the key may be one that a 5.x broker gave it.
        for (const key of uniqKey === undefined ? [undefined] : [undefined, uniqKey]) {
          const trace = traceKey(message.bornTimestamp, hashOf(key, [message.body]))
          unstamped.set(trace, (unstamped.get(trace) ?? 0) + 1)
        }
      }
    }
    if (messages.length === 0 && (nextOffset <= end || nextOffset >= maxOffset))
      return { places, unstamped, end: Math.max(end, Math.min(nextOffset, maxOffset)) }
    end = Math.max(nextOffset, end, (messages.at(-1)?.queueOffset ?? -1) + 1)
    if (end >= last) return { places, unstamped, end }
  }
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
