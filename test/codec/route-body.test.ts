import test from 'ava'
import { type BrokerAddress, CodecError, PERM_WRITE, readRoute, rewriteRoute } from '../../codec/index.ts'
import { seededRandom } from '../support/random.ts'

// Bodies as name servers 4.9.7, 5.3.3 and 5.5.0 answer them.
const LOOSE =
  '{"brokerDatas":[{"brokerAddrs":{0:"127.0.0.1:30911",1:"127.0.0.1:30921"},"brokerName":"lab-a","cluster":"LabC","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"lab-a","perm":7,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":4}]}'
const STRICT = LOOSE.replace('{0:', '{"0":').replace(',1:', ',"1":')
const CLUSTER =
  '{"brokerAddrTable":{"lab-a":{"brokerAddrs":{0:"127.0.0.1:30911"},"brokerName":"lab-a","cluster":"LabC","enableActingMaster":false},"lab-b":{"brokerAddrs":{0:"127.0.0.1:40911",3:"127.0.0.1:40921"},"brokerName":"lab-b","cluster":"LabC"}},"clusterAddrTable":{"LabC":["lab-a","lab-b"]}}'
const STATIC_TOPIC =
  '{"brokerDatas":[{"brokerAddrs":{"0":"127.0.0.1:30911"},"brokerName":"lab-a","cluster":"LabC"}],"filterServerTable":{},"queueDatas":[{"brokerName":"lab-a","perm":6,"readQueueNums":2,"topicSysFlag":0,"writeQueueNums":2}],"topicQueueMappingByBroker":{"lab-a":{"bname":"lab-a","currIdMap":{0:0,1:1},"dirty":false,"epoch":9223372036854775807,"topic":"static","totalQueues":2}}}'

const all = { LOOSE, STRICT, CLUSTER, STATIC_TOPIC }
const moved = ({ address }: BrokerAddress) => address.replace('127.0.0.1', '10.9.8.7')
const rewrite = (text: string, by: (address: BrokerAddress) => string = moved) =>
  rewriteRoute(Buffer.from(text), by).toString()

for (const [name, text] of Object.entries({ LOOSE, STRICT })) {
  test(`queues and brokers are read from a ${name.toLowerCase()} route`, t => {
    const { addresses, queues } = readRoute(Buffer.from(text))
    t.deepEqual(addresses, [
      { broker: 'lab-a', cluster: 'LabC', brokerId: 0, address: '127.0.0.1:30911' },
      { broker: 'lab-a', cluster: 'LabC', brokerId: 1, address: '127.0.0.1:30921' },
    ])
    t.deepEqual(queues, [{ broker: 'lab-a', readQueues: 8, writeQueues: 4, perm: 7 }])
    t.true((queues[0]!.perm & PERM_WRITE) !== 0)
  })
}

test('brokers are read from a cluster info', t => {
  const { addresses, queues } = readRoute(Buffer.from(CLUSTER))
  t.deepEqual(
    addresses.map(({ broker, brokerId, address }) => [broker, brokerId, address]),
    [
      ['lab-a', 0, '127.0.0.1:30911'],
      ['lab-b', 0, '127.0.0.1:40911'],
      ['lab-b', 3, '127.0.0.1:40921'],
    ],
  )
  t.deepEqual(queues, [])
})

for (const [name, text] of Object.entries(all)) {
  test(`in ${name} the addresses are replaced, and every other byte stays`, t => {
    t.is(rewrite(text), text.replaceAll('127.0.0.1', '10.9.8.7'))
  })

  test(`${name} with the same addresses is the same bytes`, t => {
    const body = Buffer.from(text)
    t.is(
      rewriteRoute(body, ({ address }) => address),
      body,
    )
  })

  test(`${name} cut anywhere is refused`, t => {
    for (let end = 0; end < text.length; end++) {
      const body = Buffer.from(text.slice(0, end))
      const error = t.throws(() => rewriteRoute(body, moved), { instanceOf: CodecError }, `cut at ${end}`)
      t.is(error?.reason, 'route')
      t.throws(() => readRoute(body), { instanceOf: CodecError })
    }
  })
}

test('the caller is told whose address it replaces', t => {
  const told: BrokerAddress[] = []
  rewrite(CLUSTER, address => {
    told.push(address)
    return address.address
  })
  t.deepEqual(told, readRoute(Buffer.from(CLUSTER)).addresses)
})

