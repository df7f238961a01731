// Losses are said as runs of offsets.

import test from 'ava'
import { Losses } from '../../replay/losses.ts'
import { FakeEnvironment } from '../support/fake-environment.ts'

const REASON = 'the source no longer has them'

test('what is lost in one turn is said once for each run of offsets, exactly', async t => {
  const environment = new FakeEnvironment()
  const losses = new Losses(environment)
  const queue = { remote: 'rome', topic: 'T', queueId: 1 }
  for (let offset = 10_019; offset >= 10; offset--) losses.add(queue, offset, 'expired', REASON)
  for (const offset of [3, 7, 4]) losses.add(queue, offset, 'expired', REASON)
  losses.add(queue, 11_000, 'source', REASON)
  losses.add({ ...queue, queueId: 2 }, 5, 'expired', REASON)
  t.deepEqual(environment.log.lines, [])
  await environment.settled()
  t.deepEqual(
    environment.log.lines.map(({ fields }) => fields),
    [
      { ...queue, fromOffset: 3, toOffset: 4, messages: 2, cause: 'expired' },
      { ...queue, fromOffset: 7, toOffset: 7, messages: 1, cause: 'expired' },
      { ...queue, fromOffset: 10, toOffset: 10_019, messages: 10_010, cause: 'expired' },
      { ...queue, fromOffset: 11_000, toOffset: 11_000, messages: 1, cause: 'source' },
      { ...queue, queueId: 2, fromOffset: 5, toOffset: 5, messages: 1, cause: 'expired' },
    ],
  )
  t.is(environment.log.lost, 10_010 + 5)
})

test('what is lost in the next turn is said then', async t => {
  const environment = new FakeEnvironment()
  const losses = new Losses(environment)
  losses.add({ topic: 'T', queueId: 0 }, 1, 'full', REASON)
  await environment.settled()
  losses.add({ topic: 'T', queueId: 0 }, 2, 'full', REASON)
  await environment.settled()
  t.deepEqual(
    environment.log.said(`messages lost: ${REASON}`).map(({ fields }) => fields.fromOffset),
    [1, 2],
  )
})
