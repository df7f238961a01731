// What goes wrong at the remote, with a producer that goes on meanwhile: it notices nothing, and afterwards the remote has
// of each queue what the source has, in the same order, nothing missing and nothing doubled.

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { encodeFrame, FLAG_RESPONSE } from '../../codec/index.ts'
import type { Fault } from '../../proxy/demo/embedded-cluster.ts'
import { Producer } from '../../proxy/demo/producer.ts'
import { compare, holds, proofLine, readTopic } from '../../proxy/demo/proof.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { realEnvironment } from '../../replay/index.ts'
import {
  acked,
  countIn,
  countsIn,
  type GatewayLab,
  keyed,
  keysIn,
  type LabOptions,
  sumOf,
  topic,
  withLab,
} from '../support/gateway-lab.ts'
import { seededRandom } from '../support/random.ts'
import { until } from '../support/raw-client.ts'

const environment = realEnvironment(silentLogger)
const sends = { codes: [310, 320], topic }
const RATE = 100

/** A test with a producer at a steady rate; at its end all that was acked is at the remote, as it stands at the source. */
function inFlow(
  during: (t: ExecutionContext, lab: GatewayLab, producer: Producer) => Promise<void>,
  options?: LabOptions,
) {
  return withLab(async (t, lab) => {
    const producer = new Producer(environment, lab.here.gateway.nameServerAddress, topic, 100)
    try {
      await producer.connect()
      producer.start(RATE)
      await until('some are replicated', () => countIn(lab.remote, topic) > 20)
      await during(t, lab, producer)
      await more(producer, 20)
      await producer.stop()
      await lab.here.done(producer.acked.size)
      t.is(producer.failed, 0)
      t.deepEqual(keysIn(lab.remote, topic), keysIn(lab.source, topic))
      t.is(countIn(lab.remote, topic), producer.acked.size)
      t.is(lab.here.metric('replicated_messages'), producer.acked.size)
    } finally {
      producer.end()
    }
  }, options)
}

async function more(producer: Producer, count: number): Promise<void> {
  const before = producer.acked.size
  await until(`${count} more are acked`, () => producer.acked.size >= before + count)
}

async function happened(fault: Fault, times = 1): Promise<void> {
  await until(`the fault has happened ${times} times`, () => fault.hits >= times)
}

// Each fault

test(
  'an answer is lost after storing: its lane waits and finds out, the others go on',
  inFlow(async (_, { remoteBroker, remote, here }) => {
    const fault = remoteBroker.faults.loseAnswers({ ...sends, times: 1 })
    await happened(fault)
    const before = countsIn(remote, topic)
    await until(
      'three queues have gone on',
      () => countsIn(remote, topic).filter((count, i) => count > before[i]! + 40).length === 3,
    )
    await until('the outcome is found out', () => here.said('found out what had arrived at the remote').length > 0)
  }),
)

test(
  'connections are reset after storing',
  inFlow(async (_, { remoteBroker }) => {
    await happened(remoteBroker.faults.resetAfter({ ...sends, times: 1 }))
    await happened(remoteBroker.faults.resetAfter({ ...sends, after: 3, times: 2 }), 2)
  }),
)

test(
  'connections are reset before storing',
  inFlow(async (_, { remoteBroker }) => {
    await happened(remoteBroker.faults.resetBefore({ ...sends, times: 1 }))
    await happened(remoteBroker.faults.resetBefore({ ...sends, after: 3, times: 2 }), 2)
  }),
)

test(
  'a connection is reset after storing, and what is stored cannot be read for a while',
  inFlow(async (_, { remoteBroker, here }, producer) => {
    const looksForTheMarker = remoteBroker.faults.slow(0, { codes: [11], topic: 'TEE_MARKER' })
    remoteBroker.faults.holdDispatch()
    await happened(remoteBroker.faults.resetAfter({ ...sends, times: 1 }))
    await happened(looksForTheMarker, 10)
    await more(producer, 50)
    remoteBroker.faults.releaseDispatch()
    await until('the outcome is found out', () => here.said('found out what had arrived at the remote').length > 0)
  }),
)

for (const code of [2, 14])
  test(
    `sends are refused with ${code}, and taken later`,
    inFlow(async (t, { remoteBroker, here }) => {
      await happened(remoteBroker.faults.refuse(code, { ...sends, times: 12 }), 12)
      t.is(here.said('found out what had arrived at the remote').length, 0)
    }),
  )

test(
  'the remote is slow: the producer does not notice, and what gathers goes in batches',
  inFlow(async (t, { remoteBroker, remote, here }, producer) => {
    const before = countIn(remote, topic)
    const requests = remoteBroker.faults.slow(400, sends)
    await happened(requests, 4)
    const sentBefore = here.metric('sent_messages_total')
    await more(producer, 100)
    await happened(requests, 12)
    const sent = here.metric('sent_messages_total') - sentBefore
    t.true(sent > 70, `${sent} messages in 8 requests`)
    t.true(countIn(remote, topic) > before)
    requests.stop()
  }),
)

