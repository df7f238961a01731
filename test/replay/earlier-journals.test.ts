// Data directories that versions of the gateway have left, committed under test/fixtures: this one opens them, and finds in each
// exactly what was in it.

import { readdirSync } from 'node:fs'
import { basename } from 'node:path'
import test from 'ava'
import { decodeStamp, findProperty, type StoredMessage } from '../../codec/index.ts'
import { parseBlockFileName, type ScannedBlock, scanBlockFile } from '../../replay/block-file.ts'
import {
  decodeSlot,
  type LinkState,
  type QueueMark,
  type QueueState,
  type RemoteQueue,
  type Slot,
} from '../../replay/cursor.ts'
import type { EncodedFormerQueue } from '../../replay/former-queues.ts'
import type { EncodedKnownEnds } from '../../replay/known-ends.ts'
import { PlaceFlag } from '../../replay/place.ts'
import type { FakeDisk } from '../support/fake-disk.ts'
import { type Fixture, fixtureFolder, type JournalThen, readFixture, writeFixture } from '../support/journal-fixture.ts'
import { Scene, TOPIC } from './scene.ts'

const versions = readdirSync(fixtureFolder('.')).filter(name => name.startsWith('journal-'))

/** As after the machine was started again, a minute later; `takes`: what the remotes do with what is sent. */
async function open({ disk, source, remotes, was }: Fixture, takes: boolean, labels = labelsOf(was)): Promise<Scene> {
  for (const remote of remotes.values())
    for (const broker of remote.brokers) if (!takes) broker.onSend = send => send.request.answer({ code: 2 })
  return Scene.open({
    disk,
    source,
    clusters: remotes,
    remotes: labels,
    ...(was.at === undefined ? {} : { now: was.at + 60_000 }),
    ...(was.sourceIsClosed ? { isUnknown: true, journalBodies: 'always' } : {}),
    ...(was.remoteBrokers === undefined ? {} : { remoteBrokers: was.remoteBrokers, remoteBrokerAway: 'reroute' }),
  })
}

function labelsOf({ remotes }: JournalThen): string[] {
  return Object.keys(remotes)
}

function keptIn(disk: FakeDisk): string[] {
  return disk.find(/^kept-/).map(path => basename(path))
}

test('there are some, and none is recorded anew', t => {
  t.true(versions.length > 0)
  for (const version of versions) {
    const { disk, was } = readFixture(fixtureFolder(version))
    t.throws(() => writeFixture(fixtureFolder(version), disk, TOPIC, [], new Map(), was), { code: 'EEXIST' })
  }
})

for (const version of versions) {
  test(`${version}: what waited waits, and every sum is what it was`, async t => {
    const fixture = readFixture(fixtureFolder(version))
    const kept = keptIn(fixture.disk)
    const scene = await open(fixture, false)
    const { was } = fixture
    t.is(scene.broker.journal.sequence, was.sequence)
    for (const [ordinal, id] of was.epochs) t.is(scene.broker.journal.epochIds.get(ordinal), id)
    t.true(scene.broker.epoch > Math.max(...was.epochs.map(([ordinal]) => ordinal)))
    const compare = (when: string) => {
      for (const [label, { totals, queued, inGap, arrived, atLast }] of Object.entries(was.remotes)) {
        const { account } = scene.feedOf(label)
        // Without its cursor it had to be found what is there.
        const waiting = atLast.flat().length - arrived.flat().length
        t.is(account.queued + account.inGap, waiting, `${label} ${when}`)
        const replicated = totals.replicated + queued + inGap - waiting
        const { sent: _sent, sentAgain: _again, ...then } = totals
        t.like(account.totals, { ...then, replicated }, `${label} ${when}`)
        t.deepEqual(scene.remoteOf(label).texts(TOPIC), arrived, `${label} ${when}`)
      }
      t.deepEqual(keptIn(scene.environment.fileSystem), kept)
    }
    compare('at the start')
    // So it is when all is found out that the remotes tell, also of links that nobody knows any more.
    await scene.environment.pass(200_000)
    compare('later')
    await scene.close()
  })

  test(`${version}: all of it arrives, each message once, in its order and as it was`, async t => {
    const fixture = readFixture(fixtureFolder(version))
    const kept = keptIn(fixture.disk)
    const scene = await open(fixture, true)
    await scene.allDone()
    for (const [label, { atLast, queued, inGap, totals }] of Object.entries(fixture.was.remotes)) {
      const { account } = scene.feedOf(label)
      t.is(account.totals.replicated, totals.replicated + queued + inGap)
      t.deepEqual(account.totals.lost, {})
      t.is(account.totals.deadLettered, totals.deadLettered)
      const remote = scene.remoteOf(label)
      t.deepEqual(remote.texts(TOPIC), atLast, label)
      for (const { properties, body, flag, sysFlag, bornTimestamp, queueId } of remote.messages(TOPIC)) {
        const text = findProperty(properties, 'TEE_ORIGIN')
        const stamp = text === undefined ? undefined : decodeStamp(text)
        const there = scene.source.broker.queue(TOPIC, stamp?.queueId ?? queueId).messages
        const isThat = (one: StoredMessage) =>
          stamp === undefined ? one.body.equals(body) : one.queueOffset === stamp.queueOffset
        const at = there.find(isThat)!
        t.deepEqual(
          { body, flag, sysFlag, bornTimestamp },
          { body: at.body, flag: at.flag, sysFlag: at.sysFlag, bornTimestamp: at.bornTimestamp },
        )
        t.true(properties.subarray(0, at.properties.length).equals(at.properties))
      }
    }
    await scene.close()
    const { fileSystem } = scene.environment
    t.is(fileSystem.find(/^bodies-/).length, 0)
    t.deepEqual(
      kept.filter(name => !keptIn(fileSystem).includes(name)),
      [],
    )
  })
}

