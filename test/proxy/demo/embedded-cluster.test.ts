import test from 'ava'
import { type EmbeddedCluster, startEmbeddedCluster } from '../../../proxy/demo/embedded-cluster.ts'
import { behaviours, runBehaviour } from './broker-behaviour.ts'
import { settlingBehaviours } from './settling-behaviour.ts'

let cluster: EmbeddedCluster

test.before(async () => {
  cluster = await startEmbeddedCluster({ name: 'embedded' })
})
test.after.always(() => cluster?.stop())

for (const behaviour of [...behaviours, ...settlingBehaviours])
  test(behaviour.title, t => runBehaviour(t, cluster, behaviour))
