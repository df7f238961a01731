// A remote that is away: no producer notices, and afterwards what it was told is safe is at the remote.

import { Producer } from '../../proxy/demo/producer.ts'
import { compare, holds, proofLine, readTopic } from '../../proxy/demo/proof.ts'
import type { RealCluster } from '../../proxy/demo/real-cluster.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { realEnvironment } from '../../replay/index.ts'
import { differences, keysOf } from '../support/delivered.ts'
import { GatewayProcess, until } from '../support/gateway-process.ts'
import { runProducer } from '../support/java-client.ts'
import { Load } from '../support/load.ts'
import { pair, realTest } from '../support/real.ts'

const environment = realEnvironment(silentLogger)

/** As a power cut would end it, but for the page cache. */
async function killed({ brokers }: RealCluster): Promise<void> {
  brokers[0]!.kill('SIGKILL')
  await until('the remote broker is gone', () => brokers[0]!.pid() === undefined)
}

async function compared(acked: ReadonlySet<string>, source: RealCluster, remote: RealCluster, topic: string) {
  const atSource = await readTopic(environment, source.nameServer, topic)
  const atRemote = await readTopic(environment, remote.nameServer, topic)
  let stored = 0
  for (const messages of atSource.values()) stored += messages.length
  return { stored, atRemote, proof: compare(acked, atSource, atRemote) }
}

realTest(
  'a remote broker killed for 20 s during sends costs a Java client nothing, and afterwards nothing is missing and order holds',
  async t => {
    const { source, remote } = await pair()
    const gateway = new GatewayProcess({ source: source.nameServer, remote: remote.nameServer })
    t.teardown(() => gateway.end())
    await gateway.start()
    // No second try, and a client's own time-out: what failed once would be seen.
    const limits = { retries: 0, timeoutMs: 3_000 }
    const client = await runProducer({
      nameServer: gateway.nameServer,
      topic: 'Killed',
      threads: 4,
      rate: 800,
      seconds: 32,
      // A client compresses what is longer, and what is compressed shares no batch with what is not: catching up takes 20 s then.
      size: 1_000,
      ...limits,
    })
    t.teardown(() => client.kill())
    await until('some are acked', () => client.lines.length > 1_000)

    await killed(remote)
    const killedAt = Date.now()
    await until('20 s have gone', () => Date.now() - killedAt >= 20_000)
    await remote.brokers[0]!.start()
    const { acked, failed, maxMs, done } = await client.result
    await gateway.drained()

    t.true(done)
    t.deepEqual(failed, [])
    const { stored, atRemote, proof } = await compared(keysOf(acked), source, remote, 'Killed')
    t.log(proofLine(proof), `longest send ${maxMs} ms`)
    t.is(stored, acked.length)
    t.true(holds(proof), proofLine(proof))
    t.deepEqual(differences(acked, atRemote).slice(0, 5), [])
  },
)

realTest(
  'an outage that brings four times bodyMemory loses nothing, keeps order, and memory stays bounded',
  async t => {
    const { source, remote } = await pair()
    const bodyMemory = 4 * 1024 * 1024
    const gateway = new GatewayProcess({
      source: source.nameServer,
      remote: remote.nameServer,
      options: [`--bodyMemory=${bodyMemory}`],
    })
    t.teardown(() => gateway.end())
    await gateway.start()
    const producer = new Producer(environment, gateway.nameServer, 'Long', 4_096)
    t.teardown(() => producer.end())
    await producer.connect()
    producer.start(500)
    await until('the topic is at the remote', async () => producer.acked.size > 500 && (await gateway.waiting()) < 100)

    await killed(remote)
    producer.start(3_000)
    const before = producer.acked.size
    await until(
      'four times bodyMemory is acked',
      () => (producer.acked.size - before) * 4_096 > 4 * bodyMemory,
      120_000,
    )
    const during = await gateway.metrics()
    await remote.brokers[0]!.start()
    await producer.stop()
    await gateway.drained()

    t.true(during.get('body_memory_bytes')! <= bodyMemory * 1.1)
    t.true(during.get('spilled_messages_total')! > 0)
    const { proof } = await compared(producer.acked, source, remote, 'Long')
    t.log(proofLine(proof), `peak memory ${Math.round(gateway.peakMemory() / 1024 / 1024)} MiB`)
    t.true(holds(proof), proofLine(proof))
    t.true(gateway.peakMemory() < 256 * 1024 * 1024)
  },
)

realTest('a gap gets shorter while a producer goes on: reading back keeps up with what comes', async t => {
  const { source, remote } = await pair()
  const load = await Load.start(t, { source, remote, topic: 'KeepsUp', rate: 3_000, gateway: ['--bodyMemory=2MiB'] })
  await killed(remote)
  await load.more(10_000)
  // The gap is one of so many, however long the broker takes to start and the gateway to settle it.
  load.producer.start(0)
  await remote.brokers[0]!.start()
  const before = await load.value('lag_messages')
  const replicated = await load.value('replicated_messages')
  await until('the gap is being filled', async () => (await load.value('replicated_messages')) > replicated)
  load.producer.start(3_000)
  await load.more(15_000)
  const after = await load.value('lag_messages')
  t.true(after < before, `${before} messages waited when the remote came back, ${after} when 15,000 more were acked`)
})
