// Losses, told to the operator as runs of offsets: what is lost of a queue in one turn of the loop, for one cause, is a line of the log for each
// run, not for each message. Why it is lost, and that it counts, is the caller's.

import type { LostCause } from './account.ts'
import type { Environment } from './environment.ts'

/** Which queue of which remote's feed; without a remote: of all. */
interface Whose {
  topic: string
  queueId: number
  remote?: string
}

interface Lost {
  whose: Whose
  cause: LostCause
  reason: string
  offsets: number[]
}

export class Losses {
  readonly #environment: Pick<Environment, 'clock' | 'log'>
  #lost = new Map<string, Lost>()

  constructor(environment: Pick<Environment, 'clock' | 'log'>) {
    this.#environment = environment
  }

  /** `reason`: why, in words; the same for all of a cause. */
  add(whose: Whose, queueOffset: number, cause: LostCause, reason: string): void {
    if (this.#lost.size === 0) this.#environment.clock.soon(() => this.#say())
    const key = `${whose.topic}\n${whose.queueId}\n${cause}`
    const lost = this.#lost.get(key) ?? { whose, cause, reason, offsets: [] }
    lost.offsets.push(queueOffset)
    this.#lost.set(key, lost)
  }

  #say(): void {
    const lost = this.#lost
    this.#lost = new Map()
    for (const { whose, cause, reason, offsets } of lost.values())
      for (const [fromOffset, toOffset] of runsOf(offsets))
        this.#environment.log.error(
          { ...whose, fromOffset, toOffset, messages: toOffset - fromOffset + 1, cause },
          `messages lost: ${reason}`,
        )
  }
}

/** First and last of each run, in order. */
function runsOf(offsets: readonly number[]): [number, number][] {
  const runs: [number, number][] = []
  for (const offset of offsets.toSorted((a, b) => a - b)) {
    const last = runs.at(-1)
    if (last !== undefined && offset <= last[1] + 1) last[1] = offset
    else runs.push([offset, offset])
  }
  return runs
}
