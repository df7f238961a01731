// A gateway's replay on a real disk, with a source in memory and no remote to reach: an outage as large as is asked for, and the start after it.
// node dist/test/support/outage-process.js fill|open DATA_DIR MESSAGES BODY_BYTES [MESSAGES_A_SECOND]
//
// `fill` acks so many messages and lets them go to disk, `open` starts on what is there. Each prints one line of JSON: what there is,
// how long it took, and the most memory that the process had; then it is killed, as a crash ends it.

import { writeSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { encodeProperties } from '../../codec/index.ts'
import { hashOf, Replay, realEnvironment, Send, type SourceBroker } from '../../replay/index.ts'
import { FakeCluster } from '../replay/fake-cluster.ts'
import { FakeNetwork } from './fake-environment.ts'

/** Nobody listens there. */
const NOBODY = { host: 'rome', port: 9876 }
const TOPIC = 'orders'
const QUEUES = 8
const MESSAGES_A_TURN = 200
const BODY_MEMORY = 64 * 1024 * 1024

export interface Outage {
  queued: number
  inGap: number
  journalBytes: number
  bodiesBytes: number
  /** Of the start, and until all was on disk. */
  openMs: number
  fillMs: number
  /** The most memory that the process had. */
  maxRssBytes: number
}

const silent = {
  debug() {},
  info() {},
  warn() {},
  error: (fields: object, message: string) => console.error(message, fields),
}

async function run(mode: string, dataDir: string, messages: number, bodyBytes: number, rate: number): Promise<void> {
  const environment = realEnvironment(silent)
  const network = new FakeNetwork(environment.clock)
  const source = new FakeCluster('paris')
  source.makeTopic(TOPIC, QUEUES)
  // What it is asked for before it is known that it may be read back from.
  for (let queueId = 0; queueId < QUEUES; queueId++) source.broker.store(TOPIC, queueId, {})
  source.connect(network)
  const replay = new Replay(
    { ...environment, dial: (address, events) => network.dial(address, events) },
    {
      dataDir,
      source: [source.nameServer],
      remotes: new Map([['default', [NOBODY]]]),
      group: 'tee',
      bodyMemory: BODY_MEMORY,
      bornTimestampTolerance: 1_000,
      sendGiveUpTimeout: 10_000,
      topicSync: 'off',
      remoteBrokerAway: 'wait',
      journal: {
        ack: 'append',
        bodies: 'spill',
        onFull: 'gap',
        maxBytes: 100 * 1024 ** 3,
        minFreeBytes: 0,
        spillAfter: 200,
        stallTimeout: 30_000,
        retention: 600_000,
        compress: false,
      },
    },
  )
  await mkdir(dataDir, { recursive: true })
  await replay.open()
  const started = performance.now()
  const broker = await replay.broker('paris-a', 'paris', 0, source.broker.address)
  const openMs = performance.now() - started
  if (mode === 'fill') await fill(replay, broker, messages, bodyBytes, rate)
  const fillMs = performance.now() - started - openMs
  const { queued, inGap } = broker.feeds[0]!.account
  const outage: Outage = {
    queued,
    inGap,
    journalBytes: broker.journal.counts.bytes,
    bodiesBytes: broker.spill.counts.bytes,
    openMs,
    fillMs,
    maxRssBytes: process.resourceUsage().maxRSS * 1024,
  }
  writeSync(1, `${JSON.stringify(outage)}\n`)
  process.kill(process.pid, 'SIGKILL')
}

async function fill(
  replay: Replay,
  broker: SourceBroker,
  messages: number,
  bodyBytes: number,
  rate: number,
): Promise<void> {
  while (!broker.readable.mayReadBack(TOPIC, 0, 0)) await new Promise(resolve => setTimeout(resolve, 1))
  const started = performance.now()
  const offsets = new Array<number>(QUEUES).fill(0)
  for (let sent = 0; sent < messages; ) {
    // As they come from a socket: many messages stand in one chunk.
    const chunk = Buffer.allocUnsafeSlow(64 * 1024).fill('x')
    for (let used = 0; used + bodyBytes + 64 < chunk.length && sent < messages; used += bodyBytes + 64, sent++) {
      const queueId = sent % QUEUES
      const key = `7F00000100010000${sent.toString(16).padStart(16, '0')}`
      const properties = encodeProperties([['UNIQ_KEY', key]])
      properties.copy(chunk, used)
      const send = new Send()
      send.topic = TOPIC
      send.queueId = queueId
      broker.forwarded(send)
      send.setProperties(chunk, used, used + properties.length, false)
      send.addPayload(chunk, used + 64, used + 64 + bodyBytes)
      send.queueOffset = offsets[queueId]!++
      send.commitLogOffset = sent * (bodyBytes + 200)
      send.bornTimestamp = send.ackedAt = Date.now()
      send.hash = hashOf(Buffer.from(key), [])
      broker.acked(send, queueId, send)
      broker.answered(send, queueId)
      if (sent % MESSAGES_A_TURN === 0) await new Promise(resolve => setImmediate(resolve))
    }
    // Slower than the disk, so that none becomes a gap.
    while (replay.memory.used > BODY_MEMORY * 0.6 || sent > ((performance.now() - started) / 1_000) * rate)
      await new Promise(resolve => setTimeout(resolve, 5))
  }
  while (broker.spill.spilled < messages) {
    broker.spill.force(Number.MAX_SAFE_INTEGER)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

const [mode, dataDir, messages, bodyBytes, rate = Number.POSITIVE_INFINITY] = process.argv.slice(2) as string[]
await run(mode!, dataDir!, Number(messages), Number(bodyBytes), Number(rate))
