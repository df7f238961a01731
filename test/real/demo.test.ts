// The demo with real RocketMQ, as most people see this project first.

import { readdirSync, readFileSync } from 'node:fs'
import type { ExecutionContext } from 'ava'
import { DemoProcess } from '../support/demo-process.ts'
import { until } from '../support/raw-client.ts'
import { realTest } from '../support/real.ts'

/** Brokers and name servers are sessions of their own; each knows its folder by its command line. */
function processesOf(demo: DemoProcess): string[] {
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(demo.temporary)
      } catch {
        return false
      }
    })
}

/** A process that was killed takes a moment to be gone. */
async function leftNothing(t: ExecutionContext, demo: DemoProcess): Promise<void> {
  await until('all its processes are gone', () => processesOf(demo).length === 0)
  demo.leftNothing(t)
}

realTest(
  'the demo runs real brokers through an outage to a proof that holds, within 90 s, and leaves nothing',
  async t => {
    const begun = performance.now()
    const demo = DemoProcess.start(t, [])
    await demo.line(/^remote up /, 60_000)
    // A name server, a broker and a guard for each cluster.
    t.is(processesOf(demo).length, 6)
    await demo.proves(t)
    t.is(demo.lines[0], 'demo: RocketMQ 5.3.3')
    await leftNothing(t, demo)
    const seconds = (performance.now() - begun) / 1_000
    t.true(seconds < 90, `${seconds.toFixed(0)} s`)
  },
)

for (const [when, line] of [
  ['while its brokers start', /^starting cluster remote$/],
  ['while the remote broker is down', /^remote down /],
  ['while it starts again', /^starting the remote broker again$/],
] as const)
  realTest(`Ctrl-C ${when} ends the demo and leaves nothing`, async t => {
    const demo = DemoProcess.start(t, ['--seconds=1'])
    await demo.line(line, 60_000)
    demo.signal('SIGINT')
    t.is(await demo.ended, 130, demo.stderr)
    await leftNothing(t, demo)
  })
