// A message of our own at a remote broker, by which is seen that what the broker had received before is stored and can be
// read: it passes the same queue, the same lock and the same dispatch as what is looked for.
//
// It is in topic TEE_MARKER, of one queue, which is made where it is missing and may be; a gateway never replicates it.
// WAIT=false, or a slow slave would hold up its answer. It says where the topic cannot be had: the caller has another way.

import {
  encodeProperties,
  encodeSendHead,
  type Frame,
  PERM_WRITE,
  RequestCode,
  ResponseCode,
  readSendAnswer,
  saysStored,
} from '../codec/index.ts'
import type { Asked } from './cluster.ts'
import { pull } from './reading.ts'

export const MARKER_TOPIC = 'TEE_MARKER'
const PERM_READ = 4

/** One marker. Its text is nobody else's. */
export interface Marker {
  text: string
  bornTimestamp: number
  producerGroup: string
}

export function encodeMarker({ text, bornTimestamp, producerGroup }: Marker, opaque: number): Buffer {
  const body = Buffer.from(text)
  const head = encodeSendHead(
    {
      opaque,
      producerGroup,
      topic: MARKER_TOPIC,
      queueId: 0,
      sysFlag: 0,
      bornTimestamp,
      flag: 0,
      properties: encodeProperties([
        ['UNIQ_KEY', text],
        ['WAIT', 'false'],
      ]),
      batch: false,
    },
    body.length,
  )
  return Buffer.concat([head, body])
}

/** Where a marker stands, or why it does not: the broker is busy, has no such topic, or refuses. */
export function markerAnswer({ head }: Frame): number | 'busy' | 'missing' | 'refused' {
  if (saysStored(head.code)) return readSendAnswer(head)?.queueOffset ?? 'refused'
  switch (head.code) {
    case ResponseCode.TOPIC_NOT_EXIST:
      return 'missing'
    case ResponseCode.SYSTEM_ERROR:
    case ResponseCode.SYSTEM_BUSY:
    case ResponseCode.SERVICE_NOT_AVAILABLE:
    case ResponseCode.FLOW_CONTROL:
      return 'busy'
    default:
      return 'refused'
  }
}

/** Whether the broker has made the topic. */
export async function makeMarkerTopic(broker: Asked, address: string): Promise<boolean> {
  const { header } = await broker.ask(address, RequestCode.UPDATE_AND_CREATE_TOPIC, [
    ['topic', MARKER_TOPIC],
    ['defaultTopic', 'TBW102'],
    ['readQueueNums', 1],
    ['writeQueueNums', 1],
    ['perm', PERM_READ | PERM_WRITE],
    ['topicFilterType', 'SINGLE_TAG'],
    ['topicSysFlag', 0],
    ['order', false],
  ])
  return header.code === ResponseCode.SUCCESS
}

/** Whether the marker can be read by queue. Throws LinkError, RefusedError. */
export async function isReadable(broker: Asked, address: string, marker: Marker, offset: number): Promise<boolean> {
  const { messages } = await pull(broker, address, MARKER_TOPIC, 0, offset)
  return messages.some(({ body }) => body.toString() === marker.text)
}
