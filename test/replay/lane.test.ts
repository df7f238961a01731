// A lane on its way to the remote: order, batches, one request in flight, and every way in which a send can end.

import test from 'ava'
import {
  decodeHeader,
  decodeStamp,
  encodeProperties,
  encodeStamp,
  findProperty,
  RequestCode,
} from '../../codec/index.ts'
import type { FakeSend } from './fake-cluster.ts'
import { propertiesWith } from './sample.ts'
import { Scene, slotFolder, TOPIC, texts } from './scene.ts'

test('a message arrives as it was sent, with its stamp behind its properties', async t => {
  const scene = await Scene.open()
  scene.send(['m0'], 1, { flag: -7, sysFlag: 0x301, properties: propertiesWith('m0', [['TAGS', 'a']]) })
  await scene.allDone()
  const [message, ...others] = scene.remote.broker.queue(TOPIC, 1).messages
  t.is(others.length, 0)
  t.is(message!.body.toString(), 'm0')
  t.is(message!.flag, -7)
  t.is(message!.sysFlag, 0x301)
  const own = propertiesWith('m0', [['TAGS', 'a']])
  t.deepEqual(message!.properties.subarray(0, own.length), own)
  const stamp = decodeStamp(findProperty(message!.properties, 'TEE_ORIGIN')!)!
  t.deepEqual(
    [stamp.gateway, stamp.broker, stamp.queueId, stamp.queueOffset, stamp.path, stamp.bind],
    [scene.replay.gatewayId, 'paris-a', 1, 0, ['paris'], 'm0'],
  )
  t.is(stamp.epoch, scene.broker.journal.epochIds.get(scene.broker.epoch)!)
})

test('what gathers while a request is out goes in the next one, in order', async t => {
  const scene = await Scene.open()
  const held = scene.holdSends()
  scene.send(['m0'])
  await scene.until('the first is out', () => held.length === 1)
  scene.send(texts(1, 10))
  await scene.environment.pass(1_000)
  scene.takeSends()
  held[0]!.answerStored(held[0]!.store())
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 10))
  t.deepEqual(
    scene.remote.broker.sends.map(send => [send.batch, send.messages.length]),
    [
      [false, 1],
      [true, 9],
    ],
  )
})

test('a lane has one request in flight, whatever gathers and however long it takes; another lane has its own', async t => {
  const scene = await Scene.open()
  const held = scene.holdSends()
  scene.send(['m0'])
  scene.send(['n0'], 1)
  await scene.until('both are out', () => held.length === 2)
  for (let round = 1; round < 20; round++) {
    scene.send([`m${round}`])
    scene.send([`n${round}`], 1)
    await scene.environment.pass(400)
    t.is(held.length, 2)
  }
  t.deepEqual(held.map(send => send.queueId).sort(), [0, 1])
})

test('messages that may not share a batch go one request after the other', async t => {
  const scene = await Scene.open()
  scene.remote.disconnect(scene.environment.network)
  scene.send(['m0', 'm1'])
  scene.send(['m2', 'm3'], 0, { sysFlag: 1 })
  scene.send(['m4'], 0, { sysFlag: 1, bornTimestamp: 5 })
  await scene.environment.settled()
  scene.remote.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(
    scene.remote.broker.sends.map(send => send.messages.length),
    [2, 2, 1],
  )
  t.deepEqual(scene.arrived(), texts(0, 5))
})

test('a queue that the remote lacks leads to its id modulo the queues there', async t => {
  const scene = await Scene.open({ sourceQueues: 6, remoteQueues: 4 })
  scene.send(['m0'], 5)
  await scene.allDone()
  t.deepEqual(scene.arrived(1), ['m0'])
})

test('while the remote is away messages wait, and go in order when it is back', async t => {
  const scene = await Scene.open()
  scene.remote.disconnect(scene.environment.network)
  for (let round = 0; round < 10; round++) {
    scene.send([`m${round}`])
    await scene.environment.pass(3_000)
  }
  t.is(scene.account.queued, 10)
  t.is(scene.relayed.length, 10)
  t.is(scene.feed.troubles.length, 1)
  t.is(scene.environment.log.said('lane waits').length, 1)
  t.true(scene.feed.lagMs >= 30_000)
  scene.remote.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 10))
  t.deepEqual(scene.feed.troubles, [])
  t.is(scene.environment.log.said('lane goes on').length, 1)
  t.is(scene.feed.lagMs, 0)
})

