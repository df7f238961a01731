// Makes a topic at the remote where it is missing, with the source's shape: queue numbers, permission, attributes.
//
// On each master that lacks it, by its own word: routes may not have come to name it yet, and the request that makes a topic
// alters one that is there. An existing topic is never altered. With `topicSync=off` nothing is made.

import { PERM_WRITE, RequestCode, ResponseCode, type Route } from '../codec/index.ts'
import { type Cluster, masterOf, RefusedError } from './cluster.ts'

export interface TopicShape {
  readQueues: number
  writeQueues: number
  perm: number
  /** As UPDATE_AND_CREATE_TOPIC takes them: `+name=value,…`; empty for none. */
  attributes: string
}

/** A topic's shape at one broker of the source. Undefined where the source does not have it there. */
export async function shapeAt(source: Cluster, topic: string, broker: string): Promise<TopicShape | undefined> {
  const route = await source.route(topic)
  const queue = route?.queues.find(queue => queue.broker === broker)
  const address = route && masterOf(route, broker)
  if (queue === undefined || address === undefined) return undefined
  const { header, body } = await source.ask(address, RequestCode.GET_TOPIC_CONFIG, [['topic', topic]])
  // Brokers of 4.9 have neither the request nor attributes.
  const attributes = header.code === ResponseCode.SUCCESS ? attributesOf(body) : ''
  return { readQueues: queue.readQueues, writeQueues: queue.writeQueues, perm: queue.perm, attributes }
}

function attributesOf(body: Buffer): string {
  const { attributes = {} } = JSON.parse(body.toString()) as { attributes?: Record<string, string> }
  return Object.entries(attributes)
    .map(([name, value]) => `+${name}=${value}`)
    .join(',')
}

/** Makes the topic on the masters of `all` that are not in `route` and do not have it. Returns how many it was made on. Throws RefusedError, LinkError. */
export async function makeMissing(
  remote: Cluster,
  topic: string,
  shape: TopicShape,
  all: Route,
  route: Route | undefined,
): Promise<number> {
  let made = 0
  for (const { broker, brokerId, address } of all.addresses) {
    if (brokerId !== 0 || route?.queues.some(queue => queue.broker === broker)) continue
    if (await hasTopic(remote, address, topic, broker)) continue
    const { header } = await remote.ask(address, RequestCode.UPDATE_AND_CREATE_TOPIC, [
      ['topic', topic],
      ['defaultTopic', 'TBW102'],
      ['readQueueNums', shape.readQueues],
      ['writeQueueNums', shape.writeQueues],
      ['perm', shape.perm | PERM_WRITE],
      ['topicFilterType', 'SINGLE_TAG'],
      ['topicSysFlag', 0],
      ['order', false],
      ...(shape.attributes === '' ? [] : [['attributes', shape.attributes] as const]),
    ])
    if (header.code !== ResponseCode.SUCCESS)
      throw new RefusedError(header.code, `making topic ${topic} at ${broker}`, header.remark)
    made++
  }
  return made
}

/** Whether a master has the topic. Throws RefusedError where it does not say, LinkError. */
async function hasTopic(remote: Cluster, address: string, topic: string, broker: string): Promise<boolean> {
  // Brokers of 4.9 know this one, and its answer is short (AdminBrokerProcessor.java, getTopicStatsInfo).
  const { header } = await remote.ask(address, RequestCode.GET_TOPIC_STATS_INFO, [['topic', topic]])
  switch (header.code) {
    case ResponseCode.SUCCESS:
      return true
    case ResponseCode.TOPIC_NOT_EXIST:
      return false
    default:
      throw new RefusedError(header.code, `asking ${broker} for topic ${topic}`, header.remark)
  }
}
