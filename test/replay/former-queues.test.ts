// Queues that a lane has left: a broker that was away may come back without its tail, and what it has lost goes to the queue
// that the lane has now.

import test from 'ava'
import { Cursor, type Slot } from '../../replay/cursor.ts'
import type { FakeSend } from './fake-cluster.ts'
import { refusesPulls, Scene, slotFolder, TOPIC, texts } from './scene.ts'

/** All queues of the remote together. */
function everywhere(scene: Scene): string[] {
  return scene.remote.brokers.flatMap(broker => broker.texts(TOPIC, 0))
}

/** A lane that sent these to the first broker, which is away, and `m9` to the second since. */
async function rerouted(before: readonly string[]) {
  const scene = await Scene.open({ remoteBrokers: 2, remoteBrokerAway: 'reroute' })
  const [first, second] = scene.remote.brokers
  for (const text of before) {
    scene.send([text])
    await scene.allDone()
    await scene.environment.pass(20_000)
  }
  await scene.goesAway(first!)
  scene.send(['m9'])
  await scene.until('the lane has left its broker', () => second!.texts(TOPIC, 0).includes('m9'))
  await scene.allDone()
  const comesBack = () => {
    scene.allComeBack()
  }
  return { scene, first: first!, second: second!, comesBack }
}

for (const how of ['', ', also where the gateway was started anew meanwhile', ', also where that is after hours'])
  test(`what a broker that a lane has left comes back without goes to the lane's present queue${how}`, async t => {
    const { scene, first, second, comesBack } = await rerouted(texts(0, 5))
    if (how.includes('anew')) await scene.restart()
    if (how.includes('hours')) await scene.environment.pass(4 * 3_600_000)
    first.loseTailOf(TOPIC, 0, 2)
    comesBack()
    await scene.until('all is there', () => everywhere(scene).length === 6)
    await scene.allDone()
    t.deepEqual([first.texts(TOPIC, 0), second.texts(TOPIC, 0)], [texts(0, 3), ['m9', 'm3', 'm4']])
    const { totals } = scene.account
    t.deepEqual([totals.replicated, totals.reordered, totals.lost], [6, 2, {}])
    await scene.restart()
    await scene.environment.pass(60_000)
    t.is(everywhere(scene).length, 6)
    t.is(scene.account.totals.replicated, 6)
  })

test('a broker that a lane has left and that comes back whole costs nothing', async t => {
  const { scene, first, comesBack } = await rerouted(texts(0, 3))
  comesBack()
  await scene.environment.pass(60_000)
  t.is(scene.environment.log.said('the remote has lost its tail').length, 0)
  t.is(everywhere(scene).length, 4)
  first.loseTailOf(TOPIC, 0, 1)
  scene.environment.network.stop(first.address)
  await scene.environment.settled()
  comesBack()
  await scene.until('all is there again', () => everywhere(scene).length === 4)
})

test('where it refuses to be read at first it is looked after later', async t => {
  const { scene, first, comesBack } = await rerouted(texts(0, 4))
  first.loseTailOf(TOPIC, 0, 2)
  refusesPulls(first, 2)
  comesBack()
  await scene.until('all is there', () => everywhere(scene).length === 5)
  t.is(scene.account.totals.replicated, 5)
})

test('what was found in the present queue since is in order, what goes behind it is not', async t => {
  const { scene, first, second, comesBack } = await rerouted(texts(0, 5))
  const held: FakeSend[] = []
  second.onSend = send => {
    send.store()
    held.push(send)
  }
  scene.send(['m10', 'm11'])
  await scene.until('they are stored', () => held.length > 0)
  first.loseTailOf(TOPIC, 0, 1)
  comesBack()
  await scene.environment.pass(5_000)
  second.onSend = send => send.answerStored(send.store())
  for (const { request } of held) request.breakOff()
  await scene.allDone()
  t.deepEqual(second.texts(TOPIC, 0), ['m9', 'm10', 'm11', 'm4'])
  t.is(scene.account.totals.reordered, 1)
})

test('of what it has lost it may have a part, that a killed process had not seen', async t => {
  const { scene, first, second, comesBack } = await rerouted(texts(0, 4))
  const held: FakeSend[] = []
  second.onSend = send => void held.push(send)
  first.loseTailOf(TOPIC, 0, 2)
  comesBack()
  await scene.until('it is sent again', () => held.length > 0)
  for (const send of held) send.store()
  await scene.crash()
  comesBack()
  second.onSend = send => send.answerStored(send.store())
  await scene.allDone()
  await scene.environment.pass(60_000)
  t.deepEqual([first.texts(TOPIC, 0), second.texts(TOPIC, 0)], [texts(0, 2), ['m9', 'm2', 'm3']])
  t.is(scene.account.totals.replicated, 5)
  t.is(scene.account.totals.reordered, 2)
})

test('what the source has lost, too, is lost, and said', async t => {
  const { scene, first, comesBack } = await rerouted(texts(0, 4))
  scene.source.broker.expire(TOPIC, 0, 3)
  first.loseTailOf(TOPIC, 0, 2)
  comesBack()
  await scene.until('it is known', () => scene.account.acked === 5 && scene.account.totals.replicated < 5)
  await scene.allDone()
  t.deepEqual(scene.account.totals.lost, { expired: 1 })
  t.is(everywhere(scene).length, 4)
})

test('it is forgotten when it has answered for journalRetention since', async t => {
  const { scene, comesBack } = await rerouted(texts(0, 3))
  const formers = async () => {
    const slot = (await new Cursor(scene.environment.fileSystem, slotFolder()).read()) as Slot
    return slot.queues.find(({ queueId }) => queueId === 0)!.formers
  }
  // Since the last of the three was stored: a minute and a bit until it was left.
  await scene.environment.pass(2_000)
  t.is((await formers())!.length, 1)
  await scene.environment.pass(240_000)
  comesBack()
  await scene.environment.pass(120_000)
  t.is((await formers())!.length, 1)
  await scene.environment.pass(240_000)
  t.is(await formers(), undefined)
})

test('it is not forgotten while it is away, however long that is', async t => {
  const { scene, first, comesBack } = await rerouted(texts(0, 3))
  await scene.environment.pass(3_600_000)
  first.loseTailOf(TOPIC, 0, 1)
  comesBack()
  await scene.until('all is there again', () => everywhere(scene).length === 4)
  t.is(scene.account.totals.reordered, 1)
})