test(
  'sends are answered 1 after storing',
  inFlow(
    async (_, { remoteTap, here }) => {
      let left = 3
      remoteTap.answer = ({ bytes, head }) => {
        if (left === 0 || head.code !== 0 || !bytes.includes('msgId')) return bytes
        left--
        const { opaque } = head
        return encodeFrame({ code: 1, opaque, flag: FLAG_RESPONSE, remark: 'store putMessage return null', ext: [] })
      }
      await until('three were answered 1', () => left === 0)
      await until('the outcomes are found out', () => here.said('found out what had arrived at the remote').length > 2)
    },
    { tapped: true },
  ),
)

for (const [what, keepStopped] of [
  ['leaves the routes', false],
  ['stays in the routes', true],
] as const)
  test(
    `the remote broker is stopped and ${what}: the gateway stays ready and says so; what memory does not hold is read back`,
    inFlow(
      async (t, { remote, remoteBroker, here }, producer) => {
        remote.names.keepStopped = keepStopped
        await remoteBroker.stop()
        await until('bodies do not fit any more', () => here.metric('gap_messages') > 40)
        await until('all four lanes wait', () => here.metric('waiting_lanes') === 4)
        // The first try after it was stopped ends with its connection.
        const reason = keepStopped ? /refused|closed|ended/i : /route|away|not at the remote|no.*broker/i
        await until('each lane says what it waits for', async () => {
          const { status, state } = await here.readyz()
          t.is(status, 200)
          const lanes = state.waitingLanes as { reason: string }[]
          return lanes.length === 4 && lanes.every(lane => reason.test(lane.reason))
        })
        t.is(here.said('lane waits').length < 20, true, 'and does not say it again and again')
        await more(producer, 50)
        await remoteBroker.start()
        await until('the remote goes on', () => here.metric('waiting_lanes') === 0)
        await until('they are read back', () => here.metric('read_back_messages_total') > 40)
      },
      { gateway: ['--bodyMemory=8KiB'] },
    ),
  )

test(
  "the remote's name server is stopped and started",
  inFlow(async (t, { remote, remoteBroker, here }, producer) => {
    await remote.names.stop()
    // A route that is known is good for half a minute; after a failure it is asked for.
    await happened(remoteBroker.faults.resetBefore({ ...sends, times: 1 }))
    await until('lanes wait', () => here.metric('waiting_lanes') > 0)
    await more(producer, 20)
    await remote.names.start()
    await until('they go on', () => here.metric('waiting_lanes') === 0)
    t.pass()
  }),
)

// Topics of the remote

test(
  "a topic that the remote lacks is made there with the source's queue numbers, permission and type",
  withLab(async (t, { source, remote, sourceBroker, remoteBroker, here, connect }) => {
    const attributes = { 'message.type': 'FIFO' }
    sourceBroker.store.createTopic('fifo', 3, { writeQueues: 5, attributes })
    sourceBroker.store.createTopic('write-only', 2, { perm: 2 })
    sourceBroker.store.createTopic('there', 6)
    remoteBroker.store.createTopic('there', 2, { order: true })
    const client = await connect()
    await acked(t, client, keyed('a', { topic: 'fifo', queueId: 4 }))
    await acked(t, client, keyed('b', { topic: 'write-only', queueId: 1 }))
    for (let i = 0; i < 12; i++) await acked(t, client, keyed(`c-${i}`, { topic: 'there', queueId: i % 6 }))
    await here.done(14)
    const made = remoteBroker.store.topics
    t.like(made.get('fifo'), { readQueues: 3, writeQueues: 5, perm: 6, attributes })
    t.like(made.get('write-only'), { readQueues: 2, writeQueues: 2, perm: 2 })
    t.like(made.get('there'), { readQueues: 2, writeQueues: 2, order: true }, 'one that is there stays as it is')
    t.deepEqual(keysIn(remote, 'fifo'), keysIn(source, 'fifo'))
    t.deepEqual(keysIn(remote, 'write-only'), keysIn(source, 'write-only'))
    // Six queues in two: each keeps its order.
    const proof = compare(
      new Set(Array.from({ length: 12 }, (_, i) => `c-${i}`)),
      await readTopic(environment, source.nameServer, 'there'),
      await readTopic(environment, remote.nameServer, 'there'),
    )
    t.true(holds(proof), proofLine(proof))
    t.deepEqual(
      keysIn(remote, 'there').map(keys => keys.length),
      [6, 6],
    )
  }),
)

