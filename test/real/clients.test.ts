// Real clients through the gateway: what they were told is safe stands at the remote as they sent it, once, in order.

import test from 'ava'
import { compare, holds, proofLine, readTopic } from '../../proxy/demo/proof.ts'
import type { RealCluster } from '../../proxy/demo/real-cluster.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { realEnvironment } from '../../replay/index.ts'
import { differences, keysOf, type Sent } from '../support/delivered.ts'
import { GatewayProcess } from '../support/gateway-process.ts'
import { missingGo, runGoProducer } from '../support/go-client.ts'
import { runConsumer, runProducer } from '../support/java-client.ts'
import { missingRocketMQ, pair, realTest } from '../support/real.ts'

const environment = realEnvironment(silentLogger)
const COUNT = 400
const withoutGo = missingRocketMQ ?? missingGo()
const modes = ['sync', 'async', 'ordered', 'batch'] as const

interface Setting {
  source: RealCluster
  remote: RealCluster
  gateway: GatewayProcess
}
let setting: Promise<Setting> | undefined

function ready(): Promise<Setting> {
  setting ??= (async () => {
    const { source, remote } = await pair()
    const gateway = new GatewayProcess({ source: source.nameServer, remote: remote.nameServer })
    await gateway.start()
    return { source, remote, gateway }
  })()
  return setting
}

test.after.always(async () => {
  const started = await setting?.catch(() => undefined)
  await started?.gateway.end()
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

/** Run by the first that asks. */
function once<Result>(run: () => Promise<Result>): () => Promise<Result> {
  let running: Promise<Result> | undefined
  return () => (running ??= run())
}

for (const version of ['4.9.7', '5.3.3'] as const) {
  for (const serialize of ['JSON', 'ROCKETMQ'] as const) {
    const prefix = `Java-${version.replaceAll('.', '_')}-${serialize}`
    const sent = once(async () => {
      const { nameServer } = (await ready()).gateway
      return (await runProducer({ version, serialize, nameServer, topic: prefix, mode: modes, count: COUNT })).result
    })
    for (const mode of modes) {
      realTest(
        `Java ${version} with ${serialize} headers: every acked message of ${mode} sends is at the remote as it was sent`,
        async t => {
          const topic = `${prefix}-${mode}`
          const { acked, failed } = await sent()
          t.deepEqual(failed, [])
          const ofMode = acked.filter(message => message.topic === topic)
          t.is(ofMode.length, COUNT)
          await arrives(t, topic, ofMode)
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

/** Side by side. */
const sentByGo = once(async () => {
  const { nameServer } = (await ready()).gateway
  const results = modes.map(
    async mode => (await runGoProducer({ nameServer, topic: `Go-${mode}`, mode, count: COUNT })).result,
  )
  return Object.fromEntries((await Promise.all(results)).map((result, i) => [modes[i]!, result]))
})

for (const mode of modes) {
  realTest(
    `Go 2.1.2: every acked message of ${mode} sends is at the remote as it was sent`,
    async t => {
      const { acked, failed } = (await sentByGo())[mode]!
      t.deepEqual(failed, [])
      t.is(acked.length, COUNT)
      await arrives(t, `Go-${mode}`, acked)
    },
    withoutGo,
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
