// What the embedded cluster does, asked of a real broker: the same list of behaviours.

import test from 'ava'
import { type RealCluster, startRealCluster } from '../../proxy/demo/real-cluster.ts'
import { behaviours, runBehaviour } from '../proxy/demo/broker-behaviour.ts'
import { realTest } from '../support/real.ts'

let started: Promise<RealCluster> | undefined

function cluster(): Promise<RealCluster> {
  started ??= startRealCluster({ name: 'behaviour', version: '5.3.3' })
  return started
}

test.after.always(async () => {
  const running = await started?.catch(() => undefined)
  await running?.stop()
})

for (const behaviour of behaviours) realTest(behaviour.title, async t => runBehaviour(t, await cluster(), behaviour))
