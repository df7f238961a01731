// `rocketmq-tee start` as a process: when it does not start, and how it says so; how it starts, and how it ends.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { readRoute } from '../../codec/index.ts'
import { type EmbeddedCluster, startEmbeddedCluster } from '../../proxy/demo/embedded-cluster.ts'
import { CliProcess } from '../support/cli-process.ts'
import { countIn } from '../support/gateway-lab.ts'
import { RawClient, until } from '../support/raw-client.ts'
import { removeNotes } from '../support/remove-data.ts'
import { sendRequest } from './demo/broker-behaviour.ts'

let source: EmbeddedCluster
let remote: EmbeddedCluster

test.before(async () => {
  source = await startEmbeddedCluster({ name: 'source' })
  remote = await startEmbeddedCluster({ name: 'remote' })
})
test.after.always(async () => {
  await source?.stop()
  await remote?.stop()
})

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'rocketmq-tee-cli-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

function start(t: ExecutionContext, dataDir: string, options: Record<string, string | number> = {}): CliProcess {
  t.teardown(() => removeNotes(dataDir))
  const all = {
    srcClusterAddr: source.nameServer,
    destClusterAddr: remote.nameServer,
    dataDir,
    listenHost: '127.0.0.1',
    communicationPort: 0,
    nameServerPort: 0,
    adminPort: 0,
    ...options,
  }
  const argv = Object.entries(all).map(([key, value]) => `--${key}=${value}`)
  const gateway = new CliProcess(['start', ...argv])
  t.teardown(() => gateway.end())
  return gateway
}

const READY = /^ready nameServer=(\S+) admin=(\S+)$/

async function ready(gateway: CliProcess): Promise<{ nameServer: string; admin: string }> {
  const [, nameServer, admin] = READY.exec(await gateway.line(READY))!
  return { nameServer: nameServer!, admin: admin! }
}

async function readyz(admin: string): Promise<number> {
  return (await fetch(`http://${admin}/readyz`)).status
}

/** Sends a message through a gateway, as a client that knows its name server alone. */
async function sent(nameServer: string, topic: string): Promise<number> {
  const names = await RawClient.connect(nameServer)
  const { addresses } = readRoute((await names.request({ code: 106 })).body)
  await names.close()
  const broker = await RawClient.connect(addresses[0]!.address)
  const { code } = await broker.request(sendRequest({ topic }))
  await broker.close()
  return code
}

async function refusedWith(t: ExecutionContext, gateway: CliProcess, code: number, line: RegExp): Promise<void> {
  t.is(await gateway.ended, code, gateway.stderr)
  t.regex(gateway.stderr, line)
  t.is(gateway.stderr.trim().split('\n').length, 1, gateway.stderr)
  t.false(gateway.lines.some(text => READY.test(text)))
}

/** Takes a free port that has a free one two below it. */
async function takePort(t: ExecutionContext): Promise<number> {
  const server: Server = createServer()
  t.teardown(() => server.close())
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', () => resolve()))
  return (server.address() as { port: number }).port
}

test('the first line that is no JSON says that it serves and where; SIGTERM ends it with 0, and its ports with it', async t => {
  const dataDir = join(folder(t), 'made', 'by', 'it')
  const gateway = start(t, dataDir)
  const { nameServer, admin } = await ready(gateway)
  const first = gateway.lines.find(line => !line.startsWith('{'))
  t.regex(first!, READY)
  for (const line of gateway.lines.filter(text => text !== first)) t.notThrows(() => JSON.parse(line), line)
  t.is(await readyz(admin), 200)
  t.is((await fetch(`http://${admin}/livez`)).status, 200)
  t.is(await sent(nameServer, 'started'), 0)
  await until('it is at the remote', () => countIn(remote, 'started') === 1)
  t.is(readFileSync(join(dataDir, 'lock'), 'utf8'), `${gateway.pid}\n`)

  gateway.signal('SIGTERM')
  t.is(await gateway.ended, 0, gateway.stderr)
  t.is(gateway.stderr, '')
  t.is(JSON.parse(gateway.lines.at(-1)!).msg, 'stopped')
  await t.throwsAsync(RawClient.connect(nameServer), { code: 'ECONNREFUSED' })
  t.deepEqual(readdirSync(dataDir).sort(), ['brokers', 'gateway-id', 'listeners.json', 'lock', 'remotes.json'])
})

