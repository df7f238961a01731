// What goes to the remote: the stamp on a message, which messages share a batch, and the request itself.

import test from 'ava'
import {
  decodeBatch,
  decodeHeader,
  decodeProperties,
  decodeStamp,
  encodeProperties,
  encodeStamp,
  findProperty,
  frameOf,
  type OriginStamp,
  PROPERTIES_BYTES_MAX,
  RequestCode,
  readSendRequest,
  SysFlag,
} from '../../codec/index.ts'
import {
  BATCH_BYTES_MAX,
  BATCH_MESSAGES_MAX,
  bytesInBatch,
  encodeRequest,
  fits,
  type Outgoing,
  type Stamper,
  stamp,
} from '../../replay/batcher.ts'
import { propertiesOf } from '../../replay/body.ts'
import { Message } from '../../replay/message.ts'
import { PlaceFlag } from '../../replay/place.ts'
import { BORN, bodyWith, placeAt, propertiesWith } from './sample.ts'

const stamper: Stamper = {
  group: 'tee',
  gateway: 'gw',
  sourceCluster: 'paris',
  broker: 'paris-a',
  queueId: 2,
  epochId: epoch => `epoch${epoch}`,
}

function outgoing(text: string, place: Parameters<typeof placeAt>[1] = {}, body = bodyWith(text)): Outgoing {
  return stamp(stamper, { ...placeAt(9, place), epoch: 3 }, body)
}

/** The properties that it goes with. */
function sent(message: Outgoing): Buffer {
  const { head } = frameOf(encodeRequest([message], 'orders', 0, 'g', 1))
  return readSendRequest(head).properties
}

function stampIn(properties: Buffer): OriginStamp {
  return decodeStamp(findProperty(properties, 'TEE_ORIGIN')!)!
}

const earlier: OriginStamp = {
  group: 'other',
  path: ['oslo', 'rome'],
  gateway: 'gw-0',
  broker: 'rome-a',
  epoch: 'e',
  queueId: 0,
  queueOffset: 1,
  topic: '',
  bornTimestamp: 5,
  bind: 'KEY',
}

test('a stamp says where the message comes from, and stands behind its own properties', t => {
  const message = outgoing('KEY')
  const properties = sent(message)
  t.is(message.propertiesBytes, properties.length)
  t.deepEqual(stampIn(properties), {
    group: 'tee',
    path: ['paris'],
    gateway: 'gw',
    broker: 'paris-a',
    epoch: 'epoch3',
    queueId: 2,
    queueOffset: 9,
    topic: '',
    bornTimestamp: BORN,
    bind: 'KEY',
  })
  const own = propertiesWith('KEY')
  t.deepEqual(properties.subarray(0, own.length), own)
})

test('a message without a key is bound by its payload', t => {
  const body = new Message(0, 0, Buffer.alloc(0), Buffer.from('1234'))
  body.payloadRest = [Buffer.from('56789')]
  t.is(stampIn(sent(outgoing('', {}, body))).bind, 'crc32:cbf43926')
})

test('a stamp that fits is taken the place of, and its path goes on', t => {
  const carried = (old: OriginStamp) =>
    outgoing(
      'x',
      {},
      bodyWith(
        'x',
        encodeProperties([
          ['TEE_ORIGIN', encodeStamp(old)],
          ['UNIQ_KEY', 'KEY'],
        ]),
      ),
    )
  const message = carried(earlier)
  t.deepEqual(message.been, ['oslo', 'rome'])
  t.deepEqual(stampIn(sent(message)).path, ['oslo', 'rome', 'paris'])
  t.is(sent(message).toString().split('TEE_ORIGIN').length, 2)
  t.is(findProperty(sent(message), 'UNIQ_KEY'), 'KEY')
  t.deepEqual(stampIn(sent(carried({ ...earlier, path: ['paris', 'rome'] }))).path, ['paris', 'rome'])
})

test('a stamp that was copied from another message says nothing, and goes', t => {
  const copied = encodeProperties([
    ['UNIQ_KEY', 'ANOTHER'],
    ['TEE_ORIGIN', encodeStamp(earlier)],
  ])
  const message = outgoing('x', {}, bodyWith('x', copied))
  t.deepEqual(message.been, [])
  const properties = sent(message)
  t.deepEqual(stampIn(properties).path, ['paris'])
  t.is(properties.toString().split('TEE_ORIGIN').length, 2)
})

test('where a stamp has no room beside what a broker may add, the message goes without', t => {
  const room = (bytes: number) =>
    outgoing(
      'x',
      {},
      bodyWith(
        'x',
        encodeProperties([
          ['UNIQ_KEY', 'KEY'],
          ['long', 'x'.repeat(bytes)],
        ]),
      ),
    )
  const most = PROPERTIES_BYTES_MAX - 512 - room(0).propertiesBytes
  t.not(room(most).stamp, '')
  const without = room(most + 1)
  t.is(without.stamp, '')
  t.is(findProperty(sent(without), 'TEE_ORIGIN'), undefined)
  t.is(findProperty(sent(without), 'UNIQ_KEY'), 'KEY')
})

