// A broker inside this process: the requests that it knows, over real sockets, with the answers of broker 5.3.3.
//
// It listens on its port and on the VIP port (port - 2), which has no PULL_MESSAGE. What is stored is in its store and
// outlives stop and start; who is connected does not. Not there: check-backs of transactions, CONSUMER_SEND_MSG_BACK
// (clients then send to the retry topic themselves), POP, SQL filters, ACL. An unknown code is answered 3.

import { decodeBatch, ResponseCode } from '../../codec/index.ts'
import { brokerConfig, createTopic, runtimeInfo, topicConfig, topicStats } from './embedded-admin.ts'
import { found, json, OK, queueOf, UNSET_REMARK } from './embedded-answers.ts'
import { EmbeddedClients, type Subscription } from './embedded-clients.ts'
import { incomingOf, lockBodyOf, tagFilter } from './embedded-requests.ts'
import {
  type Answer,
  type AnswerType,
  type Connection,
  EmbeddedServer,
  HOST,
  hostBytes,
  Request,
} from './embedded-server.ts'
import { EmbeddedStore, type LogEntry, type Refusal, type Stored } from './embedded-store.ts'
import { type Effect, Faults, shuffled } from './faults.ts'
import { NullOffsets, nullSends } from './null-sends.ts'

const SUSPEND = 2
const SUBSCRIPTION_IN_REQUEST = 4
const COMMIT_OFFSET = 1
const PERM_READ = 4
const COMMIT = 8
const ROLLBACK = 12
const NOTIFY_CONSUMER_IDS_CHANGED = 40
/** How long answers that are to be shuffled wait for more of them. */
const SHUFFLE_WAIT_MS = 20

export interface BrokerOptions {
  cluster: string
  name: string
  answerType?: AnswerType
  /** Keeps nothing, and answers sends as fast as it can. Its faults do not hold for single sends. */
  nullBroker?: boolean
  /** Bytes of messages kept before the oldest go. */
  keepBytes?: number
}

/** What a request is answered; null: never. */
type Handled = Answer | null
type Handler = (request: Request) => Handled | Promise<Handled>

interface WaitingPull {
  topic: string
  queueId: number
  retry: () => Answer | undefined
  end: (answer: Handled) => void
}

export class EmbeddedBroker {
  readonly name: string
  readonly faults: Faults
  readonly store: EmbeddedStore
  /** Of a null broker: what it has taken. */
  readonly taken = new NullOffsets()
  readonly #server: EmbeddedServer
  readonly #clients: EmbeddedClients
  readonly #handlers: Map<number, Handler>
  readonly #waiting = new Set<WaitingPull>()
  /** Consumer groups that it has heard of: each that pulls or beats is made, as by autoCreateSubscriptionGroup. */
  readonly #groups = new Set(['TOOLS_CONSUMER'])
  readonly #nullBroker: boolean
  /** Its address as messages keep it; known when it has been started. */
  readonly #host = Buffer.alloc(8)
  #deliveryTimer: NodeJS.Timeout | undefined
  #deliveryAt = Number.POSITIVE_INFINITY
  running = false

