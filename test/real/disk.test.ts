// A disk that fails, fills up or hangs under the gateway, by real errors of system calls and on a real full disk. Its
// clusters are embedded: what is looked at is the gateway. No producer notices, the state is said, and nothing that was
// acked is lost while the process lives.

import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { type EmbeddedCluster, startEmbeddedCluster } from '../../proxy/demo/embedded-cluster.ts'
import { Producer } from '../../proxy/demo/producer.ts'
import { compare, holds, proofLine, readTopic } from '../../proxy/demo/proof.ts'
import { CliProcess } from '../support/cli-process.ts'
import { GatewayProcess, until } from '../support/gateway-process.ts'
import { environment } from '../support/load.ts'
import { realTest } from '../support/real.ts'
import { missingMount, smallDisk } from '../support/small-disk.ts'
import { missingStrace, Strace } from '../support/strace.ts'

const TOPIC = 'disk'
/** Messages a second. */
const RATE = 1_000
/** So many that the journal has written. */
const SOME = 300
/** Of so many the places fit into what a disk of 16 MiB has set aside for them (72 bytes each, of 2 MiB). */
const FEW = 10_000
/** What a Java client gives a send, in milliseconds. */
const CLIENT_TIMEOUT = 3_000

interface LabOptions {
  dataDir?: string
  /** Further `--key=value` of the gateway. */
  options?: string[]
  /** Operations that its disk is given at a time. */
  threads?: number
}

interface Lab {
  remote: EmbeddedCluster
  gateway: GatewayProcess
  producer: Producer
  more(count: number): Promise<void>
  errors(): Promise<number>
}

/** With a producer that goes on, and the remote away while the disk is at fault; at the end the comparison. */
async function withLab(t: ExecutionContext, options: LabOptions, during: (lab: Lab) => Promise<void>) {
  // strace counts the calls of each thread.
  const { threads = 1, ...others } = options
  const source = await startEmbeddedCluster({ name: 'source' })
  t.teardown(() => source.stop())
  const remote = await startEmbeddedCluster({ name: 'remote' })
  t.teardown(() => remote.stop())
  const gateway = new GatewayProcess({
    source: source.nameServer,
    remote: remote.nameServer,
    env: { UV_THREADPOOL_SIZE: `${threads}` },
    ...others,
  })
  t.teardown(() => gateway.end())
  await gateway.start()
  const producer = new Producer(environment, gateway.nameServer, TOPIC, 200)
  t.teardown(() => producer.end())
  await producer.connect()
  producer.start(RATE)
  const more = async (count: number) => {
    const before = producer.acked.size
    await until(`${count} more are acked`, () => producer.acked.size >= before + count)
  }
  await until('messages are replicated', async () => (await gateway.waiting()) < RATE && producer.acked.size > SOME)
  await remote.brokers[0]!.stop()
  await more(SOME)

  await during({
    remote,
    gateway,
    producer,
    more,
    errors: async () => (await gateway.metrics()).get('journal_errors_total')!,
  })

  await remote.brokers[0]!.start()
  await producer.stop()
  await gateway.drained()
  const proof = compare(
    producer.acked,
    await readTopic(environment, source.nameServer, TOPIC),
    await readTopic(environment, remote.nameServer, TOPIC),
  )
  t.log(proofLine(proof), `slowest send ${producer.slowest} ms`)
  t.true(holds(proof), proofLine(proof))
  t.is(producer.failed, 0)
  t.true(producer.slowest < CLIENT_TIMEOUT, `a send took ${producer.slowest} ms`)
}

interface Readiness {
  journal: { failed: boolean }[]
}

async function readyz(gateway: GatewayProcess): Promise<{ status: number; failed: boolean }> {
  const answer = await gateway.ask('/readyz')
  const { journal } = (await answer.json()) as Readiness
  return { status: answer.status, failed: journal.some(({ failed }) => failed) }
}

/** The segments of places that are written to now. */
function segments({ dataDir }: GatewayProcess): string[] {
  return readdirSync(dataDir, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && entry.name.startsWith('places-'))
    .map(entry => join(entry.parentPath, entry.name))
}

/** A fault in each fdatasync of the gateway. */
function inSyncs(t: ExecutionContext, { gateway }: Lab, what: string): Promise<Strace> {
  return Strace.attach(t, gateway.pid, { calls: 'fdatasync', what })
}

/** A fault in each write to the segments of places that are written to now. */
function inWrites(t: ExecutionContext, { gateway }: Lab, what: string): Promise<Strace> {
  return Strace.attach(t, gateway.pid, { calls: 'write,pwrite64,writev,pwritev', what, paths: segments(gateway) })
}

/** A fault in each write to a file at a position, whichever: sockets and the log are not written to so. */
function inAllWrites(t: ExecutionContext, { gateway }: Lab, what: string): Promise<Strace> {
  return Strace.attach(t, gateway.pid, { calls: 'pwrite64,pwritev', what })
}

/** It is seen from outside, and the gateway stays in service. */
async function isSaid(t: ExecutionContext, { gateway, errors }: Lab): Promise<void> {
  await until('the failure is counted', async () => (await errors()) > 0)
  await until('the failure is in the body of /readyz', async () => (await readyz(gateway)).failed)
  t.is((await readyz(gateway)).status, 200)
}

