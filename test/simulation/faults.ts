// The kinds of faults that a history may have, as one table.

import type { Random } from '../support/random.ts'
import type { SendFault } from './broker.ts'
import type { Act, Setup, Side } from './step.ts'

export interface FaultKind {
  /** How often, against the others. */
  weight: number
  draw(random: Random, setup: Setup): Act
}

const both: readonly Side[] = ['source', 'remote']

export const faultKinds = {
  'client closes': {
    weight: 4,
    draw: random => ({
      do: 'client closes',
      client: random.integer(0, 9),
      how: random.pick(['end', 'destroy', 'reset'] as const),
    }),
  },
  'source refuses': {
    weight: 3,
    draw: random => ({ do: 'arm', side: 'source', broker: random.integer(0, 1), faults: some(random, refusal) }),
  },
  'source stores and says otherwise': {
    weight: 3,
    draw: random => ({ do: 'arm', side: 'source', broker: random.integer(0, 1), faults: some(random, storedWith) }),
  },
  'source does not answer': {
    weight: 3,
    draw: random => ({ do: 'arm', side: 'source', broker: random.integer(0, 1), faults: some(random, noAnswer) }),
  },
  'source executes late': {
    weight: 3,
    draw: random => ({ do: 'arm', side: 'source', broker: random.integer(0, 1), faults: some(random, late) }),
  },
  'source answers slowly': {
    weight: 4,
    draw: random => ({ do: 'arm', side: 'source', broker: random.integer(0, 1), faults: some(random, slow) }),
  },
  'remote answers slowly': {
    weight: 2,
    draw: random => ({ do: 'arm', side: 'remote', broker: random.integer(0, 1), faults: some(random, slow) }),
  },
  'source stalls': {
    weight: 2,
    draw: random => ({
      do: 'stall',
      side: 'source',
      broker: random.integer(0, 1),
      forMs: random.pick([300, 4_000, 14_000]),
    }),
  },
  'source restarts': {
    weight: 2,
    draw: random => restart(random, 'source', 0),
  },
  'source lacks its tail': {
    weight: 2,
    draw: random => restart(random, 'source', random.integer(1, 8)),
  },
  'source expires': {
    weight: 1,
    draw: random => ({ do: 'expire', side: 'source', broker: random.integer(0, 1), keeps: random.integer(1, 20) }),
  },
  'source moves': {
    weight: 1,
    draw: random => move(random, 'source', 0, false),
  },
  'source moves and lacks its tail': {
    weight: 1,
    draw: random => move(random, 'source', random.integer(0, 6), random.chance(0.5)),
  },
  'source refuses reading back': {
    weight: 1,
    draw: random => ({
      do: 'refuse',
      side: 'source',
      broker: random.integer(0, 1),
      code: 11,
      forMs: random.integer(500, 9_000),
    }),
  },
  strangers: {
    weight: 3,
    draw: random => ({
      do: 'stranger',
      side: random.pick(both),
      broker: random.integer(0, 1),
      topic: random.integer(0, 1),
      queueId: random.integer(0, 3),
    }),
  },
  'remote refuses': {
    weight: 3,
    draw: random => ({ do: 'arm', side: 'remote', broker: random.integer(0, 1), faults: some(random, refusal) }),
  },
  'remote stores and says otherwise': {
    weight: 3,
    draw: random => ({ do: 'arm', side: 'remote', broker: random.integer(0, 1), faults: some(random, storedWith) }),
  },
  'remote does not answer': {
    weight: 3,
    draw: random => ({ do: 'arm', side: 'remote', broker: random.integer(0, 1), faults: some(random, noAnswer) }),
  },
  'remote executes late': {
    weight: 2,
    draw: random => ({ do: 'arm', side: 'remote', broker: random.integer(0, 1), faults: some(random, lateAtRemote) }),
  },
  'remote stalls': {
    weight: 2,
    draw: random => ({ do: 'stall', side: 'remote', broker: random.integer(0, 1), forMs: random.integer(100, 4_000) }),
  },
  'remote is frozen': {
    weight: 2,
    draw: random => ({
      do: 'stall',
      side: 'remote',
      broker: random.integer(0, 1),
      forMs: random.integer(10_000, 40_000),
    }),
  },
  'remote restarts': {
    weight: 3,
    draw: random => restart(random, 'remote', 0),
  },
  'remote lacks its tail': {
    weight: 2,
    draw: random => restart(random, 'remote', random.integer(1, 8)),
  },
  'remote moves': {
    weight: 1,
    draw: random => move(random, 'remote', 0, false),
  },
  'remote moves and lacks its tail': {
    weight: 1,
    draw: random => move(random, 'remote', random.integer(0, 6), random.chance(0.5)),
  },
  'remote topic is made anew': {
    weight: 1,
    draw: random => ({
      do: 'topic made anew',
      side: 'remote',
      broker: 0,
      topic: random.integer(0, 1),
      queues: random.integer(1, 3),
    }),
  },
  'remote refuses questions': {
    weight: 1,
    draw: random => ({
      do: 'refuse',
      side: 'remote',
      broker: random.integer(0, 1),
      code: random.pick([11, 17, 28, 30, 310]),
      forMs: random.integer(500, 9_000),
    }),
  },
  'connections are cut': {
    weight: 4,
    draw: random => ({ do: 'cut', side: random.pick(['source', 'remote', 'clients'] as const) }),
  },
  partition: {
    weight: 3,
    draw: random => ({
      do: 'partition',
      side: random.pick(['source', 'remote', 'clients'] as const),
      forMs: random.pick([200, 3_000, 15_000]),
    }),
  },
  'name server away': {
    weight: 1,
    draw: random => ({ do: 'name server away', side: random.pick(both), forMs: random.integer(500, 8_000) }),
  },
  kill: {
    weight: 5,
    draw: random => ({ do: 'kill', downMs: random.pick([1, 200, 3_000]) }),
  },
  'dies at a disk operation': {
    weight: 5,
    draw: random => ({
      do: 'die at disk operation',
      operations: random.integer(0, 12),
      downMs: random.pick([1, 500]),
      powerCut: false,
    }),
  },
  restart: {
    weight: 3,
    draw: () => ({ do: 'restart' }),
  },
  'power cut': {
    weight: 3,
    draw: random => ({ do: 'power cut', downMs: random.pick([500, 3_000]), with: [] }),
  },
  'power cut at a disk operation': {
    weight: 3,
    draw: random => ({ do: 'die at disk operation', operations: random.integer(0, 12), downMs: 500, powerCut: true }),
  },
  'power cut of gateway and source': {
    weight: 2,
    draw: () => ({ do: 'power cut', downMs: 500, with: ['source'] }),
  },
  'power cut of everything': {
    weight: 1,
    draw: () => ({ do: 'power cut', downMs: 500, with: ['source', 'remote'] }),
  },
  'disk fails': {
    weight: 4,
    draw: random => ({
      do: 'disk fault',
      operations: random
        .pick([['append'], ['append', 'create'], ['overwrite'], ['append', 'create', 'overwrite', 'read']] as const)
        .slice() as never,
      probability: random.pick([0.1, 0.5, 1]),
      torn: random.chance(0.5),
      code: random.pick(['EIO', 'ENOSPC'] as const),
      forMs: random.integer(50, 5_000),
    }),
  },
  'sync fails': {
    weight: 2,
    draw: random => ({
      do: 'disk fault',
      operations: ['sync'],
      probability: random.pick([0.2, 1]),
      torn: false,
      code: 'EIO',
      forMs: random.integer(50, 3_000),
    }),
  },
  'disk is full': {
    weight: 3,
    draw: random => ({
      do: 'disk full',
      roomBytes: random.pick([0, 30, 400, 2_000]),
      forMs: random.integer(100, 6_000),
    }),
  },
  'disk damages blocks': {
    weight: 2,
    draw: random => ({ do: 'damage', share: random.next() }),
  },
  'disk damages places': {
    weight: 2,
    draw: random => ({ do: 'damage', of: 'places', share: random.next() }),
  },
  'disk damages a slot': {
    weight: 2,
    draw: random => ({ do: 'damage', of: 'slot', share: random.next() }),
  },
  'disk loses a cursor': {
    weight: 1,
    draw: random => ({ do: 'damage', of: 'cursor', share: random.next() }),
  },
  'disk stalls': {
    weight: 2,
    draw: random => ({ do: 'disk stall', ms: random.pick([20, 300, 4_000]) }),
  },
} satisfies Record<string, FaultKind>

