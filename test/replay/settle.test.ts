// What of ours stands in a remote queue.

import test from 'ava'
import {
  bindOf,
  encodeMember,
  encodeProperties,
  encodeStamp,
  memberBytes,
  type OriginStamp,
  SysFlag,
} from '../../codec/index.ts'
import { Cluster } from '../../replay/cluster.ts'
import { Fold, type Foldable } from '../../replay/folded-places.ts'
import type { KnownEnd } from '../../replay/known-ends.ts'
import { hashOf, PlaceFlag } from '../../replay/place.ts'
import { arrived, newestThatStands, placeKey, proofOf, stampOf, traceKey } from '../../replay/settle.ts'
import { StoppedError } from '../../replay/stopped-error.ts'
import { FakeEnvironment } from '../support/fake-environment.ts'
import { FakeCluster } from './fake-cluster.ts'
import { storedAt } from './sample.ts'

const ORIGIN = { gateway: 'gw', broker: 'paris-a', queueId: 3 }
const stamp = (queueOffset: number, more: Partial<OriginStamp> = {}): OriginStamp => ({
  ...{ ...ORIGIN, group: 'tee', path: ['paris'], epoch: 'e1', queueOffset, topic: '', bornTimestamp: 5, bind: 'KEY' },
  ...more,
})
const stamped = (of: OriginStamp, key = 'KEY') =>
  encodeProperties([
    ['UNIQ_KEY', key],
    ['TEE_ORIGIN', encodeStamp(of)],
  ])

function lab() {
  const environment = new FakeEnvironment()
  const remote = new FakeCluster('rome')
  remote.makeTopic('orders', 1)
  remote.connect(environment.network)
  const { broker } = remote
  const cluster = new Cluster(environment, [remote.nameServer])
  const read = async (from: number, isStopped = () => false) => {
    let ended = false
    const reading = arrived(cluster, broker.address, 'orders', 0, from, ORIGIN, isStopped)
    reading
      .catch(() => {})
      .finally(() => {
        ended = true
      })
    await environment.until('it is read', () => ended)
    return reading
  }
  const done = async <T>(promise: Promise<T>) => {
    promise.catch(() => {})
    await environment.settled()
    return promise
  }
  const stands = async (ends: KnownEnd[]) =>
    (await done(newestThatStands(cluster, broker.address, 'orders', 0, ends, ORIGIN))).stands
  const proof = (place: Foldable) => done(proofOf(cluster, broker.address, 'orders', 0, new Fold(place, place)))
  const store = (properties: Buffer) => broker.store('orders', 0, { properties })
  return { environment, broker, read, store, stands, proof }
}

test('the set of our stamps from a known end on, in whatever order they stand, and the end', async t => {
  const { read, store } = lab()
  for (const offset of [0, 1, 2]) store(stamped(stamp(offset)))
  for (const offset of [7, 5, 6]) store(stamped(stamp(offset)))
  store(stamped(stamp(5, { epoch: 'e2' })))
  const { places, end } = await read(3)
  t.deepEqual([...places.keys()], [placeKey('e1', 7), placeKey('e1', 5), placeKey('e1', 6), placeKey('e2', 5)])
  t.is(end, 7)
})

test('stamps of another gateway, broker or queue are not ours, nor is what has none', async t => {
  const { read, store } = lab()
  store(stamped(stamp(1, { gateway: 'gw2' })))
  store(stamped(stamp(2, { broker: 'paris-b' })))
  store(stamped(stamp(3, { queueId: 0 })))
  store(Buffer.alloc(0))
  store(stamped(stamp(4)))
  const { places, end } = await read(0)
  t.deepEqual([...places.keys()], [placeKey('e1', 4)])
  t.is(end, 5)
})

test('a stamp that does not fit its message is none: it was copied', async t => {
  const { read, store } = lab()
  store(stamped(stamp(1), 'ANOTHER'))
  t.is((await read(0)).places.size, 0)
  t.is(stampOf(storedAt(0, { properties: stamped(stamp(1), 'ANOTHER') })), undefined)
  t.is(stampOf(storedAt(0, { properties: stamped(stamp(1)) }))?.queueOffset, 1)
})

test('what the broker tore as it died is told, and is not ours, however much of its stamp is there', async t => {
  const { read, store } = lab()
  store(stamped(stamp(1)))
  const whole = stamped(stamp(2))
  for (const left of [0, whole.length - 1])
    store(Buffer.concat([whole.subarray(0, left), Buffer.alloc(whole.length - left)]))
  // What stood behind the stamp may have been the message's own.
  store(Buffer.concat([whole, Buffer.from([2, 0, 0])]))
  const { places, torn } = await read(0)
  t.deepEqual([...places.keys()], [placeKey('e1', 1)])
  t.deepEqual(torn, [1, 2, 3])
})

test('all is read where more stands than one answer holds, also where the beginning has expired', async t => {
  const { broker, read, store } = lab()
  for (let offset = 0; offset < 200; offset++) store(stamped(stamp(offset)))
  t.is((await read(0)).places.size, 200)
  broker.expire('orders', 0, 90)
  const { places, end } = await read(0)
  t.is(places.size, 110)
  t.is(end, 200)
})

