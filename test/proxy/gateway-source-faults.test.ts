// What goes wrong at the source: answers out of order, refusals, sends whose outcome nobody is told. What was acked is at
// the remote in the source's order, and nothing else is.

import test from 'ava'
import { encodeFrame, encodeProperties, FLAG_RESPONSE } from '../../codec/index.ts'
import { acked, countIn, keyed, keysIn, topic, withLab } from '../support/gateway-lab.ts'
import { seededRandom } from '../support/random.ts'
import { frameOf, RawClient, until } from '../support/raw-client.ts'
import type { Tap } from '../support/tap.ts'
import { batchBody, sendRequest } from './demo/broker-behaviour.ts'

const GIVE_UP = 1_000
const givesUpSoon = { gateway: [`--sendGiveUpTimeout=${GIVE_UP}ms`] }

/** Whether a request is the send of this message. */
function isSendOf(key: string) {
  return ({ body }: { body: Buffer | undefined }) => body?.toString() === `body of ${key}`
}

/** Keeps the next ack from its client; the returned function gives it. */
function holdFirstAck(tap: Tap): () => void {
  let give: (() => void) | undefined
  tap.answer = ({ bytes }, connection) => {
    if (give !== undefined || !bytes.includes('msgId')) return bytes
    give = () => connection.say(bytes)
    return null
  }
  return () => give!()
}

test(
  'a message whose answer comes late is waited for: what another connection sent behind it does not overtake it',
  withLab(
    async (t, { source, remote, sourceTap, here, connect }) => {
      const [slow, quick] = [await connect(), await connect()]
      const giveLate = holdFirstAck(sourceTap)
      const early = slow.request(sendRequest(keyed('early')))
      await until('it is stored', () => countIn(source, topic) === 1)
      for (let i = 0; i < 10; i++) await acked(t, quick, keyed(`k-${i}`))
      // Of another queue, so it need not wait.
      await acked(t, quick, keyed('elsewhere', { queueId: 1 }))
      await until('the other queue is replicated', () => countIn(remote, topic) > 0)
      t.deepEqual(keysIn(remote, topic), [[], ['elsewhere'], [], []])
      t.is(here.metric('acked_messages_total'), 11)
      giveLate()
      t.is((await early).code, 0)
      await here.done(12)
      t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
      t.is(keysIn(remote, topic)[0]![0], 'early')
      t.is(here.metric('reordered_messages_total'), 0)
    },
    { tapped: true },
  ),
)

test(
  "answers come in any order over four connections, single sends, batches and oneway ones: the order at the remote is the source's",
  withLab(async (t, { source, remote, sourceBroker, here, connect }) => {
    const random = seededRandom(t)
    sourceBroker.faults.shuffle(random.integer(0, 1_000_000), 12, { topic })
    const clients = [await connect(), await connect(), await connect(), await connect()]
    let count = 0
    let twoWay = 0
    const answers: Promise<{ code: number }>[] = []
    for (let turn = 0; turn < 300; turn++) {
      const client = random.pick(clients)
      const queueId = random.pick([0, 0, 0, 1, -1])
      const key = `k-${count++}`
      if (random.chance(0.2)) {
        client.oneway(sendRequest(keyed(key, { queueId })))
        continue
      }
      twoWay++
      if (random.chance(0.8)) answers.push(client.request(sendRequest(keyed(key, { queueId }))))
      else {
        const keys = [key, `k-${count++}`, `k-${count++}`]
        const members = keys.map(k => ({ body: Buffer.from(k), properties: encodeProperties([['KEYS', k]]) }))
        answers.push(
          client.request(sendRequest({ topic, batch: true, queueId: Math.max(0, queueId), body: batchBody(members) })),
        )
      }
      if (random.chance(0.2)) await new Promise(resolve => setImmediate(resolve))
    }
    for (const { code } of await Promise.all(answers)) t.is(code, 0)
    await here.done(count)
    const orders = clients.map(({ order }) => order)
    t.true(
      orders.some(order => order.some((opaque, i) => i > 0 && opaque < order[i - 1]!)),
      'answers did come out of order',
    )
    t.is(orders.flat().length, twoWay)
    t.is(countIn(remote, topic), count)
    t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
    t.is(here.metric('reordered_messages_total'), 0)
  }),
)