async function isOver({ gateway, more }: Lab): Promise<void> {
  await more(SOME)
  await until('the body of /readyz has no failure', async () => !(await readyz(gateway)).failed)
}

realTest(
  'every fdatasync fails with EIO for a while',
  async t =>
    withLab(t, {}, async lab => {
      const fault = await inSyncs(t, lab, 'error=EIO')
      await isSaid(t, lab)
      await lab.more(3 * RATE)
      t.true(fault.hits > 1)
      await fault.detach()
      await isOver(lab)
    }),
  missingStrace(),
)

realTest(
  'one fdatasync fails with EIO, and the ones after it say that all is well',
  async t =>
    withLab(t, {}, async lab => {
      const fault = await inSyncs(t, lab, 'error=EIO:when=1')
      await until('it has failed', () => fault.hits > 0)
      await until('the failure is counted', async () => (await lab.errors()) > 0)
      await isOver(lab)
    }),
  missingStrace(),
)

for (const error of ['ENOSPC', 'EIO'])
  realTest(
    `writes to the journal's segments fail with ${error}`,
    writesFail(error, async () => {}),
    missingStrace(),
  )

realTest(
  "writes to the journal's segments fail, and when that is over the gateway is killed",
  writesFail('ENOSPC', async ({ gateway, producer }) => {
    await producer.stop()
    await gateway.kill()
    await gateway.start()
  }),
  missingStrace(),
)

function writesFail(error: string, then: (lab: Lab) => Promise<void>) {
  return (t: ExecutionContext) =>
    withLab(t, {}, async lab => {
      const fault = await inWrites(t, lab, `error=${error}`)
      await until('the failure is counted', async () => (await lab.errors()) > 0)
      t.true(fault.hits > 0)
      await isOver(lab)
      await then(lab)
    })
}

realTest(
  'the disk is full for a while',
  async t => {
    const dataDir = smallDisk(t, 16)
    const ballast = join(dataDir, 'ballast')
    await withLab(t, { dataDir }, async lab => {
      await lab.more(SOME)
      fill(ballast)
      await isSaid(t, lab)
      await lab.more(3 * RATE)
      rmSync(ballast)
      await isOver(lab)
    })
  },
  missingMount(),
)

realTest(
  'the disk is full, and the gateway is killed: for places space was set aside',
  async t => {
    const dataDir = smallDisk(t, 16)
    const ballast = join(dataDir, 'ballast')
    // What waits stays in segments: for blocks no space is set aside.
    await withLab(t, { dataDir, options: ['--journalSpillAfter=1h'] }, async ({ gateway, producer, more, errors }) => {
      fill(ballast)
      producer.start(5 * RATE)
      await more(FEW)
      t.is(await errors(), 0)
      t.false((await readyz(gateway)).failed)
      await producer.stop()
      const waiting = await gateway.waiting()
      t.true(waiting >= FEW)

      await gateway.kill()
      t.is(await waitingInJournal(dataDir), waiting)
      rmSync(ballast)
      await gateway.start()
      t.is(await gateway.waiting(), waiting)
    })
  },
  missingMount(),
)

/** Messages that a start would find there. */
async function waitingInJournal(dataDir: string): Promise<number> {
  const inspection = new CliProcess(['journal', 'inspect', '--json', dataDir])
  await inspection.ended
  const { brokers } = JSON.parse(inspection.lines.join('\n')) as {
    brokers: { remotes: { found: { waiting: number } }[] }[]
  }
  return brokers[0]!.remotes[0]!.found.waiting
}

realTest(
  'every fdatasync takes 6 s for a while: the local path goes on, and it is said',
  async t =>
    withLab(t, {}, async lab => {
      const fault = await inSyncs(t, lab, 'delay_enter=6000000')
      await isSaid(t, lab)
      await lab.more(3 * RATE)
      await fault.detach()
      await isOver(lab)
    }),
  missingStrace(),
)

realTest(
  'every write to a file takes 6 s for a while, also to files that are made meanwhile: the local path goes on, and it is said',
  async t =>
    withLab(t, { threads: 4 }, async lab => {
      const former = segments(lab.gateway)
      const fault = await inAllWrites(t, lab, 'delay_enter=6000000')
      await isSaid(t, lab)
      const hit = (name: string) => fault.paths.filter(path => basename(path).startsWith(name)).length
      await until('a write to a segment that is new hangs', () => {
        return fault.paths.some(path => basename(path).startsWith('places-') && !former.includes(path))
      })
      await until('writes of bodies and of cursors hang', () => hit('bodies-') > 0 && hit('cursor-') > 0)
      await isSaid(t, lab)
      await lab.more(3 * RATE)
      await fault.detach()
      await isOver(lab)
    }),
  missingStrace(),
)

/** Takes all the space that is left. */
function fill(path: string): void {
  const block = Buffer.alloc(64 * 1024)
  for (const size of [block.length, 4_096, 512, 1])
    try {
      for (;;) writeFileSync(path, block.subarray(0, size), { flag: 'a' })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
}
