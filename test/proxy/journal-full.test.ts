// onJournalFull=reject: once neither memory nor disk has room for what a send brings, it is refused before it reaches the source,
// until there is room again. Nothing that was acked is lost for it.

import test, { type ExecutionContext } from 'ava'
import { Framer } from '../../codec/index.ts'
import { countIn, type GatewayLab, keyed, keysIn, type LabOptions, topic, withLab } from '../support/gateway-lab.ts'
import { type RawAnswer, type RawClient, type RawRequest, until } from '../support/raw-client.ts'
import { batchBody, pullRequest, type Send, sendRequest } from './demo/broker-behaviour.ts'

const SYSTEM_BUSY = 2
const SERVICE_NOT_AVAILABLE = 14
/** MQVersion ordinals. */
const V4_9_7 = 407
const V5_2_9 = 471
const V5_3_0 = 473
const V5_3_3 = 479

const SENDS_MOST = 4_000
const small = ['--onJournalFull=reject', '--bodyMemory=512KiB', '--journalMaxBytes=2MiB', '--journalMinFreeBytes=0']
const always: LabOptions = { gateway: [...small, '--journalBodies=always'] }

const big = (key: string, more: Partial<Send> = {}): Send => keyed(key, { body: Buffer.alloc(4_096, key), ...more })
const refusedWith = ({ here }: GatewayLab, code: number) =>
  here.metrics().get(`refused_requests_total{code="${code}"}`) ?? 0

/** Sends until one is refused; returns the keys of those that were acked. */
async function fill(t: ExecutionContext, lab: GatewayLab, client: RawClient): Promise<Set<string>> {
  const keys = new Set<string>()
  await lab.remoteBroker.stop()
  for (let sent = 0; sent < SENDS_MOST; sent++) {
    const key = `fill-${sent}`
    const answer = await client.request({ ...sendRequest(big(key, { queueId: sent % 4 })), version: V5_3_3 })
    if (answer.code === 0) keys.add(key)
    else {
      isRefusal(t, answer, SYSTEM_BUSY)
      t.is(lab.here.metric('refused_requests_total'), 1)
      return keys
    }
  }
  throw new Error(`${SENDS_MOST} sends of 4 KiB were taken: ${lab.here.gateway.metrics.render()}`)
}

function isRefusal(t: ExecutionContext, { code, remark, flag, ext }: RawAnswer, expected: number): void {
  t.is(code, expected, remark)
  t.is(flag & 1, 1)
  t.regex(remark!, /replay queue is full \(journalMaxBytes\).*onJournalFull=reject/)
  t.is(ext.size, 0)
}

const kept: [what: string, options: LabOptions, perm: number][] = [
  ['every body goes to the journal (journalBodies=always)', always, 6],
  ['the topic may not be read back from the source', { gateway: small }, 2],
  ['bodies go to disk when they wait', { gateway: small }, 6],
]
for (const [what, options, perm] of kept)
  test(
    `${what}: when the journal is full sends are refused until there is room, and what was acked is at the remote once`,
    withLab(async (t, lab) => {
      const { source, remote, sourceBroker, remoteBroker, here, connect } = lab
      sourceBroker.store.createTopic(topic, 4, { perm })
      remoteBroker.store.createTopic(topic, 4)
      const client = await connect()
      const keys = new Set(['first'])
      t.is((await client.request(sendRequest(big('first')))).code, 0)
      await here.done(1)
      for (const key of await fill(t, lab, client)) keys.add(key)
      t.true(keys.size > 50)
      const atSource = countIn(source, topic)
      t.is(atSource, keys.size)
      t.is(here.metric('acked_messages_total'), keys.size)
      t.is(here.metric('lost_messages_total'), 0)

      const refused = refusedWith(lab, SYSTEM_BUSY)
      for (let i = 0; i < 10; i++) isRefusal(t, await client.request(sendRequest(big(`refused-${i}`))), SYSTEM_BUSY)
      t.is(countIn(source, topic), atSource)
      t.is(refusedWith(lab, SYSTEM_BUSY), refused + 10)
      t.is(here.metric('refused_requests_total'), refused + 10)

      await remoteBroker.start()
      await until(
        'sends are taken again',
        async () => {
          const { code } = await client.request(sendRequest(big('again')))
          return code === 0
        },
        60_000,
      )
      keys.add('again')
      for (let i = 0; i < 20; i++) {
        t.is((await client.request(sendRequest(keyed(`more-${i}`, { queueId: i % 4 })))).code, 0)
        keys.add(`more-${i}`)
      }
      await here.done(keys.size, 60_000)
      t.deepEqual(keysIn(remote, topic).flat().sort(), [...keys].sort())
      t.is(countIn(remote, topic), keys.size)
      t.deepEqual(keysIn(remote, topic), keysIn(source, topic))
      t.is(here.metric('replicated_messages'), keys.size)
      t.is(here.metric('acked_messages_total'), keys.size)
    }, options),
  )

