// What an embedded broker is asked as an administrator asks: topics made and shown, its settings, its state.
//
// AdminBrokerProcessor.java in apache/rocketmq. Settings are those that somebody reads; they cannot be changed.

import { OWN_VERSION, ResponseCode } from '../../codec/index.ts'
import { json, UNSET_REMARK } from './embedded-answers.ts'
import { type Answer, HOST, type Request } from './embedded-server.ts'
import { DELAY_LEVELS, type EmbeddedStore, invalidTopic, isSystemTopic, MESSAGE_BYTES_MAX } from './embedded-store.ts'

const VERSION_JSON = '{"counter":1,"stateVersion":0,"timestamp":0}'

/** 17 */
export function createTopic(store: EmbeddedStore, request: Request): Answer {
  const name = request.text('topic')
  const wrong = invalidTopic(name)
  if (wrong !== undefined) return { code: ResponseCode.INVALID_PARAMETER, remark: wrong }
  if (isSystemTopic(name)) {
    return { code: ResponseCode.INVALID_PARAMETER, remark: `The topic[${name}] is conflict with system topic.` }
  }
  const attributes: Record<string, string> = {}
  for (const change of (request.ext.get('attributes') ?? '').split(',')) {
    const [key = '', value = ''] = change.split('=')
    if (key.startsWith('+')) attributes[key.slice(1)] = value
  }
  store.createTopic(name, 0, {
    readQueues: request.integer('readQueueNums'),
    writeQueues: request.integer('writeQueueNums'),
    perm: request.integer('perm'),
    filterType: request.ext.get('topicFilterType') ?? 'SINGLE_TAG',
    sysFlag: request.integer('topicSysFlag', 0),
    order: request.flag('order'),
    attributes,
  })
  return { code: ResponseCode.SUCCESS, remark: UNSET_REMARK }
}

/** 202. Its keys are objects, as fastjson writes them: no JSON. No timestamps. */
export function topicStats(store: EmbeddedStore, request: Request): Answer {
  const name = request.text('topic')
  const topic = store.topics.get(name)
  if (topic === undefined) return { code: ResponseCode.TOPIC_NOT_EXIST, remark: `topic[${name}] not exist` }
  const queues = Array.from({ length: Math.max(topic.writeQueues, topic.readQueues) }, (_, queueId) => {
    const queue = JSON.stringify({ brokerName: store.broker, queueId, topic: name })
    const minOffset = store.minOffset(name, queueId)
    const maxOffset = store.maxOffset(name, queueId)
    return `${queue}:${JSON.stringify({ lastUpdateTimestamp: 0, maxOffset, minOffset })}`
  })
  const text = `{"offsetTable":{${queues.join(',')}},"topicPutTps":0.0}`
  return { code: ResponseCode.SUCCESS, body: [Buffer.from(text)] }
}

/** 351 */
export function topicConfig(store: EmbeddedStore, request: Request): Answer {
  const name = request.text('topic')
  const topic = store.topics.get(name)
  if (topic === undefined) {
    return { code: ResponseCode.TOPIC_NOT_EXIST, remark: `No topic in this broker. topic: ${name}` }
  }
  const { attributes, order, perm, readQueues, filterType, sysFlag, writeQueues } = topic
  return json({
    attributes,
    order,
    perm,
    readQueueNums: readQueues,
    topicFilterType: filterType,
    topicName: name,
    topicSysFlag: sysFlag,
    writeQueueNums: writeQueues,
  })
}

/** 26 */
export function brokerConfig(store: EmbeddedStore, port: number): Answer {
  const lines = {
    brokerClusterName: store.cluster,
    brokerName: store.broker,
    brokerId: 0,
    brokerIP1: HOST,
    listenPort: port,
    autoCreateTopicEnable: true,
    brokerFastFailureEnable: true,
    messageDelayLevel: DELAY_LEVELS,
    maxMessageSize: MESSAGE_BYTES_MAX,
    waitTimeMillsInSendQueue: 200,
    timerMaxDelaySec: 259_200,
    timerPrecisionMs: 1000,
  }
  const text = Object.entries(lines).map(([name, value]) => `${name}=${value}\n`)
  return { code: ResponseCode.SUCCESS, ext: { version: VERSION_JSON }, body: [Buffer.from(text.join(''))] }
}

/** 28 */
export function runtimeInfo(store: EmbeddedStore): Answer {
  const table = {
    bootTimestamp: String(store.startedAt),
    brokerVersion: String(OWN_VERSION),
    brokerVersionDesc: 'V5_3_3',
    commitLogMaxOffset: String(store.commitLogMaxOffset),
    commitLogMinOffset: String(store.commitLogMinOffset),
    dispatchBehindBytes: String(store.dispatchBehindBytes),
    earliestMessageTimeStamp: String(store.oldestAt),
  }
  return json({ table })
}
