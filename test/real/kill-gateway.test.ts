// kill -9 of the gateway: what was acked is at the remote afterwards, once, in order, as it was sent.

import { until } from '../support/gateway-process.ts'
import { DRAIN_TIMEOUT, Load } from '../support/load.ts'
import { seededRandom } from '../support/random.ts'
import { pair, realTest } from '../support/real.ts'
import { rounds } from '../support/rounds.ts'
import { READ_AND_WRITE, setTopic, WRITE_ONLY } from '../support/topic.ts'

realTest('kill -9 of the gateway at random moments under load, also with the remote away', async t => {
  const { source, remote } = await pair()
  const random = seededRandom(t)
  await Load.inRounds(t, 'killGateway', { source, remote, topic: 'KillNine', rate: 2_000 }, async (load, round) => {
    const remoteAway = round % 3 === 0
    if (remoteAway) await remote.brokers[0]!.kill()
    await load.more(random.integer(1, 1_500))
    await load.gateway.kill()
    await load.gateway.start()
    if (remoteAway) await remote.brokers[0]!.start()
  })
})

realTest('kill -9 of the gateway while it is in a gap, and while it fills one', async t => {
  const { source, remote } = await pair()
  const random = seededRandom(t)
  // So little that nearly all is a gap, and no room on the disk.
  const gateway = ['--bodyMemory=1MiB', '--journalMinFreeBytes=1000000GiB']
  const load = await Load.start(t, { source, remote, topic: 'Gap', rate: 1_000, gateway })
  const readBack = async () => (await load.gateway.metrics()).get('read_back_messages_total')!
  for (const _ of rounds(t, 'killGatewayInGap')) {
    await remote.brokers[0]!.kill()
    load.producer.start(4_000)
    await load.more(random.integer(2_000, 5_000))
    t.true((await load.value('gap_messages')) > 1_000)
    await load.gateway.kill()
    await load.gateway.start()
    await load.more(random.integer(1_000, 2_000))

    // What came meanwhile would take the little memory that there is for filling.
    load.producer.start(0)
    await remote.brokers[0]!.start()
    const most = random.integer(1, 2_000)
    await until('it fills the gap', async () => (await readBack()) >= most, DRAIN_TIMEOUT)
    t.true((await load.value('gap_messages')) > 0)
    await load.gateway.kill()
    await load.gateway.start()
    await load.caughtUp()
  }
  await load.whole()
})

realTest('kill -9 of the gateway and of the source broker together', async t => {
  const { source, remote } = await pair()
  const random = seededRandom(t)
  const load = await Load.start(t, { source, remote, topic: 'Both', rate: 2_000 })
  for (const round of rounds(t, 'killGatewayAndSource')) {
    const remoteAway = round % 2 === 1
    if (remoteAway) await remote.brokers[0]!.kill()
    await load.more(random.integer(500, 3_000))
    await Promise.all([load.gateway.kill(), source.brokers[0]!.kill()])
    await source.brokers[0]!.start()
    await load.gateway.start()
    if (remoteAway) await remote.brokers[0]!.start()
    await load.more(500)
  }
  await load.whole()
})

realTest('kill -9 of the gateway in an outage, with a source that cannot be read back', async t => {
  const { source, remote } = await pair()
  const topic = 'WriteOnly'
  await setTopic(source, topic, WRITE_ONLY)
  await setTopic(remote, topic, READ_AND_WRITE)
  const random = seededRandom(t)
  const load = await Load.start(t, { source, remote, topic, rate: 1_000, gateway: ['--journalBodies=always'] })
  for (const _ of rounds(t, 'killGatewayUnreadable')) {
    await remote.brokers[0]!.kill()
    await load.more(random.integer(1_000, 4_000))
    await load.gateway.kill()
    await load.gateway.start()
    await load.more(random.integer(1, 1_000))
    await load.gateway.kill()
    await load.gateway.start()
    await remote.brokers[0]!.start()
    await load.caughtUp()
  }
  await load.producer.stop()
  await load.gateway.drained()
  // For the comparison.
  await setTopic(source, topic, READ_AND_WRITE)
  await load.whole()
})