test(
  'while the journal is full a client gets the code that its version tries again on, a oneway send is dropped and counted, and other requests pass',
  withLab(async (t, lab) => {
    const { source, sourceBroker, here, connect } = lab
    sourceBroker.store.createTopic('%RETRY%group', 1)
    const client = await connect()
    const half = await client.request(
      sendRequest(
        keyed('half', {
          sysFlag: 4,
          properties: [
            ['TRAN_MSG', 'true'],
            ['PGROUP', 'behaviour'],
          ],
        }),
      ),
    )
    t.is(half.code, 0)
    await fill(t, lab, client)
    const atSource = countIn(source, topic)
    const acked = here.metric('acked_messages_total')
    const count: Record<number, number> = { 2: refusedWith(lab, SYSTEM_BUSY), 14: 0 }
    const refusedIs = async (request: RawRequest, code: number, what: string) => {
      isRefusal(t, await client.request(request), code)
      count[code]!++
      for (const one of [SYSTEM_BUSY, SERVICE_NOT_AVAILABLE]) t.is(refusedWith(lab, one), count[one]!, what)
    }

    for (const headerType of [0, 1] as const)
      for (const [version, code] of [
        [V4_9_7, SERVICE_NOT_AVAILABLE],
        [V5_2_9, SERVICE_NOT_AVAILABLE],
        [V5_3_0, SYSTEM_BUSY],
        [V5_3_3, SYSTEM_BUSY],
      ] as const)
        await refusedIs({ ...sendRequest(keyed('no', { headerType })), version }, code, `version ${version}`)

    const members = batchBody([{ body: Buffer.from('a'), properties: Buffer.alloc(0) }])
    const kinds: [what: string, send: Send][] = [
      ['version 1 of the send request', keyed('no', { code: 10 })],
      ['a batch', keyed('no', { batch: true, body: members })],
      ['a delayed message', keyed('no', { properties: [['DELAY', '3']] })],
      ['a half message', keyed('no', { sysFlag: 4, properties: [['TRAN_MSG', 'true']] })],
      ['a topic that is not there yet', keyed('no', { topic: 'unheard-of' })],
    ]
    for (const [what, send] of kinds) await refusedIs(sendRequest(send), SYSTEM_BUSY, what)
    t.is(sourceBroker.store.topics.has('unheard-of'), false)

    // They are refused, and the two-way one behind them shows that they are over.
    const others = client.others.length
    for (let i = 0; i < 3; i++) client.oneway({ ...sendRequest(keyed(`oneway-${i}`)), version: V5_3_3 })
    for (let i = 0; i < 2; i++) client.oneway({ ...sendRequest(keyed(`oneway-${i}`)), version: V4_9_7 })
    count[SYSTEM_BUSY]! += 3
    count[SERVICE_NOT_AVAILABLE]! += 2
    await refusedIs(sendRequest(keyed('no')), SYSTEM_BUSY, 'oneway sends are counted')
    t.is(client.others.length, others, 'and not answered')

    // Nothing of these is kept here.
    t.is((await client.request(sendRequest(keyed('retry', { topic: '%RETRY%group' })))).code, 0)
    t.is((await client.request(pullRequest(topic, 0, 0))).code, 0)
    t.is(countIn(source, topic), atSource, 'nothing that was refused, or dropped, is at the source')
    const commit = {
      producerGroup: 'behaviour',
      tranStateTableOffset: half.ext.get('queueOffset')!,
      commitLogOffset: Number.parseInt(half.ext.get('msgId')!.slice(-16), 16),
      commitOrRollback: 8,
      fromTransactionCheck: false,
      msgId: half.ext.get('transactionId')!,
    }
    t.is((await client.request({ code: 37, ext: commit })).code, 0)
    t.is(countIn(source, topic), atSource + 1)
    t.is(here.metric('acked_messages_total'), acked)
  }, always),
)

test(
  'a refusal goes behind the frame of the source that has begun, never into it, and waits for no other',
  withLab(
    async (t, lab) => {
      const { sourceTap, connect } = lab
      const client = await connect()
      await fill(t, lab, client)
      // What the source answers to two pulls comes in pieces.
      const frames: Buffer[] = []
      sourceTap.answer = ({ bytes, head }) => {
        if (head.bodyBytes < 4_096) return bytes
        frames.push(bytes)
        return null
      }
      const pulls = [0, 1].map(queueId => client.request(pullRequest(topic, queueId, 0, { maxMsgNums: 1 })))
      const [first, second] = await until(
        'both are answered',
        () => frames.length === 2 && (frames as [Buffer, Buffer]),
      )
      const link = sourceTap.carrying(Buffer.from('fill-0'))
      const refusedBefore = refusedWith(lab, SYSTEM_BUSY)
      const readBefore = client.socket.bytesRead
      link.say(first.subarray(0, 1_000))
      await until('it has begun', () => client.socket.bytesRead === readBefore + 1_000)
      const refusal = client.request(sendRequest(big('no')))
      await until('it is refused', () => refusedWith(lab, SYSTEM_BUSY) === refusedBefore + 1)
      link.say(Buffer.concat([first.subarray(1_000), second.subarray(0, 1_000)]))
      isRefusal(t, await refusal, SYSTEM_BUSY)
      const last = client.request(sendRequest(big('no')))
      await until('one more is refused', () => refusedWith(lab, SYSTEM_BUSY) === refusedBefore + 2)
      link.say(second.subarray(1_000))
      isRefusal(t, await last, SYSTEM_BUSY)
      const answers = await Promise.all(pulls)
      const bodies = [first, second].map(frame => [...new Framer().push(frame)][0]!.body)
      t.deepEqual(
        answers.map(({ body }) => body),
        bodies,
      )
    },
    { ...always, tapped: true },
  ),
)
