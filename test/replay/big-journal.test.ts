// Outages as large as the promise says, on real files, each in a process of its own that is killed: how long the start after it takes,
// and how much memory a queue costs that is on disk.
//
// SOAK=true: 1 GiB of 1 KiB in 5 s, and ten million messages of 128 bytes; else less of both.

import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import type { Outage } from '../support/outage-process.ts'
import { isSoak } from '../support/rounds.ts'

const script = join(import.meta.dirname, '..', 'support', 'outage-process.js')
const MEMORY_MOST = 256 * 1024 * 1024
/** Milliseconds for a journal of 1 GiB, and for one however small. */
const OPEN_MOST = 5_000
const OPEN_LEAST = 2_000
const STARTS = 3
const GIB = 1024 ** 3

async function outage(...args: (string | number)[]): Promise<Outage> {
  const { stdout } = await promisify(execFile)(process.execPath, [script, ...args.map(String)]).catch(error => {
    if (error.signal !== 'SIGKILL') throw error
    return error as { stdout: string }
  })
  return JSON.parse(stdout) as Outage
}

async function inFolder(t: ExecutionContext, run: (dataDir: string) => Promise<void>): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'tee-big-journal-'))
  t.teardown(() => rm(dataDir, { recursive: true, force: true }))
  await run(dataDir)
}

/** The best of a few starts: what it takes at all, on a machine that has other things to do. */
async function bestStart(dataDir: string, enough: number): Promise<Outage> {
  let best: Outage | undefined
  for (let tries = 0; tries < STARTS && !(best !== undefined && best.openMs < enough); tries++) {
    const opened = await outage('open', dataDir)
    if (best === undefined || opened.openMs < best.openMs) best = opened
  }
  return best!
}

const MiB = (bytes: number) => `${Math.round(bytes / 1024 / 1024)} MiB`

test.serial(
  `a journal of ${isSoak ? '1 GiB' : '128 MiB'} of bodies of 1 KiB opens in time, and neither it nor its making takes 256 MiB of memory`,
  t =>
    inFolder(t, async dataDir => {
      const messages = isSoak ? 1_048_576 : 131_072
      const made = await outage('fill', dataDir, messages, 1_024)
      t.deepEqual([made.queued, made.inGap], [messages, 0])
      const most = Math.max(OPEN_LEAST, (OPEN_MOST * messages * 1_024) / GIB)
      const opened = await bestStart(dataDir, most)
      t.log(
        `${messages} messages, ${MiB(made.bodiesBytes)}: made in ${Math.round(made.fillMs)} ms with ${MiB(made.maxRssBytes)}; opened in ${Math.round(opened.openMs)} ms with ${MiB(opened.maxRssBytes)}`,
      )
      t.deepEqual([opened.queued, opened.inGap], [messages, 0])
      t.true(opened.bodiesBytes > messages * 1_024)
      t.true(opened.openMs < most, `${opened.openMs} ms`)
      for (const { maxRssBytes } of [made, opened]) t.true(maxRssBytes < MEMORY_MOST, MiB(maxRssBytes))
    }),
)

test.serial(`${isSoak ? 'ten' : 'half a'} million messages of 128 bytes wait in less than 256 MiB of memory`, t =>
  inFolder(t, async dataDir => {
    const messages = isSoak ? 10_000_000 : 500_000
    // A rate that producers have: what memory takes is what has not gone to disk yet.
    const made = await outage('fill', dataDir, messages, 128, 50_000)
    t.deepEqual([made.queued, made.inGap], [messages, 0])
    const opened = await outage('open', dataDir)
    t.log(
      `${messages} messages, ${MiB(made.bodiesBytes)}: made with ${MiB(made.maxRssBytes)}; opened in ${Math.round(opened.openMs)} ms with ${MiB(opened.maxRssBytes)}`,
    )
    t.deepEqual([opened.queued, opened.inGap], [messages, 0])
    for (const { maxRssBytes } of [made, opened]) t.true(maxRssBytes < MEMORY_MOST, MiB(maxRssBytes))
  }),
)
