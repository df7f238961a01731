// `rocketmq-tee journal` as a process, on a directory that a real gateway has written: while that runs, after it was killed, and
// on damaged copies.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { crc32 } from 'node:zlib'
import test, { type ExecutionContext } from 'ava'
import { decodeProperties, readRoute } from '../../codec/index.ts'
import { type EmbeddedCluster, startEmbeddedCluster } from '../../proxy/demo/embedded-cluster.ts'
import { parseBlockFileName, scanBlockFile } from '../../replay/block-file.ts'
import { realFileSystem } from '../../replay/file-system.ts'
import { decodeRecord } from '../../replay/place.ts'
import { parseSegmentName, SEGMENT_HEADER_BYTES } from '../../replay/segment.ts'
import { CliProcess } from '../support/cli-process.ts'
import { acked, countIn, keyed } from '../support/gateway-lab.ts'
import { GatewayProcess } from '../support/gateway-process.ts'
import { RawClient, until } from '../support/raw-client.ts'

const BROKER = 'source-a'
const SPILLED = 700
const SMALL = 30
const DONE = 20

interface Run {
  code: number | string
  lines: string[]
  stderr: string
}

async function run(...argv: string[]): Promise<Run> {
  const process = new CliProcess(['journal', ...argv])
  const code = await process.ended
  return { code, lines: process.lines, stderr: process.stderr }
}

const json = ({ lines }: Run) => JSON.parse(lines.join('\n'))
const parsed = ({ lines }: Run) => lines.map(line => JSON.parse(line))

let source: EmbeddedCluster
let remote: EmbeddedCluster
let gateway: GatewayProcess
/** What was said while the gateway ran. */
let running: { inspect: Run; text: Run; dump: Run; waiting: number; before: string; after: string }

/** Names, sizes and times of all files of a folder. */
function state(folder: string): string {
  const names = (readdirSync(folder, { recursive: true }) as string[]).sort()
  return names
    .map(name => [name, statSync(join(folder, name))] as const)
    .map(([name, { size, mtimeMs }]) => `${name} ${size} ${mtimeMs}`)
    .join('\n')
}

test.before(async t => {
  t.timeout(120_000)
  source = await startEmbeddedCluster({ name: 'source' })
  remote = await startEmbeddedCluster({ name: 'remote' })
  gateway = new GatewayProcess({
    source: source.nameServer,
    remote: remote.nameServer,
    options: ['--journalSpillAfter=10ms', '--journalMinFreeBytes=1MiB'],
  })
  await gateway.start()
  const names = await RawClient.connect(gateway.nameServer)
  const { addresses } = readRoute((await names.request({ code: 106 })).body)
  await names.close()
  const client = await RawClient.connect(addresses[0]!.address)
  for (let index = 0; index < DONE; index++) await acked(t, client, keyed(`done ${index}`, { topic: 'done' }))
  await until('they are at the remote', () => countIn(remote, 'done') === DONE)
  await gateway.drained()
  await remote.brokers[0]!.stop()
  for (let index = 0; index < SPILLED; index++) await acked(t, client, keyed(`orders ${index}`, { topic: 'orders' }))
  for (let index = 0; index < SMALL; index++)
    await acked(t, client, keyed(`small ${index}`, { topic: 'small', queueId: 1 }))
  await client.close()
  const inspected = async () => {
    const inspect = await run('inspect', '--json', gateway.dataDir)
    const [broker] = json(inspect).brokers
    const [{ found }] = broker.remotes
    return !broker.wentOn && found.behindCursor === 0 && broker.blockFiles[0]?.blocks > 0 ? inspect : undefined
  }
  const inspect = await until('a page is on disk, and a cursor knows of all', inspected, 60_000)
  const before = state(gateway.dataDir)
  const text = await run('inspect', gateway.dataDir)
  const dump = await run('dump', '--bodies', gateway.dataDir)
  running = { inspect, text, dump, waiting: await gateway.waiting(), before, after: state(gateway.dataDir) }
  await gateway.kill()
})
test.after.always(async () => {
  await gateway?.end()
  await source?.stop()
  await remote?.stop()
})

/** A copy of what the gateway left. */
function copy(t: ExecutionContext): { dataDir: string; folder: string; file(like: RegExp): string } {
  const dataDir = mkdtempSync(join(tmpdir(), 'rocketmq-tee-journal-'))
  t.teardown(() => rmSync(dataDir, { recursive: true, force: true }))
  cpSync(gateway.dataDir, dataDir, { recursive: true })
  const folder = join(dataDir, 'brokers', BROKER)
  return {
    dataDir,
    folder,
    file: like =>
      join(
        folder,
        readdirSync(folder)
          .sort()
          .find(name => like.test(name))!,
      ),
  }
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path)
  bytes[at]! ^= 0x10
  writeFileSync(path, bytes)
}

