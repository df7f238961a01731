// A cluster in a fake network: a name server and brokers that keep queues in memory and answer what replay/ asks.
//
// A send is stored and answered, unless a test decides otherwise. What is stored outlives every environment; the test
// connects the cluster to the next one. No timing, no dispatch, no consumers. Every record of a log has the same length.

import {
  decodeBatch,
  decodeHeader,
  decodeStamp,
  findProperty,
  RequestCode,
  ResponseCode,
  readSendRequest,
  type StoredMessage,
} from '../../codec/index.ts'
import { MARKER_TOPIC } from '../../replay/marker.ts'
import type { FakeNetwork, FakeRequest } from '../support/fake-environment.ts'
import { encodeStored } from './sample.ts'

/** Bytes of a record in a log, as of placeAt's. */
export const RECORD_BYTES = 200

interface FakeQueue {
  minOffset: number
  messages: StoredMessage[]
}

/** A send at a broker, before it is stored. */
export interface FakeSend {
  request: FakeRequest
  topic: string
  queueId: number
  batch: boolean
  messages: Pick<StoredMessage, 'body' | 'properties' | 'flag' | 'sysFlag' | 'bornTimestamp'>[]
  /** Keeps these of its messages, by index; all by default. Returns the first one's offset. */
  store(which?: readonly number[]): number
  answerStored(firstOffset: number): void
}

export class FakeBroker {
  readonly name: string
  address: string
  readonly cluster: FakeCluster
  readonly topics = new Map<string, FakeQueue[]>()
  /** All sends that came, as they came. */
  readonly sends: FakeSend[] = []
  onSend: (send: FakeSend) => void = send => send.answerStored(send.store())
  /** Asked before every other request; true: it has been dealt with. */
  intercept: (request: FakeRequest) => boolean = () => false
  /** How far reading by queue lies behind the log, in bytes; one less with each question. */
  dispatchBehind = 0
  /** Pulls of topics, markers left out. */
  pulls = 0
  /** Its log, from `logStart` to `logEnd`: also of topics that are gone. */
  log: StoredMessage[] = []
  logStart = 0
  logEnd = 0
  /** When its oldest message was stored. */
  oldestAt = 0
  /** Its clock. */
  now = () => 1
  /** By producer group: connections of which a heart-beat came. */
  readonly producers = new Map<string, Set<FakeRequest['connection']>>()
  /** Groups that it still lists, whether their connections live or not. */
  readonly lingering = new Set<string>()
  /** As lines of its settings. */
  settings = 'waitTimeMillsInSendQueue=200\nbrokerFastFailureEnable=true\n'
  /** What is made of a marker; by default it is stored where its topic is. */
  onMarker: (send: FakeSend) => void = send => send.answerStored(send.store())

  constructor(cluster: FakeCluster, name: string, address: string) {
    this.cluster = cluster
    this.name = name
    this.address = address
  }

  queue(topic: string, queueId: number): FakeQueue {
    const queue = this.topics.get(topic)?.[queueId]
    if (queue === undefined) throw new Error(`${this.name} has no queue ${queueId} of ${topic}`)
    return queue
  }

  store(topic: string, queueId: number, message: Partial<StoredMessage>): StoredMessage {
    const queue = this.queue(topic, queueId)
    const queueOffset = (queue.messages.at(-1)?.queueOffset ?? queue.minOffset - 1) + 1
    const stored: StoredMessage = {
      sysFlag: 0,
      flag: 0,
      bornTimestamp: 0,
      storeTimestamp: this.now(),
      preparedTransactionOffset: 0,
      body: Buffer.alloc(0),
      properties: Buffer.alloc(0),
      ...message,
      topic,
      queueId,
      queueOffset,
      commitLogOffset: this.logEnd,
    }
    queue.messages.push(stored)
    this.log.push(stored)
    this.logEnd += RECORD_BYTES
    return stored
  }

