// The journal on a disk that refuses, tears, lies and hangs: who waits is told all the same, and what is in doubt is written
// anew to a fresh file.

import test from 'ava'
import type { DiskOperation, FakeDisk } from '../support/fake-environment.ts'
import { FakeEnvironment } from '../support/fake-environment.ts'
import { countTold, found, foundOffsets, Held, openJournal, placesIn, segments, write } from './journal-lab.ts'
import { placeAt } from './sample.ts'

/** What is done to each file, from now on. */
function watch({ fileSystem }: { fileSystem: FakeDisk }, fault: FakeDisk['fault'] = () => undefined) {
  const operations: [DiskOperation, string][] = []
  fileSystem.fault = (operation, path) => {
    operations.push([operation, path])
    return fault(operation, path)
  }
  return operations
}

for (const torn of [0, 30, 72, 100]) {
  test(`where an append fails after ${torn} bytes who waits is told all the same, and a second later it is on a fresh file`, async t => {
    const environment = new FakeEnvironment()
    const { fileSystem } = environment
    const journal = await openJournal(environment)
    await write(environment, journal, 1)
    const [old] = segments(environment)
    const told = countTold(journal)
    fileSystem.tornBytes = torn
    fileSystem.fault = (one, path) => (one === 'append' && path === old ? new Error('no space') : undefined)
    journal.append('orders', 0, placeAt(2))
    journal.append('orders', 0, placeAt(3))
    await environment.settled()
    t.is(told.times, 1)
    t.true(journal.failed)
    t.is(journal.errors, 1)
    t.is(environment.log.said('journal failure').length, 1)

    const operations = watch(environment)
    await write(environment, journal, 4)
    t.is(told.times, 2)
    await environment.pass(1_000)
    t.false(journal.failed)
    t.is(environment.log.said('the journal writes again').length, 1)
    await write(environment, journal, 5)
    t.deepEqual(
      operations.filter(([, path]) => path === old),
      [],
    )
    t.deepEqual(foundOffsets(environment.afterCrash(true)), [1, 2, 3, 4])
    t.deepEqual(foundOffsets(environment.afterCrash()), [1, 2, 3, 4, 5])
  })
}

test('where the first append to a file fails its places are written anew, with one head', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  environment.fileSystem.tornBytes = 70
  environment.fileSystem.fault = one => (one === 'append' ? new Error('no space') : undefined)
  const told = countTold(journal)
  await write(environment, journal, 1)
  t.is(told.times, 1)
  environment.fileSystem.fault = () => undefined
  await environment.pass(1_000)
  t.false(journal.failed)
  // Throws where anything in it is no record.
  t.deepEqual(foundOffsets(environment.afterCrash(true)), [1])
})

test('a file that cannot be made is made a second later, and what came meanwhile is in it', async t => {
  const environment = new FakeEnvironment()
  environment.fileSystem.fault = one => (one === 'create' ? new Error('no space') : undefined)
  const journal = await openJournal(environment)
  const told = countTold(journal)
  await write(environment, journal, 1)
  await write(environment, journal, 2)
  t.is(told.times, 2)
  t.true(journal.failed)
  environment.fileSystem.fault = () => undefined
  await environment.pass(1_000)
  t.false(journal.failed)
  await write(environment, journal, 3)
  t.deepEqual(foundOffsets(environment.afterCrash()), [1, 2, 3])
})

