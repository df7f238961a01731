// kill -9 of the remote broker under load, and one that comes back with an older store: nothing is missing, nothing doubled.

import { cpSync, readdirSync, rmSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Cursor } from '../../replay/cursor.ts'
import { realFileSystem } from '../../replay/file-system.ts'
import { until } from '../support/gateway-process.ts'
import { Load } from '../support/load.ts'
import { seededRandom } from '../support/random.ts'
import { asRemote, realTest, sharedClusters } from '../support/real.ts'
import { isSoak } from '../support/rounds.ts'

/** Milliseconds, in the soak run: longer than between two known ends (docs/replication.md, 17). */
const COPY_AGE = 75_000

const clusters = sharedClusters({
  source: {},
  SYNC_FLUSH: { brokerConfig: { ...asRemote, flushDiskType: 'SYNC_FLUSH' } },
  ASYNC_FLUSH: { brokerConfig: { ...asRemote, flushDiskType: 'ASYNC_FLUSH' } },
})

for (const [flush, name] of [
  ['SYNC_FLUSH', 'killRemoteSyncFlush'],
  ['ASYNC_FLUSH', 'killRemoteAsyncFlush'],
] as const)
  realTest(`kill -9 of a remote broker with ${flush} at random moments under load`, async t => {
    const { source, [flush]: remote } = await clusters()
    const random = seededRandom(t)
    await Load.inRounds(
      t,
      name,
      { source, remote, topic: `Killed-${flush}`, rate: 1_000, remoteIsKilled: true },
      async load => {
        await load.more(random.integer(1, 1_000))
        await remote.brokers[0]!.kill()
        await load.more(random.integer(1, 1_000))
        await remote.brokers[0]!.start()
        await load.caughtUp()
      },
      ({ producer }) => t.is(producer.failed, 0, 'no producer noticed'),
    )
  })

realTest('a remote broker that comes back with an older store gets again what it has forgotten', async t => {
  const { source, ASYNC_FLUSH: remote } = await clusters()
  const random = seededRandom(t)
  const broker = remote.brokers[0]!
  const store = join(remote.home, broker.name, 'store')
  const copy = join(remote.home, 'older-store')
  const ages: number[] = []
  const options = { source, remote, topic: 'Forgotten', rate: 500, remoteIsKilled: true }
  await Load.inRounds(t, 'oldStore', options, async (load, round) => {
    await broker.kill()
    const copiedAt = Date.now()
    rmSync(copy, { recursive: true, force: true })
    cpSync(store, copy, { recursive: true })
    await broker.start()
    await load.caughtUp()
    const first = await newestEnds(load, Date.now())
    const replicated = () => load.value('replicated_messages')
    const before = await replicated()
    const more = random.integer(250, 1_500)
    await until('more are replicated', async () => (await replicated()) > before + more)
    if (isSoak) await oldEnough(load, copiedAt, first)

    await (round % 2 === 1 ? broker.stop() : broker.kill())
    const stoppedAt = Date.now()
    ages.push(Math.round((stoppedAt - copiedAt) / 1_000))
    const forgotten = (await replicated()) - before
    const unclear = unclearAgain(load)
    rmSync(store, { recursive: true })
    cpSync(copy, store, { recursive: true })
    await broker.start()
    await load.more(random.integer(1, 500))
    await until('all that it has forgotten is unclear', () => unclearAgain(load) >= unclear + forgotten, 60_000)
    await load.caughtUp()
    const areGone = async () => (await endsFrom(load, first, stoppedAt)).every(count => count === 0)
    await until('no known end is of what it has forgotten', areGone)
  })
  t.log(`copies: ${Math.min(...ages)} to ${Math.max(...ages)} s old`)
})

/** What was done in one minute is not enough: two known ends of each lane will be gone. */
async function oldEnough(load: Load, copiedAt: number, first: readonly number[]): Promise<void> {
  const isOld = () => Date.now() > copiedAt + COPY_AGE
  const areTwo = async () => (await endsFrom(load, first)).every(count => count > 1)
  await until('the copy is old, and misses two known ends', async () => isOld() && areTwo(), 3 * COPY_AGE)
}

/** Of each lane the remote offset of its newest known end, when that was seen since then. */
async function newestEnds(load: Load, since: number): Promise<number[]> {
  let newest: (KnownEnd | undefined)[] = []
  await until('each lane has a known end that is new', async () => {
    newest = (await knownEnds(load)).map(ends => ends.at(-1))
    return newest.length > 0 && newest.every(end => end !== undefined && end.at > since)
  })
  return newest.map(end => end!.remoteOffset)
}

/** How many known ends each lane has from an offset on that were seen before then. */
async function endsFrom(load: Load, first: readonly number[], before = Number.POSITIVE_INFINITY): Promise<number[]> {
  const lanes = await knownEnds(load)
  return lanes.map((ends, lane) => ends.filter(end => end.remoteOffset >= first[lane]! && end.at < before).length)
}

type KnownEnd = { remoteOffset: number; at: number }

/** Of each lane, by the newest slot. */
async function knownEnds({ gateway: { dataDir }, topic }: Load): Promise<KnownEnd[][]> {
  const [path] = (readdirSync(dataDir, { recursive: true }) as string[]).filter(path => basename(path) === 'cursor-0')
  const slot = await new Cursor(realFileSystem, join(dataDir, dirname(path!))).read()
  if (typeof slot === 'string') throw new Error(`the cursor in ${dataDir} cannot be read: ${slot}`)
  const lanes = slot.queues.filter(queue => queue.topic === topic).sort((a, b) => a.queueId - b.queueId)
  return lanes.map(({ ends }) => (ends?.ends ?? []).map(([remoteOffset, , , , at]) => ({ remoteOffset, at })))
}

function unclearAgain({ gateway }: Load): number {
  const lines = gateway.log.filter(({ msg }) => String(msg).includes('lost its tail'))
  return lines.reduce((sum, { messages }) => sum + Number(messages), 0)
}
