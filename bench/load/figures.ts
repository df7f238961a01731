// Figures under load: direct, through a byte pipe, through the gateway with its remote up and down, in the same run.
//
// usage: node dist/bench/load/figures.js [--real] [--seconds 5] [--rounds 3] [--profile FOLDER]
//
// Lanes take turns, and every other round goes backwards, so that what the machine does meanwhile hits all alike. All but
// the generator are processes of their own. README.md says what the figures mean and what they do not.

import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, loadavg, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { RequestCode, ResponseCode } from '../../codec/index.ts'
import { Cluster, masterOf, parseAddress, realEnvironment } from '../../replay/index.ts'
import { Child } from './child.ts'
import { latency, throughput } from './generator.ts'
import { topOf } from './profile.ts'

const TOPIC = 'tee-load'
const QUEUES = 4
const CONNECTIONS = 4
const OUTSTANDING = 64
const WARM_UP_SECONDS = 1
const DRAIN_TIMEOUT = 60_000

const { values: options } = parseArgs({
  options: {
    real: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '3' },
    /** Gateways write a CPU profile into it; the figures are then those of profiled gateways. */
    profile: { type: 'string' },
  },
})
const seconds = Number(options.seconds)
const rounds = Number(options.rounds)

interface Lane {
  name: string
  /** What the generator connects to. */
  address: string
  /** The process between generator and broker. */
  between?: Child
  /** The gateway's, where the remote is up: it has sent all when its lag is none. */
  admin?: string
  perSecond: number[]
  /** Microseconds of processor time of the process between, for each message, up to the end of the drain. */
  cpuPerMessage: number[]
  p50: number[]
  p99: number[]
  refused: number
  drainSeconds: number[]
}

const script = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const scratch = mkdtempSync(join(tmpdir(), 'rocketmq-tee-bench-'))
const endings: (() => unknown)[] = [() => rmSync(scratch, { recursive: true, force: true })]

try {
  await main()
} finally {
  for (const end of endings.reverse()) await end()
}
process.exit()

async function main(): Promise<void> {
  const source = options.real ? await realSource() : await nullCluster('bench-source')
  const version = options.real ? 'RocketMQ in Java' : 'embedded null broker'
  const broker = await brokerOf(source, true)
  const remote = await nullCluster('bench-remote')
  const lost = await startNull('bench-remote-lost')
  const pipe = await start('byte pipe', [script('./byte-pipe.js'), broker])
  const up = await startGateway('up', source, remote)
  const down = await startGateway('down', source, lost.ready.nameServer!)
  const lanes: Lane[] = [
    lane('direct', broker),
    { ...lane('byte pipe', pipe.ready.address!), between: pipe },
    { ...lane('gateway, remote up', await brokerOf(up.ready.nameServer!)), between: up, admin: up.ready.admin! },
    { ...lane('gateway, remote down', await brokerOf(down.ready.nameServer!)), between: down },
  ]
  // An outage is that of a remote that was there: it has been learnt, and its lanes are open.
  await throughput({ ...load(lanes[3]!), seconds: WARM_UP_SECONDS })
  await drained(down.ready.admin!)
  await lost.end('SIGKILL')
  for (const one of lanes.slice(0, 3)) await throughput({ ...load(one), seconds: WARM_UP_SECONDS })
  await drained(up.ready.admin!)
  const before = loadavg()[0]!
  for (let round = 0; round < rounds; round++) {
    for (const one of round % 2 === 0 ? lanes : lanes.toReversed()) await measure(one)
  }
  print(lanes, version, before)
  await profile('up', up)
  await profile('down', down)
}

function lane(name: string, address: string): Lane {
  return { name, address, perSecond: [], cpuPerMessage: [], p50: [], p99: [], refused: 0, drainSeconds: [] }
}

function load({ address }: Lane) {
  return { address, topic: TOPIC, connections: CONNECTIONS, outstanding: OUTSTANDING, seconds }
}

async function measure(one: Lane): Promise<void> {
  const cpu = one.between?.cpu() ?? 0
  const { messages, refused } = await throughput(load(one))
  one.refused += refused
  one.perSecond.push(messages / seconds)
  if (one.admin !== undefined) one.drainSeconds.push(await drained(one.admin))
  if (one.between !== undefined) one.cpuPerMessage.push((one.between.cpu() - cpu) / messages)
  const took = await latency({ ...load(one), seconds: Math.max(1, seconds / 2) })
  one.p50.push(took[Math.floor(took.length * 0.5)]!)
  one.p99.push(took[Math.floor(took.length * 0.99)]!)
  // What is left of this lane must not be work during the next.
  if (one.admin !== undefined) await drained(one.admin)
}

/** Seconds until the gateway has sent all. */
async function drained(admin: string): Promise<number> {
  const started = performance.now()
  for (;;) {
    const text = await (await fetch(`http://${admin}/metrics`)).text()
    const lag = Number(/^\w*lag_messages\S* (\S+)$/m.exec(text)![1])
    const waited = performance.now() - started
    if (lag === 0) return waited / 1000
    if (waited > DRAIN_TIMEOUT) throw new Error(`the gateway still has ${lag} messages to send after ${waited} ms`)
    await sleep(50)
  }
}

