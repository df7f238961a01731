// Connections that end under load: between request and answer, and with a broker that has requests in it and is stopped; also
// because the gateway is killed then.

import { setTimeout as sleep } from 'node:timers/promises'
import { readTopic } from '../../proxy/demo/proof.ts'
import { missingTools, type RealBroker, type RealCluster } from '../../proxy/demo/real-cluster.ts'
import { MARKER_TOPIC } from '../../replay/marker.ts'
import { missingSs, resetConnections, unreadBytes } from '../support/connections.ts'
import { until } from '../support/gateway-process.ts'
import { environment, Load } from '../support/load.ts'
import { seededRandom } from '../support/random.ts'
import { asRemote, realTest, sharedClusters } from '../support/real.ts'
import { rounds } from '../support/rounds.ts'

const missing = missingTools() ?? missingSs()
const clusters = sharedClusters('connections', { source: {}, remote: { brokerConfig: asRemote } })

/** Of a payload: two requests of it are longer than all that a gateway asks beside its sends. */
const BYTES = 1_024

/** Milliseconds in which sends come to a broker, unless the gateway first waits for an answer of it. */
const SENDS_COME = 3_000

/** Stops the remote broker at a moment when sends stand in it unread, does this, and lets it go on. */
async function withRequestsIn(load: Load, broker: RealBroker, during: () => Promise<void> | void): Promise<void> {
  for (;;) {
    broker.signal('SIGSTOP')
    try {
      const end = Date.now() + SENDS_COME
      while (unreadBytes(broker.address) <= 2 * BYTES && Date.now() < end) await sleep(10)
      if (unreadBytes(broker.address) > 2 * BYTES) return await during()
    } finally {
      broker.signal('SIGCONT')
    }
    await load.caughtUp()
  }
}

interface CutOff {
  /** How often a lane had a request out when its connection ended. */
  requests: number
  /** Messages of those that had been stored. */
  arrived: number
}

function cutOff({ gateway }: Load): CutOff {
  const lines = gateway.log.filter(({ msg }) => msg === 'found out what had arrived at the remote')
  return { requests: lines.length, arrived: lines.reduce((sum, { arrived }) => sum + Number(arrived), 0) }
}

function add(total: CutOff, { requests, arrived }: CutOff): void {
  total.requests += requests
  total.arrived += arrived
}

realTest(
  'connections to the remote broker and to the source broker are reset under load, at either end',
  async t => {
    const { source, remote } = await clusters()
    const random = seededRandom(t)
    let resets = 0
    let held = 0
    const total = { requests: 0, arrived: 0 }
    await Load.inRounds(
      t,
      'resetConnections',
      { source, remote, topic: 'Reset', rate: 1_000, bytes: BYTES },
      async (load, round) => {
        await load.more(random.integer(1, 500))
        const end = random.pick(['near', 'far'] as const)
        const reset = ({ brokers: [broker] }: RealCluster) => {
          const count = resetConnections(broker!.address, end)
          resets += count
          return count > 0
        }
        if (round % 2 === 0) {
          // At any moment: a broker that is near has nearly always answered. Those of the round before may not be there again.
          const cluster = round % 4 === 0 ? source : remote
          await until(`connections to ${cluster.name} are reset`, () => reset(cluster))
        } else {
          // For sure between request and answer.
          held++
          await withRequestsIn(load, remote.brokers[0]!, () => void t.true(reset(remote)))
        }
        await load.caughtUp()
      },
      load => add(total, cutOff(load)),
    )
    t.log(`resets: ${resets}, requests cut off: ${total.requests}, messages of theirs stored: ${total.arrived}`)
    // Two lanes at least had a request in the broker each time.
    t.true(total.requests >= 2 * held, `${total.requests} requests cut off in ${held} rounds`)
  },
  missing,
)

realTest(
  'the remote broker is stopped with requests in it, its connections are reset, and it goes on',
  async t => {
    const { source, remote } = await clusters()
    const random = seededRandom(t)
    const broker = remote.brokers[0]!
    let stops = 0
    const total = { requests: 0, arrived: 0 }
    await Load.inRounds(
      t,
      'stopRemote',
      { source, remote, topic: 'Stopped', rate: 1_000, bytes: BYTES },
      async load => {
        stops++
        await load.more(random.integer(1, 500))
        await withRequestsIn(load, broker, async () => {
          t.true(resetConnections(broker.address, 'near') > 0)
          // Long enough for new connections, and questions on them, to stand in the kernel; or not.
          await sleep(random.integer(0, 3_000))
        })
        await load.caughtUp()
      },
      load => {
        t.is(load.producer.failed, 0, 'no producer noticed')
        add(total, cutOff(load))
      },
    )
    t.log(`requests cut off: ${total.requests}, messages of theirs stored: ${total.arrived}`)
    t.true(total.requests >= 2 * stops, `${total.requests} requests cut off in ${stops} rounds`)
  },
  missing,
)

realTest(
  'the remote broker is stopped with requests in it, the gateway is killed, and both go on',
  async t => {
    const { source, remote } = await clusters()
    const random = seededRandom(t)
    const load = await Load.start(t, { source, remote, topic: 'StoppedAndKilled', rate: 1_000, bytes: BYTES })
    const broker = remote.brokers[0]!
    const settlings = () => load.gateway.log.filter(({ msg }) => msg === 'the remote broker is settled').length
    let kills = 0
    for (kills of rounds(t, 'stopRemoteKillGateway')) {
      await load.more(random.integer(1, 500))
      const before = settlings()
      await withRequestsIn(load, broker, async () => {
        await load.gateway.kill()
        await load.gateway.start()
        await load.more(random.integer(1, 1_000))
      })
      await until('the broker is settled', () => settlings() > before, 150_000)
      await load.caughtUp()
    }
    await load.whole()
    const markers = [...(await readTopic(environment, remote.nameServer, MARKER_TOPIC)).values()].flat()
    t.true(markers.length >= 2 * kills, `${markers.length} markers in ${kills} rounds`)
  },
  missing,
)
