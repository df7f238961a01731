// The gateway inside this process, between embedded clusters: what tests of whole flows start, look into, and end.
//
// What is stored is read in the brokers themselves, so that it can be told at any moment, also while they are stopped.
// Nothing is left behind: no port, no file.

import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { pino } from 'pino'
import { decodeProperties, decodeStoredMessages, readRoute, type StoredMessage } from '../../codec/index.ts'
import { loadConfig } from '../../proxy/config.ts'
import {
  type EmbeddedBroker,
  type EmbeddedCluster,
  type EmbeddedOptions,
  startEmbeddedCluster,
} from '../../proxy/demo/embedded-cluster.ts'
import { EmbeddedNameServer } from '../../proxy/demo/embedded-name-server.ts'
import { keyOf } from '../../proxy/demo/proof.ts'
import { Gateway } from '../../proxy/gateway.ts'
import { type Send, sendRequest } from '../proxy/demo/broker-behaviour.ts'
import { RawClient, until } from './raw-client.ts'
import { removeData } from './remove-data.ts'
import { Tap } from './tap.ts'

export interface LogLine {
  level: number
  msg: string
  reason?: string
  topic?: string
}

/** A gateway in this process; it can be stopped, and started again on the same data. */
export class GatewayHere {
  readonly dataDir: string
  readonly log: LogLine[] = []
  gateway: Gateway
  readonly #argv: string[]

  private constructor(dataDir: string, source: string, remote: string, options: readonly string[]) {
    this.dataDir = dataDir
    this.#argv = [
      `--srcClusterAddr=${source}`,
      `--destClusterAddr=${remote}`,
      `--dataDir=${dataDir}`,
      '--listenHost=127.0.0.1',
      '--nameServerPort=0',
      '--communicationPort=0',
      '--adminPort=0',
      ...options,
    ]
    this.gateway = this.#made()
  }

  static async start(source: string, remote: string, options: readonly string[] = []): Promise<GatewayHere> {
    const here = new GatewayHere(await mkdtemp(join(tmpdir(), 'rocketmq-tee-lab-')), source, remote, options)
    await here.gateway.start()
    return here
  }

  #made(): Gateway {
    const config = loadConfig({ argv: this.#argv, env: {}, readFile: () => '' })
    const log = pino({ level: 'debug' }, { write: line => void this.log.push(JSON.parse(line) as LogLine) })
    return new Gateway(config, log)
  }

  /** Starts it again, once it was stopped. */
  async startAgain(): Promise<void> {
    this.gateway = this.#made()
    await this.gateway.start()
  }

  async end(): Promise<void> {
    await this.gateway.stop()
    removeData(this.dataDir)
  }

  /** Address of the listener that stands for a broker, as clients learn it. */
  async brokerAddress(broker?: string): Promise<string> {
    const names = await RawClient.connect(this.gateway.nameServerAddress)
    try {
      const { addresses } = readRoute((await names.request({ code: 106 })).body)
      return (addresses.find(address => address.broker === broker) ?? addresses[0])!.address
    } finally {
      await names.close()
    }
  }

  async connect(broker?: string): Promise<RawClient> {
    return RawClient.connect(await this.brokerAddress(broker))
  }

  said(msg: string | RegExp): LogLine[] {
    return this.log.filter(line => (typeof msg === 'string' ? line.msg === msg : msg.test(line.msg)))
  }

  /** Values of a scrape by name and labels, without the prefix. */
  metrics(): Map<string, number> {
    const values = new Map<string, number>()
    for (const line of this.gateway.metrics.render().split('\n')) {
      const match = /^(\w+(?:\{.*\})?) (\S+)$/.exec(line)
      if (match !== null) values.set(match[1]!.replace(/^rocketmq_tee_/, ''), Number(match[2]))
    }
    return values
  }

  /** The value of a metric, all of its labels together. */
  metric(name: string): number {
    return sumOf(this.metrics(), name)
  }

  async readyz(): Promise<{ status: number; state: Record<string, unknown> }> {
    const answer = await fetch(`http://${this.gateway.adminAddress}/readyz`)
    return { status: answer.status, state: (await answer.json()) as Record<string, unknown> }
  }

  /** Waits until so many messages were acked, and nothing of them is left to do. */
  async done(acked: number, ms = 15_000): Promise<void> {
    const isDone = () => {
      const metrics = this.metrics()
      return sumOf(metrics, 'acked_messages_total') >= acked && sumOf(metrics, 'lag_messages') === 0
    }
    await until(`${acked} messages are done`, isDone, ms)
  }
}

/** The value of a metric of a scrape, all of its labels together. */
export function sumOf(metrics: ReadonlyMap<string, number>, name: string): number {
  let sum = 0
  for (const [key, value] of metrics) if (key === name || key.startsWith(`${name}{`)) sum += value
  return sum
}

