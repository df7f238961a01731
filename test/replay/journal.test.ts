// The journal on a disk that works: what is written when, which segments there are, and when they go.

import { basename } from 'node:path'
import { crc32 } from 'node:zlib'
import test from 'ava'
import { EPOCH_RECORD_BYTES, PLACE_BYTES, topicRecordBytes } from '../../replay/place.ts'
import { parseSegmentName, readSegment, SEGMENT_HEADER_BYTES } from '../../replay/segment.ts'
import { FakeEnvironment } from '../support/fake-environment.ts'
import {
  countTold,
  EPOCH_ID,
  FOLDER,
  type FoundPlace,
  found,
  foundOffsets,
  Held,
  openJournal,
  segments,
  write,
} from './journal-lab.ts'
import { placeAt } from './sample.ts'

/** A segment's bytes with one place: the epoch, and the topic twice: at its beginning, and where it came. */
const ONE_PLACE_BYTES =
  SEGMENT_HEADER_BYTES + EPOCH_RECORD_BYTES + 2 * topicRecordBytes(Buffer.from('orders')) + PLACE_BYTES

const NO_BODIES = { hasBodies: false, isDoneHere: false }

test('what was appended is found again, by topic, queue and epoch, in its order', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  journal.beginEpoch({ ordinal: 2, id: 'ba9876543210' })
  const written: FoundPlace[] = []
  for (let index = 0; index < 6; index++) {
    const topic = index % 3 === 0 ? 'bills' : 'orders'
    const epoch = index < 4 ? 1 : 2
    const place = placeAt(100 + index, { epoch, skipReason: index % 5, skipMask: index })
    journal.append(topic, index, place)
    t.is(place.sequence, index)
    if (index % 2 === 0) await environment.settled()
    written.push({ topic, queueId: index, epochId: epoch === 1 ? EPOCH_ID : journal.epochIds.get(2), place })
  }
  await environment.settled()
  t.deepEqual(found(environment.afterCrash()), written)
})

test('a place is on the disk before who waits for it is told, and nothing is before its turn', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  let seen = -1
  journal.onFlush = () => () => {
    seen = environment.fileSystem.bytes(segments(environment)[0]!).length
  }
  journal.append('orders', 0, placeAt(1))
  t.is(seen, -1)
  await environment.settled()
  t.is(seen, ONE_PLACE_BYTES)
})

test('what gathers in one turn is one append', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  const told = countTold(journal)
  await write(environment, journal, 0)
  const operations: string[] = []
  environment.fileSystem.fault = operation => void operations.push(operation)
  for (let offset = 1; offset < 2_000; offset++) journal.append('orders', offset % 4, placeAt(offset))
  t.deepEqual(operations, [])
  await environment.settled()
  t.is(told.times, 2)
  t.deepEqual(operations, ['append'])
  t.is(found(environment.afterCrash()).length, 2_000)
})

test('more than a slab in one turn is whole, and in order', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment, { segmentBytes: 100_000_000 })
  for (let round = 0; round < 3; round++) {
    for (let offset = 0; offset < 10_000; offset++) journal.append('orders', 0, placeAt(round * 10_000 + offset))
    await environment.settled()
  }
  t.deepEqual(
    foundOffsets(environment),
    Array.from({ length: 30_000 }, (_, offset) => offset),
  )
})

test('a power cut takes only what came less than 100 ms before it', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  await write(environment, journal, 1)
  await environment.pass(99)
  t.deepEqual(foundOffsets(environment.afterCrash(true)), [])

  const patient = new FakeEnvironment()
  const second = await openJournal(patient)
  await write(patient, second, 1)
  await patient.pass(50)
  await write(patient, second, 2)
  await patient.pass(50)
  await write(patient, second, 3)
  t.deepEqual(foundOffsets(patient.afterCrash(true)), [1, 2])
})

test('with journalAck=fsync who waits is told when it is synced', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment, { ack: 'fsync' })
  const syncs = new Held()
  environment.fileSystem.step = async operation => (operation === 'sync' ? syncs.hold() : undefined)
  const told = countTold(journal)
  await write(environment, journal, 1)
  t.is(syncs.count, 1)
  t.is(told.times, 0)
  syncs.release()
  await environment.settled()
  t.is(told.times, 1)
  t.deepEqual(foundOffsets(environment.afterCrash(true)), [1])
})

