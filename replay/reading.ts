// Reading a queue of a broker by PULL_MESSAGE, for filling gaps at the source and for finding out what is at the remote.
//
// As a tool does, without a consumer: group TOOLS_CONSUMER, the subscription in the request (sysFlag 4), no suspension
// (PullMessageProcessor.java). An answer has at most 32 messages; 8 of what lies far back.

import { CodecError, decodeStoredMessages, RequestCode, ResponseCode, type StoredMessage } from '../codec/index.ts'
import { type Asked, RefusedError } from './cluster.ts'

export const PULL_MESSAGES_MAX = 32
const SUBSCRIPTION_IN_REQUEST = 4

export interface Pulled {
  messages: StoredMessage[]
  nextOffset: number
  minOffset: number
  maxOffset: number
}

/** Messages from an offset on. None where there is none yet, or none any more: see the offsets. Throws LinkError, RefusedError. */
export async function pull(
  cluster: Asked,
  address: string,
  topic: string,
  queueId: number,
  offset: number,
  count = PULL_MESSAGES_MAX,
): Promise<Pulled> {
  const { header, body } = await cluster.ask(address, RequestCode.PULL_MESSAGE, [
    ['consumerGroup', 'TOOLS_CONSUMER'],
    ['topic', topic],
    ['queueId', queueId],
    ['queueOffset', offset],
    ['maxMsgNums', count],
    ['sysFlag', SUBSCRIPTION_IN_REQUEST],
    ['commitOffset', 0],
    ['suspendTimeoutMillis', 0],
    ['subscription', '*'],
    ['subVersion', 0],
    ['expressionType', 'TAG'],
  ])
  switch (header.code) {
    case ResponseCode.SUCCESS:
    case ResponseCode.PULL_NOT_FOUND:
    case ResponseCode.PULL_RETRY_IMMEDIATELY:
    case ResponseCode.PULL_OFFSET_MOVED:
      return {
        messages: header.code === ResponseCode.SUCCESS ? decodeStoredMessages(body) : [],
        nextOffset: Number(header.ext.get('nextBeginOffset') ?? offset),
        minOffset: Number(header.ext.get('minOffset') ?? 0),
        maxOffset: Number(header.ext.get('maxOffset') ?? 0),
      }
    default:
      throw new RefusedError(header.code, `reading ${topic} queue ${queueId}`, header.remark)
  }
}

/**
 * Whether reading was refused for there is no such topic or queue (any more). PullMessageProcessor.java: 17, or INVALID_PARAMETER; of
 * earlier brokers SYSTEM_ERROR with 'queueId[5] is illegal'. Any other refusal may pass.
 */
export function isQueueGone(error: unknown): boolean {
  if (!(error instanceof RefusedError)) return false
  const { code, message } = error
  if (code === ResponseCode.TOPIC_NOT_EXIST || code === ResponseCode.INVALID_PARAMETER) return true
  return code === ResponseCode.SYSTEM_ERROR && /queueId\S* is illegal/.test(message)
}

/** The offset behind a queue's newest message that can be read. */
export async function maxOffset(cluster: Asked, address: string, topic: string, queueId: number): Promise<number> {
  const { header } = await cluster.ask(address, RequestCode.GET_MAX_OFFSET, [
    ['topic', topic],
    ['queueId', queueId],
  ])
  if (header.code !== ResponseCode.SUCCESS)
    throw new RefusedError(header.code, `the end of ${topic} queue ${queueId}`, header.remark)
  return Number(header.ext.get('offset'))
}

/**
 * The record at a commit-log offset; undefined where there is none. What stands in the middle of a record may be taken for
 * one: whoever asks has to look whether it is what was meant. Throws LinkError, RefusedError.
 */
export async function view(cluster: Asked, address: string, offset: number): Promise<StoredMessage | undefined> {
  const { header, body } = await cluster.ask(address, RequestCode.VIEW_MESSAGE_BY_ID, [['offset', offset]])
  // Broker 5.3.3: 'can not find message by the offset'; or success with an empty body.
  if (header.code === ResponseCode.SYSTEM_ERROR && /can not find message/i.test(header.remark ?? '')) return undefined
  if (header.code !== ResponseCode.SUCCESS)
    throw new RefusedError(header.code, `reading the record at ${offset} of the log`, header.remark)
  try {
    return decodeStoredMessages(body)[0]
  } catch (error) {
    if (error instanceof CodecError) return undefined
    throw error
  }
}

/** The first offset of a queue whose message was stored at this time or later. */
export async function offsetAt(
  cluster: Asked,
  address: string,
  topic: string,
  queueId: number,
  timestamp: number,
): Promise<number> {
  const { header } = await cluster.ask(address, RequestCode.SEARCH_OFFSET_BY_TIMESTAMP, [
    ['topic', topic],
    ['queueId', queueId],
    ['timestamp', timestamp],
  ])
  if (header.code !== ResponseCode.SUCCESS)
    throw new RefusedError(header.code, `the offset at a time in ${topic} queue ${queueId}`, header.remark)
  return Number(header.ext.get('offset'))
}

export interface LogState {
  /** The oldest offset of the broker's log. */
  start: number
  /** The offset behind its newest record, and up to where it can be read by queue. */
  end: number
  readable: number
  /** When its oldest message was stored; 0 where it does not say. */
  oldestAt: number
}

/** How far the broker's log goes, and how far it can be read by queue. */
export async function logEnd(cluster: Asked, address: string): Promise<LogState> {
  const { header, body } = await cluster.ask(address, RequestCode.GET_BROKER_RUNTIME_INFO)
  if (header.code !== ResponseCode.SUCCESS)
    throw new RefusedError(header.code, 'the state of the broker', header.remark)
  const { table } = JSON.parse(body.toString()) as { table: Record<string, string> }
  const end = Number(table.commitLogMaxOffset)
  return {
    start: Number(table.commitLogMinOffset ?? 0),
    end,
    readable: end - Number(table.dispatchBehindBytes),
    oldestAt: Number(table.earliestMessageTimeStamp ?? 0),
  }
}
