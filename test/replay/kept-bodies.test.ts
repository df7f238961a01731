// Bodies that may not be had from the source again are kept after they are done: a remote that loses its tail gets them.

import test from 'ava'
import { RequestCode, ResponseCode } from '../../codec/index.ts'
import { payloadOf } from '../../replay/body.ts'
import { inspectJournal } from '../../replay/journal-inspection.ts'
import type { Place } from '../../replay/place.ts'
import { DiskError, type FakeDisk } from '../support/fake-disk.ts'
import { seededRandom } from '../support/random.ts'
import type { FakeBroker } from './fake-cluster.ts'
import { placeAt } from './sample.ts'
import { FOLDER, Scene, type SceneOptions, TOPIC, texts } from './scene.ts'

const MINUTE = 60_000
/** Segments of 25 KB, and room for three of them that are kept. */
const SMALL = 200_000
/** So many messages fill a segment of that. */
const SEGMENT = 130

/** A scene whose source lets nothing be read. */
async function unreadable(options: SceneOptions = {}): Promise<Scene> {
  const scene = await Scene.open({
    sourceQueues: 1,
    remoteQueues: 1,
    journalBodies: 'always',
    isUnknown: true,
    ...options,
  })
  refuseReading(scene)
  // Known from now on.
  scene.broker.readable.mayReadBack(TOPIC, 0, 0)
  await scene.environment.settled()
  return scene
}

function refuseReading({ source }: Scene, code: number = ResponseCode.NO_PERMISSION): void {
  source.broker.intercept = request => {
    if (request.head.code !== RequestCode.PULL_MESSAGE) return false
    request.answer({ code, remark: 'not now' })
    return true
  }
}

/** Messages that arrive, so many at a time. */
async function sendAll(scene: Scene, all: readonly string[], atATime = 20): Promise<void> {
  for (let at = 0; at < all.length; at += atATime) {
    scene.send(all.slice(at, at + atATime))
    await scene.allDone()
  }
  // What is done is in a slot, and what that makes needless is gone.
  await scene.environment.pass(3_000)
}

/** The remote broker ends, has lost so many of its newest, and is there again. */
async function remoteLoses(scene: Scene, count: number): Promise<void> {
  const { remote, environment } = scene
  remote.disconnect(environment.network)
  await environment.settled()
  remote.broker.loseTailOf(TOPIC, 0, count)
  remote.connect(environment.network)
}

async function allThere(scene: Scene, count: number): Promise<void> {
  await scene.until('all is there again', () => scene.arrived().length === count)
  await scene.allDone()
}

function kept({ environment }: Scene): string[] {
  return environment.fileSystem.find(/^kept-/)
}

/** Flips a bit of each file whose name fits, this far from its end. */
function damage(disk: FakeDisk, name: RegExp, fromEnd: number): void {
  for (const path of disk.find(name)) {
    const bytes = Buffer.from(disk.bytes(path))
    if (bytes.length <= fromEnd) continue
    bytes[bytes.length - fromEnd]! ^= 1
    disk.put(path, bytes)
  }
}

test('a body is found by queue, epoch and offset, and is that of another check by none of them', async t => {
  const scene = await unreadable()
  await sendAll(scene, texts(0, 3))
  const { broker } = scene
  const [epoch] = [...broker.journal.epochIds.keys()]
  const place = { ...placeAt(1), epoch: epoch!, bornTimestamp: 0, hash: 0 }
  const find = async (one: Partial<Place>, queueId = 0) => {
    const { bodies } = await broker.kept.find(TOPIC, queueId, [{ ...place, ...one }])
    return [...bodies.values()].map(({ body }) => Buffer.concat(payloadOf(body)).toString())
  }
  t.deepEqual(await find({}), ['m1'])
  const { bodies } = await broker.kept.find(TOPIC, 0, [place])
  const [found] = bodies.values()
  t.deepEqual(await find(found!.place), ['m1'])
  t.deepEqual(await find({ ...found!.place, hash: found!.place.hash + 1 }), [])
  t.deepEqual(await find({}, 1), [])
  t.deepEqual(await find({ queueOffset: 3 }), [])
  t.deepEqual(await find({ epoch: epoch! + 1 }), [])
})

