// A remote that has lost its tail, or whose topic was made anew: what was there is found to be missing, and is sent again
// from the source.

import test from 'ava'
import { decodeHeader, RequestCode } from '../../codec/index.ts'
import { Cursor, type Slot } from '../../replay/cursor.ts'
import { propertiesWith } from './sample.ts'
import { FOLDER, Scene, TOPIC } from './scene.ts'

const texts = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `m${from + index}`)

/** The remote broker ends, does this, and is there again. */
async function remoteRestarts(scene: Scene, meanwhile: () => void): Promise<void> {
  const { remote, environment } = scene
  remote.disconnect(environment.network)
  await environment.settled()
  meanwhile()
  remote.connect(environment.network)
}

/** Messages one after the other, so many milliseconds apart, each answered. */
async function sendSlowly(scene: Scene, all: readonly string[], ms: number): Promise<void> {
  for (const text of all) {
    scene.send([text])
    await scene.allDone()
    await scene.environment.pass(ms)
  }
}

test('what the remote has lost is sent again, in its order, also where nothing else is to be sent', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 20), 10_000)
  await remoteRestarts(scene, () => scene.remote.broker.loseTailOf(TOPIC, 0, 7))
  await scene.until('all is there again', () => scene.arrived().length === 20)
  t.deepEqual(scene.arrived(), texts(0, 20))
  await scene.allDone()
  const { account } = scene
  t.is(account.totals.replicated, 20)
  t.is(account.acked, 20)
  t.deepEqual(account.totals.lost, {})
  const [said, ...others] = scene.environment.log.said('the remote has lost its tail')
  t.is(others.length, 0)
  // At most a minute more than what is gone.
  t.true((said!.fields.messages as number) >= 7 && (said!.fields.messages as number) <= 13)
})

for (const others of [0, 8, 10])
  test(`it is so after an outage longer than journalRetention, too; ${others} of others stand there now`, async t => {
    const scene = await Scene.open()
    await sendSlowly(scene, texts(0, 20), 20_000)
    const { remote, environment } = scene
    remote.disconnect(environment.network)
    await environment.settled()
    remote.broker.loseTailOf(TOPIC, 0, 8)
    for (let at = 0; at < others; at++)
      remote.broker.store(TOPIC, 0, { body: Buffer.from(`x${at}`), properties: propertiesWith(`x${at}`) })
    await environment.pass(15 * 60_000)
    remote.connect(environment.network)
    await scene.until('all is there again', () => scene.arrived().filter(text => text.startsWith('m')).length === 20)
    await scene.allDone()
    t.deepEqual(scene.account.totals.lost, {})
    t.is(scene.account.totals.replicated, 20)
  })

test('known ends that grow too old while a remote is slow to be read are kept until it was', async t => {
  const scene = await Scene.open()
  const { broker } = scene.remote
  await sendSlowly(scene, texts(0, 14), 61_000)
  broker.loseTailOf(TOPIC, 0, 2)
  broker.intercept = request => {
    const { code, ext } = decodeHeader(request.head)
    if (code !== RequestCode.PULL_MESSAGE || ext.get('topic') !== TOPIC) return false
    const { intercept } = broker
    scene.environment.clock.after(4_000, () => {
      broker.intercept = () => false
      broker.serve(request)
      broker.intercept = intercept
    })
    return true
  }
  scene.send(['next'])
  await scene.environment.pass(120_000)
  broker.intercept = () => false
  await scene.allDone()
  t.deepEqual(scene.arrived().toSorted(), [...texts(0, 14), 'next'].toSorted())
})

test('what waits meanwhile comes behind it', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 10), 10_000)
  await remoteRestarts(scene, () => {
    scene.remote.broker.loseTailOf(TOPIC, 0, 4)
    scene.send(texts(10, 15))
  })
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 15))
})

test('a message that stands at the offset of a lost one, but is another, is none of ours', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 10), 10_000)
  await remoteRestarts(scene, () => {
    scene.remote.broker.loseTailOf(TOPIC, 0, 3)
    for (const text of ['x', 'y', 'z', 'w'])
      scene.remote.broker.store(TOPIC, 0, { body: Buffer.from(text), properties: propertiesWith(text) })
  })
  await scene.until('all is there', () => scene.arrived().length === 14)
  t.deepEqual(scene.arrived(), [...texts(0, 7), 'x', 'y', 'z', 'w', ...texts(7, 10)])
})

test('a topic made anew at the remote gets what is kept of what was there', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 10), 10_000)
  await remoteRestarts(scene, () => scene.remote.makeTopic(TOPIC, 2))
  await scene.until('all is there', () => scene.arrived().length === 10)
  t.deepEqual(scene.arrived(), texts(0, 10))
})

test('and is found out by an answer with an offset that was known before, where no connection ended', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 10), 10_000)
  scene.remote.makeTopic(TOPIC, 2)
  scene.send(['m10'])
  await scene.allDone()
  t.deepEqual(scene.arrived().slice().sort(), [...texts(0, 11)].sort())
  t.is(scene.account.totals.replicated, 11)
})

