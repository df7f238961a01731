// The producer of test/go with RocketMQ's own Go client, 2.1.2.
//
// It builds it into the cache where it changed, and runs it.

import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder, makeOnce, projectFolder } from '../../proxy/demo/maven.ts'
import { type ClientCommand, type ProducerOptions, type RunningProducer, startProducer } from './client-process.ts'

const sources = ['go.mod', 'go.sum', 'main.go']

/** Why the Go client cannot run here; undefined where it can. */
export function missingGo(): string | undefined {
  return spawnSync('go', ['version'], { stdio: 'ignore' }).status === 0
    ? undefined
    : 'the Go client needs go, which is not here'
}

/** The members of a batch have no UNIQ_KEY with this client: their lines say null. */
export async function runGoProducer(options: ProducerOptions): Promise<RunningProducer> {
  return startProducer(await goCommand(), options)
}

/** How to run test/go. */
export async function goCommand(): Promise<ClientCommand> {
  const folder = join(projectFolder(), 'test', 'go')
  const hash = createHash('sha1')
  for (const name of sources) hash.update(`${name}\n`).update(readFileSync(join(folder, name)))
  const built = join(cacheFolder(), 'clients', `go-${hash.digest('hex').slice(0, 12)}`)
  await makeOnce(built, async temporary => {
    const compiler = spawn('go', ['build', '-trimpath', '-o', join(temporary, 'producer'), '.'], {
      cwd: folder,
      env: { ...process.env, GOTOOLCHAIN: 'local', GOFLAGS: '', GOWORK: 'off', CGO_ENABLED: '0' },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let errors = ''
    compiler.stderr.setEncoding('utf8').on('data', text => {
      errors += text
    })
    const [status] = await once(compiler, 'close')
    if (status !== 0) throw new Error(`cannot build test/go:\n${errors}`)
  })
  return { command: join(built, 'producer'), args: [] }
}
