// The remote cluster: where a source queue leads, and topics that are made where they are missing.

import test from 'ava'
import { decodeHeader, RequestCode, ResponseCode } from '../../codec/index.ts'
import { Cluster, RefusedError } from '../../replay/cluster.ts'
import { OtherClusterError, Remote, type RemoteOptions } from '../../replay/remote.ts'
import { WaitError } from '../../replay/wait-error.ts'
import { FakeEnvironment } from '../support/fake-environment.ts'
import { FakeCluster } from './fake-cluster.ts'

type Lab = ReturnType<typeof lab>

function lab({ remoteBrokers = 1, topicSync = 'create' as RemoteOptions['topicSync'] } = {}) {
  const environment = new FakeEnvironment()
  const paris = new FakeCluster('paris')
  const rome = new FakeCluster('rome', remoteBrokers)
  paris.connect(environment.network)
  rome.connect(environment.network)
  const source = new Cluster(environment, [paris.nameServer])
  const remote = new Remote(environment, {
    label: 'default',
    bit: 1,
    nameServers: [rome.nameServer],
    topicSync,
    remoteBrokerAway: 'wait',
  })
  const choose = async (queueId: number, ordinal = 0) => {
    const chosen = remote.chooseQueue(source, 'orders', 'paris-a', ordinal, queueId)
    chosen.catch(() => {})
    await environment.settled()
    const { broker, queueId: to } = await chosen
    return `${broker} ${to}`
  }
  return { environment, paris, rome, source, remote, choose }
}

test('a source queue leads to the queue of its id, else to its id modulo the queues there', async t => {
  const { paris, rome, choose } = lab()
  paris.makeTopic('orders', 8)
  rome.makeTopic('orders', 4)
  t.deepEqual(
    [await choose(0), await choose(3), await choose(4), await choose(7)],
    ['rome-a 0', 'rome-a 3', 'rome-a 0', 'rome-a 3'],
  )
})

test('two source brokers lead to two remote brokers where there are two', async t => {
  const { rome, choose } = lab({ remoteBrokers: 2 })
  rome.makeTopic('orders', 4)
  t.deepEqual([await choose(1, 0), await choose(1, 1), await choose(1, 2)], ['rome-a 1', 'rome-b 1', 'rome-a 1'])
})

test('a queue that may not be written to is not chosen', async t => {
  const { rome, choose } = lab()
  rome.makeTopic('orders', 4)
  rome.perm = 4
  await t.throwsAsync(choose(0), { instanceOf: WaitError, message: /no writable queue/ })
})

test('a topic that the remote lacks is made there in the shape of the source, and writable', async t => {
  const { environment, paris, rome, choose } = lab({ remoteBrokers: 2 })
  paris.makeTopic('orders', 8)
  paris.perm = 4
  paris.attributes = { 'message.type': 'FIFO', 'queue.type': 'SimpleCQ' }
  t.is(await choose(7), 'rome-a 7')
  t.deepEqual(
    rome.made.map(({ broker, ext }) => [broker, ext.topic, ext.readQueueNums, ext.writeQueueNums, ext.perm]),
    [
      ['rome-a', 'orders', '8', '8', '6'],
      ['rome-b', 'orders', '8', '8', '6'],
    ],
  )
  t.is(rome.made[0]!.ext.attributes, '+message.type=FIFO,+queue.type=SimpleCQ')
  t.is(environment.log.said('made a missing topic').length, 1)
})

test('a broker that has the topic is left as it is, one that lacks it gets it', async t => {
  const { paris, rome, choose } = lab({ remoteBrokers: 2 })
  paris.makeTopic('orders', 8)
  rome.broker.makeTopic('orders', 2)
  t.is(await choose(7), 'rome-a 1')
  t.deepEqual(
    rome.made.map(({ broker }) => broker),
    ['rome-b'],
  )
  t.is(rome.broker.topics.get('orders')!.length, 2)
})

test('a broker that registers between the answers on routes and brokers keeps the topic as it is', async t => {
  const { environment, paris, rome, choose } = lab()
  const { network } = environment
  paris.makeTopic('orders', 4)
  rome.makeTopic('orders', 16)
  rome.away.add(rome.broker)
  const serve = network.serve.bind(network)
  network.serve = (address, handler) =>
    serve(address, request => {
      handler(request)
      if (address === 'rome:9876') rome.away.clear()
    })
  rome.connect(network)
  t.is(await choose(5), 'rome-a 5')
  t.deepEqual(rome.made, [])
})

test('a topic that its broker has, and no route names yet, is left as it is', async t => {
  const { environment, paris, rome, choose } = lab()
  paris.makeTopic('orders', 4)
  rome.makeTopic('orders', 16)
  let isNamed = false
  const { network } = environment
  const serve = network.serve.bind(network)
  network.serve = (address, handler) =>
    serve(address, request => {
      const isRoute = address === 'rome:9876' && decodeHeader(request.head).code === RequestCode.GET_ROUTEINFO_BY_TOPIC
      if (isRoute && !isNamed) request.answer({ code: ResponseCode.TOPIC_NOT_EXIST })
      else handler(request)
    })
  rome.connect(network)
  await t.throwsAsync(choose(5), { instanceOf: WaitError, message: /not in the routes of the remote yet/ })
  isNamed = true
  t.is(await choose(5), 'rome-a 5')
  t.deepEqual(rome.made, [])
})