export interface LabOptions {
  source?: Partial<EmbeddedOptions>
  remote?: Partial<EmbeddedOptions>
  /** Puts taps before the first brokers. */
  tapped?: boolean
  /** Further `--key=value`. */
  gateway?: string[]
}

/** A source, a remote, and a gateway between them. */
export interface GatewayLab {
  source: EmbeddedCluster
  remote: EmbeddedCluster
  /** Their first brokers. */
  sourceBroker: EmbeddedBroker
  remoteBroker: EmbeddedBroker
  sourceTap: Tap
  remoteTap: Tap
  here: GatewayHere
  /** A connection to the gateway, to what stands there for the source's first broker; ended with the lab. */
  connect(): Promise<RawClient>
}

/** Runs a test with a lab of its own. */
export function withLab(run: (t: ExecutionContext, lab: GatewayLab) => Promise<void>, options: LabOptions = {}) {
  return async (t: ExecutionContext) => {
    const undo: (() => Promise<unknown>)[] = []
    const started = async (name: string, more: Partial<EmbeddedOptions> = {}) => {
      const cluster = await startEmbeddedCluster({ name, ...more })
      undo.push(() => cluster.stop())
      const [broker] = cluster.brokers as [EmbeddedBroker]
      const tap = await Tap.start(() => broker.address)
      undo.push(() => tap.stop())
      if (!options.tapped) return { cluster, broker, tap, nameServer: cluster.nameServer }
      const names = new EmbeddedNameServer(cluster.name, [
        {
          name: broker.name,
          address: tap.address,
          store: broker.store,
          get running() {
            return broker.running
          },
        },
      ])
      undo.push(() => names.stop())
      await names.start()
      return { cluster, broker, tap, nameServer: names.address }
    }
    try {
      const source = await started('source', options.source)
      const remote = await started('remote', options.remote)
      const here = await GatewayHere.start(source.nameServer, remote.nameServer, options.gateway)
      undo.push(() => here.end())
      await run(t, {
        source: source.cluster,
        remote: remote.cluster,
        sourceBroker: source.broker,
        remoteBroker: remote.broker,
        sourceTap: source.tap,
        remoteTap: remote.tap,
        here,
        async connect() {
          const client = await here.connect(source.broker.name)
          undo.push(() => client.close())
          return client
        },
      })
    } finally {
      for (const step of undo.reverse()) await step()
    }
  }
}

/** All messages of a topic in a cluster of one broker, by queue id, as they stand there. */
export function storedIn(cluster: EmbeddedCluster, topic: string): StoredMessage[][] {
  const { store } = cluster.brokers[0]!
  return countsIn(cluster, topic).map((count, queueId) => {
    const messages: StoredMessage[] = []
    while (messages.length < count) {
      const { bytes } = store.pull(topic, queueId, messages.length, 32)
      messages.push(...decodeStoredMessages(Buffer.concat(bytes)))
    }
    return messages
  })
}

/** How many there are of a topic, by queue id. */
export function countsIn({ brokers }: EmbeddedCluster, topic: string): number[] {
  const { store } = brokers[0]!
  const { readQueues = 0, writeQueues = 0 } = store.topics.get(topic) ?? {}
  return Array.from({ length: Math.max(readQueues, writeQueues) }, (_, queueId) => store.maxOffset(topic, queueId))
}

export function countIn(cluster: EmbeddedCluster, topic: string): number {
  return countsIn(cluster, topic).reduce((a, b) => a + b, 0)
}

/** KEYS of all messages of a topic, by queue id, as they stand there. */
export function keysIn(cluster: EmbeddedCluster, topic: string): string[][] {
  return storedIn(cluster, topic).map(messages => messages.map(keyOf))
}

/** Properties as an application sees them: without what a broker adds, and without the stamp. */
export function ownProperties({ properties }: StoredMessage): Record<string, string> {
  const own = decodeProperties(properties)
  for (const name of ['MSG_REGION', 'TRACE_ON', 'CLUSTER', 'TEE_ORIGIN']) own.delete(name)
  return Object.fromEntries(own)
}

/** What a connection was given from now on, as bytes. */
export function bytesTo(client: RawClient): () => Buffer {
  const chunks: Buffer[] = []
  client.socket.on('data', chunk => chunks.push(chunk))
  return () => Buffer.concat(chunks)
}

/** Where messages go unless a test says otherwise. */
export const topic = 'topic'

/** A message that can be told from others by its KEYS. */
export function keyed(key: string, more: Partial<Send> = {}): Send {
  return {
    topic,
    body: Buffer.from(`body of ${key}`),
    ...more,
    properties: [['KEYS', key], ['UNIQ_KEY', `U-${key}`], ...(more.properties ?? [])],
  }
}

/** Sends it; the source has to accept it. */
export async function acked(t: ExecutionContext, client: RawClient, message: Send): Promise<void> {
  const answer = await client.request(sendRequest(message))
  t.is(answer.code, 0, answer.remark)
}
