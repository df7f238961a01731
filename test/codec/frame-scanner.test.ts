import test from 'ava'
import fc from 'fast-check'
import {
  ANSWER_HEADER_BYTES_MAX,
  CodecError,
  type FrameHead,
  FrameScanner,
  HEADER_BYTES_MAX,
  type Verdict,
} from '../../codec/index.ts'
import { printedSeed, type Random, seededRandom } from '../support/random.ts'
import { binaryFrame, cutAt, frameBytes, int, javaSend, jsonFrame, runOfFrames, SEND_V2 } from './wire.ts'

interface Seen {
  heads: string[]
  bodies: string[]
  out: Buffer[]
  error?: CodecError
  atBoundary: boolean
}

interface Choices {
  verdict?: (head: FrameHead) => Verdict
  collect?: (head: FrameHead) => boolean
  frameBytesMax?: number
  headerBytesMax?: number
}

function scan(chunks: readonly Buffer[], { verdict, collect, frameBytesMax, headerBytesMax }: Choices = {}): Seen {
  const seen: Seen = { heads: [], bodies: [], out: [], atBoundary: true }
  const body: Buffer[] = []
  const sink = {
    head(head: FrameHead): Verdict {
      const { code, opaque, flag, version, bodyBytes, frameBytes } = head
      seen.heads.push([code, opaque, flag, version, bodyBytes, frameBytes].join(' '))
      if (collect?.(head)) scanner.collect()
      return verdict?.(head)
    },
    body(chunk: Buffer, start: number, end: number, last: boolean): void {
      body.push(chunk.subarray(start, end))
      if (last) seen.bodies.push(Buffer.concat(body.splice(0)).toString('hex'))
    },
  }
  const scanner = new FrameScanner(sink, frameBytesMax, headerBytesMax)
  try {
    for (const chunk of chunks) scanner.push(chunk, seen.out)
  } catch (error) {
    if (!(error instanceof CodecError)) throw error
    seen.error = error
  }
  seen.atBoundary = scanner.atBoundary
  return seen
}

const run = runOfFrames()
const bytes = Buffer.concat(run)
const whole = scan([bytes])

test('a run of frames in one chunk goes on as the very chunk, and each head is seen', t => {
  t.is(whole.error, undefined)
  t.deepEqual(whole.heads, [
    `310 7 0 479 10 ${run[0]!.length}`,
    `310 8 0 479 40 ${run[1]!.length}`,
    `34 9 0 317 16 ${run[2]!.length}`,
    `0 10 1 479 0 ${run[3]!.length}`,
    `0 11 1 479 0 ${run[4]!.length}`,
    `1 -12 1 479 3 ${run[5]!.length}`,
    `10 13 2 479 7 ${run[6]!.length}`,
  ])
  t.is(whole.out.length, 1)
  t.is(whole.out[0]!.buffer, bytes.buffer)
  t.deepEqual(Buffer.concat(whole.out), bytes)
})

test('wherever a run of frames is split, the same bytes go on and the same heads are seen', t => {
  for (let at = 0; at <= bytes.length; at++) {
    const seen = scan(cutAt(bytes, [at]), { collect: () => true })
    if (!Buffer.concat(seen.out).equals(bytes)) t.fail(`split at ${at}: other bytes`)
    if (seen.heads.join() !== whole.heads.join()) t.fail(`split at ${at}: other heads`)
    if (!seen.atBoundary) t.fail(`split at ${at}: not at a boundary`)
  }
  t.pass()
})

test('chunks of one byte each give the same', t => {
  const seen = scan(
    cutAt(
      bytes,
      Array.from(bytes, (_, i) => i),
    ),
    { collect: () => true },
  )
  t.deepEqual(Buffer.concat(seen.out), bytes)
  t.deepEqual(seen.heads, whole.heads)
  t.deepEqual(
    seen.bodies,
    ['first body', 'B'.repeat(40), '{"clientID":"x"}', '', '', '\0\x01\x02', 'one way'].map(text =>
      Buffer.from(text).toString('hex'),
    ),
  )
})

test('the stream stands at a boundary between frames only', t => {
  const scanner = new FrameScanner({ head: () => undefined, body: () => {} })
  const ends = new Set<number>([0])
  for (let i = 0, end = 0; i < run.length; i++) {
    end += run[i]!.length
    ends.add(end)
  }
  for (let at = 0; at <= bytes.length; at++) {
    if (scanner.atBoundary !== ends.has(at)) t.fail(`after ${at} bytes`)
    scanner.push(bytes.subarray(at, at + 1), [])
  }
  t.pass()
})

