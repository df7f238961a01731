// The demo: two clusters, the gateway between them, a producer at a steady rate, an outage of the remote broker, and the
// proof that nothing was lost, doubled or reordered.
//
// With Java and Maven it runs real RocketMQ, otherwise, or when asked, the embedded cluster. What it starts it ends, also
// on Ctrl-C; its data directory is a temporary one.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { realEnvironment } from '../../replay/index.ts'
import { loadConfig } from '../config.ts'
import { Gateway } from '../gateway.ts'
import { silentLogger } from '../logger.ts'
import type { Cluster } from './cluster.ts'
import { startEmbeddedCluster } from './embedded-cluster.ts'
import { Producer } from './producer.ts'
import { compare, holds, proofLine, readTopic } from './proof.ts'
import { missingTools, startRealCluster } from './real-cluster.ts'

const TOPIC = 'TeeDemo'
const RATE = 1_000
const BODY_BYTES = 1_024
/** Small, so that the outage fills it and the rest is read back from the source. */
const BODY_MEMORY = '4MiB'
const DRAIN_TIMEOUT = 60_000
const VERSION = '5.3.3'

export interface DemoOptions {
  embedded: boolean
  /** Length of the outage, in seconds. */
  seconds?: number
}

/** Runs it; resolves with the exit code. What was being started when it was interrupted ends with the process. */
export async function runDemo({ embedded, seconds = 8 }: DemoOptions): Promise<number> {
  const missing = missingTools()
  const real = !embedded && missing === undefined
  say(real ? `demo: RocketMQ ${VERSION}` : 'demo: embedded')
  if (!embedded && missing !== undefined) say(`${missing}: the embedded cluster stands in for RocketMQ`)
  const undo: (() => unknown)[] = []
  let ending: Promise<void> | undefined
  const end = () => {
    ending ??= (async () => {
      for (const step of undo.splice(0).reverse())
        await Promise.resolve(step()).catch(error => say(`while ending: ${(error as Error).message}`))
    })()
    return ending
  }
  const interrupt = new AbortController()
  const interrupted = new Promise<number>(resolve => {
    const onSignal = () => {
      say('\ninterrupted: ending what was started')
      interrupt.abort()
      void end().then(() => resolve(130))
    }
    process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
    undo.push(() => void process.off('SIGINT', onSignal).off('SIGTERM', onSignal))
  })
  const run = scenario(real, seconds, undo, interrupt.signal).catch(error => {
    if (interrupt.signal.aborted) return interrupted
    say(`demo: ${(error as Error).message}`)
    return 1
  })
  const code = await Promise.race([run, interrupted])
  await end()
  return code
}

async function scenario(
  real: boolean,
  outageSeconds: number,
  undo: (() => unknown)[],
  signal: AbortSignal,
): Promise<number> {
  const start = async (name: string): Promise<Cluster> => {
    say(`starting cluster ${name}`)
    const cluster = real
      ? await startRealCluster({ name, version: VERSION, onProgress: say })
      : await startEmbeddedCluster({ name })
    undo.push(() => cluster.stop())
    return cluster
  }
  // Side by side; both are waited for, also where one fails, so that none is left behind.
  const [source, remote] = (await Promise.allSettled([start('source'), start('remote')]).then(started =>
    started.map(result => {
      if (result.status === 'rejected') throw result.reason
      return result.value
    }),
  )) as [Cluster, Cluster]
  signal.throwIfAborted()
  const dataDir = await mkdtemp(join(tmpdir(), 'rocketmq-tee-demo-'))
  undo.push(() => rm(dataDir, { recursive: true, force: true }))
  const argv = [
    `--srcClusterAddr=${source.nameServer}`,
    `--destClusterAddr=${remote.nameServer}`,
    '--communicationPort=0',
    '--nameServerPort=0',
    '--adminPort=0',
    '--listenHost=127.0.0.1',
    `--dataDir=${dataDir}`,
    `--bodyMemory=${BODY_MEMORY}`,
  ]
  const gateway = new Gateway(loadConfig({ argv, env: {}, readFile: () => '' }), silentLogger)
  undo.push(() => gateway.stop())
  await gateway.start()
  signal.throwIfAborted()
  say(`gateway serves: nameServer=${gateway.nameServerAddress} admin=${gateway.adminAddress}`)

  const environment = realEnvironment(silentLogger)
  const producer = new Producer(environment, gateway.nameServerAddress, TOPIC, BODY_BYTES)
  undo.push(() => producer.end())
  await producer.connect()
  const screen = new Screen(gateway, producer, signal)
  undo.push(() => screen.end())
  producer.start(RATE)
  await screen.show('remote up', Promise.all([sleep(4_000), screen.replicates(RATE)]))
  const [broker] = remote.brokers
  say(`stopping the remote broker for ${outageSeconds} s; the producer goes on`)
  await screen.show('stopping', broker!.stop())
  await screen.show('remote down', sleep(outageSeconds * 1_000))
  say('starting the remote broker again')
  // The producer goes on, so that the queue is as good as empty when a tenth of a second of its messages is left.
  await screen.drain(broker!.start().then(() => screen.fewerWait(RATE / 10)))
  await screen.show('remote back', sleep(3_000))
  await screen.show(
    'last ones',
    producer.stop().then(() => screen.fewerWait(1)),
  )

  say(`producer: sent=${producer.sent} acked=${producer.acked.size} failed=${producer.failed}`)
  say('reading both clusters')
  const proof = compare(
    producer.acked,
    await readTopic(environment, source.nameServer, TOPIC),
    await readTopic(environment, remote.nameServer, TOPIC),
  )
  say(proofLine(proof))
  return holds(proof) ? 0 : 1
}

