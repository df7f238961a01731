// Pages on their way to disk and back, in a broker of the source: what is written when, what a bad disk costs, what is kept.

import { basename } from 'node:path'
import test from 'ava'
import { parseBlockFileName, type ScannedBlock, scanBlockFile } from '../../replay/block-file.ts'
import type { FakeEnvironment } from '../support/fake-environment.ts'
import { Held } from './journal-lab.ts'
import { bodyWith } from './sample.ts'
import { Scene, TOPIC, texts } from './scene.ts'

const files = ({ fileSystem }: FakeEnvironment) => fileSystem.find(/^bodies-/)

/** All blocks of all files. */
async function blocks(environment: FakeEnvironment): Promise<ScannedBlock[]> {
  const found: ScannedBlock[] = []
  for (const path of files(environment))
    await scanBlockFile(
      environment.fileSystem,
      path,
      parseBlockFileName(basename(path))!.salt,
      block => void found.push(block),
    )
  return found
}

const bodyBytes = async (environment: FakeEnvironment) =>
  (await blocks(environment)).reduce((sum, { header }) => sum + header.bodiesBytes, 0)

for (const { remote, answersAfter } of [
  { remote: 'near', answersAfter: 5 },
  { remote: 'far', answersAfter: 1_000 },
])
  test(`while the remote is up and ${remote}, ${remote === 'near' ? 'no body is' : 'bodies are'} written to disk`, async t => {
    const scene = await Scene.open({ bodyMemory: 64_000_000 })
    const { environment, remote } = scene
    remote.broker.onSend = send => void environment.clock.after(answersAfter, () => send.answerStored(send.store()))
    const all = texts(0, 3_000).map(text => text.padEnd(1_024, '-'))
    for (let at = 0; at < all.length; at += 50) {
      scene.send(all.slice(at, at + 50))
      await environment.pass(10)
    }
    await scene.allDone()
    await environment.pass(1_000)
    t.deepEqual(scene.arrived(), all)
    const onDisk = () => [...environment.fileSystem.files.values()].filter(({ bytes }) => bytes.includes(all[0]!))
    if (answersAfter < 200) {
      t.is(scene.broker.spill.spilled, 0)
      t.deepEqual(files(environment), [])
      t.deepEqual(onDisk(), [])
    } else {
      // The test can tell.
      t.true(scene.broker.spill.spilled > 1_000)
      t.true((await bodyBytes(environment)) > 0)
    }
  })

test('a page that is full and waits goes to disk after spillAfter, and its bodies leave memory', async t => {
  const scene = await Scene.open({ spillAfter: 500, bodyMemory: 10_000_000 })
  scene.refuseSends(2)
  scene.send(texts(0, 600))
  await scene.environment.pass(450)
  t.deepEqual(files(scene.environment), [])
  const before = scene.replay.memory.used
  await scene.environment.pass(100)
  t.is((await blocks(scene.environment)).length, 1)
  t.is(scene.broker.spill.spilled, 512)
  // What is tried right now is in memory still.
  await scene.environment.pass(2_000)
  scene.remote.disconnect(scene.environment.network)
  await scene.environment.pass(2_000)
  t.true(scene.replay.memory.used < before / 2)
  t.deepEqual([scene.account.queued, scene.account.inGap], [600, 0])
  scene.remote.connect(scene.environment.network)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 600))
  t.is(scene.account.readBack, 0)
  t.is(scene.replay.memory.used, 0)
})

for (const compress of [false, true])
  test(`an outage that brings more than fits into memory goes to disk and comes back in order${compress ? ', compressed' : ''}`, async t => {
    const scene = await Scene.open({ bodyMemory: 100_000, compress })
    scene.remote.disconnect(scene.environment.network)
    const text = (index: number) => `message ${index} ${'of an outage '.repeat(20)}`
    const all = Array.from({ length: 400 }, (_, index) => text(index))
    for (let index = 0; index < 400; index += 20) {
      scene.send(all.slice(index, index + 20), 0)
      scene.send(all.slice(index, index + 20), 1)
      await scene.environment.pass(100)
    }
    t.is(scene.account.queued, 800)
    t.true(scene.replay.memory.used <= 100_000)
    const bytes = scene.broker.spill.counts.bytes
    t.true(compress ? bytes < 100_000 : bytes > 200_000, `${bytes}`)
    scene.remote.connect(scene.environment.network)
    await scene.allDone()
    t.deepEqual(scene.arrived(0), all)
    t.deepEqual(scene.arrived(1), all)
    t.is(scene.account.readBack, 0)
    t.is(scene.replay.memory.used, 0)
    await scene.environment.pass(3_000)
    t.true(files(scene.environment).length <= 1, 'only the file that is written to is left')
  })

