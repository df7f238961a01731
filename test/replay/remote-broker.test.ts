// A remote broker's link for sends: what has to be known before it carries anything, and when it is ended.

import test from 'ava'
import { decodeHeader, encodeSendHead, RequestCode } from '../../codec/index.ts'
import { LinkError } from '../../replay/link.ts'
import { MARKER_TOPIC } from '../../replay/marker.ts'
import { RemoteBroker, type RemoteBrokerOptions, type Settled } from '../../replay/remote-broker.ts'
import { StoppedError } from '../../replay/stopped-error.ts'
import { FakeEnvironment, type FakeRequest } from '../support/fake-environment.ts'
import { FakeCluster, type FakeSend } from './fake-cluster.ts'

type Options = Partial<RemoteBrokerOptions>

class Lab {
  readonly environment = new FakeEnvironment()
  readonly cluster = new FakeCluster('rome')
  readonly broker = this.cluster.broker
  /** Groups as they are on the disk. */
  readonly groups: string[] = []
  readonly remote: RemoteBroker
  /** Codes of the requests that came, and the topic of sends. */
  readonly came: string[] = []
  settlings = 0

  /** Where the broker's name stands, for who asks. */
  stands = this.broker.address

  constructor(options: Options = {}) {
    const { environment, cluster, broker } = this
    cluster.makeTopic('orders', 1)
    cluster.connect(environment.network)
    broker.intercept = request => {
      this.saw(request)
      return false
    }
    this.groups.push(...(options.earlier?.groups ?? []))
    this.remote = new RemoteBroker(environment, {
      name: 'rome-a',
      gatewayId: 'gw',
      topicSync: 'create',
      earlier: undefined,
      rememberGroup: async group => {
        if (!this.groups.includes(group)) this.groups.push(group)
      },
      forgetGroup: group => void this.groups.splice(this.groups.indexOf(group), 1),
      address: async () => this.stands,
      settledAnew: () => void this.settlings++,
      ...options,
    })
  }

  saw({ head }: FakeRequest): void {
    const topic = decodeHeader(head).ext.get('b')
    this.came.push(topic === undefined ? `${head.code}` : topic === MARKER_TOPIC ? 'marker' : 'send')
  }

  /** Settles; how long it took. */
  async ready(address = this.broker.address): Promise<{ settled: Settled; ms: number }> {
    const before = this.environment.clock.now()
    const settled = await this.end(this.remote.ready(address))
    return { settled, ms: this.environment.clock.now() - before }
  }

  async end<T>(promise: Promise<T>): Promise<T> {
    let ended = false
    promise
      .catch(() => {})
      .finally(() => {
        ended = true
      })
    await this.environment.until('it has come to an end', () => ended)
    return promise
  }

  /** Sends a message; the answer's code, or what became of it. */
  /** As a lane does: when there is room. */
  async send(settled: Settled, bytes = 10): Promise<string> {
    while (!this.remote.hasRoom(settled)) await this.remote.roomChange()
    const body = Buffer.alloc(bytes)
    const message = { topic: 'orders', queueId: 0, sysFlag: 0, bornTimestamp: 1, flag: 0, batch: false }
    try {
      const { head } = await this.remote.send(settled, (opaque, producerGroup) =>
        Buffer.concat([
          encodeSendHead({ ...message, opaque, producerGroup, properties: Buffer.alloc(0) }, body.length),
          body,
        ]),
      )
      return `code ${head.code}`
    } catch (error) {
      return (error as LinkError).unclear ? 'unclear' : 'unsent'
    }
  }

  /** Was settled, and a send was answered. */
  static async used(options: Options = {}): Promise<Lab> {
    const lab = new Lab(options)
    const { settled } = await lab.ready()
    lab.cluster.makeTopic('orders', 1)
    const sent = lab.send(settled)
    if ((await lab.end(sent)) !== 'code 0') throw new Error('the first send was not stored')
    lab.came.length = 0
    return lab
  }

  /** The link ends; what comes is forgotten. */
  async cut(ms = 0): Promise<void> {
    const { environment, cluster } = this
    cluster.disconnect(environment.network)
    await environment.pass(ms)
    cluster.connect(environment.network)
    this.came.length = 0
  }

  hold(): FakeSend[] {
    const held: FakeSend[] = []
    this.broker.onSend = send => void held.push(send)
    return held
  }
}

