#!/usr/bin/env node
// The command line: sub commands, exit codes, signals. A fatal error is one plain line on standard error.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Config, ConfigError, configHelp, describeConfig, loadConfig } from '../config.ts'
import { ExitCode, FatalError } from '../exit-code.ts'
import { createLogger, flushLogger } from '../logger.ts'
import { JOURNAL_HELP, journal } from './journal.ts'

const USAGE = `rocketmq-tee: a transparent replicating gateway for Apache RocketMQ

usage:
  rocketmq-tee start [--config FILE] [--key=value …]   run the gateway
  rocketmq-tee check [--config FILE] [--key=value …]   print the effective configuration
  rocketmq-tee journal inspect|dump DATA_DIR           read a journal, also while the gateway runs
  rocketmq-tee demo  [--embedded] [--seconds=N]        two clusters, the gateway, an outage, and the proof
  rocketmq-tee --help | --version
`

const ONCE = `
for one start (NAME is the remote's, or default):
  --new-remote=NAME     the remote is another cluster from now on: what waits goes there
  --forget-remote=NAME  the remote is configured no more: its cursors are deleted
`

type Command = (argv: string[]) => Promise<number>

const commands: Record<string, Command> = { start, check, journal, demo }
const help: Record<string, () => string> = {
  start: () =>
    `${USAGE}${ONCE}\nkeys, also in FILE (.properties) or as ROCKETMQ_TEE_SRC_CLUSTER_ADDR in the environment:\n${configHelp()}\n`,
  check: () => `${USAGE}\nkeys:\n${configHelp()}\n`,
  journal: () => JOURNAL_HELP,
  demo: () =>
    `${USAGE}\n  --embedded    the embedded cluster, also where java and mvn are there\n  --seconds=N   length of the outage (8)\n`,
}

process.title = 'rocketmq-tee'
process.exitCode = await main(process.argv.slice(2))

async function main([name = '', ...argv]: string[]): Promise<number> {
  if (name === '--help' || name === '-h') return print(USAGE)
  if (name === '--version') return print(`${version()}\n`)
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined
  try {
    if (command === undefined)
      throw new FatalError(
        ExitCode.usage,
        name === '' ? 'no sub command; see --help' : `unknown sub command ${name}; see --help`,
      )
    if (argv.includes('--help')) return print(help[name]!())
    return await command(argv)
  } catch (error) {
    if (!(error instanceof FatalError) && !(error instanceof ConfigError)) throw error
    process.stderr.write(`rocketmq-tee: ${error.message}\n`)
    return error instanceof FatalError ? error.exitCode : ExitCode.config
  }
}

async function start(argv: string[]): Promise<number> {
  const config = load(argv)
  const log = createLogger(config.logLevel)
  process.on('uncaughtException', error => {
    log.fatal({ err: error }, 'unexpected error')
    void flushLogger(log).finally(() => process.exit(ExitCode.failed))
  })
  const { Gateway } = await import('../gateway.ts')
  const gateway = new Gateway(config, log)
  const stopped = new Promise<void>((resolve, reject) => {
    let asked = false
    const onSignal = () => {
      if (asked) process.exit(ExitCode.failed)
      asked = true
      gateway.stop().then(resolve, reject)
    }
    process.on('SIGTERM', onSignal).on('SIGINT', onSignal)
  })
  try {
    await gateway.start()
  } catch (error) {
    // What had come up would keep the process alive.
    await gateway.stop().catch(() => {})
    await flushLogger(log)
    throw error
  }
  process.stdout.write(`ready nameServer=${gateway.nameServerAddress} admin=${gateway.adminAddress}\n`)
  await stopped
  await flushLogger(log)
  return ExitCode.ok
}

async function check(argv: string[]): Promise<number> {
  return print(describeConfig(load(argv)))
}

async function demo(argv: string[]): Promise<number> {
  const unknown = argv.find(argument => argument !== '--embedded' && !/^--seconds=\d+$/.test(argument))
  if (unknown !== undefined) throw new FatalError(ExitCode.usage, `demo does not know ${unknown}; see demo --help`)
  const seconds = argv.find(argument => argument.startsWith('--seconds='))?.slice('--seconds='.length)
  const { runDemo } = await import('../demo/demo.ts')
  const code = await runDemo({
    embedded: argv.includes('--embedded'),
    ...(seconds === undefined ? {} : { seconds: Number(seconds) }),
  })
  // What was being started when it was interrupted must not keep it.
  process.exit(code)
}

function load(argv: string[]): Config {
  return loadConfig({ argv, env: process.env, readFile: path => readFileSync(path, 'utf8') })
}

function version(): string {
  // Beside dist/, in a clone and in an installed package alike.
  const path = fileURLToPath(new URL('../../../package.json', import.meta.url))
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version
}

function print(text: string): number {
  process.stdout.write(text)
  return ExitCode.ok
}
