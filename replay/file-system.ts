// The disk, as it is handed to everything in replay/, so that a simulator can play it.
//
// Everything is off the event loop, also the append of a place, which costs less on it (1.4 µs measured) than the way to another
// thread and back (38 µs): a disk that hangs would stop every session with it. What is appended is in the page cache when the
// call returns, so that it survives the process; `sync` makes it survive the machine.

import { constants, readFileSync, rmSync, writeFileSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { dirname } from 'node:path'

export interface AppendFile {
  /** Appends all of it; after a failure nothing is known of the file's end. One at a time. */
  append(bytes: Buffer): Promise<void>
  sync(): Promise<void>
  close(): Promise<void>
}

export interface FileSystem {
  makeFolder(path: string): Promise<void>
  /** Names in a folder; none where there is no folder. */
  list(path: string): Promise<string[]>
  /**
   * A new file, whose name outlives the machine; throws where it exists. So many bytes are set aside for it, as far as the
   * disk has them: zeros until they are written, given back at the end.
   */
  create(path: string, reserved?: number): Promise<AppendFile>
  /** The whole file; undefined where there is none. */
  read(path: string): Promise<Buffer | undefined>
  /** So many bytes of a file from a position on; fewer at its end. */
  readAt(path: string, at: number, length: number): Promise<Buffer>
  /** Bytes of a file. */
  size(path: string): Promise<number>
  /** What another process left of a file, and its name, outlives the machine from now on. */
  sync(path: string): Promise<void>
  /**
   * The file begins with these bytes, or, after a crash, with what it began with, or torn: for slots that are written in
   * turn. Synced. It never gets shorter, so that it needs no new space on a full disk.
   */
  overwrite(path: string, bytes: Buffer): Promise<void>
  /** The file is this, or, after a crash, what it was. Synced. */
  replace(path: string, bytes: Buffer): Promise<void>
  /** It has another name from now on; after a crash before this is done, either. Nothing where it is not there. */
  rename(from: string, to: string): Promise<void>
  /** It does not come back after a crash. */
  remove(path: string): Promise<void>
  /** With all that is in it; nothing where there is none. */
  removeFolder(path: string): Promise<void>
  /** Bytes that are free for us on the disk of a folder. */
  freeBytes(folder: string): Promise<number>
  /** A small file in memory, written when this returns, which the machine's next start does not have; undefined: it goes. Where there is no such place it is not written. */
  writeNote(path: string, text: string | undefined): void
  readNote(path: string): string | undefined
}

const OWNER_ONLY = 0o600

export const realFileSystem: FileSystem = {
  async makeFolder(path) {
    await fs.mkdir(path, { recursive: true, mode: 0o700 })
  },
  async list(path) {
    try {
      return await fs.readdir(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    }
  },
  async create(path, reserved = 0) {
    const handle = await fs.open(path, constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY, OWNER_ONLY)
    try {
      await setAside(handle, reserved)
      await syncPath(dirname(path))
    } catch (error) {
      await handle.close()
      throw error
    }
    let end = 0
    return {
      async append(bytes) {
        // A write may be short, on a disk that is nearly full.
        for (let at = 0; at < bytes.length; ) {
          const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, end)
          at += bytesWritten
          end += bytesWritten
        }
      },
      sync: () => handle.datasync(),
      async close() {
        if (end < reserved) await handle.truncate(end).catch(() => {})
        await handle.close()
      },
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
  async readAt(path, at, length) {
    const file = await fs.open(path, 'r')
    try {
      const bytes = Buffer.allocUnsafeSlow(length)
      let end = 0
      while (end < length) {
        const { bytesRead } = await file.read(bytes, end, length - end, at + end)
        if (bytesRead === 0) break
        end += bytesRead
      }
      return bytes.subarray(0, end)
    } finally {
      await file.close()
    }
  },
  async size(path) {
    return (await fs.stat(path)).size
  },
  async overwrite(path, bytes) {
    const file = await fs.open(path, constants.O_CREAT | constants.O_WRONLY, OWNER_ONLY)
    try {
      for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at, at)).bytesWritten
      await file.datasync()
    } finally {
      await file.close()
    }
  },
  async replace(path, bytes) {
    await fs.writeFile(`${path}.new`, bytes, { mode: OWNER_ONLY, flush: true })
    await fs.rename(`${path}.new`, path)
    await syncPath(dirname(path))
  },
  async sync(path) {
    await syncPath(path)
    await syncPath(dirname(path))
  },
  async rename(from, to) {
    try {
      await fs.rename(from, to)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
    await syncPath(dirname(to))
  },
  async remove(path) {
    await fs.rm(path, { force: true })
    await syncPath(dirname(path))
  },
  async removeFolder(path) {
    await fs.rm(path, { recursive: true, force: true })
    await syncPath(dirname(path))
  },
  async freeBytes(folder) {
    const { bavail, bsize } = await fs.statfs(folder)
    return bavail * bsize
  },
  writeNote(path, text) {
    try {
      if (text === undefined) rmSync(path, { force: true })
      else writeFileSync(path, text, { mode: OWNER_ONLY })
    } catch {
      // Without one the next start is told less.
    }
  },
  readNote(path) {
    try {
      return readFileSync(path, 'utf8')
    } catch {
      return undefined
    }
  },
}

/** Written, for space that is only promised may be gone when it is needed. (Where a file system compresses or copies on write it may.) */
async function setAside(handle: fs.FileHandle, bytes: number): Promise<void> {
  if (bytes === 0) return
  const zeros = Buffer.alloc(Math.min(bytes, 1024 * 1024))
  try {
    for (let at = 0; at < bytes; ) {
      const { bytesWritten } = await handle.write(zeros, 0, Math.min(zeros.length, bytes - at), at)
      at += bytesWritten
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
  await handle.datasync()
}

async function syncPath(path: string): Promise<void> {
  const file = await fs.open(path)
  await file.sync().finally(() => file.close())
}
