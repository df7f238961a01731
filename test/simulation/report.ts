// What a failing history says: how it is repeated, its smallest schedule, and who did what when.

import { shrink } from './shrink.ts'
import { simulate } from './simulate.ts'
import { type Schedule, stepText } from './step.ts'

const CHARACTERS_MOST = 30_000

/** Runs it again in its smallest form. */
export async function reportOf(schedule: Schedule): Promise<string> {
  const small = await shrink(schedule)
  const { problems, world } = await simulate(small)
  const { seed } = schedule.setup
  const history = world.history.print()
  return [
    `${problems.join('\n')}`,
    '',
    `Repeat it: TEST_SEED=${seed} SEEDS=1 npx ava dist/test/simulation/simulation.test.js`,
    '',
    'The smallest schedule that was found:',
    JSON.stringify(small.setup),
    ...small.steps.map(stepText),
    '',
    history.length > CHARACTERS_MOST ? `…${history.slice(-CHARACTERS_MOST)}` : history,
  ].join('\n')
}
