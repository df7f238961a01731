// A wall clock that is set while the gateway runs, back or forward: no deadline comes later or earlier for it.

import test from 'ava'
import { hostBytes } from '../../codec/index.ts'
import { Scene, texts } from './scene.ts'

const HOUR = 3_600_000

test('set back while the answer to a send is missing: its link is ended in time, and the lane goes on', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  await scene.allDone()
  let isLost = false
  scene.remote.broker.onSend = send => {
    const stored = send.store()
    if (isLost) return send.answerStored(stored)
    isLost = true
  }
  scene.send(['m1'])
  await scene.environment.pass(1_000)
  t.true(isLost)
  scene.environment.clock.set(-HOUR)
  scene.send(['m2'])
  await scene.environment.pass(30_000)
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2'])
})

test('set back while connections wait to be confirmed: their acks wait no longer than 500 ms', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  await scene.allDone()
  scene.source.broker.intercept = ({ head }) => head.code === 33
  const [first, second] = [scene.connect(), scene.connect()]
  const send = scene.forward(0, first).store('m1')
  first.onConfirmed = () => send.ack()
  await scene.environment.pass(300)
  scene.forward(0, second)
  scene.environment.clock.set(-HOUR)
  await scene.environment.pass(300)
  // What was acked meanwhile has to be read back for the second.
  t.deepEqual([first.isUnclear, second.isUnclear], [false, true])
  await scene.environment.pass(300)
  t.false(second.isUnclear)
})

test('set back while a send without an answer is looked for: it holds back its queue no longer', async t => {
  const scene = await Scene.open()
  const bornHost = hostBytes('10.0.0.1', 40_001)!
  const lost = scene.forward().store('m0', { bornHost })
  scene.forward().store('m1').ack()
  lost.lose(['m0'], { bornHost })
  await scene.environment.pass(100)
  scene.environment.clock.set(-HOUR)
  await scene.environment.pass(2_000)
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
})

test('set back while the disk fails: bodies are written again a second after that', async t => {
  const scene = await Scene.open()
  const { environment, broker } = scene
  const { fileSystem } = environment
  scene.refuseSends(2)
  scene.send(texts(0, 10))
  fileSystem.fault = (one, path) => (one === 'append' && /bodies-/.test(path) ? new Error('no space') : undefined)
  await environment.settled()
  broker.spill.force(Number.MAX_SAFE_INTEGER)
  await environment.until('the disk has failed', () => broker.spill.failed)
  fileSystem.fault = () => undefined
  environment.clock.set(-HOUR)
  await environment.pass(3_000)
  t.false(broker.spill.failed)
  t.is(broker.spill.spilled, 10)
})

test('set back while a broker of the remote is away: its lanes go to another after a minute', async t => {
  const scene = await Scene.open({ remoteBrokers: 2, remoteBrokerAway: 'reroute' })
  scene.send(['m0'])
  await scene.allDone()
  const used = scene.remote.brokers.find(broker => broker.texts('orders', 0).length > 0)!
  const other = scene.remote.brokers.find(broker => broker !== used)!
  await scene.goesAway(used)
  scene.send(['m1'])
  await scene.environment.pass(40_000)
  scene.environment.clock.set(-HOUR)
  await scene.environment.pass(120_000)
  t.deepEqual([...other.texts('orders', 0), ...other.texts('orders', 1)], ['m1'])
})