/** Where the record of a place begins. */
function recordOf(path: string, sequence: number): number {
  const bytes = readFileSync(path)
  const { salt } = parseSegmentName(basename(path))!
  for (let at = SEGMENT_HEADER_BYTES; ; ) {
    const { record, end } = decodeRecord(bytes, at, salt)!
    if (record.kind === 'place' && record.place.sequence === sequence) return at
    at = end
  }
}

/** Where the first block begins, its places and its bodies. */
async function firstBlock(path: string): Promise<{ at: number; places: number; bodies: number; count: number }> {
  const found: { at: number; places: number; bodies: number; count: number }[] = []
  await scanBlockFile(realFileSystem, path, parseBlockFileName(basename(path))!.salt, ({ header, location }) => {
    const { at, headBytes } = location
    found.push({ at, places: at + header.headerBytes, bodies: at + headBytes, count: header.count })
  })
  return found[0]!
}

test.serial('inspect, while the gateway runs, says what waits, and agrees with its metrics', t => {
  const { inspect, waiting } = running
  t.is(inspect.code, 0, inspect.stderr)
  t.is(waiting, SPILLED + SMALL)
  const { brokers, isDamaged, gatewayId } = json(inspect)
  t.false(isDamaged)
  t.is(gatewayId, readFileSync(join(gateway.dataDir, 'gateway-id'), 'utf8').trim())
  const [broker] = brokers
  t.is(broker.broker, BROKER)
  const [remote] = broker.remotes
  t.is(remote.label, 'default')
  t.is(remote.found.waiting, SPILLED + SMALL)
  t.like(remote.slot, { remoteCluster: 'remote', waiting: SPILLED + SMALL, acked: DONE + SPILLED + SMALL })
  t.is(remote.slot.totals.replicated, DONE)
  t.deepEqual(remote.missing, { places: 0, records: 0 })
  const waitingBy = broker.queues.map((queue: { topic: string; queueId: number; waiting: { default?: number } }) => [
    queue.topic,
    queue.queueId,
    queue.waiting.default ?? 0,
  ])
  t.deepEqual(
    waitingBy.filter(([, , count]: [string, number, number]) => count > 0),
    [
      ['orders', 0, SPILLED],
      ['small', 1, SMALL],
    ],
  )
  const [file] = broker.blockFiles
  t.is(file.blocks, 1)
  t.is(file.withBody, 512)
})

test.serial('and as a table for a person', t => {
  const { lines, code } = running.text
  t.is(code, 0)
  t.true(lines.includes(`broker ${BROKER}`))
  t.true(
    lines.some(line => /orders +0 +1 +700/.test(line)),
    lines.join('\n'),
  )
  t.true(
    lines.some(line => /acked 750 = replicated 20 \+ waiting 730 \+/.test(line)),
    lines.join('\n'),
  )
  t.is(lines.at(-1), 'no damage was found')
})

test.serial('dump, while the gateway runs, has a line for each place, with the bodies that are on disk', t => {
  const { code, stderr } = running.dump
  t.is(code, 0, stderr)
  const lines = parsed(running.dump)
  for (const [topic, count] of [
    ['orders', SPILLED],
    ['small', SMALL],
  ] as const) {
    const own = lines.filter(line => line.topic === topic)
    t.is(own.length, count)
    for (const line of own) {
      const name = `${topic} ${line.queueOffset}`
      t.like(line, { broker: BROKER, epoch: 1, skipped: null, done: { default: false } })
      // Until the source has answered whether it may be read, bodies are in the journal.
      if (line.where === 'bodies') t.true(line.hasBody)
      t.is(line.payload, line.hasBody ? Buffer.from(`body of ${name}`).toString('base64') : null)
      if (line.hasBody) t.is(decodeProperties(Buffer.from(line.properties, 'base64')).get('KEYS'), name)
    }
  }
  t.is(lines.filter(({ where }) => where === 'bodies').length, 512)
  t.true(lines.some(({ hasBody }) => !hasBody))
})

test.serial('neither changes anything in the directory', t => {
  t.is(running.after, running.before)
})

test.serial('after kill -9 the same is there, also for another look', async t => {
  const { dataDir } = copy(t)
  const before = state(dataDir)
  const inspect = await run('inspect', '--json', dataDir)
  t.is(inspect.code, 0, inspect.stderr)
  t.deepEqual(json(inspect).brokers, json(running.inspect).brokers)
  const dump = await run('dump', '--bodies', dataDir)
  t.deepEqual(dump, running.dump)
  t.is(state(dataDir), before)
})