test('what somebody else has removed is missed, and stops nobody', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await sendAll(scene, texts(0, SEGMENT * 2))
  for (const path of kept(scene)) scene.environment.fileSystem.files.delete(path)
  await remoteLoses(scene, SEGMENT * 2)
  await scene.until('it is said', () => scene.account.totals.lost.remote !== undefined)
  await scene.allDone()
  t.is(scene.arrived().length + scene.account.totals.lost.remote!, SEGMENT * 2)
})

test('what is kept is named by a tool, and is no part of what waits', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await sendAll(scene, texts(0, SEGMENT * 2))
  const { fileSystem, clock } = scene.environment
  const inspection = await inspectJournal({ fileSystem, clock }, 'paris-a', FOLDER, [{ label: 'default', bit: 1 }])
  t.deepEqual(
    inspection.keptFiles.map(({ name }) => `${FOLDER}/${name}`),
    kept(scene),
  )
  t.true(inspection.keptFiles.every(({ bytes, since }) => bytes > 0 && since <= clock.now()))
  t.false(inspection.otherFiles.some(name => name.startsWith('kept-')))
  t.is(inspection.remotes[0]!.found.waiting, 0)
  t.false(inspection.isDamaged)
})

for (const [where, count, maxBytes] of [
  ['of the segment that is written to', 60, 1_000_000_000],
  ['of segments that are kept, too', 3 * SEGMENT, SMALL],
] as const)
  for (const start of ['', 'a restart', 'a kill', 'a power cut'] as const)
    test(`a lost tail ${where} arrives whole${start === '' ? '' : `, with ${start} in between`}`, async t => {
      const scene = await unreadable({ maxBytes, journalAck: 'fsync' })
      await sendAll(scene, texts(0, count))
      t.is(kept(scene).length > 0, maxBytes === SMALL)
      if (start === 'a restart') await scene.close()
      if (start !== '') await scene.crash(start === 'a power cut')
      await scene.environment.pass(5_000)
      await remoteLoses(scene, count)
      await allThere(scene, count)
      t.deepEqual(scene.arrived(), texts(0, count))
      const { account } = scene
      t.deepEqual(account.totals.lost, {})
      t.is(account.totals.replicated, count)
      t.is(account.acked, count)
      t.is(account.readBack, 0)
      await scene.close()
      t.is(scene.replay.memory.used, 0)
    })

test('it does so again, when the remote loses it once more', async t => {
  const scene = await unreadable()
  await sendAll(scene, texts(0, 30))
  for (let round = 0; round < 3; round++) {
    await remoteLoses(scene, 10)
    await allThere(scene, 30)
  }
  t.deepEqual(scene.arrived(), texts(0, 30))
  t.deepEqual(scene.account.totals.lost, {})
})

/** A scene in whose outage all went to disk. */
async function spilled(): Promise<Scene> {
  const scene = await unreadable({ maxBytes: SMALL, bodyMemory: 20_000 })
  scene.refuseSends(2)
  for (let at = 0; at < SEGMENT * 2; at += 20) {
    scene.send(texts(at, at + 20))
    await scene.environment.pass(100)
  }
  await scene.environment.pass(5_000)
  return scene
}

test('what went to disk in an outage, and arrived after a crash, is kept in its block', async t => {
  const scene = await spilled()
  await scene.crash()
  scene.takeSends()
  await scene.allDone()
  await scene.environment.pass(3_000)
  t.true(kept(scene).some(path => path.includes('bodies-')))
  await remoteLoses(scene, 260)
  await allThere(scene, 260)
  t.deepEqual(scene.arrived(), texts(0, 260))
})