test('names in filterServerTable are replaced as the broker was, its filter servers stay', t => {
  const text = LOOSE.replace(
    '"filterServerTable":{}',
    '"filterServerTable":{"127.0.0.1:30911":["127.0.0.1:5000"],"127.0.0.1:9":["x"]}',
  )
  t.is(
    rewrite(text),
    text.replaceAll('"127.0.0.1:30911"', '"10.9.8.7:30911"').replaceAll('"127.0.0.1:30921"', '"10.9.8.7:30921"'),
  )
})

test('addresses elsewhere, in names and configurations, are text', t => {
  const text = LOOSE.replace('"queueDatas"', '"orderTopicConf":"127.0.0.1:30911:4","queueDatas"').replaceAll(
    '"lab-a"',
    '"127.0.0.1:30911"',
  )
  const expected = text.replace('{0:"127.0.0.1:30911",1:"127.0.0.1:30921"}', '{0:"10.9.8.7:30911",1:"10.9.8.7:30921"}')
  t.is(rewrite(text), expected)
})

test('an address that is shorter, longer or empty takes its place', t => {
  for (const by of ['a:1', 'a-very-long-host-name.of.some.cluster.example:65535', ''])
    t.is(
      rewrite(LOOSE, () => by),
      LOOSE.replace('127.0.0.1:30911', by).replace('127.0.0.1:30921', by),
    )
})

test('64-bit numbers, escapes, space and text that is not ASCII stay as they are', t => {
  const text =
    ' {"brokerDatas" : [ {"brokerAddrs":{ 0 : "127.0.0.1:30911" },"brokerName":"br\\u00f6ker \\"\\/\\\\ ü😀","cluster":"C"} ] ,"version":9223372036854775807,"n":-1.50e+3,"t":true,"z":null}\n'
  t.is(rewrite(text), text.replace('127.0.0.1', '10.9.8.7'))
  const [address] = readRoute(Buffer.from(text)).addresses
  t.is(address?.broker, 'bröker "/\\ ü😀')
})

test('bytes that are not UTF-8 stay as they are', t => {
  const body = Buffer.from(LOOSE.replaceAll('lab-a', 'lab-\xff\xa0\xe4'), 'latin1')
  const expected = Buffer.from(
    LOOSE.replaceAll('lab-a', 'lab-\xff\xa0\xe4').replaceAll('127.0.0.1', '10.9.8.7'),
    'latin1',
  )
  t.deepEqual(rewriteRoute(body, moved), expected)
})

test('a route without brokers, or with nothing, is read', t => {
  t.deepEqual(readRoute(Buffer.from('{"brokerDatas":[],"queueDatas":[]}')), { addresses: [], queues: [] })
  t.deepEqual(readRoute(Buffer.from('{}')), { addresses: [], queues: [] })
  t.is(rewrite('{"brokerDatas":[{"brokerAddrs":null}]}'), '{"brokerDatas":[{"brokerAddrs":null}]}')
})

test('what is no route body is refused', t => {
  const deep = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
  for (const text of [
    '',
    ' ',
    '{',
    '}',
    '{}x',
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    '[1,]',
    '[1 2]',
    '{"a":"\\x"}',
    deep(100_000),
  ])
    t.throws(() => readRoute(Buffer.from(text)), { instanceOf: CodecError }, text.slice(0, 20))
  t.notThrows(() => readRoute(Buffer.from(deep(20))))
})

test('20,000 mutated bodies are rewritten or refused', t => {
  const random = seededRandom(t)
  const sources = Object.values(all).map(text => Buffer.from(text))
  for (let round = 0; round < 20_000; round++) {
    const body = Buffer.from(random.pick(sources))
    for (let i = random.integer(1, 3); i > 0; i--)
      body[random.integer(0, body.length - 1)] = random.chance(0.5)
        ? random.pick([...Buffer.from('{}[]",:\\ 0')])
        : random.integer(0, 255)
    try {
      readRoute(body)
      const same = rewriteRoute(body, ({ address }) => address)
      if (!same.equals(body)) return t.fail(`round ${round}: ${body.toString('latin1')}`)
    } catch (error) {
      if (!(error instanceof CodecError)) throw error
    }
  }
  t.pass()
})
