// A cluster as we use it ourselves: its name servers, its routes, and one link to each of its addresses.
//
// For the source (reading back, topic settings) and for the remote alike. It asks; it decides nothing.

import {
  decodeHeader,
  type ExtValue,
  encodeFrame,
  type Frame,
  type Header,
  RequestCode,
  ResponseCode,
  type Route,
  readRoute,
} from '../codec/index.ts'
import { type Address, parseAddress } from './dial.ts'
import type { Environment } from './environment.ts'
import { Link, LinkError } from './link.ts'

/** Milliseconds that a question of ours may take. */
export const ASK_TIMEOUT = 5_000

export interface Answer {
  header: Header
  body: Buffer
}

/** Who can be asked. Throws LinkError. */
export interface Asked {
  ask(address: string, code: number, ext?: Iterable<readonly [string, ExtValue]>, body?: Buffer): Promise<Answer>
}

/** A refusal in the cluster's own words. */
export class RefusedError extends Error {
  readonly code: number

  constructor(code: number, what: string, remark: string | undefined) {
    super(`${what} was refused with code ${code}${remark ? `: ${remark.split('\n')[0]!.slice(0, 256)}` : ''}`)
    this.name = 'RefusedError'
    this.code = code
  }
}

export class Cluster implements Asked {
  readonly #environment: Environment
  readonly #nameServers: Address[]
  readonly #links = new Map<string, Link>()
  readonly #askMost: number
  #nameServer = 0

  /** `askMost`: milliseconds that a question may take while the link brings other answers. */
  constructor(environment: Environment, nameServers: readonly Address[], askMost = ASK_TIMEOUT) {
    this.#environment = environment
    this.#nameServers = [...nameServers]
    this.#askMost = askMost
  }

  link(address: string): Link {
    let link = this.#links.get(address)
    if (link === undefined) {
      link = new Link(this.#environment, parseAddress(address))
      this.#links.set(address, link)
    }
    return link
  }

  get isUp(): boolean {
    for (const link of this.#links.values()) if (link.isUp) return true
    return false
  }

  /** A question to an address. Throws LinkError. */
  async ask(
    address: string,
    code: number,
    ext: Iterable<readonly [string, ExtValue]> = [],
    body?: Buffer,
  ): Promise<Answer> {
    const encode = (opaque: number) => encodeFrame({ code, opaque, ext }, body)
    return answerOf(await this.link(address).request(encode, ASK_TIMEOUT, this.#askMost))
  }

  /** A topic's queues and brokers; undefined where the cluster does not have it. Throws LinkError, RefusedError. */
  async route(topic: string): Promise<Route | undefined> {
    const { header, body } = await this.#askNameServer(RequestCode.GET_ROUTEINFO_BY_TOPIC, [['topic', topic]])
    if (header.code === ResponseCode.TOPIC_NOT_EXIST) return undefined
    if (header.code !== ResponseCode.SUCCESS)
      throw new RefusedError(header.code, `the route of topic ${topic}`, header.remark)
    return readRoute(body)
  }

  /** All brokers. Throws LinkError, RefusedError. */
  async brokers(): Promise<Route> {
    const { header, body } = await this.#askNameServer(RequestCode.GET_BROKER_CLUSTER_INFO, [])
    if (header.code !== ResponseCode.SUCCESS) throw new RefusedError(header.code, 'the list of brokers', header.remark)
    return readRoute(body)
  }

  end(): void {
    for (const link of this.#links.values()) link.end('the gateway stops')
  }

  async #askNameServer(code: number, ext: [string, ExtValue][]): Promise<Answer> {
    let failure: unknown
    for (let tries = 0; tries < this.#nameServers.length; tries++) {
      const { host, port } = this.#nameServers[this.#nameServer]!
      try {
        return await this.ask(`${host}:${port}`, code, ext)
      } catch (error) {
        failure = error
        this.#nameServer = (this.#nameServer + 1) % this.#nameServers.length
      }
    }
    throw failure instanceof LinkError ? failure : new LinkError('no name server', false)
  }
}

export function answerOf(frame: Frame): Answer {
  return { header: decodeHeader(frame.head), body: frame.body }
}

/** Address of a broker's master in a route. */
export function masterOf(route: Route, broker: string): string | undefined {
  return route.addresses.find(address => address.broker === broker && address.brokerId === 0)?.address
}
