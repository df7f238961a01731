// Real clients through the gateway: what they were told is safe stands at the remote as they sent it, once, in order.

import test from 'ava'
import { compare, holds, proofLine, readTopic } from '../../proxy/demo/proof.ts'
import { type RealCluster, startRealCluster } from '../../proxy/demo/real-cluster.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { realEnvironment } from '../../replay/index.ts'
import { differences, keysOf, type Sent } from '../support/delivered.ts'
import { GatewayProcess } from '../support/gateway-process.ts'
import { missingGo, runGoProducer } from '../support/go-client.ts'
import { runConsumer, runProducer } from '../support/java-client.ts'
import { realTest } from '../support/real.ts'

const environment = realEnvironment(silentLogger)
const COUNT = 400
const modes = ['sync', 'async', 'ordered', 'batch'] as const

interface Setting {
  source: RealCluster
  remote: RealCluster
  gateway: GatewayProcess
}
let setting: Promise<Setting> | undefined

function ready(): Promise<Setting> {
  setting ??= (async () => {
    const [source, remote] = await Promise.all([
      startRealCluster({ name: 'clients-source' }),
      startRealCluster({ name: 'clients-remote' }),
    ])
    const gateway = new GatewayProcess({ source: source.nameServer, remote: remote.nameServer })
    await gateway.start()
    return { source, remote, gateway }
  })()
  return setting
}

test.after.always(async () => {
  const started = await setting?.catch(() => undefined)
  await started?.gateway.end()
  await Promise.all([started?.source.stop(), started?.remote.stop()])
})

async function arrives(t: import('ava').ExecutionContext, topic: string, acked: readonly Sent[]): Promise<void> {
  const { source, remote, gateway } = await ready()
  await gateway.drained()
  const atRemote = await readTopic(environment, remote.nameServer, topic)
  const proof = compare(keysOf(acked), await readTopic(environment, source.nameServer, topic), atRemote)
  t.log(proofLine(proof))
  t.true(holds(proof), proofLine(proof))
  t.deepEqual(differences(acked, atRemote).slice(0, 5), [])
}

/** Runs the clients of all modes side by side, and gives each its result: most of their time is that of starting. */
function atOnce<Result>(run: (mode: (typeof modes)[number]) => Promise<Result>): (mode: string) => Promise<Result> {
  let running: Map<string, Promise<Result>> | undefined
  return mode => {
    running ??= new Map(modes.map(each => [each, run(each)]))
    for (const result of running.values()) result.catch(() => {})
    return running.get(mode)!
  }
}

for (const version of ['4.9.7', '5.3.3'] as const) {
  for (const serialize of ['JSON', 'ROCKETMQ'] as const) {
    const topicOf = (mode: string) => `Java-${version.replaceAll('.', '_')}-${serialize}-${mode}`
    const resultOf = atOnce(async mode => {
      const { nameServer } = (await ready()).gateway
      return (await runProducer({ version, serialize, nameServer, topic: topicOf(mode), mode, count: COUNT })).result
    })
    for (const mode of modes) {
      realTest(
        `Java ${version} with ${serialize} headers: every acked message of ${mode} sends is at the remote as it was sent`,
        async t => {
          const { acked, failed } = await resultOf(mode)
          t.deepEqual(failed, [])
          t.is(acked.length, COUNT)
          await arrives(t, topicOf(mode), acked)
        },
      )
    }
  }
}

realTest('Java 5.3.3 oneway sends are at the remote as they were sent', async t => {
  const { gateway, remote } = await ready()
  const topic = 'Java-oneway'
  const { acked } = await (
    await runProducer({
      version: '5.3.3',
      serialize: 'JSON',
      nameServer: gateway.nameServer,
      topic,
      mode: 'oneway',
      count: COUNT,
    })
  ).result
  await gateway.drained()
  t.deepEqual(differences(acked, await readTopic(environment, remote.nameServer, topic)).slice(0, 5), [])
})

const goResultOf = atOnce(async mode => {
  const { nameServer } = (await ready()).gateway
  return (await runGoProducer({ nameServer, topic: `Go-${mode}`, mode, count: COUNT })).result
})

for (const mode of modes) {
  realTest(
    `Go 2.1.2: every acked message of ${mode} sends is at the remote as it was sent`,
    async t => {
      const { acked, failed } = await goResultOf(mode)
      t.deepEqual(failed, [])
      t.is(acked.length, COUNT)
      await arrives(t, `Go-${mode}`, acked)
    },
    missingGo(),
  )
}

for (const version of ['4.9.7', '5.3.3'] as const) {
  realTest(`a push consumer of Java ${version} consumes through the gateway`, async t => {
    const { gateway } = await ready()
    const topic = `Consumed-${version.replaceAll('.', '_')}`
    const { acked } = await (
      await runProducer({ version, serialize: 'JSON', nameServer: gateway.nameServer, topic, mode: 'sync', count: 100 })
    ).result
    const consumed = await (
      await runConsumer({
        version,
        serialize: 'JSON',
        nameServer: gateway.nameServer,
        topic,
        group: `g-${topic}`,
        count: 100,
        seconds: 60,
      })
    ).result
    t.deepEqual([...keysOf(consumed.consumed)].sort(), [...keysOf(acked)].sort())
  })
}