test('what comes while a sync is out shares the next one', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment, { ack: 'fsync' })
  const syncs = new Held()
  let syncsBegun = 0
  environment.fileSystem.step = async operation => {
    if (operation !== 'sync') return
    syncsBegun++
    await syncs.hold()
  }
  const told = countTold(journal)
  for (let offset = 0; offset < 5; offset++) await write(environment, journal, offset)
  t.is(syncsBegun, 1)
  t.is(told.times, 0)
  syncs.release()
  await environment.settled()
  t.is(told.times, 1)
  t.is(syncsBegun, 2)
  syncs.release()
  await environment.settled()
  t.is(told.times, 5)
  t.is(syncsBegun, 2)
  t.deepEqual(foundOffsets(environment.afterCrash(true)), [0, 1, 2, 3, 4])
})

/** A journal with one segment of the start before, whose places 1 and 2 are not done. */
async function withOldSegment() {
  const before = new FakeEnvironment()
  const first = await openJournal(before)
  await write(before, first, 1)
  await write(before, first, 2)
  const environment = before.afterCrash()
  const [old] = segments(environment) as [string]
  const journal = await openJournal(
    environment,
    {},
    {
      sequence: 2,
      nextSegmentId: 3,
      topics: new Map([[7, 'orders']]),
      segments: [{ path: old, bytes: 376, firstSequence: 0, lastSequence: 1, live: 2, era: 1, ...NO_BODIES }],
    },
  )
  return { environment, journal, old }
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
  const cursor = new Held()
  const checkpoint = journal.checkpoint(() => cursor.hold())
  await environment.settled()
  t.true(environment.fileSystem.files.has(old))
  cursor.release()
  await checkpoint
  t.false(environment.fileSystem.files.has(old))
  t.is(journal.counts.files, 0)
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
  const journal = await openJournal(environment)
  journal.done((await write(environment, journal, 1)).sequence)
  await journal.checkpoint(async () => {})
  await write(environment, journal, 2)
  t.is(segments(environment).length, 1)
  t.deepEqual(foundOffsets(environment.afterCrash()), [1, 2])
})

test('what is written is synced before the cursor is written', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  journal.append('orders', 0, placeAt(1))
  let synced = 0
  await journal.checkpoint(async () => {
    synced = environment.fileSystem.files.get(segments(environment)[0]!)!.synced
  })
  t.is(synced, ONE_PLACE_BYTES)
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

test('files whose sequences overlap, as a failure leaves them, are one segment and go together', async t => {
  const environment = new FakeEnvironment()
  const file = (id: number, firstSequence: number, lastSequence: number, live: number) => {
    const path = `${FOLDER}/places-${`${id}`.padStart(12, '0')}-00000001`
    environment.fileSystem.put(path, Buffer.alloc(10))
    return { path, bytes: 10, firstSequence, lastSequence, live, era: 1, ...NO_BODIES }
  }
  // The second has what came after the failure, the third what was in doubt: 5 to 7, of which the first has 5.
  const start = { sequence: 20, nextSegmentId: 4, segments: [file(1, 0, 5, 6), file(2, 8, 9, 2), file(3, 5, 7, 2)] }
  const journal = await openJournal(environment, {}, start)
  const left = async () => {
    await journal.checkpoint(async () => {})
    return segments(environment).map(path => parseSegmentName(basename(path))!.id)
  }
  for (const sequence of [1, 2, 3, 4, 5, 6, 7]) journal.done(sequence)
  t.deepEqual(await left(), [1, 2, 3])
  journal.done(0)
  t.deepEqual(await left(), [2])
  journal.done(8)
  t.deepEqual(await left(), [2])
  journal.done(9)
  t.deepEqual(await left(), [])
})

test('a segment that is full is ended and synced, and the next one names epochs and topics again', async t => {
  const environment = new FakeEnvironment()
  const segmentBytes = 10_000
  const journal = await openJournal(environment, { segmentBytes })
  for (let offset = 0; offset < 200; offset++) await write(environment, journal, offset)
  const [first, second] = segments(environment) as [string, string]
  t.is(segments(environment).length, 2)
  const { bytes, synced } = environment.fileSystem.files.get(first)!
  t.true(bytes.length >= segmentBytes && bytes.length < segmentBytes + 300)
  t.is(synced, bytes.length)
  const names: string[] = []
  readSegment(environment.fileSystem.bytes(second), parseSegmentName(basename(second))!.salt, {
    epoch: (ordinal, id) => names.push(`${ordinal} ${id}`),
    topic: (number, topic) => names.push(`${number} ${topic}`),
    place: () => {},
  })
  t.deepEqual(names, [`1 ${EPOCH_ID}`, `${crc32('orders')} orders`])
  t.is(journal.counts.files, 2)
  t.is(found(environment).length, 200)
})

test('the file for the next segment is there before it is needed, and goes when the journal is closed', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  await write(environment, journal, 1)
  t.is(environment.fileSystem.find(/^places-/).length, 2)
  await journal.close()
  t.is(environment.fileSystem.find(/^places-/).length, 1)
})