  /** Forgets its newest records, as after a power cut: what comes next gets their offsets. */
  loseTail(records: number): void {
    this.log = this.log.slice(0, this.log.length - records)
    this.logEnd -= records * RECORD_BYTES
    for (const queues of this.topics.values())
      for (const queue of queues) queue.messages = queue.messages.filter(one => one.commitLogOffset < this.logEnd)
  }

  /** Forgets its oldest records; the queues still name them. */
  loseHead(logStart: number): void {
    this.logStart = logStart
    this.log = this.log.filter(one => one.commitLogOffset >= logStart)
  }

  /** Forgets what lies before an offset. */
  expire(topic: string, queueId: number, minOffset: number): void {
    const queue = this.queue(topic, queueId)
    queue.minOffset = minOffset
    queue.messages = queue.messages.filter(message => message.queueOffset >= minOffset)
  }

  /** The newest of a queue are gone, and their offsets will be given again. */
  loseTailOf(topic: string, queueId: number, count: number): void {
    this.queue(topic, queueId).messages.splice(-count, count)
  }

  texts(topic: string, queueId: number): string[] {
    return this.queue(topic, queueId).messages.map(message => message.body.toString())
  }

  /** The source's offsets that the stamps of a queue's messages name. */
  origins(topic: string, queueId: number): number[] {
    return this.queue(topic, queueId).messages.map(
      message => decodeStamp(findProperty(message.properties, 'TEE_ORIGIN') ?? '')?.queueOffset ?? -1,
    )
  }

  serve(request: FakeRequest): void {
    if (this.intercept(request)) return
    const { code, ext } = decodeHeader(request.head)
    const topic = ext.get('topic') ?? ''
    const queueId = Number(ext.get('queueId'))
    if (code === RequestCode.PULL_MESSAGE && queueId >= (this.topics.get(topic)?.length ?? 0))
      return request.answer({ code: ResponseCode.INVALID_PARAMETER, remark: `queueId[${queueId}] is illegal` })
    switch (code) {
      case RequestCode.SEND_MESSAGE_V2:
      case RequestCode.SEND_BATCH_MESSAGE:
        return this.#send(request)
      case RequestCode.PULL_MESSAGE:
        if (!this.topics.has(topic)) return request.answer({ code: ResponseCode.TOPIC_NOT_EXIST })
        if (this.topics.get(topic)![queueId] === undefined)
          return request.answer({ code: ResponseCode.INVALID_PARAMETER })
        return this.#pull(request, this.queue(topic, queueId), Number(ext.get('queueOffset')), topic)
      case RequestCode.GET_MAX_OFFSET:
        return request.answer({ ext: [['offset', endOf(this.queue(topic, queueId))]] })
      case RequestCode.SEARCH_OFFSET_BY_TIMESTAMP: {
        const queue = this.queue(topic, queueId)
        const found = queue.messages.find(one => one.storeTimestamp >= Number(ext.get('timestamp')))
        return request.answer({ ext: [['offset', found?.queueOffset ?? endOf(queue)]] })
      }
      case RequestCode.VIEW_MESSAGE_BY_ID: {
        const found = this.log.find(one => one.commitLogOffset === Number(ext.get('offset')))
        if (found === undefined) return request.answer({ code: 1, remark: 'can not find message by the offset' })
        return request.answer({ body: encodeStored(found) })
      }
      case RequestCode.GET_BROKER_RUNTIME_INFO: {
        const table = {
          commitLogMinOffset: `${this.logStart}`,
          commitLogMaxOffset: `${this.logEnd}`,
          dispatchBehindBytes: `${this.dispatchBehind}`,
          earliestMessageTimeStamp: `${this.oldestAt}`,
        }
        if (this.dispatchBehind > 0) this.dispatchBehind--
        return request.answer({ body: Buffer.from(JSON.stringify({ table })) })
      }
      case RequestCode.HEART_BEAT: {
        const { producerDataSet } = JSON.parse(request.body.toString()) as { producerDataSet: { groupName: string }[] }
        for (const { groupName } of producerDataSet)
          this.producers.set(groupName, (this.producers.get(groupName) ?? new Set()).add(request.connection))
        return request.answer({})
      }
      case RequestCode.GET_PRODUCER_CONNECTION_LIST: {
        const group = ext.get('producerGroup') ?? ''
        const open = [...(this.producers.get(group) ?? [])].filter(({ isOpen }) => isOpen)
        if (open.length === 0 && !this.lingering.has(group))
          return request.answer({ code: 1, remark: `the producer group[${group}] not exist` })
        const connectionSet = [{ clientAddr: 'gateway:1', clientId: group, language: 'OTHER', version: 479 }]
        return request.answer({ body: Buffer.from(JSON.stringify({ connectionSet })) })
      }
      case RequestCode.GET_BROKER_CONFIG:
        return request.answer({ body: Buffer.from(this.settings) })
      case RequestCode.GET_TOPIC_CONFIG:
        return request.answer({ body: Buffer.from(JSON.stringify({ attributes: this.cluster.attributes })) })
      case RequestCode.GET_TOPIC_STATS_INFO:
        return request.answer({ code: this.topics.has(topic) ? ResponseCode.SUCCESS : ResponseCode.TOPIC_NOT_EXIST })
      case RequestCode.UPDATE_AND_CREATE_TOPIC:
        if (topic !== MARKER_TOPIC) this.cluster.made.push({ broker: this.name, ext: Object.fromEntries(ext) })
        this.makeTopic(topic, Number(ext.get('writeQueueNums')))
        return request.answer({})
      default:
        return request.answer({ code: ResponseCode.REQUEST_CODE_NOT_SUPPORTED })
    }
  }

