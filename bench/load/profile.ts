// The functions with the most self time in a profile that V8 wrote (`--cpu-prof`).

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

interface Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[]
  samples: number[]
  timeDeltas: number[]
}

const LISTED = 16

/** The newest profile in a folder, as lines: percent of the time that was not idle, function, place. */
export function topOf(folder: string): string[] {
  const name = readdirSync(folder)
    .filter(file => file.endsWith('.cpuprofile'))
    .sort()
    .at(-1)
  if (name === undefined) return ['no profile was written']
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(join(folder, name), 'utf8')) as Profile
  const names = new Map(
    nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => [
      id,
      `${functionName || '(anonymous)'} ${url.split('/').slice(-2).join('/')}${url ? `:${lineNumber + 1}` : ''}`,
    ]),
  )
  const self = new Map<string, number>()
  let busy = 0
  samples.forEach((id, index) => {
    const function_ = names.get(id)!
    if (function_.startsWith('(idle)')) return
    const took = timeDeltas[index] ?? 0
    busy += took
    self.set(function_, (self.get(function_) ?? 0) + took)
  })
  return [...self]
    .sort((a, b) => b[1] - a[1])
    .slice(0, LISTED)
    .map(([function_, took]) => `${((100 * took) / busy).toFixed(1).padStart(5)} %  ${function_}`)
}