const NEW_HEAD = Buffer.from('<another head>')
/** Frame by frame what becomes of it, chosen by its opaque. */
function becomes(choices: readonly string[]): Choices {
  const choiceOf = (head: FrameHead) => choices[Math.abs(head.opaque) % choices.length]!
  return {
    verdict: head =>
      choiceOf(head).includes('drop') ? null : choiceOf(head).includes('replace') ? NEW_HEAD : undefined,
    collect: head => choiceOf(head).includes('collect'),
  }
}

const frameChoices = ['pass', 'drop', 'replace', 'collect', 'collect and drop', 'collect and replace']

test('replaced heads, dropped frames and collected bodies come out the same for any chunks', t => {
  const chunking = fc.array(fc.nat(bytes.length), { maxLength: 40 })
  const choosing = fc.array(fc.constantFrom(...frameChoices), { minLength: 1, maxLength: 7 })
  fc.assert(
    fc.property(chunking, choosing, (cuts, choices) => {
      const seen = scan(cutAt(bytes, cuts), becomes(choices))
      const expected: Buffer[] = []
      const bodies: string[] = []
      for (const [i, frame] of run.entries()) {
        const choice = choices[(7 + i) % choices.length]!
        const headEnd = 8 + frame.readUIntBE(5, 3)
        if (choice.includes('collect')) bodies.push(frame.subarray(headEnd).toString('hex'))
        if (choice.includes('drop')) continue
        expected.push(choice.includes('replace') ? Buffer.concat([NEW_HEAD, frame.subarray(headEnd)]) : frame)
      }
      return (
        Buffer.concat(seen.out).equals(Buffer.concat(expected)) &&
        seen.heads.join() === whole.heads.join() &&
        seen.bodies.join() === bodies.join()
      )
    }),
    { seed: printedSeed(t), numRuns: 2_000 },
  )
  t.pass()
})

test('a body is never copied: what goes on and what is collected are views of the chunks', t => {
  const body = Buffer.alloc(100_000, 0x61)
  const frame = binaryFrame({ code: 310, opaque: 1, ext: Object.entries(SEND_V2) }, body)
  const chunks = cutAt(Buffer.concat([frame, frame]), [30, 50_000, 100_400, 150_000])
  const memory = new Set(chunks.map(chunk => chunk.buffer))
  const collected: Buffer[] = []
  const out: Buffer[] = []
  const scanner: FrameScanner = new FrameScanner({
    head: () => {
      scanner.collect()
      return undefined
    },
    body: (chunk, start, end) => collected.push(chunk.subarray(start, end)),
  })
  for (const chunk of chunks) scanner.push(chunk, out)

  t.true(collected.every(part => memory.has(part.buffer)))
  const copied = out.filter(part => !memory.has(part.buffer)).reduce((sum, part) => sum + part.length, 0)
  t.is(copied, frame.length - body.length, 'only the head that was cut')
})

test('a long head in chunks of one byte is assembled without starting over', t => {
  const frame = jsonFrame(`{"code":10,"flag":0,"opaque":1,"remark":"${'r'.repeat(HEADER_BYTES_MAX - 43)}"}`)
  t.is(frame.length, HEADER_BYTES_MAX + 8)
  const out: Buffer[] = []
  const scanner = new FrameScanner({ head: () => undefined, body: () => {} })
  for (let at = 0; at < frame.length; at++) scanner.push(frame.subarray(at, at + 1), out)
  t.is(out.length, 1)
  t.deepEqual(out[0], frame)
})

const good = jsonFrame(javaSend(SEND_V2), Buffer.from('body'))
const prefix = (length: number, type: number, header: number) =>
  Buffer.concat([int(length, 4), int(type, 1), int(header, 3)])
const badFrames: [name: string, reason: string, frame: Buffer][] = [
  ['a length above the limit', 'frame-too-long', prefix(16_777_213, 0, 100)],
  ['a length of 3', 'frame-length', prefix(3, 0, 0)],
  ['a length below zero', 'frame-length', prefix(-1, 0, 0)],
  ['a header longer than its frame', 'frame-length', prefix(104, 0, 101)],
  ['a header type 2', 'header-type', prefix(104, 2, 100)],
  ['a header type 255', 'header-type', prefix(104, 255, 100)],
  ['a header above its limit', 'frame-too-long', prefix(HEADER_BYTES_MAX + 5, 0, HEADER_BYTES_MAX + 1)],
  ['a JSON header without bytes', 'header', prefix(4, 0, 0)],
  ['a JSON header that is none', 'header', frameBytes(0, Buffer.from('GET / HTTP/1.1'))],
  ['a binary header of 20 bytes', 'header', frameBytes(1, Buffer.alloc(20))],
]

