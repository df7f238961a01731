// Sends without an answer, looked for at the source: taken where they are there, and holding back nothing where they are not.

import test from 'ava'
import { decodeHeader, hostBytes, RequestCode } from '../../codec/index.ts'
import { BORN, propertiesWith } from './sample.ts'
import { Scene, TOPIC } from './scene.ts'

const OURS = hostBytes('10.0.0.1', 40_001)!
const OTHER_SOCKET = hostBytes('10.0.0.1', 40_002)!
const TRANSLATED = hostBytes('172.17.0.1', 61_234)!

const unresolved = (scene: Scene) => scene.account.totals.unresolved

test('a send that was stored and not answered is found, and stands in its place in the order', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  await scene.allDone()
  const lost = scene.forward().store('m1', { bornHost: OURS })
  scene.forward().store('m2').ack()
  await scene.environment.settled()
  lost.lose(['m1'], { bornHost: OURS })
  await scene.until('all are there', () => scene.arrived().length === 3)
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2'])
  t.deepEqual([scene.account.acked, unresolved(scene), scene.account.totals.reordered], [3, 0, 0])
  await scene.close()
  t.is(scene.environment.clock.timers, 0)
})

test('one that was not stored holds back the later ones for the pause, and not for 10 s', async t => {
  const scene = await Scene.open()
  const lost = scene.forward()
  scene.forward().store('m1').ack()
  lost.lose(['m0'], { bornHost: OURS })
  await scene.environment.pass(900)
  t.deepEqual(scene.arrived(), [])
  await scene.environment.pass(400)
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m1'])
  t.deepEqual([scene.account.acked, unresolved(scene)], [1, 0])
})

test('what the broker executes after the connection has ended is waited for, as long as it may wait in its queue', async t => {
  const scene = await Scene.open()
  scene.source.broker.settings = 'waitTimeMillsInSendQueue=600\nbrokerFastFailureEnable=true\n'
  const lost = scene.forward()
  lost.lose(['m0'], { bornHost: OURS })
  await scene.environment.pass(2_900)
  lost.store('m0', { bornHost: OURS })
  await scene.until('it is there', () => scene.arrived().length === 1)
  t.is(scene.account.acked, 1)
})

test('what is stored and cannot be read yet is waited for', async t => {
  const scene = await Scene.open()
  const lost = scene.forward()
  const { broker } = scene.source
  broker.dispatchBehind = 40
  broker.intercept = ({ head }) => {
    if (head.code === 28 && broker.dispatchBehind === 1) lost.store('m0', { bornHost: OURS })
    return false
  }
  lost.lose(['m0'], { bornHost: OURS })
  await scene.until('it is there', () => scene.arrived().length === 1)
  t.is(unresolved(scene), 0)
})

test('where the broker chose the queue, all are looked at', async t => {
  const scene = await Scene.open({ sourceQueues: 3, remoteQueues: 3 })
  scene.send(['m0'], 2)
  const lost = scene.forward(-1).store('m1', { queueId: 2, bornHost: OURS })
  scene.forward(2).store('m2', { queueId: 2 }).ack()
  lost.lose(['m1'], { bornHost: OURS })
  await scene.until('it is there', () => scene.arrived(2).length === 3)
  t.deepEqual(scene.arrived(2), ['m0', 'm1', 'm2'])
})

test('the same message sent again by its client, over another socket or gateway, is not taken for it', async t => {
  const scene = await Scene.open()
  const lost = scene.forward()
  scene.forward().store('m0', { bornHost: OTHER_SOCKET }).ack()
  // Through another gateway: a client gives each try its own born timestamp.
  const again = { body: Buffer.from('m0'), properties: propertiesWith('m0'), bornHost: OTHER_SOCKET }
  scene.source.broker.store(TOPIC, 0, { ...again, bornTimestamp: BORN + 5 })
  lost.lose(['m0'], { bornHost: OURS })
  await scene.environment.pass(3_000)
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0'])
  t.deepEqual([scene.account.acked, unresolved(scene)], [1, 0])
})

for (const seconds of [4, 14])
  test(`one that is found where its client has sent it again goes once, though the broker answers that ${seconds} s later`, async t => {
    const scene = await Scene.open()
    scene.send(['m0'])
    scene.forward().lose(['m1'], { bornHost: OURS })
    // The same, within the same millisecond, over another connection.
    const again = scene.forward(0, scene.connect()).store('m1', { bornHost: OTHER_SOCKET })
    scene.send(['m2'])
    await scene.until('all are there', () => scene.arrived().length === 3)
    await scene.environment.pass(seconds * 1_000)
    const relayed = scene.relayed.length
    again.ack()
    await scene.environment.settled()
    // Its client is told, whatever else comes.
    t.deepEqual(scene.relayed.slice(relayed), ['m1'])
    scene.send(['m3'])
    await scene.allDone()
    t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2', 'm3'])
    t.is(scene.account.acked, 4)
  })

