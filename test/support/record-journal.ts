// Records a data directory of this version into test/fixtures. Run by hand when a format has changed: a recording (recordings.ts),
// and a name of its own for what comes of it.
// node dist/test/support/record-journal.js left journal-v3-left
//
// Those of earlier versions stay: every later version has to open them.

import type { FakeCluster } from '../replay/fake-cluster.ts'
import { TOPIC } from '../replay/scene.ts'
import { fixtureFolder, type JournalThen, writeFixture } from './journal-fixture.ts'
import { Random } from './random.ts'
import { recordings } from './recordings.ts'

/** What is left of the space that was set aside for a segment, in a process that is killed. */
const SET_ASIDE = Buffer.alloc(12 * 1024)
const QUEUES = [0, 1]

const [recording = '', name = ''] = process.argv.slice(2)
const play = recordings[recording]
if (play === undefined || name === '')
  throw new Error(
    `record-journal.js wants a recording (${Object.keys(recordings).join(', ')}) and a name for the fixture`,
  )
const scene = await play(new Random(2))
await scene.environment.settled()

const { broker, source, labels, options } = scene
const disk = scene.environment.fileSystem.afterCrash(false)
const newest = disk
  .find(/^places-/)
  .filter(path => disk.bytes(path).length > 0)
  .at(-1)!
disk.put(newest, Buffer.concat([disk.bytes(newest), SET_ASIDE]))
const stored = ({ brokers }: FakeCluster) =>
  brokers.flatMap(broker => QUEUES.map(queueId => [...broker.queue(TOPIC, queueId).messages]))
const textsAt = (label: string) => scene.remoteOf(label).texts(TOPIC)
const was: JournalThen = {
  at: scene.environment.clock.now(),
  sequence: broker.journal.sequence,
  epochs: [...broker.journal.epochIds],
  queues: QUEUES.length,
  remoteBrokers: options.remoteBrokers ?? 1,
  sourceIsClosed: options.isUnknown ?? false,
  remotes: Object.fromEntries(
    broker.feeds.map(({ remote: { label }, account: { totals, queued, inGap } }) => [
      label,
      { totals: structuredClone(totals), queued, inGap, arrived: textsAt(label), atLast: [] },
    ]),
  ),
}
const atRemotes = new Map([...scene.remotes].map(([label, remote]) => [label, stored(remote)]))
for (const label of labels) {
  const remote = scene.remoteOf(label)
  for (const broker of remote.brokers) broker.onSend = send => send.answerStored(send.store())
  remote.away.clear()
}
await scene.allDone()
for (const label of labels) was.remotes[label]!.atLast = textsAt(label)
await scene.close()
writeFixture(fixtureFolder(name), disk, TOPIC, stored(source), atRemotes, was)
