// Gaps of a lane, filled from the source; given up only on the source's proof.

import test from 'ava'
import { encodeProperties } from '../../codec/index.ts'
import { Account, type LostCause } from '../../replay/account.ts'
import { Backlog } from '../../replay/backlog.ts'
import { BodyMemory, payloadOf, propertiesOf } from '../../replay/body.ts'
import { Cluster } from '../../replay/cluster.ts'
import type { EncodedFold } from '../../replay/folded-places.ts'
import { GapFiller } from '../../replay/gap-filler.ts'
import { KnownEnds } from '../../replay/known-ends.ts'
import { hashOf, type Place, PlaceFlag } from '../../replay/place.ts'
import { Reader } from '../../replay/reader.ts'
import { Turns } from '../../replay/turns.ts'
import { WaitError } from '../../replay/wait-error.ts'
import { FakeEnvironment, type FakeRequest } from '../support/fake-environment.ts'
import { FakeCluster } from './fake-cluster.ts'
import { BORN, bodyWith, placeAt, propertiesWith } from './sample.ts'

/** A lane's queue beside a source queue that holds these many messages; all places are gaps. */
function lab(stored: number, places = stored, memoryLimit = 1_000_000, turns = 64, ends = new KnownEnds()) {
  const environment = new FakeEnvironment()
  const source = new FakeCluster('paris')
  source.makeTopic('orders', 1)
  source.connect(environment.network)
  const { broker } = source
  const memory = new BodyMemory(memoryLimit)
  const account = new Account()
  const nothing = () => {}
  const backlog = new Backlog('orders', 0, memory, {
    epochId: () => '',
    sealed: nothing,
    done: nothing,
    passed: nothing,
  })
  const queue = new Reader(backlog, account, 1, () => Promise.reject(new Error('no page is on a disk here')))
  const acked = (place: Place) => {
    account.accepted(false)
    backlog.push(place, undefined)
  }
  const lost: string[] = []
  for (let offset = 0; offset < stored; offset++)
    broker.store('orders', 0, {
      bornTimestamp: BORN,
      properties: propertiesWith(`KEY${offset}`),
      body: Buffer.from(`body ${offset}`),
    })
  for (let offset = 0; offset < places; offset++) acked(placeAt(offset))
  const filler = new GapFiller(
    environment.clock,
    {
      cluster: new Cluster(environment, [source.nameServer]),
      topic: 'orders',
      queueId: 0,
      address: () => broker.address,
      turns: new Turns(turns),
      kept: async () => ({ bodies: new Map(), cause: 'remote' }),
      ends: () => ends,
      passArrived: () => {},
      refused: () => {},
    },
    queue,
    memory,
    account,
    (index: number, cause: LostCause) => {
      lost.push(`${queue.queueOffset(index)} ${cause}`)
      account.lost(cause, queue.done(index))
    },
  )
  const fill = async () => {
    let outcome: string | undefined
    filler.fill()?.then(
      () => {
        outcome = 'filled'
      },
      (error: Error) => {
        outcome = error instanceof WaitError ? `${error.message}: ${error.detail}` : error.message
      },
    )
    await environment.settled()
    return outcome
  }
  const textAt = (index: number) => {
    const body = queue.body(index)
    return body && payloadOf(body).join('')
  }
  const bodies = () => Array.from({ length: queue.span }, (_, index) => textAt(index))
  return { environment, broker, queue, acked, memory, account, lost, filler, fill, bodies, textAt }
}

test('a gap is filled with what was sent, and is counted as queued', async t => {
  const { account, memory, queue, fill, bodies, lost } = lab(3)
  t.is(await fill(), 'filled')
  t.deepEqual(bodies(), ['body 0', 'body 1', 'body 2'])
  t.deepEqual(propertiesOf(queue.body(1)!), propertiesWith('KEY1'))
  t.deepEqual([account.queued, account.inGap, account.readBack], [3, 0, 3])
  t.deepEqual(lost, [])
  t.true(memory.used > 0)
})

test('one round reads several stretches of the lane, and no more than its window', async t => {
  const { broker, fill, bodies } = lab(2_000)
  t.is(await fill(), 'filled')
  t.is(broker.pulls, 8)
  const filled = bodies()
  t.deepEqual(
    filled.slice(0, 256),
    Array.from({ length: 256 }, (_, index) => `body ${index}`),
  )
  t.true(filled.slice(256).every(body => body === undefined))
})

test('what is done or has its body is not read', async t => {
  const { broker, queue, fill, bodies } = lab(100)
  for (let index = 0; index < 100; index++)
    if (index < 40) queue.fill(index, bodyWith('here'))
    else if (index < 90) queue.done(index)
  const offsets: string[] = []
  broker.intercept = ({ head }) => {
    offsets.push(/queueOffset\W+(\d+)/.exec(head.bytes.toString('latin1'))![1]!)
    return false
  }
  t.is(await fill(), 'filled')
  t.deepEqual(offsets, ['90'])
  t.deepEqual(
    bodies().slice(90),
    Array.from({ length: 10 }, (_, index) => `body ${90 + index}`),
  )
  t.is(await fill(), undefined)
})

