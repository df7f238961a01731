// The demo as a process with a temporary folder of its own, and what every run of it must show.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { CliProcess } from './cli-process.ts'

/** A live line: what is sent, acked, replicated, queued, in the gap, and how old the oldest is. */
const LIVE = /^(.{11}) {2}sent \d+ {2}acked \d+ {2}replicated \d+ {2}queued \d+ {2}in gap \d+ {2}lag \d+\.\d s$/
const BAR = /^queue drains \[[#.]{40}\] +(\d+) % {2}\d+ of \d+ left$/
const PROOF = /^proof: acked=(\d+) remote=\1 missing=0 duplicates=0 out-of-order=0 altered=0$/

export class DemoProcess extends CliProcess {
  readonly temporary: string

  static start(t: ExecutionContext, argv: readonly string[], env: NodeJS.ProcessEnv = {}): DemoProcess {
    const temporary = mkdtempSync(join(tmpdir(), 'rocketmq-tee-demo-test-'))
    const demo = new DemoProcess(argv, { ...process.env, TMPDIR: temporary, ...env }, temporary)
    t.teardown(async () => {
      await demo.end()
      rmSync(temporary, { recursive: true, force: true })
    })
    return demo
  }

  private constructor(argv: readonly string[], env: NodeJS.ProcessEnv, temporary: string) {
    super(['demo', ...argv], env)
    this.temporary = temporary
  }

  /** What its phases were, in order. */
  get phases(): string[] {
    const phases = this.lines.flatMap(line => LIVE.exec(line)?.[1]?.trim() ?? [])
    return phases.filter((phase, index) => phase !== phases[index - 1])
  }

  /** It went through an outage to a proof that holds. */
  async proves(t: ExecutionContext): Promise<void> {
    t.is(await this.ended, 0, this.stderr)
    t.deepEqual(this.phases, ['remote up', 'stopping', 'remote down', 'remote back', 'last ones'])
    const percents = this.lines.flatMap(line => BAR.exec(line)?.[1] ?? []).map(Number)
    t.is(percents.at(0), 0)
    t.true(percents.at(-1)! > 90, `${percents}`)
    const last = this.lines.at(-1)!
    t.regex(last, PROOF)
    t.true(Number(PROOF.exec(last)?.[1]) > 5_000, last)
  }

  /** No process, no file. */
  leftNothing(t: ExecutionContext): void {
    t.false(this.isLeft)
    t.deepEqual(readdirSync(this.temporary), [])
    t.is(this.stderr, '')
  }
}
