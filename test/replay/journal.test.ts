// The journal on a disk that crashes, tears, refuses and flips bits. What a lane or a cursor makes of it is not here.

import { basename, dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import test from 'ava'
import { Journal } from '../../replay/journal.ts'
import type { Place } from '../../replay/place.ts'
import {
  encodeSegmentHeader,
  readSegment,
  SEGMENT_BYTES,
  SEGMENT_HEADER_BYTES,
  SegmentVersionError,
  segmentId,
} from '../../replay/segment.ts'
import { FakeDisk, FakeEnvironment } from '../support/fake-environment.ts'
import { seededRandom } from '../support/random.ts'
import { placeAt } from './sample.ts'

const FOLDER = '/data'
const START = { sequence: 0, nextSegmentId: 1, nextEpoch: 1 }

interface Found {
  topic: string
  queueId: number
  place: Place
  epoch: number
}

interface Opened {
  journal: Journal
  found: Found[]
  places: number
  tornBytes: number
}

/** Opens a journal; every place that is there is still to be done. */
async function open(environment: FakeEnvironment, from = START, live: (place: Place) => boolean = () => true) {
  const journal = new Journal(environment, FOLDER)
  const found: Found[] = []
  const { places, tornBytes } = await journal.open(from, (topic, queueId, place, { epoch }) => {
    found.push({ topic, queueId, place, epoch })
    return live(place)
  })
  return { journal, found, places, tornBytes } satisfies Opened
}

function onDisk(bytes: Buffer, path: string): FakeEnvironment {
  const disk = new FakeDisk()
  disk.put(path, bytes)
  return new FakeEnvironment(undefined, disk)
}

function segments({ fileSystem }: FakeEnvironment): string[] {
  return fileSystem.find(/^places-/)
}

/** Appends a place and lets it be written. */
async function write(environment: FakeEnvironment, journal: Journal, queueOffset: number, topic = 'orders') {
  const place = placeAt(queueOffset)
  journal.append(topic, 0, place)
  await environment.settled()
  return place
}

/** A journal's one file with six places of two topics, the places, and where each ends in it. */
async function sixPlaces() {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  const written: Found[] = []
  const ends: number[] = []
  for (let index = 0; index < 6; index++) {
    const topic = index % 3 === 0 ? 'bills' : 'orders'
    const place = await write(environment, journal, 100 + index, topic)
    written.push({ topic, queueId: 0, place: { ...place }, epoch: 1 })
    ends.push(environment.fileSystem.bytes(segments(environment)[0]!).length)
  }
  const path = segments(environment)[0]!
  return { written, ends, path, bytes: environment.fileSystem.bytes(path) }
}

test('what was appended is found again, by topic, queue and epoch, in its order', async t => {
  const { written, path, bytes } = await sixPlaces()
  const { found, places, tornBytes, journal } = await open(onDisk(bytes, path))
  t.deepEqual(found, written)
  t.deepEqual(
    found.map(({ place }) => place.sequence),
    [0, 1, 2, 3, 4, 5],
  )
  t.deepEqual([places, tornBytes], [6, 0])
  t.is(journal.sequence, 6)
})

test('cut at any byte, exactly the places before the cut are found', async t => {
  const { written, ends, path, bytes } = await sixPlaces()
  for (let length = 0; length <= bytes.length; length++) {
    const { found, places } = await open(onDisk(bytes.subarray(0, length), path))
    const whole = ends.filter(end => end <= length).length
    t.deepEqual(found, written.slice(0, whole), `cut to ${length}`)
    t.is(places, whole)
  }
})

test('with any bit flipped, a prefix of the places is found and none is altered', async t => {
  const { written, ends, path, bytes } = await sixPlaces()
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const other = Buffer.from(bytes)
    other[bit >> 3]! ^= 1 << (bit & 7)
    const { found } = await open(onDisk(other, path))
    const before = bit >> 3 < SEGMENT_HEADER_BYTES ? 0 : ends.filter(end => end <= bit >> 3).length
    if (found.length !== before) t.fail(`bit ${bit}: ${found.length} places instead of ${before}`)
    t.deepEqual(found, written.slice(0, before), `bit ${bit}`)
  }
})

test('a place is on the disk before who waits for it is called, and nothing is before its turn', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  let seen = -1
  journal.onWritten = () => {
    seen = environment.fileSystem.bytes(segments(environment)[0]!).length
  }
  journal.append('orders', 0, placeAt(1))
  t.is(seen, -1)
  await environment.settled()
  t.is(seen, SEGMENT_HEADER_BYTES + 24 + 64)
})

