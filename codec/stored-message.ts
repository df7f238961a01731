// A message as a broker stores it and as PULL_MESSAGE and VIEW_MESSAGE_BY_ID answer it.
//
//   0  4 totalSize          4 magic 0xDAA320A7 (v1) or 0xDAA320AB (v2)
//   8  4 bodyCRC           12 4 queueId        16 4 flag        20 8 queueOffset
//  28  8 commitLogOffset   36 4 sysFlag        40 8 bornTimestamp
//  48  8|20 bornHost (sysFlag 0x10)   8 storeTimestamp   8|20 storeHost (0x20)   4 reconsumeTimes
//      8 preparedTransactionOffset    4 bodyLen, body    1 (v1) | 2 (v2) topicLen, topic    2 propLen, properties
//
// Source: MessageExtEncoder.java in apache/rocketmq's store, MessageDecoder.java in its common. Messages of an answer
// stand one after the other. Bodies stay as they are stored, compressed or not.

import { CodecError } from './codec-error.ts'
import { SysFlag } from './send-message.ts'

const MAGIC_V1 = 0xdaa320a7
const MAGIC_V2 = 0xdaa320ab
const FIXED_BYTES = 91

export interface StoredMessage {
  topic: string
  queueId: number
  queueOffset: number
  commitLogOffset: number
  sysFlag: number
  flag: number
  /** Milliseconds. */
  bornTimestamp: number
  /** As it stands there: 4 or 16 bytes of address, 4 of port. */
  bornHost?: Buffer
  storeTimestamp: number
  preparedTransactionOffset: number
  body: Buffer
  properties: Buffer
}

/** The messages of an answer's body, as views. Throws CodecError where a length does not fit. */
export function decodeStoredMessages(bytes: Buffer): StoredMessage[] {
  const messages: StoredMessage[] = []
  let at = 0
  while (at < bytes.length) {
    if (bytes.length - at < FIXED_BYTES) throw broken(at, `${bytes.length - at} bytes are left`)
    const size = bytes.readInt32BE(at)
    if (size < FIXED_BYTES || size > bytes.length - at) throw broken(at, `its size ${size} does not fit`)
    messages.push(decodeOne(bytes, at, at + size))
    at += size
  }
  return messages
}

function decodeOne(bytes: Buffer, start: number, end: number): StoredMessage {
  const magic = bytes.readUInt32BE(start + 4)
  if (magic !== MAGIC_V1 && magic !== MAGIC_V2) throw broken(start, `its magic is 0x${magic.toString(16)}`)
  const sysFlag = bytes.readInt32BE(start + 36)
  const topicLengthBytes = magic === MAGIC_V2 ? 2 : 1
  const fixedBytes =
    FIXED_BYTES -
    1 +
    topicLengthBytes +
    (sysFlag & SysFlag.BORN_HOST_V6 ? 12 : 0) +
    (sysFlag & SysFlag.STORE_HOST_V6 ? 12 : 0)
  if (end - start < fixedBytes) throw broken(start, `its size ${end - start} is below its ${fixedBytes} fixed bytes`)
  const bornHostEnd = start + 48 + (sysFlag & SysFlag.BORN_HOST_V6 ? 20 : 8)
  let at = bornHostEnd
  const storeTimestamp = long(bytes, at)
  at += 8 + (sysFlag & SysFlag.STORE_HOST_V6 ? 20 : 8) + 4
  const preparedTransactionOffset = long(bytes, at)
  const bodyStart = at + 12
  const bodyEnd = bodyStart + bytes.readInt32BE(at + 8)
  const topicStart = bodyEnd + topicLengthBytes
  if (bodyEnd < bodyStart || topicStart + 2 > end) throw broken(start, 'its body does not fit')
  const topicEnd = topicStart + (magic === MAGIC_V2 ? bytes.readUInt16BE(bodyEnd) : bytes[bodyEnd]!)
  if (topicEnd + 2 > end) throw broken(start, 'its topic does not fit')
  const propertiesEnd = topicEnd + 2 + bytes.readUInt16BE(topicEnd)
  if (propertiesEnd > end) throw broken(start, 'its properties do not fit')
  return {
    topic: bytes.toString('utf8', topicStart, topicEnd),
    queueId: bytes.readInt32BE(start + 12),
    queueOffset: long(bytes, start + 20),
    commitLogOffset: long(bytes, start + 28),
    sysFlag,
    flag: bytes.readInt32BE(start + 16),
    bornTimestamp: long(bytes, start + 40),
    bornHost: bytes.subarray(start + 48, bornHostEnd),
    storeTimestamp,
    preparedTransactionOffset,
    body: bytes.subarray(bodyStart, bodyEnd),
    properties: bytes.subarray(topicEnd + 2, propertiesEnd),
  }
}

