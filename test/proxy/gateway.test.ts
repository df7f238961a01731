// Whole flows through the gateway, between embedded clusters: what passes and how, what is copied to the remote, and what
// is not.

import { randomBytes } from 'node:crypto'
import test, { type ExecutionContext } from 'ava'
import {
  decodeProperties,
  decodeStamp,
  encodeFrame,
  encodeProperties,
  encodeStamp,
  FLAG_RESPONSE,
  Framer,
  findProperty,
  type HeaderType,
  type OriginStamp,
} from '../../codec/index.ts'
import { startEmbeddedCluster } from '../../proxy/demo/embedded-cluster.ts'
import { keyOf } from '../../proxy/demo/proof.ts'
import {
  acked,
  bytesTo,
  countIn,
  GatewayHere,
  type GatewayLab,
  keyed,
  keysIn,
  ownProperties,
  storedIn,
  topic,
  withLab,
} from '../support/gateway-lab.ts'
import { seededRandom } from '../support/random.ts'
import { frameOf, type RawRequest, until } from '../support/raw-client.ts'
import { Tap } from '../support/tap.ts'
import { batchBody, pullRequest, type Send, sendRequest } from './demo/broker-behaviour.ts'

function tapped(run: (t: ExecutionContext, lab: GatewayLab) => Promise<void>, options = {}) {
  return withLab(run, { tapped: true, ...options })
}

/** Identity of the epoch that acks belong to now. */
function epochOf(lab: GatewayLab): string {
  const { epoch, journal } = lab.here.gateway.replay.brokers.get('source-a')!
  return journal.epochIds.get(epoch)!
}

function stampOf(properties: Buffer): OriginStamp | undefined {
  return decodeStamp(findProperty(properties, 'TEE_ORIGIN') ?? '')
}

// What passes

const spellings: [string, number, HeaderType][] = [
  ['version 1 in a JSON header', 10, 0],
  ['version 1 in a binary header', 10, 1],
  ['version 2 in a JSON header', 310, 0],
  ['version 2 in a binary header', 310, 1],
]

for (const [title, code, headerType] of spellings) {
  const message = (): Send => ({
    topic,
    code,
    headerType,
    queueId: 2,
    body: randomBytes(300),
    flag: 77,
    sysFlag: 0x301,
    bornTimestamp: 1_700_000_000_123,
    properties: [
      ['KEYS', 'order-1 order-2'],
      ['UNIQ_KEY', '7F0000010001AAAABBBB000000000001'],
      ['TAGS', 'größe'],
      ['note', '"quoted" \\ and\ttabbed'],
      ['WAIT', 'true'],
    ],
  })

  test(
    `a send in ${title} passes byte for byte, and is at the remote as it was sent, with a stamp`,
    tapped(async (t, lab) => {
      const sent = message()
      const client = await lab.connect()
      const received = bytesTo(client)
      const request = { ...sendRequest(sent), opaque: 4_711 }
      const answer = await client.request(request)
      t.is(answer.code, 0)
      const passed = lab.sourceTap.carrying(sent.body!)
      t.deepEqual(passed.requests, frameOf(request))
      t.deepEqual(received(), passed.answers)
      await lab.here.done(1)
      sentIsStored(t, lab, sent)
    }),
  )

  test(
    `a oneway send in ${title} goes on as a two-way one that is else the same, and is at the remote`,
    tapped(async (t, lab) => {
      const sent = message()
      const client = await lab.connect()
      const received = bytesTo(client)
      const request = { ...sendRequest(sent), opaque: 4_711 }
      client.oneway(request)
      await lab.here.done(1)
      sentIsStored(t, lab, sent)

      const [frame] = [...new Framer().push(lab.sourceTap.carrying(sent.body!).requests)]
      const { head, bytes } = frame!
      t.is(head.flag, 0)
      t.true(head.opaque < 0)
      const likeClient = { ...sendRequest(sent), opaque: head.opaque, flag: 0 }
      t.deepEqual(bytes, frameOf(likeClient))

      // Its answer is not passed on: the next one is the first that the client gets.
      const next = await client.request({ code: 9_999, opaque: 4_712 })
      t.is(next.opaque, 4_712)
      t.deepEqual(
        [...new Framer().push(received())].map(({ head }) => head.opaque),
        [4_712],
      )
    }),
  )

  test(
    `a batch in ${title} passes byte for byte, and each of its members is at the remote as it was sent`,
    tapped(async (t, lab) => {
      const members = [0, 1, 2].map(i => ({
        body: Buffer.from(`member ${i}`),
        flag: i,
        properties: encodeProperties([
          ['KEYS', `key-${i}`],
          ['UNIQ_KEY', `U-${i}`],
          ['colour', 'grün'],
        ]),
      }))
      const client = await lab.connect()
      const received = bytesTo(client)
      const batch = {
        topic,
        batch: true,
        headerType,
        queueId: 1,
        body: batchBody(members),
        bornTimestamp: 1_700_000_000_456,
      }
      const request = { ...sendRequest(code === 310 ? batch : { ...batch, code }), opaque: -3 }
      t.is((await client.request(request)).code, 0)
      const passed = lab.sourceTap.carrying(batch.body)
      t.deepEqual(passed.requests, frameOf(request))
      t.deepEqual(received(), passed.answers)
      await lab.here.done(3)
      const stored = storedIn(lab.remote, topic)[1]!
      t.is(stored.length, 3)
      for (const [i, message] of stored.entries()) {
        t.like(message, { flag: i, sysFlag: 0, bornTimestamp: 1_700_000_000_456 })
        t.deepEqual(message.body, members[i]!.body)
        t.deepEqual(ownProperties(message), { KEYS: `key-${i}`, UNIQ_KEY: `U-${i}`, colour: 'grün' })
        t.like(stampOf(message.properties), { path: ['source'], queueId: 1, queueOffset: i, bind: `U-${i}` })
      }
    }),
  )
}

