// The faults of the embedded broker, and what it has that no real one is asked for.

import test, { type ExecutionContext } from 'ava'
import { commitLogOffsetsOf, decodeStoredMessages, readRoute } from '../../../codec/index.ts'
import {
  type EmbeddedBroker,
  type EmbeddedCluster,
  type EmbeddedOptions,
  startEmbeddedCluster,
} from '../../../proxy/demo/embedded-cluster.ts'
import { RawClient, until } from '../../support/raw-client.ts'
import {
  batchBody,
  type Lab,
  logOffsetOf,
  pulled,
  pullRequest,
  routeOf,
  send,
  sendOk,
  sendRequest,
  viewed,
} from './broker-behaviour.ts'

interface FaultLab extends Lab {
  cluster: EmbeddedCluster
  first: EmbeddedBroker
}

function withCluster(run: (t: ExecutionContext, lab: FaultLab) => Promise<void>, options?: Partial<EmbeddedOptions>) {
  return async (t: ExecutionContext) => {
    const cluster = await startEmbeddedCluster({ name: 'faulty', ...options })
    const first = cluster.brokers[0]!
    const clients = [await RawClient.connect(first.address), await RawClient.connect(cluster.nameServer)]
    try {
      await run(t, { cluster, first, broker: clients[0]!, names: clients[1]! })
    } finally {
      for (const client of clients) await client.close()
      await cluster.stop()
    }
  }
}

const topic = 'topic'

test(
  'a refused request is answered with the code and not executed, for as many requests as the scope says',
  withCluster(async (t, lab) => {
    const fault = lab.first.faults.refuse(2, { codes: [310], topic, after: 1, times: 2 })
    const codes: number[] = []
    for (let i = 0; i < 4; i++) codes.push((await lab.broker.request(sendRequest({ topic }))).code)
    t.deepEqual(codes, [0, 2, 2, 0])
    t.is(fault.hits, 2)
    t.is(lab.first.store.messages, 2)
    const other = lab.first.faults.refuse(14, { when: request => request.body?.toString() === 'bad' })
    t.is((await send(lab, { topic, body: Buffer.from('bad') })).code, 14)
    t.is((await send(lab, { topic, body: Buffer.from('good') })).code, 0)
    other.stop()
    t.is((await send(lab, { topic, body: Buffer.from('bad') })).code, 0)
  }),
)

test(
  'a request that times out is not executed; one whose answer is lost is',
  withCluster(async (t, lab) => {
    lab.first.faults.timeOut({ times: 1 })
    await t.throwsAsync(lab.broker.request(sendRequest({ topic }), 100), { message: /no answer/ })
    t.is(lab.first.store.messages, 0)
    lab.first.faults.loseAnswers({ times: 1 })
    await t.throwsAsync(lab.broker.request(sendRequest({ topic }), 100), { message: /no answer/ })
    t.is(lab.first.store.messages, 1)
    t.is((await sendOk(t, lab, { topic })).ext.get('queueOffset'), '1')
  }),
)

test(
  'a reset comes before or after storing',
  withCluster(async (t, lab) => {
    for (const [stored, fault] of [
      [0, () => lab.first.faults.resetBefore({ times: 1 })],
      [1, () => lab.first.faults.resetAfter({ times: 1 })],
    ] as const) {
      fault()
      const client = await RawClient.connect(lab.first.address)
      await t.throwsAsync(client.request(sendRequest({ topic })), { message: /closed/ })
      await client.closed
      t.is(lab.first.store.messages, stored)
    }
    t.is((await sendOk(t, lab, { topic })).code, 0)
  }),
)

test(
  'a slow broker answers later, and stores at once',
  withCluster(async (t, lab) => {
    lab.first.faults.slow(150, { codes: [310] })
    const begun = Date.now()
    const answer = lab.broker.request(sendRequest({ topic }))
    await until('it is stored', () => lab.first.store.messages === 1)
    t.is((await answer).code, 0)
    t.true(Date.now() - begun >= 145)
  }),
)

