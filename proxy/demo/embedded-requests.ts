// Requests of an embedded broker that have a shape of their own.

import { decodeProperties } from '../../codec/index.ts'
import type { Request } from './embedded-server.ts'
import type { Incoming, LogEntry } from './embedded-store.ts'

const NOTHING = Buffer.alloc(0)

/** A send request in either spelling. Throws where something that must be there is not, as a broker does. */
export function incomingOf(request: Request): Incoming {
  const v1 = request.code === 10
  const name = (long: string, letter: string) => (v1 ? long : letter)
  if (request.body === undefined) throw new Error('java.lang.NullPointerException')
  return {
    topic: request.text(name('topic', 'b')),
    defaultTopic: request.text(name('defaultTopic', 'c')),
    defaultQueues: request.integer(name('defaultTopicQueueNums', 'd')),
    queueId: request.integer(name('queueId', 'e')),
    sysFlag: request.integer(name('sysFlag', 'f')),
    bornTimestamp: request.integer(name('bornTimestamp', 'g')),
    flag: request.integer(name('flag', 'h')),
    properties: Buffer.from(request.ext.get(name('properties', 'i')) ?? ''),
    reconsumeTimes: request.integer(name('reconsumeTimes', 'j'), 0),
    batch: request.flag(name('batch', 'm')),
    body: request.body ?? NOTHING,
    bornHost: request.connection.peerHost,
  }
}

export function tagFilter(expression: string): ((entry: LogEntry) => boolean) | undefined {
  if (expression === '*' || expression.trim() === '') return undefined
  const tags = new Set(expression.split('||').map(tag => tag.trim()))
  return entry => tags.has(decodeProperties(entry.properties).get('TAGS') ?? '')
}

export function lockBodyOf(request: Request): {
  consumerGroup: string
  clientId: string
  mqSet: { topic: string; brokerName: string; queueId: number }[]
} {
  return JSON.parse((request.body ?? NOTHING).toString())
}
