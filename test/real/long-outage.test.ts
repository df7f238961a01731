// Outages that leave millions of messages waiting: the gateway stays small, and afterwards every queue is the same.

import { sendInBatches } from '../support/batch-producer.ts'
import { GatewayProcess, until } from '../support/gateway-process.ts'
import { sameQueues } from '../support/lockstep.ts'
import { pair, realTest } from '../support/real.ts'
import { isSoak } from '../support/rounds.ts'

const MiB = 2 ** 20
const MEMORY = 256 * MiB
const QUEUES = 4
const DRAIN_TIMEOUT = 30 * 60_000

const outages = [
  { count: 1_000_000, bytes: 1_024 },
  { count: 10_000_000, bytes: 128 },
]

for (const { count, bytes } of isSoak ? outages : outages.slice(0, 1))
  realTest(`an outage with ${count} queued messages of ${bytes} B holds under 256 MiB of memory`, async t => {
    const { source, remote } = await pair()
    const topic = `Long-${bytes}`
    const gateway = new GatewayProcess({ source: source.nameServer, remote: remote.nameServer })
    t.teardown(() => gateway.end())
    await gateway.start()
    await sendInBatches(gateway.nameServer, topic, 1_000, bytes)
    await gateway.drained()

    await remote.brokers[0]!.kill()
    const started = Date.now()
    await sendInBatches(gateway.nameServer, topic, count, bytes)
    const seconds = (Date.now() - started) / 1_000
    t.is(await gateway.waiting(), count)
    const inOutage = gateway.peakMemory()
    await remote.brokers[0]!.start()
    const back = Date.now()
    await until('the gateway has nothing left to send', async () => (await gateway.waiting()) === 0, DRAIN_TIMEOUT)
    const drained = (Date.now() - back) / 1_000
    const { same, difference } = await sameQueues(source, remote, topic, QUEUES)
    t.log(
      `sent ${Math.round(count / seconds)}/s, drained ${Math.round(count / drained)}/s,`,
      `peak memory ${Math.round(inOutage / MiB)} MiB in the outage, ${Math.round(gateway.peakMemory() / MiB)} MiB at the end`,
    )
    t.is(difference, undefined)
    t.is(same, count + 1_000)
    t.true(gateway.peakMemory() < MEMORY, `${gateway.peakMemory()} bytes`)
  })
