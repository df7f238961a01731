// Whatever happens, and in whatever order: each acked message is at the remote once, in its order, or is said to be lost by a
// cause that happened. Each seed is one history; SEEDS says how many.

import test from 'ava'
import { printedSeed, regularSeed } from '../support/random.ts'
import { drawSchedule } from './draw.ts'
import { allFaults } from './faults.ts'
import { reportOf } from './report.ts'
import { simulate } from './simulate.ts'

const SEEDS = Number(process.env.SEEDS ?? 500)
/** Seeds of which two histories are compared. */
const TWICE = 25

test('every acked message arrives once and in order, over any history', async t => {
  const first = regularSeed(t)
  for (let seed = first; seed < first + SEEDS; seed++) {
    const schedule = drawSchedule(seed, allFaults)
    const { problems } = await simulate(schedule)
    if (problems.length > 0) return t.fail(`seed ${seed}: ${await reportOf(schedule)}`)
  }
  t.pass()
})

test('a seed is one history', async t => {
  const first = printedSeed(t)
  for (let seed = first; seed < first + TWICE; seed++) {
    const histories: string[] = []
    for (let run = 0; run < 2; run++) {
      const { world } = await simulate(drawSchedule(seed, allFaults))
      histories.push(world.history.print())
    }
    t.true(histories[0]!.length > 100)
    t.is(histories[0], histories[1], `seed ${seed}`)
  }
})