test('what went to disk in an outage, and then arrived, is kept in its block, and in nothing else', async t => {
  const scene = await spilled()
  t.deepEqual(kept(scene), [])
  scene.takeSends()
  await scene.allDone()
  await sendAll(scene, texts(260, 280))
  await remoteLoses(scene, 280)
  await allThere(scene, 280)
  t.deepEqual(scene.arrived(), texts(0, 280))
  t.deepEqual(scene.account.totals.lost, {})
  await scene.environment.pass(3_000)
  await scene.restart()
  await remoteLoses(scene, 280)
  await allThere(scene, 280)
  t.true(kept(scene).some(path => path.includes('bodies-')))
  t.deepEqual(scene.arrived(), texts(0, 280))
})

test('a kept file of blocks that is cut off is damaged: what it had is lost, cause journal', async t => {
  const scene = await spilled()
  scene.takeSends()
  await scene.allDone()
  await sendAll(scene, texts(260, 280))
  await scene.restart()
  await scene.environment.pass(3_000)
  const { fileSystem } = scene.environment
  const cut = kept(scene).filter(path => path.includes('bodies-'))
  t.true(cut.length > 0)
  for (const path of cut) fileSystem.put(path, Buffer.from(fileSystem.bytes(path).subarray(0, -10)))
  await remoteLoses(scene, 280)
  await scene.until('it is said', () => Object.keys(scene.account.totals.lost).length > 0)
  await scene.allDone()
  t.deepEqual(Object.keys(scene.account.totals.lost), ['journal'])
  t.is(scene.arrived().length + scene.account.totals.lost.journal!, 280)
})

test('a remote that had it all gets what it loses while another has not had it', async t => {
  const scene = await unreadable({ remotes: ['default', 'east'], maxBytes: SMALL })
  const east = scene.remoteOf('east')
  east.broker.onSend = send => send.request.answer({ code: 2 })
  const done = () => scene.account.queued + scene.account.inGap === 0
  for (let at = 0; at < 200; at += 20) {
    scene.send(texts(at, at + 20))
    await scene.until('the one has it', done)
    await scene.environment.pass(500)
  }
  await scene.environment.pass(3_000)
  await remoteLoses(scene, 150)
  await scene.until('it has it again', () => scene.arrived().length === 200 && done())
  t.deepEqual(scene.arrived(), texts(0, 200))
  east.broker.onSend = send => send.answerStored(send.store())
  await scene.allDone()
  t.deepEqual(east.broker.texts(TOPIC, 0), texts(0, 200))
})

test('a file is removed when the remote has answered for journalRetention since, and not before', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await sendAll(scene, texts(0, SEGMENT * 2))
  const { length } = kept(scene)
  t.true(length > 0)
  await scene.environment.pass(9 * MINUTE)
  t.is(kept(scene).length, length)
  await scene.environment.pass(2 * MINUTE)
  t.deepEqual(kept(scene), [])
  t.is(scene.environment.log.said('make room before their time').length, 0)
})

test('while the remote is away nothing is too old', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await sendAll(scene, texts(0, SEGMENT * 2))
  const before = kept(scene)
  scene.remote.disconnect(scene.environment.network)
  await scene.environment.pass(60 * MINUTE)
  t.deepEqual(kept(scene), before)
  scene.remote.broker.loseTailOf(TOPIC, 0, 200)
  scene.remote.connect(scene.environment.network)
  await allThere(scene, SEGMENT * 2)
  t.deepEqual(scene.arrived(), texts(0, SEGMENT * 2))
})

/** What is kept is for the first broker, which is away; `m20` is at the second, where the lane has gone to. */
async function leftItsBroker(): Promise<{ scene: Scene; first: FakeBroker; second: FakeBroker }> {
  const scene = await unreadable({ remoteBrokers: 2, remoteBrokerAway: 'reroute', maxBytes: SMALL })
  const [first, second] = scene.remote.brokers as [FakeBroker, FakeBroker]
  await sendAll(scene, texts(0, 20))
  await scene.restart()
  await scene.environment.pass(3_000)
  await scene.goesAway(first)
  scene.send(['m20'])
  await scene.until('the lane has left its broker', () => second.texts(TOPIC, 0).length === 1)
  return { scene, first, second }
}

