// Several remotes on one journal, with a gateway that is killed: in every scrape the terms of each remote make up what was acked,
// whatever became of the others, of its cursor, or of its place in the configuration.

import { rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { readRoute } from '../../codec/index.ts'
import { type EmbeddedCluster, startEmbeddedCluster } from '../../proxy/demo/embedded-cluster.ts'
import { Producer } from '../../proxy/demo/producer.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { realEnvironment } from '../../replay/index.ts'
import { acked, countIn, keyed, keysIn, topic } from '../support/gateway-lab.ts'
import { GatewayProcess } from '../support/gateway-process.ts'
import { RawClient, until } from '../support/raw-client.ts'
import type { Send } from './demo/broker-behaviour.ts'

/** Milliseconds. */
const SCRAPE_INTERVAL = 20
const RATE = 50
const environment = realEnvironment(silentLogger)
const TERMS = ['replicated_messages', 'queued_messages', 'gap_messages', 'dead_letter_messages'] as const
const BY_REASON = ['skipped_messages_total', 'lost_messages_total'] as const

interface Scrape {
  acked: number
  /** By remote, and by the name of the metric. */
  terms: Map<string, Map<string, number>>
}

function read(metrics: ReadonlyMap<string, number>): Scrape {
  const terms = new Map<string, Map<string, number>>()
  for (const [key, value] of metrics) {
    const [, name, remote] = /^(\w+)\{remote="([^"]+)"/.exec(key) ?? []
    if (name === undefined || remote === undefined) continue
    const own = terms.get(remote) ?? new Map<string, number>()
    terms.set(remote, own.set(name, (own.get(name) ?? 0) + value))
  }
  return { acked: metrics.get('acked_messages_total')!, terms }
}

/** Takes one scrape after the other of a gateway, as long as it is up, and holds each against what others know. */
class Scrapes {
  readonly #t: ExecutionContext
  readonly #lab: Lab
  #stopped = false
  #running: Promise<void> = Promise.resolve()
  count = 0
  /** Terms that were above 0. */
  readonly seen = new Set<string>()
  #acked = 0

  constructor(t: ExecutionContext, lab: Lab) {
    this.#t = t
    this.#lab = lab
  }

  start(): void {
    this.#stopped = false
    this.#running = (async () => {
      while (!this.#stopped) {
        await this.take()
        await sleep(SCRAPE_INTERVAL)
      }
    })()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#running
  }

  async take(): Promise<Scrape> {
    const { gateway, source, remotes, told, delayed } = this.#lab
    const before = told()
    const scrape = read(await gateway.metrics())
    const { acked, terms } = scrape
    const text = () => JSON.stringify({ acked, before, terms: [...terms].map(([label, own]) => [label, ...own]) })
    const fail = (what: string) => this.#t.fail(`${what}: ${text()}`)
    const labels = Object.keys(gateway.remote)
    if (labels.some(label => !terms.has(label)) || terms.size !== labels.length) fail('a remote is missing, or left')
    for (const [label, own] of terms) {
      if (TERMS.some(name => !own.has(name))) fail(`a term of ${label} is missing`)
      const sum = [...TERMS, ...BY_REASON].reduce((total, name) => total + (own.get(name) ?? 0), 0)
      if (sum !== acked) fail(`the terms of ${label} make ${sum}`)
      if (own.get('replicated_messages')! > countIn(remotes[label]!, topic)) fail(`more is counted than is at ${label}`)
      for (const name of [...TERMS, ...BY_REASON]) if ((own.get(name) ?? 0) > 0) this.seen.add(`${label} ${name}`)
    }
    if (acked < before) fail('more acks were relayed than are counted')
    if (acked > countIn(source, topic) + delayed()) fail('more are counted than the source has')
    if (acked < this.#acked) fail(`it was ${this.#acked} before`)
    this.#acked = acked
    this.count++
    return scrape
  }
}

interface Lab {
  source: EmbeddedCluster
  /** By label. Those of the gateway's configuration are the gateway's to say. */
  remotes: Record<string, EmbeddedCluster>
  gateway: GatewayProcess
  scrapes: Scrapes
  /** Sends over a connection of its own; it has to be acked. */
  send(message: Send): Promise<void>
  /** Counts acks that a producer was given. */
  producer: Producer | undefined
  told(): number
  delayed(): number
  /** kill -9, and a new process on the directory; between them, what a test does. */
  again(between?: () => void): Promise<void>
}