/** The live line: rewritten in a terminal, otherwise one a second. Once interrupted, all that it shows throws at its end. */
class Screen {
  readonly #gateway: Gateway
  readonly #producer: Producer
  readonly #signal: AbortSignal
  #timer: NodeJS.Timeout | undefined
  #drawOnce: () => void = () => {}
  /** The most messages that waited since the bar is shown. */
  #most = 1

  constructor(gateway: Gateway, producer: Producer, signal: AbortSignal) {
    this.#gateway = gateway
    this.#producer = producer
    this.#signal = signal
  }

  /** Shows the line until this is done. */
  show(phase: string, work: Promise<unknown>): Promise<void> {
    return this.#during(work, () => this.#line(phase))
  }

  /** Resolves when so many messages are replicated, at the latest after a minute: the proof tells then. */
  async replicates(messages: number): Promise<void> {
    const deadline = Date.now() + DRAIN_TIMEOUT
    while (this.#replicated < messages && Date.now() < deadline) await sleep(50)
  }

  /** Throws where so many still wait after a minute. */
  async fewerWait(messages: number): Promise<void> {
    const deadline = Date.now() + DRAIN_TIMEOUT
    while (this.#waiting >= messages) {
      if (Date.now() > deadline)
        throw new Error(`${this.#waiting} messages still wait after ${DRAIN_TIMEOUT / 1000} s with the remote up`)
      await sleep(50)
    }
  }

  /** Shows how the queue gets shorter, from the most that waits in the meantime, until this is done. */
  async drain(work: Promise<unknown>): Promise<void> {
    await this.#during(work, () => this.#bar())
    if (!process.stdout.isTTY) say(this.#bar())
  }

  end(): void {
    if (this.#timer === undefined) return
    clearInterval(this.#timer)
    this.#timer = undefined
    if (!process.stdout.isTTY) return
    this.#drawOnce()
    process.stdout.write('\n')
  }

  async #during(work: Promise<unknown>, line: () => string): Promise<void> {
    this.#drawOnce = () => (process.stdout.isTTY ? process.stdout.write(`\r\x1b[2K${line()}`) : say(line()))
    this.#drawOnce()
    this.#timer = setInterval(this.#drawOnce, process.stdout.isTTY ? 100 : 1_000)
    try {
      await work
    } finally {
      this.end()
    }
    this.#signal.throwIfAborted()
  }

  get #replicated(): number {
    return this.#sum(({ totals }) => totals.replicated)
  }

  get #waiting(): number {
    return this.#sum(({ queued, inGap }) => queued + inGap)
  }

  get #feeds() {
    return [...this.#gateway.replay.brokers.values()].flatMap(({ feeds }) => feeds)
  }

  #sum(
    read: (account: { queued: number; inGap: number; acked: number; totals: { replicated: number } }) => number,
  ): number {
    let total = 0
    for (const { account } of this.#feeds) total += read(account)
    return total
  }

  #line(phase: string): string {
    const lag = Math.max(0, ...this.#feeds.map(feed => feed.lagMs)) / 1000
    const queued = this.#sum(account => account.queued)
    const gap = this.#sum(account => account.inGap)
    return `${phase.padEnd(11)}  sent ${this.#producer.sent}  acked ${this.#producer.acked.size}  replicated ${this.#replicated}  queued ${queued}  in gap ${gap}  lag ${lag.toFixed(1)} s`
  }

  #bar(): string {
    const waiting = this.#waiting
    this.#most = Math.max(this.#most, waiting)
    const done = 1 - waiting / this.#most
    const width = 40
    const filled = Math.round(done * width)
    return `queue drains [${'#'.repeat(filled)}${'.'.repeat(width - filled)}] ${Math.floor(done * 100)
      .toString()
      .padStart(3)} %  ${waiting} of ${this.#most} left`
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
