// What replay/ takes from the world: time, chance, disk, connections, a log. All handed in, so that a simulator can
// play them; nothing in replay/ reaches for them by itself.

import { randomBytes } from 'node:crypto'
import { type Clock, realClock } from './clock.ts'
import { type Dial, dialTcp } from './dial.ts'
import { type FileSystem, realFileSystem } from './file-system.ts'
import type { Log } from './log.ts'

export interface Environment {
  clock: Clock
  /** 0 ≤ x < 1. */
  random: () => number
  /** Hex digits that nobody else draws. */
  randomId: (bytes: number) => string
  fileSystem: FileSystem
  dial: Dial
  log: Log
}

export function realEnvironment(log: Log): Environment {
  return {
    clock: realClock,
    random: Math.random,
    randomId: bytes => randomBytes(bytes).toString('hex'),
    fileSystem: realFileSystem,
    dial: dialTcp,
    log,
  }
}
