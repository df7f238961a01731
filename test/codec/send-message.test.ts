import test from 'ava'
import fc from 'fast-check'
import {
  CodecError,
  commitLogOffsetsOf,
  decodeHeader,
  encodeSendHead,
  type FrameHead,
  isSend,
  readSendAnswer,
  readSendRequest,
} from '../../codec/index.ts'
import { printedSeed } from '../support/random.ts'
import { binaryFrame, headOf, javaSend, jsonFrame, SEND_V1, SEND_V2 } from './wire.ts'

const asJson = (code: number, ext: Record<string, string>) => headOf(jsonFrame(javaSend(ext, 1, code)))
const asBinary = (code: number, ext: Record<string, string>) =>
  headOf(binaryFrame({ code, opaque: 1, ext: Object.entries(ext) }))

const forms: [name: string, code: number, ext: Record<string, string>, read: typeof asJson][] = [
  ['version 1 in JSON', 10, SEND_V1, asJson],
  ['version 1 in binary', 10, SEND_V1, asBinary],
  ['version 2 in JSON', 310, SEND_V2, asJson],
  ['version 2 in binary', 310, SEND_V2, asBinary],
  ['a batch in JSON', 320, SEND_V2, asJson],
  ['a batch in binary', 320, SEND_V2, asBinary],
]

const values = (head: FrameHead) => {
  const { topic, queueId, sysFlag, bornTimestamp, flag, batch, properties } = readSendRequest(head)
  return { topic, queueId, sysFlag, bornTimestamp, flag, batch, properties: properties.toString() }
}

for (const [name, code, ext, read] of forms) {
  const v1 = code === 10
  const required = v1 ? ['topic', 'queueId', 'sysFlag', 'bornTimestamp', 'flag'] : ['b', 'e', 'f', 'g', 'h']

  test(`a send of ${name} is read`, t => {
    t.deepEqual(values(read(code, ext)), {
      topic: 'orders',
      queueId: 2,
      sysFlag: 1,
      bornTimestamp: 1763928347123,
      flag: 9,
      batch: false,
      properties: 'UNIQ_KEY\u0001AC12\u0002TAGS\u0001A\u0002',
    })
  })

  test(`a send of ${name} without properties and batch has none and is none`, t => {
    const { i, m, properties, batch, ...rest } = ext as Record<string, string>
    t.is([i, m, properties, batch].filter(value => value !== undefined).length, 2)
    const { properties: found, batch: isBatch } = values(read(code, rest))
    t.is(found, '')
    t.false(isBatch)
  })

  test(`a send of ${name} must have its required fields, and integers where they belong`, t => {
    for (const field of required) {
      const { [field]: _, ...rest } = ext
      t.is(t.throws(() => readSendRequest(read(code, rest)), { instanceOf: CodecError })?.reason, 'send-header')
    }
    for (const field of required.slice(1))
      for (const value of ['', '-', '1.0', '1e3', '0x1', ' 1', '+1', '1 ', 'a', '9007199254740993', '9'.repeat(17)])
        t.throws(
          () => readSendRequest(read(code, { ...ext, [field]: value })),
          { instanceOf: CodecError },
          `${field} ${value}`,
        )
  })

  test(`a send of ${name} is a batch where its batch field says so`, t => {
    const field = v1 ? 'batch' : 'm'
    for (const yes of ['true', 'TRUE', 'True']) t.true(readSendRequest(read(code, { ...ext, [field]: yes })).batch)
    for (const no of ['false', '1', 'yes', '', 'true ']) {
      t.false(readSendRequest(read(code, { ...ext, [field]: no })).batch)
    }
  })
}

test('a queue below 0 and a clock before 1970 are read', t => {
  const { queueId, bornTimestamp } = readSendRequest(asJson(310, { ...SEND_V2, e: '-1', g: '-5' }))
  t.deepEqual([queueId, bornTimestamp], [-1, -5])
  t.true(Object.is(readSendRequest(asJson(310, { ...SEND_V2, e: '-0' })).queueId, 0))
})

test('numbers and booleans without quotes are read, as the C++ client writes them', t => {
  const text =
    '{"code":310,"extFields":{"a":"g","b":"orders","c":"TBW102","d":4,"e":-1,"f":0,"g":1763928347123,"h":0,"m":true},"flag":0,"language":"CPP","opaque":1,"version":35}\n'
  const { queueId, bornTimestamp, batch } = readSendRequest(headOf(jsonFrame(text)))
  t.deepEqual([queueId, bornTimestamp, batch], [-1, 1763928347123, true])
})

test('a JSON send with a field twice is refused, null or not', t => {
  for (const again of ['"b":"payments"', '"b":null', '"i":"x"', '"i":null', '"m":"true"', '"e":"5"']) {
    const text = javaSend(SEND_V2).replace('"extFields":{', `"extFields":{${again},`)
    const error = t.throws(() => readSendRequest(headOf(jsonFrame(text))), { instanceOf: CodecError })
    t.is(error?.reason, 'send-header', again)
  }
  const twice = javaSend(SEND_V1, 1, 10).replace('"extFields":{', '"extFields":{"topic":"payments",')
  t.throws(() => readSendRequest(headOf(jsonFrame(twice))), { instanceOf: CodecError })
})