test('where a broker does not say whether it has the topic nothing is made', async t => {
  const { paris, rome, choose } = lab()
  paris.makeTopic('orders', 4)
  rome.broker.intercept = request => {
    if (decodeHeader(request.head).code !== RequestCode.GET_TOPIC_STATS_INFO) return false
    request.answer({ code: ResponseCode.SYSTEM_BUSY, remark: 'too busy' })
    return true
  }
  await t.throwsAsync(choose(0), { instanceOf: RefusedError, message: /asking rome-a for topic orders .* too busy/ })
  t.deepEqual(rome.made, [])
})

test('a topic of which nothing is missing is not asked for at the source', async t => {
  const { environment, paris, rome, choose } = lab()
  paris.disconnect(environment.network)
  rome.makeTopic('orders', 4)
  t.is(await choose(2), 'rome-a 2')
  t.deepEqual(rome.made, [])
})

test('with topicSync off nothing is made: a topic that is nowhere is waited for', async t => {
  const { paris, rome, choose } = lab({ remoteBrokers: 2, topicSync: 'off' })
  paris.makeTopic('orders', 8)
  await t.throwsAsync(choose(0), { instanceOf: WaitError, message: /topicSync is off/ })
  t.deepEqual(rome.made, [])
  rome.brokers[1]!.makeTopic('orders', 4)
  t.is(await choose(0), 'rome-b 0')
  t.deepEqual(rome.made, [])
})

test('a topic whose shape cannot be asked of the source is waited for', async t => {
  const { choose } = lab()
  await t.throwsAsync(choose(0), { instanceOf: WaitError, message: /its shape cannot be asked/ })
})

test('a 4.9 source has no attributes to ask for', async t => {
  const { paris, rome, choose } = lab()
  paris.makeTopic('orders', 3)
  paris.broker.intercept = request => {
    request.answer({ code: 3 })
    return true
  }
  t.is(await choose(2), 'rome-a 2')
  t.is(rome.made[0]!.ext.attributes, undefined)
  t.is(rome.made[0]!.ext.writeQueueNums, '3')
})

test('a route is asked for again when it is old or something failed, and not before', async t => {
  const { environment, rome, remote, choose } = lab()
  rome.makeTopic('orders', 4)
  let asked = 0
  environment.network.onWrite = address => {
    if (address === 'rome:9876') asked++
  }
  await choose(0)
  const once = asked
  t.true(once > 0)
  await choose(1)
  t.is(asked, once)
  remote.forgetRoute('orders')
  await choose(1)
  t.is(asked, 2 * once)
  await environment.pass(30_000)
  await choose(1)
  t.is(asked, 3 * once)
})

test('a broker has one address for all topics, that of the newest list, and one that is in no route is waited for', async t => {
  const { environment, rome, remote, source } = lab()
  rome.makeTopic('orders', 4)
  rome.makeTopic('bills', 4)
  const masterFor = async (broker: string, topic = 'orders') => {
    const master = remote.masterFor(topic, broker, source, 'paris-a')
    master.catch(() => {})
    await environment.settled()
    return master
  }
  t.is(await masterFor('rome-a'), 'rome:10911')
  await t.throwsAsync(masterFor('rome-z'), { instanceOf: WaitError, message: /rome-z is away/ })
  rome.broker.address = 'rome:999'
  t.is(await masterFor('rome-a', 'bills'), 'rome:999')
  t.is(await masterFor('rome-a'), 'rome:999')
})

test("the cluster's name is known from a cursor, or else asked", async t => {
  const { environment, remote } = lab()
  t.is(remote.name, undefined)
  const learnt = remote.learnName()
  await environment.settled()
  t.is(await learnt, 'rome')
  const another = lab()
  t.false(another.remote.isOtherThan('rome'))
  t.is(another.remote.name, 'rome')
})

test('one that is another cluster than the cursor knows is not sent to', async t => {
  const { environment, remote, rome, source } = lab()
  rome.makeTopic('orders', 4)
  t.false(remote.isOtherThan('oslo'))
  const errors: unknown[] = []
  remote.masterFor('orders', 'rome-a', source, 'paris-a').catch(error => errors.push(error))
  remote.masterOf('rome-a').catch(error => errors.push(error))
  remote.learnName().catch(error => errors.push(error))
  await environment.settled()
  t.is(errors.length, 3)
  for (const error of errors) {
    t.true(error instanceof OtherClusterError)
    t.regex((error as Error).message, /cluster rome.*cluster oslo.*--new-remote=/)
  }
})

for (const [what, breakIt] of [
  ['the other master is down', ({ environment, rome }: Lab) => environment.network.stop(rome.brokers[1]!.address)],
  ['the source cannot be asked', ({ environment, paris }: Lab) => paris.disconnect(environment.network)],
] as const)
  test(`a topic that only one of two masters has leads there where ${what}`, async t => {
    const scene = lab({ remoteBrokers: 2 })
    scene.rome.broker.makeTopic('orders', 2)
    breakIt(scene)
    t.is(await scene.choose(0), 'rome-a 0')
    t.is(await scene.choose(1, 1), 'rome-a 1')
  })
