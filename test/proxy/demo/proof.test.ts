// What the proof finds, and that it holds only where nothing is wrong.

import test from 'ava'
import { encodeProperties, type StoredMessage } from '../../../codec/index.ts'
import { compare, holds, proofLine } from '../../../proxy/demo/proof.ts'

type Queues = Record<string, string>

/** Queues of messages whose keys are single letters. */
function queues(of: Queues): Map<string, StoredMessage[]> {
  const message = (key: string) => ({ properties: encodeProperties([['KEYS', key]]) }) as StoredMessage
  return new Map(Object.entries(of).map(([queue, keys]) => [queue, [...keys].map(message)]))
}

function proof(acked: string, source: Queues, remote: Queues) {
  const found = compare(new Set(acked), queues(source), queues(remote))
  return { line: proofLine(found), holds: holds(found) }
}

test('it holds where each acked message is at the remote once, and each source queue is in order', t => {
  t.deepEqual(proof('abcd', { 'a/0': 'ac', 'a/1': 'bd' }, { 'b/0': 'bacd' }), {
    line: 'proof: acked=4 remote=4 missing=0 duplicates=0 out-of-order=0',
    holds: true,
  })
})

test('it does not hold where one is missing, is there twice, or overtook another', t => {
  const source = { 'a/0': 'abc' }
  t.deepEqual(proof('abc', source, { 'b/0': 'ac' }), {
    line: 'proof: acked=3 remote=2 missing=1 duplicates=0 out-of-order=0',
    holds: false,
  })
  t.deepEqual(proof('abc', source, { 'b/0': 'abbc' }), {
    line: 'proof: acked=3 remote=4 missing=0 duplicates=1 out-of-order=0',
    holds: false,
  })
  t.deepEqual(proof('abc', source, { 'b/0': 'acb' }), {
    line: 'proof: acked=3 remote=3 missing=0 duplicates=0 out-of-order=1',
    holds: false,
  })
})

test('it does not hold where one is there twice in different queues', t => {
  t.false(proof('ab', { 'a/0': 'ab' }, { 'b/0': 'ab', 'b/1': 'a' }).holds)
})

test('one that was stored and not acked may be at the remote, once and in its place', t => {
  t.true(proof('ac', { 'a/0': 'abc' }, { 'b/0': 'abc' }).holds)
  t.false(proof('ac', { 'a/0': 'abc' }, { 'b/0': 'acb' }).holds)
})

test('it does not hold where nothing was acked: nothing was proved', t => {
  t.false(proof('', { 'a/0': '' }, { 'b/0': '' }).holds)
})
