// A producer or consumer with a real RocketMQ client in a process of its own, that tells in JSON lines what it does.
//
// It starts one, reads what it tells and ends it with this process. It does not build it.

import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Guard } from '../../proxy/demo/guard.ts'

export type SendMode = 'sync' | 'async' | 'ordered' | 'batch' | 'oneway'

export interface ProducerOptions {
  nameServer: string
  topic: string
  /**
   * `sync` by default. `ordered` sends message i with key i mod 8, each key to one queue. Several (Java only) go one after the other, each to a topic of
   * its own, `<topic>-<mode>`.
   */
  mode?: SendMode | readonly SendMode[]
  /** 100 by default; without end where `seconds` is given. */
  count?: number
  seconds?: number
  /** Messages a second. */
  rate?: number
  /** Bytes of a body; 100 to 6000 by default, 20 to 220 in a batch. */
  size?: number
  /** 1 by default; `ordered` uses at most 8. */
  threads?: number
  /** 0 by default: a failed send is told as failed. */
  retries?: number
  /** 10 s by default, more than a client's own 3 s: a loaded machine shall not look like a failure. */
  timeoutMs?: number
  /** Of `async`: how many sends may be unanswered, 64 by default. */
  outstanding?: number
  /** How many messages a batch has; 10 to 50 by default. */
  batch?: number
  seed?: number
  /** Part of every key, which is K-<run>-<i>; unique by default. */
  run?: string
  group?: string
  onLine?: (line: AckedMessage | FailedMessage) => void
}

export interface ConsumerOptions {
  nameServer: string
  topic: string
  /** Ends after so many different messages. */
  count?: number
  /** Ends after so long in any case, 60 by default. */
  seconds?: number
  group?: string
  ordered?: boolean
  onLine?: (line: ConsumedMessage) => void
}

export interface AckedMessage {
  i: number
  /** Of Java clients. */
  topic?: string
  keys: string
  uniqKey: string
  tags: string | null
  /** Of the body as the application gave it. */
  bodySha1: string
  /** Those of the application only. */
  properties: Record<string, string>
  /** -1 for a oneway send, as the offset, with no broker name. */
  queueId: number
  queueOffset: number
  brokerName: string | null
  /** SEND_OK, or another that also means stored, or ONEWAY. */
  status: string
}

export interface FailedMessage {
  i: number
  error: string
}

export interface ConsumedMessage {
  keys: string
  uniqKey: string
  tags: string | null
  /** Of the body as the application gets it. */
  bodySha1: string
  /** All, also those that RocketMQ adds. */
  properties: Record<string, string>
  queueId: number
  queueOffset: number
  /** `ip:port` of the broker that stores it. */
  storeHost: string
}

export interface ProducerResult {
  acked: AckedMessage[]
  failed: FailedMessage[]
  /** The longest that one send took. 0 where it was killed. */
  maxMs: number
  /** False where it was killed before its end. */
  done: boolean
}

export interface ConsumerResult {
  /** Each as often as it was delivered. */
  consumed: ConsumedMessage[]
  done: boolean
}

export interface RunningClient<Line, Result> {
  pid: number
  /** What was told so far; grows. */
  lines: Line[]
  /** Resolves when a consumer is registered, or when a producer told its first message. */
  ready: Promise<void>
  /** Rejects where the client ended by itself without coming to its end. */
  result: Promise<Result>
  kill(signal?: NodeJS.Signals): void
}

export type RunningProducer = RunningClient<AckedMessage | FailedMessage, ProducerResult>
export type RunningConsumer = RunningClient<ConsumedMessage, ConsumerResult>

/** A command that gets the options of producer or consumer added. `{folder}` in it stands for its temporary folder. */
export interface ClientCommand {
  command: string
  args: string[]
}

interface LastLine {
  done: true
  maxMs?: number
}

export function startProducer(command: ClientCommand, options: ProducerOptions): RunningProducer {
  const { nameServer, onLine, timeoutMs = 10_000, ...rest } = options
  const flags = flagsOf({ namesrv: nameServer, timeout: timeoutMs, ...rest })
  return start<AckedMessage | FailedMessage, ProducerResult>(command, flags, onLine, (lines, last) => ({
    acked: lines.filter(line => 'keys' in line),
    failed: lines.filter(line => 'error' in line),
    maxMs: last?.maxMs ?? 0,
    done: last !== undefined,
  }))
}

export function startConsumer(command: ClientCommand, options: ConsumerOptions): RunningConsumer {
  const { nameServer, onLine, ...rest } = options
  const flags = flagsOf({ namesrv: nameServer, ...rest })
  return start<ConsumedMessage, ConsumerResult>(command, flags, onLine, (consumed, last) => ({
    consumed,
    done: last !== undefined,
  }))
}

function flagsOf(options: Record<string, string | number | boolean | readonly string[] | undefined>): string[] {
  return Object.entries(options).flatMap(([name, value]) => {
    if (value === undefined || value === false) return []
    return value === true ? [`--${name}`] : [`--${name}`, String(value)]
  })
}

function start<Line, Result>(
  { command, args }: ClientCommand,
  flags: string[],
  onLine: ((line: Line) => void) | undefined,
  resultOf: (lines: Line[], last: LastLine | undefined) => Result,
): RunningClient<Line, Result> {
  const folder = mkdtempSync(join(tmpdir(), 'rocketmq-tee-client-'))
  const guard = new Guard(folder)
  const child: ChildProcess = spawn(
    command,
    [...args.map(arg => arg.replaceAll('{folder}', folder)), ...flags],
    // A session of its own: Ctrl-C at the terminal is for the one who started this.
    { cwd: folder, detached: true, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  guard.watch(child)
  const lines: Line[] = []
  let last: LastLine | undefined
  let killed = false
  let errors = ''
  let isReady = () => {}
  let isNotReady: (error: Error) => void = () => {}
  const ready = new Promise<void>((resolve, reject) => {
    isReady = resolve
    isNotReady = reject
  })
  ready.catch(() => {})
  createInterface({ input: child.stdout! }).on('line', text => {
    const line = JSON.parse(text)
    if (line.done) last = line
    isReady()
    if (line.done || line.ready) return
    lines.push(line)
    onLine?.(line)
  })
  child.stderr!.setEncoding('utf8').on('data', text => {
    errors = (errors + text).slice(-4000)
  })
  const result = new Promise<Result>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (status, signal) => {
      if (last || killed) resolve(resultOf(lines, last))
      else reject(new Error(`the client ended with ${signal ?? status} before its end:\n${errors.trim()}`))
    })
  }).finally(() => guard.close())
  result.catch(isNotReady)
  return {
    pid: child.pid ?? 0,
    lines,
    ready,
    result,
    kill(signal: NodeJS.Signals = 'SIGKILL') {
      killed ||= signal !== 'SIGSTOP' && signal !== 'SIGCONT'
      child.kill(signal)
    },
  }
}
