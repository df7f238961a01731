// Remotes that were not configured for a time: those that are new, and those that come back.

import test from 'ava'
import { arrivedAt, refuse, Scene, TOPIC, take, texts, waitingFor } from './scene.ts'

const LABELS = ['rome', 'oslo'] as const

for (const where of ['in pages on disk', 'in a file of what waits in another queue'])
  test(`what was acked before a remote was known never goes there, over any number of starts: ${where}`, async t => {
    const scene = await Scene.open({ remotes: ['rome'] })
    if (where === 'in a file of what waits in another queue') {
      scene.send(texts(0, 5))
      await scene.allDone()
    }
    refuse(scene.remoteOf('rome'))
    scene.send(texts(5, 8), where === 'in a file of what waits in another queue' ? 1 : 0)
    if (where === 'in pages on disk') await scene.spillAll()
    await scene.environment.pass(2_000)
    await scene.close()
    scene.labels = LABELS
    await scene.crash()
    const before = { ...scene.feedOf('oslo').account.totals.skipped }
    for (const way of ['crash', 'restart', 'crash'] as const) {
      scene.send([way])
      await scene.until('oslo has it', () => waitingFor(scene, 'oslo') === 0)
      await scene.environment.pass(2_000)
      await scene[way]()
      t.is(waitingFor(scene, 'oslo'), 0, way)
    }
    t.deepEqual(arrivedAt(scene, 'oslo'), ['crash', 'restart', 'crash'])
    t.deepEqual(arrivedAt(scene, 'oslo', 1), [])
    take(scene.remoteOf('rome'))
    await scene.allDone()
    t.deepEqual(scene.feedOf('oslo').account.totals.skipped, before)
    const acked = scene.feedOf('rome').account.acked
    t.is(scene.feedOf('oslo').account.acked, acked)
    t.is(acked, where === 'in a file of what waits in another queue' ? 11 : 6)
  })

test('a remote that loses its tail while it is left out gets that once more, and no more, however much was acked meanwhile', async t => {
  const scene = await Scene.open({ remotes: LABELS, maxBytes: 200_000 })
  for (const text of texts(0, 10)) {
    scene.send([text])
    await scene.allDone()
  }
  await scene.close()
  scene.labels = ['rome']
  await scene.crash()
  const [ofOslo] = scene.broker.journal.epochIds.keys()
  // Files of places are filled, and the known ends of rome are of the newer epoch only: no file names the older one any more.
  for (let round = 0; round < 60; round++) {
    scene.send(texts(10 + round * 20, 30 + round * 20))
    await scene.allDone()
    await scene.environment.pass(20_000)
  }
  t.false(scene.broker.journal.epochIds.has(ofOslo!))
  await scene.close()
  scene.remoteOf('oslo').broker.loseTailOf(TOPIC, 0, 2)
  scene.labels = LABELS
  await scene.crash()
  await scene.until('all is there again', () => arrivedAt(scene, 'oslo').includes('m9'))
  await scene.allDone()
  t.deepEqual(arrivedAt(scene, 'oslo').slice(0, 10), texts(0, 10))
  t.is(new Set(arrivedAt(scene, 'oslo')).size, arrivedAt(scene, 'oslo').length)
})
