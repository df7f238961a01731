// A disk that takes nothing for long: places that wait are in memory, up to a bound; beyond it the oldest are lost, and said.

import test from 'ava'
import { DiskError } from '../support/fake-disk.ts'
import type { FakeEnvironment } from '../support/fake-environment.ts'
import { Scene, texts } from './scene.ts'

const BODY_MEMORY = 200_000

/** Nothing is written any more, to these files or at all. */
function failing(environment: FakeEnvironment, of = /./): void {
  environment.fileSystem.fault = (operation, path) =>
    operation !== 'read' && of.test(path) ? new DiskError('EIO', operation, path) : undefined
}

function healed(environment: FakeEnvironment): void {
  environment.fileSystem.fault = () => undefined
}

/** Messages come at the pace of a producer; the most memory that waiting places took is given back. */
async function outage(scene: Scene, from: number, to: number, queues: readonly number[] = [0]): Promise<number> {
  let most = 0
  for (let at = from; at < to; at += 500) {
    for (const queueId of queues) scene.send(texts(at, at + 500), queueId)
    await scene.environment.pass(200)
    most = Math.max(most, scene.broker.spill.placesMemory)
  }
  return most
}

interface Said {
  queueId: number
  fromOffset: number
  toOffset: number
  messages: number
}

const said = (scene: Scene) =>
  scene.environment.log.said('messages lost: the disk does not take').map(({ fields }) => fields as unknown as Said)

/** Numbers of what has not arrived. */
function missing(scene: Scene, sent: number, queueId = 0, label = 'default'): number[] {
  const arrived = new Set(scene.remoteOf(label).broker.texts('orders', queueId))
  return Array.from({ length: sent }, (_, index) => index).filter(index => !arrived.has(`m${index}`))
}

for (const { what, files } of [
  { what: 'a disk', files: /./ },
  // Their places are in the journal all the while.
  { what: 'a disk that takes places and no blocks', files: /bodies-/ },
])
  for (const way of ['goes on', 'is restarted', 'crashes'] as const)
    test(`${what} fails for long and the remote is away: what memory cannot hold is lost, counted and said with its offsets, and the rest arrives when the gateway ${way}`, async t => {
      const scene = await Scene.open({ bodyMemory: BODY_MEMORY })
      scene.send(['m0'])
      await scene.allDone()
      await scene.environment.pass(1_500)
      scene.remote.disconnect(scene.environment.network)
      failing(scene.environment, files)
      scene.send(texts(1, 500))
      await scene.environment.pass(6_000)
      const most = await outage(scene, 500, 20_000)
      t.true(most <= BODY_MEMORY + 64_000, `${most} bytes`)
      await scene.environment.pass(11_000)

      const { lost } = scene.account.totals
      t.deepEqual(Object.keys(lost), ['journal'])
      t.is(scene.account.queued + scene.account.inGap + lost.journal!, 19_999)
      t.true(lost.journal! > 10_000)
      const lines = said(scene)
      t.true(lines.length < 5, `${lines.length} lines`)
      t.is(
        lines.reduce((sum, { messages }) => sum + messages, 0),
        lost.journal!,
      )
      const from = Math.min(...lines.map(({ fromOffset }) => fromOffset))
      const to = Math.max(...lines.map(({ toOffset }) => toOffset))
      t.is(to - from + 1, lost.journal!, 'one stretch, with nothing left out')

      healed(scene.environment)
      await scene.environment.pass(5_000)
      if (way === 'is restarted') await scene.restart()
      if (way === 'crashes') await scene.crash(true)
      scene.remote.connect(scene.environment.network)
      await scene.allDone()
      t.deepEqual(
        missing(scene, 20_000),
        Array.from({ length: lost.journal! }, (_, index) => from + index),
      )
      t.deepEqual(
        scene.arrived(),
        texts(0, 20_000).filter((_, index) => index < from || index > to),
      )
      t.deepEqual(scene.account.totals.lost, lost)
      t.is(scene.account.acked, 20_000)
      t.is(scene.account.totals.reordered, 0)
      // What is done is named by the cursor, so that it is done at every later start.
      await scene.environment.pass(2_000)
      await scene.restart()
      await scene.crash(true)
      t.is(scene.account.acked, 20_000)
      t.is(scene.account.queued + scene.account.inGap, 0)
    })