test(
  'a refused send is answered as the source did, is not at the remote, and holds up nothing',
  withLab(async (t, { remote, sourceBroker, here, connect }) => {
    const client = await connect()
    const refusals = [2, 14, 13, 16, 17, 1]
    for (const code of refusals) {
      sourceBroker.faults.refuse(code, { when: isSendOf(`refused-${code}`) }, `in the words of ${code}`)
      const answer = await client.request(sendRequest(keyed(`refused-${code}`)))
      t.is(answer.code, code)
      t.is(answer.remark, `in the words of ${code}`)
      client.oneway(sendRequest(keyed(`refused-${code}`)))
      await acked(t, client, keyed(`taken-${code}`))
    }
    await here.done(refusals.length)
    t.deepEqual(
      keysIn(remote, topic)[0],
      refusals.map(code => `taken-${code}`),
    )
    t.is(here.metric('acked_messages_total'), refusals.length)
    t.deepEqual(client.others, [])
  }),
)

test(
  'a source that stores and does not say where is believed: what it stored is looked for, and replicated in its place',
  withLab(
    async (t, { remote, sourceTap, here, connect }) => {
      const client = await connect()
      sourceTap.answer = ({ bytes, head }) => {
        if (!bytes.includes('msgId')) return bytes
        return encodeFrame({ code: 0, opaque: head.opaque, flag: FLAG_RESPONSE, ext: [] })
      }
      await acked(t, client, keyed('placeless'))
      sourceTap.answer = ({ bytes }) => bytes
      await acked(t, client, keyed('next'))
      await here.done(2)
      t.deepEqual(keysIn(remote, topic)[0], ['placeless', 'next'])
      t.is(here.metric('unresolved_messages_total'), 0)
      t.is(here.said(/without saying where/).length, 1)
    },
    { tapped: true },
  ),
)

for (const code of [10, 11, 12])
  test(
    `a send that is answered ${code} is stored, and is at the remote`,
    withLab(
      async (t, { remote, sourceTap, here, connect }) => {
        const client = await connect()
        sourceTap.answer = ({ bytes, head }) => {
          if (!bytes.includes('msgId')) return bytes
          const ext = Object.entries({ queueId: 0, queueOffset: 0, msgId: '7F00000100002A9F0000000000000000' })
          return encodeFrame({ code, opaque: head.opaque, flag: FLAG_RESPONSE, remark: 'late', ext })
        }
        const answer = await client.request(sendRequest(keyed('late')))
        t.is(answer.code, code)
        t.is(answer.remark, 'late')
        await here.done(1)
        t.deepEqual(keysIn(remote, topic)[0], ['late'])
      },
      { tapped: true },
    ),
  )

for (const [what, stores] of [
  ['after', true],
  ['before', false],
] as const)
  test(
    `a connection is reset ${what} storing: the client's ends too, and what became of its send is found out`,
    withLab(async (t, { source, remote, sourceBroker, here, connect }) => {
      const [client, other] = [await connect(), await connect()]
      await acked(t, client, keyed('before'))
      await here.done(1)
      const { faults } = sourceBroker
      const scope = { when: isSendOf('unanswered') }
      if (stores) faults.resetAfter(scope)
      else faults.resetBefore(scope)
      await t.throwsAsync(client.request(sendRequest(keyed('unanswered'))), { message: /closed/ })
      await client.closed
      t.is(countIn(source, topic), stores ? 2 : 1)
      for (let i = 0; i < 5; i++) await acked(t, other, keyed(`k-${i}`))
      await acked(t, other, keyed('elsewhere', { queueId: 1 }))
      await here.done(stores ? 8 : 7)
      t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
      t.is(here.metric('unresolved_messages_total'), 0)
      t.is(here.metric('reordered_messages_total'), 0)
    }),
  )

test(
  'batches and oneway sends that a broker took before it died are found when it is back',
  withLab(async (t, { source, remote, sourceBroker, here, connect }) => {
    const client = await connect()
    await acked(t, client, keyed('before'))
    sourceBroker.faults.loseAnswers({ topic })
    const members = ['b-0', 'b-1', 'b-2'].map(k => ({
      body: Buffer.from(k),
      properties: encodeProperties([
        ['KEYS', k],
        ['UNIQ_KEY', k],
      ]),
    }))
    client.oneway(sendRequest(keyed('oneway')))
    const batch = client.request(sendRequest({ topic, batch: true, queueId: 0, body: batchBody(members) }))
    const single = client.request(sendRequest(keyed('single', { queueId: -1 })))
    await until('all are stored', () => countIn(source, topic) === 6)
    await sourceBroker.stop()
    await Promise.all([t.throwsAsync(batch), t.throwsAsync(single), client.closed])
    sourceBroker.faults.clear()
    await sourceBroker.start()
    await here.done(6)
    t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
    t.is(here.metric('unresolved_messages_total'), 0)
  }),
)