for (const proof of ['KEY3', 'ANOTHER'])
  test(`what is known by its fold only is ${proof === 'KEY3' ? 'filled' : 'lost at once'}, where its proof is ${proof === 'KEY3' ? 'what was acked' : 'another by now'}`, async t => {
    const fold: EncodedFold = [1, 0, 0, '4', 3, BORN, hashOf(Buffer.from(proof), [])]
    const ends = KnownEnds.decode({ ends: [], earlier: 0, again: [fold] })
    const { broker, acked, account, fill, bodies, lost } = lab(4, 0, 1_000_000, 64, ends)
    for (let offset = 0; offset < 4; offset++)
      acked(placeAt(offset, { placeFlags: PlaceFlag.AGAIN, hash: 0, bornTimestamp: 0, commitLogOffset: -1 }))
    t.is(await fill(), 'filled')
    // It is asked for once more, behind what was read.
    t.is(broker.pulls, 2)
    if (proof === 'KEY3') {
      t.deepEqual(bodies(), ['body 0', 'body 1', 'body 2', 'body 3'])
      t.deepEqual(lost, [])
    } else t.deepEqual(lost.sort(), ['0 source', '1 source', '2 source', '3 source'])
    t.is(account.acked, 4)
  })

test('what lies below the oldest offset of the source is lost, as expired', async t => {
  const { broker, queue, account, fill, lost, bodies } = lab(5)
  broker.expire('orders', 0, 3)
  t.is(await fill(), 'filled')
  t.deepEqual(lost.sort(), ['0 expired', '1 expired', '2 expired'])
  t.is(queue.span, 2)
  await fill()
  t.deepEqual(bodies(), ['body 3', 'body 4'])
  t.is(account.acked, 5)
})

test('where another message stands at its offset, in the queue and in the log, it is lost, as the source’s', async t => {
  const { broker, fill, lost, bodies } = lab(4)
  const { messages } = broker.queue('orders', 0)
  messages[1] = broker.log[1] = { ...messages[1]!, properties: propertiesWith('ANOTHER') }
  messages[2] = broker.log[2] = { ...messages[2]!, bornTimestamp: BORN + 1 }
  t.is(await fill(), 'filled')
  t.deepEqual(lost, [])
  t.is(await fill(), 'filled')
  t.deepEqual(lost.sort(), ['1 source', '2 source'])
  t.deepEqual(bodies(), ['body 0', undefined, undefined, 'body 3'])
})

test('right after its ack a message cannot be read yet: that is not worth saying', async t => {
  const { environment, broker, queue, fill, lost } = lab(0, 3)
  t.is(await fill(), undefined)
  await environment.pass(20)
  for (let offset = 0; offset < 2; offset++)
    broker.store('orders', 0, { bornTimestamp: BORN, properties: propertiesWith(`KEY${offset}`) })
  t.is(await fill(), 'filled')
  t.is(queue.body(2), undefined)
  for (let waited = 0; waited < 1_000; waited += 20) {
    t.is(await fill(), undefined, `after ${waited} ms`)
    await environment.pass(20)
  }
  t.regex(
    (await fill())!,
    /does not let the lane read what was acked in orders queue 0: offset 2; the queue has 0 to 1/,
  )
  t.deepEqual(lost, [])
})

/** Looks again and again for so long; the last outcome. */
async function fillFor(ms: number, { environment, fill }: ReturnType<typeof lab>): Promise<string | undefined> {
  let outcome: string | undefined
  for (let passed = 0; passed <= ms; passed += 250) {
    outcome = await fill()
    if (passed < ms) await environment.pass(250)
  }
  return outcome
}

test('a source whose log stays shorter than what was acked has lost its tail', async t => {
  const scene = lab(4)
  scene.broker.loseTail(2)
  t.is(await scene.fill(), 'filled')
  t.regex((await fillFor(5_750, scene))!, /does not let the lane read/)
  t.deepEqual(scene.lost, [])
  await fillFor(500, scene)
  t.deepEqual(scene.lost.sort(), ['2 source', '3 source'])
  t.is(scene.queue.count, 2)
})

test('a source whose log was short for a moment has lost nothing', async t => {
  const scene = lab(4)
  const { broker } = scene
  const kept = [...broker.log]
  broker.loseTail(2)
  await fillFor(5_500, scene)
  broker.log = kept
  broker.logEnd += 400
  // Found in the log, though the queue does not have it.
  t.is(await scene.fill(), 'filled')
  t.deepEqual(scene.bodies(), ['body 0', 'body 1', 'body 2', 'body 3'])
  t.deepEqual(scene.lost, [])
})

