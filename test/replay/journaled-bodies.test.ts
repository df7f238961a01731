// Messages that cannot be had from the source again: their bodies are in the journal, then in a block, and nowhere lost.

import test from 'ava'
import { RequestCode, ResponseCode } from '../../codec/index.ts'
import { DiskError } from '../support/fake-disk.ts'
import { Scene, type SceneOptions, TOPIC } from './scene.ts'

const texts = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `m${from + index}`)

/** A scene whose source lets nothing be read, and whose remote is away. */
async function unreadable(options: SceneOptions): Promise<Scene> {
  const scene = await Scene.open({ sourceQueues: 1, remoteQueues: 1, isUnknown: true, ...options })
  scene.source.broker.intercept = request => {
    if (request.head.code !== RequestCode.PULL_MESSAGE) return false
    request.answer({ code: ResponseCode.NO_PERMISSION, remark: 'no read permission' })
    return true
  }
  scene.refuseSends(2)
  // Known from now on.
  scene.broker.readable.mayReadBack(TOPIC, 0, 0)
  await scene.environment.settled()
  return scene
}

for (const journalBodies of ['spill', 'always'] as const)
  for (const powerCut of [false, true])
    test(`with journalBodies=${journalBodies} they survive crashes${powerCut ? ' and power cuts' : ''} in an outage`, async t => {
      const scene = await unreadable({ journalBodies, journalAck: powerCut ? 'fsync' : 'append', bodyMemory: 3_000 })
      for (let round = 0; round < 4; round++) {
        scene.send(texts(round * 30, round * 30 + 30))
        await scene.environment.pass(round * 400)
        await scene.crash(powerCut)
        scene.broker.readable.mayReadBack(TOPIC, 0, 0)
        await scene.environment.settled()
        scene.refuseSends(2)
        t.is(scene.account.acked, round * 30 + 30)
      }
      scene.takeSends()
      await scene.allDone()
      t.deepEqual(scene.arrived(), texts(0, 120))
      t.deepEqual(scene.account.totals.lost, {})
      t.is(scene.account.readBack, 0)
      await scene.close()
      t.is(scene.replay.memory.used, 0)
    })

test('a lane that tries again lets go of none whose block may not be on the disk', async t => {
  const scene = await unreadable({})
  const { fileSystem } = scene.environment
  fileSystem.fault = (operation, path) =>
    operation === 'sync' && /bodies-/.test(path) ? new DiskError('EIO', operation, path) : undefined
  scene.send(texts(0, 40))
  await scene.environment.pass(300)
  scene.broker.spill.force(Number.MAX_SAFE_INTEGER)
  await scene.environment.pass(5_000)
  t.true(scene.broker.spill.errors > 0)
  t.is(scene.account.inGap, 0)
  fileSystem.fault = () => undefined
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 40))
  t.is(scene.account.readBack, 0)
})

test('with room neither in memory nor on disk they are lost, said and counted, over a crash too', async t => {
  const scene = await unreadable({ journalBodies: 'always', bodyMemory: 2_000, maxBytes: 1 })
  scene.send(texts(0, 50))
  await scene.environment.pass(1_000)
  const lost = scene.account.totals.lost.full!
  t.true(lost > 0 && lost < 50)
  t.is(scene.account.acked, 50)
  t.is(scene.environment.log.lost, lost)
  await scene.crash()
  t.is(scene.account.acked, 50)
  t.is(scene.account.totals.lost.full, lost)
  scene.takeSends()
  await scene.allDone()
  t.is(scene.arrived().length, 50 - lost)
})

test('with onJournalFull=reject what the source gives again is refused, too, when it has no room; none of it is a gap', async t => {
  const scene = await Scene.open({ onJournalFull: 'reject', bodyMemory: 20_000, maxBytes: 60_000, spillAfter: 200 })
  scene.refuseSends(2)
  let sent = 0
  while (!scene.broker.isFull && sent < 4_000) {
    scene.send(texts(sent, sent + 10))
    sent += 10
    await scene.environment.pass(100)
  }
  t.true(scene.broker.isFull)
  t.is(scene.account.inGap, 0)
  await scene.environment.pass(60_000)
  t.is(scene.account.inGap, 0)
  t.true(scene.broker.isFull)
  scene.takeSends()
  await scene.allDone()
  await scene.environment.pass(3_000)
  t.false(scene.broker.isFull)
  t.deepEqual(scene.arrived(), texts(0, sent))
  t.is(scene.account.readBack, 0)
})

test('with onJournalFull=reject sends that were out when there was no more room are not lost', async t => {
  const scene = await unreadable({ onJournalFull: 'reject', bodyMemory: 2_000, maxBytes: 40_000 })
  let sent = 0
  while (!scene.broker.isFull && sent < 1_000) {
    scene.send(texts(sent, sent + 1))
    sent++
    await scene.environment.pass(300)
  }
  t.true(scene.broker.isFull)
  scene.send(texts(sent, sent + 200))
  sent += 200
  await scene.environment.pass(1_000)
  t.deepEqual(scene.account.totals.lost, {})
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, sent))
})

test('with onJournalFull=reject sends are to be refused from when a body has no room until there is some', async t => {
  const scene = await unreadable({
    journalBodies: 'always',
    onJournalFull: 'reject',
    bodyMemory: 2_000,
    maxBytes: 40_000,
  })
  t.false(scene.broker.isFull)
  let sent = 0
  while (!scene.broker.isFull && sent < 1_000) {
    scene.send(texts(sent, sent + 10))
    sent += 10
    await scene.environment.pass(100)
  }
  t.true(scene.broker.isFull)
  t.deepEqual(scene.account.totals.lost, {})
  scene.takeSends()
  await scene.allDone()
  await scene.environment.pass(3_000)
  t.false(scene.broker.isFull)
  t.deepEqual(scene.arrived(), texts(0, sent))
})
