// Makes the request that carries a run of messages to the remote: one SEND_MESSAGE_V2, or a batch.
//
// A batch has one sysFlag and one born timestamp for all, so only messages share one whose flags are equal and whose
// timestamps are near; the stamp holds each one's exact. Pure.

import {
  bindOf,
  decodeStamp,
  encodeMember,
  encodeSendHead,
  encodeStamp,
  findProperty,
  memberBytes,
  PROPERTIES_BYTES_MAX,
  STAMP_PROPERTY,
  SysFlag,
  withoutProperties,
  withProperty,
} from '../codec/index.ts'
import type { Body } from './body.ts'
import { PlaceFlag } from './place.ts'
import type { QueuedPlace } from './place-queue.ts'

/** The answer to a batch holds 33 bytes for each message. */
export const BATCH_MESSAGES_MAX = 1_000
/** Well within a broker's default maxMessageSize of 4 MiB; fuller batches than this gain nothing. */
export const BATCH_BYTES_MAX = 1024 * 1024
/** What a broker may add to a message's properties: MSG_REGION, TRACE_ON, CLUSTER, UNIQ_KEY. */
const BROKER_PROPERTIES_BYTES = 512

export interface Outgoing {
  place: QueuedPlace
  body: Body
  /** With the stamp, where there was room for it. */
  properties: Buffer
  stamped: boolean
  /** Clusters that it had been in before it came to the source. */
  been: readonly string[]
}

/** Who stamps: what all stamps of a lane share. */
export interface Stamper {
  group: string
  gateway: string
  sourceCluster: string
  broker: string
  queueId: number
  epochId(epoch: number): string
}

/** A message with its stamp, in place of one that it came with. */
export function stamp(stamper: Stamper, place: QueuedPlace, body: Body): Outgoing {
  const { group, gateway, sourceCluster, broker, queueId } = stamper
  const old = findProperty(body.properties, STAMP_PROPERTY)
  const own = old === undefined ? body.properties : withoutProperties(body.properties, name => name === STAMP_PROPERTY)
  const bind = bindOf(findProperty(own, 'UNIQ_KEY'), body.payload)
  const before = old === undefined ? undefined : decodeStamp(old)
  const been = before?.bind === bind ? before.path : []
  const value = encodeStamp({
    group,
    path: been.includes(sourceCluster) ? been : [...been, sourceCluster],
    gateway,
    broker,
    epoch: stamper.epochId(place.epoch),
    queueId,
    queueOffset: place.queueOffset,
    topic: '',
    bornTimestamp: place.bornTimestamp,
    bind,
  })
  const properties = withProperty(own, STAMP_PROPERTY, value)
  const stamped = properties.length + BROKER_PROPERTIES_BYTES <= PROPERTIES_BYTES_MAX
  return { place, body, properties: stamped ? properties : own, stamped, been }
}

/** Whether a message may go into the batch that `first` began and that has these many bytes and messages. */
export function fits(
  first: Outgoing,
  next: Outgoing,
  messages: number,
  bytes: number,
  bornTimestampTolerance: number,
): boolean {
  return (
    messages < BATCH_MESSAGES_MAX &&
    bytes + bytesInBatch(next) <= BATCH_BYTES_MAX &&
    first.stamped &&
    next.stamped &&
    first.body.sysFlag === next.body.sysFlag &&
    Math.abs(first.place.bornTimestamp - next.place.bornTimestamp) <= bornTimestampTolerance
  )
}

export function bytesInBatch({ body, properties }: Outgoing): number {
  return memberBytes(body.payloadBytes, properties.length)
}

/**
 * The whole request. What came in a batch goes in one, if alone: outside of one its DELAY would count. But never what has
 * no room for a stamp: brokers up to 5.3.3 put properties of their own behind a batch member's without looking at the
 * limit, and a record that exceeds it ends their log at the next restart. Sent singly it is refused in good order.
 */
export function encodeRequest(
  messages: readonly Outgoing[],
  topic: string,
  queueId: number,
  producerGroup: string,
  opaque: number,
): Buffer {
  const [first] = messages as [Outgoing, ...Outgoing[]]
  const batch = messages.length > 1 || (first.stamped && (first.place.flags & PlaceFlag.BATCH_MEMBER) !== 0)
  let bodyBytes = first.body.payloadBytes
  if (batch) {
    bodyBytes = 0
    for (const message of messages) bodyBytes += bytesInBatch(message)
  }
  const head = encodeSendHead(
    {
      opaque,
      producerGroup,
      topic,
      queueId,
      // A broker that is told of an IPv6 host that is none stores a record that it cannot read again.
      sysFlag: first.body.sysFlag & ~(SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6),
      bornTimestamp: first.place.bornTimestamp,
      flag: first.body.flag,
      properties: batch ? NONE : first.properties,
      batch,
    },
    bodyBytes,
  )
  const out = Buffer.allocUnsafe(head.length + bodyBytes)
  let at = head.copy(out)
  if (!batch) for (const part of first.body.payload) at += part.copy(out, at)
  else
    for (const { body, properties } of messages)
      at = encodeMember(out, at, body.flag, body.payload, body.payloadBytes, properties)
  return out
}

const NONE = Buffer.alloc(0)
