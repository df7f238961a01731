// Data directories to be recorded as fixtures: what is played before the process ends without a word.
//
// They are records: one that is in test/fixtures says how its fixture came about, by the code of that time.

import { ResponseCode, type StoredMessage } from '../../codec/index.ts'
import { propertiesWith } from '../replay/sample.ts'
import { Scene, type SceneOptions, slotFolder, TOPIC } from '../replay/scene.ts'
import { closeForReading } from './journal-fixture.ts'
import type { Random } from './random.ts'

const MINUTE = 60_000
/** Properties, as long as they may be. */
const NO_ROOM = propertiesWith('L', [['long', 'x'.repeat(32_700)]])
const BUSY = { code: ResponseCode.SYSTEM_BUSY }

/** By name; each ends with what waits, and remotes that take nothing. */
export const recordings: Record<string, (random: Random) => Promise<Scene>> = { waiting, left, joined }

type Skip = Parameters<ReturnType<Scene['forward']>['ack']>[0]

function acking(scene: Scene) {
  return (queueId: number, texts: string[], more: Partial<StoredMessage> = {}, skip?: Skip) => {
    const sending = scene.forward(queueId)
    for (const text of texts) sending.store(text, more)
    sending.ack(skip)
  }
}

/** These refuse every send, before it is stored. */
function refuse(scene: Scene, labels: readonly string[]): void {
  for (const label of labels)
    for (const broker of scene.remoteOf(label).brokers) broker.onSend = send => send.request.answer(BUSY)
}

/** Blocks, compressed and not, and places behind them; skips for all and for one; marks with exceptions. */
async function waiting(random: Random): Promise<Scene> {
  const labels = ['rome', 'oslo']
  const scene = await Scene.open({ remotes: labels, random })
  const ack = acking(scene)

  // The first process: some arrive at both, then one is down.
  ack(0, ['at both 0', 'at both 1'])
  ack(1, ['at both 2'])
  await scene.allDone()
  const late = scene.forward(0).store('late')
  scene.remoteOf('oslo').broker.onSend = send => send.request.answer(BUSY)
  ack(0, ['at rome 0'])
  ack(1, ['at rome 1', 'at rome 2'], { sysFlag: 1, flag: -7 })
  await scene.until('rome has it', () => scene.feedOf('rome').account.queued === 0)
  refuse(scene, labels)
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
      refuse(scene, labels)
      return send.request.breakOff()
    }
    if (send.queueId === 1) send.answerStored(send.store())
    else send.request.answer(BUSY)
  }
  await scene.until('some are found', () => scene.remoteOf('rome').broker.texts(TOPIC, 1).includes('found 3'))
  await scene.environment.pass(5_000)
  ack(0, ['in the journal 0'])
  ack(1, ['in the journal 1'], {}, { reason: 'transaction', labels: 'all' })
  await scene.environment.pass(2_000)
  ack(0, ['behind the cursor 0'])
  ack(1, ['behind the cursor 1'], {}, { reason: 'loop', labels: ['rome'] })
  return scene
}

/**
 * What a lane has left, and what it knows of it: a queue of a broker that was away, and came back without its tail (oslo); ends from
 * minutes before, a tail that was lost, and found messages behind one that was not (rome); a dead letter, and a message without
 * room for a stamp (bern); a cursor that was lost (lima); a remote that is not configured any more (kiel). The source does not let
 * bodies be read, so that they wait in the journal, or are kept there.
 */