function print(lanes: Lane[], version: string, before: number): void {
  const [direct, pipe] = lanes as [Lane, Lane]
  const rows = lanes.map(one => [
    one.name,
    `${Math.round(median(one.perSecond))}`,
    `${Math.round(Math.min(...one.perSecond))}–${Math.round(Math.max(...one.perSecond))}`,
    (median(one.perSecond) / median(pipe.perSecond)).toFixed(2),
    one.between === undefined ? '' : median(one.cpuPerMessage).toFixed(1),
    median(one.p50).toFixed(0),
    median(one.p99).toFixed(0),
    one === direct ? '' : (median(one.p50) - median(direct.p50)).toFixed(0),
    one.between === undefined ? '' : `${one.between.memory().peak}`,
    one.between === undefined ? '' : `${one.between.memory().rss}`,
    one.drainSeconds.length === 0 ? '' : median(one.drainSeconds).toFixed(2),
  ])
  const heads = [
    'lane',
    'messages/s',
    'min–max',
    'to pipe',
    'CPU µs/msg',
    'p50 µs',
    'p99 µs',
    'added p50',
    'VmHWM MiB',
    'RSS MiB',
    'drain s',
  ]
  const table = [heads, heads.map(() => '---'), ...rows]
  const widths = heads.map((_, column) => Math.max(...table.map(row => row[column]!.length)))
  const text = table.map(row => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`).join('\n')
  const processors = cpus()
  process.stdout.write(
    `${text}\n\nsource: ${version}; ${CONNECTIONS} connections × ${OUTSTANDING} outstanding, 1 KiB bodies, ` +
      `${rounds} rounds of ${seconds} s; latency at 1 × 1\n` +
      `machine: ${processors.length} × ${processors[0]!.model.trim()}, node ${process.version}, Linux ${release()}, ` +
      `load average ${before.toFixed(1)} before, ${loadavg()[0]!.toFixed(1)} after\n`,
  )
  for (const { name, refused, between } of lanes) {
    if (refused > 0) process.stdout.write(`${name}: ${refused} sends were refused\n`)
    const said = between?.said.filter(line => !line.includes('"level":30')) ?? []
    if (said.length > 0) process.stdout.write(`${name} said:\n  ${said.slice(-8).join('\n  ')}\n`)
  }
}

/** Ends a gateway as an operator does, so that its profile is written, and says where its time went. */
async function profile(name: string, gateway: Child): Promise<void> {
  if (options.profile === undefined) return
  await gateway.end('SIGTERM')
  process.stdout.write(`\nself time, gateway, remote ${name}:\n${topOf(join(options.profile, name)).join('\n')}\n`)
}

// What the lanes are made of

async function start(name: string, args: string[]): Promise<Child> {
  const child = await Child.start(name, args)
  endings.push(() => child.running && child.end('SIGKILL'))
  return child
}

function startNull(name: string): Promise<Child> {
  return start(name, [script('./null-cluster.js'), name])
}

async function nullCluster(name: string): Promise<string> {
  return (await startNull(name)).ready.nameServer!
}

async function realSource(): Promise<string> {
  const { startRealCluster } = await import('../../proxy/demo/real-cluster.ts')
  const cluster = await startRealCluster({
    name: 'bench-source',
    onProgress: line => process.stderr.write(`${line}\n`),
  })
  endings.push(() => cluster.stop())
  return cluster.nameServer
}

function startGateway(name: string, source: string, remote: string): Promise<Child> {
  const profiling = options.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${join(options.profile, name)}`]
  return start(`gateway, remote ${name}`, [
    ...profiling,
    script('../../proxy/cli/main.js'),
    'start',
    `--srcClusterAddr=${source}`,
    `--destClusterAddr=${remote}`,
    `--dataDir=${join(scratch, name)}`,
    '--listenHost=127.0.0.1',
    '--nameServerPort=0',
    '--communicationPort=0',
    '--adminPort=0',
  ])
}

/** The address of the topic's broker, by this name server; at the source the topic is made first. */
async function brokerOf(nameServer: string, make = false): Promise<string> {
  const cluster = new Cluster(realEnvironment(quiet), [parseAddress(nameServer)])
  try {
    if (make) await makeTopic(cluster)
    const route = await tried(() => cluster.route(TOPIC))
    return masterOf(route, route.queues[0]!.broker)!
  } finally {
    cluster.end()
  }
}

async function makeTopic(cluster: Cluster): Promise<void> {
  // A broker tells its name server of itself soon after its start, not at once.
  const address = await tried(async () => (await cluster.brokers()).addresses[0]?.address)
  const { header } = await cluster.ask(address, RequestCode.UPDATE_AND_CREATE_TOPIC, [
    ['topic', TOPIC],
    ['defaultTopic', 'TBW102'],
    ['readQueueNums', QUEUES],
    ['writeQueueNums', QUEUES],
    ['perm', 6],
    ['topicFilterType', 'SINGLE_TAG'],
    ['topicSysFlag', 0],
    ['order', false],
  ])
  if (header.code !== ResponseCode.SUCCESS) throw new Error(`the topic cannot be made: ${header.remark}`)
}

async function tried<T>(ask: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 1; ; tries++) {
    const answer = await ask().catch(error => {
      if (tries === 120) throw error
      return undefined
    })
    if (answer !== undefined) return answer
    if (tries === 120) throw new Error('no broker or no route after 30 s')
    await sleep(250)
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
