// A remote that changes its shape: fewer queues and more, brokers that go and come. A lane knows what became of what it sent before it goes on
// elsewhere.

import test from 'ava'
import { FakeCluster } from './fake-cluster.ts'
import { refusesPulls, Scene, TOPIC, texts } from './scene.ts'

/** Both remote brokers' queues together. */
function everywhere(scene: Scene): string[] {
  return scene.remote.brokers.flatMap(broker => {
    const queues = broker.topics.get(TOPIC) ?? []
    return queues.flatMap(({ messages }) => messages.map(({ body }) => body.toString()))
  })
}

test('a queue that may not be written to any more is left, for the one that its id leads to now', async t => {
  const scene = await Scene.open({ sourceQueues: 4, remoteQueues: 4 })
  scene.send(['m0'], 3)
  await scene.allDone()
  scene.remote.writeQueuesMax = 2
  await scene.environment.pass(31_000)
  scene.send(['m1'], 3)
  await scene.allDone()
  t.deepEqual([scene.arrived(3), scene.arrived(1)], [['m0'], ['m1']])
  t.is(scene.environment.log.said('lane goes to another queue').length, 1)
  await scene.restart()
  scene.send(['m2'], 3)
  await scene.allDone()
  t.deepEqual(scene.arrived(1), ['m1', 'm2'])
})

test('what is unclear there is found out before it is left', async t => {
  const scene = await Scene.open({ sourceQueues: 4, remoteQueues: 4 })
  scene.send(['m0'], 3)
  await scene.allDone()
  scene.remote.broker.onSend = send => {
    send.store()
    scene.remote.writeQueuesMax = 2
    send.request.breakOff()
    scene.takeSends()
  }
  scene.send(['m1'], 3)
  await scene.environment.settled()
  scene.send(['m2'], 3)
  await scene.allDone()
  t.deepEqual([scene.arrived(3), scene.arrived(1)], [['m0', 'm1'], ['m2']])
})

test('a queue that cannot be read any more either keeps nobody', async t => {
  const scene = await Scene.open({ sourceQueues: 4, remoteQueues: 4 })
  scene.send(['m0'], 3)
  await scene.allDone()
  const { broker } = scene.remote
  broker.onSend = send => {
    broker.topics.get(TOPIC)!.splice(2)
    send.request.breakOff()
    scene.takeSends()
  }
  scene.send(['m1'], 3)
  await scene.allDone()
  t.deepEqual(scene.arrived(1), ['m1'])
  t.is(scene.account.totals.replicated, 2)
})

/** A process that had 3,000 or so messages stored at queue 1, and was killed before a slot; that queue is to be left. */
async function killedWithAllStored(messages: number): Promise<Scene> {
  const scene = await Scene.open()
  scene.send(['first'], 1)
  await scene.allDone()
  await scene.environment.pass(3_000)
  scene.send(texts(0, messages), 1)
  await scene.until('all is stored', () => scene.arrived(1).length === messages + 1)
  scene.remote.writeQueuesMax = 1
  return scene
}

test('what was found in a queue is not sent again to the next, also where it does not fit in memory', async t => {
  const scene = await killedWithAllStored(3_000)
  await scene.crash()
  await scene.allDone()
  await scene.environment.pass(5_000)
  t.is(scene.arrived(1).length, 3_001)
  t.deepEqual(scene.arrived(0), [])
  t.is(scene.account.totals.replicated, 3_001)
})

test('a queue that is only too busy to be read is not left', async t => {
  const scene = await killedWithAllStored(20)
  refusesPulls(scene.remote.broker, 3)
  await scene.crash()
  await scene.allDone()
  t.is(scene.arrived(1).length, 21)
  t.deepEqual(scene.arrived(0), [])
})

test('so it is where a broker is left', async t => {
  const scene = await Scene.open({ remoteBrokers: 2, remoteBrokerAway: 'reroute' })
  const [first, second] = scene.remote.brokers
  scene.send(['first'])
  await scene.allDone()
  await scene.environment.pass(3_000)
  const late = scene.forward(0).store('late')
  scene.send(texts(0, 3_000))
  await scene.until('all but the late one is stored', () => first!.texts(TOPIC, 0).length === 3_001)
  first!.onSend = () => {}
  late.ack()
  await scene.environment.settled()
  await scene.crash()
  // The late one is at the source only, and that is away.
  scene.environment.network.stop(scene.source.broker.address)
  await scene.until('a part is found', () => scene.account.totals.replicated > 500)
  await scene.environment.pass(5_000)
  scene.remote.away.add(first!)
  scene.environment.network.stop(first!.address)
  await scene.environment.pass(100_000)
  scene.source.connect(scene.environment.network)
  await scene.allDone()
  t.is(first!.texts(TOPIC, 0).length, 3_001)
  t.deepEqual(second!.texts(TOPIC, 0), ['late'])
})

for (const reroute of [false, true])
  test(`a broker that goes is ${reroute ? 'left after a minute, where that is wanted' : 'waited for, as order demands'}`, async t => {
    const remoteBrokerAway = reroute ? 'reroute' : 'wait'
    const scene = await Scene.open({ remoteBrokers: 2, remoteBrokerAway })
    const [first, second] = scene.remote.brokers
    scene.send(['m0'])
    await scene.allDone()
    t.deepEqual(first!.texts(TOPIC, 0), ['m0'])
    await scene.goesAway(first!)
    scene.send(['m1'])
    await scene.environment.pass(55_000)
    t.is(scene.account.queued, 1)
    t.regex(scene.broker.feeds[0]!.troubles[0]!.reason, /rome-a is away/)
    await scene.environment.pass(300_000)
    if (reroute) {
      t.deepEqual(second!.texts(TOPIC, 0), ['m1'])
      t.is(scene.account.queued, 0)
    } else {
      t.is(scene.account.queued, 1)
      scene.allComeBack()
      await scene.allDone()
      t.deepEqual(first!.texts(TOPIC, 0), ['m0', 'm1'])
      t.deepEqual(second!.texts(TOPIC, 0), [])
    }
  })

