// What a start makes of what the last one left on disk: blocks, segments, both, or one of them damaged.

import { basename } from 'node:path'
import { crc32 } from 'node:zlib'
import test from 'ava'
import { parseBlockFileName, scanBlockFile } from '../../replay/block-file.ts'
import { PLACE_BYTES } from '../../replay/place.ts'
import { parseSegmentName, readSegment, SegmentVersionError } from '../../replay/segment.ts'
import { DiskError } from '../support/fake-disk.ts'
import type { FakeEnvironment } from '../support/fake-environment.ts'
import { seededRandom } from '../support/random.ts'
import { FOLDER, Scene, TOPIC, texts } from './scene.ts'

test('a message that came late keeps being named as not done, though its page is on disk', async t => {
  const scene = await Scene.open()
  const slow = [0, 1, 2].map(index => scene.forward().store(`m${index}`))
  await scene.environment.pass(11_000)
  scene.refuseSends(2)
  scene.send(texts(3, 6))
  await scene.environment.settled()
  // Given up, and behind higher ones now.
  for (const send of slow) send.ack()
  await scene.spillAll()
  await crashWhenTheFirstAreFound(scene)
  t.deepEqual(scene.arrived(), ['m3', 'm4', 'm5', 'm0', 'm1', 'm2'])
  t.deepEqual(scene.account.totals.lost, {})
})

test('so does one whose page holds nothing but late ones, behind a page of higher ones', async t => {
  const scene = await Scene.open()
  const slow = [0, 1, 2].map(index => scene.forward().store(`m${index}`))
  await scene.environment.pass(11_000)
  scene.refuseSends(2)
  scene.send(texts(3, 6))
  await scene.spillAll()
  for (const send of slow) send.ack()
  scene.send(texts(6, 8))
  await scene.spillAll()
  await crashWhenTheFirstAreFound(scene)
  t.deepEqual(scene.arrived(), ['m3', 'm4', 'm5', 'm0', 'm1', 'm2', 'm6', 'm7'])
  t.deepEqual(scene.account.totals.lost, {})
})

test('what took the place of a lost message comes behind the page that this is in', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 5))
  await scene.spillAll()
  scene.source.broker.loseTail(3)
  // In doubt: its connection ends before it is known that the log is another.
  scene.forward(0, scene.connect()).store('m5').lose(['m5'])
  await scene.until('it is found', () => scene.broker.unresolvedNow === 0)
  await scene.environment.settled()
  await scene.crash()
  scene.takeSends()
  await scene.allDone()
  // The gateway has the bodies of the lost ones.
  t.deepEqual(scene.arrived(), texts(0, 6))
  t.is(scene.account.totals.reordered, 0)
})

test('a page whose block could not be synced is written anew, and counts once where the first block is still there', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 600))
  await scene.environment.settled()
  const { fileSystem } = scene.environment
  let failures = 0
  fileSystem.fault = (operation, path) => {
    const isFirstSync = operation === 'sync' && /bodies-/.test(path) && failures++ === 0
    // Nor does it take a cursor: the file that was left is not removed.
    return isFirstSync || operation === 'overwrite' ? new DiskError('EIO', operation, path) : undefined
  }
  await scene.until('a sync has failed', () => failures > 0)
  await scene.environment.pass(2_500)
  t.is(fileSystem.find(/^bodies-/).length, 2)
  await scene.crash()
  t.is(scene.account.queued + scene.account.inGap, 600)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 600))
  t.is(scene.account.acked, 600)
})

const segmentsOf = ({ fileSystem }: FakeEnvironment) =>
  fileSystem.find(/^places-/).filter(path => fileSystem.bytes(path).length > 0)

/** Messages that wait, in a segment of a process that was killed; no cursor covers those from m2 on. */
async function killed(): Promise<{ scene: Scene; path: string }> {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 2))
  await scene.environment.pass(2_000)
  scene.send(texts(2, 6))
  await scene.environment.settled()
  return { scene, path: segmentsOf(scene.environment)[0]! }
}

test('a segment whose header is damaged is read all the same, and that is said', async t => {
  const { scene, path } = await killed()
  scene.environment.fileSystem.bytes(path)[3]! ^= 1
  scene.takeSends()
  await scene.crash()
  t.is(scene.environment.log.said('damaged header').length, 1)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 6))
  t.deepEqual(scene.account.totals.lost, {})
})

