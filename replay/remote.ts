// The remote cluster: where a lane's messages go, and whether it can be reached.
//
// Routes are asked for when a lane needs one and again after something failed. It does not send messages: lanes do.

import { PERM_WRITE, type Route } from '../codec/index.ts'
import { type Cluster, masterOf } from './cluster.ts'
import type { RemoteQueue } from './cursor.ts'
import type { Address } from './dial.ts'
import type { Environment } from './environment.ts'
import { FarCluster } from './far-cluster.ts'
import { makeMissing, shapeAt } from './topic-sync.ts'
import { WaitError } from './wait-error.ts'

/** Milliseconds for which a route is taken to be right. */
const ROUTE_AGE = 30_000

export interface RemoteOptions {
  /** Its name in the configuration; `default` where there is one without a name. */
  label: string
  /** A bit of its own, the same over restarts: which messages are skipped for it. */
  bit: number
  nameServers: readonly Address[]
  topicSync: 'create' | 'off'
  /** A lane whose broker is away waits for it, as order demands, or after a time goes to another queue. */
  remoteBrokerAway: 'wait' | 'reroute'
  /** Bytes of sends without answer on one link, after which the next waits; undefined: as many as are usual. */
  inFlightBytes?: number | undefined
  /** Whether it may be another cluster than its cursors know. */
  mayBeNew?: boolean
}

/** The address leads to another cluster than the cursor counts for: nothing is sent there. */
export class OtherClusterError extends WaitError {
  constructor(label: string, known: string, found: readonly string[]) {
    const key = label === 'default' ? 'destClusterAddr' : `destClusterAddr.${label}`
    super(
      `${key} leads to cluster ${found.join(', ')}, and what was replicated so far is at cluster ${known}: correct it, or start once with --new-remote=${label}`,
    )
    this.name = 'OtherClusterError'
  }
}

export class AwayError extends WaitError {
  constructor(broker: string) {
    super(`the remote's broker ${broker} is away`)
  }
}

export class Remote {
  readonly label: string
  readonly bit: number
  readonly cluster: Cluster
  readonly #environment: Environment
  readonly #options: RemoteOptions
  /** By broker: how many requests of ours it has stored. */
  readonly stored = new Map<string, number>()
  readonly #routes = new Map<string, { route: Promise<Route>; at: number }>()
  /** Addresses of masters, as of the newest list of brokers: all topics share them, or lanes would disagree. */
  #masters = new Map<string, string>()
  #name: string | undefined

  constructor(environment: Environment, options: RemoteOptions) {
    this.#environment = environment
    this.#options = options
    this.label = options.label
    this.bit = options.bit
    this.cluster = new FarCluster(environment, options.nameServers)
  }

  get options(): Readonly<RemoteOptions> {
    return this.#options
  }

  /** The cluster's name, once it was reached or the cursor told it. */
  get name(): string | undefined {
    return this.#name
  }

