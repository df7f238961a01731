// Whether a message read back is the one that was acked, and what it was when it was sent.

import test from 'ava'
import { decodeProperties, encodeMember, encodeProperties, memberBytes, SysFlag } from '../../codec/index.ts'
import { payloadOf, propertiesOf } from '../../replay/body.ts'
import { asSent, firstValue, isTheAcked, unpacked } from '../../replay/check.ts'
import { hashOf, PlaceFlag } from '../../replay/place.ts'
import { BORN, placeAt, propertiesWith, storedAt } from './sample.ts'

const keyless = placeAt(5, { placeFlags: PlaceFlag.PAYLOAD_HASH, hash: hashOf(undefined, [Buffer.from('body 5')]) })

test('it is the acked one where offset, born timestamp and key fit', t => {
  t.true(isTheAcked(placeAt(5), storedAt(5)))
  t.true(isTheAcked(placeAt(5), storedAt(5, { body: Buffer.from('another'), commitLogOffset: 1 })))
})

test('an offset alone proves nothing', t => {
  t.false(isTheAcked(placeAt(5), storedAt(6, { properties: propertiesWith('KEY5') })))
  t.false(isTheAcked(placeAt(5), storedAt(5, { bornTimestamp: BORN + 1 })))
  t.false(isTheAcked(placeAt(5), storedAt(5, { properties: propertiesWith('KEY6') })))
  t.false(isTheAcked(placeAt(5), storedAt(5, { properties: Buffer.alloc(0) })))
})

test('a message without a key is known by its payload, also where the broker gave it a key', t => {
  t.true(isTheAcked(keyless, storedAt(5, { properties: Buffer.alloc(0) })))
  t.true(isTheAcked(keyless, storedAt(5, { properties: propertiesWith('GIVEN') })))
  t.false(isTheAcked(keyless, storedAt(5, { body: Buffer.from('body 6'), properties: Buffer.alloc(0) })))
})

test('a message whose key is its payload is not taken for one without a key', t => {
  const place = placeAt(5, { hash: hashOf(Buffer.from('body 5'), []) })
  t.false(isTheAcked(place, storedAt(5, { properties: Buffer.alloc(0) })))
})

test('of two keys the first counts: a batch puts its own behind those of its members', t => {
  const both = encodeProperties([
    ['UNIQ_KEY', 'KEY5'],
    ['UNIQ_KEY', 'BATCH'],
  ])
  t.true(isTheAcked(placeAt(5), storedAt(5, { properties: both })))
  t.is(firstValue(both, 'UNIQ_KEY')?.toString(), 'KEY5')
  t.is(firstValue(both, 'KEYS'), undefined)
})

const names = (properties: Buffer) => [...decodeProperties(properties)].map(([name, value]) => `${name}=${value}`)

test("what the broker's storage added is dropped, what the client set stays", t => {
  const properties = encodeProperties([
    ['UNIQ_KEY', 'KEY5'],
    ['TAGS', 'a'],
    ['REAL_TOPIC', 'orders'],
    ['TRAN_MSG', 'true'],
    ['CLUSTER', 'paris'],
    ['colour', 'red'],
    ['REAL_ESTATE', 'yes'],
  ])
  const sent = asSent(placeAt(5), storedAt(5, { properties, flag: 9 }))
  t.deepEqual(names(propertiesOf(sent)), ['UNIQ_KEY=KEY5', 'TAGS=a', 'colour=red', 'REAL_ESTATE=yes'])
  t.is(sent.flag, 9)
  t.is(sent.sysFlag, 0)
  t.is(Buffer.concat(payloadOf(sent)).toString(), 'body 5')
})

test('a key that the broker gave is dropped', t => {
  const properties = encodeProperties([
    ['UNIQ_KEY', 'GIVEN'],
    ['TAGS', 'a'],
  ])
  t.deepEqual(names(propertiesOf(asSent(keyless, storedAt(5, { properties })))), ['TAGS=a'])
})

test("a member of a batch keeps its delay and loses the batch's properties behind its own", t => {
  const properties = encodeProperties([
    ['UNIQ_KEY', 'KEY5'],
    ['DELAY', '3'],
    ['TIMER_DELAY_MS', '500'],
    ['WAIT', 'true'],
    ['UNIQ_KEY', 'BATCH'],
    ['WAIT', 'false'],
  ])
  const member = placeAt(5, { placeFlags: PlaceFlag.BATCH_MEMBER })
  const kept = propertiesOf(asSent(member, storedAt(5, { properties })))
  t.deepEqual(
    kept.toString(),
    'UNIQ_KEY\u0001KEY5\u0002DELAY\u00013\u0002TIMER_DELAY_MS\u0001500\u0002WAIT\u0001true\u0002',
  )
  t.deepEqual(names(propertiesOf(asSent(placeAt(5), storedAt(5, { properties })))), ['UNIQ_KEY=BATCH', 'WAIT=false'])
})

test('the flags are as the client sent them: compression stays, hosts and transaction go', t => {
  const sysFlag = 0x301 | SysFlag.TRANSACTION | SysFlag.BORN_HOST_V6 | SysFlag.STORE_HOST_V6
  t.is(asSent(placeAt(5), storedAt(5, { sysFlag })).sysFlag, 0x301)
})

test('a batch that the topic keeps whole is unpacked into messages one offset apart', t => {
  const bodies = ['a', 'bb']
  const packed = Buffer.alloc(bodies.reduce((sum, text) => sum + memberBytes(text.length, 18), 0))
  let at = 0
  for (const [index, text] of bodies.entries())
    at = encodeMember(packed, at, index, [Buffer.from(text)], text.length, propertiesWith(`KEY0000${index}`))
  t.is(at, packed.length)
  const sysFlag = SysFlag.INNER_BATCH | SysFlag.NEED_UNWRAP | 1
  const messages = unpacked(storedAt(70, { body: packed, sysFlag }))
  t.deepEqual(
    messages.map(({ queueOffset, flag, sysFlag, body, properties, bornTimestamp }) => [
      queueOffset,
      flag,
      sysFlag,
      body.toString(),
      firstValue(properties, 'UNIQ_KEY')?.toString(),
      bornTimestamp,
    ]),
    [
      [70, 0, 1, 'a', 'KEY00000', BORN],
      [71, 1, 1, 'bb', 'KEY00001', BORN],
    ],
  )
  t.deepEqual(unpacked(storedAt(5)), [storedAt(5)])
})