for (const broken of ['create', 'append'] as const)
  test(`a disk on which ${broken} fails for long is tried once a second, said once, and gathers no files`, async t => {
    const environment = new FakeEnvironment()
    const journal = await openJournal(environment)
    // Both that are there fail.
    let tries = 0
    environment.fileSystem.fault = one => {
      if (one !== broken) return undefined
      tries++
      return new Error('no space')
    }
    if (broken === 'create') {
      // The file that is there, and the one that is ready.
      for (const path of environment.fileSystem.find(/^places-/)) environment.fileSystem.files.delete(path)
      environment.fileSystem.tornBytes = 0
      const faulty = environment.fileSystem.fault
      environment.fileSystem.fault = (one, path) => (one === 'append' ? new Error('no space') : faulty(one, path))
    }
    for (let round = 0; round < 100; round++) {
      await write(environment, journal, round)
      await environment.pass(100)
    }
    t.true(tries >= 9 && tries <= 12, `${tries} tries`)
    t.is(environment.log.said('journal failure').length, 1)
    t.true(environment.fileSystem.find(/^places-/).length <= 2, environment.fileSystem.find(/^places-/).join())
    environment.fileSystem.fault = () => undefined
    await environment.pass(1_000)
    t.false(journal.failed)
    t.is(found(environment.afterCrash(true)).length, 100)
  })

test('where a sync fails, all that it was about is written anew, and nothing is tried twice on one file', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  await write(environment, journal, 1)
  await environment.pass(100)
  const [old] = segments(environment) as [string]
  let failed = false
  const operations = watch(environment, (one, path) => {
    if (one !== 'sync' || path !== old || failed) return undefined
    failed = true
    return new Error('bad disk')
  })
  await write(environment, journal, 2)
  await write(environment, journal, 3)
  await environment.pass(100)
  t.true(failed)
  t.true(journal.failed)
  t.is(journal.errors, 1)
  t.is(environment.log.said('journal failure')[0]?.fields.operation, 'sync')
  // What a kernel does after a failed fsync: it keeps in its cache what the disk never gets.
  const lying = environment.fileSystem.files.get(old)!
  operations.length = 0
  await write(environment, journal, 4)
  await environment.pass(1_100)
  t.false(journal.failed)
  t.deepEqual(
    operations.filter(([, path]) => path === old),
    [],
  )
  const [, ...fresh] = segments(environment)
  lying.bytes = lying.bytes.subarray(0, lying.synced)
  t.deepEqual(foundOffsets(environment.afterCrash(true)), [1, 2, 3, 4])
  t.is(fresh.length, 2)
})

test('where a sync fails, places that came while it was out are written anew, too', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  await write(environment, journal, 1)
  let came = false
  environment.fileSystem.fault = operation => {
    if (operation !== 'sync' || came) return undefined
    came = true
    journal.append('orders', 0, placeAt(2))
    return new Error('bad disk')
  }
  await environment.pass(1_200)
  t.true(came)
  await write(environment, journal, 3)
  t.deepEqual(foundOffsets(environment.afterCrash()), [1, 2, 3])
})

test('with journalAck=fsync a sync that fails lets who waits go on, and is counted', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment, { ack: 'fsync' })
  environment.fileSystem.fault = one => (one === 'sync' ? new Error('bad disk') : undefined)
  const told = countTold(journal)
  await write(environment, journal, 1)
  t.is(told.times, 1)
  t.is(journal.errors, 1)
  environment.fileSystem.fault = () => undefined
  await environment.pass(1_000)
  t.deepEqual(foundOffsets(environment.afterCrash(true)), [1])
})

test('with journalAck=fsync a sync that hangs lets who waits go on after the stall timeout; its late return says nothing', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment, { ack: 'fsync', stallTimeout: 500 })
  const hung = new Held()
  const told = countTold(journal)
  await write(environment, journal, 0)
  const [old] = segments(environment) as [string]
  environment.fileSystem.step = async (operation, path) =>
    operation === 'sync' && path === old ? hung.hold() : undefined
  await write(environment, journal, 1)
  await environment.pass(499)
  t.is(told.times, 1)
  t.false(journal.failed)
  await environment.pass(1)
  t.is(told.times, 2)
  t.true(journal.failed)
  t.regex(String((environment.log.said('journal failure')[0]!.fields.err as Error).message), /not done within 500 ms/)
  hung.release()
  await environment.settled()
  t.true(journal.failed)
  await environment.pass(1_000)
  t.false(journal.failed)
  const [, ...fresh] = segments(environment)
  t.deepEqual(
    fresh.flatMap(path => placesIn(path, environment.fileSystem.bytes(path))).map(({ place }) => place.queueOffset),
    [1],
  )
})