test.serial('dump knows topics, brokers, and what waits', async t => {
  const { dataDir } = copy(t)
  const all = parsed(await run('dump', dataDir))
  const only = async (...argv: string[]) => parsed(await run('dump', ...argv, dataDir))
  t.deepEqual(
    await only('--topic=small'),
    all.filter(({ topic }) => topic === 'small'),
  )
  t.deepEqual(await only('--topic', 'small', '--broker', BROKER), await only('--topic=small'))
  t.deepEqual(await only('--broker=other'), [])
  t.deepEqual(
    await only('--waiting'),
    all.filter(({ done }) => !done.default),
  )
  t.true(all.some(({ done }) => done.default) && all.every(({ payload }) => payload === undefined))
})

test.serial('a damaged record is a damaged range, and its message is missing', async t => {
  const { dataDir, file } = copy(t)
  const last = DONE + SPILLED + SMALL - 2
  const path = file(/^places-/)
  const at = recordOf(path, last)
  flip(path, at + 40)
  const inspect = await run('inspect', '--json', dataDir)
  t.is(inspect.code, 1)
  const { brokers, isDamaged } = json(inspect)
  t.true(isDamaged)
  t.deepEqual(brokers[0].damage, [{ file: basename(path), kind: 'records', at, bytes: 72 }])
  t.deepEqual(brokers[0].remotes[0].missing, { places: 1, records: 0 })
  const dump = await run('dump', dataDir)
  t.is(dump.code, 1)
  const lines = parsed(dump)
  t.deepEqual(
    lines.filter(({ damaged }) => damaged),
    [{ broker: BROKER, damaged: { file: basename(path), kind: 'records', at, bytes: 72 } }],
  )
  t.is(lines.length, running.dump.lines.length)
  t.false(lines.some(({ sequence }) => sequence === last))
  const text = await run('inspect', dataDir)
  t.is(text.lines.at(-1), 'damage was found')
  t.true(text.lines.some(line => /missing: 1 messages wait by the cursor/.test(line)))
})

test.serial('damaged bodies are of a block whose places are whole', async t => {
  const { dataDir, file } = copy(t)
  const path = file(/^bodies-/)
  flip(path, (await firstBlock(path)).bodies + 10)
  const { brokers } = json(await run('inspect', '--json', dataDir))
  t.like(brokers[0].damage, { length: 1, 0: { kind: 'bodies', block: { topic: 'orders', messages: 512 } } })
  const [{ found, missing }] = brokers[0].remotes
  t.is(missing.places, 0)
  t.is(found.withoutBody, json(running.inspect).brokers[0].remotes[0].found.withoutBody + 512)
  const dump = await run('dump', '--bodies', '--waiting', dataDir)
  t.is(dump.code, 1)
  const places = parsed(dump).filter(({ damaged }) => !damaged)
  t.is(places.length, SPILLED + SMALL)
  t.true(places.every(({ hasBody, payload }) => hasBody === (payload !== null)))
  t.is(places.filter(({ where, hasBody }) => where === 'bodies' && !hasBody).length, 512)
})

test.serial('damaged places of a block are read where the journal still has them', async t => {
  const { dataDir, file } = copy(t)
  const path = file(/^bodies-/)
  flip(path, (await firstBlock(path)).places + 10)
  const inspect = await run('inspect', '--json', dataDir)
  t.is(inspect.code, 1)
  const [broker] = json(inspect).brokers
  t.like(broker.damage, { length: 1, 0: { kind: 'places', block: { messages: 512 } } })
  t.is(broker.remotes[0].found.waiting, SPILLED + SMALL)
  t.deepEqual(broker.remotes[0].missing, { places: 0, records: 0 })
})

test.serial('and are missing where it has not', async t => {
  const { dataDir, file } = copy(t)
  const path = file(/^bodies-/)
  flip(path, (await firstBlock(path)).places + 10)
  const places = file(/^places-/)
  rmSync(places)
  const inspect = await run('inspect', '--json', dataDir)
  t.is(inspect.code, 1)
  t.is(json(inspect).brokers[0].remotes[0].missing.places, SPILLED + SMALL)
})

test.serial('files that are cut in the middle of a record or a block are torn there', async t => {
  const { dataDir, file } = copy(t)
  const places = file(/^places-/)
  const at = recordOf(places, DONE + SPILLED + SMALL - 1)
  truncateSync(places, at + 30)
  const bodies = file(/^bodies-/)
  const block = await firstBlock(bodies)
  truncateSync(bodies, block.bodies + 20)
  const inspect = await run('inspect', '--json', dataDir)
  const [broker] = json(inspect).brokers
  t.is(broker.segments[0].tornBytes, 30)
  t.is(broker.blockFiles[0].tornBytes, block.bodies + 20 - block.at)
  // The last message was known to the cursor.
  t.like(broker.remotes[0], { missing: { places: 1 }, found: { waiting: SPILLED + SMALL - 1 } })
  t.is(inspect.code, 1)
})