test('a request that was stored and not answered is found, and is not sent again', async t => {
  const scene = await Scene.open()
  scene.remote.broker.onSend = send => {
    send.store()
    send.request.breakOff()
    scene.takeSends()
  }
  scene.send(['m0'])
  await scene.allDone()
  scene.send(['m1'])
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
  t.is(scene.remote.broker.sends.length, 2)
  t.is(scene.account.totals.replicated, 2)
})

test('a request that was stored and not answered is found, and does not count as sent again', async t => {
  const scene = await Scene.open()
  scene.remote.broker.onSend = send => {
    send.store()
    if (scene.remote.broker.sends.length === 1) send.request.breakOff()
    else send.answerStored(scene.remote.broker.texts(TOPIC, 0).length - 1)
  }
  scene.send(['m0'])
  await scene.allDone()
  scene.send(['m1'])
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
  t.is(scene.account.totals.sentAgain, 0)
})

test('a request that was neither stored nor answered is sent again, after it was found out', async t => {
  const scene = await Scene.open()
  const pulls: number[] = []
  scene.remote.broker.onSend = send => {
    pulls.push(scene.remote.broker.pulls)
    if (pulls.length === 1) send.request.breakOff()
    else send.answerStored(send.store())
  }
  scene.send(['m0'])
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0'])
  t.is(pulls[0], 0)
  t.true(pulls[1]! > 0)
  t.is(scene.account.totals.sentAgain, 1)
})

test('a batch of which only a part was stored has only the rest sent again', async t => {
  const scene = await Scene.open()
  const held = scene.holdSends()
  scene.send(['m0'])
  await scene.until('the first is out', () => held.length === 1)
  scene.send(texts(1, 6))
  await scene.environment.settled()
  scene.remote.broker.onSend = send => {
    send.store([0, 2, 3])
    send.request.breakOff()
    scene.takeSends()
  }
  held[0]!.answerStored(held[0]!.store())
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm3', 'm4', 'm2', 'm5'])
  t.is(scene.account.totals.replicated, 6)
})

test('a request without an answer has its connection ended after 10 s, and is found out', async t => {
  const scene = await Scene.open()
  scene.remote.broker.onSend = send => {
    send.store()
    scene.takeSends()
  }
  scene.send(['m0'])
  await scene.environment.pass(9_990)
  t.is(scene.account.queued, 1)
  t.is(scene.remote.broker.pulls, 0)
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0'])
})

test('an answer that does not say whether it was stored is found out before it is sent again', async t => {
  const scene = await Scene.open()
  scene.remote.broker.onSend = send => {
    send.store()
    send.request.answer({ code: 1, remark: 'putMessageResult is null' })
    scene.takeSends()
  }
  scene.send(['m0'])
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0'])
  t.is(scene.remote.broker.sends.length, 1)
})

test('found out is only what can be read: the remote is waited for until its queues are', async t => {
  const scene = await Scene.open()
  const { broker } = scene.remote
  broker.onSend = send => {
    send.store()
    send.request.breakOff()
    broker.dispatchBehind = 5
    scene.takeSends()
  }
  let behindAtPull = -1
  broker.intercept = ({ head }) => {
    if (head.code === 11 && decodeHeader(head).ext.get('topic') === TOPIC)
      behindAtPull = Math.max(behindAtPull, broker.dispatchBehind)
    return false
  }
  scene.send(['m0'])
  await scene.allDone()
  t.is(behindAtPull, 0)
  t.deepEqual(scene.arrived(), ['m0'])
})

test('a busy remote is asked again with nothing to find out', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2, '[TIMEOUT_CLEAN_QUEUE]broker busy')
  scene.send(['m0', 'm1'])
  await scene.environment.pass(5_000)
  t.is(scene.remote.broker.pulls, 0)
  const tries = scene.remote.broker.sends.length
  t.true(tries > 5 && tries < 20, `${tries} tries`)
  t.is(scene.feed.troubles.length, 1)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
})

test('a remote that refuses is waited for, however long, and nothing is a dead letter', async t => {
  const scene = await Scene.open()
  scene.refuseSends(16, 'the broker does not accept')
  scene.send(['m0', 'm1'])
  await scene.environment.pass(600_000)
  t.is(scene.account.queued, 2)
  t.regex(scene.feed.troubles[0]!.reason, /code 16: the broker does not accept/)
  t.is(scene.environment.log.said('lane waits').length, 1)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
  t.is(scene.account.totals.deadLettered, 0)
})

test('a lane that waits disturbs no other', async t => {
  const scene = await Scene.open()
  scene.remote.broker.onSend = send =>
    send.queueId === 0 ? send.request.answer({ code: 16 }) : send.answerStored(send.store())
  scene.send(texts(0, 5))
  scene.send(texts(5, 10), 1)
  await scene.until('the other lane is done', () => scene.arrived(1).length === 5)
  t.deepEqual(scene.arrived(1), texts(5, 10))
  t.is(scene.account.queued, 5)
})

