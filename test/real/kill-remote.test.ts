// kill -9 of the remote broker under load, and one that comes back with an older store: nothing is missing, nothing doubled.

import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { until } from '../support/gateway-process.ts'
import { Load } from '../support/load.ts'
import { seededRandom } from '../support/random.ts'
import { asRemote, realTest, sharedClusters } from '../support/real.ts'
import { rounds } from '../support/rounds.ts'

const clusters = sharedClusters('killed', {
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
  const load = await Load.start(t, { source, remote, topic: 'Forgotten', rate: 1_000, remoteIsKilled: true })
  for (const _ of rounds(t, 'oldStore')) {
    await broker.kill()
    rmSync(copy, { recursive: true, force: true })
    cpSync(store, copy, { recursive: true })
    await broker.start()
    const before = await load.value('replicated_messages')
    const more = random.integer(500, 3_000)
    await until('more are replicated', async () => (await load.value('replicated_messages')) > before + more)

    const seen = losses(load)
    await broker.kill()
    rmSync(store, { recursive: true })
    cpSync(copy, store, { recursive: true })
    await broker.start()
    await load.more(random.integer(1, 1_000))
    await until('the loss is seen', () => losses(load) > seen, 60_000)
    await load.caughtUp()
  }
  await load.whole()
})

function losses({ gateway }: Load): number {
  return gateway.log.filter(({ msg }) => String(msg).includes('lost its tail')).length
}
