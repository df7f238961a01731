// Where the project's sources and recordings are, as seen from a test that was built into another folder.

import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** The folder that holds codec/index.ts, above this file or above PROJECT_ROOT. */
export const projectRoot = rootAbove(process.env.PROJECT_ROOT ?? import.meta.dirname)

function rootAbove(from: string): string {
  for (let folder = from; folder !== dirname(folder); folder = dirname(folder))
    if (existsSync(join(folder, 'codec/index.ts'))) return folder
  throw new Error(`no codec/index.ts in any folder above ${from}`)
}