test('what has expired is not lost: an idle lane sends nothing again', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 10), 10_000)
  await remoteRestarts(scene, () => scene.remote.broker.expire(TOPIC, 0, 10))
  await scene.environment.pass(30_000)
  t.is(scene.remote.broker.sends.length, 10)
  t.is(scene.environment.log.said('lost its tail').length, 0)
  scene.send(['m10'])
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m10'])
})

test('a tail that is not yet readable is not lost: what was stored is waited for first', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 5), 10_000)
  const { broker } = scene.remote
  const queue = broker.queue(TOPIC, 0)
  let hidden: typeof queue.messages = []
  await remoteRestarts(scene, () => {
    hidden = queue.messages.splice(-3)
    let markers = 0
    broker.onMarker = send => {
      // Dispatched before the marker that is looked for.
      if (++markers === 2) queue.messages.push(...hidden)
      send.answerStored(send.store())
    }
  })
  await scene.environment.pass(60_000)
  t.deepEqual(scene.arrived(), texts(0, 5))
  t.is(broker.sends.length, 5)
})

test('a gateway that was away when it happened finds it out at its start', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 10), 10_000)
  await scene.close()
  scene.remote.broker.loseTailOf(TOPIC, 0, 4)
  await scene.crash()
  await scene.until('all is there', () => scene.arrived().length === 10)
  t.deepEqual(scene.arrived(), texts(0, 10))
  await scene.allDone()
  t.is(scene.account.acked, 10)
})

test('a gateway that dies while it sends again goes on with what is left, over any number of deaths', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 40), 3_000)
  const { remote } = scene
  remote.broker.loseTailOf(TOPIC, 0, 15)
  let stored = 0
  for (let death = 0; death < 5; death++) {
    // Two messages are stored, the third send is never answered.
    stored = 0
    remote.broker.onSend = send => {
      if (stored >= 2) return
      stored += send.messages.length
      send.answerStored(send.store())
    }
    await scene.crash()
    await scene.environment.pass(20_000)
    t.is(scene.account.acked, 40)
  }
  scene.takeSends()
  await scene.crash()
  await scene.until('all is there', () => scene.arrived().length === 40)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 40))
  t.is(scene.account.totals.replicated, 40)
  await scene.restart()
  await scene.environment.pass(30_000)
  t.deepEqual(scene.arrived(), texts(0, 40))
})

test('what the source has lost, too, is lost; what it no longer keeps has expired', async t => {
  for (const [cause, breakIt] of [
    ['source', (scene: Scene) => scene.source.broker.loseTailOf(TOPIC, 0, 3)],
    ['expired', (scene: Scene) => scene.source.broker.expire(TOPIC, 0, 10)],
  ] as const) {
    const scene = await Scene.open()
    await sendSlowly(scene, texts(0, 10), 1_000)
    await remoteRestarts(scene, () => {
      scene.remote.broker.loseTailOf(TOPIC, 0, 3)
      breakIt(scene)
      for (const text of ['x', 'y', 'z'])
        scene.source.broker.store(TOPIC, 0, { body: Buffer.from(text), properties: propertiesWith(text) })
    })
    await scene.until('it is said', () => scene.account.totals.lost[cause] !== undefined)
    await scene.allDone()
    t.true(scene.account.totals.lost[cause]! >= 3)
    t.is(scene.account.acked, 10)
    t.false(scene.arrived().some(text => ['x', 'y', 'z'].includes(text)))
  }
})

test('what was done longer ago than is kept, and may be gone, is lost and said', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 100), 15_000)
  await remoteRestarts(scene, () => scene.remote.broker.loseTailOf(TOPIC, 0, 90))
  await scene.until('it is said', () => scene.account.totals.lost.remote !== undefined)
  await scene.allDone()
  const { totals, acked } = scene.account
  t.is(acked, 100)
  t.is(totals.replicated + totals.lost.remote!, 100)
  t.deepEqual(scene.arrived().slice(0, 10), texts(0, 10))
  t.is(scene.arrived().at(-1), 'm99')
  t.is(scene.arrived().length + totals.lost.remote!, 100)
  t.true(totals.lost.remote! < 60)
})

test('known ends are in the cursor, and none is there of a lane that has sent nothing', async t => {
  const scene = await Scene.open()
  await sendSlowly(scene, texts(0, 3), 2_000)
  const { queues } = (await new Cursor(scene.environment.fileSystem, `${FOLDER}/remotes/default`).read()) as Slot
  t.is(queues[0]!.ends!.ends.length, 2)
  t.is(queues.length, 1)
})

test('a topic was made anew before an answer that is unclear: what is stored below the known end is found', async t => {
  const scene = await Scene.open()
  scene.send(texts(0, 3))
  await scene.allDone()
  scene.remote.broker.makeTopic(TOPIC, 2)
  scene.remote.broker.onSend = send => {
    send.store()
    scene.takeSends()
    send.request.answer({ code: 1, remark: 'java.lang.NullPointerException' })
  }
  scene.send(['m3'])
  await scene.allDone()
  t.deepEqual([...scene.arrived()].sort(), texts(0, 4))
})
