// Makes the request that carries a run of messages to the remote: one SEND_MESSAGE_V2, or a batch.
//
// A batch has one sysFlag and one born timestamp for all, so only messages share one whose flags are equal and whose
// timestamps are near; the stamp holds each one's exact. Pure.

import {
  bindOf,
  CONNECTOR_ORIGIN_PROPERTY,
  decodeStamp,
  encodeMemberFrame,
  encodeSendHead,
  encodeStamp,
  memberBytes,
  PROPERTIES_BYTES_MAX,
  Properties,
  propertyBytes,
  STAMP_PROPERTY,
  SysFlag,
  withoutProperties,
  writeProperty,
} from '../codec/index.ts'
import { type Body, copyPayload, payloadLength, payloadOf } from './body.ts'
import { type Place, PlaceFlag } from './place.ts'

/** The answer to a batch holds 33 bytes for each message. */
export const BATCH_MESSAGES_MAX = 1_000
/** Well within a broker's default maxMessageSize of 4 MiB; fuller batches than this gain nothing. */
export const BATCH_BYTES_MAX = 1024 * 1024
/** What a broker may add to a message's properties: MSG_REGION, TRACE_ON, CLUSTER, UNIQ_KEY. */
const BROKER_PROPERTIES_BYTES = 512
/** A message with less than this has room for its stamp: it has some 200 bytes, with the longest names less than 1,024. */
export const UNSTAMPED_BYTES_MIN = PROPERTIES_BYTES_MAX - BROKER_PROPERTIES_BYTES - 1_024

export interface Outgoing {
  place: Place
  body: Body
  /** The message's properties without a stamp of ours or of others. */
  own: Buffer
  ownStart: number
  ownEnd: number
  /** Empty where there is no room for it. */
  stamp: string
  payloadBytes: number
  /** With the stamp. */
  propertiesBytes: number
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

const NOWHERE: readonly string[] = []
const walk = new Properties(Buffer.alloc(0))

/** A message with its stamp, in place of one that it came with. */
export function stamp(stamper: Stamper, place: Place, body: Body): Outgoing {
  const { group, gateway, sourceCluster, broker, queueId } = stamper
  let own = body.propertyBytes
  let ownStart = body.propertiesStart
  let ownEnd = body.propertiesEnd
  let uniqKey: string | undefined
  let old: string | undefined
  let path = NOWHERE
  let been = NOWHERE
  walk.walk(own, ownStart, ownEnd)
  while (walk.next()) {
    if (uniqKey === undefined && walk.nameIs('UNIQ_KEY')) uniqKey = walk.value
    else if (old === undefined && walk.nameIs(STAMP_PROPERTY)) old = walk.value
    else if (walk.nameIs(CONNECTOR_ORIGIN_PROPERTY)) been = walk.value.split(',')
  }
  const bind = bindOf(uniqKey, uniqKey === undefined ? payloadOf(body) : [])
  if (old !== undefined) {
    const before = decodeStamp(old)
    if (before?.bind === bind) {
      path = before.path
      been = [...been, ...path]
    }
    own = withoutProperties(own.subarray(ownStart, ownEnd), name => name === STAMP_PROPERTY)
    ownStart = 0
    ownEnd = own.length
  }
  const text = encodeStamp({
    group,
    path: path.includes(sourceCluster) ? path : [...path, sourceCluster],
    gateway,
    broker,
    epoch: stamper.epochId(place.epoch),
    queueId,
    queueOffset: place.queueOffset,
    topic: '',
    bornTimestamp: place.bornTimestamp,
    bind,
  })
  const payloadBytes = payloadLength(body)
  const propertiesBytes = propertyBytes(own, ownStart, ownEnd, STAMP_PROPERTY, text)
  const hasRoom = propertiesBytes + BROKER_PROPERTIES_BYTES <= PROPERTIES_BYTES_MAX
  return {
    place,
    body,
    own,
    ownStart,
    ownEnd,
    stamp: hasRoom ? text : '',
    payloadBytes,
    propertiesBytes: hasRoom ? propertiesBytes : ownEnd - ownStart,
    been,
  }
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
    first.stamp !== '' &&
    next.stamp !== '' &&
    first.body.sysFlag === next.body.sysFlag &&
    Math.abs(first.place.bornTimestamp - next.place.bornTimestamp) <= bornTimestampTolerance
  )
}

export function bytesInBatch({ payloadBytes, propertiesBytes }: Outgoing): number {
  return memberBytes(payloadBytes, propertiesBytes)
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
  const batch = messages.length > 1 || (first.stamp !== '' && (first.place.placeFlags & PlaceFlag.BATCH_MEMBER) !== 0)
  let bodyBytes = first.payloadBytes
  let properties = NONE
  if (batch) {
    bodyBytes = 0
    for (const message of messages) bodyBytes += bytesInBatch(message)
  } else {
    properties = Buffer.allocUnsafe(first.propertiesBytes)
    writeProperties(first, properties, 0)
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
      properties,
      batch,
    },
    bodyBytes,
  )
  const out = Buffer.allocUnsafe(head.length + bodyBytes)
  let at = head.copy(out)
  if (!batch) copyPayload(first.body, out, at)
  else
    for (const message of messages) {
      const { body, payloadBytes, propertiesBytes } = message
      at = encodeMemberFrame(out, at, body.flag, payloadBytes, propertiesBytes)
      at = writeProperties(message, out, copyPayload(body, out, at) + 2)
    }
  return out
}

function writeProperties({ own, ownStart, ownEnd, stamp }: Outgoing, out: Buffer, at: number): number {
  if (stamp === '') return at + own.copy(out, at, ownStart, ownEnd)
  return writeProperty(out, at, own, ownStart, ownEnd, STAMP_PROPERTY, stamp)
}

const NONE = Buffer.alloc(0)