function sentIsStored(t: ExecutionContext, lab: GatewayLab, sent: Send): void {
  const queues = storedIn(lab.remote, topic)
  t.deepEqual(
    queues.map(messages => messages.length),
    [0, 0, 1, 0],
  )
  const [message] = queues[2]!
  const { flag, sysFlag, bornTimestamp } = sent
  t.like(message, { flag, sysFlag, bornTimestamp } as object)
  t.deepEqual(message!.body, sent.body)
  t.deepEqual(ownProperties(message!), Object.fromEntries(sent.properties!))
  t.deepEqual(stampOf(message!.properties), {
    group: 'default',
    path: ['source'],
    gateway: lab.here.gateway.replay.gatewayId,
    broker: 'source-a',
    epoch: epochOf(lab),
    queueId: 2,
    queueOffset: 0,
    topic: '',
    bornTimestamp: bornTimestamp!,
    bind: '7F0000010001AAAABBBB000000000001',
  })
  t.false(storedIn(lab.source, topic)[2]![0]!.properties.includes('TEE_ORIGIN'), 'the source has no stamp')
}

test(
  'whatever requests come, however they are cut into chunks, every byte passes in both directions and each send is copied',
  tapped(async (t, lab) => {
    const random = seededRandom(t)
    const client = await lab.connect()
    const received = bytesTo(client)
    const marker = randomBytes(16)
    const frames: Buffer[] = []
    const keys: string[] = []
    for (let opaque = 0; opaque < 120; opaque++) {
      const headerType = random.pick([0, 1] as const)
      const requests: (() => RawRequest)[] = [
        () => ({ code: 34, body: Buffer.from('{"clientID":"c","producerDataSet":[{"groupName":"g"}]}') }),
        () => ({ code: random.integer(9_000, 9_999), ext: { x: 'y' }, body: random.bytes(random.integer(0, 400)) }),
        () => pullRequest(topic, 0, 0),
        () => {
          const key = `K${keys.push(`K${keys.length}`) - 1}`
          const body = random.bytes(random.integer(1, random.chance(0.1) ? 200_000 : 2_000))
          return sendRequest(keyed(key, { code: random.pick([10, 310]), body }))
        },
        () => {
          const members = Array.from({ length: random.integer(1, 20) }, () => {
            const key = `K${keys.push(`K${keys.length}`) - 1}`
            return { body: random.bytes(random.integer(0, 300)), properties: encodeProperties([['KEYS', key]]) }
          })
          return sendRequest({ topic, batch: true, body: batchBody(members) })
        },
      ]
      const request = opaque === 0 ? { code: 9_000, body: marker } : random.pick(requests)()
      frames.push(frameOf({ ...request, opaque, headerType }))
    }
    const sent = Buffer.concat(frames)
    for (let at = 0; at < sent.length; ) {
      const end = at + random.integer(1, random.pick([3, 30, 3_000, 100_000]))
      client.socket.write(sent.subarray(at, end))
      at = end
      if (random.chance(0.7)) await new Promise(resolve => setImmediate(resolve))
    }
    const answers = () => [...new Framer().push(received())].length
    await until('every request is answered', () => answers() === frames.length)
    const passed = lab.sourceTap.carrying(marker)
    t.true(passed.requests.equals(sent), 'the source got what the client sent')
    t.true(received().equals(passed.answers), 'the client got what the source answered')
    await lab.here.done(keys.length)
    t.deepEqual(keysIn(lab.source, topic)[0], keys)
    t.deepEqual(keysIn(lab.remote, topic), keysIn(lab.source, topic))
  }),
)

