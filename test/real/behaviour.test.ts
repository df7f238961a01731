// What the embedded cluster does, asked of real brokers: the same list of behaviours.

import { behaviours, runBehaviour } from '../proxy/demo/broker-behaviour.ts'
import { settlingBehaviours } from '../proxy/demo/settling-behaviour.ts'
import { realTest, sharedClusters } from '../support/real.ts'

const version5 = sharedClusters({ cluster: { version: '5.3.3' } })
const version4 = sharedClusters({ cluster: { version: '4.9.7' } })

for (const behaviour of [...behaviours, ...settlingBehaviours])
  realTest(behaviour.title, async t => runBehaviour(t, (await version5()).cluster, behaviour))

// Its answers differ in much that is of no matter to settling.
for (const behaviour of settlingBehaviours)
  realTest(`4.9.7: ${behaviour.title}`, async t => runBehaviour(t, (await version4()).cluster, behaviour))
