// Several remotes on one journal: each has its own cursor, its own pace and its own account, and none minds another.

import test from 'ava'
import type { FakeCluster } from './fake-cluster.ts'
import { Scene, TOPIC, texts } from './scene.ts'

const LABELS = ['rome', 'oslo'] as const

function refuse(remote: FakeCluster): void {
  remote.broker.onSend = send => send.request.answer({ code: 2 })
}

function take(remote: FakeCluster): void {
  remote.broker.onSend = send => send.answerStored(send.store())
}

const arrivedAt = (scene: Scene, label: string, queueId = 0) => scene.remoteOf(label).broker.texts(TOPIC, queueId)
const waitingFor = (scene: Scene, label: string) =>
  scene.feedOf(label).account.queued + scene.feedOf(label).account.inGap

test('what is acked arrives at each remote', async t => {
  const scene = await Scene.open({ remotes: LABELS })
  scene.send(texts(0, 20))
  await scene.allDone()
  for (const label of LABELS) {
    t.deepEqual(arrivedAt(scene, label), texts(0, 20))
    t.is(scene.feedOf(label).account.totals.replicated, 20)
  }
  t.is(scene.replay.memory.used, 0)
})

test('one that is down for hours holds back nobody, and gets everything in order when it is back', async t => {
  const scene = await Scene.open({ remotes: LABELS, bodyMemory: 3_000 })
  scene.remoteOf('oslo').disconnect(scene.environment.network)
  for (let round = 0; round < 30; round++) {
    scene.send(texts(round * 5, round * 5 + 5))
    await scene.until('rome has it', () => waitingFor(scene, 'rome') === 0)
    t.is(scene.feedOf('rome').lagMs, 0)
    t.is(arrivedAt(scene, 'rome').length, round * 5 + 5)
    await scene.environment.pass((3 * 3_600_000) / 30)
  }
  t.is(waitingFor(scene, 'oslo'), 150)
  t.true(scene.feedOf('oslo').lagMs > 3_600_000)
  scene.remoteOf('oslo').connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(arrivedAt(scene, 'oslo'), texts(0, 150))
  t.deepEqual(arrivedAt(scene, 'rome'), texts(0, 150))
  t.is(scene.replay.memory.used, 0)
})

test('over crashes and restarts each goes on where it was', async t => {
  const scene = await Scene.open({ remotes: LABELS, bodyMemory: 3_000 })
  refuse(scene.remoteOf('oslo'))
  for (const [round, way] of (['crash', 'restart', 'crash', 'restart'] as const).entries()) {
    scene.send(texts(round * 20, round * 20 + 10))
    if (round === 1) await scene.spillAll()
    scene.send(texts(round * 20 + 10, round * 20 + 20))
    await scene.until('rome has it', () => waitingFor(scene, 'rome') === 0)
    await scene[way]()
    for (const label of LABELS)
      t.is(scene.feedOf(label).account.acked, round * 20 + 20, `${label} after round ${round}`)
    t.is(waitingFor(scene, 'oslo'), round * 20 + 20)
  }
  take(scene.remoteOf('oslo'))
  await scene.allDone()
  for (const label of LABELS) {
    t.deepEqual(arrivedAt(scene, label), texts(0, 80))
    t.deepEqual(scene.feedOf(label).account.totals.lost, {})
  }
})

test('a remote that is new starts at the journal’s end, and its sum holds', async t => {
  const scene = await Scene.open({ remotes: ['rome'] })
  scene.send(texts(0, 5))
  await scene.allDone()
  refuse(scene.remoteOf('rome'))
  scene.send(texts(5, 8))
  await scene.environment.pass(2_000)
  await scene.close()
  scene.labels = LABELS
  await scene.crash()
  t.deepEqual(scene.feedOf('oslo').account.totals.skipped, { before: 8 })
  t.is(waitingFor(scene, 'oslo'), 0)
  t.is(waitingFor(scene, 'rome'), 3)
  scene.send(texts(8, 10))
  take(scene.remoteOf('rome'))
  await scene.allDone()
  t.deepEqual(arrivedAt(scene, 'rome'), texts(0, 10))
  t.deepEqual(arrivedAt(scene, 'oslo'), texts(8, 10))
  for (const label of LABELS) t.is(scene.feedOf(label).account.acked, 10)
  await scene.restart()
  t.deepEqual(scene.feedOf('oslo').account.totals.skipped, { before: 8 })
  for (const label of LABELS) t.is(scene.feedOf(label).account.acked, 10)
})