test('over a restart what is on disk stays there, and nothing is read back from the source', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 50))
  await scene.spillAll()
  for (const way of ['restart', 'crash'] as const) {
    await scene[way]()
    t.deepEqual([scene.account.queued, scene.account.inGap], [50, 0])
  }
  const { pulls } = scene.source.broker
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 50))
  t.is(scene.source.broker.pulls, pulls)
})

test('a block that is synced is all that is left of its places: their segment goes', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 10))
  await scene.environment.pass(2_000)
  await scene.crash()
  const old = scene.environment.fileSystem.find(/^places-/)[0]!
  await scene.spillAll()
  await scene.environment.pass(3_000)
  t.false(scene.environment.fileSystem.files.has(old))
  scene.takeSends()
  await scene.crash(true)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 10))
  t.deepEqual(scene.account.totals.lost, {})
})

test('a block whose sync fails is written once more to another file; until then its places stay in the journal', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 10))
  await scene.environment.pass(2_000)
  await scene.crash()
  const { fileSystem } = scene.environment
  const old = fileSystem.find(/^places-/)[0]!
  let bad = true
  fileSystem.fault = (one, path) => (one === 'sync' && bad && /bodies-/.test(path) ? new Error('bad disk') : undefined)
  scene.broker.spill.force(Number.MAX_SAFE_INTEGER)
  await scene.until('a sync has failed', () => scene.broker.spill.errors > 0)
  t.is(scene.environment.log.said('bodies cannot be written').length, 1)
  await scene.environment.pass(3_000)
  t.true(fileSystem.files.has(old))
  bad = false
  await scene.environment.pass(5_000)
  t.false(fileSystem.files.has(old))
  t.is(scene.environment.log.said('bodies can be written').length, 1)
  scene.takeSends()
  await scene.crash(true)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 10))
  t.is(scene.account.acked, 10)
})

test('where blocks cannot be written, what does not fit into memory is read back from the source', async t => {
  const scene = await Scene.open({ bodyMemory: 5_000 })
  scene.environment.fileSystem.fault = (one, path) =>
    /bodies-/.test(path) && one !== 'read' ? new Error('no space') : undefined
  scene.remote.disconnect(scene.environment.network)
  for (let index = 0; index < 100; index += 10) {
    scene.send(texts(index, index + 10))
    await scene.environment.pass(1_000)
  }
  t.true(scene.account.inGap > 50)
  t.is(scene.account.queued + scene.account.inGap, 100)
  t.true(scene.replay.memory.used <= 5_500)
  t.is(scene.broker.spill.counts.files, 0)
  scene.remote.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 100))
  t.deepEqual(scene.account.totals.lost, {})
})

test('a block whose write is torn is not counted on, and its page is written to another file', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 10))
  const { fileSystem } = scene.environment
  let tears = 1
  fileSystem.tornBytes = 100
  fileSystem.fault = (one, path) => {
    if (one !== 'append' || !/bodies-/.test(path) || fileSystem.bytes(path).length === 0) return undefined
    return tears-- > 0 ? new Error('no space') : undefined
  }
  await scene.environment.settled()
  scene.broker.spill.force(Number.MAX_SAFE_INTEGER)
  await scene.environment.pass(3_000)
  t.is(scene.broker.spill.errors, 1)
  t.is((await blocks(scene.environment)).length, 1)
  scene.takeSends()
  await scene.crash()
  t.deepEqual([scene.account.queued, scene.account.inGap], [10, 0])
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 10))
})