export type FaultName = keyof typeof faultKinds

export const faultNames = Object.keys(faultKinds) as FaultName[]

export const allFaults: ReadonlySet<FaultName> = new Set(faultNames)

function some(random: Random, draw: (random: Random) => SendFault): SendFault[] {
  return Array.from({ length: random.integer(1, 4) }, () => draw(random))
}

function refusal(random: Random): SendFault {
  const [code, remark] = random.pick([
    [2, '[TIMEOUT_CLEAN_QUEUE]broker busy'],
    [14, 'service not available now'],
    [215, 'flow control'],
    [16, 'the broker is not writable'],
    [1, 'create mapped file failed, server is busy or broken.'],
  ] as const)
  return { kind: 'refused', code, remark }
}

function storedWith(random: Random): SendFault {
  const [code, remark] = random.pick([
    [10, ''],
    [11, ''],
    [12, ''],
    [1, 'java.lang.NullPointerException'],
  ] as const)
  return random.chance(0.2)
    ? { kind: 'refused', code: 1, remark: 'java.lang.NullPointerException' }
    : { kind: 'stored', code, remark }
}

function noAnswer(random: Random): SendFault {
  return { kind: random.pick(['silent', 'broken'] as const), stores: random.chance(0.5) }
}

function slow(random: Random): SendFault {
  return { kind: 'slow', ms: random.pick([5, 50, 900, 4_000, 14_000]) }
}

function late(random: Random): SendFault {
  return { kind: 'late', ms: random.pick([500, 4_000, 9_000, 14_000]) }
}

/** What waits for longer in its queue it drops. */
function lateAtRemote(random: Random): SendFault {
  return { kind: 'late', ms: random.pick([50, 300, 800]) }
}

function restart(random: Random, side: Side, losesRecords: number): Act {
  return { do: 'broker restarts', side, broker: random.integer(0, 1), downMs: random.pick([200, 5_000]), losesRecords }
}

function move(random: Random, side: Side, lacksRecords: number, oldGoesOn: boolean): Act {
  return {
    do: 'broker moves',
    side,
    broker: random.integer(0, 1),
    lacksRecords,
    oldGoesOn,
    learntAfterMs: random.integer(10, 5_000),
  }
}