async function left(random: Random): Promise<Scene> {
  const labels = ['rome', 'oslo', 'bern', 'lima']
  const options: SceneOptions = {
    remotes: [...labels, 'kiel'],
    random,
    remoteBrokers: 2,
    remoteBrokerAway: 'reroute',
    journalBodies: 'always',
    isUnknown: true,
  }
  const scene = await Scene.open(options)
  const ack = acking(scene)
  closeForReading(scene.source)
  const others = (label: string) => labels.filter(one => one !== label)
  const isDone = (label: string) => {
    const { account } = scene.feedOf(label)
    return account.queued + account.inGap === 0
  }

  // The first process: ends at some minutes; then kiel is not configured any more.
  for (let minute = 0; minute < 13; minute++) {
    ack(minute % 2, [`minute ${minute}`])
    await scene.allDone()
    await scene.environment.pass(MINUTE + 1_000)
  }
  await scene.close()
  scene.labels = labels
  await scene.crash()

  // The second: a dead letter, and one without a stamp; what is done by all is kept.
  const bern = scene.remoteOf('bern')
  bern.broker.onSend = send => {
    const isIllegal = send.messages.some(({ body }) => body.toString() === 'illegal')
    if (isIllegal) return send.request.answer({ code: ResponseCode.MESSAGE_ILLEGAL, remark: 'no such thing' })
    send.answerStored(send.store())
  }
  ack(0, ['illegal'], {}, { reason: 'loop', labels: others('bern') })
  ack(0, ['no room for a stamp'], { properties: NO_ROOM }, { reason: 'loop', labels: others('bern') })
  await scene.allDone()
  await scene.environment.pass(MINUTE)
  for (let index = 0; index < 4; index++) ack(index % 2, [`at all ${index}`])
  ack(1, ['without a key, at all'], { properties: Buffer.alloc(0) })
  await scene.allDone()
  await scene.environment.pass(2_000)

  // The third: oslo's first broker is away, and its lanes leave it.
  await scene.restart()
  const oslo = scene.remoteOf('oslo')
  const first = oslo.broker
  oslo.away.add(first)
  scene.environment.network.stop(first.address)
  ack(0, ['second broker 0'])
  ack(1, ['second broker 1'])
  await scene.until('the lanes of oslo are elsewhere', () => labels.every(isDone))
  await scene.environment.pass(2_000)
  refuse(scene, ['lima'])
  ack(0, ['at lima later 0'])
  ack(1, ['at lima later 1'])
  await scene.environment.pass(2_000)

  // The fourth: lima's cursor is lost, and nobody knows where its lanes lead.
  scene.environment = scene.environment.afterCrash()
  for (const slot of ['cursor-0', 'cursor-1'])
    scene.environment.fileSystem.put(`${slotFolder('lima')}/${slot}`, Buffer.from('damaged'))
  const lima = scene.remoteOf('lima')
  for (const broker of lima.brokers) lima.away.add(broker)
  await scene.start()
  await scene.until('the others go on', () => others('lima').every(isDone))

  // From here on none takes anything. Rome has some of a batch, and loses the newest of its other queue; oslo's first broker
  // comes back without its newest.
  const rome = scene.remoteOf('rome')
  rome.broker.onSend = send => {
    send.store([1, 3])
    refuse(scene, ['rome'])
    send.request.breakOff()
  }
  ack(1, ['found 0', 'found 1', 'found 2', 'found 3'], {}, { reason: 'loop', labels: others('rome') })
  await scene.until('some are found', () => rome.broker.texts(TOPIC, 1).includes('found 3'))
  refuse(scene, labels)
  rome.disconnect(scene.environment.network)
  await scene.environment.settled()
  rome.broker.loseTailOf(TOPIC, 0, 2)
  rome.connect(scene.environment.network)
  first.loseTailOf(TOPIC, 0, 2)
  oslo.away.delete(first)
  oslo.connect(scene.environment.network)
  await scene.environment.pass(2 * MINUTE)
  ack(0, ['in a block 0'])
  ack(1, ['in a block 1', 'in a block 2'], { properties: propertiesWith('B', [['TAGS', 'a']]) })
  ack(1, ['delayed'], {}, { reason: 'delayed', labels: 'all' })
  await scene.spillAll()
  await scene.environment.pass(2_000)
  ack(0, ['in the journal 0'])
  ack(1, ['behind the cursor 1'], {}, { reason: 'loop', labels: ['rome'] })
  return scene
}

/** A remote is new: of what was before it one queue is done by the other, and one waits on disk. */
async function joined(random: Random): Promise<Scene> {
  const scene = await Scene.open({ random, remotes: ['rome'] })
  const ack = acking(scene)
  ack(0, ['done 0', 'done 1', 'done 2'])
  await scene.allDone()
  refuse(scene, ['rome'])
  ack(1, ['before 0', 'before 1'])
  await scene.spillAll()
  ack(1, ['before 2'])
  await scene.environment.settled()
  scene.labels = ['rome', 'oslo']
  await scene.restart()
  ack(0, ['for both 0'])
  await scene.until('oslo has it', () => scene.feedOf('oslo').account.totals.replicated === 1)
  refuse(scene, ['oslo'])
  ack(1, ['for both 1'])
  await scene.environment.pass(2_000)
  return scene
}
