// A cursor of which one slot, or both, are damaged or gone: nothing is sent twice, nothing counts as lost that is not.

import { basename } from 'node:path'
import test from 'ava'
import { decodeHeader, RequestCode, ResponseCode } from '../../codec/index.ts'
import { parseBlockFileName, scanBlockFile } from '../../replay/block-file.ts'
import { Cursor } from '../../replay/cursor.ts'
import { DiskError, FakeDisk } from '../support/fake-disk.ts'
import { Random, seededRandom } from '../support/random.ts'
import { Scene, slotFolder, TOPIC, texts } from './scene.ts'

const HOUR = 3_600_000

const slots = [0, 1].map(number => `${slotFolder()}/cursor-${number}`)

function damage(disk: FakeDisk, path: string): void {
  const bytes = Buffer.from(disk.bytes(path))
  bytes[bytes.length >> 1]! ^= 1
  disk.put(path, bytes)
}

/** What a disk has of the cursor with only one of its slots. */
async function generation(disk: FakeDisk, path: string): Promise<number> {
  const alone = new FakeDisk()
  alone.put(path, disk.bytes(path))
  const slot = await new Cursor(alone, slotFolder()).read()
  return typeof slot === 'string' ? -1 : slot.generation
}

async function damageNewest(disk: FakeDisk): Promise<void> {
  const [one, other] = slots as [string, string]
  damage(disk, (await generation(disk, one)) > (await generation(disk, other)) ? one : other)
}

const ruins: [what: string, ruin: (disk: FakeDisk) => void][] = [
  ['damaged', disk => slots.forEach(path => void damage(disk, path))],
  ['gone', disk => slots.forEach(path => void disk.files.delete(path))],
]

/** Others have written to the remote's queue for long; ten messages have arrived, of four nobody was told, six wait. */
async function halfThere(): Promise<Scene> {
  const scene = await Scene.open()
  for (let index = 0; index < 100; index++) scene.remote.broker.store(TOPIC, 0, { body: Buffer.from(`other ${index}`) })
  await scene.environment.pass(HOUR)
  scene.send(texts(0, 10))
  await scene.allDone()
  const held = scene.holdSends()
  scene.send(texts(10, 20))
  await scene.until('they are out', () => held.length > 0)
  held[0]!.store([0, 1, 2, 3].slice(0, held[0]!.messages.length))
  await scene.environment.pass(3_000)
  return scene
}

const ours = (scene: Scene) => scene.arrived().filter(text => !text.startsWith('other'))

for (const [what, ruin] of ruins) {
  test(`with both slots ${what}, what had arrived is found, in what came to the remote since ten minutes before`, async t => {
    const scene = await halfThere()
    ruin(scene.environment.fileSystem)
    await scene.crash()
    scene.takeSends()
    const pulled: number[] = []
    scene.remote.broker.intercept = ({ head }) => {
      const { code, ext } = decodeHeader(head)
      if (code === RequestCode.PULL_MESSAGE && ext.get('topic') === TOPIC) pulled.push(Number(ext.get('queueOffset')))
      return false
    }
    await scene.allDone()
    t.deepEqual(ours(scene), texts(0, 20))
    t.true(Math.min(...pulled) >= 100, `read from ${Math.min(...pulled)} on`)
    t.is(scene.account.totals.replicated, 20)
    t.deepEqual(scene.account.totals.lost, {})
  })

  test(`with both slots ${what}, so it is where the next process dies before it knows`, async t => {
    const random = seededRandom(t)
    const scene = await halfThere()
    ruin(scene.environment.fileSystem)
    scene.remote.away.add(scene.remote.broker)
    for (let round = 0; round < 6; round++) {
      if (round === 3) scene.remote.away.clear()
      await scene.crash()
      scene.holdSends()
      await scene.environment.pass(random.integer(0, round < 3 ? 5_000 : 200_000))
    }
    await scene.crash()
    scene.takeSends()
    await scene.allDone()
    t.deepEqual(ours(scene), texts(0, 20))
  })
}

