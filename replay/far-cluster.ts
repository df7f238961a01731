// A cluster that is far away: its brokers are asked over links that may be thin, by many lanes at once.
//
// An answer that waits behind others on the link is not late while those come (link.ts), up to a limit: one that got lost is
// not waited for as long as others go on asking. Pulls bring much, so of each broker few are under way at a time; fewer
// where the link ended under one, down to one, and one more with each that is answered. What brings little is asked at once.

import { type ExtValue, RequestCode } from '../codec/index.ts'
import { type Answer, Cluster } from './cluster.ts'
import type { Address } from './dial.ts'
import type { Environment } from './environment.ts'
import { Turns } from './turns.ts'

/** Milliseconds for an answer while others come. */
export const FAR_ASK_MOST = 60_000
export const FAR_PULLS_MOST = 16

export class FarCluster extends Cluster {
  readonly #pulls = new Map<string, Turns>()

  constructor(environment: Environment, nameServers: readonly Address[]) {
    super(environment, nameServers, FAR_ASK_MOST)
  }

  override ask(
    address: string,
    code: number,
    ext?: Iterable<readonly [string, ExtValue]>,
    body?: Buffer,
  ): Promise<Answer> {
    if (code !== RequestCode.PULL_MESSAGE) return super.ask(address, code, ext, body)
    const pulls = this.#pullsOf(address)
    return pulls.take(async () => {
      try {
        const answer = await super.ask(address, code, ext, body)
        pulls.limit = Math.min(FAR_PULLS_MOST, pulls.limit + 1)
        return answer
      } catch (error) {
        pulls.limit = Math.max(1, pulls.limit >> 1)
        throw error
      }
    })
  }

  #pullsOf(address: string): Turns {
    let pulls = this.#pulls.get(address)
    if (pulls === undefined) {
      pulls = new Turns(FAR_PULLS_MOST)
      this.#pulls.set(address, pulls)
    }
    return pulls
  }
}
