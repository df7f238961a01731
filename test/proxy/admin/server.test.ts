// The admin port over real HTTP, each test on a free port of its own.

import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { connect } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { type AdminOptions, startAdmin } from '../../../proxy/admin/server.ts'

interface Got {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

async function start(t: ExecutionContext, options: Partial<AdminOptions> = {}) {
  const admin = await startAdmin({
    host: '127.0.0.1',
    port: 0,
    metrics: () => 'a 1\n',
    readiness: () => ({ ready: true }),
    ...options,
  })
  t.teardown(() => admin.close())
  return admin
}

function get(address: string, path: string, { method = 'GET', agent }: { method?: string; agent?: Agent } = {}) {
  return new Promise<Got>((resolve, reject) => {
    const sent = request(`http://${address}${path}`, { method, agent: agent ?? false }, response => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', chunk => {
        body += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body }))
    })
    sent.on('error', reject)
    sent.end()
  })
}

test('metrics are asked for anew on each scrape and sent as exposition format 0.0.4', async t => {
  let scrapes = 0
  const { address } = await start(t, { metrics: () => `scrapes{é="1"} ${++scrapes}\n` })
  const first = await get(address, '/metrics')
  t.is(first.status, 200)
  t.is(first.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
  t.is(first.body, 'scrapes{é="1"} 1\n')
  t.is((await get(address, '/metrics?name=x')).body, 'scrapes{é="1"} 2\n')
})

test('the process is alive even while it is not ready', async t => {
  const { address } = await start(t, { readiness: () => ({ ready: false }) })
  const { status, body } = await get(address, '/livez')
  t.is(status, 200)
  t.is(body, 'ok\n')
})

test('readiness answers 200 or 503, with all it knows as JSON', async t => {
  let state: { ready: boolean } & Record<string, unknown> = { ready: true, remote: 'down' }
  const { address } = await start(t, { readiness: () => state })
  const ready = await get(address, '/readyz')
  t.is(ready.status, 200)
  t.regex(ready.headers['content-type']!, /^application\/json/)
  t.deepEqual(JSON.parse(ready.body), state)
  state = { ready: false, draining: true }
  const draining = await get(address, '/readyz')
  t.is(draining.status, 503)
  t.deepEqual(JSON.parse(draining.body), state)
})

test('the index is plain text and names the other pages', async t => {
  const { address } = await start(t)
  const { status, headers, body } = await get(address, '/')
  t.is(status, 200)
  t.regex(headers['content-type']!, /^text\/plain/)
  for (const path of ['/metrics', '/livez', '/readyz']) t.true(body.includes(path))
})

test('any other path is not found, also one that every object knows', async t => {
  const { address } = await start(t)
  for (const path of ['/other', '/metrics/', '/constructor', '//', '/%'])
    t.is((await get(address, path)).status, 404, path)
})

test('HEAD answers with the headers of GET and no body', async t => {
  const { address } = await start(t, { readiness: () => ({ ready: false }) })
  for (const path of ['/', '/metrics', '/livez', '/readyz', '/other']) {
    const [full, head] = await Promise.all([get(address, path), get(address, path, { method: 'HEAD' })])
    t.is(head.status, full.status)
    t.is(head.body, '')
    t.is(head.headers['content-length'], full.headers['content-length'])
  }
})

test('any other method is refused and reads nothing', async t => {
  let reads = 0
  const { address } = await start(t, { metrics: () => `${++reads}` })
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
    const { status, headers } = await get(address, '/metrics', { method })
    t.is(status, 405, method)
    t.is(headers.allow, 'GET, HEAD')
  }
  t.is(reads, 0)
})

test('a page that throws answers 500, and the next one is served', async t => {
  const { address } = await start(t, {
    metrics: () => {
      throw new Error('no such metric')
    },
  })
  const { status, body } = await get(address, '/metrics')
  t.is(status, 500)
  t.is(body, 'no such metric\n')
  t.is((await get(address, '/livez')).status, 200)
})

test('bytes that are no HTTP end their own connection only', async t => {
  const { address } = await start(t)
  const socket = connect(Number(address.split(':')[1]), '127.0.0.1')
  socket.on('error', () => {})
  socket.resume()
  socket.write(Buffer.from([0, 0, 0, 9, 0, 0, 0, 1, 255, 13, 10, 13, 10]))
  await new Promise(resolve => socket.on('close', resolve))
  t.is((await get(address, '/livez')).status, 200)
})

test('a port in use rejects with the error of listen as it is', async t => {
  const { address } = await start(t)
  const error = await t.throwsAsync<NodeJS.ErrnoException>(start(t, { port: Number(address.split(':')[1]) }))
  t.is(error?.code, 'EADDRINUSE')
  t.is(error?.syscall, 'listen')
})

test('the address says where it listens', async t => {
  const { address } = await start(t)
  t.regex(address, /^127\.0\.0\.1:[1-9]\d*$/)
})

test('close ends connections that are kept alive, frees the port, and may be called twice', async t => {
  const admin = await start(t)
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  t.teardown(() => agent.destroy())
  await get(admin.address, '/livez', { agent })
  const silent = connect(Number(admin.address.split(':')[1]), '127.0.0.1')
  await new Promise(resolve => silent.on('connect', resolve))
  await get(admin.address, '/livez')
  const ended = new Promise(resolve => silent.on('close', resolve))
  silent.on('error', () => {})
  silent.resume()
  const before = performance.now()
  await Promise.all([admin.close(), admin.close()])
  await ended
  t.true(performance.now() - before < 3_000)
  await admin.close()
  const error = await t.throwsAsync<NodeJS.ErrnoException>(get(admin.address, '/livez', { agent }))
  t.is(error?.code, 'ECONNREFUSED')
})
