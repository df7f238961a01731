// The configuration: command line over environment over file over default, each value parsed strictly by its kind.
//
// What is wrong is one line: the first problem, and how many more there are. Nothing is read here but what is handed in.

import { type Address, parseAddress } from '../replay/index.ts'
import { configTable, type Key, type Kind } from './config-table.ts'
import { readProperties } from './properties-file.ts'

export interface Config {
  readonly srcClusterAddr: readonly Address[]
  /** Name servers of each remote by its name; `default` is the one without a name. */
  readonly remotes: ReadonlyMap<string, readonly Address[]>
  readonly replicationGroup: string
  readonly communicationPort: number
  readonly nameServerPort: number
  readonly listenHost: string
  readonly advertisedHost: string
  readonly dataDir: string
  readonly adminHost: string
  readonly adminPort: number
  readonly topics: string
  readonly topicsExclude: string
  readonly topicSync: 'create' | 'off'
  readonly remoteBrokerAway: 'wait' | 'reroute'
  /** Bytes. */
  readonly bodyMemory: number
  readonly journalAck: 'append' | 'fsync'
  readonly journalBodies: 'spill' | 'always'
  readonly onJournalFull: 'gap' | 'reject'
  readonly journalMaxBytes: number
  readonly journalMinFreeBytes: number
  readonly journalCompression: 'none' | 'lz4'
  /** Milliseconds. */
  readonly journalSpillAfter: number
  readonly journalStallTimeout: number
  readonly journalRetention: number
  readonly bornTimestampTolerance: number
  readonly sendGiveUpTimeout: number
  readonly frameBytesMax: number
  readonly pendingBytesMax: number
  readonly drainTimeout: number
  readonly logLevel: string
  /** Options of one start, of the command line only: names of remotes. */
  readonly newRemotes: readonly string[]
  readonly forgetRemotes: readonly string[]
  /** Worth saying, not worth stopping for. */
  readonly warnings: readonly string[]
  /** Each key as it was written, and where. */
  readonly origins: ReadonlyMap<string, Given>
}

export interface Given {
  text: string
  where: string
}

/** The message is one line. */
export class ConfigError extends Error {}

export interface ConfigSources {
  /** What stands behind the sub command. */
  argv: readonly string[]
  env: NodeJS.ProcessEnv
  readFile: (path: string) => string
}

const ENV_PREFIX = 'ROCKETMQ_TEE_'
/** Names of the project's own that are no keys. */
const OTHER_ENV = new Set(['ROCKETMQ_TEE_CACHE'])
const UNITS = {
  size: { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 },
  duration: { ms: 1, s: 1_000, min: 60_000, h: 3_600_000 },
}
/** What the remote is called that is given without a name. */
const DEFAULT_REMOTE = 'default'
const REMOTE_KEY = /^destClusterAddr\.(.*)$/
const REMOTE_NAME = /^[A-Za-z0-9_-]{1,64}$/
const REMOTE_NAME_RULE = 'the name may have letters, digits, dashes and underscores'

/** By key; also those that have a name of the operator's in them. */
type GivenKeys = Map<string, Given>

const keys = Object.keys(configTable) as Key[]

