// What the proof finds, and that it holds only where nothing is wrong.

import test from 'ava'
import { encodeProperties, encodeStamp, STAMP_PROPERTY, type StoredMessage } from '../../../codec/index.ts'
import { compare, holds, proofLine } from '../../../proxy/demo/proof.ts'

type Queues = Record<string, string>

/** Queues of messages whose keys are single letters. */
function queues(of: Queues): Map<string, StoredMessage[]> {
  return new Map(Object.entries(of).map(([queue, keys]) => [queue, [...keys].map(key => message(key))]))
}

function message(key: string, more: [string, string][] = [], other: Partial<StoredMessage> = {}): StoredMessage {
  const properties = encodeProperties([['KEYS', key], ...more])
  const fixed = { topic: 't', queueId: 0, queueOffset: 0, commitLogOffset: 0, storeTimestamp: 0 }
  const sent = { sysFlag: 0, flag: 0, bornTimestamp: 1_000, preparedTransactionOffset: 0, body: Buffer.from(key) }
  return { ...fixed, ...sent, properties, ...other }
}

function stampOf(queueOffset: number): [string, string] {
  const origin = { group: 'g', path: [], gateway: 'w', broker: 'a', epoch: 'e', queueId: 0, queueOffset }
  return [STAMP_PROPERTY, encodeStamp({ ...origin, topic: '', bornTimestamp: 1_000, bind: 'crc32:0' })]
}

function proof(acked: string, source: Queues, remote: Queues) {
  const found = compare(new Set(acked), queues(source), queues(remote))
  return { line: proofLine(found), holds: holds(found) }
}

test('it holds where each acked message is at the remote once, and each source queue is in order', t => {
  t.deepEqual(proof('abcd', { 'a/0': 'ac', 'a/1': 'bd' }, { 'b/0': 'bacd' }), {
    line: 'proof: acked=4 remote=4 missing=0 duplicates=0 out-of-order=0 altered=0',
    holds: true,
  })
})

test('it does not hold where one is missing, is there twice, or overtook another', t => {
  const source = { 'a/0': 'abc' }
  t.deepEqual(proof('abc', source, { 'b/0': 'ac' }), {
    line: 'proof: acked=3 remote=2 missing=1 duplicates=0 out-of-order=0 altered=0',
    holds: false,
  })
  t.deepEqual(proof('abc', source, { 'b/0': 'abbc' }), {
    line: 'proof: acked=3 remote=4 missing=0 duplicates=1 out-of-order=0 altered=0',
    holds: false,
  })
  t.deepEqual(proof('abc', source, { 'b/0': 'acb' }), {
    line: 'proof: acked=3 remote=3 missing=0 duplicates=0 out-of-order=1 altered=0',
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

test('what a remote tore as it was killed is told apart, and allowed to no other', t => {
  const properties = Buffer.concat([encodeProperties([['KEYS', 'b']]), Buffer.alloc(80)])
  const torn = message('b', [], { properties })
  const remote = new Map([['b/0', [message('a'), torn, message('b')]]])
  const found = compare(new Set('ab'), queues({ 'a/0': 'ab' }), remote)
  t.is(proofLine(found), 'proof: acked=2 remote=2 missing=0 duplicates=0 out-of-order=0 altered=0 torn-by-remote=1')
  t.false(holds(found))
  t.true(holds(found, 'was killed'))
})

test('it does not hold where nothing was acked: nothing was proved', t => {
  t.false(proof('', { 'a/0': '' }, { 'b/0': '' }).holds)
})

// The one that was sent is first in its queue; what brokers add to it, and take away from it, is not the client's.
const sent: [string, string][] = [
  ['UNIQ_KEY', 'U'],
  ['user', 'v'],
]
const original = message('x', [...sent, ['WAIT', 'true'], ['CLUSTER', 'source'], ['MSG_REGION', 'r']])
const copies: [title: string, copy: StoredMessage, holds: boolean][] = [
  ['a copy with its stamp', message('x', [...sent, ['CLUSTER', 'remote'], stampOf(0)]), true],
  ['born at the same time, nearly', message('x', [...sent, stampOf(0)], { bornTimestamp: 2_000 }), true],
  ['born at another time', message('x', [...sent, stampOf(0)], { bornTimestamp: 2_001 }), false],
  ['another payload', message('x', [...sent, stampOf(0)], { body: Buffer.from('y') }), false],
  ['another flag', message('x', [...sent, stampOf(0)], { flag: 1 }), false],
  ['said to be compressed', message('x', [...sent, stampOf(0)], { sysFlag: 1 }), false],
  ['another user property', message('x', [['UNIQ_KEY', 'U'], ['user', 'w'], stampOf(0)]), false],
  ['a user property less', message('x', [['UNIQ_KEY', 'U'], stampOf(0)]), false],
  ['another UNIQ_KEY', message('x', [['UNIQ_KEY', 'V'], ['user', 'v'], stampOf(0)]), false],
  ['the stamp of a place where nothing is', message('x', [...sent, stampOf(1)]), false],
]
for (const [title, copy, asSent] of copies)
  test(`${asSent ? 'it holds' : 'it does not hold'} for ${title}`, t => {
    const found = compare(new Set('x'), new Map([['a/0', [original]]]), new Map([['b/0', [copy]]]))
    t.is(holds(found), asSent, proofLine(found))
    t.deepEqual(found.altered, asSent ? [] : ['x'])
  })

test("a batch's own key, which its broker stored into each message, is nobody's", t => {
  const source = ['x', 'y'].map(key =>
    message(key, [
      ['UNIQ_KEY', `U-${key}`],
      ['UNIQ_KEY', 'batch'],
    ]),
  )
  const remote = ['x', 'y'].map((key, offset) => message(key, [['UNIQ_KEY', `U-${key}`], stampOf(offset)]))
  source.forEach((one, offset) => {
    one.queueOffset = offset
  })
  t.true(holds(compare(new Set('xy'), new Map([['a/0', source]]), new Map([['b/0', remote]]))))
})