test('messages share a batch where flags are equal, born timestamps near, and room is left', t => {
  const first = outgoing('a')
  const next = (place: Parameters<typeof placeAt>[1], sysFlag = 0) =>
    outgoing('b', place, bodyWith('b', undefined, sysFlag))
  t.true(fits(first, next({}), 1, 100, 0))
  t.true(fits(first, next({ bornTimestamp: BORN + 50 }), 1, 100, 50))
  t.true(fits(first, next({ bornTimestamp: BORN - 50 }), 1, 100, 50))
  t.false(fits(first, next({ bornTimestamp: BORN + 51 }), 1, 100, 50))
  t.false(fits(first, next({ bornTimestamp: BORN - 51 }), 1, 100, 50))
  t.false(fits(first, next({}, 1), 1, 100, 50))
  t.true(fits(first, next({}), BATCH_MESSAGES_MAX - 1, 100, 50))
  t.false(fits(first, next({}), BATCH_MESSAGES_MAX, 100, 50))
  const one = next({})
  t.true(fits(first, one, 1, BATCH_BYTES_MAX - bytesInBatch(one), 50))
  t.false(fits(first, one, 1, BATCH_BYTES_MAX - bytesInBatch(one) + 1, 50))
  t.false(fits(first, { ...one, stamp: '' }, 1, 100, 50))
  t.false(fits({ ...first, stamp: '' }, one, 1, 100, 50))
})

test('one message goes as a send with its own flag, timestamp and properties, its payload in any parts', t => {
  const body = new Message(-7, 0x301, propertiesWith('KEY'), Buffer.from('in '))
  body.payloadRest = [Buffer.alloc(0), Buffer.from('parts')]
  const message = outgoing('', {}, body)
  const { head, body: payload } = frameOf(encodeRequest([message], 'orders', 5, 'TEE_gw', 77))
  t.is(head.code, RequestCode.SEND_MESSAGE_V2)
  t.is(head.opaque, 77)
  const { topic, queueId, sysFlag, flag, bornTimestamp, batch, properties } = readSendRequest(head)
  t.deepEqual([topic, queueId, sysFlag, flag, bornTimestamp, batch], ['orders', 5, 0x301, -7, BORN, false])
  t.is(findProperty(properties, 'UNIQ_KEY'), 'KEY')
  t.is(findProperty(properties, 'TEE_ORIGIN'), message.stamp)
  t.is(payload.toString(), 'in parts')
  t.is(decodeHeader(head).ext.get('a'), 'TEE_gw')
})

test('several go as a batch, each with its own flag and properties', t => {
  const messages = ['a', 'b', 'c'].map((text, index) =>
    outgoing(text, { queueOffset: index }, bodyWith(text, propertiesWith(text), 1, index)),
  )
  const { head, body } = frameOf(encodeRequest(messages, 'orders', 5, 'TEE_gw', 1))
  t.is(head.code, RequestCode.SEND_BATCH_MESSAGE)
  const { batch, properties, sysFlag } = readSendRequest(head)
  t.deepEqual([batch, properties.length, sysFlag], [true, 0, 1])
  t.deepEqual(
    decodeBatch(body).map(member => [member.body.toString(), member.flag, member.properties]),
    messages.map((message, index) => ['abc'[index], index, sent(message)]),
  )
  t.is(
    body.length,
    messages.reduce((sum, message) => sum + bytesInBatch(message), 0),
  )
})

test('what came in a batch goes in one, if alone; but not where it has no stamp', t => {
  const member = outgoing('a', { placeFlags: PlaceFlag.BATCH_MEMBER })
  t.true(readSendRequest(frameOf(encodeRequest([member], 'orders', 0, 'g', 1)).head).batch)
  const unstamped = { ...member, stamp: '', propertiesBytes: propertiesOf(member.body).length }
  const { head, body } = frameOf(encodeRequest([unstamped], 'orders', 0, 'g', 1))
  t.is(head.code, RequestCode.SEND_MESSAGE_V2)
  t.is(body.toString(), 'a')
  t.deepEqual([...decodeProperties(readSendRequest(head).properties)], [['UNIQ_KEY', 'a']])
})

test('no broker is told of hosts of the sixth version: they are not in the request', t => {
  const hosts = SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6
  const message = outgoing('a', {}, bodyWith('a', undefined, hosts | 1))
  t.is(readSendRequest(frameOf(encodeRequest([message], 'orders', 0, 'g', 1)).head).sysFlag, 1)
})
