// Whether a message read back from the source is the one that was acked, and what it was when the client sent it.
//
// An offset alone proves nothing: a source that lost its tail writes other messages at the same offsets. Pure.

import {
  decodeBatch,
  isStorageLeftover,
  Properties,
  type StoredMessage,
  SysFlag,
  TIMER_PROPERTIES,
  withoutProperties,
} from '../codec/index.ts'
import type { Body } from './body.ts'
import { Message } from './message.ts'
import { hashOf, type Place, PlaceFlag } from './place.ts'

/** The messages of a record: one, or, where the topic keeps batches whole (BatchCQ), all that are packed in it. */
export function unpacked(stored: StoredMessage): StoredMessage[] {
  if ((stored.sysFlag & SysFlag.INNER_BATCH) === 0) return [stored]
  const sysFlag = stored.sysFlag & ~(SysFlag.INNER_BATCH | SysFlag.NEED_UNWRAP)
  return decodeBatch(stored.body).map(({ flag, body, properties }, index) => ({
    ...stored,
    queueOffset: stored.queueOffset + index,
    sysFlag,
    flag,
    body,
    properties,
  }))
}

/** What of a place proves a message. */
export type Check = Pick<Place, 'queueOffset' | 'bornTimestamp' | 'hash' | 'placeFlags'>

export function isTheAcked(place: Check, stored: StoredMessage): boolean {
  if (stored.queueOffset !== place.queueOffset) return false
  if (stored.bornTimestamp !== place.bornTimestamp) return false
  const uniqKey =
    (place.placeFlags & PlaceFlag.PAYLOAD_HASH) === 0 ? firstValue(stored.properties, 'UNIQ_KEY') : undefined
  if (uniqKey === undefined && (place.placeFlags & PlaceFlag.PAYLOAD_HASH) === 0) return false
  return hashOf(uniqKey, [stored.body]) === place.hash
}

/** The hash that the place of a message has. */
export function hashIn(stored: StoredMessage, placeFlags: number): number {
  const keyless = (placeFlags & PlaceFlag.PAYLOAD_HASH) !== 0
  return hashOf(keyless ? undefined : firstValue(stored.properties, 'UNIQ_KEY'), [stored.body])
}

/** The message without what the broker's storage put on it. */
export function asSent(place: Place, stored: StoredMessage): Body {
  const member = (place.placeFlags & PlaceFlag.BATCH_MEMBER) !== 0
  const keyless = (place.placeFlags & PlaceFlag.PAYLOAD_HASH) !== 0
  const properties = withoutProperties(stored.properties, (name, seen) => {
    // Brokers of 4.9.0 to 5.3.3 put the batch's properties behind each member's own: the first of a name is the member's.
    if (member && seen) return true
    // A 5.x broker gives a message without a key one of its own.
    if (name === 'UNIQ_KEY') return keyless
    // The delay of a batch member is not honoured, and stays with it.
    if (member && (name === 'DELAY' || TIMER_PROPERTIES.includes(name))) return false
    return isStorageLeftover(name)
  })
  const hostBits = SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6
  return new Message(stored.flag, stored.sysFlag & ~(SysFlag.TRANSACTION | hostBits), properties, stored.body)
}

export function firstValue(bytes: Buffer, name: string): Buffer | undefined {
  const properties = new Properties(bytes)
  while (properties.next()) if (properties.nameIs(name)) return properties.valueBytes
  return undefined
}