test('where nothing was ever sent only a heart-beat goes before the first send', async t => {
  const lab = new Lab()
  const { ms } = await lab.ready()
  t.is(ms, 0)
  t.deepEqual(lab.came, ['34'])
  t.is(lab.groups.length, 1)
  t.regex(lab.groups[0]!, /^TEE_gw_/)
  lab.remote.end()
  await lab.environment.settled()
  t.is(lab.environment.clock.timers, 0)
})

test("a link's group is durable before it connects", async t => {
  let durable = () => {}
  const lab = new Lab({ rememberGroup: () => new Promise(resolve => (durable = resolve)) })
  const ready = lab.remote.ready(lab.broker.address)
  await lab.environment.pass(10_000)
  t.is(lab.environment.network.connections(lab.broker.address), 0)
  durable()
  t.is((await lab.end(ready)).number, 1)
})

test('a link that never came up leaves its group to the next; one that carried nothing leaves none', async t => {
  const lab = new Lab()
  lab.cluster.disconnect(lab.environment.network)
  for (let tries = 0; tries < 3; tries++) await t.throwsAsync(lab.ready(), { instanceOf: LinkError })
  t.is(lab.groups.length, 1)
  const [group] = lab.groups
  lab.cluster.connect(lab.environment.network)
  await lab.ready()
  t.deepEqual(lab.groups, [group!])
  await lab.cut()
  await lab.ready()
  t.is(lab.groups.length, 1)
  t.not(lab.groups[0], group)
})

test('after a link ended: the old one is gone, what it brought is executed, what is stored is readable', async t => {
  const lab = await Lab.used()
  const [old] = lab.groups
  await lab.cut()
  lab.broker.lingering.add(old!)
  const { environment } = lab
  const ready = lab.remote.ready(lab.broker.address)
  await environment.pass(5_000)
  t.is(lab.came[0], '34')
  t.true(lab.came.length > 4)
  t.deepEqual([...new Set(lab.came.slice(1))], ['204'])
  t.is(lab.groups.length, 2)

  lab.broker.lingering.clear()
  lab.came.length = 0
  lab.broker.dispatchBehind = 10
  const before = environment.clock.now()
  t.is((await lab.end(ready)).number, 2)
  t.is(lab.came[0], '204')
  t.deepEqual(
    lab.came.filter((code, at) => code !== lab.came[at - 1]),
    ['204', '26', 'marker', '17', 'marker', '11'],
  )
  t.is(lab.came.filter(code => code === '11').length, 11)
  const took = environment.clock.now() - before
  t.true(took >= 1_000 + 10 * 20 && took < 3_000, `${took} ms`)
  t.false(lab.groups.includes(old!))
  t.is(lab.groups.length, 1)
  t.is(lab.settlings, 2)
})

test('groups of earlier processes are asked for at a start, and forgotten when they are gone', async t => {
  const lab = new Lab({ earlier: { groups: ['TEE_gw_1', 'TEE_gw_2'], lastAnswerAt: 0 } })
  lab.broker.lingering.add('TEE_gw_2')
  const ready = lab.remote.ready(lab.broker.address)
  await lab.environment.pass(2_000)
  t.false(lab.groups.includes('TEE_gw_1'))
  t.true(lab.groups.includes('TEE_gw_2'))
  lab.broker.lingering.clear()
  await lab.end(ready)
  t.is(lab.groups.length, 1)
})

test('where all groups of earlier processes are gone, what they brought is waited for all the same', async t => {
  const lab = new Lab({ earlier: { groups: [], lastAnswerAt: 0 } })
  const { ms } = await lab.ready()
  t.true(ms >= 1_000, `${ms} ms`)
  t.true(lab.came.includes('marker'))
})

test('all lanes share one settling, and each settling has a number of its own', async t => {
  const lab = await Lab.used()
  await lab.cut()
  const all = [1, 2, 3].map(() => lab.remote.ready(lab.broker.address))
  const settled = await lab.end(Promise.all(all))
  t.deepEqual(
    settled.map(({ number }) => number),
    [2, 2, 2],
  )
  t.is(lab.came.filter(code => code === '34').length, 1)
  t.is((await lab.ready()).settled, settled[0]!)
})