test('a source that lost its tail and went on has others at the same places: lost at once', async t => {
  const scene = lab(4)
  scene.broker.loseTail(2)
  for (const text of ['x', 'y', 'z']) scene.broker.store('orders', 0, { body: Buffer.from(text) })
  t.is(await scene.fill(), 'filled')
  t.is(await scene.fill(), 'filled')
  t.deepEqual(scene.lost.sort(), ['2 source', '3 source'])
})

test('a topic that was deleted, or made anew, is read from the log', async t => {
  for (const queues of [undefined, 0, 1]) {
    const scene = lab(3)
    if (queues === undefined) scene.broker.topics.delete('orders')
    else scene.broker.makeTopic('orders', queues)
    if (queues === 1) scene.broker.store('orders', 0, { body: Buffer.from('stranger') })
    await fillFor(2_000, scene)
    t.deepEqual(scene.bodies(), ['body 0', 'body 1', 'body 2'], `with ${queues} queues`)
    t.deepEqual(scene.lost, [])
  }
})

test('a hole in the queue is read from the log; where that has none either, twice in 5 s, it is lost', async t => {
  const scene = lab(4)
  const { broker } = scene
  const { messages } = broker.queue('orders', 0)
  messages.splice(1, 2)
  broker.log.splice(2, 1)
  t.is(await scene.fill(), 'filled')
  t.is(await scene.fill(), 'filled')
  t.deepEqual(scene.bodies(), ['body 0', 'body 1', undefined, 'body 3'])
  await fillFor(4_750, scene)
  t.deepEqual(scene.lost, [])
  // What was stored before the first look cannot all be read yet.
  broker.dispatchBehind = 1_000
  await fillFor(2_000, scene)
  t.deepEqual(scene.lost, [])
  broker.dispatchBehind = 0
  await fillFor(500, scene)
  t.deepEqual(scene.lost.sort(), ['2 source'])
})

test('a hole is lost as well where the source loses more behind it, and never comes to that end again', async t => {
  const scene = lab(4)
  const { broker } = scene
  broker.queue('orders', 0).messages.splice(1, 1)
  broker.log.splice(1, 1)
  t.is(await scene.fill(), 'filled')
  await fillFor(1_000, scene)
  broker.loseTail(1)
  await fillFor(4_500, scene)
  t.deepEqual(scene.lost, [])
  await fillFor(2_000, scene)
  t.true(scene.lost.includes('1 source'))
})

test('a hole whose ack did not say where in the log it is, is lost when the queue passes over it for 5 s', async t => {
  const scene = lab(1, 0)
  scene.broker.loseTail(1)
  scene.broker.queue('orders', 0).minOffset = 0
  scene.broker.queue('orders', 0).messages = []
  scene.acked(placeAt(0, { commitLogOffset: -1 }))
  for (let offset = 0; offset < 2; offset++) scene.broker.store('orders', 0, {})
  scene.broker.queue('orders', 0).messages.shift()
  await fillFor(4_750, scene)
  t.deepEqual(scene.lost, [])
  await fillFor(1_000, scene)
  t.deepEqual(scene.lost.sort(), ['0 source'])
})

test('while memory is full what stands in its queue, and whose ack did not say where in the log, is not lost with the head', async t => {
  const scene = lab(6, 0, 10)
  // Who has the memory is another lane.
  scene.memory.keepAnyway(bodyWith('elsewhere'))
  const { messages } = scene.broker.queue('orders', 0)
  for (let offset = 0; offset < 6; offset++) scene.acked(placeAt(offset, { commitLogOffset: -1 }))
  messages[0] = { ...messages[0]!, properties: propertiesWith('ANOTHER') }
  await fillFor(6_000, scene)
  t.deepEqual(scene.lost, ['0 source'])
  t.is(scene.textAt(0), 'body 1')
})

test('what its queue was not asked for, and whose ack did not say where in the log, is not lost with what was', async t => {
  const scene = lab(500, 0)
  // Further apart than an answer reaches, and more than are read at a time.
  const offsets = Array.from({ length: 12 }, (_, index) => index * 40)
  for (const offset of offsets) scene.acked(placeAt(offset, { commitLogOffset: -1 }))
  const queue = scene.broker.queue('orders', 0)
  queue.messages = queue.messages.filter(({ queueOffset }) => queueOffset >= 320 || queueOffset % 40 !== 0)
  await fillFor(6_000, scene)
  t.deepEqual(
    scene.lost.toReversed(),
    offsets.slice(0, 8).map(offset => `${offset} source`),
  )
  t.deepEqual(scene.bodies(), ['body 320', 'body 360', 'body 400', 'body 440'])
})

