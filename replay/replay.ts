// All of replay: the data directory, the two clusters, and a SourceBroker for each broker of the source.
//
// It can be opened with no listener in sight. What a broker's address is now, and which brokers there are, it is told.

import { BodyMemory } from './body.ts'
import { Sleep } from './clock.ts'
import { Cluster } from './cluster.ts'
import { isDeadLetterFile } from './dead-letters.ts'
import type { Address } from './dial.ts'
import type { Environment } from './environment.ts'
import type { JournalSettings } from './journal-settings.ts'
import { REMOTES_MAX } from './place.ts'
import { OtherClusterError, Remote } from './remote.ts'
import { SourceBroker } from './source-broker.ts'

export interface ReplayOptions {
  dataDir: string
  source: readonly Address[]
  /** Name servers of each remote by its label. */
  remotes: ReadonlyMap<string, readonly Address[]>
  group: string
  bodyMemory: number
  bornTimestampTolerance: number
  sendGiveUpTimeout: number
  /** Bytes of sends without an answer that are kept to be looked for, for each source broker; 64 MiB by default. */
  unresolvedMemory?: number
  /** Bytes of sends without an answer on a link to a remote broker, after which the next waits; 8 MiB by default. */
  inFlightBytes?: number | undefined
  topicSync: 'create' | 'off'
  journal: JournalSettings
  remoteBrokerAway: 'wait' | 'reroute'
  /** Labels of remotes that may be other clusters than their cursors know: what waits goes there. */
  newRemotes?: readonly string[]
  /** Labels of remotes that are configured no more: what is kept of them is deleted. */
  forgetRemotes?: readonly string[]
}

/** What is asked for with a remote cannot be done. */
export class RemoteChangeError extends Error {}

export class Replay {
  readonly source: Cluster
  remotes: readonly Remote[] = []
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
    this.memory = new BodyMemory(options.bodyMemory)
  }

  /** Identity of this gateway: made once for each data directory. */
  get gatewayId(): string {
    return this.#gatewayId
  }

  /** Throws where the data directory cannot be read or written, and RemoteChangeError. */
  async open(): Promise<void> {
    const { fileSystem, randomId } = this.#environment
    const { forgetRemotes = [], newRemotes = [] } = this.#options
    const path = `${this.#options.dataDir}/gateway-id`
    const known = (await fileSystem.read(path))?.toString().trim()
    this.#gatewayId = known || randomId(6)
    if (!known) await fileSystem.replace(path, Buffer.from(`${this.#gatewayId}\n`))
    for (const label of forgetRemotes) await this.#forget(label)
    const numbers = await this.#numberRemotes(forgetRemotes)
    this.remotes = [...this.#options.remotes].map(
      ([label, nameServers]) =>
        new Remote(this.#environment, {
          label,
          bit: 1 << numbers.indexOf(label),
          nameServers,
          topicSync: this.#options.topicSync,
          remoteBrokerAway: this.#options.remoteBrokerAway,
          inFlightBytes: this.#options.inFlightBytes,
          mayBeNew: newRemotes.includes(label),
        }),
    )
    for (const remote of this.remotes.filter(({ options }) => options.mayBeNew))
      await remote.learnName().catch(error => {
        throw new RemoteChangeError(
          `--new-remote=${remote.label}: the remote has to be up, so that its name is known (${(error as Error).message})`,
        )
      })
  }

  /** Asks the remotes, for so many milliseconds, who they are. Throws OtherClusterError; that one is away is no matter. */
  async checkRemotes(ms: number): Promise<void> {
    const { clock } = this.#environment
    const asked = Promise.all(
      this.remotes.map(remote =>
        remote.learnName().catch(error => {
          if (error instanceof OtherClusterError) throw error
        }),
      ),
    )
    const over = new Sleep(clock)
    await Promise.race([asked, over.for(ms)]).finally(() => over.wake())
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

  /** Whether some broker of a remote can be sent to; before any was needed, whether the remote answers at all. */
  isUp({ bit, cluster }: Remote): boolean {
    let isKnown = false
    for (const { feeds } of this.brokers.values())
      for (const feed of feeds) {
        if (feed.remote.bit !== bit || feed.isUp === undefined) continue
        if (feed.isUp) return true
        isKnown = true
      }
    return !isKnown && cluster.isUp
  }

  /** Lanes end, cursors are written, links are ended. */
  async close(): Promise<void> {
    await Promise.all([...this.brokers.values()].map(broker => broker.close()))
    this.source.end()
    for (const { cluster } of this.remotes) cluster.end()
  }

  /** Deletes what is kept of a remote; dead letters are the only copy of what they hold. */
  async #forget(label: string): Promise<void> {
    const { fileSystem, log } = this.#environment
    const brokers = `${this.#options.dataDir}/brokers`
    const folders = (await fileSystem.list(brokers)).map(broker => `${brokers}/${broker}/remotes/${label}`)
    for (const folder of folders) {
      const letters = (await fileSystem.list(folder)).find(isDeadLetterFile)
      if (letters !== undefined)
        throw new RemoteChangeError(
          `--forget-remote=${label}: ${folder}/${letters} has dead letters: move it away first`,
        )
    }
    for (const folder of folders) await fileSystem.removeFolder(folder)
    log.warn({ remote: label }, 'a remote is forgotten, with its cursors')
  }

  /** Labels of all remotes that there ever were; a remote's number is its place among them. One that is forgotten leaves its place. */
  async #numberRemotes(forgotten: readonly string[]): Promise<string[]> {
    const { fileSystem } = this.#environment
    const path = `${this.#options.dataDir}/remotes.json`
    const text = (await fileSystem.read(path))?.toString()
    const known = text === undefined ? [] : (JSON.parse(text) as string[])
    const all = known.map(label => (forgotten.includes(label) ? '' : label))
    for (const label of this.#options.remotes.keys()) {
      if (all.includes(label)) continue
      // What the journal skips for one that is forgotten is from before this one: it starts at the journal's end.
      const free = all.indexOf('')
      all[free < 0 ? all.length : free] = label
    }
    if (all.length > REMOTES_MAX)
      throw new RemoteChangeError(
        `${path} names ${all.length} remotes; there can be ${REMOTES_MAX}: forget those that are gone with --forget-remote=NAME`,
      )
    const after = `${JSON.stringify(all)}\n`
    if (after !== text) await fileSystem.replace(path, Buffer.from(after))
    return all
  }

  async #openBroker(name: string, cluster: string, ordinal: number, address: string): Promise<SourceBroker> {
    const { group, bornTimestampTolerance, sendGiveUpTimeout, unresolvedMemory, dataDir, journal } = this.#options
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
        journal,
        ...(unresolvedMemory === undefined ? {} : { unresolvedMemory }),
      },
      address,
      this.source,
      this.remotes,
      this.memory,
    )
    await broker.open()
    this.brokers.set(name, broker)
    return broker
  }
}