test(
  'with topicSync=off a topic that the remote lacks is waited for, until somebody makes it',
  withLab(
    async (t, { source, remote, remoteBroker, here, connect }) => {
      const client = await connect()
      for (let i = 0; i < 5; i++) await acked(t, client, keyed(`k-${i}`))
      await until('the lane waits', () => here.metric('waiting_lanes') === 1)
      const { status, state } = await here.readyz()
      t.is(status, 200)
      t.like((state.waitingLanes as object[])[0], { topic, queueId: 0 })
      t.regex((state.waitingLanes as { reason: string }[])[0]!.reason, /not at the remote.*topicSync is off/)
      t.is(here.metric('queued_messages'), 5)
      remoteBroker.store.createTopic(topic, 4)
      await here.done(5)
      t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
    },
    { gateway: ['--topicSync=off'] },
  ),
)

test(
  'a message that the remote will never take (13) becomes a dead letter, alone, and its lane goes on',
  withLab(
    async (t, { remote, remoteBroker, remoteTap, here, connect }) => {
      const client = await connect()
      await acked(t, client, keyed('first'))
      await here.done(1)
      // While the first request is out the others gather, so that the bad one stands in a batch.
      const held: Buffer[] = []
      remoteTap.answer = ({ bytes }) => {
        if (held.length > 0 || !bytes.includes('msgId')) return bytes
        held.push(bytes)
        return null
      }
      const refused = remoteBroker.faults.refuse(13, { when: ({ body }) => body?.includes('poison') === true }, 'never')
      const link = remoteTap.carrying(Buffer.from('body of first'))
      await acked(t, client, keyed('slow'))
      await until('it is out', () => held.length === 1)
      for (let i = 0; i < 6; i++)
        await acked(
          t,
          client,
          i === 3 ? { ...keyed('bad', { flag: 5 }), body: Buffer.from('poison') } : keyed(`k-${i}`),
        )
      link.say(held[0]!)
      await here.done(8)
      t.is(refused.hits, 2, 'once in the batch and once alone')
      t.deepEqual(keysIn(remote, topic)[0], ['first', 'slow', 'k-0', 'k-1', 'k-2', 'k-4', 'k-5'])
      t.is(here.metric('dead_letter_messages'), 1)
      t.is(here.metric('replicated_messages'), 7)

      const folder = join(here.dataDir, 'brokers', 'source-a', 'remotes', 'default')
      const files = (await readdir(folder)).filter(name => name.startsWith('dead-letters'))
      t.is(files.length, 1)
      const lines = (await readFile(join(folder, files[0]!), 'utf8')).trim().split('\n')
      t.is(lines.length, 1)
      const letter = JSON.parse(lines[0]!)
      t.like(letter, { topic, queueId: 0, queueOffset: 5, flag: 5, sysFlag: 0, reason: 'code 13: never' })
      t.is(Buffer.from(letter.payload, 'base64').toString(), 'poison')
      t.is(Buffer.from(letter.properties, 'base64').toString(), 'KEYS\u0001bad\u0002UNIQ_KEY\u0001U-bad\u0002')
      t.is(here.said(/dead letter/).length, 1)

      // The others go in batches again.
      for (let i = 6; i < 9; i++) await acked(t, client, keyed(`k-${i}`))
      await here.done(11)
      t.deepEqual(keysIn(remote, topic)[0]!.slice(-3), ['k-6', 'k-7', 'k-8'])
    },
    { tapped: true },
  ),
)

test(
  'a remote that forbids a topic (16) makes its lane wait, says so in /readyz and once in the log, and disturbs no other',
  withLab(async (t, { source, remote, remoteBroker, here, connect }) => {
    const client = await connect()
    const fault = remoteBroker.faults.refuse(16, { codes: [310, 320], topic: 'forbidden' }, 'no permission')
    for (let i = 0; i < 5; i++) await acked(t, client, keyed(`no-${i}`, { topic: 'forbidden' }))
    await happened(fault, 4)
    for (let i = 0; i < 5; i++) await acked(t, client, keyed(`yes-${i}`))
    await until('the other topic is replicated', () => countIn(remote, topic) === 5)
    const { status, state } = await here.readyz()
    t.is(status, 200)
    t.deepEqual(state.waitingLanes, [
      { remote: 'default', topic: 'forbidden', queueId: 0, reason: 'the remote refuses: code 16: no permission' },
    ])
    t.is(here.said('lane waits').length, 1)
    t.is(here.metric('waiting_lanes'), 1)
    t.true(here.metric('lag_seconds') > 0)
    t.is(countIn(remote, 'forbidden'), 0)
    fault.stop()
    await here.done(10)
    t.deepEqual(keysIn(remote, 'forbidden'), keysIn(source, 'forbidden'))
    t.deepEqual((await here.readyz()).state.waitingLanes, [])
    t.is(here.said('lane goes on').length, 1)
  }),
)

