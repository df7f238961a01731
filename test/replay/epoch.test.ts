// Epochs of a source broker, rule by rule; pure.

import test from 'ava'
import { type Epoch, Epochs, SourceConnection, type Traced } from '../../replay/epoch.ts'
import { eraOf } from '../../replay/place.ts'
import { placeAt } from './sample.ts'

const FIRST = { ordinal: 5, id: 'id5' }

function lab() {
  const began: Epoch[] = []
  let drawn = FIRST.ordinal
  let forwarded = 0
  const epochs = new Epochs(
    'a:1',
    FIRST,
    () => `id${++drawn}`,
    epoch => began.push(epoch),
  )
  const forward = (connection: SourceConnection, queueId = 0, topic = 'orders') => {
    const send: Traced & { unclear: boolean } = {
      topic,
      queueId,
      forwarded: forwarded++,
      connection: undefined,
      forwardedIn: undefined,
      logBefore: -1,
      queueBefore: -1,
      queuesBefore: undefined,
      ackedIn: undefined,
      unclear: false,
    }
    send.unclear = epochs.forwarded(send, connection)
    return send
  }
  /** Ordinal of the epoch that its message is in. */
  const ack = (send: Traced, queueOffset: number, commitLogOffset: number, queueId = Math.max(0, send.queueId)) =>
    epochs.acked(send, queueId, placeAt(queueOffset, { commitLogOffset })).ordinal
  const connect = (address = 'a:1') => new SourceConnection(address)
  return { epochs, began, forward, ack, connect }
}

test('the first connections have the epoch of the start, and nothing has to be confirmed', t => {
  const { began, forward, ack, connect } = lab()
  const [one, other] = [connect(), connect()]
  const first = forward(one)
  t.false(first.unclear)
  t.false(one.isUnclear)
  t.is(ack(first, 10, 1_000), 5)
  // It was up before, but sends only now: then it is held against what was acked.
  t.true(forward(other).unclear)
  t.deepEqual(began, [])
})

test('acks that overtake each other begin no epoch', t => {
  const { forward, ack, connect } = lab()
  const [one, other] = [connect(), connect()]
  const sends = [forward(one), forward(other)] as const
  t.is(ack(sends[1], 146, 2_000), 5)
  t.is(ack(sends[0], 145, 1_000), 5)
})

test('a queue offset at or below one that was acked before the send was forwarded begins an epoch', t => {
  for (const offset of [9, 10]) {
    const { began, forward, ack, connect } = lab()
    const one = connect()
    t.is(ack(forward(one), 10, 1_000), 5)
    t.is(ack(forward(one), offset, 2_000), 6)
    t.is(ack(forward(one), offset + 1, 3_000), 6)
    t.deepEqual(
      began.map(({ ordinal, id }) => [ordinal, id]),
      [[6, 'id6']],
    )
  }
})

test('a commit-log offset at or below one that was acked before, in any queue, begins an epoch', t => {
  for (const offset of [999, 1_000]) {
    const { forward, ack, connect } = lab()
    const one = connect()
    t.is(ack(forward(one, 0), 10, 1_000), 5)
    t.is(ack(forward(one, 1), 3, offset), 6)
  }
})

test('queues and topics have offsets of their own', t => {
  const { forward, ack, connect } = lab()
  const one = connect()
  t.is(ack(forward(one, 0), 10, 1_000), 5)
  t.is(ack(forward(one, 1), 3, 1_200), 5)
  t.is(ack(forward(one, 0, 'bills'), 0, 1_400), 5)
})

test('where the broker chooses the queue, all queues of the topic are known as they were', t => {
  const { forward, ack, connect } = lab()
  const one = connect()
  t.is(ack(forward(one, 0), 10, 1_000), 5)
  const send = forward(one, -1)
  t.is(ack(forward(one, 1), 4, 1_200), 5)
  // Of queue 1 nothing had been acked when it was forwarded.
  t.is(ack(send, 3, 1_100, 1), 5)
  t.is(ack(forward(one, -1), 10, 1_400, 0), 6)
})

test('a place that was acked already is another message, in another epoch', t => {
  const { forward, ack, connect } = lab()
  const [one, other] = [connect(), connect()]
  const sends = [forward(one), forward(other)] as const
  t.is(ack(sends[0], 5, 1_000), 5)
  t.is(ack(sends[1], 5, 900), 6)
})

test('all messages of a batch are in one epoch', t => {
  const { forward, ack, connect } = lab()
  const one = connect()
  const early = forward(one)
  t.is(ack(forward(one), 5, 1_000), 5)
  t.deepEqual([ack(early, 5, 800), ack(early, 6, 1_400), ack(early, 7, 1_600)], [6, 6, 6])
})

test('after offsets were taken back, what is out on other connections goes by its own offsets', t => {
  const { forward, ack, connect } = lab()
  const [one, other] = [connect(), connect()]
  const out = [forward(other), forward(other)] as const
  t.is(ack(forward(one), 145, 29_000), 5)
  const before = [forward(other), forward(other)] as const
  t.is(ack(forward(one), 0, 29_200), 6)
  // Stored before the topic was made anew; stored after it.
  t.is(ack(out[0], 146, 29_100), 5)
  t.is(ack(before[0], 147, 29_150), 5)
  t.is(ack(before[1], 1, 29_400), 6)
  // What is forwarded from now on is of the newer one.
  t.is(ack(forward(other), 200, 40_000), 6)
})

