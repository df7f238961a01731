// Streams of chance from one seed, one for each part of the world: what one part draws does not change another's draws.

import { Random } from '../support/random.ts'

export function stream(seed: number, name: string): Random {
  let hash = seed | 0
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193)
  const random = new Random(hash ^ (hash >>> 13))
  random.next()
  return random
}
