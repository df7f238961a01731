import test from 'ava'
import fc from 'fast-check'
import { CodecError, type Frame, Framer, frameOf, HEADER_BYTES_MAX } from '../../codec/index.ts'
import { printedSeed, seededRandom } from '../support/random.ts'
import { binaryFrame, cutAt, frameBytes, int, javaSend, jsonFrame, runOfFrames, SEND_V2 } from './wire.ts'

const run = runOfFrames()
const bytes = Buffer.concat(run)

function frame(chunks: readonly Buffer[], framer = new Framer()): { frames: Frame[]; error?: CodecError } {
  const frames: Frame[] = []
  try {
    for (const chunk of chunks) for (const found of framer.push(chunk)) frames.push(found)
  } catch (error) {
    if (!(error instanceof CodecError)) throw error
    return { frames, error }
  }
  return { frames }
}

const text = (frames: readonly Frame[]) =>
  frames.map(({ head, bytes, body }) => [head.code, head.opaque, bytes.toString('hex'), body.toString('hex')].join())

test('frames in one chunk are views of it', t => {
  const { frames, error } = frame([bytes])
  t.is(error, undefined)
  t.deepEqual(
    frames.map(found => found.bytes),
    run,
  )
  t.true(frames.every(found => found.bytes.buffer === bytes.buffer && found.body.buffer === bytes.buffer))
  t.deepEqual(
    frames.map(found => found.body.toString()),
    ['first body', 'B'.repeat(40), '{"clientID":"x"}', '', '', '\0\x01\x02', 'one way'],
  )
})

test('wherever a run of frames is split, the same frames come', t => {
  const expected = text(frame([bytes]).frames).join()
  for (let at = 0; at <= bytes.length; at++)
    if (text(frame(cutAt(bytes, [at])).frames).join() !== expected) t.fail(`split at ${at}`)
  t.is(text(frame(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1))).frames).join(), expected)
})

test('frames come the same in any chunks', t => {
  const expected = text(frame([bytes]).frames).join()
  fc.assert(
    fc.property(fc.array(fc.nat(bytes.length), { maxLength: 40 }), cuts => {
      return text(frame(cutAt(bytes, cuts)).frames).join() === expected
    }),
    { seed: printedSeed(t), numRuns: 2_000 },
  )
  t.pass()
})

test('a cut frame is assembled in a buffer of exactly its size', t => {
  const big = binaryFrame({ code: 11, opaque: 1 }, Buffer.alloc(100_000, 7))
  const { frames } = frame(cutAt(big, [40, 5_000, 70_000]))
  t.is(frames.length, 1)
  t.deepEqual(frames[0]!.bytes, big)
  t.is(frames[0]!.bytes.buffer.byteLength, big.length)
})

const prefix = (length: number, type: number, header: number) =>
  Buffer.concat([int(length, 4), int(type, 1), int(header, 3)])
const badFrames: [name: string, reason: string, bad: Buffer][] = [
  ['a length above the limit', 'frame-too-long', prefix(16_777_213, 0, 100)],
  ['a length of 3', 'frame-length', prefix(3, 0, 0)],
  ['a length below zero', 'frame-length', prefix(-2_147_483_648, 0, 0)],
  ['a header longer than its frame', 'frame-length', prefix(104, 0, 101)],
  ['a header type 2', 'header-type', prefix(104, 2, 100)],
  ['a header above its limit', 'frame-too-long', prefix(HEADER_BYTES_MAX + 5, 0, HEADER_BYTES_MAX + 1)],
  ['a JSON header that is none', 'header', frameBytes(0, Buffer.from('nothing of the kind'))],
  ['a binary header of 20 bytes', 'header', frameBytes(1, Buffer.alloc(20))],
]
for (const [name, reason, bad] of badFrames) {
  test(`${name} is refused as ${reason}, behind the frames before it`, t => {
    const good = jsonFrame(javaSend(SEND_V2), Buffer.from('body'))
    const stream = Buffer.concat([good, good, bad])
    for (let at = 0; at <= stream.length; at++) {
      const { frames, error } = frame(cutAt(stream, [at]))
      if (error?.reason !== reason || frames.length !== 2) t.fail(`split at ${at}: ${error?.reason}, ${frames.length}`)
    }
    t.pass()
  })
}

test('a frame given whole must be whole', t => {
  const [first] = run as [Buffer]
  t.is(frameOf(first).head.opaque, 7)
  for (let end = 0; end < first.length; end++)
    t.throws(() => frameOf(first.subarray(0, end)), { instanceOf: CodecError })
  t.throws(() => frameOf(Buffer.concat([first, Buffer.alloc(1)])), { instanceOf: CodecError })
})

test('20,000 mutated runs of frames give frames or CodecError', t => {
  const random = seededRandom(t)
  let refused = 0
  for (let round = 0; round < 20_000; round++) {
    const stream = Buffer.from(bytes)
    for (let i = random.integer(1, 3); i > 0; i--)
      stream[random.integer(0, stream.length - 1)] = random.pick([0, 1, 0x22, 0x5c, 0x7d, 0xff, random.integer(0, 255)])
    const cuts = [random.integer(0, stream.length), random.integer(0, stream.length)]
    const { frames, error } = frame(cutAt(stream, cuts))
    const taken = Buffer.concat(frames.map(found => found.bytes))
    if (error) refused++
    if (!taken.equals(stream.subarray(0, taken.length))) return t.fail(`round ${round}: ${stream.toString('hex')}`)
  }
  t.log(`${refused} of them refused`)
  t.true(refused > 1_000)
})