test.serial('one damaged slot is damage, and the other tells; with two damaged all waits', async t => {
  const { dataDir, folder } = copy(t)
  const slot = (name: string) => join(folder, 'remotes', 'default', name)
  const newest = json(running.inspect).brokers[0].remotes[0].slots.sort(
    (a: { generation: number }, b: { generation: number }) => b.generation - a.generation,
  )[0].file
  flip(slot(newest === 'cursor-0' ? 'cursor-1' : 'cursor-0'), 200)
  const one = await run('inspect', '--json', dataDir)
  t.is(one.code, 1)
  t.like(json(one).brokers[0].remotes[0], { cursor: 'whole', found: { waiting: SPILLED + SMALL } })
  flip(slot(newest), 200)
  const two = await run('inspect', '--json', dataDir)
  t.is(two.code, 1)
  t.like(json(two).brokers[0].remotes[0], { cursor: 'damaged', slot: null, missing: null })
  const dump = await run('dump', dataDir)
  t.is(dump.code, 1)
  t.true(parsed(dump).every(({ done }) => Object.keys(done).length === 0))
})

test.serial('a directory of nothing but rubbish is damaged, and read to its end', async t => {
  const { dataDir, folder } = copy(t)
  for (const name of readdirSync(folder, { recursive: true }) as string[]) {
    const path = join(folder, name)
    if (statSync(path).isFile()) writeFileSync(path, Buffer.alloc(statSync(path).size % 100_000, 'rubbish '))
  }
  writeFileSync(join(dataDir, 'remotes.json'), '{')
  for (const argv of [['inspect'], ['inspect', '--json'], ['dump', '--bodies']]) {
    const { code, stderr } = await run(...argv, dataDir)
    t.is(code, 1)
    t.is(stderr, '')
  }
})

for (const [what, like, break_] of [
  [
    'segment',
    /^places-/,
    (bytes: Buffer) => {
      bytes.writeUInt32BE(99, 8)
      bytes.writeUInt32BE(crc32(bytes.subarray(0, 60)), 60)
      return bytes
    },
  ],
  ['cursor', /^remotes$/, () => Buffer.from(`tee-cursor 99 2 ${crc32(Buffer.from('{}'), 99).toString(16)}\n{}`)],
] as const)
  test.serial(`a ${what} of another version is 78, in one line that tells it`, async t => {
    const { dataDir, file } = copy(t)
    const path = what === 'cursor' ? join(file(like), 'default', 'cursor-0') : file(like)
    writeFileSync(path, break_(readFileSync(path)))
    for (const action of ['inspect', 'dump']) {
      const { code, stderr } = await run(action, dataDir)
      t.is(code, 78)
      t.regex(stderr, /^rocketmq-tee: .*version 99; this program reads version \d.*\n$/)
    }
  })

test.serial('what is no data directory is 73, in one line', async t => {
  const { dataDir } = copy(t)
  const empty = mkdtempSync(join(dataDir, 'empty-'))
  for (const path of [join(dataDir, 'nowhere'), join(dataDir, 'gateway-id'), empty])
    for (const action of ['inspect', 'dump']) {
      const { code, stderr } = await run(action, path)
      t.is(code, 73)
      t.regex(stderr, /^rocketmq-tee: .* is no data directory of a gateway: .*\n$/)
    }
})

test.serial('wrong usage is 64, in one line; --help answers', async t => {
  const wrong = [
    [],
    ['mend', 'x'],
    ['inspect'],
    ['inspect', 'x', 'y'],
    ['inspect', '--bodies', 'x'],
    ['dump', '--json', 'x'],
    ['dump', '--waiting=1', 'x'],
    ['dump', 'x', '--topic'],
  ]
  for (const argv of wrong) {
    const { code, stderr } = await run(...argv)
    t.is(code, 64, argv.join(' '))
    t.regex(stderr, /^rocketmq-tee: .*see journal --help\n$/)
  }
  const help = await run('--help')
  t.is(help.code, 0)
  t.true(help.lines.some(line => /journal dump/.test(line)))
  t.is((await run('dump', '--help')).code, 0)
})

test.serial('a reader that has seen enough ends it quietly', async t => {
  const { dataDir } = copy(t)
  const main = fileURLToPath(new URL('../../proxy/cli/main.js', import.meta.url))
  const child = spawn(process.execPath, [main, 'journal', 'dump', '--bodies', dataDir], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stderr = ''
  child.stderr.on('data', chunk => {
    stderr += chunk
  })
  await once(child.stdout, 'data')
  child.stdout.destroy()
  const [code] = await once(child, 'close')
  t.is(code, 0, stderr)
  t.is(stderr, '')
})