test('a second signal ends it at once, also while it drains', async t => {
  const gateway = start(t, folder(t))
  const { nameServer } = await ready(gateway)
  const names = await RawClient.connect(nameServer)
  const { addresses } = readRoute((await names.request({ code: 106 })).body)
  const client = await RawClient.connect(addresses[0]!.address)
  t.teardown(() => Promise.all([names.close(), client.close()]))
  const fault = source.brokers[0]!.faults.timeOut({ topic: 'unanswered' })
  client.request(sendRequest({ topic: 'unanswered' })).catch(() => {})
  await until('it is out', () => fault.hits === 1)
  gateway.signal('SIGTERM')
  await until('it drains', () =>
    RawClient.connect(nameServer).then(
      async c => void (await c.close()),
      () => true,
    ),
  )
  gateway.signal('SIGTERM')
  t.is(await gateway.ended, 1)
})

test('a data directory that another process uses is 75, in one line, and that process goes on', async t => {
  const dataDir = folder(t)
  const first = start(t, dataDir)
  const { nameServer, admin } = await ready(first)
  const second = start(t, dataDir)
  await refusedWith(t, second, 75, /is used by another process/)
  t.is(readFileSync(join(dataDir, 'lock'), 'utf8'), `${first.pid}\n`)
  t.is(await readyz(admin), 200)
  t.is(await sent(nameServer, 'unharmed'), 0)
  await until('it is at the remote', () => countIn(remote, 'unharmed') === 1)
  // As soon as it is gone, however it went, the next may have it.
  first.signal('SIGKILL')
  t.is(await first.ended, 'SIGKILL')
  await ready(start(t, dataDir))
})

for (const key of ['nameServerPort', 'adminPort', 'communicationPort'])
  test(`a ${key} that is in use is 69, in one line that names it`, async t => {
    const port = await takePort(t)
    const line = new RegExp(key === 'communicationPort' ? `port ${port} .*communicationPort` : `${key} ${port} `)
    await refusedWith(t, start(t, folder(t), { [key]: port }), 69, line)
  })

test('a data directory that cannot be made is 73, in one line', async t => {
  const file = join(folder(t), 'file')
  writeFileSync(file, '')
  await refusedWith(t, start(t, join(file, 'data')), 73, /dataDir .* cannot be made/)
})

test('a data directory whose table of listeners is not ours is 73, in one line', async t => {
  const dataDir = folder(t)
  writeFileSync(join(dataDir, 'listeners.json'), '{"version":99}')
  await refusedWith(t, start(t, dataDir), 73, /listeners\.json is of version 99/)
})

for (const [what, away] of [
  ['name server and broker', true],
  ['broker', false],
] as const)
  test(`a source whose ${what} are down at the start: it starts, is not ready, and becomes so when they come`, async t => {
    const late = await startEmbeddedCluster({ name: 'late' })
    t.teardown(() => late.stop())
    await late.brokers[0]!.stop()
    if (away) await late.names.stop()
    const gateway = start(t, folder(t), { srcClusterAddr: late.nameServer })
    const { nameServer, admin } = await ready(gateway)
    t.is(await readyz(admin), 503)
    t.is((await fetch(`http://${admin}/livez`)).status, 200)
    await late.brokers[0]!.start()
    if (away) await late.names.start()
    await until('it is ready', async () => (await readyz(admin)) === 200)
    const topic = `late-${away}`
    t.is(await sent(nameServer, topic), 0)
    await until('it is at the remote', () => countIn(remote, topic) === 1)
  })

