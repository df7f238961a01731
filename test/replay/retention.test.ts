// An alarm, with the time left, when the source will soon forget what has to be read back.

import test from 'ava'
import { Scene } from './scene.ts'

const HOUR = 3_600_000

async function withGaps() {
  const scene = await Scene.open({ bodyMemory: 0 })
  scene.refuseSends(2)
  scene.send(['m0', 'm1'])
  await scene.environment.settled()
  return scene
}

const said = (scene: Scene) => scene.environment.log.said('will soon forget')

test('a gap that is younger than the oldest message by little is an alarm, said every ten minutes, with the time left', async t => {
  const scene = await withGaps()
  const { broker } = scene.source
  const at = scene.environment.clock.now()
  scene.source.broker.intercept = request => {
    if (request.head.code !== 28) return false
    // It has forgotten something already.
    const table = { commitLogMinOffset: '1', commitLogMaxOffset: `${broker.logEnd}`, dispatchBehindBytes: '0' }
    request.answer({
      body: Buffer.from(JSON.stringify({ table: { ...table, earliestMessageTimeStamp: `${broker.oldestAt}` } })),
    })
    return true
  }
  broker.oldestAt = at - 2 * HOUR
  await scene.environment.pass(11_000)
  t.is(scene.broker.gapTimeLeft, 2 * HOUR)
  t.is(said(scene).length, 0)
  broker.oldestAt = at - HOUR / 2
  await scene.environment.pass(10_000)
  t.is(scene.broker.gapTimeLeft, HOUR / 2)
  t.is(said(scene).length, 1)
  t.is(said(scene)[0]!.fields.secondsLeft, 1_800)
  await scene.environment.pass(500_000)
  t.is(said(scene).length, 1)
  await scene.environment.pass(120_000)
  t.is(said(scene).length, 2)
})

test('a source that has not forgotten anything yet, and one whose messages all are here, is no alarm', async t => {
  const scene = await withGaps()
  scene.source.broker.oldestAt = scene.environment.clock.now() - 1_000
  await scene.environment.pass(11_000)
  t.is(scene.broker.gapTimeLeft, Number.POSITIVE_INFINITY)
  scene.takeSends()
  await scene.allDone()
  await scene.environment.pass(11_000)
  t.is(scene.broker.gapTimeLeft, Number.POSITIVE_INFINITY)
  t.is(said(scene).length, 0)
  await scene.close()
  t.is(scene.environment.clock.timers, 0)
})