test(
  'requests that a broker sends to its client pass, and so do the answers, also under the opaque of a send that is out',
  tapped(async (t, lab) => {
    const client = await lab.connect()
    const received = bytesTo(client)
    const held: Buffer[] = []
    lab.sourceTap.answer = ({ bytes, head }) => {
      if (head.opaque !== 7) return bytes
      held.push(bytes)
      return null
    }
    const body = Buffer.from('held')
    const request = { ...sendRequest(keyed('held', { body })), opaque: 7 }
    const answer = client.request(request)
    await until('the source has stored it', () => held.length === 1)
    const session = lab.sourceTap.carrying(body)
    for (const [code, headerType] of [
      [307, 0],
      [39, 1],
      [12_345, 1],
    ] as const) {
      const asked = encodeFrame(
        { code, opaque: 7, ext: [['consumerGroup', 'g']] },
        Buffer.from(`ask ${code}`),
        headerType,
      )
      session.say(asked)
      await until('the client is asked', () => client.others.some(other => other.code === code && other.opaque === 7))
      const answered = encodeFrame({ code: 0, opaque: 7, flag: FLAG_RESPONSE, ext: [] }, Buffer.from(`told ${code}`))
      client.socket.write(answered)
      await until('the source is told', () => session.requests.subarray(-answered.length).equals(answered))
    }
    t.is(lab.here.metric('acked_messages_total'), 0)
    session.say(held[0]!)
    t.is((await answer).code, 0)
    t.deepEqual(received(), session.answers)
    await lab.here.done(1)
    t.deepEqual(keysIn(lab.remote, topic)[0], ['held'])
  }),
)

for (const [what, second] of [
  ['another send', () => sendRequest(keyed('second'))],
  ['any other request', () => ({ code: 34, body: Buffer.from('{"clientID":"c"}') })],
] as [string, () => RawRequest][])
  test(
    `${what} under the opaque of a send that is out ends its connection, for answers could not be told apart, and no other`,
    withLab(async (t, lab) => {
      const { here, sourceBroker, remote } = lab
      const client = await lab.connect()
      const other = await lab.connect()
      // One after the other is no matter.
      for (const key of ['a', 'b']) t.is((await client.request({ ...sendRequest(keyed(key)), opaque: 9 })).code, 0)
      sourceBroker.faults.slow(300, { when: ({ body }) => body?.includes('first') === true })
      client.socket.write(frameOf({ ...sendRequest(keyed('first')), opaque: 9 }))
      await until('the first is stored', () => countIn(lab.source, topic) === 3)
      client.socket.write(frameOf({ ...second(), opaque: 9 }))
      await client.closed
      t.is(here.metrics().get('malformed_frames_total{reason="opaque"}'), 1)
      t.is(countIn(lab.source, topic), 3, 'the second did not reach the source')
      await acked(t, other, keyed('other'))
      // The first is looked for, and found.
      await here.done(4)
      t.deepEqual(keysIn(remote, topic)[0], ['a', 'b', 'first', 'other'])
      t.is(here.metric('unresolved_messages_total'), 0)
    }),
  )

// What is not copied

