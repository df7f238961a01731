// Files of a disk with bad sectors: what cannot be read is zeros, and is told. So a damaged sector is damage like any other.

import type { FileSystem } from './file-system.ts'

/** What a tool needs that only reads. */
export type ReadableFiles = Pick<FileSystem, 'list' | 'size' | 'readAt'>

const SECTOR_BYTES = 4096

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
