// A data directory as a version of the gateway left it, with the clusters that belong to it, in a folder of test/fixtures:
// `disk/` has the files, and what.json says what was stored at the source, what had arrived at each remote, and what waits.

import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import type { StoredMessage } from '../../codec/index.ts'
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
  /** By queue: texts that had arrived, and all that are there once nothing waits. */
  arrived: string[][]
  atLast: string[][]
}

export interface JournalThen {
  sequence: number
  epochs: [ordinal: number, id: string][]
  queues: number
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

/** The messages of a cluster's topic, by queue. */
export type Queues = readonly (readonly StoredMessage[])[]

export function writeFixture(
  folder: string,
  disk: FakeDisk,
  topic: string,
  source: Queues,
  atRemotes: ReadonlyMap<string, Queues>,
  was: JournalThen,
): void {
  rmSync(folder, { recursive: true, force: true })
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
  const cluster = (name: string, queues: What['source']) => {
    const made = new FakeCluster(name)
    made.makeTopic(what.topic, queues.length)
    for (const [queueId, messages] of queues.entries())
      made.broker
        .queue(what.topic, queueId)
        .messages.push(...messages.map(message => decode(what.topic, queueId, message)))
    return made
  }
  const remotes = new Map(Object.entries(what.atRemotes).map(([label, queues]) => [label, cluster(label, queues)]))
  return { disk, source: cluster('paris', what.source), remotes, was: what }
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
