// A small producer for the demo and the bench: sends to a topic through a name server at a steady rate, over one
// connection for each broker, and remembers which keys were acked.
//
// It sends as clients do, in version 2 with a JSON header, each message with a key and a UNIQ_KEY of its own. As they
// do, it tries again what a busy broker has not stored (code 2); any other refusal or failure is counted and forgotten.

import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type ExtValue,
  encodeFrame,
  encodeProperties,
  PERM_WRITE,
  RequestCode,
  ResponseCode,
  type Route,
  saysStored,
} from '../../codec/index.ts'
import { Cluster, type Environment, masterOf, parseAddress } from '../../replay/index.ts'

const SEND_TIMEOUT = 5_000
const SEND_TRIES = 10
/** Sends that are out at a time: where brokers are slower than the rate, they wait here and not for longer than their time-out. */
const OUT_MOST = 256
const TICK = 10
const ROUTE_POLL = 250
const ROUTE_TRIES = 120

interface Queue {
  address: string
  queueId: number
}

/** The extFields of a plain send in version 2, born now. */
export function sendFields(group: string, topic: string, queueId: number, properties: Buffer): [string, ExtValue][] {
  return [
    ['a', group],
    ['b', topic],
    ['c', 'TBW102'],
    ['d', 4],
    ['e', queueId],
    ['f', 0],
    ['g', Date.now()],
    ['h', 0],
    ['i', properties],
    ['j', 0],
    ['k', false],
    ['m', false],
  ]
}

export class Producer {
  sent = 0
  failed = 0
  /** Milliseconds that the slowest acked send took. */
  slowest = 0
  /** Keys of acked messages. */
  readonly acked = new Set<string>()
  readonly #cluster: Cluster
  readonly #topic: string
  readonly #bodyBytes: number
  readonly #run = randomBytes(6).toString('hex').toUpperCase()
  #queues: Queue[] = []
  #timer: NodeJS.Timeout | undefined
  readonly #out = new Set<Promise<void>>()

  constructor(environment: Environment, nameServer: string, topic: string, bodyBytes: number) {
    this.#cluster = new Cluster(environment, [parseAddress(nameServer)])
    this.#topic = topic
    this.#bodyBytes = bodyBytes
  }

  /** Finds the topic's queues; a topic that is not there yet is made by its first message, as clients do it. */
  async connect(): Promise<void> {
    const route = await this.#route()
    this.#queues = route.queues.flatMap(queue => {
      const address = masterOf(route, queue.broker)
      if (address === undefined || (queue.perm & PERM_WRITE) === 0) return []
      return Array.from({ length: Math.min(4, queue.writeQueues) }, (_, queueId) => ({ address, queueId }))
    })
  }

  /** A broker tells its name server of itself soon after its start, not at once. */
  async #route(): Promise<Route> {
    for (let tries = 1; ; tries++) {
      const route = (await this.#cluster.route(this.#topic)) ?? (await this.#cluster.route('TBW102'))
      if (route !== undefined) return route
      if (tries === ROUTE_TRIES) throw new Error(`no route for ${this.#topic} after ${(tries * ROUTE_POLL) / 1000} s`)
      await sleep(ROUTE_POLL)
    }
  }

  /** Sends so many messages a second until `stop`, or as many as brokers take. */
  start(rate: number): void {
    const started = Date.now()
    const before = this.sent
    clearInterval(this.#timer)
    this.#timer = setInterval(() => {
      const due = before + Math.floor(((Date.now() - started) / 1000) * rate)
      while (this.sent < due && this.#out.size < OUT_MOST) this.#send()
    }, TICK)
  }

  /** Sends no more; resolves when everything sent is answered or has failed. */
  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await Promise.all(this.#out)
  }

  end(): void {
    clearInterval(this.#timer)
    this.#cluster.end()
  }

  #send(): void {
    const index = this.sent++
    const sending = this.#sendOne(index).catch(() => {
      this.failed++
    })
    this.#out.add(sending)
    void sending.finally(() => this.#out.delete(sending))
  }

  async #sendOne(index: number): Promise<void> {
    const { address, queueId } = this.#queues[index % this.#queues.length]!
    const key = `${this.#run}-${index}`
    const properties = encodeProperties([
      ['KEYS', key],
      ['UNIQ_KEY', `${this.#run}${index.toString(16).toUpperCase().padStart(20, '0')}`],
      ['WAIT', 'true'],
      ['TAGS', 'demo'],
    ])
    const ext = sendFields('tee_demo', this.#topic, queueId, properties)
    const body = randomBytes(this.#bodyBytes)
    const started = Date.now()
    for (let tries = 1; ; tries++) {
      const link = this.#cluster.link(address)
      const encode = (opaque: number) => encodeFrame({ code: RequestCode.SEND_MESSAGE_V2, opaque, ext }, body, 0)
      const { code } = (await link.request(encode, SEND_TIMEOUT)).head
      if (saysStored(code)) break
      if (code !== ResponseCode.SYSTEM_BUSY || tries === SEND_TRIES) throw new Error(`code ${code}`)
    }
    this.acked.add(key)
    this.slowest = Math.max(this.slowest, Date.now() - started)
  }
}
