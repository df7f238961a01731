// What a start makes of what the last one left on disk: blocks, segments, both, or one of them damaged.

import test from 'ava'
import { DiskError } from '../support/fake-disk.ts'
import { Scene, texts } from './scene.ts'

test('a message that came late keeps being named as not done, though its page is on disk', async t => {
  const scene = await Scene.open()
  const slow = [0, 1, 2].map(index => scene.forward().store(`m${index}`))
  await scene.environment.pass(11_000)
  scene.refuseSends(2)
  scene.send(texts(3, 6))
  await scene.environment.settled()
  // Given up, and behind higher ones now.
  for (const send of slow) send.ack()
  await scene.spillAll()
  await crashWhenTheFirstAreFound(scene)
  t.deepEqual(scene.arrived(), ['m3', 'm4', 'm5', 'm0', 'm1', 'm2'])
  t.deepEqual(scene.account.totals.lost, {})
})

test('so does one whose page holds nothing but late ones, behind a page of higher ones', async t => {
  const scene = await Scene.open()
  const slow = [0, 1, 2].map(index => scene.forward().store(`m${index}`))
  await scene.environment.pass(11_000)
  scene.refuseSends(2)
  scene.send(texts(3, 6))
  await scene.spillAll()
  for (const send of slow) send.ack()
  scene.send(texts(6, 8))
  await scene.spillAll()
  await crashWhenTheFirstAreFound(scene)
  t.deepEqual(scene.arrived(), ['m3', 'm4', 'm5', 'm0', 'm1', 'm2', 'm6', 'm7'])
  t.deepEqual(scene.account.totals.lost, {})
})

test('a page whose block could not be synced is written anew, and counts once where the first block is still there', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 600))
  await scene.environment.settled()
  const { fileSystem } = scene.environment
  let failures = 0
  fileSystem.fault = (operation, path) => {
    const isFirstSync = operation === 'sync' && /bodies-/.test(path) && failures++ === 0
    // Nor does it take a cursor: the file that was left is not removed.
    return isFirstSync || operation === 'overwrite' ? new DiskError('EIO', operation, path) : undefined
  }
  await scene.until('a sync has failed', () => failures > 0)
  await scene.environment.pass(2_500)
  t.is(fileSystem.find(/^bodies-/).length, 2)
  await scene.crash()
  t.is(scene.account.queued + scene.account.inGap, 600)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 600))
  t.is(scene.account.acked, 600)
})

/** After a restart the remote stores the first three, and is found to have them; then comes a crash. */
async function crashWhenTheFirstAreFound(scene: Scene): Promise<void> {
  await scene.restart()
  const held = scene.holdSends()
  await scene.until('the first are out', () => held.length === 1)
  held[0]!.store([0, 1, 2])
  scene.refuseSends(2)
  held[0]!.request.breakOff()
  await scene.until('they are found', () => scene.account.totals.replicated === 3)
  await scene.environment.pass(2_000)
  scene.takeSends()
  await scene.crash()
  await scene.allDone()
}
