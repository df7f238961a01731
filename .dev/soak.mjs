// The long runs, by hand: node .dev/soak.mjs [PART]
//
//   simulation [--seeds=100000] [--first=1] [--processes=2] [--faults=all|NAME,NAME]
//   real [FILE…]     soak-real.mjs
//
// Each part is a function of the table below; it resolves with how many of its runs failed. Without a part all run.
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { real } from './soak-real.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const parts = { simulation, real: () => real(process.argv.slice(3)) }

function option(name, otherwise) {
  const found = process.argv.find(argument => argument.startsWith(`--${name}=`))
  return found === undefined ? otherwise : found.slice(name.length + 3)
}

/** Many histories of the simulator, one range of seeds for each process. */
async function simulation() {
  const seeds = Number(option('seeds', process.env.SEEDS ?? 100_000))
  const first = Number(option('first', process.env.TEST_SEED ?? 1))
  const processes = Number(option('processes', 2))
  const each = Math.ceil(seeds / processes)
  const done = new Array(processes).fill(0)
  const failed = new Array(processes).fill(0)
  const started = Date.now()
  const run = async index => {
    const count = Math.min(each, seeds - index * each)
    const script = join(root, 'dist', 'test', 'simulation', 'soak.js')
    const child = spawn(
      process.execPath,
      [script, String(first + index * each), String(count), option('faults', 'all')],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    const ended = new Promise(resolve => child.once('exit', resolve))
    for await (const text of createInterface({ input: child.stdout })) {
      const line = JSON.parse(text)
      if (line.seed !== undefined) {
        console.log(`\nseed ${line.seed}: ${line.problem}\n${line.report}`)
        continue
      }
      done[index] = line.done
      failed[index] = line.failed
      const all = done.reduce((sum, count) => sum + count, 0)
      const seconds = (Date.now() - started) / 1000
      const rate = all / seconds
      console.log(
        `${all} of ${seeds} histories, ${failed.reduce((sum, count) => sum + count, 0)} failed, ${rate.toFixed(0)} a second, ${Math.round((seeds - all) / rate)} s left`,
      )
    }
    const code = await ended
    // One that crashes has not said so.
    if (code !== 0 && failed[index] === 0) failed[index] = 1
  }
  await Promise.all(Array.from({ length: processes }, (_, index) => run(index)))
  return failed.reduce((sum, count) => sum + count, 0)
}

const [, , part] = process.argv
if (part !== undefined && !Object.hasOwn(parts, part)) {
  console.error(`usage: node .dev/soak.mjs [${Object.keys(parts).join('|')}] [--name=value …]`)
  process.exit(64)
}
for (const name of part === undefined ? Object.keys(parts) : [part]) {
  const failures = await parts[name]()
  console.log(failures === 0 ? `${name}: nothing failed` : `${name}: ${failures} failed`)
  if (failures > 0) process.exitCode = 1
}
