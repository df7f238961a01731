// The sources are as the formatter and the linter want them: what `npm run lint` says, as a test.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import test from 'ava'
import { projectRoot as root } from './codec/project.ts'

test('formatter and linter have nothing to say', t => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'node_modules', '@biomejs', 'biome', 'bin', 'biome'), 'check', '--colors=off', '.'],
    { cwd: root, encoding: 'utf8' },
  )
  t.is(status, 0, `${stdout}\n${stderr}`)
})