test('so it is for a broker that the lane has left, when that comes back after hours without its tail', async t => {
  const { scene, first, second } = await leftItsBroker()
  await scene.environment.pass(4 * 60 * MINUTE)
  t.is(kept(scene).length, 1)
  first.loseTailOf(TOPIC, 0, 5)
  scene.allComeBack()
  await scene.until('all is there', () => second.texts(TOPIC, 0).length === 6)
  await scene.allDone()
  t.deepEqual(second.texts(TOPIC, 0), ['m20', ...texts(15, 20)])
  t.deepEqual(scene.account.totals.lost, {})
  await scene.environment.pass(12 * MINUTE)
  t.deepEqual(kept(scene), [])
})

test('a broker that the lane has left, and that never comes back, holds back what is kept for a day', async t => {
  const { scene } = await leftItsBroker()
  await scene.environment.pass(12 * 60 * MINUTE)
  t.is(kept(scene).length, 1)
  await scene.restart()
  await scene.environment.pass(11 * 60 * MINUTE)
  t.true(kept(scene).length >= 1)
  await scene.environment.pass(2 * 60 * MINUTE)
  t.deepEqual(kept(scene), [])
})

test('what is kept gives way to what comes; what the remote loses of it is lost, cause full, and said', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await sendAll(scene, texts(0, SEGMENT * 8))
  const { journal, spill, kept } = scene.broker
  t.true(kept.counts.files > 0)
  t.true(journal.counts.bytes + spill.counts.bytes + kept.counts.bytes <= SMALL)
  t.is(scene.environment.log.said('make room before their time').length, 1)
  await remoteLoses(scene, SEGMENT * 8)
  await scene.until('nothing waits', () => scene.account.totals.lost.full !== undefined)
  await scene.allDone()
  const { totals, acked } = scene.account
  t.is(acked, SEGMENT * 8)
  t.deepEqual(Object.keys(totals.lost), ['full'])
  const arrived = scene.arrived()
  t.is(arrived.length + totals.lost.full!, SEGMENT * 8)
  t.deepEqual(arrived, texts(SEGMENT * 8 - arrived.length, SEGMENT * 8))
  t.is(scene.environment.log.lost, totals.lost.full!)
})

test('no body that waits is refused for what is kept', async t => {
  const scene = await unreadable({ maxBytes: SMALL, bodyMemory: 5_000, onJournalFull: 'reject' })
  await sendAll(scene, texts(0, SEGMENT * 4))
  t.true(scene.broker.kept.counts.files > 0)
  scene.refuseSends(2)
  for (let at = SEGMENT * 4; at < SEGMENT * 6; at += 10) {
    t.false(scene.broker.isFull)
    scene.send(texts(at, at + 10))
    await scene.environment.pass(300)
  }
  t.deepEqual(scene.account.totals.lost, {})
  t.is(scene.account.inGap, 0)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, SEGMENT * 6))
})

const firstWord = (text: string) => text.split(' ')[0]!

/** Texts of 2 KB. */
function longTexts(from: number, to: number): string[] {
  return texts(from, to).map(text => `${text} ${'x'.repeat(2_000)}`)
}

for (const onJournalFull of ['reject', 'gap'] as const)
  test(`what is kept and waits to be sent again does not give way, with onJournalFull=${onJournalFull}`, async t => {
    const maxBytes = 4_000_000
    const scene = await unreadable({ maxBytes, bodyMemory: 1_000_000, onJournalFull, journalAck: 'fsync' })
    await sendAll(scene, longTexts(0, 1_000))
    scene.refuseSends(2)
    await remoteLoses(scene, 280)
    await scene.until('it waits again', () => scene.account.queued + scene.account.inGap === 280)
    let sent = 1_000
    let refused = 0
    for (let round = 0; round < 100; round++) {
      if (scene.broker.isFull) refused++
      else {
        scene.send(longTexts(sent, sent + 20))
        sent += 20
      }
      await scene.environment.pass(1_300)
      const { journal, spill, kept } = scene.broker
      t.true(journal.counts.bytes + spill.counts.bytes + kept.counts.bytes <= maxBytes)
    }
    const isRefused = onJournalFull === 'reject'
    t.is(refused > 0, isRefused)
    scene.takeSends()
    await scene.allDone()
    const { full = 0, ...others } = scene.account.totals.lost
    t.deepEqual(others, {})
    t.is(full > 0, !isRefused)
    t.is(scene.arrived().length, sent - full)
    t.deepEqual(scene.arrived().slice(0, 1_000).map(firstWord), texts(0, 1_000))
    t.is(scene.account.acked, sent)
    await scene.until('there is room', () => !scene.broker.isFull)
  })

