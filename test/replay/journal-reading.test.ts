// What a tool reads of a journal: all of it, each place once, unaltered, whatever was done to the files, and while they change.

import test from 'ava'
import type { FileSystem } from '../../replay/file-system.ts'
import { inspectJournal } from '../../replay/journal-inspection.ts'
import { type Damage, type JournalPlace, JournalReading } from '../../replay/journal-reading.ts'
import { parseSegmentName, SEGMENT_HEADER_BYTES } from '../../replay/segment.ts'
import { DiskError } from '../support/fake-disk.ts'
import type { FakeDisk } from '../support/fake-environment.ts'
import { fixtureFolder, readFixture } from '../support/journal-fixture.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { FOLDER, Scene, slotFolder, texts } from './scene.ts'

/** What reading waits for is never asked for again here: it goes on at once. */
const clock = {
  now: () => 0,
  uptime: () => 0,
  soon: (call: () => void) => call(),
  after: (_ms: number, call: () => void) => {
    call()
    return () => {}
  },
}

const BOTH = [
  { label: 'rome', bit: 1 },
  { label: 'oslo', bit: 2 },
]
const DEFAULT = [{ label: 'default', bit: 1 }]

async function read(fileSystem: FileSystem, remotes = BOTH, bodies = true) {
  const reading = new JournalReading({ fileSystem, clock }, FOLDER, remotes)
  const places: JournalPlace[] = []
  const damage: Damage[] = []
  await reading.read(
    batch => {
      places.push(...batch.places)
      damage.push(...batch.damage)
    },
    { bodies },
  )
  return { reading, places, damage }
}

const inspect = (fileSystem: FileSystem, remotes = BOTH) =>
  inspectJournal({ fileSystem, clock }, 'paris-a', FOLDER, remotes)

/** All that tells a message. */
function textOf({ topic, queueId, epochId, place, body }: JournalPlace): string {
  return JSON.stringify({
    topic,
    queueId,
    epochId,
    place,
    body: body && [body.flag, body.sysFlag, body.propertyBytes.toString(), body.payloadBytes.toString()],
  })
}

const fixture = () => readFixture(fixtureFolder('journal-v2'))

test('of a directory that a gateway has left it tells what that would find at its start', async t => {
  const { disk, was } = fixture()
  const inspection = await inspect(disk)
  for (const remote of inspection.remotes) {
    const { totals, queued, inGap } = was.remotes[remote.label]!
    t.is(remote.found.waiting, queued + inGap)
    t.like(remote.slot!.totals, { replicated: totals.replicated, skipped: remote.slot!.totals.skipped })
    t.is(remote.slot!.waiting + remote.found.behindCursor, queued + inGap)
    t.deepEqual(remote.missing, { places: 0, records: 0 })
    t.deepEqual(
      remote.slots.map(({ state }) => state),
      ['whole', 'whole'],
    )
    const byQueue = inspection.queues.reduce((sum, { waiting }) => sum + (waiting[remote.label] ?? 0), 0)
    t.is(byQueue, remote.found.waiting)
  }
  t.is(inspection.isDamaged, false)
  t.is(inspection.wentOn, false)
  t.deepEqual(inspection.segments.at(-1)!.header, 'empty')
})

test('each place is given once, with the body that its message had', async t => {
  const { disk, source } = fixture()
  const { places } = await read(disk)
  t.is(new Set(places.map(({ place }) => place.sequence)).size, places.length)
  t.true(places.some(({ where }) => where === 'places'))
  let bodies = 0
  for (const { topic, queueId, place, body, hasBody } of places) {
    t.is(hasBody, body !== undefined)
    if (body === undefined) continue
    const stored = source.broker.queue(topic!, queueId).messages.find(one => one.queueOffset === place.queueOffset)!
    t.is(body.payloadBytes.toString(), stored.body.toString())
    t.is(body.propertyBytes.toString(), stored.properties.toString())
    bodies++
  }
  t.true(bodies > 10)
})

