// A name server inside this process: routes and the list of brokers, from what the embedded brokers have at that moment.
//
// Brokers do not register over the wire; they are handed in. KV configuration and lists of topics are not there: code 3.

import { RequestCode, ResponseCode } from '../../codec/index.ts'
import { type Answer, EmbeddedServer, type Request } from './embedded-server.ts'
import type { Topic } from './embedded-store.ts'

/** MQVersion ordinal of V4_9_4: clients from it on are given strict JSON. */
const STRICT_SINCE = 401

export interface KnownBroker {
  readonly name: string
  readonly address: string
  readonly running: boolean
  readonly store: { readonly topics: ReadonlyMap<string, Topic> }
}

export class EmbeddedNameServer {
  /** Brokers that are stopped stay in the routes, as they do for two minutes when a real one is killed. */
  keepStopped = false
  readonly #cluster: string
  readonly #brokers: readonly KnownBroker[]
  readonly #server: EmbeddedServer

  constructor(cluster: string, brokers: readonly KnownBroker[]) {
    this.#cluster = cluster
    this.#brokers = brokers
    this.#server = new EmbeddedServer({
      extraPorts: [],
      answerType: 'json',
      request: request => request.connection.answer(request, this.#answer(request)),
    })
  }

  get address(): string {
    return this.#server.address
  }

  start(): Promise<void> {
    return this.#server.start()
  }

  stop(): Promise<void> {
    return this.#server.stop()
  }

  #answer(request: Request): Answer {
    switch (request.code) {
      case RequestCode.GET_ROUTEINFO_BY_TOPIC:
        return this.#route(request)
      case RequestCode.GET_BROKER_CLUSTER_INFO:
        return { code: ResponseCode.SUCCESS, body: [Buffer.from(this.#clusterInfo())] }
      default:
        return { code: ResponseCode.REQUEST_CODE_NOT_SUPPORTED, remark: ` request type ${request.code} not supported` }
    }
  }

  #known(): KnownBroker[] {
    return this.#brokers.filter(broker => broker.running || this.keepStopped)
  }

  #route(request: Request): Answer {
    const name = request.ext.get('topic') ?? ''
    const strict = request.version >= STRICT_SINCE || request.flag('acceptStandardJsonOnly')
    const brokers = this.#known().filter(broker => broker.store.topics.has(name))
    if (brokers.length === 0) {
      const remark = `No topic route info in name server for the topic: ${name}\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.`
      return { code: ResponseCode.TOPIC_NOT_EXIST, remark }
    }
    const brokerDatas = brokers.map(broker => this.#brokerData(broker, strict))
    const queueDatas = brokers.map(broker => {
      const { perm, readQueues, sysFlag, writeQueues } = broker.store.topics.get(name)!
      return `{"brokerName":"${broker.name}","perm":${perm},"readQueueNums":${readQueues},"topicSysFlag":${sysFlag},"writeQueueNums":${writeQueues}}`
    })
    const body = `{"brokerDatas":[${brokerDatas}],"filterServerTable":{},"queueDatas":[${queueDatas}]}`
    return { code: ResponseCode.SUCCESS, body: [Buffer.from(body)] }
  }

  /** Always in fastjson's loose form: names that are numbers stand unquoted. */
  #clusterInfo(): string {
    const brokers = this.#known()
    const table = brokers.map(broker => `"${broker.name}":${this.#brokerData(broker, false)}`)
    const names = brokers.map(broker => `"${broker.name}"`)
    return `{"brokerAddrTable":{${table}},"clusterAddrTable":{"${this.#cluster}":[${names}]}}`
  }

  #brokerData({ name, address }: KnownBroker, strict: boolean): string {
    const id = strict ? '"0"' : '0'
    return `{"brokerAddrs":{${id}:"${address}"},"brokerName":"${name}","cluster":"${this.#cluster}","enableActingMaster":false}`
  }
}
