// Files of a disk with bad sectors: what cannot be read is zeros, and is told. So a damaged sector is damage like any other.

import { type Clock, sleep } from './clock.ts'
import type { FileSystem } from './file-system.ts'

/** What a tool needs that only reads. */
export type ReadableFiles = Pick<FileSystem, 'list' | 'size' | 'readAt'>

const SECTOR_BYTES = 4096
/** Milliseconds for which it is tried again, and between: it may be the disk that fails, and no sector of it. */
const PATIENCE = 10_000
const AGAIN_AFTER = 500

/** `unreadable` is told of each stretch, in the order in which it is read. */
export function readableFiles(
  fileSystem: ReadableFiles,
  unreadable: (path: string, at: number, bytes: number) => void,
): ReadableFiles {
  const readAt = async (path: string, at: number, length: number): Promise<Buffer> => {
    try {
      return await fileSystem.readAt(path, at, length)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EIO') throw error
    }
    const next = (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES
    if (at + length <= next) {
      unreadable(path, at, length)
      return Buffer.alloc(length)
    }
    // The middle, on a border of sectors.
    const half = Math.max(next, Math.floor((at + length / 2) / SECTOR_BYTES) * SECTOR_BYTES)
    return Buffer.concat([await readAt(path, at, half - at), await readAt(path, half, at + length - half)])
  }
  return {
    list: path => fileSystem.list(path),
    size: path => fileSystem.size(path),
    readAt,
  }
}

/**
 * The files of a start. What the disk does not give is tried again for a while, in all of the start, and only then taken for
 * damaged: that is final, for what is not found counts as lost.
 */
export class StartFiles implements ReadableFiles {
  /** Bytes that were given, and that were not. */
  given = 0
  unreadable = 0
  readonly #clock: Clock
  readonly #fileSystem: ReadableFiles
  readonly #files: ReadableFiles
  #failsSince: number | undefined
  readonly #told = new Set<string>()

  constructor(fileSystem: ReadableFiles, clock: Clock, unreadable: (path: string, at: number, bytes: number) => void) {
    this.#clock = clock
    this.#fileSystem = fileSystem
    const patient = {
      list: (path: string) => fileSystem.list(path),
      size: (path: string) => fileSystem.size(path),
      readAt: (path: string, at: number, length: number) => this.#readPatiently(path, at, length),
    }
    this.#files = readableFiles(patient, (path, at, bytes) => {
      // Much is read twice.
      const stretch = `${path} ${at}`
      if (this.#told.has(stretch)) return
      this.#told.add(stretch)
      this.unreadable += bytes
      unreadable(path, at, bytes)
    })
  }

  list(path: string): Promise<string[]> {
    return this.#fileSystem.list(path)
  }

  size(path: string): Promise<number> {
    return this.#fileSystem.size(path)
  }

  readAt(path: string, at: number, length: number): Promise<Buffer> {
    return this.#files.readAt(path, at, length)
  }

  async #readPatiently(path: string, at: number, length: number): Promise<Buffer> {
    for (;;) {
      try {
        const bytes = await this.#fileSystem.readAt(path, at, length)
        this.given += bytes.length
        return bytes
      } catch (error) {
        const now = this.#clock.uptime()
        this.#failsSince ??= now
        if ((error as NodeJS.ErrnoException).code !== 'EIO' || now - this.#failsSince >= PATIENCE) throw error
      }
      await sleep(this.#clock, AGAIN_AFTER)
    }
  }
}

/** All of a file; undefined where there is none. */
export async function readWhole(files: ReadableFiles, path: string): Promise<Buffer | undefined> {
  return unlessGone(async () => files.readAt(path, 0, await files.size(path)))
}

/** Undefined where the file is not there (any more): who runs removes what is done. */
export async function unlessGone<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    return undefined
  }
}
