import test from 'ava'
import { CodecError, decodeHeader, ExtFields, encodeFrame } from '../../codec/index.ts'
import { seededRandom } from '../support/random.ts'
import { binaryFrame, binaryHeader, frameBytes, headOf, int, SEND_V2 } from './wire.ts'

const header = {
  code: 310,
  opaque: -77,
  flag: 2,
  language: 9,
  version: 317,
  remark: 'größer',
  ext: [['a', 'group'] as const, ['i', 'KEYS\u0001ä\u0002'] as const, ['empty', ''] as const],
}

test('a binary header is read', t => {
  const head = headOf(binaryFrame(header, Buffer.from('body')))
  const { ext, ...rest } = decodeHeader(head)
  t.deepEqual(rest, { code: 310, opaque: -77, flag: 2, version: 317, remark: 'größer' })
  t.deepEqual(
    [...ext],
    header.ext.map(([name, value]) => [name, value]),
  )
  t.is(head.bodyBytes, 4)
  t.is(head.bytes[head.languageStart], 9)
  t.false(head.isResponse)
  t.true(head.isOneway)
})

test('a code is a signed number of 16 bits, as brokers read it', t => {
  t.is(headOf(binaryFrame({ code: 200050, opaque: 1 })).code, 3442)
  t.is(headOf(binaryFrame({ code: 0xffff, opaque: 1 })).code, -1)
})

test('of a field that is there twice the last counts', t => {
  const ext = [
    ['b', 'first'],
    ['b', 'second'],
  ] as const
  t.is(decodeHeader(headOf(binaryFrame({ code: 310, opaque: 1, ext }))).ext.get('b'), 'second')
})

test('our own binary frames are what RocketMQSerializable would write', t => {
  const ext: [string, string | number | boolean | Buffer][] = [
    ['a', 'gä'],
    ['e', -1],
    ['m', false],
    ['i', Buffer.from([1, 2])],
  ]
  const own = encodeFrame({ code: 310, opaque: 5, flag: 1, remark: 'r', version: 401, ext }, Buffer.from('b'))
  const expected: [string, string | Buffer][] = [
    ['a', 'gä'],
    ['e', '-1'],
    ['m', 'false'],
    ['i', Buffer.from([1, 2])],
  ]
  const same = { code: 310, opaque: 5, flag: 1, language: 7, version: 401, remark: 'r', ext: expected }
  t.deepEqual(own, binaryFrame(same, Buffer.from('b')))
})

const fixed = (remark: number, ext: number) =>
  Buffer.concat([int(310, 2), int(0, 1), int(1, 2), int(1, 4), int(0, 4), int(remark, 4), int(ext, 4)])
const entry = (key: number, name: string, length: number, value: string) =>
  Buffer.concat([int(key, 2), Buffer.from(name), int(length, 4), Buffer.from(value)])
const withEntries = (...entries: Buffer[]) => {
  const map = Buffer.concat(entries)
  return Buffer.concat([fixed(0, map.length), map])
}

const refused: [name: string, bytes: Buffer][] = [
  ['fewer bytes than its fixed ones', fixed(0, 0).subarray(0, 20)],
  ['a remark below zero', fixed(-1, 0)],
  ['a remark longer than the header', fixed(1, 0)],
  ['a remark of 2^31 - 1 bytes', fixed(2_147_483_647, 0)],
  ['extFields below zero', fixed(0, -1)],
  ['extFields longer than the header', fixed(0, 1)],
  ['extFields shorter than the header', Buffer.concat([fixed(0, 0), Buffer.alloc(1)])],
  ['half an entry', withEntries(int(1, 2))],
  ['an entry of five bytes', withEntries(Buffer.alloc(5))],
  ['a name longer than extFields', withEntries(entry(2, 'b', 1, ''))],
  ['a name length below zero', withEntries(entry(-1, 'b', 1, 'x'))],
  // The broker's own reader takes a value up to the end of extFields and on into the body.
  ['a value that reaches into the body', withEntries(entry(1, 'b', 2, 'x'))],
  ['a value length below zero', withEntries(entry(1, 'b', -1, 'x'))],
  ['a value of 2^31 - 1 bytes', withEntries(entry(1, 'b', 2_147_483_647, 'x'))],
  ['a second entry that is cut', withEntries(entry(1, 'b', 1, 'x'), Buffer.alloc(3))],
]

for (const [name, bytes] of refused) {
  test(`a binary header with ${name} is refused`, t => {
    const error = t.throws(() => headOf(frameBytes(1, bytes, Buffer.alloc(64, 0x41))), { instanceOf: CodecError })
    t.is(error?.reason, 'header')
  })
}

test('a binary header cut anywhere is refused, though its rest stands behind it', t => {
  const bytes = binaryHeader({ code: 310, opaque: 1, remark: 'r', ext: Object.entries(SEND_V2) })
  for (let end = 0; end < bytes.length; end++) {
    const frame = frameBytes(1, bytes.subarray(0, end), bytes.subarray(end))
    t.throws(() => headOf(frame), { instanceOf: CodecError }, `cut at ${end}`)
  }
})

test('20,000 mutated binary headers are refused or read within their bounds', t => {
  const random = seededRandom(t)
  const source = binaryHeader({ code: 310, opaque: 1, remark: 'r', ext: Object.entries(SEND_V2) })
  for (let round = 0; round < 20_000; round++) {
    const bytes = Buffer.from(source)
    for (let i = random.integer(1, 3); i > 0; i--) bytes[random.integer(0, bytes.length - 1)] = random.integer(0, 255)
    const head = refusedOrRead(frameBytes(1, bytes, Buffer.alloc(300)))
    if (head === undefined) continue
    const fields = new ExtFields(head)
    let last = head.extStart
    while (fields.next()) {
      const inOrder =
        fields.nameStart === last + 2 && fields.nameEnd <= fields.valueStart && fields.valueEnd <= head.end
      if (!inOrder) return t.fail(`round ${round}: ${bytes.toString('hex')}`)
      last = fields.valueEnd
    }
    if (last !== head.end) return t.fail(`round ${round}: ${bytes.toString('hex')}`)
  }
  t.pass()
})

function refusedOrRead(frame: Buffer) {
  try {
    return headOf(frame)
  } catch (error) {
    if (!(error instanceof CodecError)) throw error
    return undefined
  }
}
