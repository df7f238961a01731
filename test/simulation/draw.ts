// A schedule from a seed: what the world is like, what is sent, and which faults come when.

import type { JournalSettings } from '../../replay/journal-settings.ts'
import type { Random } from '../support/random.ts'
import { type FaultKind, type FaultName, faultKinds } from './faults.ts'
import { stream } from './random-streams.ts'
import type { Act, Schedule, Setup, Step } from './step.ts'

const FAULTS_MOST = 8
/** Of all histories so many have two remotes; of these so many have one that is away. */
const TWO_REMOTES = 0.3
const AWAY = 0.4
/** Of those whose remotes have two brokers, so many have lanes that leave one which is away. */
const REROUTES = 0.3
/** In so many a full journal refuses sends. */
const REJECTS = 0.3
/** In so many a link to a remote has no room for a second request. */
const WAITS_FOR_ROOM = 0.3
const IN_FLIGHT_FEW = 200
/** And so many have a source that never lets its queues be read: the journal has all that is needed. */
const CLOSED = 0.1

export function drawSchedule(seed: number, faults: ReadonlySet<FaultName>): Schedule {
  const random = stream(seed, 'schedule')
  const setup = drawSetup(seed, random)
  const length = random.integer(2_000, 25_000)
  const steps = drawSends(stream(seed, 'sends'), setup, length)
  const names = [...faults]
  // Each kind draws for itself: a history stays as it is where a kind is turned off that it does not have.
  const mix = stream(seed, 'faults')
  const all = Object.entries(faultKinds) as [FaultName, FaultKind][]
  const total = all.reduce((sum, [, { weight }]) => sum + weight, 0)
  for (let count = mix.integer(0, FAULTS_MOST); count > 0; count--) {
    const [fault, kind] = weighted(all, mix.next() * total)
    const step = { at: mix.integer(0, length), fault, ...kind.draw(stream(seed, `${fault} ${count}`), setup) }
    if (names.includes(fault)) steps.push(step)
  }
  if (setup.reroutes) leave(stream(seed, 'leave'), setup, length, steps)
  if (setup.remotes === 2) aim(stream(seed, 'aim'), setup, steps)
  if (stream(seed, 'closed').chance(CLOSED)) close(setup)
  return { setup, steps: steps.sort((one, other) => one.at - other.at) }
}

function close(setup: Setup): void {
  setup.sourceIsClosed = true
  setup.journal = { ...setup.journal, bodies: 'always' }
  // While it is not known yet what does not fit is a gap, and waits for ever.
  setup.bodyMemory = 1_000_000
}

/** What is drawn for the remote befalls one of the two; or one is away all the time, and all befalls the other. */
function aim(random: Random, setup: Setup, steps: Step[]): void {
  if (random.chance(AWAY)) {
    steps.push({ at: 0, do: 'away', side: 'remote2' })
    if (random.chance(0.5)) fillDisk(random, setup, steps)
    return
  }
  for (const step of steps) {
    if ('side' in step && step.side === 'remote' && random.chance(0.5)) step.side = 'remote2'
    if (step.do === 'power cut' && step.with.includes('remote')) step.with.push('remote2')
  }
}

/** A broker of the remote goes away for longer than its lanes wait for it, while they have something to send. */
function leave(random: Random, setup: Setup, length: number, steps: Step[]): void {
  const at = random.integer(0, length)
  const downMs = random.integer(62_000, 100_000)
  const losesRecords = random.chance(0.7) ? random.integer(1, 8) : 0
  const broker = random.integer(0, 1)
  steps.push({ at, do: 'broker restarts', side: 'remote', broker, downMs, losesRecords, isAway: true })
  // When it is there again it may be too busy to be read.
  if (random.chance(0.3))
    steps.push({
      at: at + downMs - 1_000,
      do: 'refuse',
      side: 'remote',
      broker,
      code: 11,
      forMs: random.integer(2_000, 20_000),
    })
  const end = at + downMs + random.pick([0, 20_000])
  for (let next = at + 100; next < end; next += random.integer(200, 12_000))
    steps.push({ at: next, ...drawSend(random, setup) } as Step)
}

