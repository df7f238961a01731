// Records a data directory of this version into test/fixtures. Run by hand when a format has changed, under a name of its own:
// node dist/test/support/record-journal.js journal-v2
//
// Those of earlier versions stay: every later version has to open them.

import type { StoredMessage } from '../../codec/index.ts'
import { propertiesWith } from '../replay/sample.ts'
import { Scene, TOPIC } from '../replay/scene.ts'
import { fixtureFolder, type JournalThen, writeFixture } from './journal-fixture.ts'
import { Random } from './random.ts'

const LABELS = ['rome', 'oslo'] as const
/** What is left of the space that was set aside for a segment, in a process that is killed. */
const SET_ASIDE = Buffer.alloc(12 * 1024)

const random = new Random(2)
const scene = await Scene.open({ remotes: LABELS, random })
const ack = (
  queueId: number,
  texts: string[],
  more: Partial<StoredMessage> = {},
  skip?: Parameters<ReturnType<Scene['forward']>['ack']>[0],
) => {
  const sending = scene.forward(queueId)
  for (const text of texts) sending.store(text, more)
  sending.ack(skip)
}
const refuse = () => {
  for (const label of LABELS) scene.remoteOf(label).broker.onSend = send => send.request.answer({ code: 2 })
}

// The first process: some arrive at both, then one is down.
ack(0, ['at both 0', 'at both 1'])
ack(1, ['at both 2'])
await scene.allDone()
const late = scene.forward(0).store('late')
scene.remoteOf('oslo').broker.onSend = send => send.request.answer({ code: 2 })
ack(0, ['at rome 0'])
ack(1, ['at rome 1', 'at rome 2'], { sysFlag: 1, flag: -7 })
await scene.until('rome has it', () => scene.feedOf('rome').account.queued === 0)
refuse()
for (let index = 0; index < 5; index++) ack(index % 2, [`plain ${index} ${random.bytes(40).toString('hex')}`])
ack(0, ['delayed'], {}, { reason: 'delayed', labels: 'all' })
ack(1, ['from oslo'], {}, { reason: 'loop', labels: ['oslo'] })
late.ack()
ack(0, ['without a key'], { properties: Buffer.alloc(0) })
await scene.spillAll()
await scene.environment.pass(2_000)

// The second: blocks are compressed; rome finds some of what it has behind what it has not.
scene.options.compress = true
await scene.crash()
for (let index = 0; index < 4; index++)
  ack(index % 2, [`compressed ${index} ${'of paris '.repeat(20)}`], {
    properties: propertiesWith(`C${index}`, [['TAGS', 'a']]),
  })
await scene.spillAll()
ack(1, ['found 0', 'found 1', 'found 2', 'found 3'])
scene.remoteOf('rome').broker.onSend = send => {
  const which = send.messages.flatMap(({ body }, index) => (/^found [13]$/.test(body.toString()) ? [index] : []))
  if (which.length > 0) {
    send.store(which)
    refuse()
    return send.request.breakOff()
  }
  if (send.queueId === 1) send.answerStored(send.store())
  else send.request.answer({ code: 2 })
}
await scene.until('some are found', () => scene.remoteOf('rome').broker.texts(TOPIC, 1).includes('found 3'))
await scene.environment.pass(5_000)
ack(0, ['in the journal 0'])
ack(1, ['in the journal 1'], {}, { reason: 'transaction', labels: 'all' })
await scene.environment.pass(2_000)
ack(0, ['behind the cursor 0'])
ack(1, ['behind the cursor 1'], {}, { reason: 'loop', labels: ['rome'] })
await scene.environment.settled()

const disk = scene.environment.fileSystem.afterCrash(false)
const newest = disk
  .find(/^places-/)
  .filter(path => disk.bytes(path).length > 0)
  .at(-1)!
disk.put(newest, Buffer.concat([disk.bytes(newest), SET_ASIDE]))
const { broker, source } = scene
const stored = (cluster: typeof source) => [0, 1].map(queueId => [...cluster.broker.queue(TOPIC, queueId).messages])
const textsAt = (label: string) => [0, 1].map(queueId => scene.remoteOf(label).broker.texts(TOPIC, queueId))
const was: JournalThen = {
  sequence: broker.journal.sequence,
  epochs: [...broker.journal.epochIds],
  queues: 2,
  remotes: Object.fromEntries(
    broker.feeds.map(({ remote: { label }, account: { totals, queued, inGap } }) => [
      label,
      { totals: structuredClone(totals), queued, inGap, arrived: textsAt(label), atLast: [] },
    ]),
  ),
}
const atRemotes = new Map(LABELS.map(label => [label, stored(scene.remoteOf(label))]))
for (const label of LABELS) scene.remoteOf(label).broker.onSend = send => send.answerStored(send.store())
await scene.allDone()
for (const label of LABELS) was.remotes[label]!.atLast = textsAt(label)
await scene.close()
writeFixture(fixtureFolder(process.argv[2] ?? 'journal-v2'), disk, TOPIC, stored(source), atRemotes, was)
