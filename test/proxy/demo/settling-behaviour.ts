// What settling takes for given of a broker, as a list that is run against the embedded cluster and against real brokers of
// several versions: who is connected, what it says of its settings, and that a marker of ours can be had and read.

import { randomBytes } from 'node:crypto'
import { encodeHeartbeat, producerConnections, readBrokerConfig } from '../../../codec/index.ts'
import { encodeMarker, MARKER_TOPIC } from '../../../replay/marker.ts'
import { RawClient, until } from '../../support/raw-client.ts'
import {
  type Behaviour,
  type Lab,
  logOffsetOf,
  newName,
  pulled,
  pullRequest,
  send,
  topicSettings,
} from './broker-behaviour.ts'

async function listed({ broker }: Lab, group: string): Promise<number | undefined> {
  const { code, remark, body } = await broker.request({ code: 204, ext: { producerGroup: group } })
  return producerConnections(code, remark ?? '', body)
}

/** A connection whose heart-beat was answered. */
async function linked(lab: Lab, group: string): Promise<RawClient> {
  const client = await RawClient.connect(lab.cluster.brokers[0]!.address)
  const { code } = await client.request({ code: 34, body: encodeHeartbeat(group, group) })
  if (code !== 0) throw new Error(`the heart-beat was answered ${code}`)
  return client
}

async function readable(lab: Lab): Promise<number> {
  const { body } = await lab.broker.request({ code: 28 })
  const { table } = JSON.parse(body.toString())
  return Number(table.commitLogMaxOffset) - Number(table.dispatchBehindBytes)
}

export const settlingBehaviours: readonly Behaviour[] = [
  {
    title: 'a link is listed by its group (204) as soon as its heart-beat is answered, and not after it was reset',
    async run(t, lab) {
      const group = newName('link')
      t.is(await listed(lab, group), 0)
      for (let round = 0; round < 5; round++) {
        const client = await linked(lab, group)
        t.is(await listed(lab, group), 1)
        client.socket.resetAndDestroy()
        await until('it is gone', async () => (await listed(lab, group)) === 0)
      }
    },
  },
  {
    title: 'two links of one group are listed as long as one of them lives',
    async run(t, lab) {
      const group = newName('links')
      const [first, second] = [await linked(lab, group), await linked(lab, group)]
      t.is(await listed(lab, group), 2)
      first.socket.resetAndDestroy()
      await until('one is gone', async () => (await listed(lab, group)) === 1)
      await second.close()
      await until('both are gone', async () => (await listed(lab, group)) === 0)
    },
  },
  {
    title: 'when a link that was reset is not listed any more, nothing of what it sent is stored after a pause',
    async run(t, lab) {
      const topic = newName('reset')
      t.is((await send(lab, { topic })).code, 0)
      const group = newName('link')
      const client = await linked(lab, group)
      const end = async () =>
        Number((await lab.broker.request({ code: 30, ext: { topic, queueId: 0 } })).ext.get('offset'))
      for (let i = 0; i < 200; i++) {
        const ext = { a: group, b: topic, c: 'TBW102', d: 4, e: 0, f: 0, g: 1, h: 0, j: 0, k: false, m: false }
        client.request({ code: 310, ext, body: randomBytes(1_000) }).catch(() => {})
      }
      client.socket.resetAndDestroy()
      await until('it is gone', async () => (await listed(lab, group)) === 0)
      const settings = readBrokerConfig((await lab.broker.request({ code: 26 })).body)
      const pause = 5 * Number(settings.get('waitTimeMillsInSendQueue'))
      await new Promise(resolve => setTimeout(resolve, pause))
      const stored = (await lab.broker.request({ code: 28 })).body
      const { commitLogMaxOffset } = JSON.parse(stored.toString()).table
      await until('that is readable', async () => (await readable(lab)) >= Number(commitLogMaxOffset))
      const settled = await end()
      await new Promise(resolve => setTimeout(resolve, 1_000))
      t.is(await end(), settled)
    },
  },
  {
    title: 'the settings tell (26) how long a send waits in its queue, and whether it is dropped then',
    async run(t, lab) {
      const { code, body } = await lab.broker.request({ code: 26 })
      t.is(code, 0)
      const settings = readBrokerConfig(body)
      t.regex(settings.get('waitTimeMillsInSendQueue')!, /^[1-9]\d*$/)
      t.is(settings.get('brokerFastFailureEnable'), 'true')
    },
  },
  {
    title:
      'a marker is refused with 17 where its topic is not, for its template is none; made with one queue it is stored and read',
    async run(t, lab) {
      const marker = { text: newName('marker'), bornTimestamp: 1_700_000_000_789, producerGroup: 'TEE_behaviour' }
      const mark = async () => {
        lab.broker.socket.write(encodeMarker(marker, 0x7fff0000))
        const answers = await until('it is answered', () => {
          const found = lab.broker.others.filter(({ opaque }) => opaque === 0x7fff0000)
          return found.length > 0 && found
        })
        lab.broker.others.length = 0
        return answers[0]!
      }
      t.is((await mark()).code, 17)
      const ext = topicSettings(MARKER_TOPIC, 1)
      t.is((await lab.broker.request({ code: 17, ext })).code, 0)
      const answer = await mark()
      t.is(answer.code, 0, answer.remark)
      const offset = Number(answer.ext.get('queueOffset'))
      const [stored] = await pulled(lab, MARKER_TOPIC, 0, 1, offset)
      t.is(stored!.body.toString(), marker.text)
      t.is(stored!.commitLogOffset, logOffsetOf(answer))
      // 4.9.7 says 1 where later ones say 29.
      const { code, remark } = await lab.broker.request(pullRequest(MARKER_TOPIC, 1, 0))
      t.true(code === 29 || code === 1, `it has one queue, and is answered ${code}`)
      t.regex(remark!, /queueId\[1\] is illegal/)
    },
  },
]
