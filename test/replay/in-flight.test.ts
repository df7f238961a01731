// Which send has been out for how long, so that a thin link is not taken for one whose answers are lost.

import test from 'ava'
import { InFlight } from '../../replay/in-flight.ts'

test('the time of a send begins when it is the oldest without an answer', t => {
  const inFlight = new InFlight()
  const first = inFlight.add(100, 1_000)
  const second = inFlight.add(50, 1_500)
  t.is(inFlight.bytes, 150)
  t.is(inFlight.longest, first as typeof inFlight.longest)
  inFlight.answered(first, 9_000)
  t.is(inFlight.longest, second as typeof inFlight.longest)
  t.is(second.since, 9_000)
  t.is(inFlight.bytes, 50)
  inFlight.answered(second, 9_001)
  t.is(inFlight.longest, undefined)
  t.is(inFlight.count, 0)
})

test('it begins when a later one is answered: its bytes have arrived', t => {
  const inFlight = new InFlight()
  const [first, second, third] = [inFlight.add(1, 0), inFlight.add(1, 1), inFlight.add(1, 2)]
  inFlight.answered(third, 500)
  t.deepEqual([first.since, second.since], [0, 500])
  t.is(inFlight.longest, first as typeof inFlight.longest)
  inFlight.answered(first, 800)
  t.is(inFlight.longest, second as typeof inFlight.longest)
  t.is(second.since, 500)
})

test('what is answered twice, or was out on an ended link, counts once', t => {
  const inFlight = new InFlight()
  const sent = inFlight.add(10, 0)
  inFlight.answered(sent, 1)
  inFlight.answered(sent, 2)
  t.is(inFlight.bytes, 0)
  const old = inFlight.add(10, 3)
  inFlight.clear()
  const other = inFlight.add(20, 4)
  inFlight.answered(old, 5)
  t.is(inFlight.bytes, 20)
  t.true(inFlight.has(other))
  t.false(inFlight.has(old))
})
