// How long a lane waits before it tries again.

import test from 'ava'
import { Backoff } from '../../replay/backoff.ts'

const times = (backoff: Backoff, count: number) => Array.from({ length: count }, () => backoff.next())

test('each wait may be twice the one before, up to the most, for as long as it takes', t => {
  t.deepEqual(times(new Backoff(1_000, () => 0), 7), [25, 50, 100, 200, 400, 500, 500])
  const longest = times(new Backoff(1_000, () => 1 - 2 ** -30), 5_000)
  t.deepEqual(
    longest.slice(0, 7).map(ms => Math.round(ms)),
    [50, 100, 200, 400, 800, 1_000, 1_000],
  )
  t.true(longest.every(ms => ms <= 1_000))
})

test('after a success it begins anew', t => {
  const backoff = new Backoff(1_000, () => 0)
  times(backoff, 5)
  backoff.reset()
  t.is(backoff.next(), 25)
})