test('of a field twice in a binary send the last counts, as brokers have it', t => {
  const ext = [...Object.entries(SEND_V2), ['b', 'payments'], ['m', 'true']] as [string, string][]
  const request = readSendRequest(headOf(binaryFrame({ code: 310, opaque: 1, ext })))
  t.is(request.topic, 'payments')
  t.true(request.batch)
})

test('null is a field that is not there', t => {
  const nulls = javaSend(SEND_V2)
    .replace(/"i":"[^"]*"/, '"i":null')
    .replace('"m":"false"', '"m":null')
  const request = readSendRequest(headOf(jsonFrame(nulls)))
  t.is(request.properties.length, 0)
  t.false(request.batch)
  const noTopic = javaSend(SEND_V2).replace('"b":"orders"', '"b":null')
  t.throws(() => readSendRequest(headOf(jsonFrame(noTopic))), { instanceOf: CodecError })
})

test('properties come out of JSON as the bytes they stand for', t => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), text => {
      const { properties } = readSendRequest(asJson(310, { ...SEND_V2, i: text }))
      return properties.equals(Buffer.from(text))
    }),
    { seed: printedSeed(t), numRuns: 1_000 },
  )
  t.pass()
})

test('properties of a binary header are its own bytes', t => {
  const head = asBinary(310, SEND_V2)
  t.is(readSendRequest(head).properties.buffer, head.bytes.buffer)
})

const ANSWER = {
  queueId: '3',
  transactionId: 'AC12',
  msgId: '7F000001000078BF0000000000000198',
  queueOffset: '12345',
  TRACE_ON: 'true',
  MSG_REGION: 'DefaultRegion',
}

for (const [name, read] of [
  ['JSON', asJson],
  ['binary', asBinary],
] as const) {
  test(`the answer to a send in ${name} says where the message is`, t => {
    const expected = { queueId: 3, queueOffset: 12345, commitLogOffsets: [0x198] }
    t.deepEqual(readSendAnswer(read(0, ANSWER)), expected)
    const used = { queueId: 1, queueOffset: 1, commitLogOffsets: [7, 8] }
    t.deepEqual(readSendAnswer(read(0, ANSWER), used), expected)
    t.is(readSendAnswer(read(0, {}), used), undefined)
  })

  test(`an answer in ${name} without a place says none`, t => {
    t.is(readSendAnswer(read(0, {})), undefined)
    t.is(readSendAnswer(read(0, { TRACE_ON: 'true', MSG_REGION: 'x' })), undefined)
    t.is(readSendAnswer(read(0, { queueId: '1' })), undefined)
  })
}

test('commit-log offsets are read from one id, a list of them, and either kind of address', t => {
  const v4 = '7F000001000078BF00000000000001a8'
  const v6 = `${'0'.repeat(30)}01000078BF000000E8D4A51000`
  t.deepEqual(commitLogOffsetsOf(v4), [0x1a8])
  t.deepEqual(commitLogOffsetsOf(v6), [1_000_000_000_000])
  t.deepEqual(commitLogOffsetsOf(`${v4},${v6},${v4}`), [0x1a8, 1_000_000_000_000, 0x1a8])
  for (const none of ['', '0', 'x'.repeat(32), v4.slice(1), `${v4},`, `${v4},0`])
    t.deepEqual(commitLogOffsetsOf(none), [])
})

test('a send of our own is read back as what it was', t => {
  const integer = fc.nat(2 ** 31 - 1)
  const send = fc.record({
    opaque: integer,
    producerGroup: fc.string(),
    topic: fc.string({ minLength: 1 }),
    queueId: fc.integer({ min: -1, max: 1_000 }),
    sysFlag: integer,
    bornTimestamp: fc.maxSafeInteger(),
    flag: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    properties: fc.uint8Array().map(bytes => Buffer.from(bytes)),
    batch: fc.boolean(),
  })
  fc.assert(
    fc.property(send, fc.nat(10_000), (own, bodyBytes) => {
      const head = headOf(encodeSendHead(own, bodyBytes))
      const found = readSendRequest(head)
      t.deepEqual(
        { ...own, producerGroup: decodeHeader(head).ext.get('a'), opaque: head.opaque },
        {
          opaque: own.opaque,
          producerGroup: own.producerGroup,
          topic: found.topic,
          queueId: found.queueId,
          sysFlag: found.sysFlag,
          bornTimestamp: found.bornTimestamp,
          flag: found.flag,
          properties: found.properties.length === 0 ? own.properties : found.properties,
          batch: found.batch,
        },
      )
      t.is(found.properties.length, own.properties.length)
      t.is(head.code, own.batch ? 320 : 310)
      t.is(head.bodyBytes, bodyBytes)
      t.true(isSend(head.code))
    }),
    { seed: printedSeed(t), numRuns: 500 },
  )
})

test('replies are no sends', t => {
  t.deepEqual(
    [10, 310, 320, 324, 325, 36, 11].map(code => isSend(code)),
    [true, true, true, false, false, false, false],
  )
})