/** All remotes are there from the beginning; `first` are those that the gateway is started with. */
function withRemotes(
  labels: readonly string[],
  first: readonly string[],
  options: string[],
  run: (t: ExecutionContext, lab: Lab) => Promise<void>,
) {
  return async (t: ExecutionContext) => {
    t.timeout(180_000)
    const clusters = await Promise.all(['source', ...labels].map(name => startEmbeddedCluster({ name })))
    const [source, ...others] = clusters as [EmbeddedCluster, ...EmbeddedCluster[]]
    const remotes = Object.fromEntries(labels.map((label, index) => [label, others[index]!]))
    const gateway = new GatewayProcess({
      source: source.nameServer,
      remote: Object.fromEntries(first.map(label => [label, remotes[label]!.nameServer])),
      options,
    })
    const own = { acked: 0, delayed: 0 }
    const lab: Lab = {
      source,
      remotes,
      gateway,
      scrapes: undefined as unknown as Scrapes,
      producer: undefined,
      async send(message) {
        const names = await RawClient.connect(gateway.nameServer)
        const { addresses } = readRoute((await names.request({ code: 106 })).body)
        await names.close()
        const client = await RawClient.connect(addresses[0]!.address)
        const isDelayed = message.properties!.some(([name]) => name === 'DELAY')
        if (isDelayed) own.delayed++
        await acked(t, client, message)
        own.acked++
        await client.close()
      },
      told: () => own.acked + (lab.producer?.acked.size ?? 0),
      delayed: () => own.delayed,
      async again(between) {
        await lab.scrapes.stop()
        await gateway.kill()
        between?.()
        await gateway.start()
        await lab.scrapes.take()
        lab.scrapes.start()
      },
    }
    lab.scrapes = new Scrapes(t, lab)
    try {
      await gateway.start()
      lab.scrapes.start()
      await run(t, lab)
      await lab.scrapes.stop()
    } finally {
      lab.producer?.end()
      await lab.scrapes.stop().catch(() => {})
      await gateway.end()
      await Promise.all(clusters.map(cluster => cluster.stop()))
    }
  }
}

const value = async ({ gateway }: Lab, name: string, label: string) =>
  read(await gateway.metrics())
    .terms.get(label)!
    .get(name) ?? 0

