// What a broker and a name server do, as a list that is run against the embedded cluster and against a real broker
// 5.3.3: so what tests see of the one is what the other does.
//
// Each behaviour makes topics and groups of its own, so that they can share a cluster, also at the same time.

import { randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import type { ExecutionContext } from 'ava'
import {
  commitLogOffsetsOf,
  decodeProperties,
  decodeStoredMessages,
  type ExtValue,
  encodeMember,
  encodeProperties,
  type HeaderType,
  hostBytes,
  memberBytes,
  readRoute,
  type StoredMessage,
} from '../../../codec/index.ts'
import type { Cluster } from '../../../proxy/demo/cluster.ts'
import { encodeInJavaOrder } from '../../../proxy/demo/embedded-store.ts'
import { type RawAnswer, RawClient, type RawRequest, until } from '../../support/raw-client.ts'

/** A cluster, and connections to its first broker and to its name server. */
export interface Lab {
  cluster: Cluster
  broker: RawClient
  names: RawClient
}

export interface Behaviour {
  title: string
  run(t: ExecutionContext, lab: Lab): Promise<void>
}

/** Runs a behaviour with connections of its own, and leaves none behind. */
export async function runBehaviour(t: ExecutionContext, cluster: Cluster, behaviour: Behaviour): Promise<void> {
  const broker = await RawClient.connect(cluster.brokers[0]!.address)
  const names = await RawClient.connect(cluster.nameServer)
  try {
    await behaviour.run(t, { cluster, broker, names })
  } finally {
    await broker.close()
    await names.close()
  }
}

const JSON_HEADER: HeaderType = 0
const BINARY_HEADER: HeaderType = 1

export interface Send {
  topic: string
  body?: Buffer | undefined
  properties?: [string, string][]
  queueId?: number
  sysFlag?: number
  flag?: number
  bornTimestamp?: number
  defaultTopic?: string
  queues?: number
  batch?: boolean
  headerType?: HeaderType
  /** 10, 310 (the default) or 320. */
  code?: number
}

const NOTHING = Buffer.alloc(0)

export function sendRequest(send: Send): RawRequest {
  const { topic, body = Buffer.from('body'), queueId = 0, sysFlag = 0, flag = 0, batch = false } = send
  const code = send.code ?? (batch ? 320 : 310)
  const values: [v1: string, v2: string, value: ExtValue][] = [
    ['producerGroup', 'a', 'behaviour'],
    ['topic', 'b', topic],
    ['defaultTopic', 'c', send.defaultTopic ?? 'TBW102'],
    ['defaultTopicQueueNums', 'd', send.queues ?? 4],
    ['queueId', 'e', queueId],
    ['sysFlag', 'f', sysFlag],
    ['bornTimestamp', 'g', send.bornTimestamp ?? Date.now()],
    ['flag', 'h', flag],
    ['properties', 'i', encodeProperties(send.properties ?? [])],
    ['reconsumeTimes', 'j', 0],
    ['unitMode', 'k', false],
    ['batch', 'm', batch],
  ]
  const ext = Object.fromEntries(values.map(([v1, v2, value]) => [code === 10 ? v1 : v2, value]))
  return { code, ext, body, headerType: send.headerType }
}

/** Sends, again as long as the broker is busy: it then has not stored it (code 2, BrokerFastFailure). */
export function send(lab: Lab, message: Send): Promise<RawAnswer> {
  return request(lab.broker, sendRequest(message))
}

function request(client: RawClient, what: RawRequest): Promise<RawAnswer> {
  return until('a broker that is not busy', async () => {
    const answer = await client.request(what)
    return answer.code !== 2 && answer
  })
}

export async function sendOk(t: ExecutionContext, lab: Lab, message: Send): Promise<RawAnswer> {
  const answer = await send(lab, message)
  t.is(answer.code, 0, answer.remark)
  return answer
}

export function batchBody(members: { body: Buffer; properties: Buffer; flag?: number }[]): Buffer {
  let bytes = 0
  for (const { body, properties } of members) bytes += memberBytes(body.length, properties.length)
  const out = Buffer.alloc(bytes)
  let at = 0
  for (const { body, properties, flag = 0 } of members)
    at = encodeMember(out, at, flag, [body], body.length, properties)
  return out
}

export function pullRequest(
  topic: string,
  queueId: number,
  queueOffset: number,
  rest: Record<string, ExtValue> = {},
): RawRequest {
  const ext = {
    consumerGroup: 'TOOLS_CONSUMER',
    topic,
    queueId,
    queueOffset,
    maxMsgNums: 32,
    sysFlag: 4,
    commitOffset: 0,
    suspendTimeoutMillis: 0,
    subscription: '*',
    subVersion: 0,
    expressionType: 'TAG',
    ...rest,
  }
  return { code: 11, ext }
}

/** All of a queue from this offset on, once `count` messages can be pulled. */
export function pulled(lab: Lab, topic: string, queueId: number, count: number, from = 0): Promise<StoredMessage[]> {
  return until(`${count} messages in ${topic}/${queueId}`, async () => {
    const messages: StoredMessage[] = []
    for (let offset = from; ; ) {
      const answer = await lab.broker.request(pullRequest(topic, queueId, offset))
      if (answer.code !== 0) break
      messages.push(...decodeStoredMessages(answer.body))
      offset = Number(answer.ext.get('nextBeginOffset'))
    }
    return messages.length >= count && messages
  })
}

export async function viewed(lab: Lab, logOffset: number): Promise<StoredMessage> {
  const answer = await lab.broker.request({ code: 33, ext: { offset: logOffset } })
  return decodeStoredMessages(answer.body)[0]!
}

function offset(lab: Lab, code: number, topic: string, queueId: number, rest: Record<string, ExtValue> = {}) {
  return lab.broker.request({ code, ext: { topic, queueId, ...rest } })
}

async function offsetIs(lab: Lab, code: number, topic: string, queueId: number, wanted: number): Promise<void> {
  await until(`offset ${wanted} of ${topic}/${queueId}`, async () => {
    return (await offset(lab, code, topic, queueId)).ext.get('offset') === String(wanted)
  })
}

export function logOffsetOf(answer: RawAnswer): number {
  return commitLogOffsetsOf(answer.ext.get('msgId') ?? '')[0]!
}

/** What a topic is to be, as UPDATE_AND_CREATE_TOPIC (17) takes it. */
export function topicSettings(topic: string, queues: number, more: Record<string, ExtValue> = {}) {
  return {
    topic,
    defaultTopic: 'TBW102',
    readQueueNums: queues,
    writeQueueNums: queues,
    perm: 6,
    topicFilterType: 'SINGLE_TAG',
    topicSysFlag: 0,
    order: false,
    ...more,
  }
}

export function newName(prefix: string): string {
  return `${prefix}-${randomBytes(6).toString('hex')}`
}

export function routeOf(lab: Lab, topic: string, rest: Partial<RawRequest> = {}): Promise<RawAnswer> {
  return lab.names.request({ code: 105, ext: { topic }, ...rest })
}

/** The names in an answer's extFields, sorted. */
function names(answer: RawAnswer): string[] {
  return [...answer.ext.keys()].sort()
}

const STORED_NAMES = ['MSG_REGION', 'TRACE_ON', 'msgId', 'queueId', 'queueOffset', 'transactionId']
const REFUSED_NAMES = ['MSG_REGION', 'TRACE_ON']

const spellings: { title: string; code: number; headerType: HeaderType }[] = [
  { title: 'version 1 in a JSON header', code: 10, headerType: JSON_HEADER },
  { title: 'version 1 in a binary header', code: 10, headerType: BINARY_HEADER },
  { title: 'version 2 in a JSON header', code: 310, headerType: JSON_HEADER },
  { title: 'version 2 in a binary header', code: 310, headerType: BINARY_HEADER },
]

const singles = spellings.map(({ title, code, headerType }): Behaviour => {
  return {
    title: `a send in ${title} is stored with what the broker adds, and pulled back byte for byte`,
    async run(t, lab) {
      const topic = newName('single')
      const body = randomBytes(300)
      const bornTimestamp = 1_700_000_000_123
      const own: [string, string][] = [
        ['KEYS', 'order-1 order-2'],
        ['UNIQ_KEY', '7F0000010001AAAABBBB000000000001'],
        ['TAGS', 'größe'],
        ['WAIT', 'true'],
      ]
      const message = { topic, body, properties: own, queueId: 2, flag: 77, bornTimestamp, sysFlag: 0x301 }
      const answer = await sendOk(t, lab, { ...message, code, headerType })
      t.is(answer.headerType, JSON_HEADER)
      t.is(answer.remark, undefined)
      t.deepEqual(names(answer), STORED_NAMES)
      t.is(answer.ext.get('queueId'), '2')
      t.is(answer.ext.get('queueOffset'), '0')
      t.is(answer.ext.get('transactionId'), own[1]![1])
      t.is(answer.ext.get('MSG_REGION'), 'DefaultRegion')
      t.is(answer.ext.get('TRACE_ON'), 'true')

      const [stored] = await pulled(lab, topic, 2, 1)
      const added = new Map([...own, ['MSG_REGION', 'DefaultRegion'], ['TRACE_ON', 'true']] as [string, string][])
      added.set('CLUSTER', lab.cluster.name)
      t.deepEqual(stored!.properties, encodeInJavaOrder(added))
      t.deepEqual(stored!.body, body)
      t.like(stored, {
        topic,
        queueId: 2,
        queueOffset: 0,
        sysFlag: 0x301,
        flag: 77,
        bornTimestamp,
        preparedTransactionOffset: 0,
        commitLogOffset: logOffsetOf(answer),
      })

      const { body: bytes } = await lab.broker.request(pullRequest(topic, 2, 0))
      const [host, port] = lab.cluster.brokers[0]!.address.split(':') as [string, string]
      t.is(bytes.readUInt32BE(4), 0xdaa320a7)
      t.is(bytes.readInt32BE(8), crc32(body) & 0x7fffffff)
      t.is(bytes.readInt32BE(52), lab.broker.port, 'the port of bornHost is ours')
      t.is([...bytes.subarray(64, 68)].join('.'), host)
      t.is(bytes.readInt32BE(68), Number(port))
      const id = bytes.subarray(64, 72).toString('hex').toUpperCase()
      t.true(answer.ext.get('msgId')!.startsWith(id), 'msgId begins with storeHost')
    },
  }
})

const sends: Behaviour[] = [
  {
    title: 'a send without UNIQ_KEY is given one, which the answer calls transactionId',
    async run(t, lab) {
      const topic = newName('no-key')
      const answer = await sendOk(t, lab, { topic })
      const [stored] = await pulled(lab, topic, 0, 1)
      const uniqKey = decodeProperties(stored!.properties).get('UNIQ_KEY')!
      // Longer where the broker's machine has an IPv6 address.
      t.regex(uniqKey, /^([0-9A-F]{32}|[0-9A-F]{56})$/)
      t.is(answer.ext.get('transactionId'), uniqKey)
    },
  },
  {
    title: 'a property that is there twice or has no value is stored as its last value, or not at all',
    async run(t, lab) {
      const topic = newName('twice')
      const properties: [string, string][] = [
        ['UNIQ_KEY', 'A'],
        ['x', 'first'],
        ['empty', ''],
        ['POP_CK', 'gone'],
        ['x', 'last'],
      ]
      await sendOk(t, lab, { topic, properties })
      const [stored] = await pulled(lab, topic, 0, 1)
      const expected = new Map([
        ['UNIQ_KEY', 'A'],
        ['x', 'last'],
        ['MSG_REGION', 'DefaultRegion'],
        ['TRACE_ON', 'true'],
        ['CLUSTER', lab.cluster.name],
      ])
      t.deepEqual(stored!.properties, encodeInJavaOrder(expected))
    },
  },
  {
    title: 'a topic may have 127 characters and no more, a retry topic too',
    async run(t, lab) {
      const topic = newName('x'.repeat(114))
      t.is(topic.length, 127)
      await sendOk(t, lab, { topic })
      t.is((await pulled(lab, topic, 0, 1))[0]!.topic, topic)
      for (const long of [`${topic}x`, `%RETRY%${topic}`]) t.is((await send(lab, { topic: long })).code, 29)
    },
  },
  {
    title:
      'a batch whose header has no properties keeps what its members bring, with the region, trace and cluster behind it',
    async run(t, lab) {
      const topic = newName('batch')
      const members = [0, 1, 2].map(i => ({
        body: Buffer.from(`body ${i}`),
        flag: i,
        properties: encodeProperties([
          ['UNIQ_KEY', `KEY-${i}`],
          ['TAGS', `tag-${i}`],
        ]),
      }))
      // The last of them without the separator behind its last property.
      members[2]!.properties = members[2]!.properties.subarray(0, -1)
      const bornTimestamp = 1_700_000_000_456
      const answer = await sendOk(t, lab, { topic, batch: true, queueId: 1, body: batchBody(members), bornTimestamp })
      t.deepEqual(names(answer), STORED_NAMES.slice(0, -1), 'no transactionId without an outer UNIQ_KEY')
      t.is(answer.ext.get('queueOffset'), '0')
      const offsets = commitLogOffsetsOf(answer.ext.get('msgId')!)
      const stored = await pulled(lab, topic, 1, 3)
      t.deepEqual(
        stored.map(message => message.commitLogOffset),
        offsets,
      )
      const appended = encodeInJavaOrder(
        new Map([
          ['MSG_REGION', 'DefaultRegion'],
          ['TRACE_ON', 'true'],
          ['CLUSTER', lab.cluster.name],
        ]),
      )
      for (const [i, message] of stored.entries()) {
        t.deepEqual(message.body, members[i]!.body)
        t.like(message, { flag: i, queueOffset: i, queueId: 1, bornTimestamp })
        const own = i === 2 ? Buffer.concat([members[i]!.properties, Buffer.from([2])]) : members[i]!.properties
        t.deepEqual(message.properties, Buffer.concat([own, appended]))
      }
    },
  },
  {
    title: 'a batch whose header has properties appends them to those of each member, whose own UNIQ_KEY stands first',
    async run(t, lab) {
      const topic = newName('batch-outer')
      const members = [0, 1].map(i => ({
        body: Buffer.from(`body ${i}`),
        properties: encodeProperties([
          ['UNIQ_KEY', `KEY-${i}`],
          ['KEYS', `k${i}`],
        ]),
      }))
      const properties: [string, string][] = [
        ['UNIQ_KEY', 'OUTER'],
        ['WAIT', 'true'],
      ]
      const answer = await sendOk(t, lab, { topic, batch: true, properties, body: batchBody(members) })
      t.is(answer.ext.get('transactionId'), 'OUTER')
      const outer = new Map([...properties, ['MSG_REGION', 'DefaultRegion'], ['TRACE_ON', 'true']] as [
        string,
        string,
      ][])
      outer.set('CLUSTER', lab.cluster.name)
      for (const [i, message] of (await pulled(lab, topic, 0, 2)).entries()) {
        t.deepEqual(message.properties, Buffer.concat([members[i]!.properties, encodeInJavaOrder(outer)]))
        const text = message.properties.toString()
        t.true(text.indexOf(`UNIQ_KEY\u0001KEY-${i}`) < text.indexOf('UNIQ_KEY\u0001OUTER'))
        t.is(decodeProperties(message.properties).get('UNIQ_KEY'), 'OUTER', 'and the last counts')
      }
    },
  },
  {
    title: 'the field batch makes a batch, not the code',
    async run(t, lab) {
      const topic = newName('batch-field')
      const body = batchBody([
        { body: Buffer.from('one'), properties: NOTHING },
        { body: Buffer.from('two'), properties: NOTHING },
      ])
      await sendOk(t, lab, { topic, code: 310, batch: true, body })
      await sendOk(t, lab, { topic, code: 320, batch: false, body })
      const stored = await pulled(lab, topic, 0, 3)
      t.deepEqual(
        stored.map(message => message.body),
        [Buffer.from('one'), Buffer.from('two'), body],
      )
    },
  },
  {
    title: 'a delay inside a batch is stored and not honoured; one in its header is refused',
    async run(t, lab) {
      const topic = newName('batch-delay')
      const body = batchBody([{ body: Buffer.from('now'), properties: encodeProperties([['DELAY', '5']]) }])
      await sendOk(t, lab, { topic, batch: true, body })
      const [stored] = await pulled(lab, topic, 0, 1)
      t.is(decodeProperties(stored!.properties).get('DELAY'), '5')
      const refused = await send(lab, { topic, batch: true, body, properties: [['DELAY', '5']] })
      t.is(refused.code, 13)
      t.is((await send(lab, { topic, batch: true, body, sysFlag: 4 })).code, 13)
    },
  },
  {
    title:
      'a queue below 0 is chosen by the broker, and the topic is made with the queues asked for, at most those of TBW102',
    async run(t, lab) {
      const topic = newName('chosen')
      const answer = await sendOk(t, lab, { topic, queueId: -1, queues: 3 })
      const queueId = Number(answer.ext.get('queueId'))
      t.true(queueId >= 0 && queueId < 3)
      t.is((await pulled(lab, topic, queueId, 1)).length, 1)
      const wide = newName('wide')
      const { writeQueues } = readRoute((await routeOf(lab, 'TBW102')).body).queues[0]!
      await sendOk(t, lab, { topic: wide, queues: 50, queueId: writeQueues - 1 })
      const route = await until('the route', async () => {
        const { code, body } = await routeOf(lab, wide)
        return code === 0 && readRoute(body)
      })
      t.like(route.queues[0], { readQueues: writeQueues, writeQueues, perm: 6 })
    },
  },
  {
    title: 'what is wrong with a send is said by its code: 29, 17, 13 and 16, with two extFields',
    async run(t, lab) {
      const topic = newName('wrong')
      await sendOk(t, lab, { topic })
      const wrong: [number, Send][] = [
        [29, { topic, queueId: 4 }],
        [29, { topic: 'with space' }],
        [29, { topic: 't'.repeat(128) }],
        [17, { topic: newName('unmade'), defaultTopic: 'NO_TEMPLATE' }],
        [16, { topic: 'SCHEDULE_TOPIC_XXXX' }],
        [16, { topic: 'RMQ_SYS_TRANS_HALF_TOPIC' }],
        [13, { topic, properties: [['long', 'x'.repeat(32_767)]] }],
        [13, { topic, properties: [['long', 'x'.repeat(32_700)]] }],
        [13, { topic, body: Buffer.alloc(4_194_305) }],
        [13, { topic, properties: [['INNER_NUM', '2']] }],
        [13, { topic, sysFlag: 0xc0 }],
      ]
      for (const [code, message] of wrong) {
        const answer = await send(lab, message)
        t.is(answer.code, code, `${JSON.stringify(message).slice(0, 80)}: ${answer.remark}`)
        t.deepEqual(names(answer), REFUSED_NAMES)
      }
      t.is((await sendOk(t, lab, { topic, body: Buffer.alloc(4_194_304) })).ext.get('queueOffset'), '1')
    },
  },
  {
    title:
      'a send without a body, with a delay that is no number, and a batch too long or cut are answered 1 without extFields',
    async run(t, lab) {
      const topic = newName('exception')
      await sendOk(t, lab, { topic })
      const long = batchBody([{ body: Buffer.alloc(4_194_304 - 21), properties: NOTHING }])
      const fits = batchBody([{ body: Buffer.alloc(4_194_304 - 22), properties: NOTHING }])
      const wrong: Send[] = [
        { topic, body: NOTHING },
        { topic, batch: true, body: long },
        { topic, properties: [['DELAY', 'soon']] },
      ]
      for (const message of wrong) {
        const answer = await send(lab, message)
        t.is(answer.code, 1, answer.remark)
        t.deepEqual(names(answer), [])
      }
      t.is((await send(lab, { topic, batch: true, body: Buffer.from('no batch, but long enough for one') })).code, 1)
      await sendOk(t, lab, { topic, batch: true, body: fits })
      t.is((await pulled(lab, topic, 0, 2)).length, 2)
    },
  },
  {
    title: 'a oneway send is stored and not answered; without the flag the same is answered',
    async run(t, lab) {
      const topic = newName('oneway')
      lab.broker.oneway(sendRequest({ topic, body: Buffer.from('one way') }))
      lab.broker.oneway(sendRequest({ topic: newName('unmade'), defaultTopic: 'NO_TEMPLATE' }))
      const [stored] = await pulled(lab, topic, 0, 1)
      t.deepEqual(stored!.body, Buffer.from('one way'))
      t.is((await sendOk(t, lab, { topic, body: Buffer.from('two way') })).ext.get('queueOffset'), '1')
      t.deepEqual(lab.broker.others, [])
    },
  },
  {
    title: 'a queue numbers its messages without a gap, whoever sends them',
    async run(t, lab) {
      const topic = newName('dense')
      await sendOk(t, lab, { topic, body: Buffer.from('first'), queueId: 0 })
      const clients = await Promise.all([0, 1, 2].map(() => RawClient.connect(lab.cluster.brokers[0]!.address)))
      const answers = await Promise.all(
        clients.flatMap(client =>
          Array.from({ length: 40 }, (_, i) => request(client, sendRequest({ topic, queueId: i % 2 }))),
        ),
      )
      for (const client of clients) await client.close()
      for (const queueId of [0, 1]) {
        const got = answers.filter(answer => answer.ext.get('queueId') === String(queueId))
        const first = queueId === 0 ? 1 : 0
        const offsets = got.map(answer => Number(answer.ext.get('queueOffset'))).sort((a, b) => a - b)
        t.deepEqual(
          offsets,
          Array.from({ length: 60 }, (_, i) => first + i),
        )
        const stored = await pulled(lab, topic, queueId, 60 + first)
        t.deepEqual(
          stored.map(message => message.queueOffset),
          Array.from({ length: 60 + first }, (_, i) => i),
        )
      }
    },
  },
]

const reads: Behaviour[] = [
  {
    title: 'a pull at the end is answered 19, behind it and before the beginning 21 with where to go on',
    async run(t, lab) {
      const topic = newName('pull')
      await sendOk(t, lab, { topic, queueId: 1 })
      await sendOk(t, lab, { topic, queueId: 1 })
      await pulled(lab, topic, 1, 2)
      const expected: [queueId: number, offset: number, code: number, next: number, remark: string][] = [
        [1, 2, 19, 2, 'OFFSET_OVERFLOW_ONE'],
        [1, 3, 21, 2, 'OFFSET_OVERFLOW_BADLY'],
        [1, -1, 21, 0, 'OFFSET_TOO_SMALL'],
        [0, 0, 19, 0, 'NO_MESSAGE_IN_QUEUE'],
        [0, 5, 21, 0, 'NO_MESSAGE_IN_QUEUE'],
      ]
      for (const [queueId, from, code, next, remark] of expected) {
        const answer = await lab.broker.request(pullRequest(topic, queueId, from))
        t.is(answer.code, code, remark)
        t.is(answer.remark, remark)
        t.is(answer.body.length, 0)
        const max = queueId === 1 ? '2' : '0'
        t.deepEqual(Object.fromEntries(answer.ext), {
          nextBeginOffset: String(next),
          minOffset: '0',
          maxOffset: max,
          suggestWhichBrokerId: '0',
          topicSysFlag: '0',
          groupSysFlag: '0',
        })
      }
      const answer = await lab.broker.request(pullRequest(topic, 1, 0, { maxMsgNums: 1 }))
      t.is(answer.remark, 'FOUND')
      t.is(answer.ext.get('nextBeginOffset'), '1')
      t.is(decodeStoredMessages(answer.body).length, 1)
    },
  },
  {
    title: 'a pull brings at most 32 messages and 256 KiB',
    async run(t, lab) {
      const topic = newName('pull-max')
      const small = Array.from({ length: 40 }, () => ({ body: Buffer.from('x'), properties: NOTHING }))
      await sendOk(t, lab, { topic, batch: true, body: batchBody(small) })
      for (let i = 0; i < 4; i++) await sendOk(t, lab, { topic, queueId: 1, body: Buffer.alloc(100_000) })
      await pulled(lab, topic, 0, 40)
      await pulled(lab, topic, 1, 4)
      const many = await lab.broker.request(pullRequest(topic, 0, 0, { maxMsgNums: 100 }))
      t.is(decodeStoredMessages(many.body).length, 32)
      t.is(many.ext.get('nextBeginOffset'), '32')
      const large = await lab.broker.request(pullRequest(topic, 1, 0))
      t.is(decodeStoredMessages(large.body).length, 2)
    },
  },
  {
    title: 'a pull by tags passes over the others, and is answered 20 where none is left',
    async run(t, lab) {
      const topic = newName('tags')
      for (const tag of ['a', 'b', 'a']) await sendOk(t, lab, { topic, properties: [['TAGS', tag]] })
      await pulled(lab, topic, 0, 3)
      const some = await lab.broker.request(pullRequest(topic, 0, 0, { subscription: 'a || c' }))
      t.deepEqual(
        decodeStoredMessages(some.body).map(message => message.queueOffset),
        [0, 2],
      )
      const none = await lab.broker.request(pullRequest(topic, 0, 0, { subscription: 'c' }))
      t.is(none.code, 20)
      t.is(none.ext.get('nextBeginOffset'), '3')
    },
  },
  {
    title: 'a pull is refused: 24 for a group without a subscription, 17 for an unknown topic, 29 for a queue too high',
    async run(t, lab) {
      const topic = newName('pull-wrong')
      await sendOk(t, lab, { topic })
      const expected: [number, RawRequest][] = [
        [24, pullRequest(topic, 0, 0, { sysFlag: 0, consumerGroup: newName('nobody') })],
        [24, pullRequest(topic, 0, 0, { sysFlag: 0 })],
        [17, pullRequest(newName('unmade'), 0, 0)],
        [29, pullRequest(topic, 4, 0)],
        [1, pullRequest(topic, 0, 0, { expressionType: 'SQL92', subscription: 'a > 1' })],
      ]
      for (const [code, request] of expected) t.is((await lab.broker.request(request)).code, code)
    },
  },
  {
    title: 'a pull that may wait is answered when a message comes, and 19 when none does',
    async run(t, lab) {
      const topic = newName('wait')
      await sendOk(t, lab, { topic })
      await pulled(lab, topic, 0, 1)
      const waiting = lab.broker.request(pullRequest(topic, 0, 1, { sysFlag: 6, suspendTimeoutMillis: 15_000 }), 30_000)
      await sendOk(t, lab, { topic, body: Buffer.from('awaited') })
      const answer = await waiting
      t.is(answer.code, 0)
      t.deepEqual(decodeStoredMessages(answer.body)[0]!.body, Buffer.from('awaited'))
      const begun = Date.now()
      const vain = await lab.broker.request(pullRequest(topic, 0, 2, { sysFlag: 6, suspendTimeoutMillis: 300 }), 30_000)
      t.is(vain.code, 19)
      t.true(Date.now() - begun >= 250)
    },
  },
  {
    title: 'a message is found by its commit-log offset right after its ack, every time',
    async run(t, lab) {
      const topic = newName('view')
      for (let i = 0; i < 50; i++) {
        const body = Buffer.from(`message ${i}`)
        const logOffset = logOffsetOf(await sendOk(t, lab, { topic, body }))
        const message = await viewed(lab, logOffset)
        t.deepEqual(message.body, body)
        t.like(message, { topic, queueOffset: i, commitLogOffset: logOffset })
      }
      // At any other offset, the four bytes there are taken for the length.
      const logOffset = logOffsetOf(await sendOk(t, lab, { topic, body: Buffer.from('last') }))
      for (const [distance, code] of [
        [1, 1],
        [4, 1],
        [12, 0],
      ] as const) {
        const answer = await lab.broker.request({ code: 33, ext: { offset: logOffset + distance } })
        t.is(answer.code, code)
        t.is(answer.body.length, 0)
      }
      const beyond = await lab.broker.request({ code: 33, ext: { offset: 1_000_000_000_000 } })
      t.is(beyond.code, 1)
      t.regex(beyond.remark!, /can not find message/)
    },
  },
  {
    title: 'offsets are told: the highest (30), the lowest (31), and that of a time (29); of an unknown queue 0',
    async run(t, lab) {
      const topic = newName('offsets')
      await sendOk(t, lab, { topic })
      const [first] = await pulled(lab, topic, 0, 1)
      await until('a later millisecond', () => Date.now() > first!.storeTimestamp + 2)
      await sendOk(t, lab, { topic })
      await offsetIs(lab, 30, topic, 0, 2)
      await offsetIs(lab, 31, topic, 0, 0)
      const at = async (timestamp: number) => (await offset(lab, 29, topic, 0, { timestamp })).ext.get('offset')
      t.is(await at(0), '0')
      t.is(await at(first!.storeTimestamp), '0')
      t.is(await at(first!.storeTimestamp + 1), '1')
      t.is(await at(Date.now() + 60_000), '2')
      t.is((await offset(lab, 32, topic, 0)).ext.get('timestamp'), String(first!.storeTimestamp))
      for (const code of [30, 31]) t.is((await offset(lab, code, newName('unmade'), 0)).ext.get('offset'), '0')
    },
  },
  {
    title: 'messages are found by UNIQ_KEY and by each of their KEYS (12), and nothing is 22',
    async run(t, lab) {
      const topic = newName('query')
      const uniqKey = newName('KEY')
      const properties: [string, string][] = [
        ['UNIQ_KEY', uniqKey],
        ['KEYS', 'k1 k2'],
      ]
      const answer = await sendOk(t, lab, { topic, properties })
      const query = (key: string, rest: Record<string, ExtValue> = {}) => {
        const ext = { topic, key, maxNum: 10, beginTimestamp: 0, endTimestamp: Date.now() + 60_000, ...rest }
        return lab.broker.request({ code: 12, ext })
      }
      for (const [key, rest] of [[uniqKey, { _UNIQUE_KEY_QUERY: 'true' }], ['k1'], ['k2']] as const) {
        const found = await until(`the key ${key}`, async () => {
          const got = await query(key, rest)
          return got.code === 0 && got
        })
        t.is(decodeStoredMessages(found.body)[0]!.commitLogOffset, logOffsetOf(answer))
        t.deepEqual(names(found), ['indexLastUpdatePhyoffset', 'indexLastUpdateTimestamp'])
      }
      t.is((await query('k3')).code, 22)
      t.is((await query(uniqKey, { endTimestamp: 1 })).code, 22)
    },
  },
]

function endTransaction(lab: Lab, half: RawAnswer, outcome: number, rest: Record<string, ExtValue> = {}, ms?: number) {
  const ext = {
    producerGroup: 'behaviour',
    tranStateTableOffset: half.ext.get('queueOffset')!,
    commitLogOffset: logOffsetOf(half),
    commitOrRollback: outcome,
    fromTransactionCheck: false,
    msgId: half.ext.get('transactionId')!,
    ...rest,
  }
  return lab.broker.request({ code: 37, ext }, ms)
}

const later: Behaviour[] = [
  {
    title: 'a delayed message goes to SCHEDULE_TOPIC_XXXX, and to its topic when its time has come',
    async run(t, lab) {
      const topic = newName('delay')
      const properties: [string, string][] = [
        ['UNIQ_KEY', 'U'],
        ['DELAY', '1'],
        ['TIMER_DELAY_SEC', '100'],
      ]
      const answer = await sendOk(t, lab, { topic, queueId: 3, properties })
      t.is(answer.ext.get('queueId'), '3')
      const waiting = await viewed(lab, logOffsetOf(answer))
      t.like(waiting, { topic: 'SCHEDULE_TOPIC_XXXX', queueId: 0 })
      t.is(String(waiting.queueOffset), answer.ext.get('queueOffset')!)
      const expected = { UNIQ_KEY: 'U', DELAY: '1', REAL_TOPIC: topic, REAL_QID: '3', CLUSTER: lab.cluster.name }
      const held = Object.fromEntries(decodeProperties(waiting.properties))
      t.deepEqual(held, { ...expected, MSG_REGION: 'DefaultRegion', TRACE_ON: 'true' })
      t.is((await lab.broker.request(pullRequest(topic, 3, 0))).code, 19)

      const [delivered] = await pulled(lab, topic, 3, 1)
      t.true(delivered!.storeTimestamp - waiting.storeTimestamp >= 990)
      t.deepEqual(delivered!.properties, waiting.properties, 'with all that was added')
      t.is(delivered!.bornTimestamp, waiting.bornTimestamp)
      t.true(delivered!.commitLogOffset > waiting.commitLogOffset)
    },
  },
  {
    title: 'a delay level above the highest is the highest',
    async run(t, lab) {
      const answer = await sendOk(t, lab, { topic: newName('delay-max'), properties: [['DELAY', '99']] })
      t.like(await viewed(lab, logOffsetOf(answer)), { topic: 'SCHEDULE_TOPIC_XXXX', queueId: 17 })
    },
  },
  {
    title: 'a timed message waits in rmq_sys_wheel_timer; one due is stored at once; one too late is refused',
    async run(t, lab) {
      const topic = newName('timer')
      const at = Date.now() + 3_000
      const answer = await sendOk(t, lab, { topic, properties: [['TIMER_DELIVER_MS', String(at)]] })
      const waiting = await viewed(lab, logOffsetOf(answer))
      t.like(waiting, { topic: 'rmq_sys_wheel_timer', queueId: 0 })
      const held = decodeProperties(waiting.properties)
      t.is(held.get('REAL_TOPIC'), topic)
      t.is(held.get('REAL_QID'), '0')
      const out = Number(held.get('TIMER_OUT_MS'))
      t.true(out <= at && out >= at - 1_000)
      t.deepEqual(names(answer).slice(0, 5), STORED_NAMES.slice(0, 5))
      const past = Date.now() - 1_000
      await sendOk(t, lab, { topic, queueId: 1, properties: [['TIMER_DELIVER_MS', String(past)]] })
      t.is((await pulled(lab, topic, 1, 1))[0]!.topic, topic)
      const far = Date.now() + 260_000_000
      t.is((await send(lab, { topic, properties: [['TIMER_DELIVER_MS', String(far)]] })).code, 13)
      const [delivered] = await pulled(lab, topic, 0, 1)
      t.true(delivered!.storeTimestamp >= out - 10)
      t.is(decodeProperties(delivered!.properties).get('TIMER_DELIVER_MS'), String(at))
    },
  },
  {
    title: 'a half message is kept in RMQ_SYS_TRANS_HALF_TOPIC, by its property and not by its flag',
    async run(t, lab) {
      for (const sysFlag of [0, 4]) {
        const topic = newName('half')
        const properties: [string, string][] = [
          ['TRAN_MSG', 'true'],
          ['PGROUP', 'behaviour'],
          ['UNIQ_KEY', 'U'],
        ]
        const answer = await sendOk(t, lab, { topic, queueId: 2, properties, sysFlag })
        t.is(answer.ext.get('queueId'), '2')
        t.is(answer.ext.get('transactionId'), 'U')
        const half = await viewed(lab, logOffsetOf(answer))
        t.like(half, { topic: 'RMQ_SYS_TRANS_HALF_TOPIC', queueId: 0, sysFlag: 0, preparedTransactionOffset: 0 })
        t.is(String(half.queueOffset), answer.ext.get('queueOffset')!)
        t.deepEqual(Object.fromEntries(decodeProperties(half.properties)), {
          TRAN_MSG: 'true',
          PGROUP: 'behaviour',
          UNIQ_KEY: 'U',
          __transactionId__: 'U',
          REAL_TOPIC: topic,
          REAL_QID: '2',
          MSG_REGION: 'DefaultRegion',
          TRACE_ON: 'true',
          CLUSTER: lab.cluster.name,
        })
        t.is((await lab.broker.request(pullRequest(topic, 2, 0))).code, 19)
      }
    },
  },
  {
    title: 'a commit stores the message in its topic, a second one again, also after a rollback',
    async run(t, lab) {
      const topic = newName('commit')
      const properties: [string, string][] = [
        ['TRAN_MSG', 'true'],
        ['PGROUP', 'behaviour'],
        ['UNIQ_KEY', 'U'],
      ]
      const half = await sendOk(t, lab, { topic, queueId: 1, properties, sysFlag: 4, body: Buffer.from('committed') })
      const committed = await endTransaction(lab, half, 8)
      t.is(committed.code, 0)
      t.is(committed.remark, undefined)
      t.deepEqual(names(committed), [])
      const [stored] = await pulled(lab, topic, 1, 1)
      t.like(stored, { topic, queueOffset: 0, sysFlag: 8, preparedTransactionOffset: logOffsetOf(half) })
      t.deepEqual(stored!.body, Buffer.from('committed'))
      const left = decodeProperties(stored!.properties)
      t.is(left.get('TRAN_MSG'), 'true')
      t.is(left.get('REAL_TOPIC'), topic)
      t.is((await endTransaction(lab, half, 8)).code, 0)
      t.is((await pulled(lab, topic, 1, 2)).length, 2)
      const rolledBack = await endTransaction(lab, half, 12)
      t.is(rolledBack.code, 0)
      t.is(rolledBack.remark, 'not set any response code')
      t.is((await endTransaction(lab, half, 8)).code, 0)
      t.is((await pulled(lab, topic, 1, 3)).length, 3)
    },
  },
  {
    title: 'a rollback stores nothing, an unknown outcome is not answered, and a wrong group or offset is answered 1',
    async run(t, lab) {
      const topic = newName('rollback')
      const properties: [string, string][] = [
        ['TRAN_MSG', 'true'],
        ['PGROUP', 'behaviour'],
      ]
      const half = await sendOk(t, lab, { topic, properties, sysFlag: 4 })
      const unknown = endTransaction(lab, half, 0, {}, 500)
      const wrong: Record<string, ExtValue>[] = [
        { producerGroup: 'another' },
        { tranStateTableOffset: Number(half.ext.get('queueOffset')) + 1 },
        { commitLogOffset: 1_000_000_000_000 },
      ]
      for (const rest of wrong) t.is((await endTransaction(lab, half, 8, rest)).code, 1, JSON.stringify(rest))
      t.is((await endTransaction(lab, half, 12)).code, 0)
      await t.throwsAsync(unknown, { message: /no answer/ })
      await sendOk(t, lab, { topic, body: Buffer.from('another') })
      t.deepEqual((await pulled(lab, topic, 0, 1))[0]!.body, Buffer.from('another'))
    },
  },
  {
    title: 'a message flagged as prepared that is no half message is in the log alone',
    async run(t, lab) {
      const topic = newName('prepared')
      const answer = await sendOk(t, lab, { topic, sysFlag: 4 })
      t.is(answer.ext.get('queueOffset'), '0')
      t.like(await viewed(lab, logOffsetOf(answer)), { topic, sysFlag: 4 })
      t.is((await sendOk(t, lab, { topic, body: Buffer.from('plain') })).ext.get('queueOffset'), '0')
      const stored = await pulled(lab, topic, 0, 1)
      t.deepEqual(stored[0]!.body, Buffer.from('plain'))
    },
  },
]

const topics: Behaviour[] = [
  {
    title: 'a topic is made with the queues that it is to have (17), and the name server tells them (105)',
    async run(t, lab) {
      const topic = newName('made')
      const ext = topicSettings(topic, 6, { writeQueueNums: 5, attributes: '+message.type=NORMAL' })
      const made = await lab.broker.request({ code: 17, ext })
      t.is(made.code, 0, made.remark)
      const route = await until('the route', async () => {
        const { code, body } = await routeOf(lab, topic)
        return code === 0 && readRoute(body)
      })
      const broker = lab.cluster.brokers[0]!
      t.deepEqual(route.queues, [{ broker: broker.name, readQueues: 6, writeQueues: 5, perm: 6 }])
      t.deepEqual(route.addresses, [
        { broker: broker.name, cluster: lab.cluster.name, brokerId: 0, address: broker.address },
      ])
      const config = await lab.broker.request({ code: 351, ext: { topic } })
      t.deepEqual(JSON.parse(config.body.toString()), {
        attributes: { 'message.type': 'NORMAL' },
        order: false,
        perm: 6,
        readQueueNums: 6,
        topicFilterType: 'SINGLE_TAG',
        topicName: topic,
        topicSysFlag: 0,
        writeQueueNums: 5,
      })
      // The higher of the two numbers counts.
      await sendOk(t, lab, { topic, queueId: 5 })
      t.is((await send(lab, { topic, queueId: 6 })).code, 29)
      t.is((await lab.broker.request({ code: 17, ext: { ...ext, readQueueNums: 8, writeQueueNums: 8 } })).code, 0)
      await until('more queues', async () => readRoute((await routeOf(lab, topic)).body).queues[0]?.writeQueues === 8)
      for (const wrong of ['with space', 'TBW102', 'rmq_sys_mine'])
        t.is((await lab.broker.request({ code: 17, ext: { ...ext, topic: wrong } })).code, 29)
      const stats = await lab.broker.request({ code: 202, ext: { topic } })
      t.is(stats.code, 0)
      t.regex(stats.body.toString(), /"queueId":7\D/)
      for (const code of [202, 351])
        t.is((await lab.broker.request({ code, ext: { topic: newName('unmade') } })).code, 17)
    },
  },
  {
    title: 'a route is strict JSON for clients from 4.9.4 on and for who asks for it, else its numbers are unquoted',
    async run(t, lab) {
      const { address } = lab.cluster.brokers[0]!
      const strict = await routeOf(lab, 'TBW102', { version: 401 })
      const asked = await routeOf(lab, 'TBW102', {
        version: 317,
        ext: { topic: 'TBW102', acceptStandardJsonOnly: true },
      })
      const loose = await routeOf(lab, 'TBW102', { version: 400 })
      t.is(strict.code, 0)
      t.true(strict.body.toString().includes(`{"0":"${address}"}`))
      t.deepEqual(asked.body, strict.body)
      t.true(loose.body.toString().includes(`{0:"${address}"}`))
      t.deepEqual(readRoute(loose.body), readRoute(strict.body))
      t.deepEqual(
        readRoute(strict.body).queues.map(({ perm }) => perm),
        lab.cluster.brokers.map(() => 7),
      )
      const parsed = JSON.parse(strict.body.toString())
      t.deepEqual(Object.keys(parsed), ['brokerDatas', 'filterServerTable', 'queueDatas'])
      const unknown = await routeOf(lab, newName('unmade'))
      t.is(unknown.code, 17)
      t.regex(unknown.remark!, /No topic route info in name server/)
    },
  },
  {
    title: 'the list of brokers (106) always has unquoted numbers',
    async run(t, lab) {
      const { body, code } = await lab.names.request({ code: 106, version: 479 })
      t.is(code, 0)
      const { name } = lab.cluster
      const brokers = lab.cluster.brokers.map(broker => ({
        broker: broker.name,
        cluster: name,
        brokerId: 0,
        address: broker.address,
      }))
      t.deepEqual(readRoute(body).addresses, brokers)
      const text = body.toString()
      t.true(text.includes(`{0:"${brokers[0]!.address}"}`))
      t.true(text.includes(`"clusterAddrTable":{"${name}":["${brokers[0]!.broker}"`))
    },
  },
  {
    title: 'the broker tells of itself: settings as lines of text (26), and its state as a table (28)',
    async run(t, lab) {
      const config = await lab.broker.request({ code: 26 })
      t.is(config.code, 0)
      const lines = config.body.toString().split('\n')
      t.true(lines.includes('messageDelayLevel=1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h'))
      t.true(lines.includes('maxMessageSize=4194304'))
      t.true(lines.some(line => /^waitTimeMillsInSendQueue=\d+$/.test(line)))

      const table = async () => {
        const { body } = await lab.broker.request({ code: 28 })
        return JSON.parse(body.toString()).table as Record<string, string>
      }
      const before = await table()
      t.regex(before.brokerVersionDesc!, /^V5_3_3/)
      t.regex(before.commitLogMinOffset!, /^\d+$/)
      const answer = await sendOk(t, lab, { topic: newName('runtime') })
      const after = await table()
      t.true(Number(after.commitLogMaxOffset) > logOffsetOf(answer))
      await until('everything is dispatched', async () => (await table()).dispatchBehindBytes === '0')
      const oldest = Number((await table()).earliestMessageTimeStamp)
      t.true(oldest > 1_600_000_000_000 && oldest <= Date.now() + 1_000, `${oldest}`)
    },
  },
  {
    title: 'a message keeps the socket that it came over as its born host',
    async run(t, lab) {
      const topic = newName('born-host')
      const own = await RawClient.connect(lab.cluster.brokers[0]!.address)
      try {
        const answer = await request(own, sendRequest({ topic }))
        t.is(answer.code, 0, answer.remark)
        const { bornHost } = await viewed(lab, logOffsetOf(answer))
        t.deepEqual(bornHost, hostBytes(own.socket.localAddress!, own.socket.localPort!))
      } finally {
        await own.close()
      }
    },
  },
  {
    title: 'a topic that may only be written to refuses a pull (16), and its messages are in the log (33)',
    async run(t, lab) {
      const topic = newName('write-only')
      await sendOk(t, lab, { topic, body: Buffer.from('kept') })
      await pulled(lab, topic, 0, 1)
      const ext = topicSettings(topic, 4, { perm: 2 })
      t.is((await lab.broker.request({ code: 17, ext })).code, 0)
      t.is((await lab.broker.request(pullRequest(topic, 0, 0))).code, 16)
      const answer = await sendOk(t, lab, { topic, body: Buffer.from('more') })
      t.deepEqual((await viewed(lab, logOffsetOf(answer))).body, Buffer.from('more'))
    },
  },
  {
    title: 'the settings of a compaction topic say so (351)',
    async run(t, lab) {
      const topic = newName('compaction')
      const ext = topicSettings(topic, 1, { attributes: '+cleanup.policy=COMPACTION' })
      t.is((await lab.broker.request({ code: 17, ext })).code, 0)
      const config = await lab.broker.request({ code: 351, ext: { topic } })
      const { attributes, mappingDetail } = JSON.parse(config.body.toString())
      t.is(attributes['cleanup.policy'], 'COMPACTION')
      t.is(mappingDetail, undefined)
    },
  },
]

function heartbeat(client: RawClient, producerGroup: string, consumerGroup?: string, topic = ''): Promise<RawAnswer> {
  const subscription = {
    topic,
    subString: '*',
    classFilterMode: false,
    expressionType: 'TAG',
    subVersion: 1,
    tagsSet: [],
    codeSet: [],
  }
  const consumer = {
    groupName: consumerGroup,
    consumeType: 'CONSUME_PASSIVELY',
    messageModel: 'CLUSTERING',
    consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET',
    subscriptionDataSet: [subscription],
    unitMode: false,
  }
  const body = {
    clientID: `client@${client.port}`,
    producerDataSet: producerGroup === '' ? [] : [{ groupName: producerGroup }],
    consumerDataSet: consumerGroup === undefined ? [] : [consumer],
    heartbeatFingerprint: 0,
    withoutSub: false,
  }
  return client.request({ code: 34, body: Buffer.from(JSON.stringify(body)), headerType: 0 })
}

const clients: Behaviour[] = [
  {
    title: 'a heart-beat makes its connection known (204), until it unregisters or is gone',
    async run(t, lab) {
      const group = newName('producers')
      const connections = () => lab.broker.request({ code: 204, ext: { producerGroup: group } })
      const first = await connections()
      t.is(first.code, 1)
      t.regex(first.remark!, /not exist/)
      const other = await RawClient.connect(lab.cluster.brokers[0]!.address)
      const beat = await heartbeat(other, group)
      t.is(beat.code, 0, beat.remark)
      t.deepEqual(names(beat), ['IS_SUB_CHANGE', 'IS_SUPPORT_HEART_BEAT_V2'])
      const listed = await connections()
      t.is(listed.code, 0)
      t.deepEqual(JSON.parse(listed.body.toString()), {
        connectionSet: [
          { clientAddr: `127.0.0.1:${other.port}`, clientId: `client@${other.port}`, language: 'OTHER', version: 479 },
        ],
      })
      const ext = { clientID: `client@${other.port}`, producerGroup: group }
      t.is((await other.request({ code: 35, ext })).code, 0)
      t.is((await connections()).code, 1)
      await heartbeat(other, group)
      t.is((await connections()).code, 0)
      await other.close()
      await until('the group is gone', async () => (await connections()).code === 1)
    },
  },
  {
    title: 'a consumer is listed (38), pulls by its subscription, commits offsets (14, 15) and locks queues (41, 42)',
    async run(t, lab) {
      const topic = newName('consume')
      const group = newName('consumers')
      await sendOk(t, lab, { topic })
      await pulled(lab, topic, 0, 1)
      const listed = () => lab.broker.request({ code: 38, ext: { consumerGroup: group } })
      t.is((await listed()).code, 1)
      t.is((await heartbeat(lab.broker, '', group, topic)).code, 0)
      t.deepEqual(JSON.parse((await listed()).body.toString()), { consumerIdList: [`client@${lab.broker.port}`] })
      await until('the retry topic', async () => (await routeOf(lab, `%RETRY%${group}`)).code === 0)

      const pull = pullRequest(topic, 0, 0, { sysFlag: 0, consumerGroup: group, subVersion: 1 })
      t.is(decodeStoredMessages((await lab.broker.request(pull)).body).length, 1)

      const queue = { consumerGroup: group, topic, queueId: 0 }
      const committed = () => lab.broker.request({ code: 14, ext: queue })
      t.is((await committed()).ext.get('offset'), '0')
      t.is((await lab.broker.request({ code: 14, ext: { ...queue, queueId: 1 } })).code, 22)
      t.is((await lab.broker.request({ code: 14, ext: { ...queue, setZeroIfNotFound: false } })).code, 22)
      t.is((await lab.broker.request({ code: 15, ext: { ...queue, commitOffset: 1 } })).code, 0)
      t.is((await committed()).ext.get('offset'), '1')
      const nobody = { ...queue, consumerGroup: newName('nobody'), commitOffset: 1 }
      t.is((await lab.broker.request({ code: 15, ext: nobody })).code, 26)

      const mqSet = [{ topic, brokerName: lab.cluster.brokers[0]!.name, queueId: 0 }]
      const lock = async (code: number, clientId: string) => {
        const body = Buffer.from(JSON.stringify({ clientId, consumerGroup: group, mqSet, onlyThisBroker: false }))
        const answer = await lab.broker.request({ code, body, headerType: 0 })
        t.is(answer.code, 0)
        return answer.body.length > 0 ? JSON.parse(answer.body.toString()).lockOKMQSet : undefined
      }
      t.deepEqual(await lock(41, 'one'), mqSet)
      t.deepEqual(await lock(41, 'another'), [])
      await lock(42, 'one')
      t.deepEqual(await lock(41, 'another'), mqSet)
    },
  },
  {
    title: 'an unknown request code is answered 3, by broker and name server',
    async run(t, lab) {
      for (const client of [lab.broker, lab.names]) {
        const answer = await client.request({ code: 9_999 })
        t.is(answer.code, 3)
        t.is(answer.remark, ' request type 9999 not supported')
      }
    },
  },
  {
    title: 'the VIP port takes sends and has no pull',
    async run(t, lab) {
      const topic = newName('vip')
      const [host, port] = lab.cluster.brokers[0]!.address.split(':')
      const vip = await RawClient.connect(`${host}:${Number(port) - 2}`)
      try {
        t.is((await request(vip, sendRequest({ topic }))).code, 0)
        t.is((await pulled(lab, topic, 0, 1)).length, 1)
        t.is((await vip.request(pullRequest(topic, 0, 0))).code, 3)
      } finally {
        await vip.close()
      }
    },
  },
  {
    title: 'bytes that are no frame end the connection',
    async run(t, lab) {
      const client = await RawClient.connect(lab.cluster.brokers[0]!.address)
      client.socket.write(Buffer.from([0, 0, 0, 8, 9, 0, 0, 0, 1, 2, 3, 4]))
      await client.closed
      t.deepEqual(client.others, [])
    },
  },
]

export const behaviours: readonly Behaviour[] = [...singles, ...sends, ...reads, ...later, ...topics, ...clients]
