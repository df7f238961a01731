// What a data directory names: its gateway, its remotes, its brokers. For tools that only read.

import type { FileSystem } from './file-system.ts'
import { REMOTES_MAX } from './place.ts'
import { readWhole } from './readable-files.ts'
import type { RemoteName } from './remote-reading.ts'

export interface DataDirectory {
  /** Undefined where that is not known. */
  gatewayId: string | undefined
  /** `remotes.json` is there and cannot be read: what is skipped for which remote is not known. */
  remotesDamaged: boolean
  brokers: { name: string; folder: string; remotes: RemoteName[] }[]
}

/** Undefined where it is none. Throws where it cannot be read. */
export async function readDataDirectory(fileSystem: FileSystem, path: string): Promise<DataDirectory | undefined> {
  const names = await fileSystem.list(path)
  if (!names.includes('gateway-id') && !names.includes('brokers')) return undefined
  const gatewayId = (await readWhole(fileSystem, `${path}/gateway-id`))?.toString().trim()
  const text = (await readWhole(fileSystem, `${path}/remotes.json`))?.toString()
  const labels = text === undefined ? [] : labelsIn(text)
  const folders = names.includes('brokers') ? (await fileSystem.list(`${path}/brokers`)).sort() : []
  const brokers: DataDirectory['brokers'] = []
  for (const folder of folders) {
    const inFolder = `${path}/brokers/${folder}`
    // A remote has a folder from its first start on; one without a number is of a directory whose remotes.json is lost.
    const known = await listFolder(fileSystem, `${inFolder}/remotes`)
    if (known === undefined) continue
    const remotes = known.map(label => ({ label, bit: bitOf(labels?.indexOf(label) ?? -1) }))
    brokers.push({ name: nameOf(folder), folder: inFolder, remotes })
  }
  return { gatewayId: gatewayId || undefined, remotesDamaged: labels === undefined, brokers }
}

/** Undefined where something on the way is no folder. */
async function listFolder(fileSystem: FileSystem, path: string): Promise<string[] | undefined> {
  try {
    return (await fileSystem.list(path)).sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTDIR') throw error
    return undefined
  }
}

function bitOf(number: number): number {
  return number < 0 || number >= REMOTES_MAX ? 0 : 1 << number
}

function labelsIn(text: string): string[] | undefined {
  try {
    const labels: unknown = JSON.parse(text)
    return Array.isArray(labels) && labels.every(label => typeof label === 'string') ? labels : undefined
  } catch {
    return undefined
  }
}

function nameOf(folder: string): string {
  try {
    return decodeURIComponent(folder)
  } catch {
    return folder
  }
}
