// Each history holds, and each of its rules is needed for it: with the rule switched off that comes which the rule is there
// against, and not just any problem.

import { register } from 'node:module'
import test from 'ava'
import { ruleNames, rules } from '../rules.ts'
import type * as All from './all.ts'
import { histories, run } from './all.ts'

register(new URL('../modules.js', import.meta.url))

for (const { name, rules: needed } of histories) {
  test(name, async t => {
    const world = await run(histories.find(history => history.name === name)!)
    t.deepEqual(world.problems, [], world.history.print())
  })

  for (const rule of needed)
    test(`without '${rule}': not so: ${name}`, async t => {
      const broken = (await import(`./all.js?without=${encodeURIComponent(rule)}`)) as typeof All
      const world = await broken.run(broken.histories.find(history => history.name === name)!)
      const { breaks } = rules[rule]
      t.true(
        world.problems.some(problem => breaks.test(problem)),
        `${breaks} is none of ${JSON.stringify(world.problems, undefined, 1)}\n${world.history.print()}`,
      )
      t.log(world.problems.find(problem => breaks.test(problem))!)
    })
}

test('each rule that can be switched off has a history', t => {
  const covered = new Set(histories.flatMap(({ rules: needed }) => needed))
  t.deepEqual(
    ruleNames.filter(name => !covered.has(name)).map(name => rules[name].rule),
    [],
  )
})
