// What is no frame ends its connection, with one line that says why; the others do not notice.

import { connect, type Socket } from 'node:net'
import { encodeFrame } from '../../codec/index.ts'
import { Producer } from '../../proxy/demo/producer.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { Cluster, parseAddress, realEnvironment } from '../../replay/index.ts'
import { GatewayProcess, until } from '../support/gateway-process.ts'
import { pair, realTest } from '../support/real.ts'

const environment = realEnvironment(silentLogger)

function open(address: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(parseAddress(address))
    socket.once('connect', () => resolve(socket)).once('error', reject)
  })
}

function raw(length: number, type: number, header: string, headerBytes = header.length): Buffer {
  const out = Buffer.alloc(8 + header.length)
  out.writeInt32BE(length)
  out.writeUInt8(type, 4)
  out.writeUIntBE(headerBytes, 5, 3)
  out.write(header, 8, 'latin1')
  return out
}

const good = '{"code":34,"flag":0,"opaque":1}'
const cases: [string, string, Buffer][] = [
  ['a frame longer than the limit', 'frame-too-long', raw(64 * 1024 * 1024, 0, good)],
  ['a negative length', 'frame-length', raw(-5, 0, good)],
  ['a header that does not fit into its frame', 'frame-length', raw(20, 0, good, 4_000)],
  ['an unknown header type', 'header-type', raw(4 + good.length, 7, good)],
  ['a header that is no JSON', 'header', raw(4 + 8, 0, 'GET / HT')],
  [
    'a header that brokers read differently',
    'header',
    raw(4 + 40, 0, '{"CODE":25,"code":34,"flag":0,"opaque":1}'.padEnd(40).slice(0, 40)),
  ],
  [
    'a binary header whose lengths lie',
    'header',
    raw(4 + 21, 1, '\0\x0a\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\xff\0\0\0\0'.slice(0, 21)),
  ],
]

realTest('bad input closes its connection with one log line that says why, and the others go on', async t => {
  const { source, remote } = await pair()
  const gateway = new GatewayProcess({ source: source.nameServer, remote: remote.nameServer })
  t.teardown(() => gateway.end())
  await gateway.start()
  const producer = new Producer(environment, gateway.nameServer, 'Bystander', 100)
  t.teardown(() => producer.end())
  await producer.connect()
  producer.start(200)
  await until('the bystander is served', () => producer.acked.size > 100)
  const viaGateway = new Cluster(environment, [parseAddress(gateway.nameServer)])
  t.teardown(() => viaGateway.end())
  const broker = (await viaGateway.brokers()).addresses[0]!.address

  for (const target of [broker, gateway.nameServer]) {
    for (const [what, reason, bytes] of cases) {
      const lines = () => gateway.log.filter(line => line.msg === 'malformed frame: connection closed')
      const before = lines().length
      const socket = await open(target)
      let closed = false
      socket.on('close', () => {
        closed = true
      })
      socket.on('error', () => {})
      socket.write(
        Buffer.concat([
          encodeFrame(
            { code: 34, opaque: 0, ext: [] },
            Buffer.from('{"clientID":"x","producerDataSet":[],"consumerDataSet":[]}'),
          ),
          bytes,
        ]),
      )
      socket.resume()
      await until(`${what}: the connection is closed`, () => closed)
      await until(`${what}: the log says it`, () => lines().length > before)
      t.is(lines().length, before + 1, what)
      t.is(lines().at(-1)!.reason, reason, what)
    }
  }
  const acked = producer.acked.size
  await until('the bystander goes on', () => producer.acked.size > acked + 100)
  await producer.stop()
  t.is(producer.failed, 0)
})
