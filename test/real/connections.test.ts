// Connections that end under load, with requests in a broker that is stopped for a moment, so that they end between request and
// answer for sure; also because the gateway is killed then.

import { setTimeout as sleep } from 'node:timers/promises'
import { readTopic } from '../../proxy/demo/proof.ts'
import type { RealBroker, RealCluster } from '../../proxy/demo/real-cluster.ts'
import { MARKER_TOPIC } from '../../replay/marker.ts'
import { missingSs, resetConnections, unreadBytes } from '../support/connections.ts'
import { until } from '../support/gateway-process.ts'
import { environment, Load } from '../support/load.ts'
import { seededRandom } from '../support/random.ts'
import { missingRocketMQ, pair, realTest } from '../support/real.ts'
import { rounds } from '../support/rounds.ts'

const missing = missingRocketMQ ?? missingSs()

/** Of a payload: two requests of it are longer than all that a gateway asks beside its sends. */
const BYTES = 1_024

/** Milliseconds in which sends come to a broker, unless the gateway first waits for an answer of it. */
const SENDS_COME = 3_000

/** Stops a broker at a moment when sends stand in it unread, does this, and lets it go on. */
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

/** Of connections to which broker: with requests in it, or at any moment, when one that is near has nearly always answered. */
type Reset = 'remote' | 'source' | 'remote, at any moment' | 'source, at any moment'

/** What is reset first in some of twenty rounds. With requests in the source its queues wait for five seconds, so that is rare. */
const alsoReset: Partial<Record<number, Reset>> = {
  3: 'source, at any moment',
  6: 'remote, at any moment',
  9: 'source',
  13: 'source, at any moment',
  16: 'remote, at any moment',
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

function settlings({ gateway }: Load): number {
  return gateway.log.filter(({ msg }) => msg === 'the remote broker is settled').length
}

function add(total: CutOff, { requests, arrived }: CutOff): void {
  total.requests += requests
  total.arrived += arrived
}

realTest(
  'connections to the remote broker, and now and then to the source broker, are reset between request and answer, at either end',
  async t => {
    const { source, remote } = await pair()
    const random = seededRandom(t)
    const resets = { remote: 0, source: 0, 'remote, at any moment': 0, 'source, at any moment': 0 }
    const total = { requests: 0, arrived: 0 }
    await Load.inRounds(
      t,
      'resetConnections',
      { source, remote, topic: 'Reset', rate: 1_000, bytes: BYTES },
      async (load, round) => {
        const reset = ({ brokers: [broker] }: RealCluster, what: Reset) => {
          const count = resetConnections(broker!.address, random.pick(['near', 'far'] as const))
          resets[what] += count
          return count > 0
        }
        switch (alsoReset[round % 20]) {
          case 'remote, at any moment': {
            await load.more(random.integer(1, 300))
            const before = settlings(load)
            await until('connections to the remote are reset', () => reset(remote, 'remote, at any moment'))
            await until('the remote is settled', () => settlings(load) > before)
            break
          }
          case 'source, at any moment':
            await load.more(random.integer(1, 300))
            // Those of the round before may not be there again.
            await until('connections to the source are reset', () => reset(source, 'source, at any moment'))
            break
          case 'source':
            await withRequestsIn(load, source.brokers[0]!, () => void t.true(reset(source, 'source')))
        }
        await load.more(random.integer(1, 300))
        let before = Number.POSITIVE_INFINITY
        await withRequestsIn(load, remote.brokers[0]!, () => {
          before = cutOff(load).requests
          t.true(reset(remote, 'remote'))
        })
        await until('a lane has found out what became of its request', () => cutOff(load).requests > before)
        await load.caughtUp()
      },
      load => add(total, cutOff(load)),
    )
    const said = Object.entries(resets).map(([what, count]) => `${count} to the ${what}`)
    t.log(
      `resets: ${said.join('; ')}; requests cut off: ${total.requests}, messages of theirs stored: ${total.arrived}`,
    )
  },
  missing,
)

realTest(
  'the remote broker is stopped with requests in it, its connections are reset, and it goes on',
  async t => {
    const { source, remote } = await pair()
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
    const { source, remote } = await pair()
    const random = seededRandom(t)
    const load = await Load.start(t, { source, remote, topic: 'StoppedAndKilled', rate: 1_000, bytes: BYTES })
    const broker = remote.brokers[0]!
    let kills = 0
    for (kills of rounds(t, 'stopRemoteKillGateway')) {
      await load.more(random.integer(1, 500))
      const before = settlings(load)
      await withRequestsIn(load, broker, async () => {
        await load.gateway.kill()
        await load.gateway.start()
        await load.more(random.integer(1, 1_000))
      })
      await until('the broker is settled', () => settlings(load) > before, 150_000)
      await load.caughtUp()
    }
    await load.whole()
    const markers = [...(await readTopic(environment, remote.nameServer, MARKER_TOPIC)).values()].flat()
    t.true(markers.length >= 2 * kills, `${markers.length} markers in ${kills} rounds`)
  },
  missing,
)