test('a disk that hangs in the midst of a block holds up neither acks nor what is in memory', async t => {
  const scene = await Scene.open({ bodyMemory: 5_000 })
  scene.remote.disconnect(scene.environment.network)
  const hung = new Held()
  scene.environment.fileSystem.step = async (operation, path) =>
    operation === 'append' && /bodies-/.test(path) ? hung.hold() : undefined
  for (let index = 0; index < 100; index += 10) {
    scene.send(texts(index, index + 10))
    await scene.environment.pass(500)
  }
  t.true(hung.count > 0)
  t.is(scene.relayed.length, 100)
  t.is(scene.account.queued + scene.account.inGap, 100)
  scene.remote.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 100))
  scene.environment.fileSystem.step = undefined
  hung.release()
  await scene.close()
})

test('within journalMaxBytes bodies give way: blocks go without them, and no place is dropped', async t => {
  const scene = await Scene.open({ bodyMemory: 20_000, maxBytes: 60_000 })
  scene.remote.disconnect(scene.environment.network)
  const all = Array.from({ length: 500 }, (_, index) => `${index} ${'x'.repeat(500)}`)
  let most = 0
  for (let index = 0; index < 500; index += 10) {
    scene.send(all.slice(index, index + 10))
    await scene.environment.pass(300)
    most = Math.max(most, scene.broker.journal.counts.bytes + scene.broker.spill.counts.bytes)
  }
  const { queued, inGap } = scene.account
  t.true(most <= 60_000 && most > 30_000, `${most} bytes`)
  t.true(queued >= 20 && inGap > 200, `${queued} ${inGap}`)
  t.is(scene.account.queued + scene.account.inGap, 500)
  scene.refuseSends(2)
  await scene.crash()
  t.is(scene.account.queued + scene.account.inGap, 500)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), all)
})

test('below journalMinFreeBytes nothing of bodies is written', async t => {
  const scene = await Scene.open({ bodyMemory: 5_000 })
  scene.environment.fileSystem.capacity = scene.environment.fileSystem.used + 200_000
  // As if others had filled it.
  scene.broker.options.journal.minFreeBytes = 200_000
  await scene.environment.pass(1_500)
  scene.remote.disconnect(scene.environment.network)
  for (let index = 0; index < 100; index += 10) {
    scene.send(texts(index, index + 10))
    await scene.environment.pass(1_000)
  }
  t.is(await bodyBytes(scene.environment), 0)
  scene.remote.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 100))
})

/** Messages on disk, with bodies of a block damaged. */
async function withDamagedBodies(): Promise<Scene> {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 10))
  await scene.spillAll()
  await scene.environment.pass(2_000)
  await scene.crash()
  await scene.environment.pass(2_000)
  const [{ header, location }] = (await blocks(scene.environment)) as [ScannedBlock]
  scene.environment.fileSystem.bytes(location.path)[location.at + header.headerBytes + header.placesBytes + 5]! ^= 4
  return scene
}

test('bodies that are damaged are read back from the source, and counted once, however often that is tried', async t => {
  const scene = await withDamagedBodies()
  scene.source.disconnect(scene.environment.network)
  scene.takeSends()
  await scene.environment.pass(60_000)
  t.deepEqual([scene.account.queued, scene.account.inGap], [0, 10])
  t.true(scene.environment.log.said('bodies cannot be read from disk').length > 0)
  scene.source.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual([scene.account.queued, scene.account.inGap], [0, 0])
  t.deepEqual(scene.arrived(), texts(0, 10))
  t.is(scene.account.readBack, 10)
  t.is(scene.account.totals.replicated, 10)
  t.is(scene.replay.memory.used, 0)
})

test('so they are over a crash', async t => {
  const scene = await withDamagedBodies()
  scene.source.disconnect(scene.environment.network)
  scene.takeSends()
  await scene.environment.pass(5_000)
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 10))
  t.deepEqual(scene.account.totals, { ...scene.account.totals, replicated: 10, lost: {} })
})