test('where the remote refuses to be asked for an offset at a time, its queue is read from the beginning', async t => {
  const scene = await halfThere()
  for (const path of slots) damage(scene.environment.fileSystem, path)
  scene.remote.broker.intercept = request => {
    if (request.head.code !== RequestCode.SEARCH_OFFSET_BY_TIMESTAMP) return false
    request.answer({ code: ResponseCode.REQUEST_CODE_NOT_SUPPORTED })
    return true
  }
  await scene.crash()
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(ours(scene), texts(0, 20))
})

test('what was acked while the disk took no cursor at all is sent by the next process', async t => {
  const scene = await Scene.open()
  const { fileSystem } = scene.environment
  for (const path of slots) fileSystem.files.delete(path)
  fileSystem.fault = (operation, path) =>
    operation === 'overwrite' ? new DiskError('ENOSPC', operation, path) : undefined
  scene.send(texts(0, 5))
  await scene.environment.pass(3_000)
  t.deepEqual(scene.arrived(), [])
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 5))
  t.is(scene.account.totals.skipped.before, undefined)
})

test('a segment, a file of bodies: both slots say that it is needless before it is deleted', async t => {
  const random = seededRandom(t)
  for (let round = 0; round < 30; round++) {
    const scene = await Scene.open({ maxBytes: 40_000 })
    const spills = random.pick([0, 0.3])
    let sent = 0
    while (sent < 400) {
      const count = random.integer(1, 150)
      if (random.chance(spills)) scene.refuseSends(2)
      // In appends of their own: a segment ends, and the next begins, within a second.
      for (const end = sent + count; sent < end; sent = Math.min(end, sent + 20)) {
        scene.send(texts(sent, Math.min(end, sent + 20)))
        await scene.environment.pass(10)
      }
      await scene.environment.pass(random.integer(0, 2_000))
      scene.takeSends()
      await scene.environment.pass(random.integer(0, 4_000))
    }
    const isIdle = random.chance(0.5)
    if (isIdle) await scene.environment.pass(10_000)
    await damageNewest(scene.environment.fileSystem)
    await scene.crash()
    await scene.allDone()
    t.deepEqual(scene.account.totals.lost, {}, `round ${round}`)
    t.is(scene.account.acked, sent, `round ${round}`)
    t.deepEqual(scene.arrived(), texts(0, sent), `round ${round}`)
    if (isIdle) {
      await scene.environment.pass(5_000)
      // They are deleted, though nothing changes any more.
      t.true(scene.environment.fileSystem.find(/^(places|bodies)-/).length <= 4)
    }
    await scene.close()
  }
})

test('a remote queue is in both slots before the first message goes there', async t => {
  const scene = await Scene.open()
  // The link's group is a cursor of its own.
  scene.send(['first'], 1)
  await scene.environment.pass(3_000)
  const held = scene.holdSends()
  scene.send(['m0', 'm1'])
  await scene.until('it is out', () => held.length === 1)
  held[0]!.store()
  await damageNewest(scene.environment.fileSystem)
  await scene.crash()
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
})

test('with any bit of a slot flipped all arrives once, and is counted so', async t => {
  const random = seededRandom(t)
  const scene = await halfThere()
  const left = scene.environment.afterCrash().fileSystem
  const messages = [...scene.remote.broker.queue(TOPIC, 0).messages]
  for (const path of slots)
    for (let round = 0; round < 60; round++) {
      const disk = left.afterCrash(false)
      const bytes = Buffer.from(disk.bytes(path))
      // Behind it are zeros.
      const bit = random.integer(0, bytes.findLastIndex(byte => byte !== 0) * 8)
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      disk.put(path, bytes)
      scene.remote.broker.queue(TOPIC, 0).messages = [...messages]
      const options = { disk, source: scene.source, clusters: new Map([['default', scene.remote]]) }
      const next = await Scene.open(options)
      scene.takeSends()
      await next.allDone()
      t.deepEqual(ours(next), texts(0, 20), `bit ${bit} of ${path}`)
      t.is(next.account.acked, 20)
      t.deepEqual(next.account.totals.lost, {})
    }
})