test('the sequence and the ids go on where they are told to', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment, {}, { sequence: 500, nextSegmentId: 40 })
  const { sequence } = await write(environment, journal, 1)
  t.is(sequence, 500)
  t.is(parseSegmentName(basename(segments(environment)[0]!))!.id, 40)
})

test('the lowest epoch that has places on disk is known', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment, { segmentBytes: 1 })
  t.is(journal.oldestEra, undefined)
  journal.beginEpoch({ ordinal: 2, id: 'ba9876543210' })
  journal.append('orders', 0, placeAt(5, { epoch: 2 }))
  journal.append('orders', 0, placeAt(6, { epoch: 1 }))
  await environment.settled()
  t.is(journal.oldestEra, 1)
  journal.append('orders', 0, placeAt(7, { epoch: 2 }))
  await environment.settled()
  journal.done(0)
  journal.done(1)
  await journal.checkpoint(async () => {})
  t.is(journal.oldestEra, 2)
})

test('what is closed is synced, and leaves no timer', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  journal.append('orders', 0, placeAt(1))
  await journal.close()
  t.is(environment.clock.timers, 0)
  t.deepEqual(foundOffsets(environment.afterCrash(true)), [1])
})

test('what gathers while an append is out goes with the next', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  const told = countTold(journal)
  await write(environment, journal, 0)
  const writes = new Held()
  environment.fileSystem.step = async operation => (operation === 'append' ? writes.hold() : undefined)
  const operations: string[] = []
  environment.fileSystem.fault = operation => void operations.push(operation)
  for (let offset = 1; offset <= 4; offset++) await write(environment, journal, offset)
  t.is(told.times, 1)
  t.is(writes.count, 1)
  writes.release()
  await environment.settled()
  t.is(told.times, 2)
  t.deepEqual(foundOffsets(environment), [0, 1])
  writes.release()
  await environment.settled()
  t.is(told.times, 3)
  t.deepEqual(foundOffsets(environment), [0, 1, 2, 3, 4])
  t.deepEqual(operations, ['append', 'append'])
})

test('with journalAck=fsync what is written is synced before who waits is told', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment, { ack: 'fsync' })
  await write(environment, journal, 0)
  let kept: number[] = []
  journal.onFlush = () => () => {
    kept = foundOffsets(environment.afterCrash(true))
  }
  const writes = new Held()
  environment.fileSystem.step = async operation => (operation === 'append' ? writes.hold() : undefined)
  await write(environment, journal, 1)
  // A checkpoint syncs meanwhile.
  const checkpoint = journal.checkpoint(async () => {})
  await environment.settled()
  writes.release()
  await checkpoint
  t.deepEqual(kept, [0, 1])
})

test('closing and checkpoints wait for what gathered while an append was out', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  await write(environment, journal, 0)
  const writes = new Held()
  environment.fileSystem.step = async operation => (operation === 'append' ? writes.hold() : undefined)
  await write(environment, journal, 1)
  await write(environment, journal, 2)
  let synced = false
  const syncing = journal.sync().then(() => {
    synced = true
  })
  await environment.settled()
  t.false(synced)
  for (let round = 0; round < 2; round++) {
    writes.release()
    await environment.settled()
  }
  t.true(synced)
  await syncing
  t.deepEqual(foundOffsets(environment.afterCrash(true)), [0, 1, 2])
})
