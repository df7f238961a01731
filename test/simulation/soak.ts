// Runs many histories in one process: `node dist/test/simulation/soak.js FIRST COUNT [FAULTS]`.
//
// FAULTS: names of faults.ts, comma-separated; without any all. Its lines on standard output are JSON: progress once in a while, and
// each failure with how it is repeated.

import { drawSchedule } from './draw.ts'
import { allFaults, type FaultName, faultNames } from './faults.ts'
import { reportOf } from './report.ts'
import { kindOf } from './shrink.ts'
import { simulate } from './simulate.ts'

const PROGRESS_EVERY = 250
/** Of failures alike so many are made small and shown. */
const ALIKE_MOST = 1

const [first = '1', count = '1000', chosen = 'all'] = process.argv.slice(2)
const faults = chosenFaults(chosen)
const kinds = new Map<string, number>()
let failed = 0

for (let done = 0; done < Number(count); done++) {
  const seed = Number(first) + done
  const schedule = drawSchedule(seed, faults)
  const { problems } = await simulate(schedule)
  if (problems.length > 0) {
    failed++
    const kind = kindOf(problems[0]!)
    const alike = (kinds.get(kind) ?? 0) + 1
    kinds.set(kind, alike)
    const report = alike <= ALIKE_MOST ? await reportOf(schedule) : ''
    say({ seed, problem: problems[0], report })
  }
  if ((done + 1) % PROGRESS_EVERY === 0 || done + 1 === Number(count)) say({ done: done + 1, failed })
}
process.exitCode = failed > 0 ? 1 : 0

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

function chosenFaults(text: string): ReadonlySet<FaultName> {
  if (text === 'all') return allFaults
  const names = text.split(',')
  for (const name of names)
    if (!(faultNames as string[]).includes(name))
      throw new Error(`there is no fault '${name}'; there are: ${faultNames.join(', ')}`)
  return new Set(names as FaultName[])
}