/** Throws ConfigError. */
export function loadConfig({ argv, env, readFile }: ConfigSources): Config {
  const problems: string[] = []
  const warnings: string[] = []
  const commandLine: GivenKeys = new Map()
  const file: GivenKeys = new Map()
  let configFile: string | undefined
  const once: Record<string, string[]> = { 'new-remote': [], 'forget-remote': [] }
  const take = (into: GivenKeys, key: string, text: string, where: string) => {
    if (!isKey(key) && !isRemoteKey(key)) problems.push(`unknown key ${key} (${where}); ${hint(key)}`)
    else if (into.has(key))
      problems.push(`key ${key} is given twice (${into.get(key)!.where} and ${where}); give it once`)
    else into.set(key, { text: text.trim(), where })
  }
  for (let at = 0; at < argv.length; at++) {
    const argument = argv[at]!
    const match = /^--([^=]+)(?:=(.*))?$/s.exec(argument)
    const value = match === null ? undefined : (match[2] ?? argv[++at])
    if (match === null) problems.push(`argument ${argument} is not understood; options are --key=value`)
    else if (value === undefined) problems.push(`option --${match[1]} has no value; write --${match[1]}=VALUE`)
    else if (match[1] === 'config') configFile = value
    else if (Object.hasOwn(once, match[1]!)) once[match[1]!]!.push(value)
    else take(commandLine, match[1]!, value, 'command line')
  }
  if (configFile !== undefined) {
    try {
      for (const { key, value, line } of readProperties(readFile(configFile)))
        take(file, key, value, `${configFile}:${line}`)
    } catch (error) {
      problems.push(`configuration file ${configFile} cannot be read: ${(error as Error).message}`)
    }
  }
  const environment = fromEnvironment(env, warnings)
  const origins: GivenKeys = new Map()
  const values: Record<string, unknown> = {}
  for (const key of keys) {
    const { kind, fallback } = configTable[key] as { kind: Kind; fallback: string | undefined }
    const given =
      commandLine.get(key) ??
      environment.get(key) ??
      file.get(key) ??
      (fallback === undefined ? undefined : { text: fallback, where: 'default' })
    if (given === undefined) {
      problems.push(`${key} is required: ${configTable[key].help}`)
      continue
    }
    origins.set(key, given)
    try {
      values[key] = kind === 'addresses' && given.where === 'default' ? [] : parse(kind, given.text)
    } catch (error) {
      problems.push(`${key}=${given.text} (${given.where}): ${(error as Error).message}`)
    }
  }
  const remotes = new Map<string, readonly Address[]>()
  if ((values.destClusterAddr as Address[] | undefined)?.length)
    remotes.set(DEFAULT_REMOTE, values.destClusterAddr as Address[])
  for (const [key, given] of new Map([...file, ...commandLine])) {
    if (isKey(key)) continue
    origins.set(key, given)
    try {
      remotes.set(remoteName(key), parse('addresses', given.text) as Address[])
    } catch (error) {
      problems.push(`${key}=${given.text} (${given.where}): ${(error as Error).message}`)
    }
  }
  if (remotes.size === 0 && !problems.some(problem => problem.startsWith('destClusterAddr')))
    problems.push(`destClusterAddr is required: ${configTable.destClusterAddr.help}`)
  const config = Object.freeze({
    ...values,
    remotes,
    newRemotes: once['new-remote'],
    forgetRemotes: once['forget-remote'],
    warnings,
    origins,
  }) as unknown as Config
  if (problems.length === 0) problems.push(...contradictions(config))
  if (problems.length > 0) {
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : ''
    throw new ConfigError(problems[0]!.replaceAll('\n', ' ') + more)
  }
  return config
}

/** The effective configuration as a .properties file, with where each value comes from. */
export function describeConfig({ origins }: Config): string {
  return [...origins].map(([key, { text, where }]) => `# ${where}\n${key}=${text}\n`).join('')
}

/** All keys, for `--help`. */
export function configHelp(): string {
  return keys
    .map(key => {
      const { fallback, help } = configTable[key] as { fallback: string | undefined; help: string }
      const value = fallback === undefined ? 'required' : fallback === '' ? 'none' : fallback
      return `  --${`${key}=…`.padEnd(26)} ${help} (${value})`
    })
    .join('\n')
}

function isKey(name: string): name is Key {
  return Object.hasOwn(configTable, name)
}

function isRemoteKey(name: string): boolean {
  return REMOTE_KEY.test(name)
}

/** The name becomes a folder's, and a label's value. */
function remoteName(key: string): string {
  const name = REMOTE_KEY.exec(key)![1]!
  if (!REMOTE_NAME.test(name)) throw new Error(REMOTE_NAME_RULE)
  if (name === DEFAULT_REMOTE) throw new Error(`the name ${DEFAULT_REMOTE} is that of destClusterAddr without a name`)
  return name
}

function environmentName(key: Key): string {
  return ENV_PREFIX + key.replace(/[A-Z]/g, letter => `_${letter}`).toUpperCase()
}

