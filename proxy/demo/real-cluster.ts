// Real RocketMQ on this machine: a name server and brokers in Java, each in a process, for the demo, tests and benchmarks.
//
// It fetches the jars where they are missing, finds free ports, starts, stops and kills, and leaves nothing behind: no
// process, no folder. It sends no message and makes no topic; brokers make topics as they are sent to.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseAddress, Cluster as RocketMQ, realEnvironment } from '../../replay/index.ts'
import { silentLogger } from '../logger.ts'
import type { Broker, Cluster } from './cluster.ts'
import { Guard } from './guard.ts'
import { fetchRocketMQ } from './maven.ts'

export { fetchRocketMQ } from './maven.ts'

export const rocketmqVersions = ['5.3.3', '5.5.0', '4.9.7'] as const

export interface RealBroker extends Broker {
  name: string
  /** `ip:port` */
  address: string
  /** Of the Java process, while it runs. */
  pid(): number | undefined
  /** Only sends the signal; does nothing where the broker does not run. */
  signal(signal: NodeJS.Signals): void
  /** Sends SIGKILL at once and waits for the end; the argument is for those who like to name it. */
  kill(signal?: 'SIGKILL'): Promise<void>
  /** SIGTERM, and SIGKILL after 20 s; waits for the end. */
  stop(): Promise<void>
  /** Again, on the same store and ports; waits until it serves. Does nothing where it runs. */
  start(): Promise<void>
}

export interface RealCluster extends Cluster {
  name: string
  version: string
  /** `ip:port` */
  nameServer: string
  brokers: RealBroker[]
  /** Holds the configuration, the stores and the logs. */
  home: string
  /** Kills everything, waits for its end, and removes the home folder. */
  stop(): Promise<void>
}

export interface RealClusterOptions {
  version?: string
  name: string
  /** How many, 1 by default, at most 26: their names end in -a, -b, … */
  brokers?: number
  /** Merged over the lines of broker.conf that every broker gets. */
  brokerConfig?: Record<string, string>
  onProgress?: (line: string) => void
}

const host = '127.0.0.1'
const startMs = 60_000
const stopMs = 20_000
const startTries = 5

const javaFlags = [
  '--add-opens=java.base/java.nio=ALL-UNNAMED',
  '--add-opens=java.base/sun.nio.ch=ALL-UNNAMED',
  '--add-opens=java.base/java.lang=ALL-UNNAMED',
  '--add-opens=java.base/java.util=ALL-UNNAMED',
  '--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED',
  '--add-exports=java.base/sun.nio.ch=ALL-UNNAMED',
  '-XX:+UseSerialGC',
  // Keeps its counters out of the temporary folder, where a killed process would leave them.
  '-XX:-UsePerfData',
  // Each of their servers makes a key of its own as it starts otherwise (TlsHelper), which is half of the CPU that a start takes.
  '-Dtls.server.mode=disabled',
]

class PortInUse extends Error {}

/** Why real RocketMQ cannot run here; undefined where it can. */
export function missingTools(): string | undefined {
  for (const [tool, flag] of [
    ['java', '-version'],
    ['mvn', '--version'],
  ] as const) {
    if (spawnSync(tool, [flag], { stdio: 'ignore' }).status !== 0)
      return `real RocketMQ needs ${tool}, which is not here`
  }
  return undefined
}

/** The guard's shell ends what a killed process leaves behind; where Linux can, it does so itself, shell or not. */
function javaCommand(): [string, ...string[]] {
  const dieWithParent = ['--pdeathsig', 'KILL']
  const { status } = spawnSync('setpriv', [...dieWithParent, 'true'], { stdio: 'ignore' })
  return status === 0 ? ['setpriv', ...dieWithParent, 'java'] : ['java']
}

export async function startRealCluster(options: RealClusterOptions): Promise<RealCluster> {
  const { version = rocketmqVersions[0], onProgress } = options
  const lib = await fetchRocketMQ(version, onProgress)
  for (let tried = 1; ; tried++) {
    try {
      return await startOnce(version, lib, options)
    } catch (error) {
      // A port that was free a moment ago can be anybody's by now.
      if (!(error instanceof PortInUse) || tried === startTries) throw error
    }
  }
}

