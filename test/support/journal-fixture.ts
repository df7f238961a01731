// A data directory as a version of the gateway left it, with the clusters that belong to it, in a folder of test/fixtures:
// `disk/` has the files, and what.json says what was stored at the source, what had arrived at each remote, and what waits.

import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { RequestCode, ResponseCode, type StoredMessage } from '../../codec/index.ts'
import type { Totals } from '../../replay/account.ts'
import { projectRoot } from '../codec/project.ts'
import { FakeCluster } from '../replay/fake-cluster.ts'
import { FakeDisk } from './fake-disk.ts'

/** Where a fake disk has it. */
const DATA_DIR = '/data'

export interface RemoteThen {
  totals: Totals
  queued: number
  inGap: number
  /** By broker and queue: texts that had arrived, and all that are there once nothing waits. */
  arrived: string[][]
  atLast: string[][]
}

export interface JournalThen {
  /** Milliseconds, our clock. */
  at?: number
  sequence: number
  epochs: [ordinal: number, id: string][]
  queues: number
  /** Of each remote; one. */
  remoteBrokers?: number
  /** It does not let bodies be read. */
  sourceIsClosed?: boolean
  remotes: Record<string, RemoteThen>
}

interface What extends JournalThen {
  topic: string
  source: ReturnType<typeof encode>[][]
  atRemotes: Record<string, ReturnType<typeof encode>[][]>
}

export function fixtureFolder(name: string): string {
  return join(projectRoot, 'test', 'fixtures', name)
}

/** The messages of a cluster's topic, by broker and queue. */
export type Queues = readonly (readonly StoredMessage[])[]

/** Throws where there is one of that name: it stays as it was recorded. */
export function writeFixture(
  folder: string,
  disk: FakeDisk,
  topic: string,
  source: Queues,
  atRemotes: ReadonlyMap<string, Queues>,
  was: JournalThen,
): void {
  mkdirSync(folder)
  for (const [path, { bytes }] of disk.files) {
    const to = join(folder, 'disk', relative(DATA_DIR, path))
    mkdirSync(dirname(to), { recursive: true })
    writeFileSync(to, bytes)
  }
  const encoded = (queues: Queues) => queues.map(messages => messages.map(encode))
  const what: What = {
    ...was,
    topic,
    source: encoded(source),
    atRemotes: Object.fromEntries([...atRemotes].map(([label, queues]) => [label, encoded(queues)])),
  }
  writeFileSync(join(folder, 'what.json'), `${JSON.stringify(what, undefined, 1)}\n`)
}

export interface Fixture {
  disk: FakeDisk
  source: FakeCluster
  remotes: Map<string, FakeCluster>
  was: JournalThen
}

/** A copy: what is done with it changes no file. */
export function readFixture(folder: string): Fixture {
  const what = JSON.parse(readFileSync(join(folder, 'what.json'), 'utf8')) as What
  const disk = new FakeDisk()
  const files = join(folder, 'disk')
  for (const name of readdirSync(files, { recursive: true }) as string[])
    if (statSync(join(files, name)).isFile()) disk.put(`${DATA_DIR}/${name}`, readFileSync(join(files, name)))
  const cluster = (name: string, queues: What['source'], brokers = 1) => {
    const made = new FakeCluster(name, brokers)
    made.makeTopic(what.topic, what.queues)
    for (const [index, messages] of queues.entries()) {
      const queueId = index % what.queues
      const { messages: there } = made.brokers[Math.floor(index / what.queues)]!.queue(what.topic, queueId)
      there.push(...messages.map(message => decode(what.topic, queueId, message)))
    }
    return made
  }
  const remotes = new Map(
    Object.entries(what.atRemotes).map(([label, queues]) => [label, cluster(label, queues, what.remoteBrokers)]),
  )
  const source = cluster('paris', what.source)
  if (what.sourceIsClosed) closeForReading(source)
  return { disk, source, remotes, was: what }
}

/** It lets nobody pull. */
export function closeForReading({ broker }: FakeCluster): void {
  broker.intercept = request => {
    if (request.head.code !== RequestCode.PULL_MESSAGE) return false
    request.answer({ code: ResponseCode.NO_PERMISSION, remark: 'not now' })
    return true
  }
}

function encode({ body, properties, topic: _topic, queueId: _queueId, ...rest }: StoredMessage) {
  return { ...rest, body: body.toString('base64'), properties: properties.toString('base64') }
}

function decode(
  topic: string,
  queueId: number,
  { body, properties, ...rest }: ReturnType<typeof encode>,
): StoredMessage {
  return { ...rest, topic, queueId, body: Buffer.from(body, 'base64'), properties: Buffer.from(properties, 'base64') }
}
