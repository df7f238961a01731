// The stamp: the one property that a teed message has more than its original. It says where the message comes from, by
// which a gateway knows what has arrived, and by which no message goes round in circles.
//
//   TEE_ORIGIN = 1;group;path;gateway;broker;epoch;queueId;queueOffset;topic;bornTimestamp;bind
//
// path: the clusters it has been in, comma-separated. topic: the source's where the remote's differs, else empty.
// bind: the message's UNIQ_KEY, else `crc32:` and eight hex digits of its payload. It stands last, for clients make
// UNIQ_KEY as they like and may put a semicolon in it. Applications copy user properties into new messages: a stamp
// whose bind does not fit its message says nothing about it.

import { crc32 } from 'node:zlib'

export const STAMP_PROPERTY = 'TEE_ORIGIN'
/** What the connector that RocketMQ users have today puts in its place: the clusters that a message has been in. */
export const CONNECTOR_ORIGIN_PROPERTY = 'REPLICATOR-BORN-SOURCE'
const VERSION = '1'
const FIELDS = 11
/** The fields before bind. */
type Parts = [string, string, string, string, string, string, string, string, string, string]

export interface OriginStamp {
  group: string
  path: readonly string[]
  gateway: string
  broker: string
  epoch: string
  queueId: number
  queueOffset: number
  topic: string
  bornTimestamp: number
  bind: string
}

export function encodeStamp(stamp: OriginStamp): string {
  const { group, path, gateway, broker, epoch, queueId, queueOffset, topic, bornTimestamp, bind } = stamp
  return [
    VERSION,
    group,
    path.join(','),
    gateway,
    broker,
    epoch,
    queueId,
    queueOffset,
    topic,
    bornTimestamp,
    bind,
  ].join(';')
}

/** Undefined for what is not a stamp of this version. */
export function decodeStamp(text: string): OriginStamp | undefined {
  const parts = text.split(';')
  if (parts.length < FIELDS || parts[0] !== VERSION) return undefined
  const [, group, path, gateway, broker, epoch, queueId, queueOffset, topic, bornTimestamp] = parts as Parts
  const bind = parts.slice(FIELDS - 1).join(';')
  // A client's clock may say anything.
  if (!/^\d+$/.test(queueId) || !/^\d+$/.test(queueOffset) || !/^-?\d+$/.test(bornTimestamp)) return undefined
  return {
    group,
    path: path === '' ? [] : path.split(','),
    gateway,
    broker,
    epoch,
    queueId: Number(queueId),
    queueOffset: Number(queueOffset),
    topic,
    bornTimestamp: Number(bornTimestamp),
    bind,
  }
}

const PAYLOAD_BIND = 'crc32:'

/** Whether a stamp is bound to the payload, for its message had no UNIQ_KEY. */
export function isPayloadBind(bind: string): boolean {
  return bind.startsWith(PAYLOAD_BIND)
}

/** What binds a stamp to its message. */
export function bindOf(uniqKey: string | undefined, payload: readonly Buffer[]): string {
  if (uniqKey !== undefined) return uniqKey
  let crc = 0
  for (const part of payload) crc = crc32(part, crc)
  return `${PAYLOAD_BIND}${crc.toString(16).padStart(8, '0')}`
}
