// A gateway between real clusters with a producer at it, and at the end the comparison, message by message.
//
// What a test does to processes, connections and disks in between is its own.

import type { ExecutionContext } from 'ava'
import { Producer } from '../../proxy/demo/producer.ts'
import { compare, holds, keyOf, type Proof, proofLine, readTopic } from '../../proxy/demo/proof.ts'
import type { RealCluster } from '../../proxy/demo/real-cluster.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { realEnvironment } from '../../replay/index.ts'
import { sumOf } from './gateway-lab.ts'
import { GatewayProcess, until } from './gateway-process.ts'
import { type RoundsOf, rounds } from './rounds.ts'

export const environment = realEnvironment(silentLogger)
/** Acked messages after which those of rounds are compared: a comparison has all of both clusters in memory. */
const COMPARED_AFTER = 250_000
/** Lines of the gateway's log that are shown where a test fails. */
const LOGGED = 40
/** Milliseconds in which what an outage left has to be gone. */
export const DRAIN_TIMEOUT = 120_000

export interface LoadOptions {
  source: RealCluster
  /** One, or several by their names. */
  remote: RealCluster | Record<string, RealCluster>
  topic: string
  /** Messages a second. */
  rate: number
  /** Of a payload. */
  bytes?: number
  /** Further `--key=value` of the gateway. */
  gateway?: string[]
  dataDir?: string
  /** Whether brokers of the remote are killed: they may tear what they have not answered yet. */
  remoteIsKilled?: boolean
}

export class Load {
  readonly topic: string
  readonly source: RealCluster
  readonly remotes: Record<string, RealCluster>
  readonly gateway: GatewayProcess
  readonly producer: Producer
  readonly #rate: number
  readonly #remote: 'lives' | 'was killed'
  readonly #t: ExecutionContext

  private constructor(t: ExecutionContext, options: LoadOptions, gateway: GatewayProcess, producer: Producer) {
    this.#t = t
    this.topic = options.topic
    this.source = options.source
    this.remotes = remotesOf(options.remote)
    this.gateway = gateway
    this.producer = producer
    this.#rate = options.rate
    this.#remote = options.remoteIsKilled ? 'was killed' : 'lives'
  }

  /** Starts both, and waits until the remotes keep up. Everything ends with the test. */
  static async start(t: ExecutionContext, options: LoadOptions): Promise<Load> {
    const { source, remote, topic, rate, bytes = 512 } = options
    const remotes = Object.entries(remotesOf(remote)).map(([name, cluster]) => [name, cluster.nameServer] as const)
    const gateway = new GatewayProcess({
      source: source.nameServer,
      remote: 'brokers' in remote ? remotes[0]![1] : Object.fromEntries(remotes),
      options: options.gateway ?? [],
      ...(options.dataDir === undefined ? {} : { dataDir: options.dataDir }),
    })
    t.teardown(async () => {
      if (!t.passed)
        t.log('the end of the log of the gateway:', ...gateway.log.slice(-LOGGED).map(line => JSON.stringify(line)))
      await gateway.end()
    })
    await gateway.start()
    const producer = new Producer(environment, gateway.nameServer, topic, bytes)
    t.teardown(() => producer.end())
    const load = new Load(t, options, gateway, producer)
    await producer.connect()
    producer.start(rate)
    for (const name of Object.keys(load.remotes)) {
      const some = async () => (await load.value('replicated_messages', name)) > 200
      await until(`messages are replicated to ${name}`, some)
      await load.caughtUp(name)
    }
    return load
  }

  /**
   * Rounds under load. At their end, and when there are many messages, these are compared, and `after` is told of the load; the
   * next load is one of another topic.
   */
  static async inRounds(
    t: ExecutionContext,
    name: RoundsOf,
    options: LoadOptions,
    inRound: (load: Load, round: number) => Promise<void>,
    after: (load: Load) => void = () => {},
  ): Promise<void> {
    let load: Load | undefined
    const compare = async () => {
      await load?.whole()
      if (load !== undefined) after(load)
      await load?.end()
      load = undefined
    }
    for (const round of rounds(t, name)) {
      load ??= await Load.start(t, { ...options, topic: `${options.topic}-${round}` })
      await inRound(load, round)
      if (load.producer.acked.size > COMPARED_AFTER) await compare()
    }
    await compare()
  }

  async end(): Promise<void> {
    this.producer.end()
    await this.gateway.end()
  }

  async more(count: number, ms = 60_000): Promise<void> {
    const before = this.producer.acked.size
    await until(`${count} more are acked`, () => this.producer.acked.size >= before + count, ms)
  }

  /** A metric of one remote. */
  async value(name: string, remote = Object.keys(this.remotes)[0]!): Promise<number> {
    return (await this.gateway.metrics()).get(`${name}{remote="${remote}"}`) ?? Number.NaN
  }

  /** Waits until no more waits than comes in a second. */
  async caughtUp(remote?: string): Promise<void> {
    const near = async () => (await this.value('lag_messages', remote)) < this.#rate
    await until('the remote has nearly all', near, DRAIN_TIMEOUT)
  }

  /**
   * Ends the sending. At each remote is then what was acked, once, in order, as it was sent, and the account says so; and
   * nothing of what others wrote to the source.
   */
  async whole(others: ReadonlySet<string> = new Set()): Promise<void> {
    const t = this.#t
    await this.producer.stop()
    const { acked, failed } = this.producer
    const atSource = await readTopic(environment, this.source.nameServer, this.topic)
    for (const [name, cluster] of Object.entries(this.remotes)) {
      await until(
        `nothing is left to send to ${name}`,
        async () => (await this.value('lag_messages', name)) === 0,
        DRAIN_TIMEOUT,
      )
      const metrics = await this.gateway.metrics()
      const atRemote = await readTopic(environment, cluster.nameServer, this.topic)
      const proof = compare(acked, atSource, atRemote)
      t.log(
        name,
        proofLine(proof),
        `failed=${failed} slowest=${this.producer.slowest} ms peak memory ${Math.round(this.gateway.peakMemory() / 2 ** 20)} MiB`,
      )
      t.true(holds(proof, this.#remote), `${name} ${proofLine(proof)} ${firstOf(proof)}`)
      t.is(metrics.get(`replicated_messages{remote="${name}"}`), proof.remote, `${name}: replicated, as counted`)
      t.is(sumOf(metrics, 'lost_messages_total'), 0)
      const strangers = [...atRemote.values()].flat().filter(message => others.has(keyOf(message)))
      t.is(strangers.length, 0, `${name}: messages of others`)
    }
  }
}

function remotesOf(remote: LoadOptions['remote']): Record<string, RealCluster> {
  return 'brokers' in remote ? { default: remote as RealCluster } : remote
}

function firstOf(proof: Proof): string {
  return Object.entries(proof)
    .filter((entry): entry is [string, string[]] => Array.isArray(entry[1]) && entry[1].length > 0)
    .map(([what, keys]) => `${what}: ${keys.slice(0, 3).join(' ')}`)
    .join('; ')
}
