// After an end without a word the next start says whether something may have been acked that no journal has, and from where on.

import test from 'ava'
import { DiskError } from '../support/fake-disk.ts'
import { FOLDER, Scene, texts } from './scene.ts'

const SAID = 'what was acked last may be missing from the journal'

function said(scene: Scene) {
  return scene.environment.log.said(SAID).map(({ fields }) => fields)
}

/** From here on the disk takes no places. */
async function diskFails(scene: Scene): Promise<void> {
  scene.environment.fileSystem.fault = (operation, path) =>
    operation === 'append' || operation === 'create' ? new DiskError('EIO', operation, path) : undefined
  scene.send(['unwritten'])
  await scene.until('it is said', () => scene.broker.journal.failed)
}

test('after kill -9 nothing is in doubt', async t => {
  const scene = await Scene.open()
  scene.send(texts(0, 3))
  await scene.environment.settled()
  await scene.crash()
  t.deepEqual(said(scene), [])
})

test('after a power cut what was acked last is in doubt, from behind what is known', async t => {
  const scene = await Scene.open()
  scene.send(texts(0, 3))
  scene.send(texts(0, 2), 1)
  await scene.allDone()
  await scene.environment.pass(2_000)
  scene.refuseSends(2)
  scene.send(texts(3, 5))
  await scene.environment.pass(500)
  await scene.crash(true)
  t.deepEqual(said(scene), [
    {
      broker: 'paris-a',
      reason: 'the process before this one ended without a word, and its machine since',
      from: [
        { topic: 'orders', queueId: 0, offset: 5 },
        { topic: 'orders', queueId: 1, offset: 2 },
      ],
    },
  ])
  scene.takeSends()
  await scene.allDone()
  await scene.restart()
  t.deepEqual(said(scene), [])
})

test('after kill -9 while the journal failed, too', async t => {
  const scene = await Scene.open()
  await diskFails(scene)
  await scene.crash()
  t.is(said(scene).length, 1)
  t.regex(String(said(scene)[0]!.reason), /while its journal failed/)
  await scene.crash()
  t.deepEqual(said(scene), [], 'once it was said')
})

test('a failure that was over is none', async t => {
  const scene = await Scene.open()
  await diskFails(scene)
  scene.environment.fileSystem.fault = () => undefined
  await scene.until('it writes again', () => !scene.broker.journal.failed)
  await scene.crash()
  t.deepEqual(said(scene), [])
})

test('a process that closes leaves nothing in doubt, unless its journal fails as it does', async t => {
  const scene = await Scene.open()
  await scene.close()
  t.deepEqual(scene.environment.fileSystem.find(/^unclean$/), [])
  await scene.crash(true)
  t.deepEqual(said(scene), [])
  await diskFails(scene)
  await scene.close()
  t.deepEqual(scene.environment.fileSystem.find(/^unclean$/), [`${FOLDER}/unclean`])
  await scene.crash()
  t.is(said(scene).length, 1)
})

test('a journal that fails from the start on is in doubt after kill -9, too', async t => {
  const scene = await Scene.open()
  const next = scene.environment.fileSystem.afterCrash(false)
  next.fault = (operation, path) => (operation === 'create' ? new DiskError('EIO', operation, path) : undefined)
  const failing = await Scene.open({ disk: next, source: scene.source, clusters: scene.remotes })
  failing.send(['unwritten'])
  await failing.environment.settled()
  await failing.crash()
  t.is(said(failing).length, 1)
})

test('so it is where the disk does not take the mark either, and it is there as soon as the disk takes it', async t => {
  const scene = await Scene.open()
  await scene.close()
  const next = scene.environment.fileSystem.afterCrash(false)
  const writes = ['create', 'append', 'overwrite', 'replace']
  next.fault = (operation, path) => (writes.includes(operation) ? new DiskError('EIO', operation, path) : undefined)
  const failing = await Scene.open({ disk: next, source: scene.source, clusters: scene.remotes })
  failing.send(['unwritten'])
  await failing.environment.settled()
  t.deepEqual(next.find(/^unclean$/), [])
  await failing.crash()
  t.is(said(failing).length, 1)
  await failing.environment.pass(3_000)
  t.deepEqual(failing.environment.fileSystem.find(/^unclean$/), [`${FOLDER}/unclean`])
})
