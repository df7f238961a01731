// A remote that is another cluster than its cursor knows, and one that is to be forgotten.

import test from 'ava'
import { OtherClusterError } from '../../replay/remote.ts'
import { RemoteChangeError } from '../../replay/replay.ts'
import { FakeCluster } from './fake-cluster.ts'
import { propertiesWith } from './sample.ts'
import { Scene, slotFolder, TOPIC, texts } from './scene.ts'

/** From the next start on its address leads to another cluster. */
function replaceRemote(scene: Scene): FakeCluster {
  const other = new FakeCluster('bern')
  other.makeTopic(TOPIC, 2)
  scene.remotes.set('default', other)
  return other
}

test('where the address leads to another cluster nothing is sent, what is acked waits, and it goes on when it leads back', async t => {
  const scene = await Scene.open()
  scene.send(texts(0, 3))
  await scene.allDone()
  await scene.environment.pass(1_500)
  const before = scene.remote
  await scene.close()
  const other = replaceRemote(scene)
  await scene.crash()
  await scene.environment.settled()
  scene.send(texts(3, 6))
  await scene.until('the lane says why', () => scene.feed.troubles.length > 0)
  t.regex(scene.feed.troubles[0]!.reason, /leads to cluster bern.* is at cluster rome.*--new-remote=default/)
  await scene.environment.pass(60_000)
  t.is(other.broker.sends.length, 0)
  t.is(scene.account.queued, 3)
  let check: unknown
  scene.replay.checkRemotes(1_000).catch(error => {
    check = error
  })
  await scene.until('the start is told', () => check !== undefined)
  t.true(check instanceof OtherClusterError)
  await scene.close()
  scene.remotes.set('default', before)
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 6))
})

test('with --new-remote what waits goes to the new cluster, once and in order, over crashes, and nothing of what was done', async t => {
  const scene = await Scene.open({ bodyMemory: 3_000 })
  scene.send(texts(0, 3))
  await scene.allDone()
  const held = scene.holdSends()
  scene.send(texts(3, 20))
  await scene.until('some are out', () => held.length > 0)
  // They arrive there, unanswered.
  held[0]!.store()
  await scene.spillAll()
  scene.send(texts(20, 25))
  await scene.environment.pass(1_500)
  await scene.close()
  const other = replaceRemote(scene)
  scene.options.newRemotes = ['default']
  await scene.crash()
  await scene.until('half of it is there', () => other.broker.texts(TOPIC, 0).length > 10)
  // A start with the same command line changes nothing.
  await scene.crash()
  await scene.allDone()
  t.deepEqual(other.broker.texts(TOPIC, 0), texts(3, 25))
  scene.options.newRemotes = []
  scene.send(texts(25, 27))
  await scene.restart()
  await scene.allDone()
  t.deepEqual(other.broker.texts(TOPIC, 0), texts(3, 27))
  t.deepEqual(scene.account.totals.lost, {})
  t.is(scene.account.acked, 27)
})

test('with --new-remote what the old cluster had lost goes to the new one, too', async t => {
  const scene = await Scene.open()
  scene.send(texts(0, 5))
  await scene.allDone()
  scene.remote.broker.loseTailOf(TOPIC, 0, 3)
  await scene.environment.pass(1_500)
  scene.remote.disconnect(scene.environment.network)
  scene.remote.connect(scene.environment.network)
  scene.holdSends()
  await scene.until('they wait again', () => scene.account.queued + scene.account.inGap === 3)
  await scene.environment.pass(1_500)
  await scene.close()
  const other = replaceRemote(scene)
  scene.options.newRemotes = ['default']
  await scene.crash()
  await scene.allDone()
  t.deepEqual(other.broker.texts(TOPIC, 0), texts(2, 5))
  t.deepEqual(scene.account.totals.lost, {})
})

