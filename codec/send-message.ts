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
import { FrameHead, JSON_HEADER } from './frame-head.ts'
import { encodeHead } from './header.ts'
import { equals, hexDigit } from './header-json.ts'
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
  /** Where the property string stands; JSON's escapes are in it until `unescape`. */
  propertyBytes: Buffer = NONE
  propertiesStart = 0
  propertiesEnd = 0
  #escaped = false

  setProperties(bytes: Buffer, start: number, end: number, escaped: boolean): void {
    this.propertyBytes = bytes
    this.propertiesStart = start
    this.propertiesEnd = end
    this.#escaped = escaped
  }

  /** Puts the property string's own bytes in place of what JSON makes of them: it escapes their separators. */
  unescape(): void {
    if (!this.#escaped) return
    this.#escaped = false
    this.propertyBytes = unescapeJson(this.propertyBytes.subarray(this.propertiesStart, this.propertiesEnd))
    this.propertiesStart = 0
    this.propertiesEnd = this.propertyBytes.length
  }

  /** The property string's bytes. */
  get properties(): Buffer {
    this.unescape()
    return this.propertyBytes.subarray(this.propertiesStart, this.propertiesEnd)
  }
}

// The fields that are read, as bits, so that their presence can be told.
const TOPIC = 1
const QUEUE_ID = 2
const SYS_FLAG = 4
const BORN_TIMESTAMP = 8
const FLAG = 16
const PROPERTIES = 32
const BATCH = 64
const REQUIRED = TOPIC | QUEUE_ID | SYS_FLAG | BORN_TIMESTAMP | FLAG

/** One walk for all: it is at its end when a function here returns. */
const walk = new ExtFields(new FrameHead())

/**
 * Reads a send request's extFields, into `request` where one is given.
 * Throws CodecError where a field is missing, there twice, or not what it must be.
 */
export function readSendRequest(head: FrameHead): SendRequest
export function readSendRequest<R extends SendRequest>(head: FrameHead, request: R): R
export function readSendRequest(head: FrameHead, request = new SendRequest()): SendRequest {
  const fields = walk.walk(head)
  const v1 = head.code === RequestCode.SEND_MESSAGE
  let seen = 0
  let present = 0
  while (fields.next()) {
    const field = v1 ? fieldOfV1(fields) : fieldOfV2(head, fields)
    // The binary "fast" encoding may hold a field twice, with equal values (RocketMQSerializable); the last counts.
    if (field & seen && head.type === JSON_HEADER)
      throw new CodecError('send-header', `send header has ${fields.name} twice`)
    seen |= field
    if (fields.isNull) continue
    present |= field
    set(request, field, fields, head)
  }
  if ((present & REQUIRED) !== REQUIRED) {
    throw new CodecError('send-header', 'send header lacks its topic, queueId, sysFlag, bornTimestamp or flag')
  }
  return request
}

function fieldOfV1(fields: ExtFields): number {
  switch (fields.nameEnd - fields.nameStart) {
    case 4:
      return fields.nameIs('flag') ? FLAG : 0
    case 5:
      return fields.nameIs('topic') ? TOPIC : fields.nameIs('batch') ? BATCH : 0
    case 7:
      return fields.nameIs('queueId') ? QUEUE_ID : fields.nameIs('sysFlag') ? SYS_FLAG : 0
    case 10:
      return fields.nameIs('properties') ? PROPERTIES : 0
    case 13:
      return fields.nameIs('bornTimestamp') ? BORN_TIMESTAMP : 0
    default:
      return 0
  }
}

function fieldOfV2(head: FrameHead, fields: ExtFields): number {
  if (fields.nameEnd - fields.nameStart !== 1) return 0
  switch (head.bytes[fields.nameStart]) {
    case 0x62: // b
      return TOPIC
    case 0x65: // e
      return QUEUE_ID
    case 0x66: // f
      return SYS_FLAG
    case 0x67: // g
      return BORN_TIMESTAMP
    case 0x68: // h
      return FLAG
    case 0x69: // i
      return PROPERTIES
    case 0x6d: // m
      return BATCH
    default:
      return 0
  }
}