test('while one lane waits again what others send at once does not fill the journal with what is kept', async t => {
  const maxBytes = 4_000_000
  const scene = await unreadable({ sourceQueues: 2, remoteQueues: 2, maxBytes, bodyMemory: 4_000_000 })
  await sendAll(scene, longTexts(0, 280))
  scene.remote.broker.onSend = send =>
    send.queueId === 0 ? send.request.answer({ code: ResponseCode.NO_PERMISSION }) : send.answerStored(send.store())
  await remoteLoses(scene, 280)
  await scene.until('it waits again', () => scene.account.queued + scene.account.inGap === 280)
  const count = 2_000
  for (let at = 0; at < count; at += 40) {
    scene.send(longTexts(at, at + 40), 1)
    await scene.environment.pass(500)
    const { journal, spill, kept } = scene.broker
    t.true(journal.counts.bytes + spill.counts.bytes + kept.counts.bytes <= maxBytes)
  }
  t.is(scene.remote.broker.texts(TOPIC, 1).length, count)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.account.totals.lost, {})
  t.deepEqual(scene.arrived().map(firstWord), texts(0, 280))
})

/** All of these are known to be there, and kept no more. */
async function tooOld(scene: Scene, all: readonly string[]): Promise<void> {
  await sendAll(scene, all)
  // Else the segment that is written to has the newest.
  await scene.restart()
  await scene.environment.pass(12 * MINUTE)
}

test('what is older than is kept is asked from the source, and comes where that gives it', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await tooOld(scene, texts(0, 40))
  t.deepEqual(kept(scene), [])
  scene.source.broker.intercept = () => false
  await remoteLoses(scene, 10)
  await allThere(scene, 40)
  t.deepEqual(scene.arrived(), texts(0, 40))
  t.true(scene.account.readBack > 0)
})

test('and where it refuses it is lost, cause remote, after a minute', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await tooOld(scene, texts(0, 40))
  await remoteLoses(scene, 10)
  await scene.environment.pass(50_000)
  t.deepEqual(scene.account.totals.lost, {})
  await scene.allDone()
  t.deepEqual(scene.account.totals.lost, { remote: 10 })
  t.is(scene.arrived().length, 30)
  t.is(scene.account.acked, 40)
})

test('a refusal that ends before costs nothing', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await tooOld(scene, texts(0, 40))
  await remoteLoses(scene, 10)
  await scene.environment.pass(50_000)
  scene.source.broker.intercept = () => false
  await allThere(scene, 40)
  t.deepEqual(scene.account.totals.lost, {})
})

test('a refusal of what is gone lasts as long while others of the lane are found again and again', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await sendAll(scene, texts(0, SEGMENT * 4))
  // The oldest of those that the remote loses were in it.
  const [gone] = kept(scene) as [string]
  scene.environment.fileSystem.files.delete(gone)
  await remoteLoses(scene, SEGMENT * 4)
  await scene.environment.pass(50_000)
  t.deepEqual(scene.account.totals.lost, {})
  await scene.environment.pass(30_000)
  const [lost = 0] = Object.values(scene.account.totals.lost)
  t.true(lost > 1)
  t.is(scene.arrived().length + lost, SEGMENT * 4)
  t.true(scene.arrived().length > SEGMENT)
})