test('a connection that ends while the broker is settled begins it again', async t => {
  const lab = await Lab.used()
  const [old] = lab.groups
  await lab.cut()
  let breaks = 2
  lab.broker.onMarker = send => {
    if (breaks-- > 0) return send.request.breakOff()
    send.answerStored(send.store())
  }
  for (let tries = 0; tries < 2; tries++) {
    await t.throwsAsync(lab.ready(), { instanceOf: LinkError })
    t.is(lab.groups.length, 0)
    lab.came.length = 0
  }
  t.not(old, lab.groups[0])
  const { ms } = await lab.ready()
  t.true(ms >= 1_000)
  // The old link was proven gone at the first; the pause and the markers come again.
  t.deepEqual(lab.came, ['34', '26', 'marker', 'marker', '11'])
})

for (const [title, outage, least, most] of [
  ['as long as the outage lasted', 7_000, 8_000, 12_000],
  ['at most 120 s', 500_000, 121_000, 130_000],
] as const)
  test(`where the broker does not list producers it is waited ${title}`, async t => {
    const lab = await Lab.used()
    await lab.cut(outage)
    lab.broker.intercept = request => {
      if (request.head.code !== RequestCode.GET_PRODUCER_CONNECTION_LIST) return false
      request.answer({ code: 16, remark: 'no permission' })
      return true
    }
    const { ms } = await lab.ready()
    t.true(ms >= least && ms <= most, `${ms} ms`)
    t.is(lab.groups.length, 1)
  })

test('a wall clock that is set back does not make that shorter, while the gateway runs or before it starts', async t => {
  const lab = await Lab.used()
  await lab.cut(7_000)
  lab.environment.clock.set(-3_600_000)
  const refuses = (lab: Lab) => {
    lab.broker.intercept = request => {
      if (request.head.code !== RequestCode.GET_PRODUCER_CONNECTION_LIST) return false
      request.answer({ code: 16, remark: 'no permission' })
      return true
    }
  }
  refuses(lab)
  const { ms } = await lab.ready()
  t.true(ms >= 8_000 && ms <= 12_000, `${ms} ms`)
  const later = new Lab({ earlier: { groups: ['TEE_gw_1'], lastAnswerAt: lab.environment.clock.now() + 3_600_000 } })
  refuses(later)
  t.true((await later.ready()).ms >= 121_000)
})

test('where it is not known which links there were it is waited 120 s', async t => {
  const lab = new Lab({ earlier: { groups: undefined, lastAnswerAt: undefined } })
  const { ms } = await lab.ready()
  t.true(ms >= 121_000 && ms < 125_000, `${ms} ms`)
  await lab.cut()
  t.true((await lab.ready()).ms < 5_000)
})

for (const [title, settings, least, most] of [
  ['by its time in the queue', 'waitTimeMillsInSendQueue=1000\nbrokerFastFailureEnable=true', 5_000, 6_000],
  ['10 s without fast failure', 'waitTimeMillsInSendQueue=200\nbrokerFastFailureEnable=false', 10_000, 11_000],
  ['10 s where that is not known', '', 10_000, 11_000],
] as const)
  test(`what the broker had received is executed or dropped ${title}`, async t => {
    const lab = await Lab.used()
    await lab.cut()
    lab.broker.settings = settings
    const { ms } = await lab.ready()
    t.true(ms >= least && ms <= most, `${ms} ms`)
  })

test('a marker that is not answered within 1 s begins the pause again', async t => {
  const lab = await Lab.used()
  await lab.cut()
  let late = 3
  lab.broker.onMarker = send => {
    if (late-- <= 0) send.answerStored(send.store())
  }
  const { ms } = await lab.ready()
  t.true(ms >= 4 * 1_000 + 3 * 1_000, `${ms} ms`)
  t.is(lab.came.filter(code => code === 'marker').length, 6)
})

test('a second marker that is late begins the pause again, too', async t => {
  const lab = await Lab.used()
  await lab.cut()
  let markers = 0
  lab.broker.onMarker = send => {
    if (++markers !== 2) send.answerStored(send.store())
  }
  const { ms } = await lab.ready()
  t.true(ms >= 1_000 + 1_000 + 1_000, `${ms} ms`)
  t.is(markers, 4)
})

test('its topic has one queue, and stays as it is where it is there', async t => {
  const lab = await Lab.used()
  await lab.cut()
  await lab.ready()
  t.is(lab.broker.topics.get(MARKER_TOPIC)!.length, 1)
  await lab.cut()
  await lab.ready()
  t.false(lab.came.includes('17'))
})