test('damage within a segment costs what is damaged, is kept aside, and is counted', async t => {
  const { scene, path } = await killed()
  const bytes = scene.environment.fileSystem.bytes(path)
  // The fourth place from the end, which no cursor covers.
  const at = bytes.length - 4 * PLACE_BYTES
  bytes[at + 30]! ^= 1
  scene.takeSends()
  await scene.crash()
  const [aside, ...others] = scene.environment.fileSystem.find(/^damaged-/)
  t.is(others.length, 0)
  t.deepEqual(scene.environment.fileSystem.bytes(aside!), bytes.subarray(at, at + PLACE_BYTES))
  t.is(scene.environment.log.said('journal segment is damaged')[0]?.fields.at, at)
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm3', 'm4', 'm5'])
  t.deepEqual(scene.account.totals.lost, { journal: 1 })
  t.is(scene.account.acked, 6)
})

test('a torn tail is said, and is no loss where nobody was told', async t => {
  const { scene, path } = await killed()
  const { fileSystem } = scene.environment
  fileSystem.put(path, Buffer.concat([fileSystem.bytes(path), fileSystem.bytes(path).subarray(-PLACE_BYTES, -20)]))
  scene.takeSends()
  await scene.crash()
  t.is(scene.environment.log.said('torn record').length, 1)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 6))
  t.deepEqual(scene.account.totals.lost, {})
})

test('a segment of another version ends the start, and is left as it was', async t => {
  const { scene, path } = await killed()
  const later = Buffer.from(scene.environment.fileSystem.bytes(path))
  later.writeUInt32BE(3, 8)
  later.writeUInt32BE(crc32(later.subarray(0, 60)), 60)
  scene.environment.fileSystem.put(path, later)
  await t.throwsAsync(scene.crash(), { instanceOf: SegmentVersionError, message: /version 3/ })
  t.deepEqual(scene.environment.fileSystem.bytes(path), later)
})

test('what is no file of the journal is left alone', async t => {
  const { scene } = await killed()
  const stranger = `${FOLDER}/places-1`
  scene.environment.fileSystem.put(stranger, Buffer.from('not ours'))
  scene.takeSends()
  await scene.crash()
  await scene.allDone()
  await scene.environment.pass(3_000)
  t.is(scene.environment.fileSystem.bytes(stranger).toString(), 'not ours')
})

test('segments with nothing left to do go at the start, those without a place too', async t => {
  const { scene } = await killed()
  scene.takeSends()
  await scene.allDone()
  await scene.environment.pass(2_000)
  const before = scene.environment.fileSystem.find(/^places-/)
  t.true(before.length > 1)
  await scene.crash()
  t.false(before.some(path => scene.environment.fileSystem.files.has(path)))
})

test('what a killed process had not synced is synced before a cursor counts on it', async t => {
  const { scene } = await killed()
  await scene.crash()
  // The power goes right after the start.
  scene.takeSends()
  await scene.crash(true)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 6))
  t.deepEqual(scene.account.totals.lost, {})
})

test('a place that was written anew after a failure counts once', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 1))
  // Else the first checkpoint comes with the first lane.
  await scene.environment.pass(2_000)
  const [path] = segmentsOf(scene.environment)
  scene.send(texts(1, 4))
  await scene.environment.settled()
  // The kernel has it, and says that the disk has not.
  scene.environment.fileSystem.fault = (operation, of) =>
    operation === 'sync' && of === path ? new Error('bad disk') : undefined
  await scene.environment.pass(150)
  t.true(scene.broker.journal.failed)
  scene.environment.fileSystem.fault = () => undefined
  await scene.environment.pass(2_000)
  t.true(segmentsOf(scene.environment).length > 1)
  scene.takeSends()
  await scene.crash()
  t.is(scene.account.acked, 4)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 4))
})

