// A start on a disk with sectors that cannot be read: they are damage like any other, and do not stop it.

import { basename } from 'node:path'
import test from 'ava'
import { decodeBlockHeader } from '../../replay/block.ts'
import { parseBlockFileName } from '../../replay/block-file.ts'
import { SEGMENT_HEADER_BYTES } from '../../replay/segment.ts'
import { DiskError, type FakeDisk } from '../support/fake-disk.ts'
import { Random } from '../support/random.ts'
import { placesIn } from './journal-lab.ts'
import { Scene, slotFolder, TOPIC, texts } from './scene.ts'

const SECTOR = 4096
const PLACE_BYTES = 72

let starts = 1

/** From now on the disk does not give this sector; `until`: up to then, by the clock that is given. */
function breakSector(disk: FakeDisk, path: string, sector: number, isOver: () => boolean = () => false): void {
  const { read, readAt } = disk
  const fail = () => new DiskError('EIO', 'read', path)
  disk.read = async from => {
    if (from === path && !isOver()) throw fail()
    return read.call(disk, from)
  }
  disk.readAt = async (from, at, length) => {
    if (from === path && at < (sector + 1) * SECTOR && at + length > sector * SECTOR && !isOver()) throw fail()
    const bytes = disk.files.get(from)?.bytes
    return bytes === undefined ? readAt.call(disk, from, at, length) : bytes.subarray(at, at + length)
  }
}

/** Messages that wait, as the cursor knows, some in blocks, some in the segment. */
async function waiting(spilled: number, journaled: number): Promise<Scene> {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, spilled))
  if (spilled > 0) await scene.spillAll()
  const disk = scene.environment.fileSystem
  // What comes stays in the segment.
  disk.fault = (operation, path) =>
    /bodies-/.test(path) && operation !== 'read' ? new DiskError('EIO', operation, path) : undefined
  scene.send(texts(spilled, spilled + journaled))
  await scene.environment.pass(3_000)
  return scene
}

async function next(scene: Scene, ruin: (disk: FakeDisk) => void): Promise<Scene> {
  const disk = scene.environment.afterCrash().fileSystem
  ruin(disk)
  scene.takeSends()
  const random = new Random(++starts)
  return Scene.open({ disk, random, source: scene.source, clusters: new Map([['default', scene.remote]]) })
}

test('of a segment with a sector that is not given, all else is read, and exactly its places are lost', async t => {
  for (let sector = 0; ; sector++) {
    const scene = await waiting(0, 250)
    const [path] = scene.environment.fileSystem
      .find(/^places-/)
      .filter(path => scene.environment.fileSystem.bytes(path).length > SECTOR) as [string]
    const bytes = scene.environment.fileSystem.bytes(path)
    if (sector * SECTOR >= bytes.length) break
    const first = bytes.length - 250 * PLACE_BYTES
    t.is(placesIn(path, bytes).length, 250)
    t.true(first > SEGMENT_HEADER_BYTES)
    const lost = texts(0, 250).filter((_, index) => {
      const at = first + index * PLACE_BYTES
      return at < (sector + 1) * SECTOR && at + PLACE_BYTES > sector * SECTOR
    })
    const after = await next(scene, disk => breakSector(disk, path, sector))
    await after.allDone()
    t.deepEqual(after.account.totals.lost, { journal: lost.length })
    t.deepEqual(
      after.arrived(),
      texts(0, 250).filter(text => !lost.includes(text)),
    )
    t.is(after.account.acked, 250)
    t.is(after.environment.log.said('the disk does not give a part of the journal').length, 1)
    await after.close()
  }
})

test('numbers of what was not given are not given to others: it may be given another time', async t => {
  const scene = await waiting(0, 250)
  // Behind the cursor.
  scene.send(texts(250, 300))
  await scene.environment.settled()
  const { fileSystem } = scene.environment
  const [path] = fileSystem.find(/^places-/) as [string]
  const tail = Math.floor((fileSystem.bytes(path).length - 1) / SECTOR)
  const after = await next(scene, disk => breakSector(disk, path, tail))
  after.refuseSends(2)
  after.send(texts(300, 320))
  await after.environment.settled()
  const again = await next(after, () => {})
  await again.allDone()
  t.deepEqual(
    again.arrived().filter(text => texts(300, 320).includes(text)),
    texts(300, 320),
  )
  t.is(new Set(again.arrived()).size, again.arrived().length)
})

test('of a file of blocks, too: what stands in the segment, or in other blocks, is not lost', async t => {
  const scene = await waiting(600, 50)
  const [path] = scene.environment.fileSystem.find(/^bodies-/) as [string]
  const sectors = Math.ceil(scene.environment.fileSystem.bytes(path).length / SECTOR)
  t.true(sectors > 3)
  const messages = [...scene.remote.broker.queue(TOPIC, 0).messages]
  for (let sector = 0; sector < sectors; sector++) {
    scene.remote.broker.queue(TOPIC, 0).messages = [...messages]
    const after = await next(scene, disk => breakSector(disk, path, sector))
    await after.allDone()
    const { lost } = after.account.totals
    const arrived = after.arrived()
    t.deepEqual(
      arrived,
      texts(0, 650).filter(text => arrived.includes(text)),
    )
    t.is(arrived.length + (lost.journal ?? 0), 650, `sector ${sector}`)
    t.true(arrived.length >= 50)
    t.is(after.account.acked, 650)
    await after.close()
  }
})