test(
  'delayed, timed, transactional and reply messages are at the source and not at the remote, counted, and said once a kind',
  withLab(async (t, lab) => {
    const client = await lab.connect()
    const kinds: [string, number, [string, string][], number?][] = [
      ['delayed', 4, [['DELAY', '3']]],
      ['delayed', 0, [['TIMER_DELAY_SEC', '60']]],
      ['delayed', 0, [['TIMER_DELAY_MS', '60000']]],
      ['delayed', 0, [['TIMER_DELIVER_MS', String(Date.now() + 60_000)]]],
      [
        'transaction',
        0,
        [
          ['TRAN_MSG', 'true'],
          ['PGROUP', 'g'],
        ],
        4,
      ],
      [
        'transaction',
        0,
        [
          ['TRAN_MSG', 'true'],
          ['PGROUP', 'g'],
        ],
      ],
      ['reply', 0, [['REPLY_TO_CLIENT', 'client@1']]],
    ]
    const before = lab.sourceBroker.store.messages
    for (const [i, [kind, , properties, sysFlag = 0]] of kinds.entries())
      await acked(t, client, keyed(`${kind}-${i}`, { properties, sysFlag }))
    const replies = [1, 2].map(i => ({
      body: Buffer.from(`reply ${i}`),
      properties: encodeProperties([['REPLY_TO_CLIENT', `client@${i}`]]),
    }))
    const plain = { body: Buffer.from('plain'), properties: encodeProperties([['KEYS', 'in-batch']]) }
    await acked(t, client, { topic, batch: true, body: batchBody([replies[0]!, plain, replies[1]!]) })
    // A delay of 0 is none.
    await acked(t, client, keyed('no-delay', { properties: [['DELAY', '0']] }))
    t.is(lab.sourceBroker.store.messages - before, kinds.length + 4)

    await lab.here.done(kinds.length + 4)
    t.deepEqual(keysIn(lab.remote, topic), [['in-batch', 'no-delay'], [], [], []])
    const metrics = lab.here.metrics()
    const skipped = (reason: string) => metrics.get(`skipped_messages_total{remote="default",reason="${reason}"}`)
    t.is(skipped('delayed'), 4)
    t.is(skipped('transaction'), 2)
    t.is(skipped('reply'), 3)
    t.is(metrics.get('replicated_messages{remote="default"}'), 2)
    t.deepEqual(
      lab.here.said(/are not replicated/).map(({ reason }) => reason),
      ['delayed', 'transaction', 'reply'],
    )
  }),
)

test(
  'a delayed message that its source delivers stays there',
  withLab(async (t, lab) => {
    const client = await lab.connect()
    await acked(t, client, keyed('delayed', { properties: [['DELAY', '1']] }))
    await acked(t, client, keyed('before'))
    await until('it is delivered', () => countIn(lab.source, topic) === 2)
    await acked(t, client, keyed('after'))
    await lab.here.done(3)
    t.deepEqual(keysIn(lab.source, topic)[0], ['before', 'delayed', 'after'])
    t.deepEqual(keysIn(lab.remote, topic)[0], ['before', 'after'])
  }),
)

test(
  "RocketMQ's own topics and those that are excluded are not copied, and not counted",
  withLab(
    async (t, lab) => {
      const client = await lab.connect()
      const left = [
        '%RETRY%group',
        '%DLQ%group',
        '%LMQ%queue',
        'RMQ_SYS_TRACE_TOPIC',
        'rmq_sys_wheel_timer',
        'BenchmarkTest',
        'TEE_MARKER',
        'TBW102',
        'source',
        'source-a',
        'source_REPLY_TOPIC',
        'private-orders',
        'unchosen',
      ]
      for (const name of left) {
        await acked(t, client, keyed(`in ${name}`, { topic: name }))
        client.oneway(sendRequest(keyed(`oneway in ${name}`, { topic: name })))
      }
      await acked(t, client, keyed('chosen', { topic: 'public-orders' }))
      await acked(t, client, keyed('chosen', { topic: 'private-but-public' }))
      await lab.here.done(2)
      t.is(lab.here.metric('acked_messages_total'), 2)
      for (const name of left) {
        await until(`both are in ${name}`, () => countIn(lab.source, name) === 2)
        t.is(countIn(lab.remote, name), 0, name)
      }
      t.is(countIn(lab.remote, 'public-orders'), 1)
      t.is(countIn(lab.remote, 'private-but-public'), 1)
    },
    { gateway: ['--topics=*,private-but-*', '--topicsExclude=private-*,unchosen'] },
  ),
)

// Round and round

