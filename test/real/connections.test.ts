// Connections that end under load: between request and answer, and with a broker that has requests in it and is stopped.

import { setTimeout as sleep } from 'node:timers/promises'
import { missingTools } from '../../proxy/demo/real-cluster.ts'
import { missingSs, resetConnections, unreadBytes } from '../support/connections.ts'
import { until } from '../support/gateway-process.ts'
import { Load } from '../support/load.ts'
import { seededRandom } from '../support/random.ts'
import { realTest, sharedClusters } from '../support/real.ts'
import { rounds } from '../support/rounds.ts'

const missing = missingTools() ?? missingSs()
const clusters = sharedClusters('connections', { source: {}, remote: {} })

realTest(
  'connections to the remote broker and to the source broker are reset under load, at either end',
  async t => {
    const { source, remote } = await clusters()
    const random = seededRandom(t)
    const load = await Load.start(t, { source, remote, topic: 'Reset', rate: 3_000 })
    let resets = 0
    const reset = async (cluster: typeof source) => {
      await load.more(random.integer(1, 1_000))
      const end = random.pick(['near', 'far'] as const)
      // Those of the round before may not be there again.
      await until(`connections to ${cluster.name} are reset`, () => {
        const count = resetConnections(cluster.brokers[0]!.address, end)
        resets += count
        return count > 0
      })
      await load.caughtUp()
    }
    for (const round of rounds(t, 'resetConnections')) await reset(round % 4 === 0 ? source : remote)
    const sentAgain = () => load.value('sent_again_messages_total')
    // Few rounds may have met none between request and answer.
    for (let more = 0; more < 30 && (await sentAgain()) === 0; more++) await reset(remote)
    t.log(`connections reset: ${resets}, sent again: ${await sentAgain()}`)
    t.true((await sentAgain()) > 0, 'some were reset between request and answer')
    await load.whole()
  },
  missing,
)

realTest(
  'the remote broker is stopped with requests in it, its connections are reset, and it goes on',
  async t => {
    const { source, remote } = await clusters()
    const random = seededRandom(t)
    const load = await Load.start(t, { source, remote, topic: 'Stopped', rate: 2_000 })
    const broker = remote.brokers[0]!
    for (const _ of rounds(t, 'stopRemote')) {
      await load.more(random.integer(1, 1_000))
      broker.signal('SIGSTOP')
      try {
        await until('requests wait to be read', () => unreadBytes(broker.address) > 0)
        t.true(resetConnections(broker.address, 'near') > 0)
        // Long enough for new connections, and questions on them, to stand in the kernel; or not.
        await sleep(random.integer(0, 3_000))
      } finally {
        broker.signal('SIGCONT')
      }
      await load.caughtUp()
    }
    t.is(load.producer.failed, 0, 'no producer noticed')
    await load.whole()
  },
  missing,
)
