// A process that is part of the bench: started, waited for by its `ready key=value …` line, looked at through /proc, ended.

import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const READY_TIMEOUT = 30_000
/** Linux counts a process's time in these, whatever the kernel was built with. */
const TICKS_PER_SECOND = 100

export class Child {
  readonly ready: Record<string, string>
  readonly #process: ChildProcess
  readonly #exited: Promise<number | null>
  /** What it said beside the ready line, the last of it. */
  readonly said: string[]
  running = true

  private constructor(process: ChildProcess, exited: Promise<number | null>, said: string[], line: string) {
    this.#process = process
    this.#exited = exited.finally(() => {
      this.running = false
    })
    this.said = said
    this.ready = Object.fromEntries([...line.matchAll(/(\w+)=(\S+)/g)].map(([, key, value]) => [key!, value!]))
  }

  static async start(name: string, args: string[]): Promise<Child> {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    // Children must not outlive the bench.
    const kill = () => void child.kill('SIGKILL')
    process.once('exit', kill)
    const exited = new Promise<number | null>(resolve => child.once('exit', resolve))
    void exited.then(() => process.off('exit', kill))
    const said: string[] = []
    const line = await new Promise<string>((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`${name} ${why}: ${said.join('\n')}`))
      const timer = setTimeout(() => fail('is not ready'), READY_TIMEOUT)
      void exited.then(code => fail(`ended with ${code}`))
      const hear = (text: string) => {
        if (text.startsWith('ready ')) {
          clearTimeout(timer)
          resolve(text)
        } else if (said.push(text) > 50) said.shift()
      }
      createInterface({ input: child.stdout }).on('line', hear)
      createInterface({ input: child.stderr }).on('line', hear)
    })
    return new Child(child, exited, said, line)
  }

  end(signal: NodeJS.Signals): Promise<number | null> {
    this.#process.kill(signal)
    return this.#exited
  }

  /** Microseconds of processor time so far, user and system. */
  cpu(): number {
    // The name in parentheses may hold spaces.
    const fields = readFileSync(`/proc/${this.#process.pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    return ((Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND) * 1e6
  }

  /** MiB: now, and the most it ever had. */
  memory(): { rss: number; peak: number } {
    const status = readFileSync(`/proc/${this.#process.pid}/status`, 'utf8')
    const mebibytes = (key: string) => Math.round(Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(status)![1]) / 1024)
    return { rss: mebibytes('VmRSS'), peak: mebibytes('VmHWM') }
  }
}