test('so it is with files of bodies of which all becomes done at once', async t => {
  const scene = await Scene.open({ maxBytes: 40_000 })
  scene.refuseSends(2)
  for (let from = 0; from < 800; from += 100) {
    scene.send(texts(from, from + 100))
    await scene.environment.pass(3_000)
  }
  scene.send(['last'])
  // Its segment, too, needs nothing any more.
  await scene.spillAll()
  await scene.environment.pass(3_000)
  const { fileSystem } = scene.environment
  const bodies = fileSystem.find(/^bodies-/)
  t.true(bodies.length > 1, `${bodies.map(path => fileSystem.bytes(path).length)}`)
  scene.takeSends()
  await scene.allDone()
  await scene.until('a file is deleted', () => fileSystem.find(/^bodies-/).length <= 1)
  await damageNewest(fileSystem)
  await scene.crash()
  t.deepEqual(scene.account.totals.lost, {})
  await scene.allDone()
  t.deepEqual(scene.arrived(), [...texts(0, 800), 'last'])
})

test('what a block names as done for a remote that has lost its cursor is passed by its mark, and counted as before', async t => {
  const scene = await Scene.open({ remotes: ['west', 'east'], spillAfter: 60_000 })
  const east = scene.remoteOf('east').broker
  east.onSend = send => send.request.answer({ code: ResponseCode.SYSTEM_BUSY })
  scene.send(texts(0, 5))
  await scene.until('the other has all', () => scene.feedOf('west').account.totals.replicated === 5)
  await scene.environment.pass(3_000)
  // The next process knows them as done for one, and writes that into their block.
  scene.options.spillAfter = 200
  await scene.crash()
  // Nothing of the page is left to do there.
  scene
    .forward()
    .store('m5')
    .ack({ reason: 'loop', labels: ['west'] })
  await scene.environment.pass(3_000)
  t.true(scene.broker.spill.counts.bytes > 0)
  for (const slot of [0, 1]) scene.environment.fileSystem.files.delete(`${slotFolder('west')}/cursor-${slot}`)
  await scene.crash()
  const { account, lanes } = scene.feedOf('west')
  t.deepEqual(account.totals.skipped, { before: 5, loop: 1 })
  east.onSend = send => send.answerStored(send.store())
  await scene.allDone()
  const [lane] = [...lanes].filter(({ queueId }) => queueId === 0)
  t.deepEqual(
    lane!.queue.marks(0).map(({ mark }) => mark),
    [5, 6],
  )
  t.deepEqual(scene.remoteOf('west').broker.texts(TOPIC, 0), texts(0, 5))
  t.deepEqual(east.texts(TOPIC, 0), texts(0, 6))
})

test('with both slots damaged, what a damaged block had counts as lost, though a late message reaches over it', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  const late = scene.forward().store('m0')
  scene.send(texts(1, 1_500))
  await scene.environment.pass(12_000)
  await scene.spillAll()
  late.ack()
  scene.send(texts(1_500, 1_510))
  await scene.spillAll()
  // Until no segment has any of it.
  for (let start = 0; start < 2; start++) {
    await scene.restart()
    scene.refuseSends(2)
    await scene.environment.pass(3_000)
  }
  const disk = scene.environment.afterCrash().fileSystem
  let lost = 0
  for (const path of disk.find(/^bodies-/))
    await scanBlockFile(disk, path, parseBlockFileName(basename(path))!.salt, ({ header, location }) => {
      if (lost > 0 || header.minOffset < 500 || header.count < 400) return
      lost = header.count
      disk.bytes(path)[location.at + header.headerBytes]! ^= 1
    })
  t.true(lost > 0)
  for (const path of slots) damage(disk, path)
  scene.takeSends()
  const clusters = new Map([['default', scene.remote]])
  const after = await Scene.open({ disk, random: new Random(7), source: scene.source, clusters })
  await after.environment.pass(60_000)
  await after.allDone()
  t.is(after.arrived().length, 1_510 - lost)
  t.is(after.account.acked, 1_510)
  t.deepEqual(after.account.totals.lost, { journal: lost })
})