test('while the remote is up a disk that fails for long costs nothing, and nothing gathers', async t => {
  const scene = await Scene.open({ bodyMemory: BODY_MEMORY })
  scene.send(['m0'])
  await scene.allDone()
  await scene.environment.pass(1_500)
  failing(scene.environment)
  scene.send(texts(1, 500))
  const most = await outage(scene, 500, 20_000)
  t.true(most <= 64_000, `${most} bytes`)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 20_000))
  t.deepEqual(scene.account.totals.lost, {})
  t.is(scene.broker.spill.placesMemory, 0)
})

test('a lane that stands still loses its own, and the others nothing', async t => {
  const scene = await Scene.open({ bodyMemory: BODY_MEMORY })
  for (const queueId of [0, 1]) scene.send(['m0'], queueId)
  await scene.allDone()
  await scene.environment.pass(1_500)
  scene.remote.broker.onSend = send =>
    send.queueId === 1 ? send.request.answer({ code: 16, remark: 'no permission' }) : send.answerStored(send.store())
  failing(scene.environment, /bodies-/)
  for (const queueId of [0, 1]) scene.send(texts(1, 500), queueId)
  await scene.environment.pass(6_000)
  const most = await outage(scene, 500, 20_000, [0, 1])
  t.true(most <= BODY_MEMORY + 64_000, `${most} bytes`)
  t.deepEqual(scene.arrived(), texts(0, 20_000))
  const lost = scene.account.totals.lost.journal!
  t.true(lost > 10_000)
  healed(scene.environment)
  scene.takeSends()
  await scene.allDone()
  t.is(missing(scene, 20_000, 1).length, lost)
  t.is(scene.account.acked, 40_000)
})

test('of two remotes only the one that is away loses anything', async t => {
  const scene = await Scene.open({ bodyMemory: BODY_MEMORY, remotes: ['rome', 'oslo'] })
  scene.send(['m0'])
  await scene.allDone()
  await scene.environment.pass(1_500)
  scene.remoteOf('oslo').disconnect(scene.environment.network)
  failing(scene.environment, /bodies-/)
  scene.send(texts(1, 500))
  await scene.environment.pass(6_000)
  const most = await outage(scene, 500, 20_000)
  t.true(most <= BODY_MEMORY + 64_000, `${most} bytes`)
  t.deepEqual(scene.remoteOf('rome').broker.texts('orders', 0), texts(0, 20_000))
  t.deepEqual(scene.feedOf('rome').account.totals.lost, {})
  const lost = scene.feedOf('oslo').account.totals.lost.journal!
  t.true(lost > 10_000)
  healed(scene.environment)
  await scene.restart()
  scene.remoteOf('oslo').connect(scene.environment.network)
  await scene.allDone()
  t.is(missing(scene, 20_000, 0, 'oslo').length, lost)
  t.deepEqual(scene.remoteOf('rome').broker.texts('orders', 0), texts(0, 20_000))
  for (const label of ['rome', 'oslo']) t.is(scene.feedOf(label).account.acked, 20_000)
})

test('a message that comes late among what is lost waits, over any number of starts', async t => {
  const scene = await Scene.open({ bodyMemory: BODY_MEMORY })
  scene.send(['m0'])
  await scene.allDone()
  await scene.environment.pass(1_500)
  scene.refuseSends(2)
  failing(scene.environment, /bodies-/)
  await outage(scene, 1, 5_001)
  const slow = scene.forward().store('late')
  await outage(scene, 5_001, 15_001)
  await scene.environment.pass(12_000)
  await outage(scene, 15_001, 25_001)
  slow.ack()
  await scene.environment.pass(11_000)
  const [{ fromOffset, toOffset }, ...others] = said(scene) as [Said, ...Said[]]
  t.true(Math.min(fromOffset, ...others.map(one => one.fromOffset)) < slow.stored[0]!.queueOffset)
  t.true(Math.max(toOffset, ...others.map(one => one.toOffset)) > slow.stored[0]!.queueOffset)
  // First it is in the journal alone, then in a block, in the order of offsets.
  for (const way of ['crash', 'restart', 'crash', 'restart'] as const) {
    await scene[way]()
    await scene.environment.pass(3_000)
  }
  scene.takeSends()
  await scene.allDone()
  t.true(scene.arrived().includes('late'))
  t.is(scene.account.acked, 25_002)
})
