// A session that answers for the source: its refusals and the bytes of the source come out as one stream of whole frames,
// however chunks are cut, and however long acks are held.

import { EventEmitter } from 'node:events'
import test from 'ava'
import { encodeFrame, FLAG_ONEWAY, FLAG_RESPONSE, Framer } from '../../codec/index.ts'
import { silentLogger } from '../../proxy/logger.ts'
import { TopicPolicy } from '../../proxy/policy.ts'
import { Session, type SessionContext, type SessionSocket } from '../../proxy/session.ts'
import { realClock } from '../../replay/index.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { frameOf } from '../support/raw-client.ts'
import { sendRequest } from './demo/broker-behaviour.ts'

class FakeSocket extends EventEmitter {
  readonly written: Buffer[] = []
  destroyed = false
  readonly writableNeedDrain = false
  readonly writableLength = 0
  write(bytes: Buffer): boolean {
    this.written.push(Buffer.from(bytes))
    return true
  }
  cork(): void {}
  uncork(): void {}
  pause(): void {}
  resume(): void {}
  end(): void {}
  destroy(): void {
    this.destroyed = true
  }
}

/** A session whose broker is full when it is told, and writes places when it is told. */
function scene() {
  const client = new FakeSocket()
  const source = new FakeSocket()
  const waiting: (() => void)[] = []
  const counts = { refused: 0, malformed: 0 }
  const broker = {
    isFull: false,
    forwarded() {},
    refused() {},
    acked: () => true,
    answered() {},
    findOut() {},
    unresolved() {},
    whenWritten: (relay: () => void) => void waiting.push(relay),
  }
  const context = {
    clock: realClock,
    log: silentLogger,
    policy: new TopicPolicy(
      () => true,
      () => false,
    ),
    broker,
    remotes: [],
    connection: { isUnclear: false },
    frameBytesMax: 1_000_000,
    pendingBytesMax: 1_000_000,
    skipped() {},
    refused: () => void counts.refused++,
    ackHeld() {},
    malformed: () => void counts.malformed++,
    closed() {},
  }
  const session = new Session(
    context as unknown as SessionContext,
    client as unknown as SessionSocket,
    source as unknown as SessionSocket,
  )
  session.start()
  return {
    broker,
    counts,
    /** The client sends; whether it is answered here depends on the broker. */
    send(opaque: number, flag = 0) {
      client.emit('data', frameOf({ ...sendRequest({ topic: 'orders' }), opaque, flag }))
    },
    sourceSays: (bytes: Buffer) => void source.emit('data', bytes),
    /** Places of what was acked first are written. */
    written: () => waiting.shift()?.(),
    get isHolding() {
      return waiting.length > 0
    },
    /** Opaques and codes of what the client was given. */
    given: () => [...new Framer().push(Buffer.concat(client.written))].map(({ head }) => [head.opaque, head.code]),
    /** Opaques of what went on to the source. */
    forwarded: () => [...new Framer().push(Buffer.concat(source.written))].map(({ head }) => head.opaque),
  }
}

const ack = (opaque: number) => {
  const ext = Object.entries({ msgId: '7F00000100002A9F0000000000000000', queueId: 0, queueOffset: opaque })
  return encodeFrame({ code: 0, opaque, flag: FLAG_RESPONSE, ext })
}
const pulled = (opaque: number, bytes: number) =>
  encodeFrame({ code: 0, opaque, flag: FLAG_RESPONSE }, Buffer.alloc(bytes, 'p'))

test('a refusal stands behind acks that are held, where the frame before them was cut', t => {
  const { broker, send, sourceSays, written, given, forwarded } = scene()
  send(1)
  broker.isFull = true
  const bytes = Buffer.concat([pulled(100, 500), ack(1)])
  sourceSays(bytes.subarray(0, 300))
  sourceSays(bytes.subarray(300))
  send(2)
  written()
  t.deepEqual(given(), [
    [100, 0],
    [1, 0],
    [2, 2],
  ])
  t.deepEqual(forwarded(), [1])
})

/** Pieces of random length. */
function cut(bytes: Buffer, random: Random): Buffer[] {
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = at + random.integer(1, random.integer(1, 200))
    pieces.push(bytes.subarray(at, end))
    at = end
  }
  return pieces
}

test('whatever is cut, held and refused when: the client is given whole frames, each once, and what is refused goes no further', t => {
  const random = seededRandom(t)
  for (let round = 0; round < 300; round++) {
    const { broker, counts, send, sourceSays, written, given, forwarded, ...rest } = scene()
    const expected: number[][] = []
    const frames: Buffer[] = []
    for (let opaque = 1; opaque <= 5; opaque++) {
      send(opaque)
      expected.push([opaque, 0])
      // Under an opaque of the session's own; the answer is not the client's.
      send(10 + opaque, FLAG_ONEWAY)
    }
    for (const opaque of forwarded()) frames.push(ack(opaque))
    const before = forwarded()
    for (let opaque = 100; opaque < 105; opaque++) {
      frames.splice(random.integer(0, frames.length), 0, pulled(opaque, random.integer(0, 300)))
      expected.push([opaque, 0])
    }
    broker.isFull = true
    let refused = 0
    for (const piece of cut(Buffer.concat(frames), random)) {
      sourceSays(piece)
      for (let i = random.integer(-2, 2); i > 0; i--) {
        expected.push([200 + refused, 2])
        send(200 + refused++)
      }
      if (random.integer(0, 3) === 0) written()
    }
    for (let i = 0; i < 10; i++) written()
    t.deepEqual(given().sort(), expected.sort(), `round ${round}`)
    t.deepEqual(forwarded(), before)
    t.is(before.length, 10)
    t.deepEqual(counts, { refused, malformed: 0 })
    t.is(rest.isHolding, false)
  }
})
