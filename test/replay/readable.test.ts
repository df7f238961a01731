// Whether a source may be read back from, topic by topic.

import test from 'ava'
import { Cluster } from '../../replay/cluster.ts'
import { Readable } from '../../replay/readable.ts'
import { FakeEnvironment } from '../support/fake-environment.ts'
import { FakeCluster } from './fake-cluster.ts'

async function lab() {
  const environment = new FakeEnvironment()
  const source = new FakeCluster('paris')
  source.makeTopic('orders', 2)
  source.connect(environment.network)
  const { broker } = source
  broker.store('orders', 1, {})
  const readable = new Readable({
    clock: environment.clock,
    log: environment.log,
    source: new Cluster(environment, [source.nameServer]),
    broker: broker.name,
    address: () => broker.address,
  })
  const refusePulls = (code: number, remark: string) => {
    broker.intercept = request => {
      if (request.head.code !== 11) return false
      request.answer({ code, remark })
      return true
    }
  }
  return { environment, source, broker, readable, refusePulls, may: () => readable.mayReadBack('orders', 1, 0) }
}

test('a topic may be read back once the source has let us', async t => {
  const { environment, broker, readable, may } = await lab()
  const asked: string[] = []
  broker.intercept = ({ head }) => {
    if (head.code === 11) asked.push(/"maxMsgNums":"?(\d+)/.exec(head.bytes.toString('latin1'))?.[1] ?? '1')
    return false
  }
  t.false(may())
  t.false(may())
  await environment.settled()
  t.true(may())
  t.is(asked.length, 1)
  t.deepEqual(readable.refusals, [])
  readable.close()
  t.is(environment.clock.timers, 0)
})

test('where it is refused it may not, until it is asked again after ten minutes', async t => {
  const { environment, broker, readable, refusePulls, may } = await lab()
  refusePulls(16, 'no permission')
  may()
  await environment.settled()
  t.false(may())
  t.regex(readable.refusals[0]!.reason, /refused with code 16: no permission/)
  t.is(environment.log.said('may not be read back').length, 1)
  broker.intercept = () => false
  await environment.pass(599_000)
  t.false(may())
  await environment.pass(2_000)
  t.true(may())
})

test('what is refused later is asked again at once, and every ten minutes', async t => {
  const { environment, readable, refusePulls, may } = await lab()
  may()
  await environment.settled()
  t.true(may())
  refusePulls(16, 'no more')
  t.true(may())
  readable.refused('orders', 'reading orders queue 1 was refused')
  t.false(may())
  await environment.settled()
  t.false(may())
  t.regex(readable.refusals[0]!.reason, /no more/)
})

test('a refusal that was one of a moment is over with the next answer', async t => {
  const { environment, readable, may } = await lab()
  may()
  await environment.settled()
  readable.refused('orders', 'for a moment')
  t.false(may())
  await environment.settled()
  t.true(may())
  readable.refused('unheard of', 'whatever')
  t.deepEqual(readable.refusals, [])
})

test('a source that does not answer is asked again soon, and what was known holds', async t => {
  const { environment, source, may } = await lab()
  source.disconnect(environment.network)
  may()
  await environment.pass(4_000)
  t.false(may())
  source.connect(environment.network)
  await environment.pass(2_000)
  t.true(may())
  source.disconnect(environment.network)
  await environment.pass(700_000)
  t.true(may())
})

test('topics whose offsets are logical, or whose messages go before their time, may not be read back', async t => {
  for (const [config, reason] of [
    [{ attributes: { 'cleanup.policy': 'COMPACTION' } }, /compaction/],
    [{ attributes: {}, mappingDetail: { topic: 'orders', totalQueues: 4 } }, /static/],
  ] as const) {
    const { environment, broker, readable, may } = await lab()
    broker.intercept = request => {
      if (request.head.code !== 351) return false
      request.answer({ body: Buffer.from(JSON.stringify(config)) })
      return true
    }
    may()
    await environment.settled()
    t.false(may())
    t.regex(readable.refusals[0]!.reason, reason)
    t.is(broker.pulls, 0)
  }
})

test('settings that are not told may be those of such a topic; a broker that knows none has no such topics', async t => {
  for (const [code, expected] of [
    [16, false],
    [3, true],
  ] as const) {
    const { environment, broker, may } = await lab()
    broker.intercept = request => {
      if (request.head.code !== 351) return false
      request.answer({ code, remark: 'no' })
      return true
    }
    may()
    await environment.settled()
    t.is(may(), expected)
  }
})