test('it lasts a minute for all of them, also while memory is full of what was found', async t => {
  const scene = await unreadable({ maxBytes: 4_000_000, bodyMemory: 1_000_000, journalAck: 'fsync' })
  await sendAll(scene, longTexts(0, 1_000))
  await remoteLoses(scene, 600)
  await scene.until('some are lost', () => scene.account.totals.lost.full !== undefined)
  await scene.environment.pass(MINUTE)
  t.is(scene.account.queued + scene.account.inGap, 0)
  t.is(scene.arrived().length + scene.account.totals.lost.full!, 1_000)
})

test('a sector that is not given now and then costs nothing', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await sendAll(scene, texts(0, SEGMENT * 2))
  const { clock, fileSystem } = scene.environment
  const [path] = kept(scene) as [string]
  const { readAt } = fileSystem
  let badUntil = Number.POSITIVE_INFINITY
  fileSystem.readAt = (from, at, length) =>
    from === path && at < 12_288 && at + length > 8_192 && clock.now() < badUntil
      ? Promise.reject(new DiskError('EIO', 'read', path))
      : readAt.call(fileSystem, from, at, length)
  for (let round = 0; round < 3; round++) {
    badUntil = Number.POSITIVE_INFINITY
    await remoteLoses(scene, SEGMENT * 2)
    await scene.environment.pass(20_000)
    badUntil = clock.now()
    await allThere(scene, SEGMENT * 2)
    await scene.environment.pass(2 * MINUTE)
  }
  t.deepEqual(scene.arrived(), texts(0, SEGMENT * 2))
  t.deepEqual(scene.account.totals.lost, {})
})

test('a refusal counts from its own beginning, and not from that of an earlier one', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await tooOld(scene, texts(0, 40))
  await remoteLoses(scene, 10)
  await scene.until('it is lost', () => scene.account.totals.lost.remote === 10)
  scene.source.broker.intercept = () => false
  await scene.environment.pass(60 * MINUTE)
  await remoteLoses(scene, 5)
  refuseReading(scene)
  await scene.environment.pass(50_000)
  // For one round it is something else.
  refuseReading(scene, ResponseCode.SYSTEM_BUSY)
  await scene.environment.pass(6_000)
  refuseReading(scene)
  await scene.environment.pass(50_000)
  scene.source.broker.intercept = () => false
  await allThere(scene, 30)
  t.deepEqual(scene.account.totals.lost, { remote: 10 })
})

for (const code of [ResponseCode.SYSTEM_BUSY, ResponseCode.SYSTEM_ERROR, ResponseCode.FLOW_CONTROL])
  test(`a source that answers with code ${code} for minutes has not refused`, async t => {
    const scene = await unreadable({ maxBytes: SMALL })
    await tooOld(scene, texts(0, 40))
    refuseReading(scene, code)
    await remoteLoses(scene, 10)
    await scene.environment.pass(5 * MINUTE)
    t.deepEqual(scene.account.totals.lost, {})
    scene.source.broker.intercept = () => false
    await allThere(scene, 40)
    t.deepEqual(scene.arrived(), texts(0, 40))
  })

test('a kept body that is damaged is lost, cause journal, once, and the others arrive', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await sendAll(scene, texts(0, SEGMENT))
  await scene.close()
  const { fileSystem } = scene.environment
  damage(fileSystem, /^(kept-|places-)/, 40)
  const damaged = fileSystem.find(/^(kept-|places-)/).filter(path => fileSystem.bytes(path).length > 40).length
  scene.remote.broker.loseTailOf(TOPIC, 0, SEGMENT)
  await scene.crash()
  await scene.until('it is said', () => scene.account.totals.lost.journal !== undefined)
  await scene.allDone()
  t.deepEqual(scene.account.totals.lost, { journal: damaged })
  t.is(scene.arrived().length, SEGMENT - damaged)
  t.is(scene.account.acked, SEGMENT)
  await scene.restart()
  await scene.environment.pass(30_000)
  t.deepEqual(scene.account.totals.lost, { journal: damaged })
  t.is(scene.arrived().length, SEGMENT - damaged)
})

