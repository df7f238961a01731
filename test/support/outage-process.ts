// A gateway's replay by itself on a real disk, with nobody to reach: an outage as large as is asked for, and the start after it.
// node dist/test/support/outage-process.js fill|open DATA_DIR MESSAGES BODY_BYTES
//
// `fill` acks so many messages, lets them go to disk, and ends in good order; `open` starts on what is there, and ends. Each
// prints one line of JSON: what there is, how long it took, and the most memory that the process had.

import { mkdir } from 'node:fs/promises'
import { encodeProperties } from '../../codec/index.ts'
import { hashOf, Replay, realEnvironment, Send, type SourceBroker } from '../../replay/index.ts'

/** Nobody listens there. */
const NOBODY = { host: '127.0.0.1', port: 1 }
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

async function run(mode: string, dataDir: string, messages: number, bodyBytes: number): Promise<Outage> {
  const replay = new Replay(realEnvironment(silent), {
    dataDir,
    source: [NOBODY],
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
  })
  await mkdir(dataDir, { recursive: true })
  await replay.open()
  const started = performance.now()
  const broker = await replay.broker('paris-a', 'paris', 0, `${NOBODY.host}:${NOBODY.port}`)
  const openMs = performance.now() - started
  if (mode === 'fill') await fill(replay, broker, messages, bodyBytes)
  const fillMs = performance.now() - started - openMs
  const { queued, inGap } = broker.feeds[0]!.account
  const outage = {
    queued,
    inGap,
    journalBytes: broker.journal.counts.bytes,
    bodiesBytes: broker.spill.counts.bytes,
    openMs,
    fillMs,
    maxRssBytes: process.resourceUsage().maxRSS * 1024,
  }
  await replay.close()
  return outage
}

async function fill(replay: Replay, broker: SourceBroker, messages: number, bodyBytes: number): Promise<void> {
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
    while (replay.memory.used > BODY_MEMORY * 0.6) await new Promise(resolve => setTimeout(resolve, 5))
  }
  while (broker.spill.spilled < messages) {
    broker.spill.force(Number.MAX_SAFE_INTEGER)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

const [mode, dataDir, messages, bodyBytes] = process.argv.slice(2) as [string, string, string, string]
console.log(JSON.stringify(await run(mode, dataDir, Number(messages), Number(bodyBytes))))