test('a sync that nobody waits for may take longer, and appends go on off the loop', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment, { stallTimeout: 500 })
  const told = countTold(journal)
  await write(environment, journal, 0)
  const hung = new Held()
  environment.fileSystem.step = async operation => (operation === 'sync' ? hung.hold() : undefined)
  await environment.pass(4_000)
  t.is(hung.count, 1)
  await write(environment, journal, 1)
  t.is(told.times, 2)
  t.false(journal.failed)
  await environment.pass(1_100)
  t.true(journal.failed)
})

test('an append that hangs lets who waits go on after the stall timeout, and all that gathered with it', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment, { stallTimeout: 500 })
  await write(environment, journal, 0)
  const [old] = segments(environment) as [string]
  const hung = new Held()
  environment.fileSystem.step = async (operation, path) =>
    operation === 'append' && path === old ? hung.hold() : undefined
  const told = countTold(journal)
  for (const offset of [1, 2, 3]) await write(environment, journal, offset)
  t.is(told.times, 0)
  await environment.pass(500)
  t.is(told.times, 2)
  t.true(journal.failed)
  await environment.pass(1_000)
  t.false(journal.failed)
  t.deepEqual(foundOffsets(environment.afterCrash()), [0, 1, 2, 3])
  // What hung comes to the disk after all: a place that is read twice is one message.
  hung.release()
  await environment.settled()
  t.deepEqual(foundOffsets(environment.afterCrash()), [0, 1, 2, 3])
  await write(environment, journal, 4)
  t.deepEqual(foundOffsets(environment.afterCrash()), [0, 1, 2, 3, 4])
})

test('what is in doubt and done before it was written anew leaves no file behind', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  const [first, second] = [await write(environment, journal, 1), placeAt(2)]
  const [old] = segments(environment) as [string]
  environment.fileSystem.fault = (one, path) => (one === 'append' && path === old ? new Error('no space') : undefined)
  journal.append('orders', 0, second)
  await environment.settled()
  environment.fileSystem.fault = () => undefined
  await write(environment, journal, 3)
  journal.done(first.sequence)
  journal.done(second.sequence)
  // While it is being written anew its segment goes.
  const writing = new Held()
  environment.fileSystem.step = async one => (one === 'append' ? writing.hold() : undefined)
  await environment.pass(1_000)
  t.is(writing.count, 1)
  await journal.checkpoint(async () => {})
  writing.release()
  await environment.settled()
  t.deepEqual(foundOffsets(environment), [3])
  t.is(segments(environment).length, 1)
})

test('what is in doubt beyond 32 MiB is kept in memory only, the newest stays', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  environment.fileSystem.fault = one => (one === 'create' || one === 'append' ? new Error('no space') : undefined)
  await write(environment, journal, 0)
  const rounds = 12
  const perRound = 50_000
  for (let round = 0; round < rounds; round++) {
    for (let index = 0; index < perRound; index++) journal.append('orders', 0, placeAt(round * perRound + index))
    await environment.settled()
  }
  environment.fileSystem.fault = () => undefined
  await environment.pass(1_000)
  t.false(journal.failed)
  const offsets = foundOffsets(environment)
  t.is(offsets.at(-1), rounds * perRound - 1)
  t.true(offsets.length > 7 * perRound && offsets.length < 10 * perRound, `${offsets.length}`)
})

test('closing while the disk fails ends, and leaves no timer', async t => {
  const environment = new FakeEnvironment()
  const journal = await openJournal(environment)
  environment.fileSystem.fault = one => (one === 'read' ? undefined : new Error('bad disk'))
  await write(environment, journal, 1)
  await journal.close()
  t.is(environment.clock.timers, 0)
})