test('nothing is asked of the disk but to list and to read', async t => {
  const { disk } = fixture()
  const asked = new Set<string>()
  const watched = new Proxy(disk, {
    get(target, name) {
      asked.add(String(name))
      const value = Reflect.get(target, name)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  await inspect(watched)
  t.deepEqual([...asked].sort(), ['list', 'readAt', 'size'])
})

function damaged(disk: FakeDisk, random: Random): void {
  const path = random.pick([...disk.files.keys()].filter(one => disk.bytes(one).length > 0))
  const bytes = Buffer.from(disk.bytes(path))
  const kind = random.integer(0, 3)
  const at = random.integer(0, bytes.length - 1)
  if (kind === 0) return void disk.put(path, bytes.subarray(0, at))
  if (kind === 1) bytes[at]! ^= 1 << random.integer(0, 7)
  else random.bytes(Math.min(random.integer(1, 600), bytes.length - at)).copy(bytes, at)
  disk.put(path, kind === 3 ? Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 8)]) : bytes)
}

test('whatever is cut, flipped, overwritten or left out: no place is altered, none comes twice, and nothing is thrown', async t => {
  const random = seededRandom(t)
  const { disk } = fixture()
  const { places: all, reading } = await read(disk)
  const whole = new Map(all.map(one => [one.place.sequence, textOf(one)]))
  const knownToWait = ({ topic, queueId, place }: JournalPlace) =>
    reading.remotes.some(remote => remote.covers(place.sequence) && remote.isWaiting(topic, queueId, place))
  const waiting = all.filter(knownToWait).map(({ place }) => place.sequence)
  let lost = 0
  for (let round = 0; round < 300; round++) {
    const broken = fixture().disk
    for (let times = random.integer(1, 3); times > 0; times--) damaged(broken, random)
    const { places } = await read(broken)
    t.is(new Set(places.map(({ place }) => place.sequence)).size, places.length)
    for (const one of places) {
      const original = JSON.parse(whole.get(one.place.sequence)!)
      const found = JSON.parse(textOf(one))
      // A name may be lost with its record, a body with its block.
      t.deepEqual(found.place, original.place)
      t.is(found.queueId, original.queueId)
      if (found.topic !== undefined) t.is(found.topic, original.topic)
      if (found.epochId !== undefined) t.is(found.epochId, original.epochId)
      if (found.body !== undefined) t.deepEqual(found.body, original.body)
    }
    const found = new Set(places.map(({ place }) => place.sequence))
    if (waiting.every(sequence => found.has(sequence))) continue
    lost++
    t.true((await inspect(broken)).isDamaged)
  }
  t.true(lost > 10)
})

test('places that the cursor knew to wait, and records behind it, are missing when they are gone', async t => {
  const { disk, was } = fixture()
  for (const path of disk.find(/^bodies-/)) disk.files.delete(path)
  const inspection = await inspect(disk)
  const rome = inspection.remotes.find(({ label }) => label === 'rome')!
  t.is(rome.found.waiting + rome.missing!.places, was.remotes.rome!.queued + was.remotes.rome!.inGap)
  t.true(rome.missing!.places > 0)
  t.true(inspection.isDamaged)

  const cut = fixture().disk
  const [path] = cut.find(/^places-/)
  const bytes = Buffer.from(cut.bytes(path!))
  bytes.fill(0xff, SEGMENT_HEADER_BYTES + 100, bytes.length - 1_000)
  cut.put(path!, bytes)
  t.true((await inspect(cut)).isDamaged)
})

test('what a remote that is not configured any more had to do is shown, and is no damage', async t => {
  const scene = await Scene.open({ remotes: ['rome', 'oslo'] })
  scene.remoteOf('oslo').disconnect(scene.environment.network)
  scene.send(texts(0, 20))
  await scene.until('one has them', () => scene.feedOf('rome').account.totals.replicated === 20)
  await scene.environment.pass(2_000)
  scene.labels = ['rome']
  await scene.restart()
  scene.send(texts(20, 40))
  await scene.allDone()
  await scene.environment.pass(2_000)
  await scene.restart()
  const { remotes, isDamaged } = await inspect(scene.environment.fileSystem)
  const oslo = remotes.find(({ label }) => label === 'oslo')!
  t.true(oslo.missing!.places > 0)
  t.true(oslo.isBehindOthers)
  t.false(isDamaged)
  await scene.close()
})