test('with --new-remote what the old cluster had lost and came from the new one is a loop, and counts once over restarts', async t => {
  const scene = await Scene.open()
  scene.send(['m0'], 0, { properties: propertiesWith('m0', [['REPLICATOR-BORN-SOURCE', 'bern']]) })
  scene.send(['m1'])
  await scene.allDone()
  const { broker } = scene.remote
  scene.remote.disconnect(scene.environment.network)
  await scene.environment.settled()
  broker.loseTailOf(TOPIC, 0, 2)
  broker.onSend = send => send.request.answer({ code: 2 })
  scene.remote.connect(scene.environment.network)
  await scene.until('they wait again', () => scene.account.queued + scene.account.inGap === 2)
  await scene.environment.pass(1_500)
  await scene.close()
  const other = replaceRemote(scene)
  scene.options.newRemotes = ['default']
  for (const start of ['first', 'second', 'third']) {
    await scene.crash()
    await scene.allDone()
    await scene.environment.pass(1_500)
    t.deepEqual(other.broker.texts(TOPIC, 0), ['m1'])
    t.is(scene.account.acked, 2, start)
    t.deepEqual(scene.account.totals.skipped, { loop: 1 }, start)
    t.false(scene.feed.needsKept, start)
    await scene.close()
    scene.options.newRemotes = []
  }
})

test('with --new-remote it has to be up: nothing is changed before its name is known', async t => {
  const scene = await Scene.open()
  scene.send(texts(0, 3))
  await scene.allDone()
  await scene.close()
  scene.options.newRemotes = ['default']
  scene.remote.away.add(scene.remote.broker)
  const message = /--new-remote=default: the remote has to be up/
  await t.throwsAsync(scene.crash(), { instanceOf: RemoteChangeError, message })
})

test('one that is forgotten leaves nothing, its number goes to the next that is new, and that one starts at the end', async t => {
  const scene = await Scene.open({ remotes: ['rome', 'oslo'] })
  for (const label of ['rome', 'oslo']) scene.remoteOf(label).broker.onSend = send => send.request.answer({ code: 2 })
  scene.send(texts(0, 5))
  scene
    .forward()
    .store('from oslo')
    .ack({ reason: 'loop', labels: ['oslo'] })
  await scene.spillAll()
  scene.send(texts(5, 8))
  await scene.close()
  scene.labels = ['rome', 'bern']
  scene.options.forgetRemotes = ['oslo']
  await scene.crash()
  t.deepEqual(await scene.environment.fileSystem.list(slotFolder('oslo')), [])
  t.is(scene.feedOf('rome').remote.bit, 1)
  t.is(scene.feedOf('bern').remote.bit, 2)
  for (const again of [false, true]) {
    if (again) await scene.restart()
    t.is(scene.feedOf('bern').account.queued + scene.feedOf('bern').account.inGap, 0)
    t.is(scene.feedOf('bern').account.acked, 9)
    t.is(scene.feedOf('rome').account.acked, 9)
  }
  scene.takeSends()
  scene.send(texts(8, 10))
  await scene.allDone()
  t.deepEqual(scene.remoteOf('rome').broker.texts(TOPIC, 0), [...texts(0, 5), 'from oslo', ...texts(5, 10)])
  t.deepEqual(scene.remoteOf('bern').broker.texts(TOPIC, 0), texts(8, 10))
})

test('one that has dead letters is not forgotten: nothing else has them', async t => {
  const scene = await Scene.open({ remotes: ['rome', 'oslo'] })
  scene.remoteOf('oslo').broker.onSend = send => send.request.answer({ code: 13 })
  scene.send(['m0'])
  await scene.allDone()
  await scene.close()
  scene.labels = ['rome']
  scene.options.forgetRemotes = ['oslo']
  await t.throwsAsync(scene.crash(), { instanceOf: RemoteChangeError, message: /oslo\/dead-letters-.* move it away/ })
  t.is(scene.environment.fileSystem.find(/^dead-letters/).length, 1)
})
