// Runs the tests: those that need nothing side by side, then those on real brokers one file at a time, for they share
// two cores with several JVMs; files that need the same clusters are one (test/real/together.test.ts). Ends with one line of
// counts; the lines before it say what was skipped, and why.
// Arguments are test files (dist/test/…); without any, all run.
import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const ava = join(root, 'node_modules', 'ava', 'entrypoints', 'cli.mjs')
const counts = { passed: 0, failed: 0, skipped: 0 }
const skipped = []

const start = Date.now()
const secondsSince = time => Math.round((Date.now() - time) / 1_000)

function testFiles(folder) {
  return readdirSync(join(root, folder), { withFileTypes: true, recursive: true })
    .filter(entry => entry.isFile() && entry.name.endsWith('.test.js'))
    .map(entry => join(entry.parentPath ?? entry.path, entry.name))
    .map(path => path.slice(root.length + 1))
    .sort()
}

/** Ava's own process, its TAP lines passed on and counted. */
async function run(files, concurrency) {
  if (files.length === 0) return
  const began = Date.now()
  let last = began
  const child = spawn(process.execPath, [ava, '--tap', '--concurrency', String(concurrency), ...files], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  for await (const line of createInterface({ input: child.stdout })) {
    if (/^(ok|not ok) /.test(line)) {
      if (line.includes('# SKIP')) {
        counts.skipped++
        skipped.push(line.replace(/^ok \d+ - /, ''))
      } else if (line.startsWith('ok ')) counts.passed++
      else counts.failed++
    }
    const took = concurrency === 1 && /^(ok|not ok) /.test(line) ? `  (${secondsSince(last)} s)` : ''
    if (took !== '') last = Date.now()
    if (!/^(TAP version|1\.\.|# (tests|pass|fail|skip))/.test(line)) console.log(line + took)
  }
  const [code] = await new Promise(resolve =>
    child.exitCode === null ? child.once('exit', (...args) => resolve(args)) : resolve([child.exitCode]),
  )
  // A file that crashes or has no test fails the run without a line of its own.
  if (code !== 0 && counts.failed === 0) counts.failed++
  const what = files.length === 1 ? files[0] : `${files.length} files`
  console.log(`# ${what}: ${secondsSince(began)} s, ${secondsSince(start)} s in all`)
}

const real = join('dist', 'test', 'real')
const isReal = file => file.startsWith(real)

/** All but those that run in one process with others. */
function everyTest() {
  const together = readFileSync(join(root, real, 'together.test.js'), 'utf8')
  const within = [...together.matchAll(/import '\.\/(.*)'/g)].map(([, name]) => join(real, name))
  return testFiles('dist/test').filter(file => !within.includes(file))
}

const asked = process.argv.slice(2)
const all = asked.length > 0 ? asked : everyTest()
await run(
  all.filter(file => !isReal(file)),
  2,
)
for (const file of all.filter(isReal)) await run([file], 1)

if (skipped.length > 0) {
  const missing = [
    ['java', '-version'],
    ['mvn', '-v'],
    ['go', 'version'],
  ]
    .filter(([tool, flag]) => spawnSync(tool, [flag]).error)
    .map(([tool]) => tool)
  const why = missing.length > 0 ? `${missing.join(', ')} not on the PATH` : 'see the tests'
  console.log(`${skipped.length} tests skipped, ${why}:`)
  for (const title of skipped) console.log(`  ${title}`)
}
console.log(`ava: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`)
process.exitCode = counts.failed > 0 ? 1 : 0