test('an address that is another one begins an epoch with its first ack, and connections to the old one keep theirs', t => {
  const { epochs, began, forward, ack, connect } = lab()
  const old = connect()
  t.is(ack(forward(old), 10, 1_000), 5)
  epochs.moved('b:1')
  const out = forward(old)
  const fresh = connect('b:1')
  const send = forward(fresh)
  t.false(send.unclear)
  t.deepEqual(began, [])
  t.is(ack(send, 9, 900), 6)
  t.is(ack(out, 11, 1_200), 5)
  t.is(epochs.ordinal, 6)
  // The next one to the new address is held against what was acked there.
  const next = connect('b:1')
  t.true(forward(next).unclear)
  t.is(epochs.newest.last.commitLogOffset, 900)
})

test('an address that nobody spoke of, a former master, begins an epoch when it acks, and not when it is sent to', t => {
  const { epochs, forward, ack, connect } = lab()
  t.is(ack(forward(connect()), 10, 1_000), 5)
  const slave = connect('b:1')
  const send = forward(slave)
  t.false(send.unclear)
  const { newest } = epochs
  t.is(newest.address, 'a:1')
  t.is(ack(send, 11, 1_200), 6)
  t.is(epochs.newest.address, 'b:1')
})

test('connections to an address that nobody spoke of are of one epoch, until something of it is acked', t => {
  const { epochs, forward, ack, connect } = lab()
  t.is(ack(forward(connect()), 10, 1_000), 5)
  const [one, other] = [connect('b:1'), connect('b:1')]
  const [first, second] = [forward(one), forward(other)]
  t.is(one.epoch, other.epoch)
  epochs.moved('b:1')
  t.is(epochs.newest, one.epoch!)
  t.is(ack(second, 12, 1_200), 6)
  t.is(ack(first, 11, 1_100), 6)
})

test('what stands behind something of a newer epoch is of it, also where it was out when offsets were taken back', t => {
  const { forward, ack, connect } = lab()
  const one = connect()
  t.is(ack(forward(one), 0, 1_000), 5)
  const [first, second] = [forward(one), forward(one)]
  t.is(ack(first, 0, 1_100), 6)
  t.is(ack(second, 1, 1_200), 6)
})

test('what stands before a found message that may be of an older epoch is in the order of that one, where it was out then', t => {
  const { epochs, forward, ack, connect } = lab()
  t.is(ack(forward(connect()), 3, 1_000), 5)
  const [lost, live] = [connect(), connect()]
  const found = forward(lost)
  forward(live)
  const { newest } = epochs
  epochs.disproved([live], newest, false)
  const out = [forward(live), forward(live), forward(live, 1), forward(live)] as const
  found.ackedIn = epochs.doubtful(newest, 'orders', 0, 5)
  t.is(eraOf(ack(found, 5, 1_100)), 5)
  t.is(eraOf(ack(out[0], 4, 1_050)), 5)
  t.is(eraOf(ack(out[1], 6, 1_200)), 6)
  t.is(eraOf(ack(out[2], 4, 1_060, 1)), 6)
  t.is(eraOf(ack(forward(live), 7, 1_300)), 6)
  epochs.settled(out[3].forwarded + 1)
  t.is(eraOf(ack(out[3], 4, 1_400)), 6, 'nothing that was out then is waited for any more')
})

test('a connection that is confirmed keeps the epoch, with what its sends knew', t => {
  const { epochs, forward, ack, connect } = lab()
  t.is(ack(forward(connect()), 10, 1_000), 5)
  const fresh = connect()
  const sends = [forward(fresh), forward(fresh), forward(fresh)] as const
  t.deepEqual(
    sends.map(({ unclear }) => unclear),
    [true, false, false],
  )
  t.true(fresh.isUnclear)
  let told = 0
  fresh.onConfirmed = () => told++
  epochs.confirmed([fresh], fresh.epoch!)
  t.is(told, 1)
  t.false(fresh.isUnclear)
  t.is(ack(sends[1], 12, 1_400), 5)
  t.is(ack(sends[0], 11, 1_200), 5)
  t.is(ack(sends[2], 9, 1_600), 6)
})

test('connections that are not confirmed begin one epoch together, whatever their offsets; older ones keep theirs', t => {
  const { epochs, began, forward, ack, connect } = lab()
  const old = connect()
  t.is(ack(forward(old), 10, 1_000), 5)
  const out = forward(old)
  const [one, other] = [connect(), connect()]
  const sends = [forward(one), forward(other), forward(one)] as const
  epochs.disproved([one, other], one.epoch!, false)
  t.deepEqual(began, [])
  t.is(ack(sends[0], 12, 1_400), 6)
  t.is(ack(sends[1], 9, 800), 6)
  t.is(ack(sends[2], 10, 1_000), 6)
  t.is(ack(out, 11, 1_200), 5)
  t.is(ack(forward(one), 13, 1_600), 6)
  t.is(epochs.newest.ordinal, 6)
})

test('offsets that are taken back while a connection is being confirmed leave it unconfirmed', t => {
  const { epochs, forward, ack, connect } = lab()
  const old = connect()
  t.is(ack(forward(old), 10, 1_000), 5)
  const fresh = connect()
  const send = forward(fresh)
  t.is(ack(forward(old), 0, 1_200), 6)
  epochs.confirmed([fresh], fresh.epoch!)
  t.is(ack(send, 1, 1_400), 7)
})

test('epochs that never have an ack are not drawn', t => {
  const { epochs, began, forward, ack, connect } = lab()
  t.is(ack(forward(connect()), 10, 1_000), 5)
  for (let round = 0; round < 10; round++) {
    epochs.moved(round % 2 === 0 ? 'b:1' : 'a:1')
    forward(connect('b:1'))
    forward(connect('c:1'))
  }
  t.deepEqual(began, [])
  t.is(epochs.ordinal, 5)
})
