// All of replay: the data directory, the two clusters, and a SourceBroker for each broker of the source.
//
// It can be opened with no listener in sight. What a broker's address is now, and which brokers there are, it is told.

import { BodyMemory } from './body.ts'
import { Cluster } from './cluster.ts'
import type { Address } from './dial.ts'
import type { Environment } from './environment.ts'
import { Remote } from './remote.ts'
import { SourceBroker } from './source-broker.ts'

export interface ReplayOptions {
  dataDir: string
  source: readonly Address[]
  remote: readonly Address[]
  group: string
  bodyMemory: number
  bornTimestampTolerance: number
  sendGiveUpTimeout: number
  topicSync: 'create' | 'off'
  remoteBrokerAway: 'wait' | 'reroute'
}

export class Replay {
  readonly source: Cluster
  readonly remote: Remote
  readonly memory: BodyMemory
  readonly brokers = new Map<string, SourceBroker>()
  readonly #environment: Environment
  readonly #options: ReplayOptions
  readonly #opening = new Map<string, Promise<SourceBroker>>()
  #gatewayId = ''

  constructor(environment: Environment, options: ReplayOptions) {
    this.#environment = environment
    this.#options = options
    this.source = new Cluster(environment, options.source)
    const { remote, topicSync, remoteBrokerAway } = options
    this.remote = new Remote(environment, { nameServers: remote, topicSync, remoteBrokerAway })
    this.memory = new BodyMemory(options.bodyMemory)
  }

  /** Identity of this gateway: made once for each data directory. */
  get gatewayId(): string {
    return this.#gatewayId
  }

  async open(): Promise<void> {
    const { fileSystem, randomId } = this.#environment
    const path = `${this.#options.dataDir}/gateway-id`
    const known = (await fileSystem.read(path))?.toString().trim()
    this.#gatewayId = known || randomId(6)
    if (!known) await fileSystem.replace(path, Buffer.from(`${this.#gatewayId}\n`))
  }

  /** The broker of this name; its journal is opened the first time, and its address is this from now on. */
  broker(name: string, cluster: string, ordinal: number, address: string): Promise<SourceBroker> {
    let opening = this.#opening.get(name)
    if (opening === undefined) {
      opening = this.#openBroker(name, cluster, ordinal, address)
      this.#opening.set(name, opening)
      // Who asks again tries again.
      opening.catch(() => this.#opening.delete(name))
    }
    return opening.then(broker => {
      broker.address = address
      return broker
    })
  }

  /** Lanes end, cursors are written, links are ended. */
  async close(): Promise<void> {
    await Promise.all([...this.brokers.values()].map(broker => broker.close()))
    this.source.end()
    this.remote.cluster.end()
  }

  async #openBroker(name: string, cluster: string, ordinal: number, address: string): Promise<SourceBroker> {
    const { group, bornTimestampTolerance, sendGiveUpTimeout, dataDir } = this.#options
    const broker = new SourceBroker(
      this.#environment,
      // A broker's name may hold anything; a folder's may not.
      {
        folder: `${dataDir}/brokers/${encodeURIComponent(name)}`,
        name,
        cluster,
        ordinal,
        gatewayId: this.#gatewayId,
        group,
        bornTimestampTolerance,
        sendGiveUpTimeout,
      },
      address,
      this.source,
      this.remote,
      this.memory,
    )
    await broker.open()
    this.brokers.set(name, broker)
    return broker
  }
}
