// The long form of tests, most of them on real brokers: many rounds, or all cases, of what CI does a few times.
//
// One file at a time, each test for at most SOAK_MINUTES (60) and its number of rounds. Says how it goes on stderr; on stdout
// stand the rows of the table in test/README.md, each as soon as its test has ended: a run that is broken off has those that
// it came to. Arguments are test files (dist/test/…); without any, all of them.
import { spawn, spawnSync } from 'node:child_process'
import { cpus, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const ava = join(root, 'node_modules', 'ava', 'entrypoints', 'cli.mjs')
const minutes = Number(process.env.SOAK_MINUTES ?? 60)
const files = [
  'dist/test/replay/damage.test.js',
  'dist/test/replay/big-journal.test.js',
  'dist/test/real/connections.test.js',
  'dist/test/real/kill-gateway.test.js',
  'dist/test/real/kill-remote.test.js',
  'dist/test/real/remotes.test.js',
  'dist/test/real/small-journal.test.js',
  'dist/test/real/long-outage.test.js',
]

/**
 * Lines, and nothing where a chunk ends with one: a test's result and what it logged come at once, and the next may be hours
 * away.
 */
async function* linesOf(stream) {
  let rest = ''
  for await (const chunk of stream.setEncoding('utf8')) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()
    yield* lines
    if (rest === '') yield undefined
  }
  yield undefined
}

/** Of each test of a file, as it ends: its title, how long it took, whether it holds, and what it logged. */
async function* rowsOf(file) {
  process.stderr.write(`${file}\n`)
  const child = spawn(process.execPath, [ava, '--tap', '--timeout=24h', file], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, SOAK: 'true', SOAK_MINUTES: String(minutes) },
  })
  const ended = new Promise(resolve => child.once('exit', resolve))
  let row
  let failed = false
  let began = Date.now()
  let inDetails = false
  for await (const line of linesOf(child.stdout)) {
    if (line === undefined) {
      if (row) yield row
      row = undefined
      continue
    }
    const result = /^(ok|not ok) \d+ - (.*)$/.exec(line)
    // What a test logged stands below its line; what is behind `---` is how it failed.
    if (result) {
      if (row) yield row
      row = { ok: result[1] === 'ok', title: result[2], seconds: (Date.now() - began) / 1_000, said: [] }
      failed ||= !row.ok
      began = Date.now()
      inDetails = false
      process.stderr.write(`${line}\n`)
    } else if (line.trim() === '---') inDetails = true
    else if (line.trim() === '...') inDetails = false
    else if (/^# {2,}/.test(line)) row?.said.push(line.replace(/^#\s+/, ''))
    else if (inDetails) process.stderr.write(`${line}\n`)
  }
  if ((await ended) !== 0 && !failed)
    yield { ok: false, title: file, seconds: (Date.now() - began) / 1_000, said: ['ended without a result'] }
}

function rowText({ ok, title, seconds, said }) {
  const held = title.includes('[not yet: ') ? 'not yet' : ok ? 'holds' : '**fails**'
  const duration = seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`
  return `| ${title} | ${held} | ${duration} | ${said.join('; ').replaceAll('|', '/')} |`
}

/** Runs these, or all; prints the table, and resolves with how many failed. */
export async function real(asked) {
  const { status } = spawnSync(process.execPath, [join(root, '.dev', 'set-up.mjs'), '--build'], { stdio: 'inherit' })
  if (status !== 0) process.exit(1)
  const [{ model }] = cpus()
  const day = new Date().toISOString().slice(0, 10)
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`
  console.log(`${day}, ${cpus().length} × ${model.trim()}, ${memory}, Linux, Node ${process.version}:\n`)
  console.log('| test | result | duration | what it said |\n| --- | --- | --- | --- |')
  let failures = 0
  for (const file of asked.length > 0 ? asked : files)
    for await (const row of rowsOf(file)) {
      if (!row.ok) failures++
      console.log(rowText(row))
    }
  return failures
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  process.exitCode = (await real(process.argv.slice(2))) > 0 ? 1 : 0