  /** Asks for the name. Throws where it cannot be reached, and OtherClusterError. */
  async learnName(): Promise<string> {
    this.#learn(await this.cluster.brokers())
    if (this.#name === undefined) throw new Error('the remote cluster has no broker yet')
    return this.#name
  }

  /** The name as a cursor has it; true where it is another one, and may be. Throws OtherClusterError where it may not. */
  isOtherThan(known: string): boolean {
    this.#name ??= known
    if (this.#name === known) return false
    if (!this.#options.mayBeNew) throw new OtherClusterError(this.label, known, [this.#name])
    return true
  }

  /**
   * Where a source queue leads: the same queue id where the remote has it, else the id modulo its queues; the broker of
   * the same ordinal, so that two source brokers do not meet in one where there are two.
   */
  async chooseQueue(
    source: Cluster,
    topic: string,
    sourceBroker: string,
    ordinal: number,
    queueId: number,
  ): Promise<Omit<RemoteQueue, 'end'>> {
    const route = await this.#route(topic, source, sourceBroker)
    const candidates = route.queues
      .filter(
        queue =>
          (queue.perm & PERM_WRITE) !== 0 && queue.writeQueues > 0 && masterOf(route, queue.broker) !== undefined,
      )
      .sort((a, b) => (a.broker < b.broker ? -1 : 1))
    if (candidates.length === 0) throw new WaitError(`topic ${topic} has no writable queue at the remote`)
    const { broker, writeQueues } = candidates[ordinal % candidates.length]!
    return { broker, queueId: queueId % writeQueues }
  }

  /** The address of a remote broker's master, where the topic is. Throws WaitError where no route names it. */
  async masterFor(topic: string, broker: string, source: Cluster, sourceBroker: string): Promise<string> {
    const route = await this.#route(topic, source, sourceBroker)
    const address = this.#masters.get(broker)
    if (address === undefined || masterOf(route, broker) === undefined) {
      this.forgetRoute(topic)
      throw new AwayError(broker)
    }
    return address
  }

  /** Whether a broker that is there has a queue to be written to. Throws as `masterFor`. */
  async hasQueue(
    topic: string,
    { broker, queueId }: Pick<RemoteQueue, 'broker' | 'queueId'>,
    source: Cluster,
    sourceBroker: string,
  ): Promise<boolean> {
    const route = await this.#route(topic, source, sourceBroker)
    return route.queues.some(queue => queue.broker === broker && queueId < queue.writeQueues)
  }

  /** The address of a remote broker's master now. Throws WaitError where it has none. */
  async masterOf(broker: string): Promise<string> {
    this.#learn(await this.cluster.brokers())
    const address = this.#masters.get(broker)
    if (address === undefined) throw new AwayError(broker)
    return address
  }

  /** Something failed: the next lane that needs the topic's route asks for it. */
  forgetRoute(topic: string): void {
    this.#routes.delete(topic)
  }

  #route(topic: string, source: Cluster, sourceBroker: string): Promise<Route> {
    const now = this.#environment.clock.uptime()
    const known = this.#routes.get(topic)
    if (known !== undefined && now - known.at < ROUTE_AGE) return known.route
    const route = this.#askRoute(topic, source, sourceBroker)
    this.#routes.set(topic, { route, at: now })
    route.catch(() => this.forgetRoute(topic))
    return route
  }

  async #askRoute(topic: string, source: Cluster, sourceBroker: string): Promise<Route> {
    // In this order: a broker that registers between the two answers is no broker without the topic.
    const all = await this.cluster.brokers()
    this.#learn(all)
    const route = await this.cluster.route(topic)
    const complete =
      route !== undefined &&
      all.addresses.every(a => a.brokerId !== 0 || route.queues.some(queue => queue.broker === a.broker))
    if (complete) return route
    if (this.#options.topicSync === 'off') {
      if (route !== undefined) return route
      throw new WaitError(`topic ${topic} is not at the remote, and topicSync is off`)
    }
    return this.#makeMissing(topic, source, sourceBroker, all, route).catch(error => {
      // Where the topic is, lanes go on; the others are tried again with the next route.
      if (route === undefined) throw error
      this.#environment.log.debug({ topic, reason: (error as Error).message }, 'a topic cannot be made at the remote')
      return route
    })
  }

  #learn({ addresses }: Route): void {
    // Name servers may know several clusters.
    const clusters = [...new Set(addresses.map(({ cluster }) => cluster))]
    if (this.#name !== undefined && clusters.length > 0 && !clusters.includes(this.#name))
      throw new OtherClusterError(this.label, this.#name, clusters)
    this.#name ??= clusters[0]
    const masters = addresses.filter(({ brokerId }) => brokerId === 0)
    this.#masters = new Map(masters.map(({ broker, address }) => [broker, address]))
  }

  async #makeMissing(
    topic: string,
    source: Cluster,
    sourceBroker: string,
    all: Route,
    route: Route | undefined,
  ): Promise<Route> {
    const shape = await shapeAt(source, topic, sourceBroker)
    if (shape === undefined)
      throw new WaitError(`topic ${topic} is not at the remote, and its shape cannot be asked of the source`)
    const made = await makeMissing(this.cluster, topic, shape, all, route)
    if (made > 0)
      this.#environment.log.info(
        { topic, brokers: made, queues: shape.writeQueues, perm: shape.perm },
        'made a missing topic at the remote',
      )
    const after = await this.cluster.route(topic)
    // A broker tells its name servers of a new topic by itself, soon but not at once.
    if (after === undefined) throw new WaitError(`topic ${topic} is not in the routes of the remote yet`)
    return after
  }
}
