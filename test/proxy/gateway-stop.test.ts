// How the gateway ends and starts again, and what it does about clients that are slow or ask for more than they take.

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Framer } from '../../codec/index.ts'
import { acked, bytesTo, countIn, keyed, keysIn, sumOf, topic, withLab } from '../support/gateway-lab.ts'
import { frameOf, RawClient, until } from '../support/raw-client.ts'
import { pullRequest, sendRequest } from './demo/broker-behaviour.ts'

const KIB = 1024
const MIB = 1024 * KIB

// Stopping

test(
  'a stop lets sends that are out be answered before their connections end, takes no new connection, and is not ready meanwhile',
  withLab(async (t, { source, remote, sourceBroker, here, connect }) => {
    const [client, idle] = [await connect(), await connect()]
    const address = await here.brokerAddress()
    sourceBroker.faults.slow(400, { topic })
    const answers = Array.from({ length: 10 }, (_, i) => client.request(sendRequest(keyed(`k-${i}`))))
    await until('all are stored', () => countIn(source, topic) === 10)
    const stopped = here.gateway.stop()
    await t.throwsAsync(RawClient.connect(address), { code: 'ECONNREFUSED' })
    await t.throwsAsync(RawClient.connect(here.gateway.nameServerAddress), { code: 'ECONNREFUSED' })
    await idle.closed
    const { status, state } = await here.readyz()
    t.is(status, 503)
    t.is(state.draining, true)
    for (const answer of await Promise.all(answers)) t.is(answer.code, 0)
    await client.closed
    await stopped
    t.is(here.metric('acked_messages_total'), 10)
    t.is(here.metric('unresolved_messages_total'), 0)
    await t.throwsAsync(fetch(`http://${here.gateway.adminAddress}/livez`))

    await here.startAgain()
    await here.done(10)
    t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
    t.is(countIn(remote, topic), 10)
  }),
)

test(
  'a stop does not wait for a source that does not answer longer than drainTimeout',
  withLab(
    async (t, { sourceBroker, here, connect }) => {
      const client = await connect()
      const fault = sourceBroker.faults.timeOut({ topic })
      const answer = client.request(sendRequest(keyed('unanswered')))
      await until('it is out', () => fault.hits === 1)
      const begun = Date.now()
      const stopped = here.gateway.stop()
      await t.throwsAsync(answer, { message: /closed/ })
      await stopped
      const took = Date.now() - begun
      t.true(took >= 450 && took < 5_000, `${took} ms`)
    },
    { gateway: ['--drainTimeout=500ms'] },
  ),
)

test(
  'a request that has begun when the stop comes is passed on to its end and answered',
  withLab(
    async (t, { source, sourceTap, here, connect }) => {
      const client = await connect()
      const frame = frameOf({ ...sendRequest(keyed('cut', { body: Buffer.alloc(300 * KIB, 1) })), opaque: 5 })
      const received = bytesTo(client)
      client.socket.write(frame.subarray(0, 100 * KIB))
      await until('the first of it is on its way', () =>
        sourceTap.connections.some(({ requestBytes }) => requestBytes === 100 * KIB),
      )
      const stopped = here.gateway.stop()
      client.socket.write(frame.subarray(100 * KIB))
      await client.closed
      await stopped
      t.deepEqual(
        [...new Framer().push(received())].map(({ head }) => [head.opaque, head.code]),
        [[5, 0]],
      )
      t.is(countIn(source, topic), 1)
      t.is(here.metric('acked_messages_total'), 1)
    },
    { tapped: true },
  ),
)

// Starting again

test(
  'a second start on the same data keeps its id, its ports and its counts, and sends nothing twice and leaves nothing out',
  withLab(
    async (t, { source, remote, remoteBroker, here, connect }) => {
      const id = here.gateway.replay.gatewayId
      const address = await here.brokerAddress()
      const first = await connect()
      for (let i = 0; i < 20; i++) await acked(t, first, keyed(`up-${i}`, { queueId: i % 4 }))
      await acked(t, first, keyed('delayed', { topic: 'other' }))
      await here.done(21)
      await remoteBroker.stop()
      for (let i = 0; i < 40; i++) await acked(t, first, keyed(`down-${i}`, { queueId: i % 4 }))
      const before = here.metrics()
      await here.gateway.stop()

      await here.startAgain()
      t.is(here.gateway.replay.gatewayId, id)
      t.is(await here.brokerAddress(), address)
      const listeners = JSON.parse(await readFile(join(here.dataDir, 'listeners.json'), 'utf8'))
      t.deepEqual(
        listeners.listeners.map(({ broker, port }: { broker: string; port: number }) => [broker, port]),
        [['source-a', Number(address.split(':')[1])]],
      )
      const after = here.metrics()
      for (const name of ['acked_messages_total', 'replicated_messages', 'lag_messages'])
        t.is(sumOf(after, name), sumOf(before, name), name)
      t.is(sumOf(after, 'acked_messages_total'), 61)
      t.is(sumOf(after, 'lag_messages'), 40)

      const second = await RawClient.connect(address)
      for (let i = 0; i < 20; i++) await acked(t, second, keyed(`again-${i}`, { queueId: i % 4 }))
      await second.close()
      await remoteBroker.start()
      await here.done(81)
      t.is(countIn(remote, topic), 80)
      t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
      t.is(here.metric('replicated_messages'), 81)
      t.is(here.metric('lost_messages_total'), 0)

      // Nothing is left to do for a third.
      await here.gateway.stop()
      await here.startAgain()
      t.is(here.metric('lag_messages'), 0)
      t.is(here.metric('acked_messages_total'), 81)
      const third = await here.connect()
      await acked(t, third, keyed('last'))
      await third.close()
      await here.done(82)
      t.is(countIn(remote, topic), 81)
      t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
    },
    { gateway: ['--drainTimeout=1s'] },
  ),
)

