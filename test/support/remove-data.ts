// Removes a gateway's data directory, and the notes that a killed gateway leaves in memory (replay/unclean-end.ts).

import { readdirSync, readFileSync, rmSync } from 'node:fs'

const NOTES = '/dev/shm'

export function removeData(dataDir: string): void {
  removeNotes(dataDir)
  rmSync(dataDir, { recursive: true, force: true })
}

/** While its directory is there still: it says whose they are. */
export function removeNotes(dataDir: string): void {
  const id = gatewayId(dataDir)
  if (id === undefined) return
  for (const name of readdirSync(NOTES))
    if (name.startsWith(`rocketmq-tee-${id}-`)) rmSync(`${NOTES}/${name}`, { force: true })
}

function gatewayId(dataDir: string): string | undefined {
  try {
    return readFileSync(`${dataDir}/gateway-id`, 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}