/** Kubernetes makes names of its own for a service called rocketmq-tee, so unknown ones only warn. */
function fromEnvironment(env: NodeJS.ProcessEnv, warnings: string[]): Map<Key, Given> {
  const given = new Map<Key, Given>()
  const byName = new Map(keys.map(key => [environmentName(key), key]))
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(ENV_PREFIX) || OTHER_ENV.has(name) || text === undefined) continue
    const key = byName.get(name)
    if (key === undefined) warnings.push(`environment variable ${name} is not a key`)
    else given.set(key, { text: text.trim(), where: `environment ${name}` })
  }
  return given
}

function parse(kind: Kind, text: string): unknown {
  if (typeof kind !== 'string') {
    if (!kind.includes(text)) throw new Error(`must be one of ${kind.join(', ')}`)
    return text
  }
  switch (kind) {
    case 'addresses':
      return text.split(';').map(address => {
        const { host, port } = parseAddress(address.trim())
        if (host === '' || !/:\d+$/.test(address.trim()) || port < 1 || port > 65_535)
          throw new Error('must be host:port;host:port')
        return { host, port }
      })
    case 'port':
      if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) throw new Error('must be a port from 0 to 65535')
      return Number(text)
    case 'size':
    case 'duration':
      return quantity(text, kind)
    case 'text':
      // It becomes a field of the stamp.
      if (!/^[\w.-]+$/.test(text)) throw new Error('may have letters, digits, dots, dashes and underscores')
      return text
    case 'path':
      if (text === '') throw new Error('must not be empty')
      return text
    default:
      return text
  }
}

function quantity(text: string, kind: 'size' | 'duration'): number {
  const units: Record<string, number> = UNITS[kind]
  const match = /^(\d+)([A-Za-z]*)$/.exec(text)
  const unit = match?.[2] === '' && kind === 'size' ? 1 : units[match?.[2] ?? '']
  const value = match === null || unit === undefined ? Number.NaN : Number(match[1]) * unit
  if (!Number.isSafeInteger(value)) throw new Error(`must be a number with a unit: ${Object.keys(units).join(', ')}`)
  return value
}

function contradictions(config: Config): string[] {
  const { srcClusterAddr, remotes, communicationPort, nameServerPort } = config
  const problems: string[] = []
  for (const name of config.newRemotes)
    if (!remotes.has(name)) problems.push(`--new-remote=${name}: there is no remote of this name`)
  for (const name of config.forgetRemotes)
    if (remotes.has(name)) problems.push(`--forget-remote=${name}: this remote is configured: take it out first`)
    else if (!REMOTE_NAME.test(name)) problems.push(`--forget-remote=${name}: ${REMOTE_NAME_RULE}`)
  const text = (addresses: readonly Address[]) =>
    addresses
      .map(({ host, port }) => `${host}:${port}`)
      .sort()
      .join(';')
  const seen = new Map([[text(srcClusterAddr), 'srcClusterAddr']])
  for (const [name, addresses] of remotes) {
    const key = name === DEFAULT_REMOTE ? 'destClusterAddr' : `destClusterAddr.${name}`
    const other = seen.get(text(addresses))
    if (other !== undefined) problems.push(`${other} and ${key} are the same: the remote must be another cluster`)
    seen.set(text(addresses), key)
  }
  if (communicationPort === 1 || communicationPort === 2)
    problems.push(`communicationPort=${communicationPort}: the VIP port two below it must be above 0`)
  if (nameServerPort !== 0 && (nameServerPort === communicationPort || nameServerPort === communicationPort - 2)) {
    problems.push(
      `nameServerPort=${nameServerPort} is a broker port of communicationPort=${communicationPort}: choose another`,
    )
  }
  return problems
}

/** Names the key that was meant, where one is like it: no more than a third of its letters differ. */
function hint(name: string): string {
  let best: string = keys[0]!
  for (const key of keys) if (distance(name, key) < distance(name, best)) best = key
  return distance(name, best) * 3 <= best.length ? `did you mean ${best}?` : 'start --help lists the keys'
}

/** Levenshtein's, letter case aside. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1]!.toLowerCase() === b[j - 1]!.toLowerCase()
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (same ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}
