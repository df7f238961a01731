// From the answer of the source to places and bodies: what of an accepted send goes to the remote, and what is skipped.
//
// Decided once, at the ack. A batch is unpacked, each message with its own offset.

import {
  bindOf,
  decodeBatch,
  decodeStamp,
  Properties,
  type SendAnswer,
  type SendRequest,
  STAMP_PROPERTY,
  SysFlag,
} from '../codec/index.ts'
import { type AckedMessage, bodyOf, hashOf, type Place, PlaceFlag, type SkipReason } from '../replay/index.ts'

/** Property of the connector that RocketMQ users have today: clusters that a message has been in. */
const CONNECTOR_ORIGIN = 'REPLICATOR-BORN-SOURCE'

export interface Verdict {
  messages: AckedMessage[]
  skipped: Map<SkipReason, number>
}

/**
 * The messages of an accepted send. `remoteCluster` is undefined while its name is not known: nothing is a loop then.
 * Throws CodecError where a batch cannot be unpacked.
 */
export function accepted(
  request: SendRequest,
  answer: SendAnswer,
  payload: readonly Buffer[],
  ackedAt: number,
  remoteCluster: string | undefined,
): Verdict {
  const verdict: Verdict = { messages: [], skipped: new Map() }
  if (request.batch) {
    // A batch that came in several chunks is put together here, once: its members are cut from it.
    const members = decodeBatch(payload.length === 1 ? payload[0]! : Buffer.concat(payload))
    members.forEach((member, index) => {
      const look = lookAt(member.properties)
      add(verdict, look.reply ? 'reply' : skipLoop(look, [member.body], remoteCluster), () => ({
        place: placeOf(request, answer, index, ackedAt, look, [member.body], PlaceFlag.BATCH_MEMBER),
        body: bodyOf(member.flag, request.sysFlag, member.properties, [member.body]),
      }))
    })
    return verdict
  }
  const { properties } = request
  const look = lookAt(properties)
  add(verdict, skipReason(request, look, payload, remoteCluster), () => ({
    place: placeOf(request, answer, 0, ackedAt, look, payload, 0),
    body: bodyOf(request.flag, request.sysFlag, properties, payload),
  }))
  return verdict
}

function add({ messages, skipped }: Verdict, reason: SkipReason | undefined, message: () => AckedMessage): void {
  if (reason === undefined) messages.push(message())
  else skipped.set(reason, (skipped.get(reason) ?? 0) + 1)
}

/** What the properties say of a message, read in one walk. */
interface Look {
  uniqKey: Buffer | undefined
  delayed: boolean
  transaction: boolean
  reply: boolean
  stamp: string | undefined
  connectorOrigin: string | undefined
}

function lookAt(bytes: Buffer): Look {
  const look: Look = {
    uniqKey: undefined,
    delayed: false,
    transaction: false,
    reply: false,
    stamp: undefined,
    connectorOrigin: undefined,
  }
  const properties = new Properties(bytes)
  while (properties.next()) {
    switch (properties.nameEnd - properties.start) {
      case 5:
        if (properties.nameIs('DELAY')) look.delayed ||= Number(properties.value) > 0
        break
      case 8:
        if (properties.nameIs('UNIQ_KEY')) look.uniqKey ??= properties.valueBytes
        else if (properties.nameIs('TRAN_MSG')) look.transaction = properties.value.toLowerCase() === 'true'
        break
      case 10:
        if (properties.nameIs(STAMP_PROPERTY)) look.stamp = properties.value
        break
      case 14:
        if (properties.nameIs('TIMER_DELAY_MS')) look.delayed = true
        break
      case 15:
        if (properties.nameIs('TIMER_DELAY_SEC')) look.delayed = true
        else if (properties.nameIs('REPLY_TO_CLIENT')) look.reply = true
        break
      case 16:
        if (properties.nameIs('TIMER_DELIVER_MS')) look.delayed = true
        break
      case CONNECTOR_ORIGIN.length:
        if (properties.nameIs(CONNECTOR_ORIGIN)) look.connectorOrigin = properties.value
        break
    }
  }
  return look
}

function skipReason(
  request: SendRequest,
  look: Look,
  payload: readonly Buffer[],
  remoteCluster: string | undefined,
): SkipReason | undefined {
  if (look.transaction || (request.sysFlag & SysFlag.TRANSACTION) !== 0) return 'transaction'
  if (look.delayed) return 'delayed'
  if (look.reply) return 'reply'
  return skipLoop(look, payload, remoteCluster)
}

function skipLoop(
  { uniqKey, stamp, connectorOrigin }: Look,
  payload: readonly Buffer[],
  remoteCluster: string | undefined,
): SkipReason | undefined {
  if (remoteCluster === undefined) return undefined
  if (connectorOrigin?.split(',').includes(remoteCluster)) return 'loop'
  const origin = stamp === undefined ? undefined : decodeStamp(stamp)
  if (!origin?.path.includes(remoteCluster)) return undefined
  // Applications copy properties into new messages: such a stamp does not fit.
  return origin.bind === bindOf(uniqKey?.toString(), payload) ? 'loop' : undefined
}

function placeOf(
  request: SendRequest,
  answer: SendAnswer,
  index: number,
  ackedAt: number,
  { uniqKey }: Look,
  payload: readonly Buffer[],
  flags: number,
): Place {
  return {
    sequence: 0,
    queueOffset: answer.queueOffset + index,
    commitLogOffset: answer.commitLogOffsets[index] ?? -1,
    bornTimestamp: request.bornTimestamp,
    ackedAt,
    hash: hashOf(uniqKey, payload),
    flags: uniqKey === undefined ? flags | PlaceFlag.PAYLOAD_HASH : flags,
  }
}