  constructor(options: BrokerOptions) {
    this.name = options.name
    this.#nullBroker = options.nullBroker ?? false
    this.#server = new EmbeddedServer({
      extraPorts: [-2],
      answerType: options.answerType ?? 'json',
      request: request => this.#serve(request),
      closed: connection => this.#clients.closed(connection),
      ...(this.#nullBroker ? { reader: connection => this.#nullReader(connection) } : {}),
    })
    this.store = new EmbeddedStore({
      cluster: options.cluster,
      broker: options.name,
      host: this.#host,
      ...(options.keepBytes === undefined ? {} : { keepBytes: options.keepBytes }),
    })
    this.faults = new Faults(this.store, () => this.#answerWaiting())
    this.#clients = new EmbeddedClients((consumerGroup, members) => {
      for (const member of members) member.tell(NOTIFY_CONSUMER_IDS_CHANGED, { consumerGroup })
    })
    this.#handlers = this.#handlerTable()
  }

  get address(): string {
    return this.#server.address
  }

  /** Connections that it has at the moment. */
  get connections(): number {
    return [...this.#server.connections].length
  }

  /** Listens; when it was stopped, at the same ports and with what was stored. */
  async start(): Promise<void> {
    if (this.running) return
    await this.#server.start()
    hostBytes(HOST, this.#server.port).copy(this.#host)
    this.running = true
    this.store.cutUnreadable()
    this.faults.stored()
    this.#deliver()
  }

  /** Resets the connections and closes the ports. What was stored stays. */
  async stop(): Promise<void> {
    if (!this.running) return
    this.running = false
    clearTimeout(this.#deliveryTimer)
    this.#deliveryAt = Number.POSITIVE_INFINITY
    this.faults.close()
    for (const waiting of [...this.#waiting]) waiting.end(null)
    await this.#server.stop()
  }

  // Requests, and what goes wrong with them

  #serve(request: Request): void {
    const fault = this.faults.for(request)
    switch (fault?.kind) {
      case 'refuse':
        request.connection.answer(request, { code: fault.code, remark: fault.remark })
        return
      case 'time-out':
        return
      case 'reset-before':
        request.connection.socket.resetAndDestroy()
        return
    }
    const answer = this.#execute(request)
    if (answer instanceof Promise) answer.then(late => this.#settle(request, late, fault))
    else this.#settle(request, answer, fault)
  }

  #settle(request: Request, answer: Handled, fault: Effect | undefined): void {
    const send = () => {
      if (answer !== null) request.connection.answer(request, answer)
    }
    switch (fault?.kind) {
      case 'lose-answer':
        return
      case 'reset-after':
        request.connection.socket.resetAndDestroy()
        return
      case 'slow':
        setTimeout(send, fault.ms).unref()
        return
      case 'shuffle':
        fault.held.push(send)
        if (fault.held.length >= fault.size) release(fault)
        else if (fault.held.length === 1) setTimeout(() => release(fault), SHUFFLE_WAIT_MS).unref()
        return
      default:
        send()
    }
  }

  #execute(request: Request): Handled | Promise<Handled> {
    const handler = this.#handlers.get(request.code)
    const vip = request.connection.port !== this.#server.port
    if (handler === undefined || (vip && request.code === 11)) {
      return { code: ResponseCode.REQUEST_CODE_NOT_SUPPORTED, remark: ` request type ${request.code} not supported` }
    }
    try {
      return handler(request)
    } catch (error) {
      // As a real broker does with what its processors throw: no extFields then.
      return { code: ResponseCode.SYSTEM_ERROR, remark: String(error) }
    }
  }

  #handlerTable(): Map<number, Handler> {
    const { store } = this
    const send = (request: Request) => (this.#nullBroker ? this.#takeNothing(request) : this.#send(request))
    return new Map<number, Handler>([
      [10, send],
      [310, send],
      [320, send],
      [11, request => this.#pull(request)],
      [12, request => this.#query(request)],
      [14, request => this.#consumerOffset(request)],
      [15, request => this.#commitOffset(request)],
      [17, request => createTopic(store, request)],
      [26, () => brokerConfig(store, this.#server.port)],
      [28, () => runtimeInfo(store)],
      [29, request => found(store.searchOffset(...queueOf(request), request.integer('timestamp')))],
      [30, request => found(store.maxOffset(...queueOf(request)))],
      [31, request => found(store.minOffset(...queueOf(request)))],
      [32, request => ({ code: 0, ext: { timestamp: store.earliestTimestamp(...queueOf(request)) } })],
      [33, request => this.#view(request)],
      [34, request => this.#heartbeat(request)],
      [
        35,
        request => {
          const { connection, ext } = request
          this.#clients.unregister(connection, ext.get('producerGroup'), ext.get('consumerGroup'))
          return OK
        },
      ],
      [37, request => this.#endTransaction(request)],
      [38, request => this.#consumersOf(request)],
      [41, request => this.#lock(request)],
      [42, request => this.#unlock(request)],
      [202, request => topicStats(store, request)],
      [204, request => this.#producersOf(request)],
      [351, request => topicConfig(store, request)],
    ])
  }

  // Sends

  #nullReader(connection: Connection): (chunk: Buffer) => void {
    const write = (answers: Buffer) => connection.write(answers)
    return nullSends(this.#host, this.taken, write, frame => this.#serve(new Request(connection, frame)))
  }

  #send(request: Request): Answer {
    const incoming = incomingOf(request)
    const outcome = this.store.send(incoming)
    if (isRefusal(outcome)) return { code: outcome.code, remark: outcome.remark, ext: { ...SEND_EXT } }
    this.#stored()
    const { queueId, queueOffset, offsets, transactionId } = outcome
    return sendAnswer(queueId, queueOffset, this.#messageIds(offsets), transactionId)
  }

  /** A send to a null broker that its hot path does not answer: a batch, or one whose queue is to be chosen. */
  #takeNothing(request: Request): Answer {
    const { batch, queueId: wanted, body } = incomingOf(request)
    const queueId = Math.max(wanted, 0)
    const count = batch ? decodeBatch(body).length : 1
    const { queues } = this.taken
    const queueOffset = queues[queueId] ?? 0
    queues[queueId] = queueOffset + count
    this.taken.sends += count
    const offsets = Array.from({ length: count }, (_, i) => this.taken.commitLog + i * 256)
    this.taken.commitLog += count * 256 + body.length
    return sendAnswer(queueId, queueOffset, this.#messageIds(offsets), undefined)
  }

  #messageIds(offsets: number[]): string {
    const host = this.#host.toString('hex').toUpperCase()
    return offsets.map(offset => host + offset.toString(16).toUpperCase().padStart(16, '0')).join(',')
  }

  #stored(): void {
    this.faults.stored()
    this.#armDelivery()
  }

  #armDelivery(): void {
    const due = this.store.nextDue
    if (due === undefined || due >= this.#deliveryAt || !this.running) return
    clearTimeout(this.#deliveryTimer)
    this.#deliveryAt = due
    // A timer holds 31 bits; one that ends too early is armed again.
    this.#deliveryTimer = setTimeout(() => this.#deliver(), Math.min(Math.max(due - Date.now(), 1), 2 ** 31 - 1))
    this.#deliveryTimer.unref()
  }

  #deliver(): void {
    this.#deliveryAt = Number.POSITIVE_INFINITY
    if (this.store.deliverDue() > 0) this.faults.stored()
    this.#armDelivery()
  }

  #endTransaction(request: Request): Handled {
    const group = request.text('producerGroup')
    const tableOffset = request.integer('tranStateTableOffset')
    const logOffset = request.integer('commitLogOffset')
    switch (request.integer('commitOrRollback')) {
      case COMMIT: {
        const refusal = this.store.commit(group, tableOffset, logOffset)
        if (refusal !== undefined) return refusal
        this.#stored()
        return OK
      }
      case ROLLBACK: {
        const refusal = this.store.rollback(group, tableOffset, logOffset)
        return refusal ?? { code: ResponseCode.SUCCESS, remark: UNSET_REMARK }
      }
      default:
        return null
    }
  }

  // Reads

  #pull(request: Request): Handled | Promise<Handled> {
    const [topic, queueId] = queueOf(request)
    const group = request.text('consumerGroup')
    const sysFlag = request.integer('sysFlag')
    const offset = request.integer('queueOffset')
    const max = request.integer('maxMsgNums')
    this.#groups.add(group)
    const config = this.store.topics.get(topic)
    if (config === undefined) {
      return { code: ResponseCode.TOPIC_NOT_EXIST, remark: `topic[${topic}] not exist, apply first please!`, ext: {} }
    }
    if ((config.perm & PERM_READ) === 0) {
      return { code: ResponseCode.NO_PERMISSION, remark: `the topic[${topic}] pulling message is forbidden`, ext: {} }
    }
    if (queueId < 0 || queueId >= config.readQueues) {
      const remark = `queueId[${queueId}] is illegal, topic:[${topic}] topicConfig.readQueueNums:[${config.readQueues}] consumer:[${request.connection.peer}]`
      return { code: ResponseCode.INVALID_PARAMETER, remark, ext: {} }
    }
    let subscription: Subscription | undefined
    if (sysFlag & SUBSCRIPTION_IN_REQUEST) {
      const expressionType = request.ext.get('expressionType') ?? 'TAG'
      subscription = { expressionType, expression: request.ext.get('subscription') ?? '*' }
    } else {
      subscription = this.#clients.subscription(group, topic)
      if (subscription === undefined) {
        const what = this.#clients.hasConsumers(group) ? 'subscription' : 'group info'
        return { code: ResponseCode.SUBSCRIPTION_NOT_EXIST, remark: `the consumer's ${what} not exist`, ext: {} }
      }
    }
    if (subscription.expressionType !== 'TAG') {
      const remark = `The broker does not support consumer to filter message by ${subscription.expressionType}`
      return { code: ResponseCode.SYSTEM_ERROR, remark, ext: {} }
    }
    if (sysFlag & COMMIT_OFFSET) this.store.commitOffset(group, topic, queueId, request.integer('commitOffset'))
    const matches = tagFilter(subscription.expression)
    const pull = (): Answer => {
      const { code, status, nextBeginOffset, minOffset, maxOffset, bytes } = this.store.pull(
        topic,
        queueId,
        offset,
        max,
        matches,
      )
      return {
        code,
        remark: status,
        ext: {
          suggestWhichBrokerId: 0,
          nextBeginOffset,
          minOffset,
          maxOffset,
          topicSysFlag: config.sysFlag,
          groupSysFlag: 0,
        },
        body: bytes,
      }
    }
    const answer = pull()
    if (answer.code !== ResponseCode.PULL_NOT_FOUND || !(sysFlag & SUSPEND)) return answer
    return this.#wait(topic, queueId, request.integer('suspendTimeoutMillis', 0), pull)
  }

  /** Answers when there is something to read, or after this time. */
  #wait(topic: string, queueId: number, ms: number, pull: () => Answer): Promise<Handled> {
    return new Promise(resolve => {
      const end = (answer: Handled) => {
        clearTimeout(timer)
        this.#waiting.delete(waiting)
        resolve(answer)
      }
      const retry = () => {
        const answer = pull()
        return answer.code === ResponseCode.PULL_NOT_FOUND ? undefined : answer
      }
      const waiting: WaitingPull = { topic, queueId, retry, end }
      const timer = setTimeout(() => end(pull()), ms)
      this.#waiting.add(waiting)
    })
  }

  #answerWaiting(): void {
    for (const waiting of [...this.#waiting]) {
      const answer = waiting.retry()
      if (answer !== undefined) waiting.end(answer)
    }
  }

  #view(request: Request): Answer {
    const offset = request.integer('offset')
    const bytes = this.store.cutAt(offset)
    if (bytes !== undefined) return { code: ResponseCode.SUCCESS, body: [bytes] }
    return { code: ResponseCode.SYSTEM_ERROR, remark: `can not find message by the offset, ${offset}` }
  }

  #query(request: Request): Answer {
    const max = request.ext.get('_UNIQUE_KEY_QUERY') === 'true' ? 32 : request.integer('maxNum')
    const begin = request.integer('beginTimestamp')
    const end = request.integer('endTimestamp')
    const found = this.store.query(request.text('topic'), request.text('key'), max, begin, end)
    const last = found.reduce(
      (a: LogEntry | undefined, b) => (a === undefined || b.offset > a.offset ? b : a),
      undefined,
    )
    const ext = {
      indexLastUpdateTimestamp: last?.storeTimestamp ?? 0,
      indexLastUpdatePhyoffset: last?.offset ?? 0,
    }
    if (last === undefined) return { code: 22, remark: 'can not find message, maybe time range not correct', ext }
    return { code: ResponseCode.SUCCESS, ext, body: found.map(entry => entry.bytes) }
  }

  #commitOffset(request: Request): Answer {
    const group = request.text('consumerGroup')
    const [topic, queueId] = queueOf(request)
    if (!this.#groups.has(group)) {
      return { code: ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, remark: `Group ${group} not exist!`, ext: {} }
    }
    if (!this.store.topics.has(topic)) {
      return { code: ResponseCode.TOPIC_NOT_EXIST, remark: `Topic ${topic} not exist!`, ext: {} }
    }
    this.store.commitOffset(group, topic, queueId, request.integer('commitOffset'))
    return OK
  }

  #consumerOffset(request: Request): Answer {
    const [topic, queueId] = queueOf(request)
    const offset = this.store.committedOffset(request.text('consumerGroup'), topic, queueId)
    if (offset !== undefined) return found(offset)
    const hasFirst = this.store.minOffset(topic, queueId) === 0 && this.store.maxOffset(topic, queueId) > 0
    if (request.ext.get('setZeroIfNotFound') !== 'false' && hasFirst) return found(0)
    return { code: 22, remark: 'Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first', ext: {} }
  }

  // Clients

  #heartbeat(request: Request): Answer {
    if (request.body === undefined) throw new Error('the heart-beat has no body')
    const { connection, body, language, version } = request
    for (const group of this.#clients.heartbeat(connection, body, language, version)) {
      this.#groups.add(group)
      const retryTopic = `%RETRY%${group}`
      if (!this.store.topics.has(retryTopic)) this.store.createTopic(retryTopic, 1)
    }
    return { code: ResponseCode.SUCCESS, ext: { IS_SUPPORT_HEART_BEAT_V2: true, IS_SUB_CHANGE: true } }
  }

  #producersOf(request: Request): Answer {
    const group = request.text('producerGroup')
    const producers = this.#clients.producersOf(group)
    if (producers === undefined) {
      return { code: ResponseCode.SYSTEM_ERROR, remark: `the producer group[${group}] not exist` }
    }
    const connectionSet = [...producers].map(([connection, { clientId, language, version }]) => {
      return { clientAddr: connection.peer, clientId, language, version }
    })
    return json({ connectionSet })
  }

  #consumersOf(request: Request): Answer {
    const group = request.text('consumerGroup')
    const consumerIdList = this.#clients.consumersOf(group)
    if (consumerIdList.length === 0) {
      return { code: ResponseCode.SYSTEM_ERROR, remark: `no consumer for this group, ${group}`, ext: {} }
    }
    return json({ consumerIdList })
  }

  #lock(request: Request): Answer {
    const { consumerGroup, clientId, mqSet } = lockBodyOf(request)
    return json({ lockOKMQSet: this.#clients.lock(consumerGroup, clientId, mqSet) })
  }

  #unlock(request: Request): Answer {
    const { consumerGroup, clientId, mqSet } = lockBodyOf(request)
    this.#clients.unlock(consumerGroup, clientId, mqSet)
    return OK
  }
}

const SEND_EXT = { MSG_REGION: 'DefaultRegion', TRACE_ON: 'true' }

function isRefusal(outcome: Stored | Refusal): outcome is Refusal {
  return outcome.code !== 0
}

function sendAnswer(queueId: number, queueOffset: number, msgId: string, transactionId: string | undefined): Answer {
  const ext: Record<string, string | number> = { queueId, ...SEND_EXT, msgId, queueOffset }
  if (transactionId !== undefined) ext.transactionId = transactionId
  return { code: ResponseCode.SUCCESS, ext }
}

function release(fault: Extract<Effect, { kind: 'shuffle' }>): void {
  for (const send of shuffled(fault.held.splice(0), fault.random)) send()
}