/** What waits for the one fills the disk; then the other is away, too, for a while. */
function fillDisk(random: Random, setup: Setup, steps: Step[]): void {
  setup.bodyMemory = random.pick([10_000, 20_000])
  setup.journal = { ...setup.journal, maxBytes: 40_000 }
  const send = (at: number) => steps.push({ at, ...drawSend(random, setup), size: 2_000 } as Step)
  const full = random.integer(4_000, 9_000)
  for (let at = 0; at < full; at += 300) send(at)
  steps.push({ at: full, do: 'partition', side: 'remote', forMs: random.integer(1_000, 8_000) })
  for (let at = full + 50; at < full + 1_500; at += 250) send(at)
}

function weighted(kinds: readonly [FaultName, FaultKind][], at: number): [FaultName, FaultKind] {
  let sum = 0
  for (const entry of kinds) {
    sum += entry[1].weight
    if (at < sum) return entry
  }
  return kinds.at(-1)!
}

function drawSetup(seed: number, random: Random): Setup {
  const clients = random.integer(1, 4)
  const sourceBrokers = random.pick([1, 1, 2])
  const remoteBrokers = random.pick([1, 1, 2])
  return {
    seed,
    clients,
    sourceBrokers,
    // A stream of its own: the others stay what they are.
    remotes: stream(seed, 'remotes').chance(TWO_REMOTES) ? 2 : 1,
    remoteBrokers,
    ...(remoteBrokers > 1 && stream(seed, 'reroutes').chance(REROUTES) && { reroutes: true }),
    topics: Array.from({ length: random.integer(1, 2) }, () => ({
      sourceQueues: random.integer(1, 3),
      // 0: the gateway makes it.
      remoteQueues: random.integer(0, 3),
    })),
    latency: random.pick([0.5, 5, 50]),
    cutsChunks: random.chance(0.5),
    highWater: random.pick([500, 16_384, 1_000_000]),
    lateBytes: random.chance(0.5),
    executionMost: random.pick([0.5, 5, 150]),
    dispatchMost: random.pick([1, 10, 1_500]),
    flushMost: random.pick([1, 500]),
    addsProperties: random.chance(0.5),
    batchKeyBehind: random.chance(0.5),
    diskMost: random.pick([1, 10, 150]),
    bodyMemory: random.pick([0, 3_000, 20_000, 1_000_000]),
    bornTimestampTolerance: random.pick([0, 1_000]),
    ...(stream(seed, 'in flight').chance(WAITS_FOR_ROOM) && { inFlightBytes: IN_FLIGHT_FEW }),
    sendGiveUpTimeout: random.pick([2_000, 10_000]),
    sourceStaysShort: random.chance(0.5),
    journal: { ...drawJournal(random), ...(stream(seed, 'full').chance(REJECTS) && { onFull: 'reject' as const }) },
  }
}

function drawJournal(random: Random): Partial<JournalSettings> {
  return {
    ack: random.pick(['append', 'append', 'fsync'] as const),
    // Down to places alone: blocks go without bodies then.
    maxBytes: random.pick([1_000_000_000, 1_000_000_000, 40_000]),
    spillAfter: random.pick([200, 20]),
    compress: random.chance(0.3),
  }
}

function drawSends(random: Random, setup: Setup, length: number): Step[] {
  const steps: Step[] = []
  const bursts = random.integer(1, 8)
  for (let burst = 0; burst < bursts; burst++) {
    const start = random.integer(0, length)
    const gap = random.pick([0, 1, 20, 300])
    const sends = random.integer(1, 16)
    for (let i = 0; i < sends; i++) steps.push({ at: start + i * gap, ...drawSend(random, setup) })
  }
  return steps
}

function drawSend(random: Random, setup: Setup): Act {
  const kind = random.integer(0, 40)
  return {
    do: 'send',
    client: random.integer(0, setup.clients - 1),
    topic: random.integer(0, setup.topics.length - 1),
    queueId: random.chance(0.1) ? -1 : random.integer(0, 2),
    messages: random.chance(0.25) ? random.integer(2, 6) : 1,
    size: random.pick([0, 10, 200, 2_000]),
    ...(random.chance(0.05) && { oneway: true }),
    ...(random.chance(0.5) && { isToRepeat: true }),
    ...(kind === 0 && { kind: 'illegal' as const }),
    ...(kind === 1 && { kind: 'keyless' as const }),
    ...(kind === 2 && { kind: 'long' as const }),
    ...(kind === 3 && { kind: 'delayed' as const }),
  }
}
