// Whether kept bodies are needed: for as long as they are, they make room for nothing.

import test from 'ava'
import { RequestCode, ResponseCode } from '../../codec/index.ts'
import { KeptNeed } from '../../replay/kept-need.ts'
import { FakeEnvironment } from '../support/fake-environment.ts'
import { Scene, TOPIC, texts } from './scene.ts'

for (const damaged of [true, false])
  test(`when a lost tail is sent again${damaged ? ', or lost with a kept body that was damaged' : ''}, kept bodies make room again, and no send is refused`, async t => {
    const scene = await Scene.open({
      sourceQueues: 1,
      remoteQueues: 1,
      journalBodies: 'always',
      isUnknown: true,
      maxBytes: 4_000_000,
      onJournalFull: 'reject',
      bodyMemory: 3_000_000,
    })
    const { remote, environment, source, broker } = scene
    const { fileSystem, network } = environment
    source.broker.intercept = request => {
      if (request.head.code !== RequestCode.PULL_MESSAGE) return false
      request.answer({ code: ResponseCode.NO_PERMISSION, remark: 'not now' })
      return true
    }
    broker.readable.mayReadBack(TOPIC, 0, 0)
    await environment.settled()
    let sent = 0
    const sendAll = async (count: number) => {
      for (const end = sent + count; sent < end; sent += 20) {
        scene.send(texts(sent, sent + 20).map(text => text.padEnd(1_000, '.')))
        await scene.allDone()
      }
      await environment.pass(3_000)
    }
    await sendAll(600)
    if (damaged)
      for (const path of fileSystem.find(/^places-/)) {
        const bytes = Buffer.from(fileSystem.bytes(path))
        const at = bytes.lastIndexOf('m599')
        if (at < 0) continue
        bytes[at]! ^= 1
        fileSystem.put(path, bytes)
      }
    remote.disconnect(network)
    await environment.settled()
    remote.broker.loseTailOf(TOPIC, 0, 600)
    remote.connect(network)
    await scene.until('they are sent again', () => scene.account.totals.sentAgain >= 599)
    await scene.allDone()
    t.deepEqual(scene.account.totals.lost, damaged ? { journal: 1 } : {})
    t.false(scene.feed.needsKept)
    for (let round = 0; round < 8; round++) {
      await sendAll(300)
      t.false(broker.isFull)
    }
  })

test('what a start found to need them, needs them until it is passed, whatever else is a gap', t => {
  const { clock } = new FakeEnvironment()
  const feed = { account: { inGap: 1 }, needsKept: false }
  const need = new KeptNeed(
    clock,
    () => [feed],
    () => 0,
  )
  const pages = [{ readers: 2 }, { readers: 1 }]
  need.recovered(pages)
  const isThere = () => {
    need.lookAgain()
    return need.isThere
  }
  t.true(isThere())
  pages[1]!.readers = 0
  t.true(isThere())
  pages[0]!.readers = 1
  t.true(isThere())
  pages[0]!.readers = 0
  t.false(isThere())
  need.recovered([{ readers: 1 }])
  feed.account.inGap = 0
  t.false(isThere())
})