async function startOnce(version: string, lib: string, options: RealClusterOptions): Promise<RealCluster> {
  const { name, brokers: count = 1, brokerConfig = {}, onProgress } = options
  const home = mkdtempSync(join(tmpdir(), 'rocketmq-tee-cluster-'))
  const guard = new Guard(home)
  const began = Date.now()
  const stop = () => guard.close()
  try {
    const namePort = await freePort([0])
    const nameServer = `${host}:${namePort}`
    const names = new JavaProcess({
      guard,
      lib,
      folder: join(home, 'names'),
      main: 'org.apache.rocketmq.namesrv.NamesrvStartup',
      flags: ['-Xms128m', '-Xmx128m'],
      config: folder => ({
        listenPort: String(namePort),
        bindAddress: host,
        rocketmqHome: folder,
        kvConfigPath: join(folder, 'kvConfig.json'),
        configStorePath: join(folder, 'namesrv.properties'),
      }),
    })
    await names.start()
    const brokers = await Promise.all(
      Array.from({ length: count }, (_, i) =>
        brokerIn({ guard, lib, home, cluster: name, name: `${name}-${letter(i)}`, nameServer, brokerConfig }),
      ),
    )
    // All are waited for, also where one fails: none may still be starting when the folder goes.
    const started = await Promise.allSettled(brokers.map(broker => broker.start()))
    const failed = started.find(result => result.status === 'rejected')
    if (failed) throw failed.reason
    onProgress?.(`cluster ${name}: RocketMQ ${version} is up after ${((Date.now() - began) / 1000).toFixed(1)} s`)
    return { name, version, nameServer, brokers, home, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

interface BrokerPlace {
  guard: Guard
  lib: string
  home: string
  cluster: string
  name: string
  nameServer: string
  brokerConfig: Record<string, string>
}

async function brokerIn(place: BrokerPlace): Promise<RealBroker> {
  const { guard, lib, name } = place
  // The fast port is 2 below and the replication port 1 above.
  const port = await freePort([-2, 0, 1])
  const java = new JavaProcess({
    guard,
    lib,
    folder: join(place.home, name),
    main: 'org.apache.rocketmq.broker.BrokerStartup',
    flags: [
      '-Xms512m',
      '-Xmx512m',
      '-XX:MaxDirectMemorySize=512m',
      // A broker refuses to store where the disk is nearly full, also where plenty is left for a test.
      '-Drocketmq.broker.diskSpaceWarningLevelRatio=0.98',
    ],
    config: folder => ({
      brokerClusterName: place.cluster,
      brokerName: name,
      brokerId: '0',
      brokerIP1: host,
      brokerIP2: host,
      bindAddress: host,
      listenPort: String(port),
      namesrvAddr: place.nameServer,
      storePathRootDir: join(folder, 'store'),
      storePathCommitLog: join(folder, 'store', 'commitlog'),
      autoCreateTopicEnable: 'true',
      defaultTopicQueueNums: '4',
      // A broker refuses what waited longer (200 ms); several JVMs on few cores wait that long for a core.
      waitTimeMillsInSendQueue: '1000',
      // Files as small as tests need; the index file alone is 420 MB otherwise.
      mappedFileSizeCommitLog: '67108864',
      mappedFileSizeConsumeQueue: '600000',
      mappedFileSizeTimerLog: '1048576',
      maxHashSlotNum: '10000',
      maxIndexNum: '40000',
      timerPrecisionMs: '100',
      diskMaxUsedSpaceRatio: '98',
      ...place.brokerConfig,
    }),
  })
  let wasUp = false
  return {
    name,
    address: `${host}:${port}`,
    pid: () => java.pid(),
    signal: signal => java.signal(signal),
    kill: () => java.kill(),
    stop: () => java.stop(),
    start: async () => {
      await startAgain(java, wasUp)
      wasUp = true
      await registered(place.nameServer, name).catch(error => {
        const state = java.pid() === undefined ? 'has ended' : 'runs'
        throw new Error(`${error.message}; it ${state}, and said:\n${tail(java.said())}`)
      })
    },
  }
}

/** One that was up keeps its ports: what took one of them in the meantime may let go of it. */
async function startAgain(java: JavaProcess, wasUp: boolean): Promise<void> {
  for (let tried = 1; ; tried++) {
    try {
      return await java.start()
    } catch (error) {
      if (!(error instanceof PortInUse) || !wasUp || tried === startTries) throw error
      await sleep(1_000)
    }
  }
}

/** A broker says that it is up before the name server gives out its routes; a client that asks in between is refused. */
async function registered(nameServer: string, broker: string): Promise<void> {
  const cluster = new RocketMQ(realEnvironment(silentLogger), [parseAddress(nameServer)])
  try {
    for (const deadline = Date.now() + startMs; Date.now() < deadline; await sleep(100)) {
      const known = await cluster.brokers().catch(() => undefined)
      if (known?.addresses.some(address => address.broker === broker)) return
    }
    throw new Error(`broker ${broker} is not in the name server's routes after ${startMs / 1000} s`)
  } finally {
    cluster.end()
  }
}

interface JavaProcessOptions {
  guard: Guard
  lib: string
  /** Its ROCKETMQ_HOME, its home folder and its temporary folder. */
  folder: string
  main: string
  flags: string[]
  config: (folder: string) => Record<string, string>
}

class JavaProcess {
  readonly #options: JavaProcessOptions
  readonly #configFile: string
  readonly #outputFile: string
  #child: ChildProcess | undefined

  constructor(options: JavaProcessOptions) {
    const { folder, config } = options
    this.#options = options
    this.#configFile = join(folder, 'conf', 'rocketmq.conf')
    this.#outputFile = join(folder, 'output.log')
    mkdirSync(join(folder, 'conf'), { recursive: true })
    mkdirSync(join(folder, 'temporary'))
    const lines = Object.entries(config(folder)).map(([key, value]) => `${key}=${value}\n`)
    writeFileSync(this.#configFile, lines.join(''))
    // 4.9 does not start without these; 5.x has its own.
    for (const part of ['broker', 'namesrv']) {
      writeFileSync(join(folder, 'conf', `logback_${part}.xml`), '<configuration><root level="OFF"/></configuration>\n')
    }
  }

  pid(): number | undefined {
    return this.#child?.pid
  }

  /** All output since it started. */
  said(): string {
    return readFileSync(this.#outputFile, 'utf8')
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL', stopMs)
  }

  async start(): Promise<void> {
    if (this.#child) return
    const { guard, lib, folder, main, flags } = this.#options
    const [command, ...commandFlags] = javaCommand()
    const output = openSync(this.#outputFile, 'w')
    let failure: Error | undefined
    try {
      const child = spawn(
        command,
        [
          ...commandFlags,
          ...javaFlags,
          ...flags,
          `-Duser.home=${folder}`,
          `-Djava.io.tmpdir=${join(folder, 'temporary')}`,
          '-cp',
          join(lib, '*'),
          main,
          '-c',
          this.#configFile,
        ],
        // A session of its own: Ctrl-C at the terminal is for the one who started this.
        {
          cwd: folder,
          detached: true,
          stdio: ['ignore', output, output],
          env: { ...process.env, ROCKETMQ_HOME: folder },
        },
      )
      child.once('error', error => {
        failure = error
        if (this.#child === child) this.#child = undefined
      })
      child.once('exit', () => {
        if (this.#child === child) this.#child = undefined
      })
      child.unref()
      this.#child = child
      guard.watch(child)
    } finally {
      closeSync(output)
    }
    const deadline = Date.now() + startMs
    for (;;) {
      const ended = this.#child === undefined
      const said = this.said()
      if (said.includes('boot success') && !ended) return
      if (ended) throw failure ?? startError(main, said)
      if (Date.now() > deadline) {
        await this.#end('SIGKILL', stopMs)
        throw new Error(`${main} is not up after ${startMs / 1000} s:\n${tail(said)}`)
      }
      await sleep(20)
    }
  }

  async stop(): Promise<void> {
    const ended = await this.#end('SIGTERM', stopMs)
    if (!ended) await this.#end('SIGKILL', stopMs)
  }

  async #end(signal: NodeJS.Signals, withinMs: number): Promise<boolean> {
    const child = this.#child
    child?.kill(signal)
    // A process that was paused hears of it only when it goes on.
    child?.kill('SIGCONT')
    const deadline = Date.now() + withinMs
    while (child && this.#child === child) {
      if (Date.now() > deadline) return false
      await sleep(10)
    }
    return true
  }
}

function startError(main: string, said: string): Error {
  if (/BindException|Address already in use|bind.*failed/i.test(said)) return new PortInUse(`${main}: a port is in use`)
  return new Error(`${main} ended as it started:\n${tail(said)}`)
}

function tail(said: string): string {
  // 5.x tells hundreds of lines about its logging first.
  const lines = said.split('\n').filter(line => !line.includes('|-'))
  return lines.slice(-20).join('\n').trim()
}

function letter(index: number): string {
  return String.fromCharCode(97 + index)
}

const given = new Set<number>()

/** A port, below those that the system hands out itself, that is free together with those at the offsets from it. */
async function freePort(offsets: number[]): Promise<number> {
  for (let tries = 0; tries < 500; tries++) {
    const port = 20_000 + 10 * Math.floor(Math.random() * 1200)
    if (given.has(port)) continue
    given.add(port)
    const free = await Promise.all(offsets.map(offset => isFree(port + offset)))
    if (free.every(Boolean)) return port
  }
  throw new Error('no free ports between 20000 and 32000')
}

function isFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '0.0.0.0', () => server.close(() => resolve(true)))
  })
}