test('a broker is left also by a process that was started while it was away', async t => {
  const scene = await Scene.open({ remoteBrokers: 2, remoteBrokerAway: 'reroute' })
  const [first, second] = scene.remote.brokers
  scene.send(['m0'])
  await scene.allDone()
  // The cursor says so.
  await scene.environment.pass(1_500)
  await scene.goesAway(first!)
  await scene.crash()
  scene.environment.network.stop(first!.address)
  scene.send(['m1'])
  await scene.allDone()
  t.deepEqual(second!.texts(TOPIC, 0), ['m1'])
})

test('what was done at a broker that a lane has left is not lost with the tail of another', async t => {
  const scene = await Scene.open({ remoteBrokers: 2, remoteBrokerAway: 'reroute' })
  const [first, second] = scene.remote.brokers
  scene.send(texts(0, 5))
  await scene.allDone()
  for (let at = 0; at < 10; at++) second!.store(TOPIC, 0, { body: Buffer.from(`x${at}`) })
  await scene.goesAway(first!)
  scene.send(['m5'])
  await scene.allDone()
  scene.environment.network.stop(second!.address)
  await scene.environment.settled()
  second!.loseTailOf(TOPIC, 0, 6)
  scene.environment.network.serve(second!.address, request => second!.serve(request))
  await scene.until('it is there again', () => second!.texts(TOPIC, 0).includes('m5'))
  await scene.allDone()
  t.deepEqual(scene.account.totals.lost, {})
  t.is(scene.account.totals.replicated, 6)
})

test('a broker is waited for by a lane that does not know what it did, also where others leave', async t => {
  const scene = await Scene.open({ remoteBrokers: 2, remoteBrokerAway: 'reroute' })
  const [first] = scene.remote.brokers
  scene.send(['m0'])
  await scene.allDone()
  first!.onSend = send => {
    send.store()
    scene.remote.away.add(first!)
    scene.environment.network.stop(first!.address)
  }
  scene.send(['m1'])
  await scene.environment.pass(300_000)
  t.is(scene.account.queued, 1)
  scene.allComeBack()
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(everywhere(scene), texts(0, 2))
})

test('an answer that does not say where the message is leaves it to be found', async t => {
  const scene = await Scene.open()
  scene.remote.broker.onSend = send => {
    send.store()
    send.request.answer({ code: 0 })
  }
  scene.send(['m0'])
  await scene.allDone()
  scene.send(['m1'])
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
  t.is(scene.remote.broker.sends.length, 2)
})

/** Sends to source queue 3 before and after a change of the remote, the middle one with a connection that breaks when it is stored. */
async function sentOver(scene: Scene, change: () => void): Promise<void> {
  scene.send(['m0'], 3)
  await scene.allDone()
  const [broker] = scene.remote.brokers.filter(({ sends }) => sends.length > 0)
  broker!.onSend = send => {
    send.store()
    change()
    send.request.breakOff()
    broker!.onSend = send => send.answerStored(send.store())
  }
  scene.send(['m1', 'm2'], 3)
  await scene.allDone()
  // The next route knows of it.
  await scene.environment.pass(31_000)
  scene.send(['m3'], 3)
  await scene.allDone()
  await scene.crash()
  scene.send(['m4'], 3)
  await scene.allDone()
  await scene.restart()
  await scene.environment.pass(31_000)
  scene.send(['m5'], 3)
  await scene.allDone()
}

test('a queue that is added is used by new lanes; those that go elsewhere stay where they are, in their order', async t => {
  const scene = await Scene.open({ sourceQueues: 4, remoteQueues: 2 })
  const queues = scene.remote.broker.topics.get(TOPIC)!
  await sentOver(scene, () => {
    for (let count = 0; count < 2; count++) queues.push({ minOffset: 0, messages: [] })
  })
  scene.send(['new'], 2)
  await scene.allDone()
  t.deepEqual(
    [0, 1, 2, 3].map(queueId => scene.arrived(queueId)),
    [[], texts(0, 6), ['new'], []],
  )
  t.is(scene.account.totals.replicated, 7)
  t.is(scene.account.totals.reordered, 0)
})

test('a broker that is added gets the topic, and new lanes where they lead to it; those that go elsewhere stay where they are', async t => {
  const remote = new FakeCluster('rome', 2)
  const [added, first] = remote.brokers
  first!.makeTopic(TOPIC, 4)
  remote.away.add(added!)
  const scene = await Scene.open({ sourceQueues: 4, clusters: new Map([['default', remote]]) })
  await sentOver(scene, () => remote.away.delete(added!))
  t.deepEqual(
    remote.made.map(({ broker, ext }) => [broker, ext.topic, ext.writeQueueNums]),
    [['rome-a', TOPIC, '4']],
  )
  scene.send(['new'], 2)
  await scene.allDone()
  const at = (broker = added!) => [0, 1, 2, 3].map(queueId => broker.texts(TOPIC, queueId))
  t.deepEqual(at(first), [[], [], [], texts(0, 6)])
  t.deepEqual(at(added), [[], [], ['new'], []])
  t.is(scene.account.totals.replicated, 7)
  t.is(scene.account.totals.reordered, 0)
})