function set(request: SendRequest, field: number, fields: ExtFields, head: FrameHead): void {
  switch (field) {
    case TOPIC:
      request.topic = topicOf(head.bytes, fields)
      break
    case QUEUE_ID:
      request.queueId = fields.integer()
      break
    case SYS_FLAG:
      request.sysFlag = fields.integer()
      break
    case BORN_TIMESTAMP:
      request.bornTimestamp = fields.integer()
      break
    case FLAG:
      request.flag = fields.integer()
      break
    case PROPERTIES:
      request.setProperties(head.bytes, fields.valueStart, fields.valueEnd, head.type === JSON_HEADER)
      break
    case BATCH:
      // Boolean.parseBoolean: only "true", in any case.
      request.batch = fields.value.toLowerCase() === 'true'
      break
  }
}

/** Clients send to few topics: the last one's name is not made again. */
let lastTopic = ''

function topicOf(bytes: Buffer, fields: ExtFields): string {
  const length = fields.valueEnd - fields.valueStart
  if (length === lastTopic.length && equals(bytes, fields.valueStart, lastTopic)) return lastTopic
  const topic = fields.value
  // Not one with escapes, or of more bytes than characters: its bytes are other ones.
  if (topic.length === length) lastTopic = topic
  return topic
}

/** What a broker says of a message that it has stored. */
export interface SendAnswer {
  queueId: number
  /** Of the first message, for a batch. */
  queueOffset: number
  /** Commit-log offsets, one for each message of a batch; one for all of an inner batch; none where msgId cannot be read. */
  commitLogOffsets: number[]
}

/**
 * Reads the answer to a send that was stored, into `answer` where one is given; undefined where the broker did not say
 * where it is (an answer without fields).
 */
export function readSendAnswer(
  head: FrameHead,
  answer: SendAnswer = { queueId: -1, queueOffset: -1, commitLogOffsets: [] },
): SendAnswer | undefined {
  answer.queueId = -1
  answer.queueOffset = -1
  answer.commitLogOffsets.length = 0
  const fields = walk.walk(head)
  while (fields.next()) {
    switch (fields.nameEnd - fields.nameStart) {
      case 5:
        if (fields.nameIs('msgId')) readMsgId(head.bytes, fields.valueStart, fields.valueEnd, answer.commitLogOffsets)
        break
      case 7:
        if (fields.nameIs('queueId')) answer.queueId = fields.integer()
        break
      case 11:
        if (fields.nameIs('queueOffset')) answer.queueOffset = fields.integer()
        break
    }
  }
  return answer.queueId < 0 || answer.queueOffset < 0 ? undefined : answer
}

/**
 * The commit-log offsets in an offsetMsgId, or in a batch's list of them: hex of IP (4 or 16 bytes), port (4) and
 * offset (8) (MessageDecoder.createMessageId). Empty where it is not of that form.
 */
export function commitLogOffsetsOf(msgId: string): number[] {
  const offsets: number[] = []
  const bytes = Buffer.from(msgId)
  readMsgId(bytes, 0, bytes.length, offsets)
  return offsets
}

const V4_DIGITS = 32
const V6_DIGITS = 56
const OFFSET_DIGITS = 16
const COMMA = 0x2c

function readMsgId(bytes: Buffer, start: number, end: number, offsets: number[]): void {
  let from = start
  for (let at = start; at <= end; at++) {
    if (at < end && bytes[at] !== COMMA) {
      if (hexDigit(bytes[at]!) >= 0) continue
      break
    }
    if (at - from !== V4_DIGITS && at - from !== V6_DIGITS) break
    let offset = 0
    for (let digit = at - OFFSET_DIGITS; digit < at; digit++) offset = offset * 16 + hexDigit(bytes[digit]!)
    offsets.push(offset)
    from = at + 1
  }
  // Of a list that cannot be read to its end nothing counts.
  if (from !== end + 1) offsets.length = 0
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
