// Faults of system calls in a running process, by `strace -e inject`: errors and delays as the kernel would give them.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { ExecutionContext } from 'ava'
import { until } from './raw-client.ts'

/** Why calls cannot be made to fail here; undefined where they can. */
export function missingStrace(): string | undefined {
  const { status, error, stderr } = spawnSync(
    'strace',
    ['-qq', '-o', '/dev/null', '-e', 'inject=fdatasync:error=EIO', 'true'],
    {
      encoding: 'utf8',
    },
  )
  return status === 0 ? undefined : `failing system calls need strace: ${error?.message ?? stderr.trim()}`
}

export interface Fault {
  /** Comma-separated: `fdatasync`, `write,pwrite64`. */
  calls: string
  /** `error=EIO`, `delay_enter=5s`, `when=2+`: what strace takes behind the calls, joined by colons. */
  what: string
  /** Only on these files, which have to be open. */
  paths?: readonly string[]
}

/** The process lives with this fault until it ends, or the test. */
export class Strace {
  hits = 0
  /** Files that had a fault, each once. */
  readonly #paths = new Set<string>()
  readonly #child: ChildProcess

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  static async attach(t: ExecutionContext, pid: number, { calls, what, paths = [] }: Fault): Promise<Strace> {
    const files = paths.flatMap(path => ['-P', path])
    const inject = ['-e', `trace=${calls}`, '-e', `inject=${calls}:${what}`]
    const child = spawn('strace', ['-f', '-y', '-p', `${pid}`, ...files, ...inject], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const strace = new Strace(child)
    t.teardown(() => strace.detach())
    let attached = false
    let said = ''
    createInterface({ input: child.stderr! }).on('line', line => {
      if (/ attached( with \d+ threads)?$/.test(line)) attached = true
      if (/\((INJECTED|DELAYED)/.test(line)) strace.hits++
      const path = /\w+\(\d+<([^>]*)>/.exec(line)?.[1]
      if (path !== undefined) strace.#paths.add(path)
      said += `${line}\n`
    })
    await until('strace is attached', () => {
      if (child.exitCode !== null) throw new Error(`strace ended with ${child.exitCode}: ${said}`)
      return attached
    })
    return strace
  }

  get paths(): string[] {
    return [...this.#paths]
  }

  /** The fault is over; a delay that has begun is not. */
  async detach(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGINT')
    await ended
  }
}