test(
  'a stamp that a message brings and that fits it gets its path extended; one that says it was at the remote stops it',
  withLab(async (t, lab) => {
    const client = await lab.connect()
    const stamped = (key: string, path: string[], bind = `U-${key}`) => {
      const stamp = { ...otherStamp, path, bind }
      return keyed(key, {
        properties: [
          ['TEE_ORIGIN', encodeStamp(stamp)],
          ['colour', 'red'],
        ],
      })
    }
    // The first makes the remote's name known.
    await acked(t, client, keyed('plain'))
    await lab.here.done(1)
    await acked(t, client, stamped('from-afar', ['north', 'east']))
    await acked(t, client, stamped('been-here', ['north', 'source']))
    await acked(t, client, stamped('been-there', ['remote', 'north']))
    await acked(t, client, stamped('copied', ['remote', 'north'], 'U-of-another'))
    await acked(t, client, keyed('connector', { properties: [['REPLICATOR-BORN-SOURCE', 'remote']] }))
    await lab.here.done(6)
    const stored = storedIn(lab.remote, topic)[0]!
    const paths = stored.map(({ properties }) => [
      findProperty(properties, 'KEYS'),
      stampOf(properties)!.path.join(','),
      findProperty(properties, 'colour'),
    ])
    t.deepEqual(paths, [
      ['plain', 'source', undefined],
      ['from-afar', 'north,east,source', 'red'],
      ['been-here', 'north,source', 'red'],
      ['copied', 'source', 'red'],
    ])
    for (const { properties } of stored) {
      const { gateway, broker, bind } = stampOf(properties)!
      t.is(gateway, lab.here.gateway.replay.gatewayId)
      t.is(broker, 'source-a')
      t.is(decodeProperties(properties).get('UNIQ_KEY'), bind)
      t.is(properties.toString().split('TEE_ORIGIN').length, 2, 'there is one stamp')
    }
    t.is(lab.here.metrics().get('skipped_messages_total{remote="default",reason="loop"}'), 2)
  }),
)

const otherStamp = {
  group: 'default',
  gateway: 'aaaaaaaaaaaa',
  broker: 'north-a',
  epoch: 'e',
  queueId: 3,
  queueOffset: 99,
  topic: '',
  bornTimestamp: 1_700_000_000_000,
}

for (const [what, first] of [
  ['the first', 'east'],
  ['the second', 'west'],
] as const)
  test(`two gateways mirror two clusters both ways, ${what} sent to first: each message is in each cluster once`, async t => {
    const east = await startEmbeddedCluster({ name: 'east' })
    t.teardown(() => east.stop())
    const west = await startEmbeddedCluster({ name: 'west' })
    t.teardown(() => west.stop())
    // What the first gateway takes for its remote is the second, which starts later.
    let second: GatewayHere | undefined
    const tap = await Tap.start(() => second?.gateway.nameServerAddress ?? '127.0.0.1:1')
    t.teardown(() => tap.stop())
    const toWest = await GatewayHere.start(east.nameServer, tap.address)
    t.teardown(() => toWest.end())
    const toEast = await GatewayHere.start(west.nameServer, toWest.gateway.nameServerAddress)
    second = toEast
    t.teardown(() => toEast.end())

    const sides = { east: toWest, west: toEast }
    const others = { east: toEast, west: toWest }
    const keys: string[] = []
    for (const side of first === 'east' ? (['east', 'west', 'east'] as const) : (['west', 'east', 'west'] as const)) {
      const client = await sides[side].connect()
      t.teardown(() => client.close())
      for (let i = 0; i < 20; i++) {
        const key = `${side}-${keys.length}`
        keys.push(key)
        await acked(t, client, keyed(key, { queueId: i % 4 }))
      }
      const members = [0, 1, 2].map(i => ({
        body: Buffer.from(`${side} ${keys.length} ${i}`),
        properties: encodeProperties([['KEYS', `${side}-${keys.length + i}`]]),
      }))
      keys.push(...members.map(({ properties }) => findProperty(properties, 'KEYS')!))
      await acked(t, client, { topic, batch: true, body: batchBody(members) })
      // Acked by the one because its client sent it, by the other because the one did.
      await sides[side].done(keys.length)
      await others[side].done(keys.length)
    }
    // An application at the east answers with a copy of the properties that it got, stamp included.
    const got = storedIn(east, topic)
      .flat()
      .find(message => keyOf(message).startsWith('west'))
    const stamp = findProperty(got!.properties, 'TEE_ORIGIN')!
    t.deepEqual(decodeStamp(stamp)!.path, ['west'])
    const client = await toWest.connect()
    t.teardown(() => client.close())
    keys.push('copied', 'copied-without-a-key')
    await acked(t, client, keyed('copied', { properties: [['TEE_ORIGIN', stamp]] }))
    await acked(t, client, {
      topic,
      properties: [
        ['KEYS', 'copied-without-a-key'],
        ['TEE_ORIGIN', stamp],
      ],
    })
    await toWest.done(keys.length)
    await toEast.done(keys.length)

    for (const cluster of [east, west])
      t.deepEqual(keysIn(cluster, topic).flat().sort(), [...keys].sort(), cluster.name)
    for (const gateway of [toWest, toEast]) {
      t.is(gateway.metric('acked_messages_total'), keys.length)
      t.is(gateway.metric('replicated_messages') + gateway.metric('skipped_messages_total'), keys.length)
    }
  })