test(
  'a source broker that comes back without its tail: what it stores at the same offsets is replicated, too',
  withLab(async (t, { remote, sourceBroker, here, connect }) => {
    const client = await connect()
    for (const key of ['m-0', 'm-1', 'm-2']) await acked(t, client, keyed(key))
    await here.done(3)
    await sourceBroker.stop()
    sourceBroker.store.dropTail(2)
    await sourceBroker.start()
    const again = await connect()
    for (const key of ['n-1', 'n-2', 'n-3']) await acked(t, again, keyed(key))
    await here.done(6)
    t.deepEqual(keysIn(remote, topic)[0], ['m-0', 'm-1', 'm-2', 'n-1', 'n-2', 'n-3'])
    t.is(here.said(/new epoch of the source/).length, 1)
  }),
)

test(
  'a send that the source does not answer holds back later ones for sendGiveUpTimeout; answered later still, it is copied late',
  withLab(
    async (t, { source, remote, sourceTap, here, connect }) => {
      const [client, other] = [await connect(), await connect()]
      await acked(t, other, keyed('before'))
      await here.done(1)
      const giveLate = holdFirstAck(sourceTap)
      const at = Date.now()
      const late = client.request(sendRequest(keyed('late')))
      await until('it is stored', () => countIn(source, topic) === 2)
      for (let i = 0; i < 5; i++) await acked(t, other, keyed(`k-${i}`))
      await here.done(6)
      t.true(Date.now() - at >= GIVE_UP, `after ${Date.now() - at} ms`)
      t.deepEqual(keysIn(remote, topic)[0], ['before', 'k-0', 'k-1', 'k-2', 'k-3', 'k-4'])
      giveLate()
      t.is((await late).code, 0)
      await here.done(7)
      t.deepEqual(keysIn(remote, topic)[0], ['before', 'k-0', 'k-1', 'k-2', 'k-3', 'k-4', 'late'])
      t.deepEqual(keysIn(source, topic)[0], ['before', 'late', 'k-0', 'k-1', 'k-2', 'k-3', 'k-4'])
      t.is(here.metric('reordered_messages_total'), 1)
    },
    { ...givesUpSoon, tapped: true },
  ),
)

test(
  'a client that ends before its answers come is not forgotten: what the source stored of it is at the remote',
  withLab(async (t, { source, remote, sourceBroker, here, connect }) => {
    const client = await connect()
    sourceBroker.faults.slow(300, { topic })
    for (let opaque = 0; opaque < 10; opaque++)
      client.socket.write(frameOf({ ...sendRequest(keyed(`k-${opaque}`)), opaque }))
    await until('all are stored', () => countIn(source, topic) === 10)
    client.socket.destroy()
    const other = await connect()
    await acked(t, other, keyed('after'))
    await here.done(11)
    t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
    t.is(here.metric('unresolved_messages_total'), 0)
  }),
)

test(
  'the source broker is stopped and started: clients are told by the end of their connections, and all goes on',
  withLab(async (t, { source, remote, sourceBroker, here, connect }) => {
    const client = await connect()
    await acked(t, client, keyed('before'))
    const address = await here.brokerAddress()
    await sourceBroker.stop()
    await client.closed
    // As with a dead broker: what comes to the port ends.
    const turnedAway = await RawClient.connect(address)
    await turnedAway.closed
    await sourceBroker.start()
    const again = await connect()
    await acked(t, again, keyed('after'))
    await here.done(2)
    t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
  }),
)

test(
  'a send that came in one chunk with a malformed frame does not go on, and holds up nobody',
  withLab(async (t, { source, remote, here, connect }) => {
    const [bad, good] = [await connect(), await connect()]
    bad.socket.write(Buffer.concat([frameOf({ ...sendRequest(keyed('never')), opaque: 1 }), Buffer.alloc(8)]))
    await bad.closed
    const sent = Array.from({ length: 5 }, (_, i) => good.request(sendRequest(keyed(`k-${i}`))))
    for (const { code } of await Promise.all(sent)) t.is(code, 0)
    const begun = Date.now()
    await here.done(5)
    t.true(Date.now() - begun < 5_000, 'it did not wait for sendGiveUpTimeout')
    t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
    t.false(keysIn(source, topic).flat().includes('never'))
    t.is(here.metric('unresolved_messages_total'), 0)
  }),
)