test('without a whole cursor, or without any, all waits', async t => {
  const { disk } = fixture()
  for (const slot of ['cursor-0', 'cursor-1']) disk.put(`${slotFolder('oslo')}/${slot}`, Buffer.from('no slot'))
  for (const slot of ['cursor-0', 'cursor-1']) disk.files.delete(`${slotFolder('rome')}/${slot}`)
  const { remotes, isDamaged, queues } = await inspect(disk)
  const [rome, oslo] = remotes
  const places = queues.reduce((sum, queue) => sum + queue.places, 0)
  t.like(rome, { cursor: 'none', slot: null, missing: null })
  t.true(rome!.found.waiting > 20 && rome!.found.waiting <= places)
  t.like(oslo, { cursor: 'damaged', slot: null, missing: null })
  t.true(oslo!.found.waiting > 20 && oslo!.found.waiting <= places)
  t.true(isDamaged)
})

test('what a disk does not give is damage, and the rest is read', async t => {
  const random = seededRandom(t)
  const { disk } = fixture()
  const whole = await read(disk)
  const path = disk.find(/^places-/)[0]!
  const bad = random.integer(0, SEGMENT_HEADER_BYTES + 200)
  const fileSystem: FileSystem = Object.create(disk)
  fileSystem.readAt = async (from, at, length) => {
    if (from === path && at <= bad && at + length > bad) throw new DiskError('EIO', 'read', from)
    return disk.readAt(from, at, length)
  }
  const { places, damage } = await read(fileSystem)
  t.true(places.length > 0 && places.length < whole.places.length)
  const unreadable = damage.filter(({ kind }) => kind === 'unreadable')
  t.is(unreadable.length, 1)
  t.true(unreadable[0]!.at <= bad && bad < unreadable[0]!.at + unreadable[0]!.bytes)
  t.is(unreadable[0]!.bytes, 4096)
  t.is(parseSegmentName(unreadable[0]!.file)?.id, parseSegmentName(path.slice(FOLDER.length + 1))!.id)
})

test('while a gateway appends, spills, replicates and deletes, what waited and waits is found, once, and nothing is said to be damaged', async t => {
  const random = seededRandom(t)
  let waited = 0
  for (let round = 0; round < 12; round++) {
    const scene = await Scene.open({ maxBytes: 80_000, bodyMemory: 40_000, spillAfter: 50, random })
    let sent = 0
    const act = async () => {
      const count = random.integer(0, 40)
      scene.send(texts(sent, sent + count), random.integer(0, 1))
      sent += count
      if (random.chance(0.15)) scene.takeSends()
      await scene.environment.pass(random.integer(0, 400))
      scene.refuseSends(2)
      await scene.environment.pass(random.integer(0, 1_200))
    }
    scene.refuseSends(2)
    for (let times = 0; times < 10; times++) await act()
    const waitsSince = sent
    const disk = scene.environment.fileSystem
    const busy: FileSystem = Object.create(disk)
    busy.list = async path => {
      await act()
      return disk.list(path)
    }
    busy.readAt = async (path, at, length) => {
      if (random.chance(0.3)) await act()
      return disk.readAt(path, at, length)
    }
    const { places, damage } = await read(busy, DEFAULT)
    const arrived = new Set([0, 1].flatMap(queueId => scene.arrived(queueId)))
    const found = new Set(places.map(({ queueId, place }) => `${queueId} ${place.queueOffset}`))
    t.is(found.size, places.length)
    t.deepEqual(damage, [])
    let waiting = 0
    for (const queueId of [0, 1])
      for (const { body, queueOffset } of scene.source.broker.queue('orders', queueId).messages) {
        const text = body.toString()
        if (Number(text.slice(1)) >= waitsSince || arrived.has(text)) continue
        waiting++
        t.true(found.has(`${queueId} ${queueOffset}`), `${text} in round ${round}`)
      }
    waited += waiting
    t.false((await inspect(busy, DEFAULT)).isDamaged)
    scene.takeSends()
    await scene.close()
  }
  t.true(waited > 100, `${waited}`)
})
