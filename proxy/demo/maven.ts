// Gets the jars of a RocketMQ version from Maven Central into a cache folder, once for all who ask.
//
// It needs `mvn` and asks it with a pom that it makes and throws away. It does not run what it fetched.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, sep } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export interface FetchOptions {
  /** Told what is being done, a line at a time, at most one a second. */
  onProgress?: (line: string) => void
}

const dependencyPlugin = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1'
const artifacts = ['rocketmq-namesrv', 'rocketmq-broker', 'rocketmq-tools']
const staleLockMs = 15_000

/** The folder that has this project's package.json. */
export function projectFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url))
  for (;;) {
    if (nameIn(join(folder, 'package.json')) === 'rocketmq-tee') return folder
    const parent = dirname(folder)
    if (parent === folder) throw new Error('no package.json of rocketmq-tee above this file')
    folder = parent
  }
}

function nameIn(packageJson: string): unknown {
  try {
    return JSON.parse(readFileSync(packageJson, 'utf8')).name
  } catch {
    return undefined
  }
}

/** Where fetched and built things are kept: ROCKETMQ_TEE_CACHE, else in the sources, else in the temporary folder. */
export function cacheFolder(): string {
  const said = process.env.ROCKETMQ_TEE_CACHE
  if (said) return said
  const shared = join(tmpdir(), 'rocketmq-tee-cache')
  try {
    const project = projectFolder()
    // An installed package, or a copy of what was built, is not the place for downloads: only where the sources are.
    const isSource = ['.git', 'tsconfig.json'].some(name => existsSync(join(project, name)))
    if (!isSource || project.split(sep).includes('node_modules')) return shared
    accessSync(project, constants.W_OK)
    return join(project, '.cache')
  } catch {
    return shared
  }
}

/**
 * Makes a folder by `fill` in a temporary place beside it and renames it, so that one that is there is whole. Where
 * another process was faster, its folder stays.
 */
export async function makeOnce(folder: string, fill: (temporary: string) => Promise<void>): Promise<string> {
  if (existsSync(folder)) return folder
  mkdirSync(dirname(folder), { recursive: true })
  const temporary = mkdtempSync(`${folder}-`)
  try {
    await fill(temporary)
    try {
      renameSync(temporary, folder)
    } catch (error) {
      if (!existsSync(folder)) throw error
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
  return folder
}

/** The folder with all jars of `version`: name server, broker, tools and with them the client. */
export async function fetchRocketMQ(
  version: string,
  progress: ((line: string) => void) | FetchOptions = {},
): Promise<string> {
  const options = typeof progress === 'function' ? { onProgress: progress } : progress
  const lib = join(cacheFolder(), 'rocketmq', version, 'lib')
  if (existsSync(lib)) return lib
  mkdirSync(dirname(lib), { recursive: true })
  // Maven's own store is not made for two at once, so that fetching goes one after another.
  return await locked(join(cacheFolder(), 'rocketmq', 'fetching.lock'), () =>
    makeOnce(lib, temporary => copyJars(version, temporary, options)),
  )
}

async function copyJars(version: string, folder: string, { onProgress }: FetchOptions): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), 'rocketmq-tee-fetch-'))
  try {
    const pom = join(work, 'pom.xml')
    writeFileSync(pom, pomFor(version))
    const maven = spawn(
      'mvn',
      [
        '-B',
        '-f',
        pom,
        `${dependencyPlugin}:copy-dependencies`,
        '-DincludeScope=runtime',
        `-DoutputDirectory=${folder}`,
      ],
      { cwd: work, stdio: ['ignore', 'pipe', 'pipe'] },
    )
    const closed = once(maven, 'close')
    const progress = progressOf(version, onProgress)
    const last: string[] = []
    const onLine = (line: string) => {
      progress(line)
      last.push(line)
      if (last.length > 20) last.shift()
    }
    createInterface({ input: maven.stdout }).on('line', onLine)
    createInterface({ input: maven.stderr }).on('line', onLine)
    const end = () => maven.kill('SIGKILL')
    process.once('exit', end)
    const [status] = await closed.finally(() => process.off('exit', end))
    const jars = readdirSync(folder).filter(name => name.endsWith('.jar'))
    const missing = artifacts.find(artifact => !jars.includes(`${artifact}-${version}.jar`))
    if (status !== 0 || missing !== undefined) {
      const errors = last.filter(line => line.includes('ERROR'))
      throw new Error(`cannot fetch RocketMQ ${version} with mvn: ${(errors.length > 0 ? errors : last).join('\n')}`)
    }
    const bytes = jars.reduce((sum, jar) => sum + statSync(join(folder, jar)).size, 0)
    onProgress?.(`RocketMQ ${version} is here: ${jars.length} jars, ${Math.round(bytes / 1e6)} MB`)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

function pomFor(version: string): string {
  const dependencies = artifacts.map(
    artifact =>
      `<dependency><groupId>org.apache.rocketmq</groupId><artifactId>${artifact}</artifactId>` +
      `<version>${version}</version></dependency>`,
  )
  return (
    '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>' +
    '<groupId>rocketmq-tee</groupId><artifactId>fetch</artifactId><version>1</version><packaging>pom</packaging>' +
    `<dependencies>${dependencies.join('')}</dependencies></project>`
  )
}

/** Counts what Maven says it downloaded, such as `Downloaded from central: https://…/a.jar (1.2 MB at 3 MB/s)`. */
function progressOf(version: string, onProgress: FetchOptions['onProgress']): (line: string) => void {
  const units: Record<string, number> = { B: 1e-6, kB: 1e-3, MB: 1 }
  let files = 0
  let megabytes = 0
  let saidAt = 0
  return line => {
    const downloaded = /Downloaded from .* \(([\d.]+) (B|kB|MB) at /.exec(line)
    if (downloaded) {
      files++
      megabytes += Number(downloaded[1]) * units[downloaded[2]!]!
    }
    if (Date.now() - saidAt < 1000) return
    saidAt = Date.now()
    onProgress?.(`fetching RocketMQ ${version} from Maven Central: ${files} files, ${Math.round(megabytes)} MB`)
  }
}

/** Runs `work` while this process alone holds the file `lock`, whose holder touches it: one left behind goes stale. */
async function locked<T>(lock: string, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' })
      break
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      const touched = statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now()
      // Should two find it stale at once, both fetch, which costs time and no harm: the rename decides.
      if (Date.now() - touched > staleLockMs) rmSync(lock, { force: true })
      else await sleep(100)
    }
  }
  const touching = setInterval(() => {
    try {
      utimesSync(lock, new Date(), new Date())
    } catch {
      // Taken away as stale, by a process whose clock or sleep differs: the rename decides then.
    }
  }, 1000)
  try {
    return await work()
  } finally {
    clearInterval(touching)
    rmSync(lock, { force: true })
  }
}