test('a message that the remote will never take is a dead letter, and those around it arrive', async t => {
  const scene = await Scene.open()
  scene.remote.disconnect(scene.environment.network)
  scene.send(['m0', 'm1', 'illegal', 'm2', 'm3'])
  await scene.environment.settled()
  scene.remote.broker.onSend = send =>
    send.messages.some(({ body }) => body.toString() === 'illegal')
      ? send.request.answer({ code: 13, remark: 'the message is illegal' })
      : send.answerStored(send.store())
  scene.remote.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2', 'm3'])
  t.is(scene.account.totals.deadLettered, 1)
  t.is(scene.account.totals.replicated, 4)
  const [path, ...others] = scene.environment.fileSystem.find(/^dead-letters-/)
  t.is(others.length, 0)
  const letter = JSON.parse(scene.environment.fileSystem.bytes(path!).toString())
  t.is(Buffer.from(letter.payload, 'base64').toString(), 'illegal')
  t.deepEqual(Buffer.from(letter.properties, 'base64'), propertiesWith('illegal'))
  t.like(letter, { topic: TOPIC, queueId: 0, queueOffset: 2, reason: 'code 13: the message is illegal' })
  // And it stays one.
  await scene.restart()
  await scene.environment.pass(3_000)
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2', 'm3'])
})

test('a dead letter counts when its line is synced; until then its lane waits', async t => {
  const scene = await Scene.open()
  const { fileSystem } = scene.environment
  fileSystem.fault = (operation, path) =>
    operation === 'sync' && path.includes('dead-letters') ? new Error('no space') : undefined
  scene.refuseSends(13)
  scene.send(['illegal'])
  await scene.environment.pass(3_000)
  t.is(scene.account.totals.deadLettered, 0)
  t.is(scene.account.queued, 1)
  fileSystem.fault = () => undefined
  await scene.allDone()
  t.is(scene.account.totals.deadLettered, 1)
})

test('dead letters count for the size of the journal, also those of an earlier process', async t => {
  const scene = await Scene.open()
  scene.refuseSends(13)
  scene.send(['x'.repeat(3_000)])
  await scene.allDone()
  const [path] = scene.environment.fileSystem.find(/^dead-letters-/)
  const { length } = scene.environment.fileSystem.bytes(path!)
  t.true(length > 3_000)
  t.is(scene.broker.feeds[0]!.deadLetterBytes, length)
  await scene.restart()
  t.is(scene.broker.feeds[0]!.deadLetterBytes, length)
})

test('a dead letter whose line was torn is written whole, to a file of its own', async t => {
  const scene = await Scene.open()
  const { fileSystem } = scene.environment
  let tears = 1
  fileSystem.tornBytes = 50
  fileSystem.fault = (operation, path) =>
    operation === 'append' && path.includes('dead-letters') && tears-- > 0 ? new Error('no space') : undefined
  scene.refuseSends(13)
  scene.send(['illegal', 'illegal too'])
  await scene.allDone()
  t.is(scene.account.totals.deadLettered, 2)
  const files = fileSystem.find(/^dead-letters-/).map(path => fileSystem.bytes(path).toString())
  const [torn, whole] = files.sort((a, b) => a.length - b.length) as [string, string]
  t.is(files.length, 2)
  t.is(torn.length, 50)
  const letters = whole
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line).payload)
  t.deepEqual(
    letters,
    ['illegal', 'illegal too'].map(text => Buffer.from(text).toString('base64')),
  )
})

test('what comes behind a dead letter goes in full batches again', async t => {
  const scene = await Scene.open()
  const { remote, environment } = scene
  remote.disconnect(environment.network)
  scene.send(['m0', 'illegal', 'm1'])
  await environment.settled()
  remote.broker.onSend = send =>
    send.messages.some(({ body }) => body.toString() === 'illegal')
      ? send.request.answer({ code: 13 })
      : send.answerStored(send.store())
  remote.connect(environment.network)
  await scene.allDone()
  remote.disconnect(environment.network)
  scene.send(texts(2, 6))
  await environment.settled()
  remote.connect(environment.network)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 6))
  t.is(remote.broker.sends.at(-1)!.messages.length, 4)
})

test('bodies that do not fit into memory are read back from the source, and arrive in order', async t => {
  const scene = await Scene.open({ bodyMemory: 200 })
  scene.remote.disconnect(scene.environment.network)
  scene.send(texts(0, 100))
  await scene.environment.settled()
  const { account } = scene
  t.true(account.inGap > 80 && account.queued > 0)
  scene.remote.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 100))
  t.is(scene.replay.memory.used, 0)
  t.true(account.readBack > 80)
})

