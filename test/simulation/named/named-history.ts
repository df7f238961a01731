// A history written by hand: the execution behind a rule. It passes, and fails when one of its rules is switched off.

import type { Message } from '../ledger.ts'
import type { RuleName } from '../rules.ts'
import { finish } from '../simulate.ts'
import type { Setup } from '../step.ts'
import { World } from '../world.ts'

export interface NamedHistory {
  /** A sentence: what holds. */
  name: string
  /** It fails without any of these. */
  rules: readonly RuleName[]
  setup?: Partial<Setup>
  play(world: World): Promise<void>
}

/** A machine whose power was cut is known to a broker for up to 120 s; milliseconds. */
const PATIENCE = 200_000

/** One client for each send that must not wait for another, one queue, nothing slow. */
const calm: Setup = {
  seed: 1,
  clients: 3,
  sourceBrokers: 1,
  remotes: 1,
  remoteBrokers: 1,
  topics: [{ sourceQueues: 1, remoteQueues: 1 }],
  latency: 0.3,
  cutsChunks: false,
  highWater: 1_000_000,
  lateBytes: false,
  executionMost: 0.1,
  dispatchMost: 0.1,
  flushMost: 1,
  addsProperties: false,
  batchKeyBehind: false,
  diskMost: 0.5,
  bodyMemory: 1_000_000,
  bornTimestampTolerance: 1_000,
  sendGiveUpTimeout: 10_000,
}

export async function run({ setup, play }: NamedHistory): Promise<World> {
  const world = new World({ ...calm, ...setup })
  await world.start()
  await play(world)
  // To its end: where a rule is off, a count of the harness may be wrong long before any message is.
  await finish(world)
  return world
}

export function send(world: World, client = 0, queueId = 0): Message {
  return world.send({ do: 'send', client, topic: 0, queueId, messages: 1, size: 0 })[0]!
}

/** A message that the source has stored, and answers so many milliseconds later. */
export async function answeredLate(world: World, ms: number, client = 0): Promise<Message> {
  world.act({ do: 'arm', side: 'source', broker: 0, faults: [{ kind: 'slow', ms }] })
  const message = send(world, client)
  await until(world, `m${message.number} is stored`, () => message.atSource.length > 0)
  return message
}

/** The source starts again, and has lost its newest records. */
export async function sourceLoses(world: World, losesRecords: number): Promise<void> {
  world.act({ do: 'broker restarts', side: 'source', broker: 0, downMs: 200, losesRecords })
  await world.pass(1_000)
}

export function isAtRemote(world: World, message: Message): boolean {
  return world.broker('remote', 0).log.records.some(({ body }) => body.equals(message.body))
}

/** Lets time pass until it is so; a script that waits in vain is wrong, or what it waits for is broken. */
export async function until(world: World, what: string, condition: () => boolean): Promise<void> {
  await waitFor(world, `it never came to this: ${what}`, condition)
}

async function waitFor(world: World, problem: string, condition: () => boolean): Promise<void> {
  if (!(await world.until(world.now + PATIENCE, condition))) world.problem(problem)
}

export async function told(world: World, message: Message): Promise<void> {
  await until(world, `m${message.number} is told`, () => message.told > 0)
}

export async function arrived(world: World, message: Message): Promise<void> {
  await waitFor(world, `MISSING: m${message.number} never comes to the remote`, () => isAtRemote(world, message))
}

/** A message that went all the way, and a slot that knows it: the lane is there. */
export async function warm(world: World): Promise<Message> {
  const message = send(world)
  await arrived(world, message)
  await world.pass(2_500)
  return message
}

export async function startsAgain(world: World): Promise<void> {
  await until(world, 'the gateway serves again', () => world.gateway.alive && world.isServing)
}

/** kill -9, and the next process serves. */
export async function crash(world: World): Promise<void> {
  world.act({ do: 'kill', downMs: 100 })
  await startsAgain(world)
}

/** The gateway's power is cut, and the next process serves. */
export async function powerCut(world: World): Promise<void> {
  world.act({ do: 'power cut', downMs: 100, with: [] })
  await startsAgain(world)
}

/** The power of gateway and source is cut, and the source loses its records from this end of its log on. */
export async function powerCutTakes(world: World, end: number): Promise<void> {
  world.broker('source', 0).log.flushed = end
  world.act({ do: 'power cut', downMs: 100, with: ['source'] })
  await startsAgain(world)
}
