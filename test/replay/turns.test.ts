// So many at a time, in the order in which they came.

import test from 'ava'
import { Turns } from '../../replay/turns.ts'

const turn = () => new Promise(resolve => setImmediate(resolve))

test('so many work at a time, the others in the order in which they came, also where work fails', async t => {
  const turns = new Turns(2)
  const begun: number[] = []
  const ends: (() => void)[] = []
  const outcomes = Array.from({ length: 6 }, (_, index) =>
    turns.take(
      () =>
        new Promise<number>((resolve, reject) => {
          begun.push(index)
          ends.push(() => (index === 1 ? reject(new Error('failed')) : resolve(index)))
        }),
    ),
  )
  const settled = Promise.allSettled(outcomes)
  await turn()
  t.deepEqual(begun, [0, 1])
  ends[1]!()
  await turn()
  t.deepEqual(begun, [0, 1, 2])
  ends[0]!()
  ends[2]!()
  await turn()
  t.deepEqual(begun, [0, 1, 2, 3, 4])
  for (const end of ends) end()
  await turn()
  ends.at(-1)!()
  t.deepEqual(
    (await settled).map(outcome => (outcome.status === 'fulfilled' ? outcome.value : 'failed')),
    [0, 'failed', 2, 3, 4, 5],
  )
  t.is(await turns.take(async () => 'free again'), 'free again')
})

test('with fewer turns no more begin until enough have ended; with more some begin at once', async t => {
  const turns = new Turns(3)
  const ends: (() => void)[] = []
  const works = Array.from({ length: 8 }, () => turns.take(() => new Promise<void>(resolve => ends.push(resolve))))
  await turn()
  t.is(ends.length, 3)
  turns.limit = 1
  ends[0]!()
  ends[1]!()
  await turn()
  t.is(ends.length, 3)
  ends[2]!()
  await turn()
  t.is(ends.length, 4)
  turns.limit = 4
  await turn()
  t.is(ends.length, 7)
  for (let index = 3; index < 8; index++) {
    ends[index]!()
    await turn()
  }
  await Promise.all(works)
  t.is(ends.length, 8)
})
