// Data directories that versions of the gateway have left, committed under test/fixtures: this one opens them, and finds in each
// exactly what was in it.

import { readdirSync } from 'node:fs'
import { basename } from 'node:path'
import test from 'ava'
import { decodeStamp, findProperty } from '../../codec/index.ts'
import { parseBlockFileName, type ScannedBlock, scanBlockFile } from '../../replay/block-file.ts'
import { type Fixture, fixtureFolder, readFixture } from '../support/journal-fixture.ts'
import { Scene, TOPIC } from './scene.ts'

const versions = readdirSync(fixtureFolder('.')).filter(name => name.startsWith('journal-'))

async function open({ disk, source, remotes }: Fixture, hold: boolean): Promise<Scene> {
  for (const remote of remotes.values()) if (hold) remote.broker.onSend = send => send.request.answer({ code: 2 })
  return Scene.open({ disk, source, clusters: remotes, remotes: [...remotes.keys()] })
}

test('there are some', t => {
  t.true(versions.length > 0)
})

for (const version of versions) {
  test(`${version}: what waited waits, and every sum is what it was`, async t => {
    const fixture = readFixture(fixtureFolder(version))
    const scene = await open(fixture, true)
    const { was } = fixture
    t.is(scene.broker.journal.sequence, was.sequence)
    for (const [ordinal, id] of was.epochs) t.is(scene.broker.journal.epochIds.get(ordinal), id)
    t.true(scene.broker.epoch > Math.max(...was.epochs.map(([ordinal]) => ordinal)))
    for (const [label, { totals, queued, inGap }] of Object.entries(was.remotes)) {
      const { account } = scene.feedOf(label)
      t.is(account.queued + account.inGap, queued + inGap, label)
      const { sent: _sent, sentAgain: _again, ...then } = totals
      t.like(account.totals, then, label)
    }
    await scene.close()
  })

  test(`${version}: all of it arrives, each message once, in its order and as it was`, async t => {
    const fixture = readFixture(fixtureFolder(version))
    const scene = await open(fixture, false)
    await scene.allDone()
    for (const [label, { atLast, queued, inGap, totals }] of Object.entries(fixture.was.remotes)) {
      const { account } = scene.feedOf(label)
      t.is(account.totals.replicated, totals.replicated + queued + inGap)
      t.deepEqual(account.totals.lost, {})
      for (const [queueId, texts] of atLast.entries()) {
        const { messages } = scene.remoteOf(label).broker.queue(TOPIC, queueId)
        t.deepEqual(
          messages.map(({ body }) => body.toString()),
          texts,
        )
        for (const { properties, body, flag, sysFlag, bornTimestamp } of messages) {
          const stamp = decodeStamp(findProperty(properties, 'TEE_ORIGIN')!)!
          const at = scene.source.broker
            .queue(TOPIC, stamp.queueId)
            .messages.find(one => one.queueOffset === stamp.queueOffset)!
          t.deepEqual(
            { body, flag, sysFlag, bornTimestamp },
            { body: at.body, flag: at.flag, sysFlag: at.sysFlag, bornTimestamp: at.bornTimestamp },
          )
          t.true(properties.subarray(0, at.properties.length).equals(at.properties))
        }
      }
    }
    await scene.close()
    t.is(scene.environment.fileSystem.find(/^bodies-/).length, 0)
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
