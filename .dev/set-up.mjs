// Makes a fresh clone runnable: installs the packages and builds dist/ where either is missing or out of date.
// Plain JavaScript, because it runs before anything is built. Says what it does on stderr, so that the standard
// output of the command behind it stays its own.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const sourceFolders = ['codec', 'replay', 'proxy', 'bench', 'test']

function changedAt(path) {
  return existsSync(path) ? statSync(path).mtimeMs : 0
}

function newestSource(folder) {
  let newest = 0
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) newest = Math.max(newest, newestSource(path))
    else if (entry.name.endsWith('.ts')) newest = Math.max(newest, changedAt(path))
  }
  return newest
}

function run(what, command, args) {
  process.stderr.write(`rocketmq-tee: ${what}\n`)
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] })
  if (status === 0) return
  process.stderr.write(`rocketmq-tee: ${what} failed${error ? `: ${error.message}` : ''}\n`)
  process.exit(1)
}

const installed = join(root, 'node_modules', '.package-lock.json')
if (changedAt(installed) < changedAt(join(root, 'package-lock.json'))) {
  run('installing packages', 'npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'])
  // A check-out may give the lock file a later time than this; what was installed now is up to date.
  utimesSync(installed, new Date(), new Date())
}

const built = join(root, 'dist', '.built')
const newest = Math.max(
  changedAt(join(root, 'tsconfig.json')),
  ...sourceFolders.map(name => newestSource(join(root, name))),
)
if (process.argv.includes('--build') || changedAt(built) < newest) {
  // A test whose source was deleted would still run from dist/, so it starts empty.
  rmSync(join(root, 'dist'), { recursive: true, force: true })
  run('building', process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '--project', root])
  writeFileSync(built, '')
}
