// What a slot says of places.

import test from 'ava'
import { isAmong } from '../../replay/slot-marks.ts'
import { seededRandom } from '../support/random.ts'

test('an offset is among the runs of what is done, or not, as when each is looked at', t => {
  const random = seededRandom(t)
  for (let round = 0; round < 200; round++) {
    const runs: [number, number][] = []
    let end = 0
    for (let count = random.integer(0, 12); count > 0; count--) {
      const first = end + random.integer(1, 4)
      const length = random.integer(1, 4)
      runs.push([first, length])
      end = first + length
    }
    for (let offset = 0; offset < end + 3; offset++)
      t.is(
        isAmong(runs, offset),
        runs.some(([first, count]) => offset >= first && offset < first + count),
      )
  }
})

test('among very many runs each of as many offsets is found in few looks', t => {
  const runs = Array.from({ length: 20_000 }, (_, at): [number, number] => [at * 2 + 1, 1])
  let looks = 0
  const counted = new Proxy(runs, {
    get(target, key) {
      if (typeof key === 'string' && /^\d+$/.test(key)) looks++
      return Reflect.get(target, key)
    },
  })
  t.true(isAmong(counted, 39_999))
  t.false(isAmong(counted, 20_000))
  t.true(looks <= 2 * 16, `${looks} looks`)
})