for (const [title, options, refuse] of [
  ['may not be made', {}, RequestCode.UPDATE_AND_CREATE_TOPIC],
  ['is not there with topicSync=off', { topicSync: 'off' }, undefined],
] as const)
  test(`where its topic ${title} it is waited 10 s, and for the log of its time`, async t => {
    const lab = await Lab.used(options)
    await lab.cut()
    lab.broker.dispatchBehind = 5
    lab.broker.intercept = request => {
      lab.saw(request)
      if (request.head.code !== refuse) return false
      request.answer({ code: 16 })
      return true
    }
    const { ms } = await lab.ready()
    t.true(ms >= 10_000 && ms < 12_000, `${ms} ms`)
    t.true(lab.came.filter(code => code === '28').length > 4)
    t.false(lab.came.includes('11'))
  })

test('a broker that moves to another address is settled there', async t => {
  const lab = await Lab.used()
  const { environment, broker, remote } = lab
  environment.network.serve('rome:999', request => broker.serve(request))
  lab.stands = 'rome:999'
  const { settled } = await lab.ready('rome:999')
  t.is(settled.number, 2)
  t.is(environment.network.connections('rome:999'), 1)
  t.is(environment.network.connections(broker.address), 0)
  // Also where it moves back while it is being settled.
  environment.network.stop('rome:999')
  environment.network.serve('rome:999', request => broker.serve(request))
  await environment.settled()
  lab.stands = broker.address
  const gone = remote.ready('rome:999').catch((error: Error) => error)
  const there = await lab.end(remote.ready(broker.address))
  t.is(there.address, broker.address)
  t.true((await gone) instanceof LinkError)
})

test('a broker that moves while it is settled is not sent to where it was', async t => {
  const lab = await Lab.used()
  await lab.cut(30_000)
  lab.stands = 'rome:999'
  const error = await t.throwsAsync(lab.end(lab.remote.ready(lab.broker.address)))
  t.regex(error!.message, /rome-a is at rome:999 now/)
  t.is(lab.settlings, 1)
})

test('a broker that moves while no lane has anything to send is settled where it is, though the old one goes on', async t => {
  const lab = await Lab.used()
  const { environment, broker } = lab
  environment.network.serve('rome:999', request => broker.serve(request))
  lab.stands = 'rome:999'
  await environment.until('it is settled there', () => lab.settlings === 2)
  t.is(environment.network.connections('rome:999'), 1)
  t.is(environment.network.connections(broker.address), 0)
  lab.remote.end()
  await environment.settled()
  t.is(environment.clock.timers, 0)
})

test('after its link ended the broker is settled by itself: who has sent may have lost it', async t => {
  const lab = await Lab.used()
  await lab.cut(30_000)
  await lab.environment.until('it is settled', () => lab.settlings === 2)
  lab.remote.end()
  await lab.environment.settled()
  t.is(lab.environment.clock.timers, 0)
})

test('a send is refused, unsent, when the link that it was meant for has ended', async t => {
  const lab = await Lab.used()
  const { settled } = await lab.ready()
  await lab.cut()
  t.is(await lab.send(settled), 'unsent')
  const again = await lab.ready()
  t.is(await lab.send(settled), 'unsent')
  t.is(await lab.end(lab.send(again.settled)), 'code 0')
})

test('a send without answer for 10 s is lost where a cheap request is answered: the link is ended', async t => {
  const lab = await Lab.used()
  const { settled } = await lab.ready()
  const held = lab.hold()
  const outcome = lab.send(settled)
  await lab.environment.pass(9_990)
  t.is(held.length, 1)
  t.true(lab.remote.isUp)
  t.false(lab.came.includes('28'))
  await lab.environment.pass(20)
  t.true(lab.came.includes('28'))
  t.is(await outcome, 'unclear')
})