test('a block that waits and whose bodies are damaged is lost, cause journal, where no segment has them', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  scene.refuseSends(2)
  scene.send(texts(0, 40))
  await scene.spillAll()
  await scene.environment.pass(5_000)
  damage(scene.environment.fileSystem, /^bodies-/, 40)
  for (const path of scene.environment.fileSystem.find(/^places-/)) scene.environment.fileSystem.files.delete(path)
  await scene.crash()
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.account.totals.lost, { journal: 40 })
  t.is(scene.account.acked, 40)
})

test('and where a segment has them it is not', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  scene.refuseSends(2)
  scene.send(texts(0, 40))
  await scene.spillAll()
  damage(scene.environment.fileSystem, /^bodies-/, 40)
  await scene.crash()
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.account.totals.lost, {})
  t.deepEqual(scene.arrived(), texts(0, 40))
})

test('a sector that is not given for a while costs nothing', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await sendAll(scene, texts(0, SEGMENT * 2))
  const { clock, fileSystem } = scene.environment
  const [path] = kept(scene) as [string]
  const end = clock.now() + 20_000
  const { readAt } = fileSystem
  fileSystem.readAt = (from, at, length) =>
    from === path && at < 12_288 && at + length > 8_192 && clock.now() < end
      ? Promise.reject(new DiskError('EIO', 'read', path))
      : readAt.call(fileSystem, from, at, length)
  await remoteLoses(scene, SEGMENT * 2)
  await allThere(scene, SEGMENT * 2)
  t.true(clock.now() >= end)
  t.deepEqual(scene.arrived(), texts(0, SEGMENT * 2))
  t.deepEqual(scene.account.totals.lost, {})
})

test('a disk that does not give a file for a while costs nothing', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  await sendAll(scene, texts(0, SEGMENT * 2))
  const { fileSystem } = scene.environment
  fileSystem.fault = (operation, path) =>
    operation === 'read' && path.includes('/kept-') ? new DiskError('EIO', operation, path) : undefined
  await remoteLoses(scene, SEGMENT * 2)
  await scene.environment.pass(20_000)
  t.deepEqual(scene.account.totals.lost, {})
  fileSystem.fault = () => undefined
  await allThere(scene, SEGMENT * 2)
  t.deepEqual(scene.arrived(), texts(0, SEGMENT * 2))
})

test('a process that dies at any operation around the renaming, or loses its power there, harms nothing', async t => {
  const random = seededRandom(t)
  let renamed = 0
  for (let operations = 0; operations < 12; operations++)
    for (const powerCut of [false, true]) {
      const scene = await unreadable({ maxBytes: SMALL, journalAck: 'fsync', random })
      await sendAll(scene, texts(0, SEGMENT - 20))
      const { fileSystem } = scene.environment
      let left = operations
      let isDead = false
      let hasBegun = false
      // Each disk operation from the first renaming on takes its time; it dies in one of them, and the rest never comes.
      fileSystem.step = async operation => {
        if (operation === 'rename' && scene.environment.fileSystem === fileSystem) hasBegun = true
        if (hasBegun && left-- <= 0) isDead = true
        if (isDead) await new Promise(() => {})
      }
      for (let at = SEGMENT - 20; at < SEGMENT * 2; at += 20) {
        scene.send(texts(at, at + 20))
        for (let turn = 0; turn < 200 && !isDead; turn++) await scene.environment.pass(10)
        if (isDead) break
      }
      if (hasBegun) renamed++
      fileSystem.step = undefined
      await scene.crash(powerCut)
      await scene.allDone()
      await scene.environment.pass(3_000)
      const stored = scene.source.broker.texts(TOPIC, 0)
      const relayed = stored.filter(text => scene.arrived().includes(text))
      t.deepEqual(scene.arrived(), relayed)
      t.deepEqual(scene.account.totals.lost, {})
      await remoteLoses(scene, scene.arrived().length)
      await allThere(scene, relayed.length)
      t.deepEqual(scene.arrived(), relayed)
      await scene.close()
    }
  t.is(renamed, 24)
})

