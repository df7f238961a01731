// A source connection that keeps an older epoch and is quiet until nothing of that is on disk any more: what comes then is
// still known by its epoch.

import test from 'ava'
import { decodeStamp, findProperty } from '../../codec/index.ts'
import { Scene, TOPIC } from './scene.ts'

const epochsAt = (scene: Scene) =>
  scene.remote.broker
    .queue(TOPIC, 0)
    .messages.map(({ properties }) => decodeStamp(findProperty(properties, 'TEE_ORIGIN')!)!.epoch)

/**
 * m0 went over a connection to the former address of the source broker, all others over one to its present one: files of
 * places are filled, and no known end has m0. `onWrite` is called at each write of a slot.
 */
async function quiet(onWrite: (scene: Scene, sendOverOlder: (text: string) => void) => void = () => {}) {
  const scene = await Scene.open({ maxBytes: 200_000 })
  const older = scene.connect()
  const sendOverOlder = (text: string) => scene.forward(0, older).store(text).ack()
  sendOverOlder('m0')
  await scene.allDone()
  scene.broker.address = 'paris:10922'
  const younger = scene.connect('paris:10922')
  scene.environment.fileSystem.fault = operation => {
    if (operation === 'overwrite') onWrite(scene, sendOverOlder)
    return undefined
  }
  for (let round = 0; round < 60; round++) {
    for (let i = 0; i < 20; i++) scene.forward(0, younger).store(`${round}.${i}`).ack()
    await scene.allDone()
    await scene.environment.pass(20_000)
  }
  return { scene, sendOverOlder }
}

test('what is acked over a connection that was quiet is known by its epoch, after kill -9 too', async t => {
  const { scene, sendOverOlder } = await quiet()
  t.is(scene.broker.journal.epochIds.size, 1)
  const held = scene.holdSends()
  sendOverOlder('last')
  await scene.until('it is out', () => held.length === 1)
  t.is(scene.relayed.at(-1), 'last')
  await scene.crash()
  scene.takeSends()
  await scene.until('it is there', () => scene.arrived().includes('last'))
  await scene.allDone()
  t.deepEqual(scene.account.totals.lost, {})
  t.is(epochsAt(scene).at(-1), epochsAt(scene)[0])
})

test('so is what is acked while the checkpoint runs that would forget its epoch', async t => {
  let writes = 0
  let writesBefore = 0
  await quiet(({ broker }) => {
    writes++
    if (broker.journal.epochIds.has(1)) writesBefore = writes
  })
  t.true(writesBefore > 0 && writesBefore < writes, `${writesBefore} of ${writes}`)
  let isSent = false
  const { scene } = await quiet((_scene, sendOverOlder) => {
    if (--writesBefore !== 0) return
    isSent = true
    sendOverOlder('last')
  })
  t.true(isSent)
  const at = scene.arrived().indexOf('last')
  t.is(epochsAt(scene)[at], epochsAt(scene)[0])
})