test(
  'a stop while sends to the remote are out: they are waited for, and the next start sends nothing twice',
  withLab(async (t, { source, remote, remoteBroker, here, connect }) => {
    const client = await connect()
    await acked(t, client, keyed('first'))
    await here.done(1)
    const slow = remoteBroker.faults.slow(300, { topic, codes: [310, 320] })
    for (let i = 0; i < 30; i++) await acked(t, client, keyed(`k-${i}`, { queueId: i % 2 }))
    await until('they are out', () => slow.hits >= 2)
    await here.gateway.stop()
    slow.stop()
    await here.startAgain()
    await here.done(31)
    t.is(countIn(remote, topic), 31)
    t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
  }),
)

// Slow clients

const limit = { gateway: [`--pendingBytesMax=${MIB}`, '--drainTimeout=1s'] }

/** Stores so much in a topic that one pull of it brings some 256 KiB. */
async function fill(t: ExecutionContext, client: RawClient): Promise<void> {
  for (let i = 0; i < 4; i++) await acked(t, client, keyed(`big-${i}`, { topic: 'big', body: Buffer.alloc(60 * KIB) }))
}

const PULLS = 200

test(
  'a client that does not read its answers while a send of its is out is closed at pendingBytesMax, and the others go on',
  withLab(async (t, { remote, sourceBroker, here, connect }) => {
    const [slow, other] = [await connect(), await connect()]
    await fill(t, slow)
    sourceBroker.faults.timeOut({ when: ({ body }) => body?.toString() === 'body of unanswered' })
    slow.socket.pause()
    let closed = false
    void slow.closed.then(() => {
      closed = true
    })
    slow.socket.write(frameOf({ ...sendRequest(keyed('unanswered')), opaque: 1 }))
    for (let i = 0; i < PULLS; i++) slow.socket.write(frameOf({ ...pullRequest('big', 0, 0), opaque: 10 + i }))
    await until('it is closed', () => here.metrics().get('disconnects_total{cause="client-too-slow"}') === 1)
    t.is(here.said(/does not read its answers/).length, 1)
    await acked(t, other, keyed('other', { queueId: 1 }))
    await until('the other is at the remote', () => countIn(remote, topic) === 1)
    slow.socket.resume()
    await until('the client notices', () => closed)
  }, limit),
)

test(
  'a client that reads slowly makes its source wait, and gets every byte in the end',
  withLab(
    async (t, { sourceTap, here, connect }) => {
      const [slow, other] = [await connect(), await connect()]
      await fill(t, other)
      slow.socket.pause()
      const marker = Buffer.from('this is the slow one')
      const received = bytesTo(slow)
      // The listener made it flow.
      slow.socket.pause()
      slow.socket.write(frameOf({ code: 9_999, opaque: 1, body: marker }))
      for (let i = 0; i < PULLS; i++) slow.socket.write(frameOf({ ...pullRequest('big', 0, 0), opaque: 10 + i }))
      await until('the source was told', () => sourceTap.connections.some(({ requests }) => requests.includes(marker)))
      const session = sourceTap.carrying(marker)
      let passed = -1
      await until('nothing more comes', async () => {
        const before = passed
        passed = session.answerCount
        for (let i = 0; i < 5; i++) await acked(t, other, keyed('meanwhile', { queueId: 1 }))
        return passed > 1 && passed === before
      })
      t.true(passed < PULLS, `${passed} of ${PULLS} answers came to a client that took none`)
      t.is(here.metric('disconnects_total'), 0)
      slow.socket.resume()
      await until('all answers are there', () => [...new Framer().push(received())].length === PULLS + 1)
      t.true(received().equals(session.answers))
      t.true(received().length > PULLS * 200 * KIB)
    },
    { ...limit, tapped: true },
  ),
)

test(
  'of a client that sends more than its source answers no more is taken than pendingBytesMax, and all of it in the end',
  withLab(
    async (t, { source, remote, sourceBroker, sourceTap, here, connect }) => {
      const client = await connect()
      sourceBroker.faults.slow(20, { topic })
      const body = Buffer.alloc(60 * KIB)
      let most = 0
      sourceTap.answer = ({ bytes }, connection) => {
        // What the source has of it and has not answered.
        const sent = connection.requestBytes
        const answered = connection.answerCount * (body.length + 100)
        most = Math.max(most, sent - answered)
        return bytes
      }
      const answers = Array.from({ length: 200 }, (_, i) => client.request(sendRequest(keyed(`k-${i}`, { body }))))
      for (const { code } of await Promise.all(answers)) t.is(code, 0)
      t.true(most > 512 * KIB && most < 1.5 * MIB, `${most} bytes`)
      await here.done(200)
      t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
    },
    { ...limit, tapped: true },
  ),
)
