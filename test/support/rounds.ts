// How often a test does what it does: a few times in CI, often in the soak run. THE table of both.
//
// `npm run test:soak` sets SOAK=true, and SOAK_MINUTES: a test of rounds begins none after that. ROUNDS overrides the table.

const SAY_EVERY = 10_000

const table = {
  killGateway: [10, 100],
  killGatewayInGap: [1, 20],
  killGatewayUnreadable: [1, 20],
  killGatewayAndSource: [1, 20],
  killRemoteSyncFlush: [3, 100],
  killRemoteAsyncFlush: [3, 100],
  stopRemote: [3, 50],
  stopRemoteKillGateway: [1, 20],
  resetConnections: [10, 1_000],
  oldStore: [1, 20],
  oneRemoteDown: [1, 10],
} as const satisfies Record<string, readonly [ci: number, soak: number]>

export type RoundsOf = keyof typeof table

export const isSoak = process.env.SOAK === 'true'
const minutes = Number(process.env.SOAK_MINUTES ?? Number.POSITIVE_INFINITY)

/** Numbers of rounds from 1 on. Says in the test's log how many there were, and while they go on, in a soak run. */
export function* rounds(t: { title: string; log(...values: unknown[]): void }, name: RoundsOf): Generator<number> {
  const most = Number(process.env.ROUNDS ?? table[name][isSoak ? 1 : 0])
  const end = Date.now() + minutes * 60_000
  let said = Date.now()
  let round = 1
  try {
    for (; round <= most && Date.now() < end; round++) {
      if (isSoak && Date.now() - said >= SAY_EVERY) {
        said = Date.now()
        process.stderr.write(`${t.title}: round ${round} of ${most}\n`)
      }
      yield round
    }
  } finally {
    t.log(`rounds: ${round - 1} of ${most}`)
  }
}
