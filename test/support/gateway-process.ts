// The gateway as its users run it: a process of its own, started by the command line, seen by its ports and its output.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { until as untilWithin } from './raw-client.ts'
import { removeData } from './remove-data.ts'

const main = fileURLToPath(new URL('../../proxy/cli/main.js', import.meta.url))
const START_TIMEOUT = 30_000

export interface GatewayOptions {
  source: string
  /** One, or several by their names. */
  remote: string | Record<string, string>
  /** Further `--key=value`. */
  options?: string[]
  /** Stays when the process has ended, as it is its owner's; by default a folder of its own. */
  dataDir?: string
  /** Further environment. */
  env?: Record<string, string>
}

export class GatewayProcess {
  readonly dataDir: string
  readonly #options: GatewayOptions
  /** Name server of the remote, as of the next start. */
  remote: GatewayOptions['remote']
  /** Lines of the log, all starts together. */
  readonly log: Record<string, unknown>[] = []
  stderr = ''
  nameServer = ''
  admin = ''
  #nameServerPort = 0
  #child: ChildProcess | undefined
  #exited: Promise<number | null> = Promise.resolve(null)

  constructor(options: GatewayOptions) {
    this.#options = options
    this.remote = options.remote
    this.dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), 'rocketmq-tee-test-'))
  }

  get pid(): number {
    return this.#child!.pid!
  }

  /** Chooses the name-server address before the start, for another gateway that is to know it. */
  async reserve(): Promise<string> {
    this.#nameServerPort ||= await freePort()
    return `127.0.0.1:${this.#nameServerPort}`
  }

  /** Starts, or starts again on the same data and ports. */
  async start(): Promise<void> {
    await this.reserve()
    const { source, options = [], env = {} } = this.#options
    const remotes = typeof this.remote === 'string' ? { '': this.remote } : this.remote
    const child = spawn(
      process.execPath,
      [
        main,
        'start',
        `--srcClusterAddr=${source}`,
        ...Object.entries(remotes).map(([name, names]) => `--destClusterAddr${name && '.'}${name}=${names}`),
        `--dataDir=${this.dataDir}`,
        '--listenHost=127.0.0.1',
        `--nameServerPort=${this.#nameServerPort}`,
        '--communicationPort=0',
        '--adminPort=0',
        ...options,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } },
    )
    this.#child = child
    this.#exited = new Promise(resolve => child.once('exit', resolve))
    child.stderr.on('data', chunk => {
      this.stderr += chunk
    })
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`gateway is not ready after ${START_TIMEOUT} ms: ${this.stderr}`)),
        START_TIMEOUT,
      )
      child.once('exit', code => reject(new Error(`gateway ended with ${code}: ${this.stderr}`)))
      createInterface({ input: child.stdout }).on('line', line => {
        const ready = /^ready nameServer=(\S+) admin=(\S+)$/.exec(line)
        if (ready === null) return void this.log.push(JSON.parse(line) as Record<string, unknown>)
        clearTimeout(timer)
        this.nameServer = ready[1]!
        this.admin = ready[2]!
        resolve()
      })
    })
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number | null> {
    this.#child?.kill(signal)
    return this.#exited
  }

  /** Stops it as an operator does, and removes its data. */
  async end(): Promise<number | null> {
    const code = await this.kill('SIGTERM')
    if (this.#options.dataDir === undefined) removeData(this.dataDir)
    return code
  }

  /** A page of the admin port. On a connection of its own: a gateway that hung for a while ends one that waits. */
  ask(path: string): Promise<Response> {
    return fetch(`http://${this.admin}${path}`, { headers: { connection: 'close' } })
  }

  /** Values by name and labels, as they stand in the exposition. */
  async metrics(): Promise<Map<string, number>> {
    const text = await (await this.ask('/metrics')).text()
    const values = new Map<string, number>()
    for (const line of text.split('\n')) {
      const match = /^(\w+(?:\{.*\})?) (\S+)$/.exec(line)
      if (match !== null) values.set(match[1]!.replace(/^rocketmq_tee_/, ''), Number(match[2]))
    }
    return values
  }

  /** Messages that are acked and not yet done. */
  async waiting(): Promise<number> {
    const metrics = await this.metrics()
    return metrics.get('lag_messages{remote="default"}') ?? Number.NaN
  }

  /** Waits until everything acked is done. */
  async drained(timeoutMs = 60_000): Promise<void> {
    await until('the gateway has nothing left to send', async () => (await this.waiting()) === 0, timeoutMs)
  }

  /** Most memory that the process ever had, in bytes. */
  peakMemory(): number {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))![1]) * 1024
  }
}

/** Waits for a condition as long as real brokers may take; the error says which one did not come. */
export function until(what: string, holds: () => Promise<boolean> | boolean, ms = 30_000): Promise<boolean> {
  return untilWithin(what, holds, ms)
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}