test('what the source no longer has is lost with its cause, and those behind it arrive', async t => {
  const scene = await Scene.open({ bodyMemory: 0 })
  scene.remote.disconnect(scene.environment.network)
  scene.send(texts(0, 6))
  await scene.environment.settled()
  scene.source.broker.expire(TOPIC, 0, 3)
  scene.remote.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m3', 'm4', 'm5'])
  t.deepEqual(scene.account.totals.lost, { expired: 3 })
  const said = scene.environment.log.said('messages lost').map(({ fields }) => fields)
  t.deepEqual(said, [
    { remote: 'default', topic: TOPIC, queueId: 0, fromOffset: 0, toOffset: 2, messages: 3, cause: 'expired' },
  ])
})

test('a message that has been at the remote before is skipped, though nobody knew when it was acked', async t => {
  const scene = await Scene.open()
  const stamped = (path: string[]) => {
    const stamp = { group: '', path, gateway: 'g', broker: 'b', epoch: 'e', queueId: 0, queueOffset: 0, topic: '' }
    return encodeProperties([
      ['UNIQ_KEY', 'looped'],
      ['TEE_ORIGIN', encodeStamp({ ...stamp, bornTimestamp: 0, bind: 'looped' })],
    ])
  }
  scene.send(['m0'])
  scene.send(['looped'], 0, { properties: stamped(['rome']) })
  scene.send(['once'], 0, { properties: stamped(['oslo']) })
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'once'])
  t.deepEqual(scene.account.totals.skipped, { loop: 1 })
})

test('a lane that is stopped waits for the answer of what is out, and sends no more', async t => {
  const scene = await Scene.open()
  const held = scene.holdSends()
  scene.send(['m0'])
  await scene.until('the first is out', () => held.length === 1)
  scene.send(['m1'])
  await scene.environment.settled()
  let closed = false
  const closing = scene.replay.close().then(() => {
    closed = true
  })
  await scene.environment.settled()
  t.false(closed)
  held[0]!.answerStored(held[0]!.store())
  await scene.environment.settled()
  t.true(closed)
  await closing
  t.is(scene.remote.broker.sends.length, 1)
  scene.takeSends()
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
})

test('a lane that is stopped while it asks for its remote queue sends nothing', async t => {
  const scene = await Scene.open()
  let closing: Promise<void> | undefined
  scene.remote.broker.intercept = ({ head }) => {
    if (head.code === RequestCode.GET_MAX_OFFSET) closing ??= scene.replay.close()
    return false
  }
  scene.send(['m0'])
  await scene.until('it is asked', () => closing !== undefined)
  await closing
  t.is(scene.remote.broker.sends.length, 0)
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0'])
})

test('a lane is sure of its remote queue, on the disk, before its first message goes there', async t => {
  const scene = await Scene.open()
  let known = ''
  scene.remote.broker.onSend = send => {
    for (const path of [`${slotFolder()}/cursor-0`, `${slotFolder()}/cursor-1`])
      known += scene.environment.fileSystem.files.get(path)?.bytes.toString() ?? ''
    send.answerStored(send.store())
  }
  scene.send(['m0'])
  await scene.allDone()
  t.regex(known, /"remote":\{"broker":"rome-a","queueId":0,"end":0\}/)
})

/** The remote answers whatever holds a poison so that nothing is known, and stores the rest. */
function withPoison(scene: Scene): void {
  scene.remote.broker.onSend = send =>
    send.messages.some(({ body }) => body.toString() === 'poison')
      ? send.request.answer({ code: 1, remark: 'java.lang.NullPointerException' })
      : send.answerStored(send.store())
}

test('a message that is answered unclearly again and again, while others are stored, is a dead letter', async t => {
  const scene = await Scene.open()
  scene.remote.disconnect(scene.environment.network)
  scene.send(['m0', 'm1', 'poison', 'm2', 'm3'])
  await scene.environment.settled()
  withPoison(scene)
  scene.remote.connect(scene.environment.network)
  const { account } = scene
  for (let round = 0; round < 100 && account.totals.deadLettered === 0; round++) {
    scene.send([`n${round}`], 1)
    await scene.environment.pass(1_000)
  }
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1', 'm2', 'm3'])
  t.is(account.totals.deadLettered, 1)
  const [path] = scene.environment.fileSystem.find(/^dead-letters-/)
  t.regex(scene.environment.fileSystem.bytes(path!).toString(), /code 1: java.lang.NullPointerException/)
})