test('a block whose places cannot be read any more is lost, counted exactly, and those behind it go on', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 10))
  await scene.spillAll()
  scene.send(texts(10, 15))
  await scene.environment.pass(2_000)
  await scene.crash()
  await scene.environment.pass(2_000)
  const [{ header, location }] = (await blocks(scene.environment)) as [ScannedBlock]
  scene.environment.fileSystem.bytes(location.path)[location.at + header.headerBytes]! ^= 1
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(10, 15))
  t.deepEqual(scene.account.totals.lost, { journal: 10 })
  t.is(scene.account.acked, 15)
})

test('a block that cannot be read now is tried again before it is given up', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 10))
  await scene.spillAll()
  await scene.environment.pass(2_000)
  await scene.crash()
  let fails = 2
  scene.environment.fileSystem.fault = (one, path) =>
    one === 'read' && /bodies-/.test(path) && fails-- > 0 ? new Error('bad sector') : undefined
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 10))
  t.deepEqual(scene.account.totals.lost, {})
})

test('a message that becomes a dead letter while its page goes to disk is kept with its payload', async t => {
  const scene = await Scene.open({ bodyMemory: 5_000 })
  const held = scene.holdSends()
  scene.send(['illegal'])
  await scene.until('it is out', () => held.length === 1)
  // As when another lane's head was read back.
  scene.replay.memory.keepAnyway(bodyWith('x'.repeat(10_000)))
  scene.send(texts(0, 100))
  await scene.environment.pass(2_000)
  t.true(scene.broker.spill.spilled > 0)
  scene.remote.broker.onSend = send =>
    send.messages.some(({ body }) => body.toString() === 'illegal')
      ? send.request.answer({ code: 13 })
      : send.answerStored(send.store())
  held[0]!.request.answer({ code: 13, remark: 'the message is illegal' })
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 100))
  t.is(scene.account.totals.deadLettered, 1)
  const [path] = scene.environment.fileSystem.find(/^dead-letters-/)
  const letter = JSON.parse(scene.environment.fileSystem.bytes(path!).toString())
  t.is(Buffer.from(letter.payload, 'base64').toString(), 'illegal')
})

test('lanes that share a full memory all go on', async t => {
  const scene = await Scene.open({ bodyMemory: 1_000, sourceQueues: 8, remoteQueues: 8 })
  scene.remote.disconnect(scene.environment.network)
  for (let queueId = 0; queueId < 8; queueId++) scene.send(texts(0, 100), queueId)
  await scene.environment.pass(5_000)
  scene.remote.connect(scene.environment.network)
  await scene.allDone()
  for (let queueId = 0; queueId < 8; queueId++) t.deepEqual(scene.arrived(queueId), texts(0, 100))
  t.is(scene.replay.memory.used, 0)
  t.is(scene.remote.broker.topics.get(TOPIC)!.length, 8)
})

test('on a full disk a lane that waits gives way to one that does not', async t => {
  const scene = await Scene.open({ bodyMemory: 10_000, maxBytes: 60_000 })
  const isStopped = new Set([0])
  scene.remote.broker.onSend = send =>
    isStopped.has(send.queueId) ? send.request.answer({ code: 16 }) : send.answerStored(send.store())
  const long = (index: number) => `${index} ${'x'.repeat(500)}`
  for (let index = 0; index < 60; index++) {
    scene.send([long(index)], 0)
    scene.send([`${index}`], 1)
    await scene.environment.pass(100)
  }
  t.true(scene.account.inGap > 20, `${scene.account.inGap}`)
  isStopped.add(1)
  const before = scene.account.inGap
  for (let index = 60; index < 75; index++) {
    scene.send([long(index)], 1)
    await scene.environment.pass(100)
  }
  t.true(scene.environment.log.said('no room on disk').length > 0)
  t.is(scene.account.queued + scene.account.inGap, 75)
  t.true(scene.account.inGap > before)
  // All of it is here.
  scene.source.disconnect(scene.environment.network)
  isStopped.delete(1)
  await scene.until('the lane has what it waited for', () => scene.arrived(1).length === 75)
  isStopped.clear()
  scene.source.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(
    scene.arrived(0),
    Array.from({ length: 60 }, (_, index) => long(index)),
  )
  t.is(scene.replay.memory.used, 0)
})
