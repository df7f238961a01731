// Files of bodies that are kept: their names, what is found in them, and the room that they take.

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { payloadOf } from '../../replay/body.ts'
import { sleep } from '../../replay/clock.ts'
import type { Environment } from '../../replay/environment.ts'
import { realFileSystem } from '../../replay/file-system.ts'
import { KeptBodies, keptFileName, parseKeptFileName } from '../../replay/kept-bodies.ts'
import { encodeEpoch, encodePlaceWithBody, encodeTopic } from '../../replay/place.ts'
import { Room } from '../../replay/room.ts'
import { encodeSegmentHeader, segmentName } from '../../replay/segment.ts'
import { FakeEnvironment } from '../support/fake-environment.ts'
import { bodyWith, placeAt } from './sample.ts'
import { TOPIC } from './scene.ts'

const EPOCH_ID = '0123456789ab'
const SALT = 5

/** A segment with a message of each of so many queues in turn, offsets rising from the first; and where each record stands. */
function segmentOf(queues: number, messages: number, first = 0): { bytes: Buffer; records: number[] } {
  const out = Buffer.alloc(messages * 300 + 1_000)
  let at = encodeSegmentHeader({ id: 1, salt: SALT }).copy(out)
  at = encodeEpoch(out, at, SALT, 1, EPOCH_ID)
  at = encodeTopic(out, at, SALT, 9, Buffer.from(TOPIC))
  const records: number[] = []
  for (let index = 0; index < messages; index++) {
    records.push(at)
    const place = placeAt(first + Math.floor(index / queues))
    at = encodePlaceWithBody(out, at, SALT, place, bodyWith(`m${index}`), 9, index % queues)
  }
  return { bytes: out.subarray(0, at), records }
}

test("where what another queue's record says of its length is damaged, those behind it are found all the same", async t => {
  const { bytes, records } = segmentOf(2, 40)
  // Of queue 1, as if it had all that comes.
  const at = records[11]!
  bytes.writeUInt32BE(bytes.length - at, at + 8)
  const environment = new FakeEnvironment()
  const path = `/data/${segmentName({ id: 1, salt: SALT })}`
  environment.fileSystem.put(path, bytes)
  const kept = keptIn(environment, '/data', [path])
  const asked = Array.from({ length: 20 }, (_, offset) => placeAt(offset))
  const ours = await kept.find(TOPIC, 0, asked)
  t.is(ours.bodies.size, 20)
  const others = await kept.find(TOPIC, 1, asked)
  t.deepEqual([...others.bodies.keys()], [0, 1, 2, 3, 4, ...asked.map(({ sequence }) => sequence).slice(6)])
  t.is(others.cause, 'journal')
})

function keptIn(
  environment: Pick<Environment, 'clock' | 'fileSystem' | 'log'>,
  folder: string,
  inUse: readonly string[] = [],
): KeptBodies {
  return new KeptBodies({
    environment,
    folder,
    retention: 600_000,
    inUse: () => inUse,
    excess: () => 0,
    freed: () => {},
    notRemoved: () => {},
    epochId: () => EPOCH_ID,
  })
}

test('on a real disk a file gets its name, is found by the next process, is read, and goes', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'rocketmq-tee-kept-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const environment = { ...new FakeEnvironment(), fileSystem: realFileSystem }
  const { bytes } = segmentOf(1, 30)
  const name = segmentName({ id: 1, salt: SALT })
  writeFileSync(join(folder, name), bytes)
  const before = keptIn(environment, folder)
  await before.keep(join(folder, name))
  // Once more is nothing.
  await before.keep(join(folder, name))
  const since = environment.clock.now()
  t.deepEqual(readdirSync(folder), [keptFileName({ formerName: name, since })])
  const kept = keptIn(environment, folder)
  await kept.open()
  t.deepEqual(kept.counts, { bytes: bytes.length, files: 1 })
  const { bodies } = await kept.find(TOPIC, 0, [placeAt(7), placeAt(30)])
  t.deepEqual(
    [...bodies.values()].map(({ body }) => Buffer.concat(payloadOf(body)).toString()),
    ['m7'],
  )
  await kept.forget(since + 600_000)
  t.is(readdirSync(folder).length, 1)
  await kept.forget(since + 600_001)
  t.deepEqual(readdirSync(folder), [])
  t.is((await kept.find(TOPIC, 0, [placeAt(7)])).bodies.size, 0)
})

test('the name of a kept file says what it was, and since when it is kept', t => {
  const file = { formerName: 'places-00000000000a-0000beef', since: 1_700_000_000_123 }
  const name = keptFileName(file)
  t.deepEqual(parseKeptFileName(name), { name, ...file })
  t.is(parseKeptFileName('kept-00000000000a-notes.txt'), undefined)
  t.is(parseKeptFileName('places-00000000000a-0000beef'), undefined)
})