for (const when of ['at once', 'when that is taken'])
  test(`what is found in the record of the next try is not found once more, where the connection of that ends unanswered ${when}`, async t => {
    const scene = await Scene.open()
    scene.send(['m0'])
    const first = scene.forward()
    const again = scene.forward(0, scene.connect()).store('m1', { bornHost: OTHER_SOCKET })
    first.lose(['m1'], { bornHost: OURS })
    if (when !== 'at once') await scene.until('it is found', () => scene.arrived().length === 2)
    again.lose(['m1'], { bornHost: OTHER_SOCKET })
    await scene.environment.pass(6_000)
    await scene.allDone()
    t.deepEqual(scene.arrived(), ['m0', 'm1'])
    t.is(scene.account.acked, 2)
  })

test('one like it, without a key, that is acked at its place when the source has lost it, is another message', async t => {
  const scene = await Scene.open()
  scene.send(['m0', 'm1'])
  const ping = { properties: Buffer.alloc(0) }
  scene
    .forward()
    .store('ping', { ...ping, bornHost: OURS })
    .lose(['ping'], { bornHost: OURS, keyless: true })
  await scene.until('it is found', () => scene.arrived().length === 3)
  scene.source.broker.loseTail(2)
  const connection = scene.connect()
  scene.forward(1, connection).store('elsewhere', { queueId: 1 }).ack()
  scene.forward(0, connection).store('a longer one').ack()
  await scene.environment.pass(2_000)
  scene.forward(0, connection).store('ping', ping).ack()
  await scene.environment.pass(2_000)
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'ping', 'a longer one', 'ping'])
})

test('a message without a key that came over another socket of this machine is not taken for it', async t => {
  const scene = await Scene.open()
  const like = { bornTimestamp: BORN, body: Buffer.from('ping'), storeTimestamp: scene.environment.clock.now() }
  scene.source.broker.store(TOPIC, 0, { ...like, bornHost: OTHER_SOCKET })
  scene.forward().lose(['ping'], { bornHost: OURS, keyless: true })
  await scene.environment.pass(3_000)
  t.deepEqual([scene.account.acked, unresolved(scene)], [0, 0])
})

test('where addresses are translated on the way the only one that fits is taken, and of two none', async t => {
  const scene = await Scene.open()
  scene.forward().store('m0', { bornHost: TRANSLATED }).lose(['m0'], { bornHost: OURS })
  await scene.until('it is there', () => scene.arrived().length === 1)
  scene.forward().store('m1', { bornHost: TRANSLATED }).store('m1', { bornHost: OTHER_SOCKET }).lose(['m1'])
  await scene.environment.pass(3_000)
  t.deepEqual(scene.arrived(), ['m0'])
  t.is(unresolved(scene), 1)
})

test('equal messages without keys are told apart by what was acked: each is taken once', async t => {
  const scene = await Scene.open()
  const ping = { properties: Buffer.alloc(0), bornHost: OURS }
  const sends = Array.from({ length: 4 }, () => scene.forward())
  for (const send of sends) send.store('ping', ping)
  sends[1]!.ack()
  await scene.environment.settled()
  for (const send of [sends[0]!, sends[2]!, sends[3]!]) send.lose(['ping'], { bornHost: OURS, keyless: true })
  await scene.until('all are there', () => scene.arrived().length === 4)
  t.deepEqual(scene.remote.broker.origins(TOPIC, 0), [0, 1, 2, 3])
  t.is(unresolved(scene), 0)
})

test('a batch is found as a whole, and a part of one is not taken', async t => {
  const scene = await Scene.open()
  const whole = scene.forward()
  for (const text of ['m0', 'm1', 'm2']) whole.store(text, { bornHost: OURS })
  const part = scene.forward()
  for (const text of ['m3', 'm4']) part.store(text, { bornHost: OURS })
  whole.lose(['m0', 'm1', 'm2'], { bornHost: OURS })
  part.lose(['m3', 'm4', 'm5'], { bornHost: OURS })
  await scene.environment.pass(3_000)
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2'])
  t.is(unresolved(scene), 1)
})

