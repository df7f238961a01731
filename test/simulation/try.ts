import { drawSchedule } from './draw.ts'
import { faultNames, onByDefault, type FaultName } from './faults.ts'
import { simulate } from './simulate.ts'
import { stepText } from './step.ts'
const from = Number(process.argv[2] ?? 1), count = Number(process.argv[3] ?? 50)
const faults = process.argv[4] === 'none' ? new Set<FaultName>() : process.argv[4] === 'all' ? new Set(faultNames) : process.argv[4] ? new Set(process.argv[4].split(',') as FaultName[]) : onByDefault
const t0 = performance.now()
let bad = 0
const kinds = new Map<string, number[]>()
for (let seed = from; seed < from + count; seed++) {
  const schedule = drawSchedule(seed, faults)
  const t = performance.now()
  const { problems, world } = await simulate(schedule)
  const ms = performance.now() - t
  if (count === 1) { console.log(JSON.stringify(schedule.setup)); console.log(world.history.print()); for (const s of schedule.steps) console.log(stepText(s)); console.log(`${ms} ms`) }
  if (problems.length) { bad++; const key = problems[0]!.replace(/\d+/g, 'N').slice(0, 90); kinds.set(key, [...(kinds.get(key) ?? []), seed]) }
  if (ms > 1500) console.log(`seed ${seed}: ${ms.toFixed(0)} ms`)
}
console.log(`${count} histories, ${bad} bad, ${((performance.now() - t0) / count).toFixed(1)} ms each`)
for (const [k, v] of kinds) console.log(v.length, k, v.slice(0, 8).join(' '))
if (process.argv[5] === 'shrink') {
  const { shrink } = await import('./shrink.js' as string) as typeof import('./shrink.ts')
  for (const seeds of kinds.values()) {
    const small = await shrink(drawSchedule(seeds[0]!, faults))
    const { world, problems } = await simulate(small)
    console.log('\n=== seed', seeds[0], JSON.stringify(small.setup))
    for (const s of small.steps) console.log(stepText(s))
    console.log(world.history.print().slice(0, 9000))
    console.log(problems)
  }
}