test('a late answer is only late while the broker is stalled; after 60 s the link is ended', async t => {
  for (const late of [true, false]) {
    const lab = await Lab.used()
    const { settled } = await lab.ready()
    const requests: FakeRequest[] = []
    lab.broker.intercept = request => requests.push(request) > 0
    const outcome = lab.send(settled)
    await lab.environment.pass(59_900)
    t.true(lab.remote.isUp)
    if (late) {
      lab.broker.intercept = () => false
      for (const request of requests) lab.broker.serve(request)
      await lab.environment.pass(120_000)
      t.is(await outcome, 'code 0')
      t.true(lab.remote.isUp)
    } else {
      await lab.environment.pass(200)
      t.is(await outcome, 'unclear')
      t.false(lab.remote.isUp)
    }
    lab.remote.end()
  }
})

test('on a thin link each send has its 10 s: they count when those before it are answered', async t => {
  const lab = await Lab.used()
  const { settled } = await lab.ready()
  const held = lab.hold()
  const outcomes = Array.from({ length: 6 }, () => lab.send(settled))
  for (let number = 0; number < 6; number++) {
    await lab.environment.pass(9_000)
    held[number]!.answerStored(number)
  }
  await lab.environment.settled()
  t.deepEqual(await Promise.all(outcomes), Array(6).fill('code 0'))
  t.false(lab.came.includes('28'))
})

test('so many bytes are out and no more, and none is left behind', async t => {
  const lab = await Lab.used()
  const { settled } = await lab.ready()
  const held = lab.hold()
  const outcomes = Array.from({ length: 20 }, () => lab.send(settled, 1024 * 1024))
  await lab.environment.settled()
  t.is(held.length, 8)
  held[0]!.answerStored(0)
  await lab.environment.settled()
  t.is(held.length, 9)
  for (let number = 1; number < 20; number++) {
    held[number]!.answerStored(number)
    await lab.environment.settled()
  }
  t.deepEqual(await Promise.all(outcomes), Array(20).fill('code 0'))
})

test('what waits for room is unsent when the link ends', async t => {
  const lab = await Lab.used()
  const { settled } = await lab.ready()
  lab.hold()
  const outcomes = Array.from({ length: 10 }, () => lab.send(settled, 1024 * 1024))
  await lab.environment.settled()
  await lab.cut()
  await lab.environment.settled()
  t.deepEqual(await Promise.all(outcomes), [...Array(8).fill('unclear'), 'unsent', 'unsent'])
})

test('a heart-beat goes every 30 s, but not behind a send that is not answered', async t => {
  const lab = await Lab.used()
  const { settled } = await lab.ready()
  await lab.environment.pass(95_000)
  t.is(lab.came.filter(code => code === '34').length, 3)
  const requests: FakeRequest[] = []
  lab.broker.intercept = request => requests.push(request) > 0
  const outcome = lab.send(settled)
  await lab.environment.pass(55_000)
  t.deepEqual(
    requests.filter(({ head }) => head.code === 34),
    [],
  )
  lab.broker.intercept = () => false
  for (const request of requests) lab.broker.serve(request)
  t.is(await lab.end(outcome), 'code 0')
})

test('what was stored before a call is readable after it: who comes while a marker is out waits for the next', async t => {
  const lab = await Lab.used()
  lab.broker.dispatchBehind = 5
  const first = lab.remote.readable()
  await lab.environment.settled()
  const [second, third] = [lab.remote.readable(), lab.remote.readable()]
  await lab.end(Promise.all([first, second, third]))
  t.is(lab.came.filter(code => code === 'marker').length, 3, 'the first of all found no topic')
})

test('a stop ends a settling at once, and no more is begun', async t => {
  const lab = await Lab.used()
  await lab.cut()
  lab.broker.lingering.add(lab.groups[0]!)
  const ready = lab.remote.ready(lab.broker.address)
  ready.catch(() => {})
  await lab.environment.pass(1_000)
  lab.remote.stop()
  await lab.environment.settled()
  await t.throwsAsync(ready, { instanceOf: LinkError })
  await t.throwsAsync(lab.remote.ready(lab.broker.address), { instanceOf: StoppedError })
  await lab.environment.pass(10_000)
  t.is(lab.environment.clock.timers, 0)
})

test('a refused heart-beat is said: without it nothing could be known of the link later', async t => {
  const lab = new Lab()
  lab.broker.intercept = request => {
    if (request.head.code !== RequestCode.HEART_BEAT) return false
    request.answer({ code: 16, remark: 'no permission' })
    return true
  }
  await t.throwsAsync(lab.ready(), { message: /the heart-beat at rome-a was refused with code 16: no permission/ })
  t.deepEqual(lab.groups, [])
})
