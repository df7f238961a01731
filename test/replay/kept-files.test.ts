// Files of bodies that are kept: their names, what is found in them, and the room that they take.

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { payloadOf } from '../../replay/body.ts'
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

/** A segment with a message of each of so many queues in turn, offsets rising; and where each record stands. */
function segmentOf(queues: number, messages: number): { bytes: Buffer; records: number[] } {
  const out = Buffer.alloc(messages * 300 + 1_000)
  let at = encodeSegmentHeader({ id: 1, salt: SALT }).copy(out)
  at = encodeEpoch(out, at, SALT, 1, EPOCH_ID)
  at = encodeTopic(out, at, SALT, 9, Buffer.from(TOPIC))
  const records: number[] = []
  for (let index = 0; index < messages; index++) {
    records.push(at)
    const place = placeAt(Math.floor(index / queues))
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
  const used = { places: 0, blocks: 0, kept: 500 }
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