test('where nothing else is stored it is the remote that is ill, and the message waits', async t => {
  const scene = await Scene.open()
  withPoison(scene)
  scene.send(['poison'])
  await scene.environment.pass(120_000)
  t.is(scene.account.totals.deadLettered, 0)
  t.is(scene.account.queued, 1)
  t.is(scene.environment.log.said('lane waits').length, 1)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['poison'])
})

test('one that did arrive, however it was answered, is none', async t => {
  const scene = await Scene.open()
  let tries = 0
  scene.remote.broker.onSend = send => {
    if (send.queueId === 1) return send.answerStored(send.store())
    if (++tries === 3) send.store()
    send.request.answer({ code: 1 })
  }
  scene.send(['m0'])
  for (let round = 0; round < 20; round++) {
    scene.send([`n${round}`], 1)
    await scene.environment.pass(1_000)
  }
  await scene.allDone()
  t.is(tries, 3)
  t.is(scene.account.totals.deadLettered, 0)
  t.deepEqual(scene.arrived(), ['m0'])
})

test('a message without room for a stamp is counted once, however often it is tried', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(['m0'], 0, { properties: propertiesWith('m0', [['long', 'x'.repeat(32_300)]]) })
  await scene.environment.pass(3_000)
  scene.takeSends()
  await scene.allDone()
  t.is(scene.account.totals.unstamped, 1)
  t.is(findProperty(scene.remote.broker.queue(TOPIC, 0).messages[0]!.properties, 'TEE_ORIGIN'), undefined)
})

test('one that was stored without an answer is found by its timestamp and hash, and is not sent again', async t => {
  const scene = await Scene.open()
  scene.remote.broker.onSend = send => {
    send.store()
    send.request.breakOff()
    scene.takeSends()
  }
  const long = (key: string) => ({ properties: propertiesWith(key, [['long', 'x'.repeat(32_300)]]) })
  scene.send(['m0'], 0, long('m0'))
  await scene.environment.settled()
  scene.send(['m1'], 0, long('m1'))
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
  t.is(scene.account.totals.unstamped, 2)
})

test('unclear answers to one message do not count against the next', async t => {
  const scene = await Scene.open()
  let first = 0
  let second = 0
  scene.remote.broker.onSend = send => {
    if (send.queueId === 1) return send.answerStored(send.store())
    if (send.messages[0]!.body.toString() === 'm0') {
      // The second try is stored, and answered unclearly all the same.
      if (++first === 2) send.store()
      return send.request.answer({ code: 1 })
    }
    if (++second === 1) return send.request.answer({ code: 1 })
    send.answerStored(send.store())
  }
  const others = async (rounds: number) => {
    for (let round = 0; round < rounds; round++) {
      scene.send([`n${round}`], 1)
      await scene.environment.pass(1_000)
    }
  }
  scene.send(['m0'])
  await others(10)
  scene.send(['m1'])
  await others(10)
  await scene.allDone()
  t.is(scene.account.totals.deadLettered, 0)
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
})

test('batches that the remote finds too large get smaller, also where nothing else is stored', async t => {
  const scene = await Scene.open()
  scene.remote.disconnect(scene.environment.network)
  scene.send(texts(0, 100))
  await scene.environment.settled()
  scene.remote.broker.onSend = send =>
    send.messages.length > 10
      ? send.request.answer({ code: 1, remark: 'java.lang.RuntimeException: message body size exceeded' })
      : send.answerStored(send.store())
  scene.remote.connect(scene.environment.network)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 100))
})

test('a message that the connector brought from the remote is not sent back, though nobody knew when it was acked', async t => {
  const scene = await Scene.open()
  scene.send(['m0'], 0, { properties: propertiesWith('m0', [['REPLICATOR-BORN-SOURCE', 'genoa,rome']]) })
  await scene.allDone()
  t.deepEqual(scene.arrived(), [])
  t.deepEqual(scene.account.totals.skipped, { loop: 1 })
})

test('a message at the remote that never had a stamp does not stand for one of ours', async t => {
  const scene = await Scene.open()
  scene.remote.broker.onSend = send => {
    send.request.breakOff()
    // A producer there says the same in the same millisecond.
    const [{ bornTimestamp, body }] = send.messages as [FakeSend['messages'][number]]
    scene.remote.broker.store(TOPIC, 0, { bornTimestamp, body, properties: propertiesWith('theirs') })
    scene.takeSends()
  }
  scene.send(['ping'], 0, { properties: Buffer.alloc(0) })
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['ping', 'ping'])
})