test('journal-v2 has blocks, compressed and not, places behind them, skips for all and for one, and marks with exceptions', async t => {
  const { disk, source, remotes } = readFixture(fixtureFolder('journal-v2'))
  const blocks: ScannedBlock[] = []
  const scene = await Scene.open({
    disk: disk.afterCrash(false),
    source,
    clusters: remotes,
    remotes: [...remotes.keys()],
  })
  for (const path of disk.find(/^bodies-/))
    await scanBlockFile(disk, path, parseBlockFileName(basename(path))!.salt, block => void blocks.push(block))
  t.true(blocks.some(({ header }) => header.plainBytes > 0))
  t.true(blocks.some(({ header }) => header.plainBytes === 0 && header.withBody > 0))
  t.true(blocks.some(({ header }) => header.skips))
  t.true(blocks.some(({ header }) => header.late))
  const slots = disk.find(/^cursor-/).map(path => disk.bytes(path).toString())
  t.is(slots.length, 4)
  t.true(slots.some(slot => /"done":\[\[\d/.test(slot)))
  t.true(slots.some(slot => /"late":\[\d/.test(slot)))
  await scene.close()
})

test('journal-v2-left has what is kept of what is done, and a remote that has lost it gets it from there', async t => {
  const whole = readFixture(fixtureFolder('journal-v2-left'))
  t.is(keptIn(whole.disk).length, 3)
  const without = readFixture(fixtureFolder('journal-v2-left'))
  for (const path of without.disk.find(/^kept-/)) without.disk.files.delete(path)
  const scene = await open(without, true)
  await scene.allDone()
  // What stood in the queue that its lane has left.
  t.deepEqual(scene.feedOf('oslo').account.totals.lost, { remote: 2 })
  await scene.close()
})

test('journal-v2-left knows what stands in queues that were left: what one of them loses goes where its lane is now', async t => {
  const fixture = readFixture(fixtureFolder('journal-v2-left'))
  const { atLast } = fixture.was.remotes.oslo!
  fixture.remotes.get('oslo')!.broker.loseTailOf(TOPIC, 1, 2)
  const scene = await open(fixture, true)
  const oslo = scene.remoteOf('oslo')
  await scene.until('all is there', () => oslo.texts(TOPIC).flat().length === atLast.flat().length)
  await scene.allDone()
  const [, before, , now] = atLast as [string[], string[], string[], string[]]
  t.deepEqual(oslo.texts(TOPIC)[1], before.slice(0, -2))
  t.deepEqual(oslo.texts(TOPIC)[3]!.toSorted(), [...now, ...before.slice(-2)].sort())
  t.deepEqual(scene.feedOf('oslo').account.totals.lost, {})
  await scene.close()
})

test('journal-v2-left was left by a process whose machine ended, and journal-v2 by one that wrote no mark', async t => {
  for (const version of ['journal-v2', 'journal-v2-left']) {
    const scene = await open(readFixture(fixtureFolder(version)), false)
    const said = scene.environment.log.said('what was acked last may be missing from the journal')
    t.is(said.length, version === 'journal-v2' ? 0 : 1)
    if (said.length > 0) {
      t.is(said[0]!.fields.reason, 'the process before this one ended without a word, and its machine since')
      t.deepEqual(said[0]!.fields.from, [
        { topic: TOPIC, queueId: 0, offset: 15 },
        { topic: TOPIC, queueId: 1, offset: 19 },
      ])
    }
    await scene.close()
  }
})

test('journal-v2-left has a dead letter, which stays as it was', async t => {
  const fixture = readFixture(fixtureFolder('journal-v2-left'))
  const letters = (disk: FakeDisk) => disk.find(/^dead-letters-/).map(path => disk.bytes(path).toString())
  const before = letters(fixture.disk)
  t.is(before.length, 1)
  const { reason, payload } = JSON.parse(before[0]!)
  t.is(Buffer.from(payload, 'base64').toString(), 'illegal')
  t.regex(reason, /no such thing/)
  const scene = await open(fixture, true)
  await scene.allDone()
  await scene.close()
  t.deepEqual(letters(scene.environment.fileSystem), before)
})

test('journal-v2-left has a remote that was left out: what was done meanwhile is not for it, what waits is', async t => {
  const fixture = readFixture(fixtureFolder('journal-v2-left'))
  const scene = await open(fixture, true, [...labelsOf(fixture.was), 'kiel'])
  scene.send(['for kiel, too'])
  await scene.allDone()
  const { totals } = scene.feedOf('kiel').account
  const arrived = scene.remoteOf('kiel').texts(TOPIC)
  const minutes = (from: number) => Array.from({ length: 7 - from }, (_, at) => `minute ${2 * at + from}`)
  t.deepEqual(arrived.slice(0, 2), [
    [...minutes(0), 'second broker 0', 'at lima later 0', 'in a block 0', 'in the journal 0', 'for kiel, too'],
    [
      ...minutes(1),
      ...['second broker 1', 'at lima later 1', 'found 0', 'found 1', 'found 2', 'found 3'],
      ...['in a block 1', 'in a block 2', 'behind the cursor 1'],
    ],
  ])
  t.is(totals.replicated, 27)
  t.deepEqual([totals.lost, totals.skipped], [{}, { before: 7, delayed: 1 }])
  await scene.close()
})

/** What a slot has, by its types. */
interface Encoded {
  slot: Slot
  queue: QueueState
  mark: QueueMark
  remote: RemoteQueue
  ends: EncodedKnownEnds
  former: EncodedFormerQueue
  link: LinkState
}

/** All fields of these: one that is added is missing here, and then in every fixture. Record another, by a recording that brings it. */
const FIELDS: { [Kind in keyof Encoded]: Record<keyof Encoded[Kind], true> } = {
  slot: {
    generation: true,
    sequence: true,
    from: true,
    nextSegmentId: true,
    nextEpoch: true,
    remoteCluster: true,
    waiting: true,
    topics: true,
    epochIds: true,
    queues: true,
    links: true,
    unknownLinksUntil: true,
    totals: true,
  },
  queue: { topic: true, queueId: true, marks: true, remote: true, ends: true, formers: true, sentSince: true },
  mark: { epoch: true, mark: true, late: true, done: true },
  remote: { broker: true, queueId: true, end: true },
  ends: { ends: true, earlier: true, again: true, readFrom: true, highest: true, ahead: true },
  former: { remote: true, ends: true, leftAt: true },
  link: { broker: true, groups: true, lastAnswerAt: true },
}

/** All that the slots of a fixture have. */
function encodedIn({ disk }: Fixture): { [Kind in keyof Encoded]: Encoded[Kind][] } {
  const slots = disk.find(/^cursor-/).map(path => decodeSlot(disk.bytes(path), path)!)
  const queues = slots.flatMap(slot => slot.queues)
  const formers = queues.flatMap(queue => queue.formers ?? [])
  return {
    slot: slots,
    queue: queues,
    mark: queues.flatMap(({ marks }) => marks),
    remote: [...queues, ...formers].flatMap(({ remote }) => remote ?? []),
    ends: [...queues, ...formers].flatMap(({ ends }) => ends ?? []),
    former: formers,
    link: slots.flatMap(({ links }) => links),
  }
}

/** Whether a value is another than that of a field that has nothing to say. */
function saysSomething(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : Boolean(value)
}

test('each field of a slot says something in some fixture', t => {
  const all = versions.map(version => encodedIn(readFixture(fixtureFolder(version))))
  for (const [kind, fields] of Object.entries(FIELDS))
    for (const field of Object.keys(fields)) {
      const values = all.flatMap(encoded => encoded[kind as keyof Encoded].map(one => Object(one)[field]))
      t.true(
        values.some(saysSomething),
        `no fixture has '${field}' of a ${kind}: record one (test/support/recordings.ts)`,
      )
    }
})

test('each flag of a place that is written occurs in a fold of some fixture', t => {
  const flags = versions
    .flatMap(version => encodedIn(readFixture(fixtureFolder(version))).ends)
    .flatMap(({ ends, again }) => [...ends.flatMap(([, , , , , done]) => done), ...again])
    .reduce((seen, [, placeFlags]) => seen | placeFlags, 0)
  for (const [name, flag] of Object.entries(PlaceFlag)) if (name !== 'AGAIN') t.not(flags & flag, 0, name)
})
