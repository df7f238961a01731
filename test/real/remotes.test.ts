// Two remotes on one journal, one of them down.

import { Load } from '../support/load.ts'
import { peakOf } from '../support/peak.ts'
import { asRemote, realTest, sharedClusters } from '../support/real.ts'
import { rounds } from '../support/rounds.ts'

const RATE = 500
const clusters = sharedClusters('remotes', {
  source: {},
  west: { brokerConfig: asRemote },
  east: { brokerConfig: asRemote },
})

realTest('one of two remotes is down: the lag of the other does not notice, and afterwards both are whole', async t => {
  const { source, west, east } = await clusters()
  const load = await Load.start(t, {
    source,
    remote: { west, east },
    topic: 'Remotes',
    rate: RATE,
    remoteIsKilled: true,
  })
  for (const _ of rounds(t, 'oneRemoteDown')) {
    await west.brokers[0]!.kill()
    const eastLag = await peakOf(() => load.value('lag_messages', 'east'), load.more(8 * RATE))
    const westLag = await load.value('lag_messages', 'west')
    t.true(westLag > 7 * RATE)
    t.true(eastLag < westLag / 3, `east had ${eastLag} messages to go, and west, which is down, ${westLag}`)
    await west.brokers[0]!.start()
    await load.caughtUp('west')
  }
  await load.whole()
})
