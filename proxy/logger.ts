// The log: pino, JSON lines on standard output. Nothing of a message's body or properties ever goes into it.

import { pino } from 'pino'

export type Logger = pino.Logger

/** Bytes that wait for a pipe that nobody reads; beyond them lines are dropped, for a log must not stop the gateway. */
const WAITING_MAX = 1024 * 1024

export function createLogger(level: string): Logger {
  return pino({ level, base: { pid: process.pid } }, pino.destination({ dest: 1, sync: false, maxLength: WAITING_MAX }))
}

export const silentLogger: Logger = pino({ level: 'silent' })

/** Writes out what waits; for the end of the process. */
export function flushLogger(log: Logger): Promise<void> {
  return new Promise(resolve => log.flush(() => resolve()))
}
