// What a remote broker did with requests that were cut off from their answers, and a remote that has lost its tail: nothing is
// there twice, nothing is missing, and order holds.

import { spawnSync } from 'node:child_process'
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Producer } from '../../proxy/demo/producer.ts'
import { compare, holds, proofLine, readTopic } from '../../proxy/demo/proof.ts'
import { type RealCluster, startRealCluster } from '../../proxy/demo/real-cluster.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { realEnvironment } from '../../replay/index.ts'
import { MARKER_TOPIC } from '../../replay/marker.ts'
import { GatewayProcess, until } from '../support/gateway-process.ts'
import { realTest } from '../support/real.ts'

const ROUNDS = Number(process.env.TEST_ROUNDS ?? 4)
const environment = realEnvironment(silentLogger)
let clusters: Promise<[RealCluster, RealCluster]> | undefined

function pair(): Promise<[RealCluster, RealCluster]> {
  clusters ??= Promise.all([
    startRealCluster({ name: 'settling-source' }),
    startRealCluster({ name: 'settling-remote' }),
  ])
  return clusters
}

test.after.always(async () => {
  const started = await clusters?.catch(() => undefined)
  await Promise.all(started?.map(cluster => cluster.stop()) ?? [])
})

async function proofOf(producer: Producer, source: RealCluster, remote: RealCluster, topic: string) {
  const atSource = await readTopic(environment, source.nameServer, topic)
  const atRemote = await readTopic(environment, remote.nameServer, topic)
  return compare(producer.acked, atSource, atRemote)
}

/** Resets all connections to a port, from our side. Needs privileges, and a kernel that can. */
function reset(address: string): boolean {
  const port = address.slice(address.lastIndexOf(':') + 1)
  const { stdout } = spawnSync('ss', ['-K', 'dst', '127.0.0.1', 'dport', '=', `:${port}`], { encoding: 'utf8' })
  return (stdout ?? '').includes(`:${port}`)
}

/** Messages that wait; no number where the gateway is not asked at a good moment: it closes idle connections. */
function waiting(gateway: GatewayProcess): Promise<number> {
  return gateway.waiting().catch(() => Number.NaN)
}

/** A gateway between the two, and a producer that sends through it. */
async function running(t: Parameters<Parameters<typeof realTest>[1]>[0], topic: string) {
  const [source, remote] = await pair()
  const gateway = new GatewayProcess({ source: source.nameServer, remote: remote.nameServer })
  t.teardown(() => gateway.end())
  await gateway.start()
  const producer = new Producer(environment, gateway.nameServer, topic, 512)
  t.teardown(() => producer.end())
  await producer.connect()
  producer.start(1_000)
  await until('the topic is at the remote', async () => producer.acked.size > 500 && (await waiting(gateway)) < 100)
  const settlings = () => gateway.log.filter(({ msg }) => msg === 'the remote broker is settled').length
  return { source, remote, gateway, producer, settlings, broker: remote.brokers[0]! }
}

realTest(
  'a remote stopped with requests in it, its connections reset or the gateway killed, has nothing twice',
  async t => {
    const { source, remote, gateway, producer, settlings, broker } = await running(t, 'Stopped')
    let resets = 0
    for (let round = 0; round < ROUNDS; round++) {
      const before = settlings()
      broker.signal('SIGSTOP')
      try {
        await until('requests are in it', async () => (await waiting(gateway)) > 300)
        if (round % 2 === 0 && reset(broker.address)) resets++
        else {
          await gateway.kill()
          await gateway.start()
        }
        const acked = producer.acked.size
        await until('more has come meanwhile', () => producer.acked.size > acked + 1_000)
      } finally {
        broker.signal('SIGCONT')
      }
      await until('it is settled', () => settlings() > before, 150_000)
      await until('it is drained', async () => (await waiting(gateway)) < 100, 60_000)
    }
    await producer.stop()
    await gateway.drained()
    const proof = await proofOf(producer, source, remote, 'Stopped')
    t.log(proofLine(proof), `${resets} resets, ${ROUNDS - resets} kills`)
    t.true(holds(proof), proofLine(proof))
    const markers = [...(await readTopic(environment, remote.nameServer, MARKER_TOPIC)).values()].flat()
    t.true(markers.length >= 2 * ROUNDS, `${markers.length} markers`)
  },
)

realTest('a remote whose store is put back to an earlier copy gets what it has lost', async t => {
  const { source, remote, gateway, producer, broker } = await running(t, 'PutBack')
  const store = join(remote.home, broker.name, 'store')
  const copy = join(remote.home, 'copy')
  await broker.stop()
  cpSync(store, copy, { recursive: true })
  await broker.start()
  const before = producer.acked.size
  await until('more is acked', () => producer.acked.size > before + 5_000, 60_000)
  await until('it is at the remote', async () => (await waiting(gateway)) < 100, 60_000)
  await broker.stop()
  rmSync(store, { recursive: true })
  cpSync(copy, store, { recursive: true })
  await broker.start()
  await producer.stop()
  await until('the loss is seen', () => gateway.log.some(({ msg }) => String(msg).includes('lost its tail')), 60_000)
  await gateway.drained()
  const proof = await proofOf(producer, source, remote, 'PutBack')
  const again = gateway.log.filter(({ msg }) => String(msg).includes('lost its tail')).map(({ messages }) => messages)
  t.log(proofLine(proof), `looked for again: ${again.join(' ')}`)
  t.true(holds(proof), proofLine(proof))
})
