// A model cluster: a name server, and the brokers that its routes name.
//
// A broker's name stays where its address moves: a slave takes over with what it had copied, and the old master may go on,
// unknown to the routes, for those that are still connected to it.

import { decodeHeader, encodeFrame, Framer, RequestCode, ResponseCode } from '../../codec/index.ts'
import type { Random } from '../support/random.ts'
import { type BrokerOptions, ModelBroker } from './broker.ts'
import { CommitLog } from './commit-log.ts'
import type { Host, Network } from './network.ts'

export class ModelCluster implements Host {
  readonly name: string
  readonly network: Network
  /** By broker name: who has it now. */
  readonly brokers = new Map<string, ModelBroker>()
  readonly oldMasters: ModelBroker[] = []
  /** Names that its routes do not have now. */
  readonly away = new Set<string>()
  isUp = true
  readonly #chance: Random
  #moves = 0

  constructor(name: string, network: Network, chance: Random) {
    this.name = name
    this.network = network
    this.#chance = chance
  }

  get nameServer(): { host: string; port: number } {
    return { host: this.name, port: 9876 }
  }

  get all(): ModelBroker[] {
    return [...this.brokers.values(), ...this.oldMasters]
  }

  add(options: Omit<BrokerOptions, 'cluster' | 'host'>): ModelBroker {
    const start = this.#chance.integer(0, 10) * 1_000_000
    const broker = new ModelBroker(
      this.network,
      this.#chance,
      { ...options, cluster: this.name, host: options.name },
      new CommitLog(start),
    )
    this.brokers.set(options.name, broker)
    broker.start()
    return broker
  }

  serve(): void {
    this.isUp = true
    this.network.listen(`${this.name}:9876`, this, end => {
      const framer = new Framer()
      end.events = {
        data: bytes => {
          for (const { head } of framer.push(bytes)) {
            const { code, ext } = decodeHeader(head)
            const { body, ...answer } = this.#answerTo(code, ext.get('topic') ?? '')
            end.write(encodeFrame({ opaque: head.opaque, flag: 1, ...answer }, body))
          }
        },
        ended: () => end.destroy(),
        closed: () => {},
      }
    })
  }

  /** A slave takes over the name, with what it had of the log. Returns how many records it lacks. */
  move(name: string, upTo: number, oldGoesOn: boolean): number {
    const old = this.brokers.get(name)!
    const log = old.log.copy(upTo)
    const lacks = old.log.records.length - log.records.length
    const host = `${name}${++this.#moves}`
    const broker = new ModelBroker(this.network, this.#chance, { ...old.options, host }, log)
    this.brokers.set(name, broker)
    this.away.delete(name)
    broker.start()
    if (oldGoesOn) this.oldMasters.push(old)
    else old.stop()
    return lacks
  }

  now(): number {
    return this.network.clock.now()
  }

  deliver(call: () => void): void {
    if (this.isUp) call()
  }

  #answerTo(code: number, topic: string): { code: number; remark?: string; body?: Buffer } {
    const brokers = [...this.brokers.values()].filter(({ options }) => !this.away.has(options.name))
    const data = ({ options, address }: ModelBroker) => ({
      brokerName: options.name,
      cluster: this.name,
      brokerAddrs: { 0: address },
    })
    if (code === RequestCode.GET_BROKER_CLUSTER_INFO) {
      const brokerAddrTable = Object.fromEntries(brokers.map(broker => [broker.options.name, data(broker)]))
      return { code: 0, body: Buffer.from(JSON.stringify({ brokerAddrTable })) }
    }
    if (code !== RequestCode.GET_ROUTEINFO_BY_TOPIC) return { code: ResponseCode.REQUEST_CODE_NOT_SUPPORTED }
    const having = brokers.filter(({ log }) => log.topics.has(topic))
    if (having.length === 0) return { code: ResponseCode.TOPIC_NOT_EXIST, remark: `no route of ${topic}` }
    const queueDatas = having.map(({ options, log }) => {
      const queues = log.topics.get(topic)!.length
      return { brokerName: options.name, readQueueNums: queues, writeQueueNums: queues, perm: 6 }
    })
    return { code: 0, body: Buffer.from(JSON.stringify({ brokerDatas: having.map(data), queueDatas })) }
  }
}