test('a segment with the only body of what a block names without it stays until that is done', async t => {
  const scene = await unreadable()
  const { broker } = scene.remote
  // The first is a dead letter, which no slot knows of; the block of both has the body of the second alone.
  let sends = 0
  broker.onSend = send => send.request.answer({ code: ++sends <= 2 ? 13 : 2 })
  const { fileSystem } = scene.environment
  fileSystem.fault = (operation, path) =>
    operation === 'overwrite' && sends > 1 ? new DiskError('EIO', operation, path) : undefined
  scene.send(texts(0, 2))
  await scene.until('the first is a dead letter', () => scene.account.totals.deadLettered === 1)
  scene.broker.spill.force(Number.MAX_SAFE_INTEGER)
  await scene.until('it is on disk', () => scene.broker.spill.counts.bytes > 64)
  await scene.environment.pass(1_000)
  await scene.crash()
  refuseReading(scene)
  await scene.environment.pass(5_000)
  t.is(scene.account.queued + scene.account.inGap, 2)
  t.deepEqual(kept(scene), [])
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 2))
  await scene.environment.pass(5_000)
  t.true(kept(scene).length > 0)
})

/** Sends so many more; halfway the link breaks. */
async function goOn(scene: Scene, from: number, count: number): Promise<void> {
  const { remote, environment } = scene
  await sendAll(scene, texts(from, from + count / 2))
  remote.disconnect(environment.network)
  await environment.settled()
  remote.connect(environment.network)
  await sendAll(scene, texts(from + count / 2, from + count))
}

test('a file that cannot get another name is removed, which is said once, and holds up nobody', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  const { fileSystem, log } = scene.environment
  fileSystem.fault = (operation, path) =>
    operation === 'rename' && path.includes('/places-') ? new DiskError('ENOSPC', operation, path) : undefined
  await goOn(scene, 0, SEGMENT * 4)
  t.is(scene.arrived().length, SEGMENT * 4)
  t.deepEqual(kept(scene), [])
  t.true(scene.broker.journal.counts.files <= 3)
  t.is(log.said('could not be removed').length, 1)
  t.is(log.said('a cursor could not be written').length, 0)
  // Of what was removed nothing is had again: it is given up, and said.
  await remoteLoses(scene, SEGMENT * 4)
  await scene.until('it is said', () => scene.account.totals.lost.full !== undefined)
  await scene.allDone()
  t.deepEqual(Object.keys(scene.account.totals.lost), ['full'])
})

test('a file that cannot be removed holds up nobody, and goes when it can be', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  const { fileSystem, log } = scene.environment
  await sendAll(scene, texts(0, SEGMENT * 2))
  const [stuck] = kept(scene) as [string]
  fileSystem.fault = (operation, path) =>
    operation === 'remove' && path === stuck ? new DiskError('EIO', operation, path) : undefined
  await goOn(scene, SEGMENT * 2, SEGMENT * 10)
  t.is(kept(scene)[0], stuck)
  const {
    journal,
    spill,
    kept: { counts },
  } = scene.broker
  t.true(journal.counts.bytes + spill.counts.bytes + counts.bytes <= SMALL)
  t.is(log.said('could not be removed').length, 1)
  fileSystem.fault = () => undefined
  await sendAll(scene, texts(SEGMENT * 12, SEGMENT * 13))
  t.false(kept(scene).includes(stuck))
  t.is(log.said('a cursor could not be written').length, 0)
})

test('a file that has its new name, and the folder is not synced, is kept all the same', async t => {
  const scene = await unreadable({ maxBytes: SMALL })
  const { fileSystem } = scene.environment
  const { rename } = fileSystem
  fileSystem.rename = async (from, to) => {
    await rename.call(fileSystem, from, to)
    throw new DiskError('EIO', 'sync', to)
  }
  await sendAll(scene, texts(0, SEGMENT * 3))
  t.is(scene.broker.kept.counts.files, kept(scene).length)
  t.true(kept(scene).length > 0)
  await remoteLoses(scene, SEGMENT * 2)
  await allThere(scene, SEGMENT * 3)
  t.deepEqual(scene.arrived(), texts(0, SEGMENT * 3))
})