test('no sequence, segment or epoch is used twice, whatever restarts, failures and deletions come between', async t => {
  const random = seededRandom(t)
  for (let round = 0; round < 20; round++) {
    const scene = await Scene.open({ random, maxBytes: 20_000 })
    const ids = new Map<number, string>()
    const epochs = new Map<number, string>()
    const places = new Map<number, string>()
    const look = () => {
      const { fileSystem } = scene.environment
      for (const path of fileSystem.find(/^places-/)) {
        const name = basename(path)
        const { id, salt } = parseSegmentName(name)!
        t.is(ids.get(id) ?? name, name, `${name} has the id of another`)
        ids.set(id, name)
        readSegment(fileSystem.bytes(path), salt, {
          topic: () => {},
          epoch: (ordinal, id) => {
            t.is(epochs.get(ordinal) ?? id, id, `epoch ${ordinal}`)
            epochs.set(ordinal, id)
          },
          place: (_topic, queueId, { sequence, epoch, queueOffset }) => {
            const place = `${epoch} ${queueId} ${queueOffset}`
            t.is(places.get(sequence) ?? place, place, `sequence ${sequence}`)
            places.set(sequence, place)
          },
        })
      }
    }
    let sent = 0
    for (let start = 0; start < 6; start++) {
      const { fileSystem } = scene.environment
      for (let step = random.integer(0, 6); step > 0; step--) {
        if (random.chance(0.2)) {
          fileSystem.tornBytes = random.integer(0, 100)
          const broken = random.pick(['append', 'create', 'sync'] as const)
          fileSystem.fault = operation => (operation === broken ? new Error('no space') : undefined)
        }
        if (random.chance(0.5)) scene.refuseSends(2)
        else scene.takeSends()
        scene.send(texts(sent, sent + 5), random.integer(0, 1))
        sent += 5
        await scene.environment.settled()
        look()
        if (random.chance(0.5)) await scene.environment.pass(random.integer(0, 2_500))
        fileSystem.fault = () => undefined
        if (random.chance(0.3)) await scene.environment.pass(2_500)
        look()
      }
      if (random.chance(0.3)) await scene.restart()
      else await scene.crash()
    }
    await scene.close()
  }
})

/** After a restart the remote stores the first three, and is found to have them; then comes a crash. */
async function crashWhenTheFirstAreFound(scene: Scene): Promise<void> {
  await scene.restart()
  const held = scene.holdSends()
  await scene.until('the first are out', () => held.length === 1)
  held[0]!.store([0, 1, 2])
  scene.refuseSends(2)
  held[0]!.request.breakOff()
  await scene.until('they are found', () => scene.account.totals.replicated === 3)
  await scene.environment.pass(2_000)
  scene.takeSends()
  await scene.crash()
  await scene.allDone()
}

test('places whose topic nobody can tell any more, for its name is damaged, are lost and counted', async t => {
  const scene = await Scene.open()
  scene.remote.away.add(scene.remote.broker)
  scene.send(texts(0, 3))
  await scene.environment.settled()
  const { fileSystem } = scene.environment
  for (const path of fileSystem.find(/^places-/)) {
    const bytes = Buffer.from(fileSystem.bytes(path))
    const at = bytes.indexOf(TOPIC)
    if (at < 0) continue
    bytes[at]! ^= 1
    fileSystem.put(path, bytes)
  }
  await scene.crash()
  t.deepEqual(scene.account.totals.lost, { journal: 3 })
  t.is(scene.account.acked, 3)
  await scene.environment.pass(3_000)
  await scene.crash()
  t.deepEqual(scene.account.totals.lost, { journal: 3 })
})

test('a block whose places are damaged is lost once, over any number of starts', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 600))
  await scene.spillAll()
  // The segment is of another process then, and goes.
  await scene.crash()
  await scene.environment.pass(3_000)
  const { fileSystem } = scene.environment
  const [path] = fileSystem.find(/^bodies-/) as [string]
  const bytes = Buffer.from(fileSystem.bytes(path))
  bytes[64 + 200]! ^= 1
  fileSystem.put(path, bytes)
  for (let start = 0; start < 3; start++) {
    await scene.crash()
    await scene.environment.pass(5_000)
    t.deepEqual(scene.account.totals.lost, { journal: 512 })
    t.is(scene.account.acked, 600)
  }
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(512, 600))
})

test('nothing is written before a start is over, on a slow disk either: a block names the epoch of what it has', async t => {
  const scene = await Scene.open({ spillAfter: 20 })
  scene.refuseSends(2)
  for (const text of texts(0, 2)) {
    scene.send([text])
    await scene.environment.settled()
    // A page for each: what the next process is told is of another epoch.
    await scene.crash()
  }
  scene.environment = scene.environment.afterCrash(false)
  const { clock, fileSystem } = scene.environment
  fileSystem.step = () => new Promise<void>(resolve => void clock.after(300, resolve))
  await scene.start()
  await scene.until('it is on disk', () => fileSystem.find(/^bodies-/).some(path => fileSystem.bytes(path).length > 64))
  await scene.environment.pass(3_000)
  const epochIds: string[] = []
  const left = fileSystem.afterCrash(false)
  for (const path of left.find(/^bodies-/)) {
    const { salt } = parseBlockFileName(basename(path))!
    await scanBlockFile(left, path, salt, ({ header }) => void epochIds.push(header.epochId))
  }
  t.true(epochIds.length > 0)
  for (const epochId of epochIds) t.regex(epochId, /^[0-9a-f]{12}$/)
  fileSystem.step = undefined
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 2))
})