test('what gathers in one turn is one append', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  const operations: string[] = []
  environment.fileSystem.fault = operation => void operations.push(operation)
  let called = 0
  journal.onWritten = () => {
    called++
  }
  for (let offset = 0; offset < 2_000; offset++) journal.append('orders', offset % 4, placeAt(offset))
  t.deepEqual(operations, [])
  await environment.settled()
  t.is(called, 1)
  t.deepEqual(operations, ['create', 'append'])
  t.is((await open(environment.afterCrash())).found.length, 2_000)
})

test('a power cut takes only what came less than 100 ms before it', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  await write(environment, journal, 1)
  await environment.pass(99)
  t.is((await open(environment.afterCrash(true))).found.length, 0)

  const patient = new FakeEnvironment()
  const second = await open(patient)
  await write(patient, second.journal, 1)
  await patient.pass(50)
  await write(patient, second.journal, 2)
  await patient.pass(50)
  await write(patient, second.journal, 3)
  t.is((await open(patient.afterCrash(true))).found.length, 2)
})

for (const [operation, torn] of [
  ['create', 0],
  ['append', 0],
  ['append', 30],
  ['append', 64],
] as const) {
  const title = `where ${operation} fails after ${torn} bytes who waits is called all the same, and a second later a fresh segment is tried`
  test(title, async t => {
    const environment = new FakeEnvironment()
    const { fileSystem } = environment
    const { journal } = await open(environment)
    let called = 0
    journal.onWritten = () => {
      called++
    }
    const first = operation === 'append' ? await write(environment, journal, 1) : undefined
    called = 0
    fileSystem.tornBytes = torn
    fileSystem.fault = one => (one === operation ? new Error('no space') : undefined)
    journal.append('orders', 0, placeAt(2))
    journal.append('orders', 0, placeAt(3))
    await environment.settled()
    t.is(called, 1)
    t.true(journal.failed)
    t.is(journal.errors, 1)
    t.is(environment.log.said('journal failure').length, 1)

    // Not at once: a full disk must not cost the loop a file a turn.
    const operations: string[] = []
    fileSystem.fault = one => void operations.push(one)
    await write(environment, journal, 4)
    t.is(called, 2)
    t.false(operations.includes('create') || operations.includes('append'))
    await environment.pass(1_000)
    const last = await write(environment, journal, 5)
    t.is(called, 3)
    t.false(journal.failed)
    const { found } = await open(environment.afterCrash())
    const offsets = found.map(({ place }) => place.queueOffset)
    // What came to the disk whole may be found, though nobody counts on it.
    t.deepEqual(offsets, operation === 'create' ? [5] : torn < 64 ? [1, 5] : [1, 2, 5])
    if (first !== undefined) t.deepEqual(found[0]!.place, first)
    t.deepEqual(found.at(-1)!.place, last)
    t.true(found.every(({ topic }) => topic === 'orders'))
  })
}

test('a disk that stays full is tried once a second', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  let tries = 0
  environment.fileSystem.fault = one => {
    if (one !== 'create') return undefined
    tries++
    return new Error('no space')
  }
  for (let round = 0; round < 100; round++) {
    await write(environment, journal, round)
    await environment.pass(100)
  }
  t.is(tries, 10)
  t.is(environment.log.said('journal failure').length, 1)
  t.is(journal.counts.segments, 0)
  t.deepEqual(segments(environment), [])
})

test('a segment of which nothing could be written leaves no file, and places in memory only belong to none', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  environment.fileSystem.tornBytes = 70
  environment.fileSystem.fault = one => (one === 'append' ? new Error('no space') : undefined)
  const lost = await write(environment, journal, 1)
  t.deepEqual(segments(environment), [])
  environment.fileSystem.fault = () => undefined
  await environment.pass(1_000)
  const kept = await write(environment, journal, 2)
  journal.done(lost.sequence)
  journal.done(kept.sequence)
  t.is(journal.counts.segments, 1)
  const after = environment.afterCrash()
  const second = await open(after)
  t.deepEqual(
    second.found.map(({ place }) => place.queueOffset),
    [2],
  )
  second.journal.done(kept.sequence)
  await second.journal.checkpoint(async () => {})
  t.deepEqual(segments(after), [])
})

test('a sync that fails is counted and said, stops nobody, and is the last of its segment', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  await write(environment, journal, 1)
  environment.fileSystem.fault = one => (one === 'sync' ? new Error('bad disk') : undefined)
  await environment.pass(100)
  t.is(journal.errors, 1)
  t.true(journal.failed)
  t.is(environment.log.said('journal failure')[0]?.fields.operation, 'sync')
  environment.fileSystem.fault = () => undefined
  await write(environment, journal, 2)
  await environment.pass(100)
  t.is(segments(environment).length, 2)
  t.is((await open(environment.afterCrash())).found.length, 2)
})

