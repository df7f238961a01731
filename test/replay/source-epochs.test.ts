// Epochs from the ack to the remote queue: a source that takes offsets back while the gateway runs.

import test from 'ava'
import { decodeStamp, findProperty } from '../../codec/index.ts'
import { Scene, type Sending, TOPIC } from './scene.ts'

const epochsAt = (scene: Scene, queueId = 0) => {
  const ids = scene.remote.broker
    .queue(TOPIC, queueId)
    .messages.map(({ properties }) => decodeStamp(findProperty(properties, 'TEE_ORIGIN')!)!.epoch)
  return ids.map(id => [...new Set(ids)].indexOf(id))
}

test('a source that loses its tail while the gateway runs: the new messages at the old offsets arrive, too', async t => {
  const scene = await Scene.open()
  scene.send(['m0', 'm1', 'm2'])
  await scene.allDone()
  scene.source.broker.loseTail(2)
  scene.send(['n1', 'n2', 'n3'])
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2', 'n1', 'n2', 'n3'])
  t.deepEqual(scene.remote.broker.origins(TOPIC, 0), [0, 1, 2, 1, 2, 3])
  t.deepEqual(epochsAt(scene), [0, 0, 0, 1, 1, 1])
})

test('the same over a crash, while the remote is away: each message is known by its epoch, and nothing is sent twice', async t => {
  const scene = await Scene.open()
  scene.send(['m0', 'm1'])
  await scene.allDone()
  const held = scene.holdSends()
  scene.send(['m2'])
  await scene.until('it is out', () => held.length === 1)
  scene.source.broker.loseTail(2)
  scene.send(['n1', 'n2'])
  await scene.environment.settled()
  held[0]!.store()
  await scene.crash()
  scene.takeSends()
  await scene.allDone()
  // m2 had arrived; of what the source lost nothing was left to send.
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2', 'n1', 'n2'])
  t.deepEqual(scene.account.totals.lost, {})
  t.is(scene.account.acked, 5)
  const { fileSystem } = scene.environment
  t.true(fileSystem.find(/^places-/).length >= 1)
})

test('what the source lost before it went on is lost, and what it stored there instead is not taken for it', async t => {
  const scene = await Scene.open({ bodyMemory: 0 })
  scene.refuseSends(2)
  scene.send(['m0', 'm1', 'm2'])
  await scene.environment.settled()
  scene.source.broker.loseTail(2)
  scene.send(['n1', 'n2'])
  await scene.environment.settled()
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'n1', 'n2'])
  t.deepEqual(scene.account.totals.lost, { source: 2 })
  t.is(scene.account.acked, 5)
})

test('a connection that came up after the source lost its tail is of a new epoch, also where no offset goes back', async t => {
  const scene = await Scene.open()
  scene.send(['m0', 'm1'])
  await scene.allDone()
  scene.source.broker.loseTail(1)
  // Another gateway's.
  scene.source.broker.store(TOPIC, 0, { body: Buffer.from('stranger') })
  const fresh = scene.connect()
  const send = scene.forward(0, fresh).store('n2')
  t.true(fresh.isUnclear)
  await scene.environment.settled()
  t.false(fresh.isUnclear)
  send.ack()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'n2'])
  t.deepEqual(epochsAt(scene), [0, 0, 1])
  t.is(scene.environment.log.said('a new epoch').length, 2)
})

test('a connection whose source still has what was acked last goes on in the epoch', async t => {
  const scene = await Scene.open()
  scene.send(['m0', 'm1'])
  await scene.allDone()
  const fresh = scene.connect()
  const send = scene.forward(0, fresh).store('m2')
  await scene.environment.settled()
  t.false(fresh.isUnclear)
  send.ack()
  await scene.allDone()
  t.deepEqual(epochsAt(scene), [0, 0, 0])
})

