// Several remotes on one journal: each has its own cursor, its own pace and its own account, and none minds another.

import test from 'ava'
import { DiskError } from '../support/fake-disk.ts'
import { arrivedAt, refuse, Scene, type SceneOptions, take, texts, waitingFor } from './scene.ts'

const LABELS = ['rome', 'oslo'] as const
/** Milliseconds. */
const DAY = 24 * 3_600_000

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

test('one that is down for a day holds back nobody, and gets everything in order when it is back', async t => {
  const scene = await Scene.open({ remotes: LABELS, bodyMemory: 3_000 })
  scene.remoteOf('oslo').disconnect(scene.environment.network)
  for (let round = 0; round < 30; round++) {
    scene.send(texts(round * 5, round * 5 + 5))
    await scene.until('rome has it', () => waitingFor(scene, 'rome') === 0)
    t.is(scene.feedOf('rome').lagMs, 0)
    t.is(arrivedAt(scene, 'rome').length, round * 5 + 5)
    await scene.environment.pass(DAY / 30)
  }
  t.is(waitingFor(scene, 'oslo'), 150)
  t.true(scene.feedOf('oslo').lagMs > DAY / 2)
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

const long = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => `${from + index} ${'x'.repeat(500)}`)

/** Sends a few at a time. */
async function sendSlowly(scene: Scene, all: readonly string[]): Promise<void> {
  for (let from = 0; from < all.length; from += 5) {
    scene.send(all.slice(from, from + 5), 0)
    await scene.environment.pass(300)
  }
}

/** The disk is full of what oslo alone has not got. */
async function fullOfOne(options: SceneOptions = {}): Promise<Scene> {
  const scene = await Scene.open({ remotes: LABELS, bodyMemory: 10_000, maxBytes: 60_000, ...options })
  refuse(scene.remoteOf('oslo'))
  await sendSlowly(scene, long(0, 100))
  await scene.until('rome has it', () => waitingFor(scene, 'rome') === 0)
  return scene
}

const gaveUp = ({ environment }: Scene) => environment.log.said('no room on disk')

test('a full disk: the oldest bodies that only one needs who is away make room for what the other waits for', async t => {
  const scene = await fullOfOne()
  const before = scene.feedOf('oslo').account
  t.true(before.inGap > 30 && before.queued > 20, `${before.inGap} ${before.queued}`)
  t.is(gaveUp(scene).length, 0)
  refuse(scene.remoteOf('rome'))
  await sendSlowly(scene, long(100, 120))
  t.true(gaveUp(scene).length > 0)
  t.deepEqual([scene.feedOf('rome').account.queued, scene.feedOf('rome').account.inGap], [20, 0])
  t.is(waitingFor(scene, 'oslo'), 120)
  const { journal, spill } = scene.broker
  t.true(journal.counts.bytes + spill.counts.bytes <= 60_000)
  take(scene.remoteOf('rome'))
  await scene.until('rome has it', () => waitingFor(scene, 'rome') === 0)
  t.is(scene.feedOf('rome').account.readBack, 0)
  take(scene.remoteOf('oslo'))
  await scene.allDone()
  for (const label of LABELS) {
    t.deepEqual(arrivedAt(scene, label), long(0, 120))
    t.deepEqual(scene.feedOf(label).account.totals.lost, {})
  }
  t.is(scene.replay.memory.used, 0)
})

test('when every remote lags nobody gives way: the oldest bodies stay, over a crash too', async t => {
  const scene = await fullOfOne()
  refuse(scene.remoteOf('rome'))
  await sendSlowly(scene, long(100, 120))
  const given = gaveUp(scene).length
  await sendSlowly(scene, long(120, 160))
  t.is(gaveUp(scene).length, given)
  await scene.crash()
  const { queued, inGap } = scene.feedOf('rome').account
  t.is(queued + inGap, 60)
  await sendSlowly(scene, long(160, 200))
  t.is(gaveUp(scene).length, 0)
  t.is(scene.feedOf('rome').account.queued, queued)
  for (const label of LABELS) take(scene.remoteOf(label))
  await scene.allDone()
  for (const label of LABELS) t.deepEqual(arrivedAt(scene, label), long(0, 200))
})

for (const powerCut of [false, true])
  test(`a ${powerCut ? 'power cut' : 'crash'} at any time while bodies are given up costs no message`, async t => {
    let isOver = false
    for (let dieAt = 0; !isOver && dieAt < 200; dieAt++) {
      const scene = await fullOfOne()
      refuse(scene.remoteOf('rome'))
      const { fileSystem } = scene.environment
      let operations = 0
      // What comes after this operation never gets to the disk.
      fileSystem.fault = () => (operations++ >= dieAt ? new Error('the process is gone') : undefined)
      await sendSlowly(scene, long(100, 110))
      isOver = operations < dieAt
      if (isOver) t.true(gaveUp(scene).length > 0)
      fileSystem.fault = () => undefined
      await scene.crash(powerCut)
      for (const label of LABELS) t.true(waitingFor(scene, label) <= 110, `${label}, ${dieAt} operations`)
      t.true(waitingFor(scene, 'oslo') >= 100, `${dieAt} operations`)
      for (const label of LABELS) take(scene.remoteOf(label))
      await scene.allDone()
      for (const label of LABELS) {
        const { lost, replicated } = scene.feedOf(label).account.totals
        t.deepEqual([lost, arrivedAt(scene, label).length], [{}, replicated], `${label}, ${dieAt} operations`)
      }
      t.deepEqual(arrivedAt(scene, 'oslo').slice(0, 100), long(0, 100))
      await scene.close()
    }
    t.true(isOver)
  })

test('what is written anew and did not get to the disk whole does not stand for what was there', async t => {
  const scene = await fullOfOne()
  // Their segment goes: places are in blocks only.
  await scene.crash()
  await sendSlowly(scene, long(100, 105))
  await scene.environment.pass(3_000)
  const { fileSystem } = scene.environment
  const before = new Map(fileSystem.find(/^bodies-/).map(path => [path, Buffer.from(fileSystem.bytes(path))]))
  refuse(scene.remoteOf('rome'))
  await sendSlowly(scene, long(105, 110))
  const [path] = [...before.keys()].filter(path => !fileSystem.files.has(path)) as [string]
  t.is(gaveUp(scene)[0]!.fields.path, path)
  const length = (path: string) => fileSystem.bytes(path).length
  // The other new one has bodies.
  const [anew] = fileSystem
    .find(/^bodies-/)
    .filter(path => !before.has(path))
    .sort((one, other) => length(one) - length(other)) as [string]
  await scene.close()
  // As if the power had been cut before the former was removed.
  fileSystem.put(path, before.get(path)!)
  // Of its last block's places: behind them stand at most seven zeros.
  fileSystem.bytes(anew)[length(anew) - 8]! ^= 1
  await scene.crash()
  t.is(waitingFor(scene, 'oslo'), 110)
  for (const label of LABELS) take(scene.remoteOf(label))
  await scene.allDone()
  for (const label of LABELS) {
    t.deepEqual(arrivedAt(scene, label), long(0, 110))
    t.deepEqual(scene.feedOf(label).account.totals.lost, {})
  }
})

test('what may not be read back from the source is not given up, over a crash too', async t => {
  for (const crashes of [false, true]) {
    const scene = await fullOfOne({ journalBodies: 'always' })
    const { queued } = scene.feedOf('oslo').account
    t.true(queued > 20, `${queued}`)
    if (crashes) await scene.crash()
    refuse(scene.remoteOf('rome'))
    await sendSlowly(scene, long(100, 120))
    t.is(gaveUp(scene).length, 0)
    t.true(scene.feedOf('oslo').account.queued >= queued)
    for (const label of LABELS) take(scene.remoteOf(label))
    await scene.allDone()
    for (const label of LABELS) t.deepEqual(arrivedAt(scene, label), long(0, 120))
    await scene.close()
  }
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
  scene.remoteOf('rome').broker.onSend = send => {
    most = Math.max(most, scene.replay.memory.used)
    send.answerStored(send.store())
  }
  scene.remoteOf('rome').connect(scene.environment.network)
  await scene.until('rome has it', () => waitingFor(scene, 'rome') === 0)
  t.true(most < 100_000, `${most} bytes`)
  t.deepEqual([scene.feedOf('oslo').account.queued > 0, waitingFor(scene, 'oslo')], [false, 200])
  scene.remoteOf('oslo').connect(scene.environment.network)
  await scene.allDone()
  for (const label of LABELS) t.deepEqual(arrivedAt(scene, label, 0), all)
  t.is(scene.replay.memory.used, 0)
})

test('where the cursor of one cannot be written, no two writes of the cursor of another meet', async t => {
  const scene = await Scene.open({ remotes: LABELS })
  const { fileSystem, clock } = scene.environment
  /** Steps that a write has taken: it has two. */
  const writing = new Map<string, number>()
  let met = 0
  fileSystem.fault = (operation, path) => {
    if (operation !== 'overwrite') return undefined
    if (path.includes('/rome/')) return new DiskError('EIO', operation, path)
    if (writing.has(path)) met++
    writing.set(path, 0)
    return undefined
  }
  fileSystem.step = async (operation, path) => {
    if (operation !== 'overwrite') return
    const steps = writing.get(path)! + 1
    writing.set(path, steps)
    await new Promise<void>(resolve => void clock.after(1_300, resolve))
    if (steps === 2) writing.delete(path)
  }
  for (let second = 0; second < 20; second++) {
    scene.send([`m${second}`])
    await scene.environment.pass(1_000)
  }
  fileSystem.fault = () => undefined
  await scene.allDone()
  t.is(met, 0)
  await scene.crash(true)
  await scene.environment.pass(10_000)
  t.is(arrivedAt(scene, 'oslo').length, 20)
})
