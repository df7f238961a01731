// What a broker knows of its clients, and tells of itself.

import test from 'ava'
import { encodeHeartbeat, producerConnections, readBrokerConfig } from '../../codec/index.ts'

test('a heart-beat names one producer group and no consumer', t => {
  t.deepEqual(JSON.parse(encodeHeartbeat('client', 'GROUP').toString()), {
    clientID: 'client',
    producerDataSet: [{ groupName: 'GROUP' }],
    consumerDataSet: [],
    heartbeatFingerprint: 0,
    withoutSub: false,
  })
})

test('connections of a group are counted; one that does not exist has none; a refusal says nothing', t => {
  const body = (count: number) =>
    Buffer.from(JSON.stringify({ connectionSet: Array.from({ length: count }, () => ({})) }))
  t.is(producerConnections(0, '', body(2)), 2)
  t.is(producerConnections(0, '', body(0)), 0)
  t.is(producerConnections(1, 'the producer group[GROUP] not exist', Buffer.alloc(0)), 0)
  t.is(producerConnections(1, 'AclException: no permission', Buffer.alloc(0)), undefined)
  t.is(producerConnections(16, '', Buffer.alloc(0)), undefined)
})

test('settings are lines of name and value; a value may hold the sign between them', t => {
  const settings = readBrokerConfig(Buffer.from('waitTimeMillsInSendQueue=200\n\n# a=b\nnames=a=b;c \r\nempty='))
  t.is(settings.get('waitTimeMillsInSendQueue'), '200')
  t.is(settings.get('names'), 'a=b;c')
  t.is(settings.get('empty'), '')
  t.is(settings.get('nothing'), undefined)
})