test('one that is new while pages of the other are on disk starts at the end, too', async t => {
  const scene = await Scene.open({ remotes: ['rome'] })
  refuse(scene.remoteOf('rome'))
  scene.send(texts(0, 5))
  await scene.spillAll()
  scene.send(texts(5, 8))
  await scene.close()
  scene.labels = LABELS
  await scene.crash()
  t.is(waitingFor(scene, 'oslo'), 0)
  scene.send(texts(8, 10))
  take(scene.remoteOf('rome'))
  await scene.allDone()
  t.deepEqual(arrivedAt(scene, 'rome'), texts(0, 10))
  t.deepEqual(arrivedAt(scene, 'oslo'), texts(8, 10))
  for (const label of LABELS) t.is(scene.feedOf(label).account.acked, 10)
  t.is(scene.replay.memory.used, 0)
})

test('one that is taken out of the configuration holds nothing back, and its number is nobody else’s', async t => {
  const scene = await Scene.open({ remotes: LABELS })
  refuse(scene.remoteOf('oslo'))
  scene.send(texts(0, 5))
  await scene.spillAll()
  await scene.close()
  scene.labels = ['rome', 'bern']
  await scene.crash()
  t.is(scene.feedOf('rome').remote.bit, 1)
  t.is(scene.feedOf('bern').remote.bit, 4)
  await scene.environment.pass(3_000)
  t.deepEqual(scene.environment.fileSystem.find(/^bodies-/), [])
  t.deepEqual(arrivedAt(scene, 'bern'), [])
  await scene.close()
  scene.labels = LABELS
  await scene.crash()
  t.is(scene.feedOf('oslo').remote.bit, 2)
})

test('one that is configured again goes on with what is still there, and what was done without it counts as skipped', async t => {
  const scene = await Scene.open({ remotes: LABELS })
  scene.send(texts(0, 5))
  await scene.allDone()
  await scene.environment.pass(3_000)
  await scene.close()
  scene.labels = ['rome']
  await scene.crash()
  scene.send(texts(5, 12))
  await scene.allDone()
  // What is done goes with its segment.
  await scene.restart()
  await scene.environment.pass(3_000)
  refuse(scene.remoteOf('rome'))
  scene.send(texts(12, 14))
  await scene.restart()
  await scene.close()
  scene.labels = LABELS
  await scene.crash()
  take(scene.remoteOf('rome'))
  scene.send(texts(14, 16))
  await scene.allDone()
  t.deepEqual(arrivedAt(scene, 'oslo'), [...texts(0, 5), ...texts(12, 16)])
  for (const again of [false, true]) {
    if (again) await scene.restart()
    t.deepEqual(scene.feedOf('oslo').account.totals.skipped, { before: 7 })
    t.deepEqual(scene.feedOf('oslo').account.totals.lost, {})
    for (const label of LABELS) t.is(scene.feedOf(label).account.acked, 16, label)
  }
})

test('a message that is skipped for one goes to the other, and both sums hold, over a crash at any time', async t => {
  for (const when of ['at once', 'after the cursor', 'after it went to disk', 'on disk, before the cursor']) {
    const scene = await Scene.open({ remotes: LABELS })
    for (const label of LABELS) refuse(scene.remoteOf(label))
    scene.send(['m0'])
    // Else the first checkpoint comes with the first lane.
    await scene.environment.pass(1_500)
    scene
      .forward()
      .store('from oslo')
      .ack({ reason: 'loop', labels: ['oslo'] })
    scene.forward().store('delayed').ack({ reason: 'delayed', labels: 'all' })
    scene.send(['m1'])
    await scene.environment.settled()
    if (when === 'after the cursor') await scene.environment.pass(3_000)
    if (when === 'after it went to disk') await scene.spillAll()
    if (when === 'on disk, before the cursor') {
      scene.environment.fileSystem.fault = one => (one === 'overwrite' ? new Error('no space') : undefined)
      await scene.spillAll()
    }
    await scene.crash()
    t.deepEqual(scene.feedOf('rome').account.totals.skipped, { delayed: 1 }, when)
    t.deepEqual(scene.feedOf('oslo').account.totals.skipped, { delayed: 1, loop: 1 }, when)
    for (const label of LABELS) {
      t.is(scene.feedOf(label).account.acked, 4, `${label} ${when}`)
      take(scene.remoteOf(label))
    }
    await scene.allDone()
    t.deepEqual(arrivedAt(scene, 'rome'), ['m0', 'from oslo', 'm1'], when)
    t.deepEqual(arrivedAt(scene, 'oslo'), ['m0', 'm1'], when)
    for (const label of LABELS) {
      t.is(scene.feedOf(label).account.acked, 4)
      t.deepEqual(scene.feedOf(label).account.totals.lost, {})
    }
    await scene.close()
  }
})