  makeTopic(topic: string, queues: number): void {
    this.topics.set(
      topic,
      Array.from({ length: queues }, () => ({ minOffset: 0, messages: [] })),
    )
  }

  #send(request: FakeRequest): void {
    const { topic, queueId, batch, sysFlag, bornTimestamp, flag, properties } = readSendRequest(request.head)
    const one = { flag, properties, body: request.body }
    const messages = (batch ? decodeBatch(request.body) : [one]).map(message => ({
      ...message,
      sysFlag,
      bornTimestamp,
    }))
    const send: FakeSend = {
      request,
      topic,
      queueId,
      batch,
      messages,
      store: (which = messages.map((_, index) => index)) => {
        const offsets = which.map(index => this.store(topic, queueId, messages[index]!).queueOffset)
        return offsets[0] ?? -1
      },
      answerStored: firstOffset =>
        request.answer({
          ext: [
            ['queueId', queueId],
            ['queueOffset', firstOffset],
          ],
        }),
    }
    if (!this.topics.has(topic)) return request.answer({ code: ResponseCode.TOPIC_NOT_EXIST })
    if (queueId >= this.topics.get(topic)!.length) return request.answer({ code: ResponseCode.INVALID_PARAMETER })
    if (topic === MARKER_TOPIC) return this.onMarker(send)
    this.sends.push(send)
    this.onSend(send)
  }

  #pull(request: FakeRequest, queue: FakeQueue, offset: number, topic: string): void {
    if (topic !== MARKER_TOPIC) this.pulls++
    else if (this.dispatchBehind > 0) {
      this.dispatchBehind--
      return request.answer({ code: ResponseCode.PULL_NOT_FOUND })
    }
    const end = endOf(queue)
    const found = queue.messages.filter(message => message.queueOffset >= offset).slice(0, 32)
    const moved = offset < queue.minOffset || offset > end
    // The index names it, the log is gone.
    const removed = !moved && found.length > 0 && found[0]!.commitLogOffset < this.logStart
    const messages = moved || removed ? [] : found
    const last = found.at(-1)?.queueOffset ?? offset - 1
    const nextOffset = moved ? (offset < queue.minOffset ? queue.minOffset : end) : last + 1
    request.answer({
      code: removed
        ? ResponseCode.PULL_RETRY_IMMEDIATELY
        : moved
          ? ResponseCode.PULL_OFFSET_MOVED
          : messages.length > 0
            ? ResponseCode.SUCCESS
            : ResponseCode.PULL_NOT_FOUND,
      ext: [
        ['nextBeginOffset', nextOffset],
        ['minOffset', queue.minOffset],
        ['maxOffset', end],
      ],
      body: Buffer.concat(messages.map(encodeStored)),
    })
  }
}

