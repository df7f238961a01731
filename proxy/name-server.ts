// The name-server side of the gateway: clients ask here for routes, and are told our listeners in place of the brokers.
//
// Every request goes to a real name server of the source, over a connection of its own for each client. Of the answers
// to GET_ROUTEINFO_BY_TOPIC and GET_BROKER_CLUSTER_INFO the addresses are replaced, as text, and nothing else; all other
// frames pass as they came. Frames are taken whole here: they are small and rare.

import type { Socket } from 'node:net'
import {
  type BrokerAddress,
  type Frame,
  Framer,
  RequestCode,
  ResponseCode,
  readRoute,
  rewriteRoute,
} from '../codec/index.ts'
import type { Address } from '../replay/index.ts'
import { dial } from './dial.ts'
import type { Logger } from './logger.ts'

export interface NameServerContext {
  log: Logger
  nameServers: readonly Address[]
  /** Longest frame accepted from a client or a name server. */
  frameBytesMax: number
  /** What clients are told as our host; empty: the local address of the connection that asked. */
  advertisedHost: string
  /** Sees that each address has a listener, and gives its port. */
  portsOf(addresses: readonly BrokerAddress[]): Promise<Map<string, number>>
  malformed(reason: string): void
}

export class NameServerSession {
  readonly #context: NameServerContext
  readonly #client: Socket
  /** Requests whose answers are to be rewritten, by opaque. */
  readonly #routes = new Set<number>()
  #source: Socket | undefined
  #answers: Promise<void> = Promise.resolve()

  constructor(context: NameServerContext, client: Socket) {
    this.#context = context
    this.#client = client
    client.on('error', error => context.log.debug({ err: error }, 'client connection failed'))
    client.on('close', () => this.close())
  }

  /** Dials the name servers in turn, and serves; closes the client where none can be reached. */
  async start(): Promise<void> {
    for (const address of this.#context.nameServers) {
      const source = await dial(address)
      if (source === undefined) continue
      if (this.#client.destroyed) {
        source.destroy()
        return
      }
      return this.#serve(source)
    }
    this.#context.log.warn('no name server of the source can be reached: client connection closed')
    this.close()
  }

  close(): void {
    this.#client.destroy()
    this.#source?.destroy()
  }

  #serve(source: Socket): void {
    this.#source = source
    const requests = new Framer(this.#context.frameBytesMax)
    const answers = new Framer(this.#context.frameBytesMax)
    this.#client.on('data', chunk => this.#each(requests, chunk, 'client', frame => this.#request(frame, source)))
    source.on('data', chunk => this.#each(answers, chunk, 'source', frame => this.#answer(frame)))
    this.#client.on('end', () => source.end())
    source.on('end', () => void this.#answers.then(() => this.#client.end()))
    source.on('error', error => this.#context.log.debug({ err: error }, 'name-server connection failed'))
    source.on('close', () => void this.#answers.then(() => this.close()))
  }

  #each(framer: Framer, chunk: Buffer, side: string, take: (frame: Frame) => void): void {
    try {
      for (const frame of framer.push(chunk)) take(frame)
    } catch (error) {
      this.#malformed(side, error as Error)
    }
  }

  #request({ head, bytes }: Frame, source: Socket): void {
    const { code, opaque } = head
    if (code === RequestCode.GET_ROUTEINFO_BY_TOPIC || code === RequestCode.GET_BROKER_CLUSTER_INFO)
      this.#routes.add(opaque)
    // Routes are asked for every 30 s, and each is answered: more than this is a client that does not take its answers.
    if (this.#routes.size > 10_000) return this.close()
    source.write(bytes)
  }

  /** Answers are passed on in order, also when one waits for a listener. */
  #answer(frame: Frame): void {
    const isRoute =
      frame.head.isResponse &&
      this.#routes.delete(frame.head.opaque) &&
      frame.head.code === ResponseCode.SUCCESS &&
      frame.body.length > 0
    this.#answers = this.#answers
      .then(async () => void this.#client.write(isRoute ? await this.#rewritten(frame) : frame.bytes))
      .catch(error => this.#malformed('source', error as Error))
  }

  async #rewritten({ head, bytes, body }: Frame): Promise<Buffer> {
    const ports = await this.#context.portsOf(readRoute(body).addresses)
    const host = this.#context.advertisedHost || (this.#client.localAddress ?? '').replace(/^::ffff:/, '')
    const rewritten = rewriteRoute(body, ({ address }) => `${host}:${ports.get(address)}`)
    const out = Buffer.concat([bytes.subarray(0, head.end), rewritten])
    out.writeInt32BE(out.length - 4)
    return out
  }

  #malformed(side: string, error: Error): void {
    const peer = `${this.#client.remoteAddress}:${this.#client.remotePort}`
    const reason = 'reason' in error ? String(error.reason) : 'internal'
    this.#context.log.warn({ side, peer, reason, detail: error.message }, 'malformed frame: connection closed')
    this.#context.malformed(reason)
    this.close()
  }
}