test(
  'with two remotes, one of them down for a while, and two kills, the terms of each make up what was acked in every scrape',
  withRemotes(
    ['west', 'east'],
    ['west', 'east'],
    ['--bodyMemory=8KiB', '--journalSpillAfter=50ms', '--journalMinFreeBytes=1MiB'],
    async (t, lab) => {
      const { source, remotes, gateway, scrapes } = lab
      const [west, east] = [remotes.west!, remotes.east!]
      east.brokers[0]!.faults.refuse(13, { when: ({ body }) => body?.includes('poison') === true })
      const producer = new Producer(environment, gateway.nameServer, topic, 100)
      lab.producer = producer
      await producer.connect()
      producer.start(RATE)
      const more = (count: number) => {
        const before = producer.acked.size
        return until(`${count} more are acked`, () => producer.acked.size >= before + count)
      }
      let sent = 0
      /** One that east never takes, one that has been in west, one that goes nowhere. */
      const others = async () => {
        await lab.send({ ...keyed(`poison-${sent}`), body: Buffer.from('poison') })
        await lab.send(keyed(`western-${sent}`, { queueId: 1, properties: [['REPLICATOR-BORN-SOURCE', 'west']] }))
        await lab.send(keyed(`delayed-${sent}`, { properties: [['DELAY', '18']] }))
        sent++
      }
      await until('both have some', () => countIn(west, topic) > 20 && countIn(east, topic) > 20)
      await others()
      await west.brokers[0]!.stop()
      await until('west has gaps', async () => (await value(lab, 'gap_messages', 'west')) > 20)
      await others()
      await lab.again()
      await more(50)
      t.true((await value(lab, 'lag_messages', 'west')) > 50)
      await others()
      await west.brokers[0]!.start()
      east.brokers[0]!.faults.loseAnswers({ codes: [310, 320], topic, times: 1 })
      const waited = await value(lab, 'replicated_messages', 'west')
      await until(
        'west gets what waited',
        async () => (await value(lab, 'replicated_messages', 'west')) > waited + 20,
        60_000,
      )
      await lab.again()
      await more(50)
      await others()
      await producer.stop()
      const isDone = async () => {
        const lags = await Promise.all(['west', 'east'].map(label => value(lab, 'lag_messages', label)))
        return lags.every(lag => lag === 0)
      }
      await until('nothing is left to do', isDone, 60_000)
      await scrapes.stop()

      const { acked, terms } = await scrapes.take()
      t.true(acked >= lab.told())
      const figures = (label: string) => Object.fromEntries(terms.get(label)!)
      t.like(figures('west'), { skipped_messages_total: 2 * sent, dead_letter_messages: 0 })
      t.like(figures('east'), { skipped_messages_total: sent, dead_letter_messages: sent })
      for (const [label, cluster] of Object.entries(remotes)) {
        t.is(figures(label).lost_messages_total ?? 0, 0)
        t.is(figures(label).replicated_messages, countIn(cluster, topic))
        const except = label === 'west' ? 'western-' : 'poison-'
        const at = keysIn(cluster, topic)
        for (const [queueId, keys] of keysIn(source, topic).entries()) {
          const told = keys.filter(key => !key.startsWith(except) && (producer.acked.has(key) || key.includes('n-')))
          const there = new Set(told)
          t.deepEqual(
            at[queueId]!.filter(key => there.has(key)),
            told,
          )
        }
      }
      t.true(scrapes.count > 100, `${scrapes.count}`)
      for (const label of ['west', 'east'])
        for (const name of ['replicated_messages', 'queued_messages', 'gap_messages', 'skipped_messages_total'])
          t.true(scrapes.seen.has(`${label} ${name}`), `${label} ${name}`)
      t.true(scrapes.seen.has('east dead_letter_messages'))
    },
  ),
)

test(
  'the terms of a remote that is new, was left out, or has lost its cursor make up what was acked from the first scrape on',
  withRemotes(['west', 'east', 'north'], ['west', 'east'], [], async (t, lab) => {
    const { remotes, gateway, scrapes } = lab
    const configured = (...labels: string[]) => {
      gateway.remote = Object.fromEntries(labels.map(label => [label, remotes[label]!.nameServer]))
    }
    let sent = 0
    const send = async (count: number) => {
      for (let i = 0; i < count; i++) await lab.send(keyed(`k-${sent++}`, { queueId: i % 4 }))
    }
    const slots = (label: string) =>
      ['cursor-0', 'cursor-1'].map(name => join(gateway.dataDir, 'brokers', 'source-a', 'remotes', label, name))
    const skippedBefore = async (label: string) =>
      (await gateway.metrics()).get(`skipped_messages_total{remote="${label}",reason="before"}`) ?? 0

    await send(30)
    await until('both have all', () => ['west', 'east'].every(label => countIn(remotes[label]!, topic) === 30))
    await lab.again(() => configured('north', 'west', 'east'))
    t.is((await scrapes.take()).acked, 30)
    t.is(await skippedBefore('north'), 30)
    await send(10)
    await until('north has what came', () => countIn(remotes.north!, topic) === 10)

    await lab.again(() => configured('east', 'north'))
    await send(5)
    t.is((await scrapes.take()).acked, 45)
    await lab.again(() => configured('west', 'north', 'east'))
    t.is((await scrapes.take()).acked, 45)
    await send(5)
    t.is((await scrapes.take()).acked, 50)

    await lab.again(() => {
      for (const path of slots('west')) rmSync(path)
    })
    t.is((await scrapes.take()).acked, 50)
    await send(5)
    await lab.again(() => {
      for (const path of slots('east')) truncateSync(path, 10)
    })
    t.is((await scrapes.take()).acked, 55)
    await send(5)
    t.is((await scrapes.take()).acked, 60)
    await until('north, which has lost nothing, has all', () => countIn(remotes.north!, topic) === 30)
  }),
)
