// `rocketmq-tee journal inspect|dump DATA_DIR`: reads the journals of a data directory, also while the gateway runs.
//
// It takes no lock and writes nothing into the directory.

import { statSync } from 'node:fs'
import {
  type DataDirectory,
  inspectJournal,
  readDataDirectory,
  realClock,
  realFileSystem,
  SegmentVersionError,
  SlotVersionError,
} from '../../replay/index.ts'
import { ExitCode, FatalError } from '../exit-code.ts'
import { dumpJournal } from './journal-dump.ts'
import { inspectionText } from './journal-text.ts'
import { Output } from './output.ts'

export const JOURNAL_HELP = `usage:
  rocketmq-tee journal inspect [--json] DATA_DIR
  rocketmq-tee journal dump [--broker=B] [--topic=T] [--waiting] [--bodies] DATA_DIR

Both read what is there, whatever state it is in, also while the gateway runs: they take no lock and write nothing.

inspect says which files there are, how far each remote is, what waits, what is damaged, and what is missing.
  --json        one JSON document

dump prints each place of a message on a line of its own (JSON), in the order of the files, and damaged ranges between them.
  --broker=B    of this broker of the source
  --topic=T     of this topic
  --waiting     not done, as far as a cursor tells, for some remote
  --bodies      with flag, sysFlag, properties and payload (base64), where the journal has them

exit codes: 0, 1 damage was found, 64 usage, 73 no data directory, 78 written by another version
`

const FLAGS = ['json', 'waiting', 'bodies'] as const
const VALUES = ['broker', 'topic'] as const
const OPTIONS: Record<string, readonly string[]> = {
  inspect: ['json'],
  dump: ['broker', 'topic', 'waiting', 'bodies'],
}

export interface JournalOptions {
  json: boolean
  waiting: boolean
  bodies: boolean
  broker: string | undefined
  topic: string | undefined
}

export async function journal([action = '', ...argv]: string[]): Promise<number> {
  if (!Object.hasOwn(OPTIONS, action)) throw usage(action === '' ? 'no action' : `unknown action ${action}`)
  const { path, options } = parse(action, argv)
  const output = new Output(process.stdout)
  try {
    const directory = await open(path)
    const isDamaged =
      action === 'inspect'
        ? await inspect(path, directory, options, output)
        : await dumpJournal(directory, options, output)
    await output.flush()
    return isDamaged ? ExitCode.failed : ExitCode.ok
  } catch (error) {
    if (error instanceof SegmentVersionError || error instanceof SlotVersionError)
      throw new FatalError(ExitCode.config, error.message)
    if (typeof (error as NodeJS.ErrnoException).syscall !== 'string') throw error
    throw new FatalError(ExitCode.dataDirectory, `${path} cannot be read: ${(error as Error).message}`)
  }
}

/** Whether damage was found. */
async function inspect(
  path: string,
  { gatewayId, remotesDamaged, brokers }: DataDirectory,
  { json }: JournalOptions,
  output: Output,
): Promise<boolean> {
  const environment = { fileSystem: realFileSystem, clock: realClock }
  const inspected = []
  for (const { name, folder, remotes } of brokers)
    inspected.push(await inspectJournal(environment, name, folder, remotes))
  const isDamaged = remotesDamaged || inspected.some(broker => broker.isDamaged)
  const inspection = { dataDir: path, gatewayId: gatewayId ?? null, remotesDamaged, isDamaged, brokers: inspected }
  await output.write(json ? `${JSON.stringify(inspection, undefined, 2)}\n` : inspectionText(inspection))
  return isDamaged
}

async function open(path: string): Promise<DataDirectory> {
  let why = 'is no folder'
  try {
    if (statSync(path).isDirectory()) {
      const directory = await readDataDirectory(realFileSystem, path)
      if (directory !== undefined) return directory
      why = 'has neither gateway-id nor brokers in it'
    }
  } catch (error) {
    why = `cannot be read: ${(error as Error).message}`
  }
  throw new FatalError(ExitCode.dataDirectory, `${path} is no data directory of a gateway: it ${why}`)
}

function parse(action: string, argv: readonly string[]): { path: string; options: JournalOptions } {
  const options: JournalOptions = { json: false, waiting: false, bodies: false, broker: undefined, topic: undefined }
  const paths: string[] = []
  for (let at = 0; at < argv.length; at++) {
    const argument = argv[at]!
    if (!argument.startsWith('--')) {
      paths.push(argument)
      continue
    }
    const [, name = '', given] = /^--([^=]*)(?:=(.*))?$/s.exec(argument)!
    if (!OPTIONS[action]!.includes(name)) throw usage(`journal ${action} does not know ${argument}`)
    const flag = FLAGS.find(one => one === name)
    const key = VALUES.find(one => one === name)
    if (flag !== undefined) {
      if (given !== undefined) throw usage(`--${flag} takes no value`)
      options[flag] = true
    } else if (key !== undefined) {
      const value = given ?? argv[++at]
      if (value === undefined) throw usage(`--${key} has no value; write --${key}=VALUE`)
      options[key] = value
    }
  }
  const [path, ...more] = paths
  if (path === undefined) throw usage(`journal ${action} needs a data directory`)
  if (more.length > 0) throw usage(`journal ${action} takes one data directory, not ${paths.length}`)
  return { path, options }
}

function usage(what: string): FatalError {
  return new FatalError(ExitCode.usage, `${what}; see journal --help`)
}
