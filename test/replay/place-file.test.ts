// One file of places while it is written: who is told when, what is in doubt when it fails, and that it is the last of it.

import test from 'ava'
import { PlaceFile } from '../../replay/place-file.ts'
import { FakeEnvironment } from '../support/fake-environment.ts'
import { Held } from './journal-lab.ts'

const PATH = '/data/places'

async function lab() {
  const environment = new FakeEnvironment()
  const { fileSystem } = environment
  const failures: { operation: string; message: string; inDoubt: string[] }[] = []
  const told: string[] = []
  let appends = 0
  let syncs = 0
  const file = new PlaceFile(
    environment,
    PATH,
    await fileSystem.create(PATH),
    { write: 500, sync: 2_000 },
    {
      appended: () => {
        appends++
      },
      synced: () => {
        syncs++
      },
      failed: (_, operation, { message }, inDoubt) =>
        failures.push({ operation, message, inDoubt: inDoubt.map(String) }),
    },
  )
  return {
    environment,
    fileSystem,
    file,
    failures,
    told,
    counts: () => [appends, syncs],
    content: () => fileSystem.bytes(PATH).toString(),
    synced: () => fileSystem.bytes(PATH).toString().slice(0, fileSystem.files.get(PATH)!.synced),
    write: (text: string, head?: string) => {
      file.append(Buffer.from(text), head === undefined ? undefined : Buffer.from(head), () => told.push(text))
      return file.idle
    },
  }
}

test('an append is on the disk when who waits is told', async t => {
  const { file, told, write, content, counts } = await lab()
  await write('one ', 'head ')
  await write('two ')
  t.is(content(), 'head one two ')
  t.deepEqual(told, ['one ', 'two '])
  t.is(file.bytes, 13)
  t.false(file.isBusy)
  t.deepEqual(counts(), [2, 0])
})

test('an append keeps it busy until it has returned', async t => {
  const { environment, fileSystem, file, told, write, content } = await lab()
  const writes = new Held()
  fileSystem.step = async operation => (operation === 'append' ? writes.hold() : undefined)
  write('one ', 'head ')
  await environment.settled()
  t.true(file.isBusy)
  t.deepEqual(told, [])
  let idle = false
  const waiting = file.idle.then(() => {
    idle = true
  })
  writes.release()
  await waiting
  t.true(idle)
  t.false(file.isBusy)
  t.deepEqual(told, ['one '])
  t.is(content(), 'head one ')
})

test('a sync is of what is written when it begins; what comes meanwhile waits for the next', async t => {
  const { environment, fileSystem, file, write, synced, counts } = await lab()
  const syncs = new Held()
  fileSystem.step = async operation => (operation === 'sync' ? syncs.hold() : undefined)
  await write('one ')
  const first = file.sync()
  await write('two ')
  const second = file.sync()
  const third = file.sync()
  await environment.settled()
  t.is(syncs.count, 1)
  syncs.release()
  await first
  t.is(synced(), 'one ')
  await environment.settled()
  t.is(syncs.count, 1)
  syncs.release()
  await Promise.all([second, third])
  t.is(synced(), 'one two ')
  t.deepEqual(counts(), [2, 2])
  await file.sync()
  t.deepEqual(counts(), [2, 2], 'with nothing to sync none is made')
})

test('a sync that is made while an append is out does not take it for synced', async t => {
  const { environment, fileSystem, file, write, synced } = await lab()
  const writes = new Held()
  await write('one ')
  fileSystem.step = async operation => (operation === 'append' ? writes.hold() : undefined)
  write('two ')
  await file.sync()
  t.is(synced(), 'one ')
  writes.release()
  await environment.settled()
  await file.sync()
  t.is(synced(), 'one two ')
})

test('an append that fails is the last: who waits is told, and what is not synced is in doubt, without a head', async t => {
  const { environment, fileSystem, file, failures, told, write } = await lab()
  await write('one ', 'head ')
  await file.sync()
  await write('two ')
  fileSystem.fault = operation => (operation === 'append' ? new Error('no space') : undefined)
  await write('three ')
  await environment.settled()
  t.deepEqual(told, ['one ', 'two ', 'three '])
  t.deepEqual(failures, [{ operation: 'append', message: 'no space', inDoubt: ['two ', 'three '] }])
  t.is(fileSystem.open, 0)
  await file.sync()
  await file.end()
  t.is(failures.length, 1)
})

test('a sync that fails is the last: all that it was about, and what came since, is in doubt', async t => {
  const { environment, fileSystem, file, failures, write } = await lab()
  await write('one ')
  await file.sync()
  await write('two ')
  const syncs = new Held()
  fileSystem.step = async operation => (operation === 'sync' ? syncs.hold() : undefined)
  fileSystem.fault = operation => (operation === 'sync' ? new Error('bad disk') : undefined)
  const syncing = file.sync()
  await write('three ')
  const next = file.sync()
  await write('four ')
  await environment.settled()
  await write('five ')
  syncs.release()
  await Promise.all([syncing, next])
  t.deepEqual(failures, [{ operation: 'sync', message: 'bad disk', inDoubt: ['two ', 'three ', 'four ', 'five '] }])
  t.is(syncs.count, 0, 'it is not tried again')
})

test('an append that hangs fails after its time, and its late return changes nothing', async t => {
  const { environment, fileSystem, file, failures, told, write, counts } = await lab()
  const writes = new Held()
  fileSystem.step = async operation => (operation === 'append' ? writes.hold() : undefined)
  write('one ')
  await environment.pass(499)
  t.deepEqual([failures.length, told.length], [0, 0])
  await environment.pass(1)
  t.deepEqual(failures, [{ operation: 'append', message: 'not done within 500 ms', inDoubt: ['one '] }])
  t.deepEqual(told, ['one '])
  t.false(file.isBusy)
  writes.release()
  await environment.settled()
  t.deepEqual([failures.length, told.length], [1, 1])
  t.deepEqual(counts(), [0, 0])
})

test('a sync that hangs fails after its time', async t => {
  const { environment, fileSystem, file, failures, write } = await lab()
  const syncs = new Held()
  fileSystem.step = async operation => (operation === 'sync' ? syncs.hold() : undefined)
  await write('one ')
  let ended = false
  const syncing = file.sync().then(() => {
    ended = true
  })
  await environment.pass(1_999)
  t.false(ended)
  await environment.pass(1)
  await syncing
  t.deepEqual(failures, [{ operation: 'sync', message: 'not done within 2000 ms', inDoubt: ['one '] }])
  syncs.release()
  await environment.settled()
  t.is(failures.length, 1)
})

test('one that is ended is synced and closed, and leaves no timer', async t => {
  const { environment, fileSystem, file, failures, write, synced } = await lab()
  await write('one ')
  await file.end()
  t.is(synced(), 'one ')
  t.is(fileSystem.open, 0)
  t.is(environment.clock.timers, 0)
  t.deepEqual(failures, [])
})
