// The most that something was while something else went on.

import { type Dirent, lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const INTERVAL = 50

export async function peakOf(read: () => Promise<number> | number, during: Promise<unknown>): Promise<number> {
  let most = Number.NEGATIVE_INFINITY
  let over = false
  const end = during.finally(() => {
    over = true
  })
  // Its error is for the one who waits below.
  end.catch(() => {})
  while (!over) {
    most = Math.max(most, await read())
    await Promise.race([sleep(INTERVAL), end])
  }
  await end
  return most
}

/** Bytes that a folder takes on its disk. What goes while it is looked at does not count. */
export function folderBytes(folder: string): number {
  let bytes = 0
  for (const entry of entriesOf(folder)) {
    const path = join(entry.parentPath, entry.name)
    bytes += 512 * (lstatSync(path, { throwIfNoEntry: false })?.blocks ?? 0)
  }
  return bytes
}

function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
