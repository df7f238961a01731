// Two remotes on one journal, one of them down.

import { Load } from '../support/load.ts'
import { peakOf } from '../support/peak.ts'
import { asRemote, pair, realTest, sharedClusters } from '../support/real.ts'
import { rounds } from '../support/rounds.ts'

const RATE = 500
const another = sharedClusters({ west: { brokerConfig: asRemote } })

realTest('one of two remotes is down: the lag of the other does not notice, and afterwards both are whole', async t => {
  const { source, remote: east } = await pair()
  const { west } = await another()
  const load = await Load.start(t, {
    source,
    remote: { west, east },
    topic: 'Remotes',
    rate: RATE,
    remoteIsKilled: true,
  })
  for (const _ of rounds(t, 'oneRemoteDown')) {
    const before = await eastLag(load)
    await west.brokers[0]!.kill()
    const after = await eastLag(load)
    t.true((await load.value('lag_messages', 'west')) > 7 * RATE)
    t.log(`east: at most ${lagText(before)} to go, and with west down ${lagText(after)}`)
    t.true(after.messages <= Math.max(2 * before.messages, RATE / 2), 'messages')
    t.true(after.seconds <= Math.max(2 * before.seconds, 1), 'seconds')
    await west.brokers[0]!.start()
    await load.caughtUp('west')
    await load.caughtUp('east')
  }
  await load.whole()
})

interface Lag {
  messages: number
  seconds: number
}

/** The most that it is while producers go on for some seconds. */
async function eastLag(load: Load): Promise<Lag> {
  const most = { messages: 0, seconds: 0 }
  const look = async () => {
    most.seconds = Math.max(most.seconds, await load.value('lag_seconds', 'east'))
    return load.value('lag_messages', 'east')
  }
  most.messages = await peakOf(look, load.more(8 * RATE))
  return most
}

function lagText({ messages, seconds }: Lag): string {
  return `${messages} messages, ${seconds} s`
}
