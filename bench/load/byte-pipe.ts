// The byte pipe: what a proxy costs that reads nothing. The lane that the gateway is held against.
//
// usage: node byte-pipe.js HOST:PORT      prints `ready address=HOST:PORT`

import { type AddressInfo, connect, createServer } from 'node:net'

const target = process.argv[2]!
const at = target.lastIndexOf(':')
const to = { host: target.slice(0, at), port: Number(target.slice(at + 1)), noDelay: true }

const server = createServer({ noDelay: true }, client => {
  const broker = connect(to)
  client.pipe(broker).pipe(client)
  client.on('error', () => broker.destroy()).on('close', () => broker.destroy())
  broker.on('error', () => client.destroy()).on('close', () => client.destroy())
})
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`ready address=127.0.0.1:${(server.address() as AddressInfo).port}\n`)
})
