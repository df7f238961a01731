// Each history holds, and each of its rules is needed for it: with the rule switched off it fails.

import { register } from 'node:module'
import test from 'ava'
import { ruleNames, rules } from '../rules.ts'
import type * as All from './all.ts'
import { histories, run } from './all.ts'

register(new URL('../modules.js', import.meta.url))

for (const { name, rules: needed, waitsFor } of histories) {
  const holds = waitsFor === undefined ? test : test.failing
  holds(waitsFor === undefined ? name : `${name} (waits for ${waitsFor})`, async t => {
    const world = await run(histories.find(history => history.name === name)!)
    t.deepEqual(world.problems, [], world.history.print())
  })

  for (const rule of needed)
    test(`without '${rule}': not so: ${name}`, async t => {
      const broken = (await import(`./all.js?without=${encodeURIComponent(rule)}`)) as typeof All
      const world = await broken.run(broken.histories.find(history => history.name === name)!)
      t.not(world.problems.length, 0, world.history.print())
      t.log(world.problems[0]!)
    })
}

test('each rule that can be switched off has a history', t => {
  const covered = new Set(histories.flatMap(({ rules: needed }) => needed))
  t.deepEqual(
    ruleNames.filter(name => !covered.has(name)).map(name => rules[name].rule),
    [],
  )
})