// All of it

test(
  'acked = replicated + queued + in gap + dead-lettered + skipped + lost holds in every scrape of a busy flow with faults',
  withLab(
    async (t, lab) => {
      const random = seededRandom(t)
      const { source, remote, sourceBroker, remoteBroker, here } = lab
      const producer = new Producer(environment, here.gateway.nameServerAddress, topic, 100)
      const client = await lab.connect()
      const own = { acked: 0, poison: 0, delayed: 0 }
      remoteBroker.faults.refuse(13, { when: ({ body }) => body?.includes('poison') === true })
      let last = { acked: 0, replicated: 0 }
      let scrapes = 0
      const seen = new Set<string>()
      const scrape = () => {
        // What is there at this moment, told by others than the gateway.
        const told = producer.acked.size + own.acked
        const atRemote = countIn(remote, topic)
        const metrics = here.metrics()
        const terms = Object.fromEntries(
          ['replicated_messages', 'queued_messages', 'gap_messages', 'dead_letter_messages'].map(name => [
            name,
            sumOf(metrics, name),
          ]),
        )
        const skipped = sumOf(metrics, 'skipped_messages_total')
        const lost = sumOf(metrics, 'lost_messages_total')
        const total = sumOf(metrics, 'acked_messages_total')
        const sum = Object.values({ ...terms, skipped, lost }).reduce((a, b) => a + b)
        for (const [name, value] of Object.entries({ ...terms, skipped })) if (value > 0) seen.add(name)
        const text = JSON.stringify({ total, ...terms, skipped, lost, told, atRemote })
        if (sum !== total) t.fail(`the sum does not hold: ${text}`)
        if (total < told) t.fail(`more acks were relayed than counted: ${text}`)
        if (total > countIn(source, topic) + own.delayed) t.fail(`more are counted than were stored: ${text}`)
        if (terms.replicated_messages! > atRemote) t.fail(`more are counted as replicated than are there: ${text}`)
        if (total < last.acked || terms.replicated_messages! < last.replicated) t.fail(`a count went down: ${text}`)
        if (lost !== 0) t.fail(`something is lost: ${text}`)
        last = { acked: total, replicated: terms.replicated_messages! }
        scrapes++
      }
      const timer = setInterval(scrape, 20)
      try {
        await producer.connect()
        producer.start(RATE)
        await until('it flows', () => countIn(remote, topic) > 20)
        for (let round = 0; round < 6; round++) {
          own.delayed++
          await acked(t, client, keyed(`delayed-${round}`, { properties: [['DELAY', '18']] }))
          own.acked++
          own.poison++
          await acked(t, client, {
            ...keyed(`bad-${round}`, { queueId: random.integer(0, 3) }),
            body: Buffer.from('poison'),
          })
          own.acked++
          sourceBroker.faults.refuse(2, { ...sends, times: random.integer(1, 5) })
          const scope = { ...sends, after: random.integer(0, 5), times: random.integer(1, 3) }
          const kind = random.pick(['reset-before', 'reset-after', 'busy', 'away', 'slow'] as const)
          t.log(`round ${round}: ${kind}`)
          if (kind === 'reset-before') await happened(remoteBroker.faults.resetBefore(scope))
          if (kind === 'reset-after') await happened(remoteBroker.faults.resetAfter(scope))
          if (kind === 'busy') await happened(remoteBroker.faults.refuse(14, scope))
          if (kind === 'slow') await happened(remoteBroker.faults.slow(random.integer(10, 300), scope))
          if (kind === 'away' || round === 3) {
            await remoteBroker.stop()
            await until('there are gaps', () => here.metric('gap_messages') > 10)
            await remoteBroker.start()
          }
          await more(producer, 20)
        }
        await producer.stop()
        await here.done(producer.acked.size + own.acked)
        scrape()
      } finally {
        clearInterval(timer)
        producer.end()
      }
      t.true(scrapes > 100)
      t.is(producer.failed, 0)
      t.deepEqual([...seen].sort(), [
        'dead_letter_messages',
        'gap_messages',
        'queued_messages',
        'replicated_messages',
        'skipped',
      ])
      t.is(here.metric('acked_messages_total'), producer.acked.size + own.acked)
      t.is(here.metric('replicated_messages'), producer.acked.size)
      t.is(here.metric('dead_letter_messages'), own.poison)
      t.is(here.metric('skipped_messages_total'), own.delayed)
      const atSource = keysIn(source, topic).map(keys => keys.filter(key => !key.startsWith('bad-')))
      t.deepEqual(keysIn(remote, topic), atSource)
    },
    { gateway: ['--bodyMemory=8KiB'] },
  ),
)
