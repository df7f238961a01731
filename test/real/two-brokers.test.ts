// Two source brokers in one cluster, and two producers on one queue.

import { randomBytes } from 'node:crypto'
import { encodeFrame, encodeProperties, RequestCode } from '../../codec/index.ts'
import { Producer, sendFields } from '../../proxy/demo/producer.ts'
import { compare, holds, keyOf, proofLine, readTopic } from '../../proxy/demo/proof.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { Cluster, parseAddress, realEnvironment } from '../../replay/index.ts'
import { GatewayProcess, until } from '../support/gateway-process.ts'
import { asRemote, realTest, sharedClusters } from '../support/real.ts'

const environment = realEnvironment(silentLogger)
const twoBrokers = sharedClusters({ source: { brokers: 2 }, remote: { brokerConfig: asRemote } })

async function addresses(nameServer: string): Promise<string[]> {
  const cluster = new Cluster(environment, [parseAddress(nameServer)])
  const route = await cluster.brokers()
  cluster.end()
  return route.addresses.map(({ broker, address }) => `${broker} ${address}`).sort()
}

realTest('two source brokers have a listener and lanes each, and a restart keeps every port', async t => {
  const { source, remote } = await twoBrokers()
  const gateway = new GatewayProcess({ source: source.nameServer, remote: remote.nameServer })
  t.teardown(() => gateway.end())
  await gateway.start()
  const before = await addresses(gateway.nameServer)
  t.is(before.length, 2)
  t.is(new Set(before.map(line => line.split(' ')[1])).size, 2)

  const producer = new Producer(environment, gateway.nameServer, 'TwoBrokers', 300)
  t.teardown(() => producer.end())
  await producer.connect()
  producer.start(1_000)
  await until('both brokers have taken some', () => producer.acked.size > 2_000)
  await producer.stop()
  await gateway.drained()
  const atSource = await readTopic(environment, source.nameServer, 'TwoBrokers')
  t.is([...atSource].filter(([, messages]) => messages.length > 0).length, 8)
  const proof = compare(producer.acked, atSource, await readTopic(environment, remote.nameServer, 'TwoBrokers'))
  t.true(holds(proof), proofLine(proof))

  t.is(await gateway.kill('SIGTERM'), 0)
  await gateway.start()
  t.deepEqual(await addresses(gateway.nameServer), before)
})

realTest(
  'two producers on two connections into one queue at full speed: the remote queue has the order of the source queue, exactly',
  async t => {
    const { source, remote } = await twoBrokers()
    const gateway = new GatewayProcess({ source: source.nameServer, remote: remote.nameServer })
    t.teardown(() => gateway.end())
    await gateway.start()
    const broker = (await addresses(gateway.nameServer))[0]!.split(' ')[1]!
    const topic = 'OneQueue'
    const each = 20_000
    const outstanding = 64
    const clients = [0, 1].map(() => new Cluster(environment, [parseAddress(gateway.nameServer)]))
    t.teardown(() => clients.forEach(client => client.end()))
    await Promise.all(
      clients.map(async (client, who) => {
        let next = 0
        const worker = async () => {
          while (next < each) {
            const properties = encodeProperties([
              ['KEYS', `${who}-${next++}`],
              ['UNIQ_KEY', randomBytes(16).toString('hex').toUpperCase()],
            ])
            const ext = sendFields('g', topic, 0, properties)
            const frame = await client
              .link(broker)
              .request(
                opaque => encodeFrame({ code: RequestCode.SEND_MESSAGE_V2, opaque, ext }, randomBytes(100)),
                10_000,
              )
            t.is(frame.head.code, 0)
          }
        }
        await Promise.all(Array.from({ length: outstanding }, worker))
      }),
    )
    await gateway.drained()

    const keys = (queues: Map<string, { properties: Buffer }[]>) =>
      [...queues.values()].flat().map(message => keyOf(message as never))
    const atSource = keys(await readTopic(environment, source.nameServer, topic))
    const atRemote = keys(await readTopic(environment, remote.nameServer, topic))
    t.is(atSource.length, 2 * each)
    t.deepEqual(atRemote, atSource)
  },
)
