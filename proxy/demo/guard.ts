// Sees to it that child processes and a folder of theirs do not outlive this process, however it ends.
//
// A small shell waits at a pipe from here. Each line it reads is the whole list of processes still running; when the
// pipe ends, because this process was closed, ended or killed, it kills those and removes the folder. It does not start
// the children and tells nobody how they fare.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import type { Socket } from 'node:net'

// A process that was just killed may still write, so the folder is tried for again until it is gone.
const script = `
pids=
while read -r line; do pids=$line; done
[ -n "$pids" ] && kill -9 $pids
tries=0
while [ -e "$1" ] && [ $tries -lt 50 ]; do rm -rf -- "$1" || sleep 0.1; tries=$((tries + 1)); done`

const open = new Set<Guard>()
// A process that ends in order does it itself, so that nothing is left at the moment it is gone.
process.on('exit', () => {
  for (const guard of open) guard.endNow()
})

export class Guard {
  readonly #folder: string
  readonly #shell: ChildProcess
  readonly #ended: Promise<unknown>
  readonly #children = new Set<ChildProcess>()

  constructor(folder: string) {
    this.#folder = folder
    // A session of its own: Ctrl-C at the terminal must reach only this process.
    this.#shell = spawn('sh', ['-c', script, 'sh', folder], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
    this.#ended = once(this.#shell, 'close').catch(() => {})
    // Without a shell the children still end with an orderly end of this process.
    this.#shell.on('error', () => {})
    this.#shell.stdin?.on('error', () => {})
    this.#shell.unref()
    const pipe = this.#shell.stdin as Socket | null
    pipe?.unref()
    open.add(this)
  }

  watch(child: ChildProcess): void {
    if (child.pid === undefined) return
    this.#children.add(child)
    this.#tell()
    child.once('exit', () => {
      this.#children.delete(child)
      this.#tell()
    })
  }

  /** Kills what still runs, waits until it is gone, and removes the folder. */
  async close(): Promise<void> {
    const running = [...this.#children]
    const gone = running.map(child => once(child, 'exit'))
    for (const child of running) {
      child.ref()
      child.kill('SIGKILL')
    }
    await Promise.all(gone)
    if (!open.delete(this)) return
    this.#shell.ref()
    this.#shell.stdin?.end()
    await this.#ended
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 10 })
  }

  endNow(): void {
    for (const child of this.#children) child.kill('SIGKILL')
    try {
      rmSync(this.#folder, { recursive: true, force: true })
    } catch {
      // Something was still being written: the shell tries again.
    }
  }

  #tell(): void {
    const stdin = this.#shell.stdin
    if (stdin?.writable) stdin.write(`${[...this.#children].map(child => child.pid).join(' ')}\n`)
  }
}
