// The ports that stand for the source's brokers: for each address one, and its VIP port two below.
//
// Each client connection gets a source connection of its own, so that what a broker sends to its clients by itself finds
// its way, and dies with it.

import type { Socket } from 'node:net'
import type { BrokerAddress } from '../codec/index.ts'
import { parseAddress, type SourceBroker } from '../replay/index.ts'
import { AddressTable, type ListenerEntry } from './address-table.ts'
import { dial } from './dial.ts'
import { ExitCode, FatalError } from './exit-code.ts'
import { Listener } from './listener.ts'
import type { Logger } from './logger.ts'
import { Session, type SessionContext } from './session.ts'

/** A broker's VIP port is two below its own (MixAll.brokerVIPChannel); the VIP ports of two must not meet. */
const VIP_DISTANCE = 2
const PORT_STEP = 4
const FREE_PORT_TRIES = 50

export interface BrokerListenersOptions {
  listenHost: string
  /** 0: free ports. */
  communicationPort: number
  log: Logger
  /** Keeps the table. */
  save(bytes: Buffer): Promise<void>
  openBroker(entry: ListenerEntry, ordinal: number): Promise<SourceBroker>
  sessionContext(broker: SourceBroker): Omit<SessionContext, 'connection'>
  accepted(): void
}

interface Ports {
  entry: ListenerEntry
  main: Listener
  vip: Listener
}

export class BrokerListeners {
  readonly table = new AddressTable()
  readonly sessions = new Set<Session>()
  #draining = false
  readonly #options: BrokerListenersOptions
  readonly #ports = new Map<number, Promise<Ports>>()
  #learning: Promise<unknown> = Promise.resolve()
  /** By broker name: whether the last connection to it came up. */
  readonly reachable = new Map<string, boolean>()

  constructor(options: BrokerListenersOptions) {
    this.#options = options
  }

  /** Sees that each address has a listener; gives the port of each. Throws FatalError where a port is in use. */
  async portsOf(addresses: readonly BrokerAddress[]): Promise<Map<string, number>> {
    // One after the other: two answers that name a new broker at once must give it one number.
    const learnt = this.#learning.then(() => this.#learn(addresses))
    this.#learning = learnt.catch(() => {})
    return learnt
  }

  /** Takes no more connections; those that are there, or are just coming, end when their sends are answered. */
  drain(): void {
    this.#draining = true
    for (const session of this.sessions) session.drain()
    for (const ports of this.#ports.values())
      void ports.then(
        ({ main, vip }) => {
          main.closeAccepting()
          vip.closeAccepting()
        },
        () => {},
      )
  }

  async destroySockets(): Promise<void> {
    for (const ports of this.#ports.values()) {
      const { main, vip } = await ports
      main.destroySockets()
      vip.destroySockets()
    }
  }

  /** Whether a broker of the source can be reached: an open session tells, else a connection is tried. */
  async probe(): Promise<void> {
    for (const entry of this.table.entries) {
      const socket = await dial(parseAddress(entry.address))
      this.reachable.set(entry.broker, socket !== undefined)
      socket?.destroy()
    }
  }

  async #learn(addresses: readonly BrokerAddress[]): Promise<Map<string, number>> {
    let changed = false
    const entries = addresses.map(address => {
      const learnt = this.table.learn(address)
      changed ||= learnt.changed
      return learnt.entry
    })
    const ports = new Map<string, number>()
    for (const entry of entries) {
      const { main } = await this.#listen(entry)
      changed ||= entry.port !== main.port
      entry.port = main.port
      ports.set(entry.address, main.port)
      if (changed && entry.brokerId === 0) await this.#options.openBroker(entry, this.table.ordinal(entry.broker))
    }
    if (changed) await this.#options.save(this.table.encode())
    return ports
  }

  #listen(entry: ListenerEntry): Promise<Ports> {
    let ports = this.#ports.get(entry.index)
    if (ports === undefined) {
      ports = this.#openPorts(entry)
      this.#ports.set(entry.index, ports)
      ports.catch(() => this.#ports.delete(entry.index))
    }
    return ports
  }

  async #openPorts(entry: ListenerEntry): Promise<Ports> {
    const { communicationPort, listenHost } = this.#options
    await this.#options.openBroker(entry, this.table.ordinal(entry.broker))
    const fixed = communicationPort === 0 ? entry.port : communicationPort + PORT_STEP * entry.index
    for (let tries = 1; ; tries++) {
      const main = new Listener(socket => this.#accept(socket, entry, false))
      const vip = new Listener(socket => this.#accept(socket, entry, true))
      let wanted = fixed
      try {
        await main.listen(listenHost, fixed)
        wanted = main.port - VIP_DISTANCE
        await vip.listen(listenHost, wanted)
        this.#options.log.info(
          { broker: entry.broker, brokerId: entry.brokerId, address: entry.address, port: main.port },
          'listening for a broker',
        )
        return { entry, main, vip }
      } catch (error) {
        main.closeAccepting()
        if (fixed !== 0 || tries === FREE_PORT_TRIES) {
          const { code } = error as NodeJS.ErrnoException
          throw new FatalError(
            ExitCode.portInUse,
            `port ${wanted} for broker ${entry.broker} cannot be had (${code}): change communicationPort, or free the port`,
          )
        }
      }
    }
  }

  async #accept(client: Socket, entry: ListenerEntry, vip: boolean): Promise<void> {
    const { log, accepted, openBroker, sessionContext } = this.#options
    accepted()
    client.on('error', error => log.debug({ err: error }, 'client connection failed'))
    const broker = await openBroker(entry, this.table.ordinal(entry.broker))
    const { address } = entry
    const { host, port } = parseAddress(address)
    const source = (vip ? await dial({ host, port: port - VIP_DISTANCE }) : undefined) ?? (await dial({ host, port }))
    this.reachable.set(entry.broker, source !== undefined)
    if (source === undefined || client.destroyed) {
      // As a dead broker would.
      if (source === undefined)
        log.warn({ broker: entry.broker, address }, 'source broker cannot be reached: client connection closed')
      client.destroy()
      source?.destroy()
      return
    }
    const context = sessionContext(broker)
    const closed = (cause: string) => {
      this.sessions.delete(session)
      context.closed(cause)
    }
    const session = new Session({ ...context, closed, connection: broker.connection(address) }, client, source)
    this.sessions.add(session)
    session.start()
    client.resume()
    if (this.#draining) session.drain()
  }
}