function endOf(queue: FakeQueue): number {
  return (queue.messages.at(-1)?.queueOffset ?? queue.minOffset - 1) + 1
}

export class FakeCluster {
  readonly name: string
  readonly nameServer: { host: string; port: number }
  readonly brokers: FakeBroker[]
  attributes: Record<string, string> = {}
  perm = 6
  /** Fewer than there are to be read. */
  writeQueuesMax = Number.POSITIVE_INFINITY
  /** Brokers that its name server does not know. */
  readonly away = new Set<FakeBroker>()
  /** Topics that were made by request. */
  readonly made: { broker: string; ext: Record<string, string> }[] = []

  constructor(name: string, brokers = 1) {
    this.name = name
    this.nameServer = { host: name, port: 9876 }
    this.brokers = Array.from(
      { length: brokers },
      (_, index) => new FakeBroker(this, `${name}-${'abc'[index]}`, `${name}:${10_911 + index}`),
    )
  }

  get broker(): FakeBroker {
    return this.brokers[0]!
  }

  makeTopic(topic: string, queues: number): void {
    for (const broker of this.brokers) broker.makeTopic(topic, queues)
  }

  /** By broker and queue. */
  texts(topic: string): string[][] {
    return this.brokers.flatMap(broker => broker.topics.get(topic)!.map((_, queueId) => broker.texts(topic, queueId)))
  }

  messages(topic: string): StoredMessage[] {
    return this.brokers.flatMap(broker => broker.topics.get(topic)!.flatMap(({ messages }) => messages))
  }

  connect(network: FakeNetwork): void {
    network.serve(`${this.name}:9876`, request => this.#serve(request))
    for (const broker of this.brokers) network.serve(broker.address, request => broker.serve(request))
  }

  disconnect(network: FakeNetwork): void {
    network.stop(`${this.name}:9876`)
    for (const broker of this.brokers) network.stop(broker.address)
  }

  #serve(request: FakeRequest): void {
    const { code, ext } = decodeHeader(request.head)
    const data = (broker: FakeBroker) => ({
      brokerName: broker.name,
      cluster: this.name,
      brokerAddrs: { 0: broker.address },
    })
    if (code === RequestCode.GET_BROKER_CLUSTER_INFO) {
      const here = this.brokers.filter(broker => !this.away.has(broker))
      const brokerAddrTable = Object.fromEntries(here.map(broker => [broker.name, data(broker)]))
      return request.answer({ body: Buffer.from(JSON.stringify({ brokerAddrTable })) })
    }
    const having = this.brokers.filter(broker => broker.topics.has(ext.get('topic') ?? '') && !this.away.has(broker))
    if (having.length === 0) return request.answer({ code: ResponseCode.TOPIC_NOT_EXIST })
    const queueDatas = having.map(broker => {
      const queues = broker.topics.get(ext.get('topic') ?? '')!.length
      const writeQueueNums = Math.min(queues, this.writeQueuesMax)
      return { brokerName: broker.name, readQueueNums: queues, writeQueueNums, perm: this.perm }
    })
    request.answer({ body: Buffer.from(JSON.stringify({ brokerDatas: having.map(data), queueDatas })) })
  }
}
