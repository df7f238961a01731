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
  ALL_REMOTES,
  hashOf,
  Message,
  PlaceFlag,
  payloadOf,
  type Send,
  SKIP_REASONS,
  type SkipReason,
} from '../replay/index.ts'

/** Where the messages of an accepted send go. */
export interface TeeSink {
  message(message: AckedMessage): void
}

/** A remote as far as the decision has to know it: its cluster's name, once known, and its bit. */
export interface TeeRemote {
  readonly name: string | undefined
  readonly bit: number
}

/**
 * Hands over the messages of an accepted send, each with its place and with the remotes that it is skipped for. While a
 * remote's name is not known nothing is a loop there. Throws CodecError where a batch cannot be unpacked, before anything is handed over.
 */
export function tee(
  send: Send,
  answer: SendAnswer,
  ackedAt: number,
  remotes: readonly TeeRemote[],
  sink: TeeSink,
): void {
  if (send.batch) return teeBatch(send, answer, ackedAt, remotes, sink)
  send.unescape()
  look.at(send.propertyBytes, send.propertiesStart, send.propertiesEnd)
  setPlace(send, send, answer, 0, ackedAt, 0)
  setSkip(send, skipReason(send), remotes)
  sink.message(send)
}

function teeBatch(send: Send, answer: SendAnswer, ackedAt: number, remotes: readonly TeeRemote[], sink: TeeSink): void {
  const parts = payloadOf(send)
  // A batch that came in several chunks is put together here, once: its members are cut from it.
  const members = decodeBatch(parts.length === 1 ? parts[0]! : Buffer.concat(parts))
  members.forEach(({ flag, body, properties }, index) => {
    const message = new Message(flag, send.sysFlag, properties, body)
    look.at(properties, 0, properties.length)
    setPlace(message, send, answer, index, ackedAt, PlaceFlag.BATCH_MEMBER)
    setSkip(message, look.reply ? 'reply' : undefined, remotes)
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

/** Why a message goes to no remote at all. */
function skipReason(send: Send): SkipReason | undefined {
  if (look.transaction || (send.sysFlag & SysFlag.TRANSACTION) !== 0) return 'transaction'
  if (look.delayed) return 'delayed'
  return look.reply ? 'reply' : undefined
}

function setSkip(message: AckedMessage, reason: SkipReason | undefined, remotes: readonly TeeRemote[]): void {
  message.skipMask = reason === undefined ? 0 : ALL_REMOTES
  if (reason === undefined && (look.stamp !== undefined || look.connectorOrigin !== undefined)) {
    for (const { name, bit } of remotes) if (name !== undefined && isLoop(message, name)) message.skipMask |= bit
    // A remote that comes later would have it all the same; until then nobody has to do anything.
    if (remotes.every(({ bit }) => (message.skipMask & bit) !== 0)) message.skipMask = ALL_REMOTES
  }
  message.skipReason = message.skipMask === 0 ? 0 : SKIP_REASONS.indexOf(reason ?? 'loop')
}

/** Whether it has been at that cluster. */
function isLoop(message: AckedMessage, cluster: string): boolean {
  const { uniqKey, stamp, connectorOrigin } = look
  if (connectorOrigin?.split(',').includes(cluster)) return true
  const origin = stamp === undefined ? undefined : decodeStamp(stamp)
  if (!origin?.path.includes(cluster)) return false
  // Applications copy properties into new messages: such a stamp does not fit.
  return origin.bind === bindOf(uniqKey?.toString(), payloadOf(message))
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