test('a source that is away is asked when it is back; what is found after 10 s comes behind, and is counted', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  await scene.allDone()
  const lost = scene.forward().store('m1', { bornHost: OURS })
  scene.source.disconnect(scene.environment.network)
  lost.lose(['m1'], { bornHost: OURS })
  scene.forward().store('m2').ack()
  await scene.environment.pass(40_000)
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm2'])
  scene.source.connect(scene.environment.network)
  await scene.until('it is there', () => scene.arrived().length === 3)
  t.deepEqual(scene.arrived(), ['m0', 'm2', 'm1'])
  t.deepEqual([scene.account.totals.reordered, unresolved(scene)], [1, 0])
})

test('a source that stays away for two minutes, or refuses to be read, leaves it unresolved', async t => {
  const scene = await Scene.open()
  scene.forward().store('m0', { bornHost: OURS }).lose(['m0'], { bornHost: OURS })
  scene.source.broker.intercept = request => {
    if (request.head.code !== 11) return false
    request.answer({ code: 16, remark: 'no' })
    return true
  }
  await scene.environment.pass(2_000)
  t.is(unresolved(scene), 1)
  scene.source.disconnect(scene.environment.network)
  scene.forward().lose(['m1'], { bornHost: OURS })
  await scene.environment.pass(118_000)
  t.is(unresolved(scene), 1)
  await scene.environment.pass(4_000)
  t.is(unresolved(scene), 2)
  await scene.close()
  t.is(scene.environment.clock.timers, 0)
})

test('what the source has lost with its tail is not found, and not missed', async t => {
  const scene = await Scene.open()
  scene.send(['m0', 'm1', 'm2', 'm3'])
  await scene.allDone()
  const lost = scene.forward().store('m4', { bornHost: OURS })
  scene.source.broker.loseTail(4)
  lost.lose(['m4'], { bornHost: OURS })
  await scene.environment.pass(3_000)
  t.deepEqual([scene.account.acked, unresolved(scene)], [4, 0])
})

test('one that stands where the source has lost another is found, though its connection ended before its epoch was known', async t => {
  const scene = await Scene.open()
  scene.send(['m0', 'm1', 'm2'])
  await scene.allDone()
  scene.source.broker.loseTail(2)
  const connection = scene.connect()
  const [first, second] = [scene.forward(0, connection), scene.forward(0, connection)]
  first.store('m3', { bornHost: OURS })
  second.store('m4', { bornHost: OURS })
  second.lose(['m4'], { bornHost: OURS })
  first.lose(['m3'], { bornHost: OURS })
  await scene.until('all are there', () => scene.arrived().length === 5)
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2', 'm3', 'm4'])
  t.deepEqual([scene.account.acked, unresolved(scene), scene.account.totals.reordered], [5, 0, 0])
  await scene.close()
})

test('one that came over our socket is ours, though another was found in its place before the source lost that', async t => {
  const scene = await Scene.open()
  const { broker } = scene.source
  scene.send(['m0'])
  await scene.allDone()
  scene.forward(0, scene.connect()).store('m1', { bornHost: OURS }).lose(['m1'], { bornHost: OURS })
  await scene.until('it is found', () => scene.arrived().length === 2)
  broker.loseTail(1)
  // Whether it is the same log is not known in time.
  broker.intercept = ({ head }) => decodeHeader(head).code === RequestCode.VIEW_MESSAGE_BY_ID
  scene.forward(0, scene.connect()).store('m2', { bornHost: OTHER_SOCKET }).lose(['m2'], { bornHost: OTHER_SOCKET })
  await scene.environment.pass(600)
  broker.intercept = () => false
  await scene.until('it is found, too', () => scene.arrived().length === 3)
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2'])
  await scene.close()
})

test('sends of more than the limit are not kept: the oldest are counted as unresolved', async t => {
  const scene = await Scene.open({ unresolvedMemory: 8_000 })
  const lost = Array.from({ length: 5 }, (_, index) => scene.forward().store(`m${index}`, { bornHost: OURS }))
  const big = 'x'.repeat(1_500)
  lost.forEach((send, index) => send.lose([index < 4 ? big : 'm4'], { bornHost: OURS }))
  t.is(unresolved(scene), 2)
  await scene.until('the last is there', () => scene.arrived().length === 1)
  t.deepEqual(scene.arrived(), ['m4'])
})

test('at the end what is not found out is counted', async t => {
  const scene = await Scene.open()
  scene.forward().lose(['m0'], { bornHost: OURS })
  await scene.environment.settled()
  const before = scene.account.totals
  await scene.close()
  t.is(before.unresolved, 1)
  t.is(scene.environment.clock.timers, 0)
})
