// What is in a request whose outcome is not known: it goes as it is, and nobody else works on it meanwhile.

import test from 'ava'
import { decodeHeader, RequestCode } from '../../codec/index.ts'
import type { FakeRequest } from '../support/fake-environment.ts'
import type { FakeSend } from './fake-cluster.ts'
import { Scene, TOPIC, texts } from './scene.ts'

const MiB = 1024 * 1024
const keyed = (key: string) => ({ properties: Buffer.from(`UNIQ_KEY\u0001${key}\u0002`) })

for (const messages of [1, 20])
  test(`what waits for room on its link goes unaltered, though memory and disk take its bodies (${messages} in the request)`, async t => {
    const queues = 30
    const scene = await Scene.open({ sourceQueues: queues, remoteQueues: queues, bodyMemory: 9.9 * MiB })
    // Each lane has its remote queue.
    for (let queueId = 0; queueId < queues; queueId++) scene.send(['first'], queueId)
    await scene.allDone()
    const { remote, environment } = scene
    const held = scene.holdSends()
    for (let queueId = 0; queueId < 9; queueId++) scene.send(['x'.repeat(MiB)], queueId, keyed(`x${queueId}`))
    await environment.settled()
    // The ninth lane waits, and so does the tenth.
    t.is(held.length, 8)
    const text = 'M'.repeat(100_000 / messages)
    for (let count = 0; count < messages; count++) scene.send([text], 9, keyed(`M${count}`))
    await environment.settled()
    // These do not fit, and are read back for the heads of their lanes.
    for (let queueId = 10; queueId < queues; queueId++) scene.send(['y'.repeat(MiB)], queueId, keyed(`y${queueId}`))
    await environment.pass(1_000)
    t.true(scene.broker.spill.spilled > 0)
    scene.takeSends()
    for (const send of held) send.answerStored(send.store())
    await scene.allDone()
    t.deepEqual(remote.broker.texts(TOPIC, 9), ['first', ...Array(messages).fill(text)])
    t.deepEqual(remote.broker.texts(TOPIC, 8), ['first', 'x'.repeat(MiB)])
    t.is(scene.account.totals.deadLettered, 0)
  })

test('places of what is out stay in memory, also of pages that came while the lane waited for room', async t => {
  const scene = await Scene.open({ sourceQueues: 9, remoteQueues: 9, bodyMemory: 20 * MiB })
  for (let queueId = 0; queueId < 9; queueId++) scene.send(['first'], queueId)
  scene.send(texts(0, 499), 8)
  await scene.allDone()
  const { environment, remote } = scene
  const held = scene.holdSends()
  for (let queueId = 0; queueId < 8; queueId++) scene.send(['x'.repeat(MiB)], queueId, keyed(`x${queueId}`))
  await environment.settled()
  scene.send(texts(499, 509), 8)
  await environment.settled()
  t.is(held.length, 8)
  // A page that is full, and more.
  scene.send(texts(509, 1_100), 8)
  await environment.settled()
  for (const send of held.splice(0)) send.answerStored(send.store())
  await environment.settled()
  t.is(held.length, 1)
  const [send] = held
  t.true(send!.messages.length > 20)
  // Pages that nobody is at would be in synced blocks by then, and out of memory.
  await environment.pass(2_000)
  send!.answerStored(send!.store())
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(remote.broker.texts(TOPIC, 8), ['first', ...texts(0, 1_100)])
})

test('what is out is not lost, and nothing is passed for it, though another remote took its bodies and the source forgets it', async t => {
  const scene = await Scene.open({ remotes: ['rome', 'oslo'], bodyMemory: 400_000 })
  const hold = (label: string) => {
    const held: FakeSend[] = []
    scene.remoteOf(label).broker.onSend = send => void held.push(send)
    return held
  }
  hold('rome')
  hold('oslo')
  scene.send(texts(0, 800))
  await scene.environment.pass(10)
  // All are gaps then.
  await scene.crash()
  const held = { rome: hold('rome'), oslo: hold('oslo') }
  const pulls: FakeRequest[] = []
  scene.source.broker.intercept = request => {
    const { code, ext } = decodeHeader(request.head)
    const isLater = ext.get('queueId') === '0' && Number(ext.get('queueOffset')) >= 256
    if (code !== RequestCode.PULL_MESSAGE || !isLater) return false
    pulls.push(request)
    return true
  }
  await scene.until('rounds are under way, and both have sent', () =>
    [pulls, held.rome, held.oslo].every(list => list.length > 0),
  )
  await scene.environment.pass(3_000)
  // Memory is full from now on.
  scene.send(['Z'.repeat(450_000)], 1, keyed('Z'))
  await scene.environment.pass(1_000)
  t.true(scene.replay.memory.isFull)
  const [rome, oslo] = [held.rome, held.oslo].map(list => list.find(({ queueId }) => queueId === 0)!)
  t.true(oslo!.messages.length > 100)
  rome!.answerStored(rome!.store())
  await scene.environment.settled()
  // The source forgets what was read back, and answers what it was asked.
  scene.source.broker.expire(TOPIC, 0, 256)
  scene.source.broker.intercept = () => false
  for (const pull of pulls) scene.source.broker.serve(pull)
  await scene.environment.settled()
  oslo!.answerStored(oslo!.store())
  for (const label of ['rome', 'oslo']) scene.remoteOf(label).broker.onSend = send => send.answerStored(send.store())
  for (const send of [...held.rome, ...held.oslo]) if (send !== rome && send !== oslo) send.answerStored(send.store())
  await scene.allDone()
  for (const label of ['rome', 'oslo']) {
    t.deepEqual(scene.remoteOf(label).broker.texts(TOPIC, 0), texts(0, 800), label)
    t.deepEqual(scene.feedOf(label).account.totals.lost, {}, label)
  }
})
