// The memory of bodies: counted by the chunks that they keep.

import test from 'ava'
import { BodyMemory, copyPayload, dropBody, payloadLength, payloadOf } from '../../replay/body.ts'
import { Message } from '../../replay/message.ts'
import { seededRandom } from '../support/random.ts'
import { own } from './sample.ts'

const chunk = (bytes: number) => own(Buffer.alloc(bytes))
const NONE = Buffer.alloc(0)
/** What each body counts beside its chunks. */
const OBJECT = 480

/** A body whose payload came in these parts. */
function bodyOf(properties: Buffer, ...[first, ...rest]: [Buffer, ...Buffer[]]): Message {
  const body = new Message(0, 0, properties, first)
  if (rest.length > 0) body.payloadRest = rest
  return body
}

test('a payload is read, measured and copied over its parts', t => {
  const body = bodyOf(NONE, Buffer.from('xin x'), Buffer.alloc(0), Buffer.from('parts'))
  body.payloadStart = 1
  body.payloadEnd = 4
  t.is(payloadOf(body).join(''), 'in parts')
  t.is(payloadLength(body), 8)
  const out = Buffer.alloc(10)
  t.is(copyPayload(body, out, 1), 9)
  t.is(out.toString('latin1', 1, 9), 'in parts')
  dropBody(body)
  t.is(payloadLength(body), 0)
  t.is(payloadOf(body).join(''), '')
})

test('a small view keeps its whole chunk, and a chunk that many keep counts once', t => {
  const memory = new BodyMemory(10_000)
  const shared = chunk(1_000)
  const first = bodyOf(shared.subarray(0, 10), shared.subarray(10, 20))
  const second = bodyOf(NONE, shared.subarray(20, 30), chunk(500))
  t.true(memory.keep(first))
  t.is(memory.used, 1_000 + OBJECT)
  t.true(memory.keep(second))
  t.is(memory.used, 1_500 + 2 * OBJECT)
  memory.letGo(first)
  t.is(memory.used, 1_500 + OBJECT)
  memory.letGo(second)
  t.is(memory.used, 0)
})

test('what does not fit is not kept, nor what comes after it, until a quarter is free again', t => {
  const memory = new BodyMemory(1_000 + 10 * OBJECT)
  const bodies = Array.from({ length: 10 }, () => bodyOf(NONE, chunk(100)))
  for (const body of bodies) t.true(memory.keep(body))
  const small = bodyOf(NONE, chunk(1))
  t.false(memory.keep(small))
  for (const index of [0, 1]) memory.letGo(bodies[index]!)
  t.is(memory.used, 8 * (100 + OBJECT))
  t.false(memory.keep(small))
  memory.letGo(bodies[2]!)
  t.true(memory.keep(small))
})

test('one that is larger than all of it holds back nothing else', t => {
  const memory = new BodyMemory(1_000)
  t.false(memory.keep(bodyOf(NONE, chunk(1_001))))
  t.is(memory.used, 0)
  t.true(memory.keep(bodyOf(NONE, chunk(1_000))))
})

test('what the head of a lane needs is kept, full or not', t => {
  const memory = new BodyMemory(1_000)
  memory.keep(bodyOf(NONE, chunk(1_000)))
  const head = bodyOf(NONE, chunk(500))
  memory.keepAnyway(head)
  t.true(memory.isFull)
  t.is(memory.used, 1_500 + 2 * OBJECT)
  memory.letGo(head)
  t.is(memory.used, 1_000 + OBJECT)
})

test('whatever is kept and let go, in the end nothing is used', t => {
  const random = seededRandom(t)
  const memory = new BodyMemory(15_000)
  const chunks = Array.from({ length: 20 }, () => chunk(random.integer(1, 500)))
  const view = () => {
    const of = random.pick(chunks)
    return of.subarray(random.integer(0, of.length))
  }
  const kept: Message[] = []
  for (let step = 0; step < 2_000; step++) {
    if (kept.length > 0 && random.chance(0.5)) memory.letGo(kept.splice(random.integer(0, kept.length - 1), 1)[0]!)
    else {
      const body = bodyOf(view(), view(), view())
      if (memory.keep(body)) kept.push(body)
    }
    const counted = new Set(kept.flatMap(body => [body.propertyBytes, ...payloadOf(body)].map(part => part.buffer)))
    t.is(
      memory.used,
      [...counted].reduce((sum, { byteLength }) => sum + byteLength, kept.length * OBJECT),
    )
  }
  for (const body of kept) memory.letGo(body)
  t.is(memory.used, 0)
})
