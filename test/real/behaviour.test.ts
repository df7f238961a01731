// What the embedded cluster does, asked of real brokers: the same list of behaviours.

import test from 'ava'
import { type RealCluster, startRealCluster } from '../../proxy/demo/real-cluster.ts'
import { behaviours, runBehaviour } from '../proxy/demo/broker-behaviour.ts'
import { settlingBehaviours } from '../proxy/demo/settling-behaviour.ts'
import { realTest } from '../support/real.ts'

type Version = '5.3.3' | '4.9.7'
const started = new Map<Version, Promise<RealCluster>>()

function cluster(version: Version): Promise<RealCluster> {
  let starting = started.get(version)
  starting ??= startRealCluster({ name: `behaviour-${version.replaceAll('.', '-')}`, version })
  started.set(version, starting)
  return starting
}

test.after.always(async () => {
  const running = await Promise.all([...started.values()].map(starting => starting.catch(() => undefined)))
  await Promise.all(running.map(one => one?.stop()))
})

for (const behaviour of [...behaviours, ...settlingBehaviours])
  realTest(behaviour.title, async t => runBehaviour(t, await cluster('5.3.3'), behaviour))

// Its answers differ in much that is of no matter to settling.
for (const behaviour of settlingBehaviours)
  realTest(`4.9.7: ${behaviour.title}`, async t => runBehaviour(t, await cluster('4.9.7'), behaviour))
