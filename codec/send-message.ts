// SEND_MESSAGE in its spellings, read into one shape and written out as version 2.
//
//   v1 (10, 324): long names          v2 (310, 320, 325): one letter each
//   producerGroup a · topic b · defaultTopic c · defaultTopicQueueNums d · queueId e · sysFlag f · bornTimestamp g
//   flag h · properties i · reconsumeTimes j · unitMode k · maxReconsumeTimes l · batch m · bname n
//
// Source: SendMessageRequestHeader.java, SendMessageRequestHeaderV2.java, SendMessageResponseHeader.java.
// The spellings stop here. Whether a request is a batch is said by its batch field, not by its code.

import { CodecError } from './codec-error.ts'
import { ExtFields, unescapeJson } from './ext-fields.ts'
import { type FrameHead, JSON_HEADER } from './frame-head.ts'
import { encodeHead } from './header.ts'
import { RequestCode } from './request-code.ts'

/** sysFlag bits (MessageSysFlag.java). */
export const SysFlag = {
  TRANSACTION: 0xc,
  BORN_HOST_V6: 0x10,
  STORE_HOST_V6: 0x20,
  NEED_UNWRAP: 0x40,
  INNER_BATCH: 0x80,
} as const

const NONE = Buffer.alloc(0)

/** What a gateway has to know of a send request. */
export class SendRequest {
  topic = ''
  /** Below 0: the broker chooses. */
  queueId = 0
  sysFlag = 0
  /** Milliseconds, the client's clock. */
  bornTimestamp = 0
  flag = 0
  batch = false
  /** The properties as they stand in the header, and whether JSON's escapes are still in them. */
  #properties: Buffer = NONE
  #escaped = false

  setProperties(raw: Buffer, escaped: boolean): void {
    this.#properties = raw
    this.#escaped = escaped
  }

  /** The property string's bytes. Made when first asked for: JSON escapes its separators. */
  get properties(): Buffer {
    if (this.#escaped) {
      this.#properties = unescapeJson(this.#properties)
      this.#escaped = false
    }
    return this.#properties
  }
}

/** Name → letter of v2; a letter is its own. */
const letterOf = new Map<string, string>([
  ['topic', 'b'],
  ['queueId', 'e'],
  ['sysFlag', 'f'],
  ['bornTimestamp', 'g'],
  ['flag', 'h'],
  ['properties', 'i'],
  ['batch', 'm'],
])
const REQUIRED = 1 | 2 | 4 | 8 | 16

/** Reads a send request's extFields. Throws CodecError where a field is missing, there twice, or not what it must be. */
export function readSendRequest(head: FrameHead): SendRequest {
  const request = new SendRequest()
  const fields = new ExtFields(head)
  const v1 = head.code === RequestCode.SEND_MESSAGE
  let seen = 0
  while (fields.next()) {
    let letter = 0
    if (v1) letter = letterOf.get(fields.name)?.charCodeAt(0) ?? 0
    else if (fields.nameEnd - fields.nameStart === 1) letter = head.bytes[fields.nameStart]!
    const bit = set(request, letter, fields, head)
    // The binary "fast" encoding may hold a field twice, with equal values (RocketMQSerializable); the last counts.
    if (bit & seen && head.type === JSON_HEADER)
      throw new CodecError('send-header', `send header has ${fields.name} twice`)
    seen |= bit
  }
  if ((seen & REQUIRED) !== REQUIRED) {
    throw new CodecError('send-header', 'send header lacks its topic, queueId, sysFlag, bornTimestamp or flag')
  }
  return request
}

function set(request: SendRequest, letter: number, fields: ExtFields, head: FrameHead): number {
  switch (letter) {
    case 0x62: // b
      request.topic = fields.value
      return 1
    case 0x65: // e
      request.queueId = fields.integer()
      return 2
    case 0x66: // f
      request.sysFlag = fields.integer()
      return 4
    case 0x67: // g
      request.bornTimestamp = fields.integer()
      return 8
    case 0x68: // h
      request.flag = fields.integer()
      return 16
    case 0x69: // i
      request.setProperties(head.bytes.subarray(fields.valueStart, fields.valueEnd), head.type === JSON_HEADER)
      return 32
    case 0x6d: // m
      // Boolean.parseBoolean: only "true", in any case.
      request.batch = fields.value.toLowerCase() === 'true'
      return 64
    default:
      return 0
  }
}

/** What a broker says of a message that it has stored. */
export interface SendAnswer {
  queueId: number
  /** Of the first message, for a batch. */
  queueOffset: number
  /** Commit-log offsets, one for each message of a batch; one for all of an inner batch; none where msgId cannot be read. */
  commitLogOffsets: number[]
}

/** Reads the answer to a send that was stored; undefined where the broker did not say where (an answer without fields). */
export function readSendAnswer(head: FrameHead): SendAnswer | undefined {
  let queueId = -1
  let queueOffset = -1
  let msgId = ''
  const fields = new ExtFields(head)
  while (fields.next()) {
    const length = fields.nameEnd - fields.nameStart
    const first = head.bytes[fields.nameStart]
    if (length === 7 && first === 0x71 && fields.name === 'queueId') queueId = fields.integer()
    else if (length === 11 && first === 0x71 && fields.name === 'queueOffset') queueOffset = fields.integer()
    else if (length === 5 && first === 0x6d && fields.name === 'msgId') msgId = fields.value
  }
  if (queueId < 0 || queueOffset < 0) return undefined
  return { queueId, queueOffset, commitLogOffsets: commitLogOffsetsOf(msgId) }
}

/**
 * The commit-log offsets in an offsetMsgId, or in a batch's list of them: hex of IP (4 or 16 bytes), port (4) and
 * offset (8) (MessageDecoder.createMessageId). Empty where it is not of that form.
 */
export function commitLogOffsetsOf(msgId: string): number[] {
  const offsets: number[] = []
  for (const id of msgId.split(',')) {
    if ((id.length !== 32 && id.length !== 56) || !/^[0-9A-Fa-f]+$/.test(id)) return []
    offsets.push(Number.parseInt(id.slice(-16), 16))
  }
  return offsets
}

export interface OwnSend {
  opaque: number
  producerGroup: string
  topic: string
  queueId: number
  sysFlag: number
  bornTimestamp: number
  flag: number
  properties: Buffer
  batch: boolean
}

/** A default topic that no broker has: a remote that makes topics by itself would otherwise make ours in its own shape. */
const NO_TEMPLATE = 'TEE_NO_TEMPLATE'

/** Head of a send of our own: SEND_MESSAGE_V2, or SEND_BATCH_MESSAGE. A batch's header carries no properties. */
export function encodeSendHead(send: OwnSend, bodyBytes: number): Buffer {
  const ext: [string, string | number | boolean | Buffer][] = [
    ['a', send.producerGroup],
    ['b', send.topic],
    ['c', NO_TEMPLATE],
    ['d', 4],
    ['e', send.queueId],
    ['f', send.sysFlag],
    ['g', send.bornTimestamp],
    ['h', send.flag],
    ['j', 0],
    ['k', false],
    ['m', send.batch],
  ]
  if (send.properties.length > 0) ext.push(['i', send.properties])
  const code = send.batch ? RequestCode.SEND_BATCH_MESSAGE : RequestCode.SEND_MESSAGE_V2
  return encodeHead({ code, opaque: send.opaque, ext }, bodyBytes)
}