test('of a slot that is not given the other one counts; of both, what the journal holds is looked for', async t => {
  const slots = [0, 1].map(number => `${slotFolder()}/cursor-${number}`)
  for (const broken of [[slots[0]!], [slots[1]!], slots]) {
    const scene = await Scene.open()
    scene.send(texts(0, 10))
    await scene.allDone()
    await scene.environment.pass(2_000)
    scene.refuseSends(2)
    scene.send(texts(10, 20))
    await scene.environment.pass(2_000)
    const after = await next(scene, disk => {
      for (const path of broken) breakSector(disk, path, 0)
    })
    await after.allDone()
    t.deepEqual(after.arrived(), texts(0, 20))
    t.deepEqual(after.account.totals.lost, {})
  }
})

test('a disk that fails for a while is waited for, and nothing is lost', async t => {
  const scene = await waiting(0, 250)
  const [path] = scene.environment.fileSystem.find(/^places-/) as [string]
  let reads = 0
  const after = await next(scene, disk => breakSector(disk, path, 1, () => ++reads > 6))
  await after.allDone()
  t.deepEqual(after.account.totals.lost, {})
  t.deepEqual(after.arrived(), texts(0, 250))
})

test('a disk that gives nothing at all stops the start', async t => {
  const scene = await waiting(0, 250)
  await t.throwsAsync(
    next(scene, disk => {
      const { readAt } = disk
      disk.readAt = async (path, at, length) => {
        if (path.includes('/brokers/')) throw new DiskError('EIO', 'read', path)
        return readAt.call(disk, path, at, length)
      }
    }),
    { message: /the disk gives nothing of \d+ bytes/ },
  )
})

test('damage that cannot be kept aside does not stop the start', async t => {
  const scene = await waiting(0, 250)
  const [path] = scene.environment.fileSystem.find(/^places-/) as [string]
  const after = await next(scene, disk => {
    const bytes = Buffer.from(disk.bytes(path))
    bytes[5_000]! ^= 1
    disk.put(path, bytes)
    disk.fault = (operation, path) =>
      /damaged-/.test(path) && operation === 'replace' ? new DiskError('ENOSPC', operation, path) : undefined
  })
  await after.allDone()
  t.deepEqual(after.account.totals.lost, { journal: 1 })
  t.is(after.arrived().length, 249)
})

test('what the disk gives at another start counts as lost no more, and arrives', async t => {
  const scene = await waiting(0, 250)
  const [path] = scene.environment.fileSystem.find(/^places-/) as [string]
  const after = await next(scene, disk => breakSector(disk, path, 1))
  after.refuseSends(2)
  await after.environment.pass(3_000)
  t.true(after.account.totals.lost.journal! > 50)
  const again = await next(after, () => {})
  t.deepEqual(again.account.totals.lost, { journal: 0 })
  t.is(again.account.acked, 250)
  await again.allDone()
  t.deepEqual(again.arrived(), texts(0, 250))
})

/** Blocks of which the next start cannot read some, while a segment has all; it writes what it found to others, and is killed. */
async function foundElsewhere(ruin: (disk: FakeDisk, path: string) => void): Promise<Scene> {
  const scene = await Scene.open({ compress: false })
  scene.refuseSends(2)
  for (const [from, to] of [
    [0, 5],
    [5, 10],
    [10, 300],
    // Its file stays, for another block in it is whole.
    [300, 310],
  ] as const) {
    scene.send(texts(from, to))
    await scene.spillAll()
  }
  scene.send(texts(310, 313))
  await scene.environment.settled()
  const { fileSystem } = scene.environment
  const after = await next(scene, disk => ruin(disk, fileSystem.find(/^bodies-/)[0]!))
  after.refuseSends(2)
  after.send(texts(313, 315))
  await after.spillAll()
  await after.environment.pass(3_000)
  return after
}

test('blocks that the disk gives again at another start, and whose places a segment had: each counts and goes once', async t => {
  const scene = await foundElsewhere((disk, path) => breakSector(disk, path, 0))
  t.is(scene.environment.fileSystem.find(/^bodies-/).length, 2)
  t.is(scene.account.acked, 315)
  t.deepEqual(scene.account.totals.lost, {})
  const again = await next(scene, () => {})
  t.is(again.account.acked, 315)
  // Whichever of the two counts, it is named as not done until it is.
  again.refuseSends(2)
  await again.environment.pass(3_000)
  const last = await next(again, () => {})
  t.is(last.account.acked, 315)
  await last.allDone()
  t.deepEqual(last.arrived(), texts(0, 315))
})

test('blocks whose places are damaged, and were in a segment: what they had counts once, however often it starts', async t => {
  const scene = await foundElsewhere((disk, path) => {
    const bytes = disk.bytes(path)
    const { salt } = parseBlockFileName(basename(path))!
    // Of the last two: the next start puts what they had into one page, with what comes behind.
    for (let at = SEGMENT_HEADER_BYTES, block = 0; block < 4; block++) {
      const header = decodeBlockHeader(bytes.subarray(at), salt)!
      if (block >= 2) bytes[at + header.headerBytes]! ^= 1
      at += header.bytes
    }
  })
  for (let start = 0, now = scene; start < 3; start++) {
    now = await next(now, () => {})
    t.is(now.account.acked, 315)
    t.deepEqual(now.account.totals.lost, {})
    if (start === 2) {
      await now.allDone()
      t.deepEqual(now.arrived(), texts(0, 315))
    } else {
      now.refuseSends(2)
      await now.environment.pass(3_000)
    }
  }
})