test('where nothing is read back within 500 ms a new epoch begins, one for all that came up meanwhile', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  await scene.allDone()
  let views = 0
  scene.source.broker.intercept = ({ head }) => {
    if (head.code === 33) views++
    return head.code === 33
  }
  const connections = [scene.connect(), scene.connect(), scene.connect()] as const
  const sends: Sending[] = []
  for (const [index, connection] of connections.entries()) {
    sends.push(scene.forward(0, connection).store(`n${index}`))
    await scene.environment.pass(100)
  }
  t.true(connections.every(({ isUnclear }) => isUnclear))
  await scene.environment.pass(200)
  // The second reading, for those that came up during the first, needs none: nothing is acked in the new epoch.
  t.true(connections.every(({ isUnclear }) => !isUnclear))
  t.is(views, 1)
  for (const send of sends) send.ack()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'n0', 'n1', 'n2'])
  t.is(new Set(epochsAt(scene)).size, 2)
})

test('what was acked last has expired: that is no proof, and what connections of both epochs send goes as it stands at the source', async t => {
  const scene = await Scene.open()
  const { broker } = scene.source
  const old = scene.connect()
  const first = scene.forward(0, old).store('m0')
  first.ack()
  await scene.allDone()
  for (let count = 0; count < 3; count++) broker.store(TOPIC, 1, { body: Buffer.from('of another producer') })
  broker.loseHead(first.stored[0]!.commitLogOffset + 1)
  broker.expire(TOPIC, 0, 1)
  const fresh = scene.connect()
  const second = scene.forward(0, fresh).store('m1')
  await scene.environment.settled()
  t.false(fresh.isUnclear)
  second.ack()
  await scene.allDone()
  for (const round of [2, 4]) {
    const older = scene.forward(0, old)
    const newer = scene.forward(0, fresh)
    newer.store(`m${round}`)
    older.store(`m${round + 1}`)
    newer.ack()
    older.ack()
    await scene.allDone()
  }
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2', 'm3', 'm4', 'm5'])
  t.is(scene.account.totals.reordered, 0)
  t.deepEqual(
    scene.environment.log.said('a new epoch begins with it').map(({ fields }) => fields.reason),
    ['it has expired'],
  )
})

test('a source that refuses to be read back begins a new epoch', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  await scene.allDone()
  scene.source.broker.intercept = request => {
    if (request.head.code !== 33) return false
    request.answer({ code: 16, remark: 'no' })
    return true
  }
  const fresh = scene.connect()
  const send = scene.forward(0, fresh).store('m1')
  await scene.environment.settled()
  t.false(fresh.isUnclear)
  send.ack()
  await scene.allDone()
  t.deepEqual(epochsAt(scene), [0, 1])
})

test('another address is another epoch; what is acked by the old one later comes behind, and is counted', async t => {
  const scene = await Scene.open()
  const old = scene.connect()
  scene.forward(0, old).store('m0').ack()
  await scene.allDone()
  scene.broker.address = 'paris:10922'
  const fresh = scene.connect('paris:10922')
  scene.forward(0, fresh).store('n1').ack()
  await scene.allDone()
  scene.forward(0, old).store('m2').ack()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'n1', 'm2'])
  t.deepEqual(epochsAt(scene), [0, 1, 0])
  t.is(scene.account.totals.reordered, 1)
  // The cursor names it, or does not forget it.
  scene.refuseSends(2)
  scene.forward(0, old).store('m3').ack()
  scene.forward(0, fresh).store('n4').ack()
  scene.forward(0, old).store('m5').ack()
  await scene.environment.pass(3_000)
  scene.broker.address = scene.source.broker.address
  for (let round = 0; round < 3; round++) await scene.crash()
  scene.takeSends()
  await scene.allDone()
  t.deepEqual([...scene.arrived()].sort(), ['m0', 'm2', 'm3', 'm5', 'n1', 'n4'])
  t.is(scene.account.acked, 6)
})

test('a message of a new epoch waits for what is out in the old one', async t => {
  const scene = await Scene.open()
  const old = scene.connect()
  const out = scene.forward(0, old).store('m0')
  scene.broker.address = 'paris:10922'
  scene.forward(0, scene.connect('paris:10922')).store('n1').ack()
  await scene.environment.pass(3_000)
  t.deepEqual(scene.arrived(), [])
  out.ack()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'n1'])
  t.is(scene.account.totals.reordered, 0)
})