test('a source that is down at a second start: the kept table serves, and what waited is not lost', async t => {
  const late = await startEmbeddedCluster({ name: 'kept' })
  t.teardown(() => late.stop())
  const away = await startEmbeddedCluster({ name: 'away' })
  t.teardown(() => away.stop())
  const dataDir = folder(t)
  const options = { srcClusterAddr: late.nameServer, destClusterAddr: away.nameServer }
  await away.brokers[0]!.stop()
  const first = start(t, dataDir, options)
  t.is(await sent((await ready(first)).nameServer, 'waited'), 0)
  first.signal('SIGTERM')
  t.is(await first.ended, 0)
  const { listeners } = JSON.parse(readFileSync(join(dataDir, 'listeners.json'), 'utf8'))

  await late.names.stop()
  await late.brokers[0]!.stop()
  const second = start(t, dataDir, options)
  const { admin } = await ready(second)
  t.is(await readyz(admin), 503)
  // The broker's port is there before anybody could tell of the broker.
  const client = await RawClient.connect(`127.0.0.1:${listeners[0].port}`)
  await client.closed
  await late.brokers[0]!.start()
  await late.names.start()
  await away.brokers[0]!.start()
  await until('what waited is at the remote', () => countIn(away, 'waited') === 1)
  await until('it is ready', async () => (await readyz(admin)) === 200)
})

test('an address that leads to another cluster than before is 78, in one line, and with --new-remote what waits goes there', async t => {
  const before = await startEmbeddedCluster({ name: 'before' })
  t.teardown(() => before.stop())
  const after = await startEmbeddedCluster({ name: 'after' })
  t.teardown(() => after.stop())
  const dataDir = folder(t)
  const first = start(t, dataDir, { destClusterAddr: before.nameServer })
  const { nameServer } = await ready(first)
  t.is(await sent(nameServer, 'moved'), 0)
  await until('it is at the remote', () => countIn(before, 'moved') === 1)
  await before.brokers[0]!.stop()
  t.is(await sent(nameServer, 'moved'), 0)
  first.signal('SIGTERM')
  t.is(await first.ended, 0)

  const options = { destClusterAddr: after.nameServer }
  await refusedWith(
    t,
    start(t, dataDir, options),
    78,
    /leads to cluster after.* is at cluster before.*--new-remote=default/,
  )
  t.is(countIn(after, 'moved'), 0)
  await ready(start(t, dataDir, { ...options, 'new-remote': 'default' }))
  await until('what waited is at the new one', () => countIn(after, 'moved') === 1)
  t.is(countIn(before, 'moved'), 1)
})

test('a remote that is forgotten leaves no cursors; one that is configured, or has dead letters, is 78', async t => {
  const dataDir = folder(t)
  const oslo = await startEmbeddedCluster({ name: 'oslo' })
  t.teardown(() => oslo.stop())
  const first = start(t, dataDir, { 'destClusterAddr.oslo': oslo.nameServer })
  t.is(await sent((await ready(first)).nameServer, 'forgotten'), 0)
  await until('it is at the remote', () => countIn(oslo, 'forgotten') === 1)
  first.signal('SIGTERM')
  t.is(await first.ended, 0)
  const forget = { 'forget-remote': 'oslo' }
  const configured = { 'destClusterAddr.oslo': oslo.nameServer, ...forget }
  await refusedWith(t, start(t, dataDir, configured), 78, /--forget-remote=oslo: this remote is configured/)
  const [broker] = readdirSync(join(dataDir, 'brokers'))
  const remotes = join(dataDir, 'brokers', broker!, 'remotes')
  const letters = join(remotes, 'oslo', 'dead-letters-1-ab.jsonl')
  writeFileSync(letters, '{}\n')
  await refusedWith(t, start(t, dataDir, forget), 78, /oslo\/dead-letters-1-ab\.jsonl .* move it away/)
  rmSync(letters)
  await ready(start(t, dataDir, forget))
  t.deepEqual(readdirSync(remotes), ['default'])
})