test('a wall clock that is set forward between two looks proves nothing', async t => {
  const scene = lab(2, 0)
  const { broker, environment } = scene
  const { messages } = broker.queue('orders', 0)
  scene.acked(placeAt(0, { commitLogOffset: -1 }))
  scene.acked(placeAt(5))
  messages[0] = { ...messages[0]!, properties: propertiesWith('ANOTHER') }
  for (let look = 0; look < 4; look++) {
    await fillFor(500, scene)
    environment.clock.set(3_600_000)
  }
  t.deepEqual(scene.lost, [])
  environment.clock.set(-4 * 3_600_000)
  await fillFor(4_000, scene)
  t.deepEqual(scene.lost.sort(), ['0 source', '5 source'])
})

test('where the index still names what the log has no more, it is expired', async t => {
  const scene = lab(4)
  scene.broker.loseHead(400)
  t.is(await scene.fill(), 'filled')
  t.deepEqual(scene.lost.sort(), ['0 expired', '1 expired'])
  t.deepEqual(scene.bodies(), ['body 2', 'body 3'])
})

test('where the state of the log is refused nothing is lost, and what the log gives is taken', async t => {
  const scene = lab(3)
  scene.broker.queue('orders', 0).messages.splice(0, 2)
  scene.broker.log.splice(1, 1)
  scene.broker.intercept = request => {
    if (request.head.code !== 28) return false
    request.answer({ code: 16, remark: 'not for you' })
    return true
  }
  t.is(await scene.fill(), 'filled')
  t.is(await scene.fill(), 'filled')
  t.deepEqual(scene.bodies(), ['body 0', undefined, 'body 2'])
  t.regex((await fillFor(20_000, scene))!, /the state of the broker was refused with code 16: not for you/)
  t.deepEqual(scene.lost, [])
})

test('a source that refuses or breaks off is waited for, and asked again', async t => {
  const { broker, fill, lost, bodies } = lab(2)
  broker.intercept = request => {
    request.answer({ code: 16, remark: 'not readable' })
    return true
  }
  t.regex((await fill())!, /reading orders queue 0 was refused with code 16: not readable/)
  broker.intercept = request => {
    request.breakOff()
    return true
  }
  t.regex((await fill())!, /connection reset/)
  t.deepEqual(lost, [])
  broker.intercept = () => false
  t.is(await fill(), 'filled')
  t.deepEqual(bodies(), ['body 0', 'body 1'])
})

test('while memory is full only what the head needs is read and kept', async t => {
  const { broker, memory, queue, fill, bodies, textAt } = lab(200, 200, 100)
  memory.keepAnyway(bodyWith('x'.repeat(200)))
  t.is(await fill(), 'filled')
  t.is(broker.pulls, 1)
  t.is(bodies().filter(body => body !== undefined).length, 1)
  t.is(await fill(), undefined)
  queue.done(0)
  t.is(await fill(), 'filled')
  t.is(textAt(0), 'body 1')
})

test('no more than so many questions are asked of the source at a time', async t => {
  const { environment, filler, broker } = lab(2_000, 2_000, 1_000_000, 3)
  const held: FakeRequest[] = []
  broker.intercept = request => {
    held.push(request)
    return true
  }
  const round = filler.fill()
  await environment.settled()
  t.is(held.length, 3)
  broker.intercept = () => false
  for (const request of held) broker.serve(request)
  await environment.settled()
  await round
  t.is(broker.pulls, 8)
})

test('who asks while a round is under way gets that round', async t => {
  const { environment, filler, broker } = lab(3)
  const first = filler.fill()
  t.is(filler.fill(), first)
  await environment.settled()
  await first
  t.is(broker.pulls, 1)
  t.is(filler.fill(), undefined)
})

test('a place that is done while its round is under way stays done', async t => {
  const { environment, filler, queue, account } = lab(3)
  const round = filler.fill()
  queue.done(1)
  account.replicated(false)
  await environment.settled()
  await round
  t.true(queue.isDone(1))
  t.is(queue.body(1), undefined)
  t.deepEqual([account.queued, account.inGap], [2, 0])
})

test('the same offset in two epochs is each its own message', async t => {
  const { broker, queue, acked, fill, lost } = lab(1)
  acked(placeAt(0, { epoch: 2, hash: hashOf(Buffer.from('LATER'), []) }))
  broker.queue('orders', 0).messages[0]!.properties = encodeProperties([['UNIQ_KEY', 'LATER']])
  t.is(await fill(), 'filled')
  t.is(await fill(), 'filled')
  t.deepEqual(lost, ['0 source'])
  t.is(queue.span, 1)
  t.is(propertiesOf(queue.body(0)!).toString(), 'UNIQ_KEY\u0001LATER\u0002')
})