test(
  'answers come out of order, in the same order for the same seed',
  withCluster(async (t, lab) => {
    const orders: number[][] = []
    for (let round = 0; round < 2; round++) {
      const fault = lab.first.faults.shuffle(7, 10)
      const client = await RawClient.connect(lab.first.address)
      // Three are left over, and are answered when no more come.
      await Promise.all(Array.from({ length: 13 }, () => client.request(sendRequest({ topic }))))
      orders.push(client.order)
      await client.close()
      fault.stop()
    }
    t.notDeepEqual(orders[0]!.slice(0, 10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    t.deepEqual(orders[0]!.slice(0, 10).sort(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    t.deepEqual(orders[0], orders[1])
  }),
)

test(
  'what is not dispatched is seen by its commit-log offset alone, until it is released',
  withCluster(async (t, lab) => {
    const { faults, store } = lab.first
    faults.holdDispatch()
    const answer = await sendOk(t, lab, { topic, properties: [['KEYS', 'k']] })
    t.is((await viewed(lab, logOffsetOf(answer))).topic, topic)
    t.is((await lab.broker.request(pullRequest(topic, 0, 0))).code, 19)
    t.is(store.maxOffset(topic, 0), 0)
    t.is(store.query(topic, 'k', 32, 0, Date.now()).length, 0)
    t.true(store.dispatchBehindBytes > 0)
    const waiting = lab.broker.request(pullRequest(topic, 0, 0, { sysFlag: 6, suspendTimeoutMillis: 9_000 }))
    faults.releaseDispatch()
    t.is((await waiting).code, 0)
    t.is(store.query(topic, 'k', 32, 0, Date.now()).length, 1)
    t.is(store.dispatchBehindBytes, 0)

    faults.lagDispatch(200)
    await sendOk(t, lab, { topic })
    t.is((await lab.broker.request(pullRequest(topic, 0, 1))).code, 19)
    t.is((await pulled(lab, topic, 0, 2)).length, 2)
  }),
)

test(
  'a broker that loses its tail gives the same offsets again',
  withCluster(async (t, lab) => {
    for (let i = 0; i < 3; i++)
      await sendOk(t, lab, { topic, body: Buffer.from(`old ${i}`), properties: [['KEYS', 'k']] })
    const lost = await sendOk(t, lab, { topic, body: Buffer.from('delayed'), properties: [['DELAY', '1']] })
    t.is(lab.first.faults.loseTail(3), 3)
    t.is(lab.first.store.messages, 1)
    t.is((await lab.broker.request({ code: 33, ext: { offset: logOffsetOf(lost) } })).code, 1)
    t.is(lab.first.store.nextDue, undefined)
    const again = await sendOk(t, lab, { topic, body: Buffer.from('new') })
    t.is(again.ext.get('queueOffset'), '1')
    const stored = await pulled(lab, topic, 0, 2)
    t.deepEqual(
      stored.map(({ body }) => body.toString()),
      ['old 0', 'new'],
    )
    t.is(lab.first.store.query(topic, 'k', 32, 0, Date.now()).length, 1)
  }),
)

test(
  'what has expired is gone: the queue begins later, and a pull before that is told so',
  withCluster(async (t, lab) => {
    const answers = []
    for (let i = 0; i < 3; i++) answers.push(await sendOk(t, lab, { topic }))
    lab.first.faults.expire(topic, 0, 2)
    const moved = await lab.broker.request(pullRequest(topic, 0, 0))
    t.is(moved.code, 21)
    t.is(moved.remark, 'OFFSET_TOO_SMALL')
    t.is(moved.ext.get('nextBeginOffset'), '2')
    t.is(moved.ext.get('minOffset'), '2')
    t.is((await lab.broker.request({ code: 31, ext: { topic, queueId: 0 } })).ext.get('offset'), '2')
    t.is((await lab.broker.request({ code: 33, ext: { offset: logOffsetOf(answers[0]!) } })).code, 1)
    t.is((await pulled(lab, topic, 0, 1, 2))[0]!.queueOffset, 2)
  }),
)

test(
  'a broker keeps no more than it was told, and drops the oldest',
  withCluster(
    async (t, lab) => {
      for (let i = 0; i < 50; i++) await sendOk(t, lab, { topic, body: Buffer.alloc(1_000) })
      const { store } = lab.first
      t.true(store.messages < 20)
      t.is(store.maxOffset(topic, 0), 50)
      t.is(store.minOffset(topic, 0), 50 - store.messages)
      t.true(store.commitLogMinOffset > 0)
      t.is((await pulled(lab, topic, 0, store.messages, store.minOffset(topic, 0))).length, store.messages)
    },
    { keepBytes: 20_000 },
  ),
)

test(
  'a stopped broker resets its connections, leaves the routes, and comes back with what it had',
  withCluster(
    async (t, lab) => {
      const second = lab.cluster.brokers[1]!
      await sendOk(t, lab, { topic })
      const { address } = lab.first
      await lab.first.stop()
      await lab.broker.closed
      await t.throwsAsync(RawClient.connect(address), { code: 'ECONNREFUSED' })
      const brokersOf = async (name: string) => readRoute((await routeOf(lab, name)).body).addresses.map(a => a.broker)
      t.deepEqual(await brokersOf('TBW102'), [second.name])
      t.is((await routeOf(lab, topic)).code, 17)
      lab.cluster.names.keepStopped = true
      t.deepEqual(await brokersOf(topic), [lab.first.name])
      lab.cluster.names.keepStopped = false
      await lab.first.start()
      t.is(lab.first.address, address)
      const again = { ...lab, broker: await RawClient.connect(address) }
      t.is((await pulled(again, topic, 0, 1)).length, 1)
      t.is((await sendOk(t, again, { topic })).ext.get('queueOffset'), '1')
      await again.broker.close()
      t.deepEqual((await brokersOf('TBW102')).sort(), [lab.first.name, second.name])
    },
    { brokers: 2 },
  ),
)

test(
  'a delayed message that fell due while its broker was stopped is delivered when it is back',
  withCluster(async (t, lab) => {
    await sendOk(t, lab, { topic, properties: [['DELAY', '1']] })
    await lab.first.stop()
    const due = lab.first.store.nextDue!
    await until('it is due', () => Date.now() > due)
    t.is(lab.first.store.messages, 1)
    await lab.first.start()
    const broker = await RawClient.connect(lab.first.address)
    t.is((await pulled({ ...lab, broker }, topic, 0, 1)).length, 1)
    await broker.close()
  }),
)

test(
  'a name server can be stopped and started again',
  withCluster(async (t, lab) => {
    await lab.cluster.names.stop()
    await lab.names.closed
    await t.throwsAsync(RawClient.connect(lab.cluster.nameServer), { code: 'ECONNREFUSED' })
    await lab.cluster.names.start()
    const names = await RawClient.connect(lab.cluster.nameServer)
    t.is((await routeOf({ ...lab, names }, 'TBW102')).code, 0)
    await names.close()
  }),
)

test(
  'a consumer is told when its group changes',
  withCluster(async (t, lab) => {
    const beat = (client: RawClient) => {
      const body = { clientID: `c${client.port}`, consumerDataSet: [{ groupName: 'group', subscriptionDataSet: [] }] }
      return client.request({ code: 34, body: Buffer.from(JSON.stringify(body)) })
    }
    await beat(lab.broker)
    const other = await RawClient.connect(lab.first.address)
    await beat(other)
    const told = () => lab.broker.others.filter(({ code, ext }) => code === 40 && ext.get('consumerGroup') === 'group')
    // Once for itself, once for the other.
    await until('it is told', () => told().length === 2)
    await other.close()
    await until('it is told again', () => told().length === 3)
    t.pass()
  }),
)

test(
  'answers have binary headers, or the header of the request, where the cluster is started so',
  withCluster(
    async (t, lab) => {
      for (const headerType of [0, 1] as const) {
        const answer = await lab.broker.request(sendRequest({ topic, headerType }))
        t.is(answer.code, 0)
        t.is(answer.headerType, headerType)
      }
    },
    { answerType: 'asked' },
  ),
)

test(
  'as in 5.3.3, a member of a batch that grows too long by the header ends all dispatching, and is cut off at a start',
  withCluster(async (t, lab) => {
    const { store } = lab.first
    const properties = Buffer.from(`long\u0001${'x'.repeat(32_760)}\u0002`)
    const member = { body: Buffer.from('member'), properties: Buffer.alloc(0) }
    await sendOk(t, lab, { topic, body: Buffer.from('before') })
    await sendOk(t, lab, { topic, batch: true, body: batchBody([member, { ...member, properties }, member]) })
    const behind = await sendOk(t, lab, { topic: 'another' })
    t.is(store.maxOffset(topic, 0), 2)
    t.is(store.maxOffset('another', 0), 0)
    t.is((await viewed(lab, logOffsetOf(behind))).topic, 'another')
    await lab.first.stop()
    await lab.first.start()
    t.is(store.messages, 2)
    const again = { ...lab, broker: await RawClient.connect(lab.first.address) }
    t.is((await sendOk(t, again, { topic })).ext.get('queueOffset'), '2')
    t.is((await pulled(again, topic, 0, 3)).length, 3)
    await again.broker.close()
  }),
)

test(
  'as in 5.3.3, a send that says of itself that its hosts are IPv6 is acked, never in its queue, and cut off at a start',
  withCluster(async (t, lab) => {
    const { store } = lab.first
    await sendOk(t, lab, { topic, sysFlag: 0x30 })
    t.is(store.maxOffset(topic, 0), 0)
    await sendOk(t, lab, { topic })
    t.is(store.maxOffset(topic, 0), 1)
    await lab.first.stop()
    await lab.first.start()
    t.is(store.messages, 0)
    t.is(store.maxOffset(topic, 0), 0)
  }),
)

test(
  'a null broker answers sends and batches at once with rising offsets, and keeps nothing',
  withCluster(
    async (t, lab) => {
      lab.first.store.createTopic(topic, 4)
      t.is((await routeOf(lab, topic)).code, 0)
      for (const headerType of [0, 1] as const) {
        for (const code of [10, 310]) {
          const answer = await lab.broker.request(sendRequest({ topic, code, headerType, queueId: 2 }))
          t.is(answer.code, 0)
          t.is(answer.ext.get('queueId'), '00002')
        }
      }
      const answers = await Promise.all(
        [7, -7, 2_147_483_647, -2_147_483_648].map(opaque =>
          lab.broker.request({ ...sendRequest({ topic, queueId: 2, body: Buffer.alloc(100_000) }), opaque }),
        ),
      )
      t.deepEqual(
        answers.map(answer => Number(answer.ext.get('queueOffset'))),
        [4, 5, 6, 7],
      )
      const members = [1, 2, 3].map(i => ({ body: Buffer.from(`${i}`), properties: Buffer.alloc(0) }))
      const batch = await sendOk(t, lab, { topic, batch: true, queueId: 2, body: batchBody(members) })
      t.is(batch.ext.get('queueOffset'), '8')
      t.is(commitLogOffsetsOf(batch.ext.get('msgId')!).length, 3)
      t.is((await sendOk(t, lab, { topic, queueId: -1 })).code, 0)
      lab.broker.oneway(sendRequest({ topic, queueId: 2 }))
      t.is((await sendOk(t, lab, { topic, queueId: 2 })).ext.get('queueOffset'), '0000000000000012')
      t.is(lab.first.taken.sends, 14)
      t.is(lab.first.store.messages, 0)
      t.deepEqual(lab.broker.others, [])
      const nothing = await lab.broker.request(pullRequest(topic, 2, 0))
      t.is(decodeStoredMessages(nothing.body).length, 0)
      t.is((await lab.broker.request({ code: 9_999 })).code, 3)
    },
    { nullBroker: true },
  ),
)
