// From the answer of the source to acked messages: what of an accepted send goes to the remote, and what is skipped.
//
// Decided once, at the ack. A batch is unpacked, each message with its own offset.

import {
  bindOf,
  CONNECTOR_ORIGIN_PROPERTY,
  decodeBatch,
  decodeStamp,
  Properties,
  type SendAnswer,
  STAMP_PROPERTY,
  SysFlag,
} from '../codec/index.ts'
import {
  type AckedMessage,
  hashOf,
  Message,
  PlaceFlag,
  payloadOf,
  type Send,
  type SkipReason,
} from '../replay/index.ts'

/** Where the messages of an accepted send go. */
export interface TeeSink {
  message(message: AckedMessage): void
  skipped(reason: SkipReason): void
}

/**
 * Hands over the messages of an accepted send, each with its place. `remoteCluster` is undefined while its name is not
 * known: nothing is a loop then. Throws CodecError where a batch cannot be unpacked, before anything is handed over.
 */
export function tee(
  send: Send,
  answer: SendAnswer,
  ackedAt: number,
  remoteCluster: string | undefined,
  sink: TeeSink,
): void {
  if (send.batch) return teeBatch(send, answer, ackedAt, remoteCluster, sink)
  send.unescape()
  look.at(send.propertyBytes, send.propertiesStart, send.propertiesEnd)
  const reason = skipReason(send, remoteCluster)
  if (reason !== undefined) return sink.skipped(reason)
  setPlace(send, send, answer, 0, ackedAt, 0)
  sink.message(send)
}

function teeBatch(
  send: Send,
  answer: SendAnswer,
  ackedAt: number,
  remoteCluster: string | undefined,
  sink: TeeSink,
): void {
  const parts = payloadOf(send)
  // A batch that came in several chunks is put together here, once: its members are cut from it.
  const members = decodeBatch(parts.length === 1 ? parts[0]! : Buffer.concat(parts))
  members.forEach(({ flag, body, properties }, index) => {
    const message = new Message(flag, send.sysFlag, properties, body)
    look.at(properties, 0, properties.length)
    const reason = look.reply ? 'reply' : skipLoop(message, remoteCluster)
    if (reason !== undefined) return sink.skipped(reason)
    setPlace(message, send, answer, index, ackedAt, PlaceFlag.BATCH_MEMBER)
    sink.message(message)
  })
}

/** What the properties say of a message, read in one walk. One for all: it serves one message after the other. */
class Look {
  uniqKey: Buffer | undefined
  delayed = false
  transaction = false
  reply = false
  stamp: string | undefined
  connectorOrigin: string | undefined
  readonly #properties = new Properties(Buffer.alloc(0))

  at(bytes: Buffer, start: number, end: number): void {
    this.uniqKey = undefined
    this.delayed = this.transaction = this.reply = false
    this.stamp = this.connectorOrigin = undefined
    const properties = this.#properties.walk(bytes, start, end)
    while (properties.next()) {
      switch (properties.nameEnd - properties.start) {
        case 5:
          if (properties.nameIs('DELAY')) this.delayed ||= Number(properties.value) > 0
          break
        case 8:
          if (properties.nameIs('UNIQ_KEY')) this.uniqKey ??= properties.valueBytes
          else if (properties.nameIs('TRAN_MSG')) this.transaction = properties.value.toLowerCase() === 'true'
          break
        case 10:
          if (properties.nameIs(STAMP_PROPERTY)) this.stamp = properties.value
          break
        case 14:
          if (properties.nameIs('TIMER_DELAY_MS')) this.delayed = true
          break
        case 15:
          if (properties.nameIs('TIMER_DELAY_SEC')) this.delayed = true
          else if (properties.nameIs('REPLY_TO_CLIENT')) this.reply = true
          break
        case 16:
          if (properties.nameIs('TIMER_DELIVER_MS')) this.delayed = true
          break
        case CONNECTOR_ORIGIN_PROPERTY.length:
          if (properties.nameIs(CONNECTOR_ORIGIN_PROPERTY)) this.connectorOrigin = properties.value
          break
      }
    }
  }
}

const look = new Look()

function skipReason(send: Send, remoteCluster: string | undefined): SkipReason | undefined {
  if (look.transaction || (send.sysFlag & SysFlag.TRANSACTION) !== 0) return 'transaction'
  if (look.delayed) return 'delayed'
  if (look.reply) return 'reply'
  return skipLoop(send, remoteCluster)
}

function skipLoop(message: AckedMessage, remoteCluster: string | undefined): SkipReason | undefined {
  const { uniqKey, stamp, connectorOrigin } = look
  if (remoteCluster === undefined) return undefined
  if (connectorOrigin?.split(',').includes(remoteCluster)) return 'loop'
  const origin = stamp === undefined ? undefined : decodeStamp(stamp)
  if (!origin?.path.includes(remoteCluster)) return undefined
  // Applications copy properties into new messages: such a stamp does not fit.
  return origin.bind === bindOf(uniqKey?.toString(), payloadOf(message)) ? 'loop' : undefined
}

function setPlace(
  message: AckedMessage,
  send: Send,
  answer: SendAnswer,
  index: number,
  ackedAt: number,
  placeFlags: number,
): void {
  const { uniqKey } = look
  message.queueOffset = answer.queueOffset + index
  message.commitLogOffset = answer.commitLogOffsets[index] ?? -1
  message.bornTimestamp = send.bornTimestamp
  message.ackedAt = ackedAt
  message.hash = hashOf(uniqKey, uniqKey === undefined ? payloadOf(message) : [])
  message.placeFlags = uniqKey === undefined ? placeFlags | PlaceFlag.PAYLOAD_HASH : placeFlags
}
