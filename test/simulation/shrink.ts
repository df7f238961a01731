// Makes a failing schedule small: steps are left out, many at a time and then one by one, as long as it fails in the same way.
// Then its sends, and the world itself, are made simpler.

import { simulate } from './simulate.ts'
import type { Schedule, Setup } from './step.ts'

const TRIES = 600

/** What kind of failure it is: the problem without its numbers. */
export function kindOf(problem: string): string {
  return problem
    .replace(/[^A-Za-z ]/g, '')
    .replace(/\b[mq]\b/g, '')
    .slice(0, 24)
}

export async function shrink(schedule: Schedule): Promise<Schedule> {
  const first = (await simulate(schedule)).problems[0]
  if (first === undefined) return schedule
  let best = schedule
  let tries = 0
  const fails = async (candidate: Schedule) => {
    if (tries++ >= TRIES) return false
    const { problems } = await simulate(candidate)
    if (problems[0] === undefined || kindOf(problems[0]) !== kindOf(first)) return false
    best = candidate
    return true
  }
  for (let size = best.steps.length >> 1; size >= 1; size = size === 1 ? 0 : size >> 1)
    for (let at = best.steps.length - size; at >= 0; at -= size)
      await fails({ ...best, steps: [...best.steps.slice(0, at), ...best.steps.slice(at + size)] })
  for (const simpler of simplerWorlds) await fails({ ...best, setup: { ...best.setup, ...simpler } })
  for (let at = 0; at < best.steps.length; at++) {
    const step = best.steps[at]!
    if (step.do !== 'send') continue
    for (const plainer of [{ messages: 1 }, { size: 0 }, { isToRepeat: false }, { topic: 0 }, { queueId: 0 }]) {
      const now = { ...best.steps[at]!, ...plainer } as typeof step
      await fails({ ...best, steps: best.steps.map((other, index) => (index === at ? now : other)) })
    }
  }
  return best
}

const simplerWorlds: Partial<Setup>[] = [
  { topics: [{ sourceQueues: 1, remoteQueues: 1 }] },
  { clients: 1 },
  { sourceBrokers: 1 },
  { remotes: 1 },
  { reroutes: false },
  { remoteBrokers: 1 },
  { cutsChunks: false },
  { highWater: 1_000_000 },
  { latency: 0.5 },
  { executionMost: 0.5 },
  { dispatchMost: 1 },
  { diskMost: 1 },
  { bodyMemory: 1_000_000 },
  { bornTimestampTolerance: 1_000 },
  { inFlightBytes: undefined },
]