test('a place that comes while a sync fails is written all the same, and so are those behind it', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  await write(environment, journal, 1)
  let came = false
  environment.fileSystem.fault = operation => {
    if (operation !== 'sync' || came) return undefined
    came = true
    journal.append('orders', 0, placeAt(2))
    return new Error('bad disk')
  }
  await environment.pass(200)
  t.true(came)
  await write(environment, journal, 3)
  t.is((await open(environment.afterCrash())).found.length, 3)
})

/** A journal with one segment of the start before, whose places 1 and 2 are not done. */
async function withOldSegment() {
  const before = new FakeEnvironment()
  const first = await open(before)
  await write(before, first.journal, 1)
  await write(before, first.journal, 2)
  const environment = before.afterCrash()
  const { journal } = await open(environment)
  return { environment, journal, old: segments(environment)[0]! }
}

test('a segment is deleted only after the cursor that needs it no more is written', async t => {
  const { environment, journal, old } = await withOldSegment()
  journal.done(0)
  journal.done(1)
  await t.throwsAsync(
    journal.checkpoint(async () => {
      throw new Error('no space')
    }),
  )
  t.true(environment.fileSystem.files.has(old))
  let written: () => void = () => {}
  const writing = new Promise<void>(resolve => {
    written = resolve
  })
  const checkpoint = journal.checkpoint(() => writing)
  await environment.settled()
  t.true(environment.fileSystem.files.has(old))
  written()
  await checkpoint
  t.false(environment.fileSystem.files.has(old))
  t.is(journal.counts.segments, 0)
})

test('a segment in which something is left to do stays', async t => {
  const { environment, journal, old } = await withOldSegment()
  journal.done(1)
  await journal.checkpoint(async () => {})
  t.true(environment.fileSystem.files.has(old))
})

test('what was done while a cursor was being written deletes nothing: that cursor does not know of it', async t => {
  const { environment, journal, old } = await withOldSegment()
  journal.done(0)
  await journal.checkpoint(async () => journal.done(1))
  t.true(environment.fileSystem.files.has(old))
  await journal.checkpoint(async () => {})
  t.false(environment.fileSystem.files.has(old))
})

test('the segment that is written to stays, though nothing is left to do in it', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  journal.done((await write(environment, journal, 1)).sequence)
  await journal.checkpoint(async () => {})
  await write(environment, journal, 2)
  t.is(segments(environment).length, 1)
  t.is((await open(environment.afterCrash())).found.length, 2)
})

test('what is written is synced before the cursor is written', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  journal.append('orders', 0, placeAt(1))
  let synced = 0
  await journal.checkpoint(async () => {
    synced = environment.fileSystem.files.get(segments(environment)[0]!)!.synced
  })
  t.is(synced, SEGMENT_HEADER_BYTES + 24 + 64)
})

test('a done place counts for its own segment', async t => {
  const { environment, journal, old } = await withOldSegment()
  const { sequence } = await write(environment, journal, 3)
  journal.done(sequence)
  await journal.checkpoint(async () => {})
  t.true(environment.fileSystem.files.has(old))
  journal.done(0)
  journal.done(1)
  await journal.checkpoint(async () => {})
  t.false(environment.fileSystem.files.has(old))
})

test('a segment that is full is ended, and the next one names its topics again', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  // Long names fill it sooner.
  const names = Math.ceil(SEGMENT_BYTES / 65_000)
  for (let index = 0; index < names; index++)
    journal.append(`${index}`.padStart(4, '0').padEnd(65_000, '.'), 0, placeAt(index))
  await write(environment, journal, 1)
  await write(environment, journal, 2)
  const sizes = segments(environment).map(path => environment.fileSystem.bytes(path).length)
  t.is(sizes.length, 2)
  t.true(sizes[0]! >= SEGMENT_BYTES && sizes[0]! < SEGMENT_BYTES + 66_000)
  const topics: string[] = []
  readSegment(environment.fileSystem.bytes(segments(environment)[1]!), topic => topics.push(topic))
  t.is(topics.at(-1), 'orders')
  t.is(journal.counts.segments, 2)
  // The first is synced when it ends, not only the one that is written to.
  t.is(environment.fileSystem.files.get(segments(environment)[0]!)!.synced, sizes[0]!)
})