test('one that has done what the other has not does not get it again after a crash, wherever that lies', async t => {
  const scene = await Scene.open({ remotes: LABELS })
  refuse(scene.remoteOf('oslo'))
  scene.send(texts(0, 6))
  await scene.until('rome has it', () => waitingFor(scene, 'rome') === 0)
  await scene.spillAll()
  // Within one page on disk rome has some, and within one in the journal.
  refuse(scene.remoteOf('rome'))
  scene.send(texts(6, 12))
  await scene.environment.pass(2_000)
  scene.remoteOf('rome').broker.onSend = send => {
    send.store([0, 1, 3])
    send.request.breakOff()
    refuse(scene.remoteOf('rome'))
  }
  await scene.until('rome has some of them', () => waitingFor(scene, 'rome') === 3)
  for (const where of ['the journal', 'a block']) {
    if (where === 'a block') await scene.spillAll()
    else await scene.environment.pass(1_500)
    await scene.crash()
    t.is(waitingFor(scene, 'rome'), 3, where)
    t.is(waitingFor(scene, 'oslo'), 12, where)
    await scene.environment.pass(1_500)
    await scene.crash()
    t.is(waitingFor(scene, 'rome'), 3, where)
  }
  for (const label of LABELS) take(scene.remoteOf(label))
  await scene.allDone()
  t.deepEqual(arrivedAt(scene, 'oslo'), texts(0, 12))
  t.deepEqual(arrivedAt(scene, 'rome'), [...texts(0, 8), 'm9', 'm8', 'm10', 'm11'])
  for (const label of LABELS) t.is(scene.feedOf(label).account.acked, 12)
})

test('a body leaves memory when both have it, and is read from disk once for both', async t => {
  const scene = await Scene.open({ remotes: LABELS })
  for (const label of LABELS) refuse(scene.remoteOf(label))
  scene.send(texts(0, 10))
  await scene.environment.pass(1_000)
  take(scene.remoteOf('rome'))
  await scene.until('rome has it', () => waitingFor(scene, 'rome') === 0)
  t.true(scene.replay.memory.used > 0)
  take(scene.remoteOf('oslo'))
  await scene.allDone()
  t.is(scene.replay.memory.used, 0)
})

test('what one reads back while memory is full is not kept for another that is away', async t => {
  const scene = await Scene.open({ remotes: LABELS, bodyMemory: 1_000, sourceQueues: 1, remoteQueues: 1, maxBytes: 1 })
  for (const label of LABELS) scene.remoteOf(label).disconnect(scene.environment.network)
  const all = Array.from({ length: 200 }, (_, index) => `${index} ${'x'.repeat(300)}`)
  for (let from = 0; from < 200; from += 20) {
    scene.send(all.slice(from, from + 20), 0)
    await scene.environment.pass(500)
  }
  let most = 0
  scene.remoteOf('rome').connect(scene.environment.network)
  await scene.until('rome has it', () => {
    most = Math.max(most, scene.replay.memory.used)
    return waitingFor(scene, 'rome') === 0
  })
  t.true(most < 20_000, `${most} bytes`)
  t.deepEqual([scene.feedOf('oslo').account.queued > 0, waitingFor(scene, 'oslo')], [false, 200])
  scene.remoteOf('oslo').connect(scene.environment.network)
  await scene.allDone()
  for (const label of LABELS) t.deepEqual(arrivedAt(scene, label, 0), all)
  t.is(scene.replay.memory.used, 0)
})
