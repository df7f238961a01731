// The sum that holds at all times.

import test from 'ava'
import { Account } from '../../replay/account.ts'
import { seededRandom } from '../support/random.ts'

test('whatever becomes of the messages, the terms add up to what was acked', t => {
  const random = seededRandom(t)
  const account = new Account()
  let acked = 0
  for (let step = 0; step < 5_000; step++) {
    const withBody = random.chance(0.5)
    const there = withBody ? account.queued > 0 : account.inGap > 0
    switch (random.integer(0, 7)) {
      case 0:
      case 1:
        acked++
        account.accepted(withBody)
        break
      case 2: {
        const count = random.integer(1, 5)
        acked += count
        account.skipped(random.pick(['delayed', 'loop', 'reply'] as const), count)
        break
      }
      case 3:
        if (there) account.moved(withBody ? 'gap' : 'queued')
        break
      case 4:
        if (there) account.replicated(withBody)
        break
      case 5:
        if (there) account.deadLettered(withBody)
        break
      case 6:
        if (there) account.skippedLate('loop', withBody)
        break
      default:
        if (there) account.lost(random.pick(['expired', 'source'] as const), withBody)
    }
    t.is(account.acked, acked)
    t.true(account.queued >= 0 && account.inGap >= 0)
  }
  const { replicated, deadLettered, lost, skipped } = account.totals
  t.true(replicated > 0 && deadLettered > 0 && lost.expired! > 0 && lost.source! > 0 && skipped.loop! > 0)
})

test('what is lost before it was counted as anything is acked and lost', t => {
  const account = new Account()
  account.lostUnseen('journal', 3)
  t.is(account.acked, 3)
  t.is(account.totals.lost.journal, 3)
})

test('what a cursor kept goes on counting', t => {
  const before = new Account()
  before.accepted(true)
  before.replicated(true)
  before.skipped('delayed', 2)
  const after = new Account()
  after.totals = structuredClone(before.totals)
  t.is(after.acked, 3)
})
