// The answer table, whole.

import test from 'ava'
import { type Meaning, meaningOf } from '../../replay/answer.ts'

const table: [code: number, remark: string, meaning: Meaning][] = [
  [0, '', 'stored'],
  [10, '', 'stored'],
  [11, '', 'stored'],
  [12, '', 'stored'],
  [2, '[TIMEOUT_CLEAN_QUEUE]broker busy', 'again'],
  [2, '[PC_SYNCHRONIZED]broker busy', 'unclear'],
  [14, 'service not available now', 'again'],
  [215, '', 'again'],
  [1, 'in-sync replicas not enough', 'unclear'],
  [1, 'flow control', 'again'],
  [215, '[PC_SYNCHRONIZED] flow control', 'unclear'],
  [1, 'CREATE mapped file FAILED, server is busy or broken.', 'again'],
  [1, 'unknown error', 'unclear'],
  [1, '', 'unclear'],
  [13, 'the message is illegal', 'dead'],
  [16, 'no permission', 'wait'],
  [17, 'topic not exist', 'wait'],
  [29, '', 'wait'],
  [3, '', 'wait'],
  [207, '', 'wait'],
  [-1, '', 'wait'],
]

for (const [code, remark, meaning] of table)
  test(`code ${code} with "${remark}" is ${meaning}`, t => t.is(meaningOf(code, remark), meaning))

test('nothing but an illegal message is ever a dead letter', t => {
  for (let code = -10; code < 1_000; code++) if (code !== 13) t.not(meaningOf(code, 'whatever'), 'dead', `${code}`)
})
