// The disk, as it is handed to everything in replay/, so that a simulator can play it.
//
// Appends are made on the event loop: a place is some 50 bytes, and such a write costs less (1.4 µs measured) than the
// way to another thread and back (38 µs). All else is off it. What is written is in the page cache when `append`
// returns, so that it survives the process; `sync` makes it survive the machine.

import { close as closeFile, constants, fdatasync, openSync, writeSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'

export interface AppendFile {
  /** Appends all of it, or throws; after a throw nothing is known of the file's end. */
  append(bytes: Buffer): void
  sync(): Promise<void>
  close(): Promise<void>
}

export interface FileSystem {
  makeFolder(path: string): Promise<void>
  /** Names in a folder. */
  list(path: string): Promise<string[]>
  /** A new file; throws where it exists. */
  create(path: string): AppendFile
  /** The whole file; undefined where there is none. */
  read(path: string): Promise<Buffer | undefined>
  /** What another process left of a file, and its name, outlives the machine from now on. */
  sync(path: string): Promise<void>
  /** The file is this, or, after a crash, what it was, or torn: for slots that are written in turn. Synced. */
  overwrite(path: string, bytes: Buffer): Promise<void>
  /** The file is this, or, after a crash, what it was. Synced. */
  replace(path: string, bytes: Buffer): Promise<void>
  /** It does not come back after a crash. */
  remove(path: string): Promise<void>
}

const OWNER_ONLY = 0o600

export const realFileSystem: FileSystem = {
  async makeFolder(path) {
    await fs.mkdir(path, { recursive: true, mode: 0o700 })
  },
  list: path => fs.readdir(path),
  create(path) {
    const file = openSync(
      path,
      constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_APPEND,
      OWNER_ONLY,
    )
    return {
      append(bytes) {
        // A write may be short, on a disk that is nearly full.
        for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at)
      },
      sync: () => promisify(fdatasync)(file),
      close: () => promisify(closeFile)(file),
    }
  },
  async read(path) {
    try {
      return await fs.readFile(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
  },
  async overwrite(path, bytes) {
    await fs.writeFile(path, bytes, { mode: OWNER_ONLY, flush: true })
  },
  async replace(path, bytes) {
    await this.overwrite(`${path}.new`, bytes)
    await fs.rename(`${path}.new`, path)
    await syncPath(dirname(path))
  },
  async sync(path) {
    await syncPath(path)
    await syncPath(dirname(path))
  },
  async remove(path) {
    await fs.rm(path, { force: true })
    await syncPath(dirname(path))
  },
}

async function syncPath(path: string): Promise<void> {
  const file = await fs.open(path)
  await file.sync().finally(() => file.close())
}