/** An address as records have their hosts: 4 or 16 bytes, and 4 of port. Undefined for what is no address. */
export function hostBytes(address: string, port: number): Buffer | undefined {
  const ip = address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '')
  const parts = ip.includes(':') ? groupsOf(ip) : /^(\d{1,3}\.){3}\d{1,3}$/.test(ip) ? ip.split('.').map(Number) : []
  if (parts.length !== 4 && parts.length !== 8) return undefined
  const bytes = Buffer.alloc(parts.length === 4 ? 8 : 20)
  parts.forEach((part, index) => {
    if (parts.length === 4) bytes[index] = part
    else bytes.writeUInt16BE(part & 0xffff, index * 2)
  })
  bytes.writeInt32BE(port, bytes.length - 4)
  return bytes
}

/** The eight groups of an IPv6 address. */
function groupsOf(ip: string): number[] {
  const [left = '', right] = ip.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':').map(group => Number.parseInt(group, 16)))
  if (right === undefined) return groups(left)
  const known = [groups(left), groups(right)] as const
  const zeros = Math.max(0, 8 - known[0].length - known[1].length)
  return [...known[0], ...Array<number>(zeros).fill(0), ...known[1]]
}

function broken(at: number, what: string): CodecError {
  return new CodecError('stored-message', `stored message at byte ${at}: ${what}`)
}

/** Offsets and timestamps stay far below 2^53, so a number holds them exactly. */
function long(bytes: Buffer, at: number): number {
  return bytes.readInt32BE(at) * 0x1_0000_0000 + bytes.readUInt32BE(at + 4)
}

/** What a timed message has, from its client or its broker's timer. */
export const TIMER_PROPERTIES: readonly string[] = [
  'TIMER_DELAY_SEC',
  'TIMER_DELAY_MS',
  'TIMER_DELIVER_MS',
  'TIMER_ENQUEUE_MS',
  'TIMER_DEQUEUE_MS',
  'TIMER_ROLL_TIMES',
  'TIMER_ROLL_LABEL',
  'TIMER_OUT_MS',
  'TIMER_DEL_UNIQKEY',
  'TIMER_DELAY_LEVEL',
]

/**
 * Properties that a broker's storage adds and that are not the client's: dropped when a message is read back. By their whole
 * names (MessageConst.java): clients may have names of their own that begin alike.
 */
const leftovers = new Set([
  'TRAN_MSG',
  'PGROUP',
  '__transactionId__',
  'DELAY',
  'TRANSACTION_CHECK_TIMES',
  'TRAN_PREPARED_QUEUE_OFFSET',
  'MSG_REGION',
  'TRACE_ON',
  'CLUSTER',
  'POP_CK',
  '1ST_POP_TIME',
  'MIN_OFFSET',
  'MAX_OFFSET',
  'INNER_NUM',
  'INNER_BASE',
  'INNER_MULTI_QUEUE_OFFSET',
  '__CRC32#',
  'REAL_TOPIC',
  'REAL_QID',
  ...TIMER_PROPERTIES,
])

export function isStorageLeftover(name: string): boolean {
  return leftovers.has(name)
}
