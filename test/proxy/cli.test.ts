// The command line as a process: exit codes, and one line on standard error.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import test from 'ava'

const main = fileURLToPath(new URL('../../proxy/cli/main.js', import.meta.url))

function run(...argv: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...argv], { encoding: 'utf8' })
  return { status, stdout, stderr, lines: stderr.split('\n').filter(line => line !== '').length }
}

test('--help and --version answer', t => {
  t.regex(run('--help').stdout, /rocketmq-tee start/)
  t.regex(run('start', '--help').stdout, /srcClusterAddr/)
  t.regex(run('--version').stdout, /^\d+\.\d+\.\d+\n$/)
  t.is(run('--help').status, 0)
})

test('an unknown sub command is one line and exit code 64', t => {
  const { status, lines, stderr } = run('begin')
  t.is(status, 64)
  t.is(lines, 1, stderr)
})

for (const command of ['start', 'check']) {
  test(`a wrong configuration given to ${command} is one clear line and exit code 78`, t => {
    const { status, lines, stderr } = run(command, '--srcClusterAddr=a:1', '--destClusterAddr=b:1', '--bodyMemroy=1MiB')
    t.is(status, 78)
    t.is(lines, 1, stderr)
    t.regex(stderr, /bodyMemroy.*bodyMemory/)
  })
}

test('check prints the effective configuration', t => {
  const { status, stdout } = run('check', '--srcClusterAddr=a:1', '--destClusterAddr=b:1')
  t.is(status, 0)
  t.regex(stdout, /# default\nbodyMemory=64MiB/)
})