for (const [name, reason, bad] of badFrames) {
  test(`${name} is refused as ${reason}, and what came before it has gone on`, t => {
    const before = Buffer.concat([good, good])
    const stream = Buffer.concat([before, bad, good])
    for (let at = 0; at <= before.length + bad.length; at++) {
      const seen = scan(cutAt(stream, [at]))
      if (seen.error?.reason !== reason) t.fail(`split at ${at}: ${seen.error?.reason}`)
      if (!Buffer.concat(seen.out).equals(before)) t.fail(`split at ${at}: other bytes`)
    }
    t.pass()
  })
}

test('the largest frame is taken, one byte more is not', t => {
  const header = 100
  const chunk = (frame: number) => Buffer.concat([prefix(frame - 4, 1, header), Buffer.alloc(header)])
  t.is(scan([chunk(1_000)], { frameBytesMax: 999 }).error?.reason, 'frame-too-long')
  t.is(scan([binaryFrame({ code: 1, opaque: 1 }, Buffer.alloc(100))], { frameBytesMax: 129 }).error, undefined)
  t.is(
    scan([binaryFrame({ code: 1, opaque: 1 }, Buffer.alloc(101))], { frameBytesMax: 129 }).error?.reason,
    'frame-too-long',
  )
})

test("a broker's answer may have a longer header where it is let", t => {
  const list = Array(20_000).fill('7F000001000078BF0000000000000198').join()
  const answer = jsonFrame(
    `{"code":0,"extFields":{"msgId":"${list}","queueId":"0","queueOffset":"5"},"flag":1,"opaque":1}`,
  )
  t.is(scan([answer]).error?.reason, 'frame-too-long')
  const seen = scan([answer], { headerBytesMax: ANSWER_HEADER_BYTES_MAX })
  t.is(seen.error, undefined)
  t.deepEqual(Buffer.concat(seen.out), answer)
})

test('whatever a sink throws goes up, and the frames before have gone on', t => {
  for (const at of [0, 10, good.length + 10]) {
    const out: Buffer[] = []
    let heads = 0
    const scanner = new FrameScanner({
      head: () => {
        if (++heads === 2) throw new RangeError('a sink of bad mood')
        return undefined
      },
      body: () => {},
    })
    t.throws(
      () => {
        for (const chunk of cutAt(Buffer.concat([good, good, good]), [at])) scanner.push(chunk, out)
      },
      { instanceOf: RangeError },
    )
    t.deepEqual(Buffer.concat(out), good)
  }
})

function mutate(random: Random, source: Buffer): Buffer {
  let out = Buffer.from(source)
  for (let i = random.integer(1, 4); i > 0; i--) {
    const at = random.integer(0, out.length - 1)
    switch (random.integer(0, 3)) {
      case 0:
        out[at]! ^= 1 << random.integer(0, 7)
        break
      case 1:
        out = Buffer.concat([out.subarray(0, at), random.bytes(random.integer(1, 4)), out.subarray(at)])
        break
      case 2:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at + random.integer(1, 4))])
        break
      default:
        out[at] = random.pick([0, 1, 0x22, 0x5c, 0x7b, 0x7d, 0x2c, 0x7f, 0x80, 0xff])
    }
  }
  return out
}

test('20,000 mutated runs of frames are taken or refused, and what goes on is always what came', t => {
  const random = seededRandom(t)
  let refused = 0
  for (let round = 0; round < 20_000; round++) {
    const stream = mutate(random, bytes)
    const cuts = Array.from({ length: random.integer(0, 5) }, () => random.integer(0, stream.length))
    // Only CodecError is caught by scan: anything else fails the test.
    const inOne = scan([stream], { collect: () => true })
    const cut = scan(cutAt(stream, cuts), { collect: () => true })
    const out = Buffer.concat(cut.out)
    if (cut.error !== undefined) refused++
    const same =
      cut.error?.reason === inOne.error?.reason &&
      cut.heads.join() === inOne.heads.join() &&
      out.length <= stream.length
    if (!same || !out.equals(stream.subarray(0, out.length)) || (cut.error && !out.equals(Buffer.concat(inOne.out)))) {
      t.fail(`round ${round}: ${stream.toString('hex')} cut at ${cuts}`)
      return
    }
  }
  t.log(`${refused} of them refused`)
  t.true(refused > 5_000 && refused < 20_000)
})
