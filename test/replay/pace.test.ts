// Reading back yields to producers, and comes back.

import test from 'ava'
import { Pace, QUESTIONS_MOST } from '../../replay/pace.ts'

/** Acks that take so long, one every 20 ms; how much may be asked afterwards. */
function acks(pace: Pace, count: number, ms: number, clock: { now: number }): number {
  for (let index = 0; index < count; index++) {
    clock.now += 20
    pace.ackTook(ms, clock.now)
  }
  return pace.questions
}

test('while acks take as long as ever, all is asked', t => {
  const pace = new Pace()
  t.is(acks(pace, 500, 3, { now: 1_000 }), QUESTIONS_MOST)
})

test('when acks take more than twice as long, less and less is asked, and never nothing', t => {
  const pace = new Pace()
  const clock = { now: 1_000 }
  acks(pace, 100, 3, clock)
  t.is(acks(pace, 100, 5, clock), QUESTIONS_MOST)
  const soon = acks(pace, 12, 20, clock)
  t.true(soon < QUESTIONS_MOST && soon > 1, `${soon}`)
  t.is(acks(pace, 100, 20, clock), 1)
})

test('when they are quick again, more is asked, up to all', t => {
  const pace = new Pace()
  const clock = { now: 1_000 }
  acks(pace, 100, 3, clock)
  acks(pace, 200, 50, clock)
  t.is(pace.questions, 1)
  acks(pace, 100, 3, clock)
  t.true(pace.questions > 1)
  t.is(acks(pace, 400, 3, clock), QUESTIONS_MOST)
})

test('what was the best is forgotten after a minute: a source that stays slow is read back from all the same', t => {
  const pace = new Pace()
  const clock = { now: 1_000 }
  acks(pace, 100, 2, clock)
  t.is(acks(pace, 500, 20, clock), 1)
  acks(pace, 3_500, 20, clock)
  t.is(pace.questions, QUESTIONS_MOST)
})

test('acks of a millisecond or none are no reason', t => {
  const pace = new Pace()
  const clock = { now: 1_000 }
  for (let round = 0; round < 200; round++) {
    acks(pace, 1, 0, clock)
    acks(pace, 1, round % 10 === 0 ? 3 : 1, clock)
  }
  t.is(pace.questions, QUESTIONS_MOST)
})
