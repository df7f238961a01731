// The producer and the consumer of test/java with RocketMQ's own Java client of any version.
//
// It compiles them into the cache where they changed, and runs them.

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { cacheFolder, type FetchOptions, fetchRocketMQ, makeOnce, projectFolder } from '../../proxy/demo/maven.ts'
import {
  type ClientCommand,
  type ConsumerOptions,
  type ProducerOptions,
  type RunningConsumer,
  type RunningProducer,
  startConsumer,
  startProducer,
} from './client-process.ts'

export type Serialize = 'JSON' | 'ROCKETMQ'

export interface JavaOptions extends FetchOptions {
  /** Of the client, 5.3.3 by default. */
  version?: string
  /** How it encodes the header of its requests, JSON by default as clients do. */
  serialize?: Serialize
}

export async function runProducer(options: ProducerOptions & JavaOptions): Promise<RunningProducer> {
  const { version, serialize, onProgress, ...rest } = options
  return startProducer(await javaCommand('Producer', options), rest)
}

export async function runConsumer(options: ConsumerOptions & JavaOptions): Promise<RunningConsumer> {
  const { version, serialize, onProgress, ...rest } = options
  return startConsumer(await javaCommand('Consumer', options), rest)
}

/** How to run a class of test/java with the client of a version. */
export async function javaCommand(
  mainClass: string,
  { version = '5.3.3', serialize = 'JSON', onProgress }: JavaOptions,
): Promise<ClientCommand> {
  const lib = await fetchRocketMQ(version, onProgress ? { onProgress } : {})
  const classes = await compile(version, lib)
  return {
    command: 'java',
    args: [
      '-Xmx256m',
      '-XX:+UseSerialGC',
      '-XX:TieredStopAtLevel=1',
      '-XX:-UsePerfData',
      // Where the client logs.
      '-Duser.home={folder}',
      '-Djava.io.tmpdir={folder}',
      '-Drocketmq.client.logRoot={folder}',
      '-Drocketmq.client.logUseSlf4j=false',
      `-Drocketmq.serialize.type=${serialize}`,
      '-Dfile.encoding=UTF-8',
      '--add-opens=java.base/java.nio=ALL-UNNAMED',
      '--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED',
      '-cp',
      `${join(lib, '*')}${delimiter}${classes}`,
      mainClass,
    ],
  }
}

async function compile(version: string, lib: string): Promise<string> {
  const folder = join(projectFolder(), 'test', 'java')
  const names = readdirSync(folder)
    .filter(name => name.endsWith('.java'))
    .sort()
  const hash = createHash('sha1')
  for (const name of names) hash.update(`${name}\n`).update(readFileSync(join(folder, name)))
  const classes = join(cacheFolder(), 'java', `${version}-${hash.digest('hex').slice(0, 12)}`)
  return await makeOnce(classes, async temporary => {
    const compiler = spawn(
      'javac',
      ['-encoding', 'UTF-8', '-cp', join(lib, '*'), '-d', temporary, ...names.map(name => join(folder, name))],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    )
    let errors = ''
    compiler.stderr.setEncoding('utf8').on('data', text => {
      errors += text
    })
    const [status] = await once(compiler, 'close')
    if (status !== 0) throw new Error(`cannot compile test/java against ${version}:\n${errors}`)
  })
}