test('an empty queue has nothing, and its end does not go back', async t => {
  const { broker, read } = lab()
  t.deepEqual(await read(0), { places: new Map(), unstamped: new Map(), torn: [], newest: undefined, end: 0 })
  broker.expire('orders', 0, 50)
  t.is((await read(0)).end, 50)
  t.is((await read(60)).end, 60)
})

test('it is read to where the queue ended when the reading began: others write there, too', async t => {
  const { broker, read, store } = lab()
  for (let offset = 0; offset < 40; offset++) store(stamped(stamp(offset)))
  broker.intercept = () => {
    store(stamped(stamp(broker.queue('orders', 0).messages.length)))
    return false
  }
  t.deepEqual((await read(0)).places.size, 42)
})

test('a stamp that is bound to the payload fits, also where the broker gave its message a key', t => {
  const body = Buffer.from('a body')
  const bind = bindOf(undefined, [body])
  t.is(stampOf(storedAt(0, { body, properties: stamped(stamp(1, { bind }), 'GIVEN') }))?.queueOffset, 1)
  t.is(stampOf(storedAt(0, { properties: stamped(stamp(1, { bind }), 'GIVEN') })), undefined)
})

test('stamps are found within a batch that the topic keeps whole', async t => {
  const { broker, read } = lab()
  const members = [4, 5, 6].map(offset => stamped(stamp(offset)))
  const body = Buffer.alloc(members.reduce((sum, properties) => sum + memberBytes(0, properties.length), 0))
  let at = 0
  for (const properties of members) at = encodeMember(body, at, 0, [], 0, properties)
  broker.store('orders', 0, { body, sysFlag: SysFlag.INNER_BATCH | SysFlag.NEED_UNWRAP })
  t.deepEqual([...(await read(0)).places.keys()], [placeKey('e1', 4), placeKey('e1', 5), placeKey('e1', 6)])
})

test('reading ends where the gateway stops', async t => {
  const { read, store } = lab()
  for (let offset = 0; offset < 200; offset++) store(stamped(stamp(offset)))
  let asked = 0
  await t.throwsAsync(
    read(0, () => ++asked > 2),
    { instanceOf: StoppedError },
  )
})

const endAt = (remoteOffset: number, queueOffset: number, more: Partial<KnownEnd> = {}): KnownEnd => ({
  ...{ remoteOffset, epochId: 'e1', queueOffset, trace: '', at: 0 },
  ...more,
})

test('the newest known end that stands: by its stamp at its offset', async t => {
  const { broker, store, stands } = lab()
  for (let offset = 0; offset < 10; offset++) store(stamped(stamp(offset + 100)))
  const ends = [2, 5, 8].map(offset => endAt(offset, offset + 100))
  t.is(await stands([]), -1)
  t.is(await stands(ends), 2)
  t.is(broker.pulls, 1, 'where the newest stands all do')
  broker.loseTailOf('orders', 0, 2)
  t.is(await stands(ends), 1)
  broker.loseTailOf('orders', 0, 3)
  for (let offset = 5; offset < 10; offset++) store(stamped(stamp(offset + 200)))
  t.is(await stands(ends), 0)
  t.is(await stands(ends.map(end => ({ ...end, epochId: 'e2' }))), -1)
})

test('one that has expired, or is about to, stands', async t => {
  const { broker, store, stands } = lab()
  for (let offset = 0; offset < 10; offset++) store(stamped(stamp(offset)))
  broker.expire('orders', 0, 9)
  t.is(await stands([endAt(3, 3), endAt(8, 8)]), 1)
  broker.intercept = request => {
    request.answer({
      code: 20,
      ext: [
        ['nextBeginOffset', 9],
        ['minOffset', 0],
        ['maxOffset', 10],
      ],
    })
    return true
  }
  t.is(await stands([endAt(9, 9)]), 0)
})

test('an end without a stamp stands by its timestamp and hash, where there was no room for one', async t => {
  const { broker, stands } = lab()
  const properties = encodeProperties([
    ['UNIQ_KEY', 'KEY'],
    ['long', 'x'.repeat(32_300)],
  ])
  const body = Buffer.from('text')
  broker.store('orders', 0, { bornTimestamp: 5, body, properties })
  const trace = (bornTimestamp: number) => traceKey(bornTimestamp, hashOf(Buffer.from('KEY'), []))
  t.is(await stands([endAt(0, 7, { trace: trace(5) })]), 0)
  t.is(await stands([endAt(0, 7, { trace: trace(6) })]), -1)
})

test('a fold is proven by its proof: it fits, has expired, or is another', async t => {
  const { broker, proof } = lab()
  for (let offset = 0; offset < 5; offset++)
    broker.store('orders', 0, { bornTimestamp: offset, properties: encodeProperties([['UNIQ_KEY', `K${offset}`]]) })
  const place = (queueOffset: number, key = `K${queueOffset}`) => ({
    ...{ epoch: 1, queueOffset, bornTimestamp: queueOffset, hash: hashOf(Buffer.from(key), []), placeFlags: 0 },
  })
  t.is(await proof(place(3)), 'fits')
  t.is(await proof(place(3, 'another')), 'source')
  t.is(await proof({ ...place(3), placeFlags: PlaceFlag.PAYLOAD_HASH }), 'source')
  t.is(await proof(place(5)), undefined)
  broker.expire('orders', 0, 4)
  t.is(await proof(place(3)), 'expired')
})