test('room for bodies is what is kept, too; and so much of that goes that a file of them fits', async t => {
  const { fileSystem } = new FakeEnvironment()
  const used = { places: 0, blocks: 0, deadLetters: 0, kept: 500, isKeptNeeded: false }
  // A hundred for each file, four of them for places.
  const room = new Room(fileSystem, '/data', { maxBytes: 800, minFreeBytes: 1_000 }, () => used)
  t.true(room.has(400))
  t.false(room.has(401))
  t.is(room.excess, 200)
  fileSystem.freeBytes = async () => 700
  await room.look()
  t.true(room.has(200))
  t.false(room.has(201))
  t.is(room.excess, 400)
})

test('what dead letters take is not there for bodies', async t => {
  const { fileSystem } = new FakeEnvironment()
  const used = { places: 0, blocks: 100, deadLetters: 200, kept: 0, isKeptNeeded: false }
  const room = new Room(fileSystem, '/data', { maxBytes: 800, minFreeBytes: 0 }, () => used)
  t.true(room.has(100))
  t.false(room.has(101))
})

test('what is kept and needed is in use like what waits, and none of it is to be given up', async t => {
  const { fileSystem } = new FakeEnvironment()
  const used = { places: 0, blocks: 0, deadLetters: 0, kept: 300, isKeptNeeded: true }
  const room = new Room(fileSystem, '/data', { maxBytes: 800, minFreeBytes: 1_000 }, () => used)
  t.true(room.has(100))
  t.false(room.has(101))
  t.is(room.excess, 0)
  fileSystem.freeBytes = async () => 1_050
  await room.look()
  t.true(room.has(50))
  t.false(room.has(51))
  t.is(room.excess, 0)
})

/** So many kept files, each with 40 messages of 2 queues, 20 offsets further than the one before; and the offsets at which each was looked through. */
async function keptFiles(count: number, lookTakes = 0) {
  const environment = new FakeEnvironment()
  const { fileSystem, clock } = environment
  const size = segmentOf(2, 40).bytes.length
  for (let file = 0; file < count; file++) {
    const formerName = segmentName({ id: file + 1, salt: SALT })
    fileSystem.put(`/data/${keptFileName({ formerName, since: file })}`, segmentOf(2, 40, file * 20).bytes)
  }
  const looked: number[] = []
  const { readAt } = fileSystem
  fileSystem.readAt = async (path, at, length) => {
    if (length > size / 2 && at === 64) {
      looked.push(parseKeptFileName(path.slice('/data/'.length))!.since)
      await sleep(clock, lookTakes)
    }
    return readAt.call(fileSystem, path, at, length)
  }
  const kept = keptIn(environment, '/data')
  await kept.open()
  const offsetsOf = async (queueId: number, from: number, to: number) => {
    const asked = Array.from({ length: to - from }, (_, index) => placeAt(from + index))
    const answer = kept.find(TOPIC, queueId, asked)
    let isThere = false
    void answer.finally(() => {
      isThere = true
    })
    while (!isThere) {
      await environment.pass(1_000)
      // As each checkpoint does.
      await kept.forget(0)
    }
    return [...(await answer).bodies.values()].map(({ place }) => place.queueOffset).sort((a, b) => a - b)
  }
  return { environment, kept, looked, offsetsOf }
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => from + index)

test('the newest file is looked through first, and no more of them than is needed', async t => {
  const { looked, offsetsOf } = await keptFiles(30)
  t.deepEqual(await offsetsOf(1, 570, 600), range(570, 600))
  t.deepEqual(looked, [29, 28])
  t.deepEqual(await offsetsOf(0, 580, 600), range(580, 600))
  t.deepEqual(looked, [29, 28])
})

test('which bytes are of which queue is known of a few files only, of the others what they may have', async t => {
  const { looked, offsetsOf } = await keptFiles(30)
  t.deepEqual(await offsetsOf(0, 0, 20), range(0, 20))
  t.deepEqual(looked, range(0, 30).reverse())
  // The newest is looked through once more, and nothing between the two.
  t.deepEqual(await offsetsOf(0, 590, 600), range(590, 600))
  t.deepEqual(looked.slice(30), [29])
  t.deepEqual(await offsetsOf(1, 0, 20), range(0, 20))
  t.is(looked.length, 31)
  t.deepEqual(await offsetsOf(1, 600, 620), [])
  t.is(looked.length, 31)
})

test('where looking through all takes minutes it is done once, though cursors are written meanwhile', async t => {
  const { environment, looked, offsetsOf } = await keptFiles(10, 20_000)
  t.deepEqual(await offsetsOf(0, 0, 20), range(0, 20))
  await environment.pass(50_000)
  t.deepEqual(await offsetsOf(1, 0, 20), range(0, 20))
  t.is(looked.length, 10)
})
