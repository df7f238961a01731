// Brokers of other versions, as source and as remote: from memory and read back, and two gateways that mirror both ways.

import { compare, holds, keyOf, proofLine, readTopic } from '../../proxy/demo/proof.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { realEnvironment } from '../../replay/index.ts'
import { differences, keysOf } from '../support/delivered.ts'
import { GatewayProcess } from '../support/gateway-process.ts'
import { runProducer } from '../support/java-client.ts'
import { realTest, sharedClusters } from '../support/real.ts'

const environment = realEnvironment(silentLogger)
const COUNT = 300
const versions = { older: '4.9.7', newer: '5.5.0' } as const
const both = sharedClusters({ older: { version: versions.older }, newer: { version: versions.newer } })

for (const [from, to] of [
  ['older', 'newer'],
  ['newer', 'older'],
] as const) {
  realTest(
    `from a broker ${versions[from]} to a broker ${versions[to]}: what was sent is there, from memory and read back`,
    async t => {
      const { [from]: source, [to]: remote } = await both()
      // Room for next to nothing in memory, and for no body on disk: what does not go at once is read back from the source.
      const gateway = new GatewayProcess({
        source: source.nameServer,
        remote: remote.nameServer,
        options: ['--bodyMemory=64KiB', '--journalMinFreeBytes=1000000GiB'],
      })
      t.teardown(() => gateway.end())
      await gateway.start()
      for (const remoteUp of [true, false]) {
        if (!remoteUp) await remote.brokers[0]!.stop()
        const prefix = `Version-${from}-${remoteUp ? 'up' : 'down'}`
        const modes = ['sync', 'batch'] as const
        const client = await runProducer({ nameServer: gateway.nameServer, topic: prefix, mode: modes, count: COUNT })
        const sent = await client.result
        t.deepEqual(sent.failed, [])
        if (!remoteUp) await remote.brokers[0]!.start()
        await gateway.drained()
        for (const topic of modes.map(mode => `${prefix}-${mode}`)) {
          const acked = sent.acked.filter(message => message.topic === topic)
          t.is(acked.length, COUNT, topic)
          const atRemote = await readTopic(environment, remote.nameServer, topic)
          const proof = compare(keysOf(acked), await readTopic(environment, source.nameServer, topic), atRemote)
          t.true(holds(proof), `${topic} ${proofLine(proof)}`)
          t.deepEqual(differences(acked, atRemote).slice(0, 5), [], topic)
        }
      }
      const readBack = (await gateway.metrics()).get('read_back_messages_total')!
      t.true(readBack >= COUNT, `${readBack} were read back`)
    },
  )
}

realTest('two gateways mirror two clusters both ways, and each has each message once', async t => {
  const { older: here, newer: there } = await both()
  // Each gateway's remote is the other gateway, so that each sees what the other sends.
  const out = new GatewayProcess({ source: here.nameServer, remote: '' })
  const back = new GatewayProcess({ source: there.nameServer, remote: await out.reserve() })
  out.remote = await back.reserve()
  t.teardown(() => Promise.all([out.end(), back.end()]))
  await Promise.all([out.start(), back.start()])
  for (const [gateway, topic] of [
    [out, 'FromHere'],
    [back, 'FromThere'],
  ] as const) {
    const client = await runProducer({ nameServer: gateway.nameServer, topic, mode: 'sync', count: COUNT })
    const { acked } = await client.result
    t.is(acked.length, COUNT)
    await out.drained()
    await back.drained()
    for (const cluster of [here, there]) {
      const queues = await readTopic(environment, cluster.nameServer, topic)
      const keys = [...queues.values()].flat().map(keyOf)
      t.deepEqual(keys.sort(), [...keysOf(acked)].sort(), `${topic} at ${cluster.name}`)
    }
  }
})