test('no sequence, segment or epoch is used twice, whatever restarts, failures and deletions come between', async t => {
  const random = seededRandom(t)
  for (let round = 0; round < 30; round++) {
    let environment = new FakeEnvironment(random)
    const sequences = new Set<number>()
    const ids = new Set<number>()
    const epochs = new Set<number>()
    let slot = START
    for (let start = 0; start < 6; start++) {
      const { journal, found } = await open(environment, slot)
      t.false(epochs.has(journal.epoch))
      epochs.add(journal.epoch)
      const live = found.map(({ place }) => place.sequence)
      const checkpoint = () =>
        journal.checkpoint(async () => {
          slot = {
            sequence: journal.sequence,
            nextSegmentId: journal.nextSegmentId + 1,
            nextEpoch: journal.epoch + 1,
          }
        })
      // As a source broker does at its start.
      await checkpoint()
      const known = new Set(segments(environment))
      for (let step = random.integer(0, 8); step > 0; step--) {
        if (random.chance(0.2)) {
          environment.fileSystem.tornBytes = random.integer(0, 100)
          environment.fileSystem.fault = one =>
            one === random.pick(['append', 'create']) ? new Error('no space') : undefined
        }
        const { sequence } = await write(environment, journal, step)
        environment.fileSystem.fault = () => undefined
        if (random.chance(0.5)) await environment.pass(1_000)
        t.false(sequences.has(sequence), `sequence ${sequence}`)
        // What never got to the disk is nobody's.
        if (!journal.failed) sequences.add(sequence)
        live.push(sequence)
        if (random.chance(0.3)) for (const one of live.splice(0)) journal.done(one)
        if (random.chance(0.3)) await checkpoint()
        for (const path of segments(environment).filter(path => !known.has(path))) {
          known.add(path)
          const id = segmentId(basename(path))
          t.false(ids.has(id), `segment ${id}`)
          ids.add(id)
        }
      }
      environment = environment.afterCrash()
    }
  }
})

test('the sequence and the ids go on where the cursor says, though every segment is gone', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment, { sequence: 500, nextSegmentId: 40, nextEpoch: 9 })
  const { sequence } = await write(environment, journal, 1)
  t.is(sequence, 500)
  t.is(segmentId(basename(segments(environment)[0]!)), 40)
  t.is(journal.epoch, 9)
  t.is(journal.oldestEpoch, 9)
})

test('a segment of another version ends the start', async t => {
  const { path, bytes } = await sixPlaces()
  const later = Buffer.from(bytes)
  later.writeUInt32BE(2, 8)
  later.writeUInt32BE(crc32(later.subarray(0, 60)), 60)
  const environment = onDisk(later, path)
  await t.throwsAsync(open(environment), { instanceOf: SegmentVersionError, message: /version 2/ })
  t.deepEqual(environment.fileSystem.bytes(path), later)
})

test('a file without a readable header is left alone, its id is not used again, and the others are read', async t => {
  const { path, bytes, written } = await sixPlaces()
  const environment = onDisk(bytes, path)
  const broken = `${dirname(path)}/places-000000000005-00000001`
  environment.fileSystem.put(broken, Buffer.from('not a header'))
  environment.fileSystem.put(`${dirname(path)}/cursor-0`, Buffer.from('no segment'))
  const { found, journal } = await open(environment)
  t.deepEqual(found, written)
  t.is(environment.log.said('left alone').length, 1)
  await write(environment, journal, 1)
  t.is(environment.fileSystem.bytes(broken).toString(), 'not a header')
  t.deepEqual(
    segments(environment).map(path => segmentId(basename(path))),
    [1, 5, 6],
  )
})

test('a segment that has a header and no place is forgotten at the first checkpoint', async t => {
  const path = `${FOLDER}/places-000000000001-00000007`
  const header = encodeSegmentHeader({ id: 1, salt: 7, epoch: 3, epochId: 'aaaaaaaaaaaa', firstSequence: 10 })
  const environment = onDisk(header, path)
  const { journal } = await open(environment)
  t.is(journal.epoch, 4)
  t.is(journal.oldestEpoch, 3)
  await journal.checkpoint(async () => {})
  t.false(environment.fileSystem.files.has(path))
})

test('places that the cursor says are done count for nothing, and their segment goes', async t => {
  const { path, bytes } = await sixPlaces()
  const environment = onDisk(bytes, path)
  const { journal, places } = await open(environment, START, () => false)
  t.is(places, 0)
  await journal.checkpoint(async () => {})
  t.deepEqual(segments(environment), [])
})

test('what is closed is synced, and leaves no timer', async t => {
  const environment = new FakeEnvironment()
  const { journal } = await open(environment)
  journal.append('orders', 0, placeAt(1))
  await journal.close()
  t.is(environment.clock.timers, 0)
  t.is((await open(environment.afterCrash(true))).found.length, 1)
})
