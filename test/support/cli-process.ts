// The command line as a process that goes on for a while: its output as it comes, its signals, its end.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { until } from './raw-client.ts'

const main = fileURLToPath(new URL('../../proxy/cli/main.js', import.meta.url))

// Tests of a file run side by side, each with processes of its own.
process.setMaxListeners(50)

export class CliProcess {
  /** Lines of standard output so far. */
  readonly lines: string[] = []
  stderr = ''
  /** Its exit code, or the signal that ended it; once its output is read to the end. */
  readonly ended: Promise<number | string>
  readonly #child: ChildProcess
  readonly #kill = () => {
    try {
      process.kill(-this.pid, 'SIGKILL')
    } catch {
      // Nothing of it is left.
    }
  }

  constructor(argv: readonly string[], env: NodeJS.ProcessEnv = process.env) {
    // A process group of its own, so that it can be told whether any of it is left.
    this.#child = spawn(process.execPath, [main, ...argv], { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    createInterface({ input: this.#child.stdout! }).on('line', line => this.lines.push(line))
    this.#child.stderr!.setEncoding('utf8').on('data', text => {
      this.stderr += text
    })
    // A test process that ends early takes it along.
    process.once('exit', this.#kill)
    this.ended = once(this.#child, 'close').then(([code, signal]) => {
      process.off('exit', this.#kill)
      return code ?? signal
    })
  }

  get pid(): number {
    return this.#child.pid!
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** The first line of standard output that is like this; fails early where the process ends without it. */
  async line(like: RegExp, ms = 30_000): Promise<string> {
    let end: number | string | undefined
    void this.ended.then(how => {
      end = how
    })
    return until(
      `a line like ${like}`,
      () => {
        const found = this.lines.find(line => like.test(line))
        if (found === undefined && end !== undefined)
          throw new Error(`it ended with ${end} and no line like ${like}: ${this.stderr}`)
        return found
      },
      ms,
    )
  }

  /** Whether it or any process that it started is left. */
  get isLeft(): boolean {
    try {
      process.kill(-this.pid, 0)
      return true
    } catch {
      return false
    }
  }

  /** Ends it in any case, with all that it started. */
  async end(): Promise<void> {
    this.#kill()
    await this.ended
  }
}
