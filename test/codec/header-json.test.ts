import test from 'ava'
import fc from 'fast-check'
import {
  asTwoWay,
  CodecError,
  decodeHeader,
  encodeFrame,
  encodeHead,
  type HeaderType,
  remarkOf,
} from '../../codec/index.ts'
import { printedSeed } from '../support/random.ts'
import { binaryFrame, frameBytes, headOf, javaSend, jsonFrame, SEND_V2 } from './wire.ts'

/** Header with these members besides an opaque and a flag. */
const withCode = (code: string) => `{${code},"opaque":1,"flag":0}`
const withExt = (ext: string) => `{"code":10,"opaque":1,"flag":0,"extFields":${ext}}`

// What brokers read differently, from each other or from JSON.parse: tried on rocketmq-remoting 4.9.7, 5.3.3 and 5.5.0,
// and on fastjson 1.2.83 and fastjson 2.0.43.
const refused: [name: string, text: string | Buffer][] = [
  ['code twice', '{"code":10,"code":25,"opaque":1,"flag":0}'],
  ['CODE in capitals', withCode('"CODE":25')],
  ['Code with a capital', withCode('"Code":25')],
  ['_code', withCode('"_code":25')],
  ['co-de', withCode('"co-de":26')],
  ['an escaped member name', withCode('"\\u0063ode":25')],
  ['code and CODE', withCode('"code":10,"CODE":25')],
  ['a code in quotes', withCode('"code":"25"')],
  ['a code of 25.0', withCode('"code":25.0')],
  ['a code of 25.9', withCode('"code":25.9')],
  ['a code of 2.5e1', withCode('"code":2.5e1')],
  ['a code of 25e0', withCode('"code":25e0')],
  ['a code in a list', withCode('"code":[25]')],
  ['a code of true', withCode('"code":true')],
  ['a code of null', withCode('"code":null')],
  ['a request without a code', '{"opaque":1,"flag":0}'],
  ['a code with a plus', withCode('"code":+25')],
  ['a code with a leading zero', withCode('"code":025')],
  ['a code of -0', withCode('"code":-0')],
  ['a code of a minus', withCode('"code":-')],
  ['a code in hexadecimal', withCode('"code":0x19')],
  ['a code of 33 bits', withCode('"code":4294967321')],
  ['a code of 2^31', withCode('"code":2147483648')],
  ['a code of a thousand digits', withCode(`"code":${'1'.repeat(1_000)}`)],
  ['single quotes', withCode("'code':25")],
  ['a comment', withCode('"code":25/* */')],
  ['a line comment', withCode('"code":25//\n')],
  ['a trailing comma', '{"code":25,"opaque":1,"flag":0,}'],
  ['an unquoted name', withCode('code:25')],
  ['a byte order mark', `\ufeff${withCode('"code":25')}`],
  ['extFields twice', '{"code":10,"extFields":{"a":"1"},"extFields":{"a":"2"},"opaque":1,"flag":0}'],
  ['an object in extFields', withExt('{"a":1,"e":{"x":1}}')],
  ['a list in extFields', withExt('{"a":["1"]}')],
  ['$ref in extFields', withExt('{"$ref":"$"}')],
  ['$ref behind another field', withExt('{"a":"1","$ref":".."}')],
  ['@type in extFields', withExt('{"@type":"java.util.HashMap","a":"1"}')],
  ['an escaped name in extFields', withExt('{"\\u0062":"x","b":"y"}')],
  ['a name that is not ASCII in extFields', withExt('{"ä":"x"}')],
  ['a raw control character in a name in extFields', withExt('{"a\x1a":"1"}')],
  ['a fraction in extFields', withExt('{"a":1.50}')],
  ['an exponent in extFields', withExt('{"a":1e3}')],
  ['-0 in extFields', withExt('{"a":-0}')],
  ['extFields in a string', withExt('"{}"')],
  ['extFields in a list', withExt('[{"a":"1"}]')],
  ['a trailing comma in extFields', withExt('{"a":"1",}')],
  ['extFields that do not end', '{"code":10,"opaque":1,"flag":0,"extFields":{"a":"1"'],
  ['an unknown member', withCode('"code":10,"body":"x"')],
  ['an unknown member nested deep', withCode(`"code":10,"x":${'['.repeat(100_000)}${']'.repeat(100_000)}`)],
  ['$ref beside code', withCode('"code":10,"$ref":"$"')],
  ['@type beside code', withCode('"@type":"x","code":10')],
  ['bytes behind the object', `${withCode('"code":10')}x`],
  ['a NUL behind the object', `${withCode('"code":10')}\0`],
  ['two objects', withCode('"code":10').repeat(2)],
  ['a list', '[{"code":10}]'],
  ['null', 'null'],
  ['nothing', ''],
  ['space', ' \n'],
  ['no opaque', '{"code":10,"flag":0}'],
  ['an opaque of null', '{"code":10,"flag":0,"opaque":null}'],
  ['a flag in quotes', '{"code":10,"flag":"2","opaque":1}'],
  ['an opaque of 33 bits', '{"code":10,"flag":0,"opaque":4294967297}'],
  ['a version of null', '{"code":10,"flag":0,"opaque":1,"version":null}'],
  ['a language that is an object', '{"code":10,"flag":0,"opaque":1,"language":{}}'],
  ['a remark that is a list', '{"code":10,"flag":0,"opaque":1,"remark":[]}'],
  ['a word that is none', '{"code":10,"flag":0,"opaque":1,"remark":nil}'],
  ['a word that goes on', '{"code":10,"flag":0,"opaque":1,"remark":nulls}'],
  ['an unknown escape', '{"code":10,"flag":0,"opaque":1,"remark":"\\x41"}'],
  ['an escape of three digits', '{"code":10,"flag":0,"opaque":1,"remark":"\\u041"}'],
  ['a string without end', '{"code":10,"flag":0,"opaque":1,"remark":"abc'],
  ['a string that ends in a backslash', '{"code":10,"flag":0,"opaque":1,"remark":"abc\\'],
  ['no colon', '{"code" 10,"flag":0,"opaque":1}'],
  ['no comma', '{"code":10 "flag":0,"opaque":1}'],
  // fastjson 2 takes the quote for a part of the sequence, and so another string for the rest of the header.
  ['UTF-8 cut by a quote', Buffer.from('{"code":10,"flag":0,"opaque":1,"remark":"a\xc3"}', 'latin1')],
  ['a quote in two bytes', Buffer.from('{"code":10,"flag":0,"opaque":1,"remark":"a\xc0\xa2"}', 'latin1')],
  ['a surrogate in UTF-8', Buffer.from('{"code":10,"flag":0,"opaque":1,"remark":"\xed\xa0\x80"}', 'latin1')],
  ['latin1', Buffer.from('{"code":10,"flag":0,"opaque":1,"remark":"\xe4"}', 'latin1')],
]

for (const [name, text] of refused) {
  test(`a header with ${name} is refused`, t => {
    const error = t.throws(() => headOf(jsonFrame(text)), { instanceOf: CodecError })
    t.is(error?.reason, 'header')
    t.true(error!.message.length < 200)
  })
}

test('no header is read past its end, whatever stands behind it', t => {
  const text = Buffer.from(javaSend({ ...SEND_V2, i: 'ä\\"\u0001', n: '' }))
  for (let end = 0; end < text.length; end++) {
    // The body is the very text that would make the header whole.
    const frame = frameBytes(0, text.subarray(0, end), text.subarray(end))
    t.throws(() => headOf(frame), { instanceOf: CodecError }, `cut at ${end}`)
  }
})

const accepted: [name: string, text: string, header: object, ext: [string, string][]][] = [
  [
    'fastjson (Java)',
    '{"code":310,"extFields":{"a":"g","i":"KEYS\\u0001k\\u0002"},"flag":2,"language":"JAVA","opaque":-5,"serializeTypeCurrentRPC":"JSON","version":479}',
    { code: 310, opaque: -5, flag: 2, version: 479, remark: undefined },
    [
      ['a', 'g'],
      ['i', 'KEYS\u0001k\u0002'],
    ],
  ],
  [
    'fastjson (Java), an answer without fields and with a remark',
    '{"code":17,"flag":1,"language":"JAVA","opaque":0,"remark":"topic[x] not exist\\nSee https://rocketmq.apache.org","serializeTypeCurrentRPC":"JSON","version":513}',
    {
      code: 17,
      opaque: 0,
      flag: 1,
      version: 513,
      remark: 'topic[x] not exist\nSee https://rocketmq.apache.org',
    },
    [],
  ],
  [
    'encoding/json (Go), which escapes < and >',
    '{"code":10,"language":"GO","version":317,"opaque":1,"flag":0,"remark":"","extFields":{"properties":"a\\u0001\\u003cb\\u003e\\u0002","batch":"false"}}',
    { code: 10, opaque: 1, flag: 0, version: 317, remark: undefined },
    [
      ['properties', 'a\u0001<b>\u0002'],
      ['batch', 'false'],
    ],
  ],
  [
    'jsoncpp (C++), with numbers in extFields and a newline at the end',
    '{"code":310,"extFields":{"AccessKey":"","d":4,"e":-1,"g":"1763928347123","k":false,"m":true},"flag":0,"language":"CPP","opaque":2,"remark":"","version":35}\n',
    { code: 310, opaque: 2, flag: 0, version: 35, remark: undefined },
    [
      ['AccessKey', ''],
      ['d', '4'],
      ['e', '-1'],
      ['g', '1763928347123'],
      ['k', 'false'],
      ['m', 'true'],
    ],
  ],
  [
    'JSON.stringify (Node), indented',
    JSON.stringify({ code: 34, language: 'NODE_JS', opaque: 3, flag: 0, version: 63, extFields: { a: 1 } }, null, 2),
    { code: 34, opaque: 3, flag: 0, version: 63, remark: undefined },
    [['a', '1']],
  ],
  [
    'serde (Rust), with null for what is not there',
    '{"code":34,"language":"RUST","version":401,"opaque":4,"flag":0,"remark":null,"extFields":null,"serializeTypeCurrentRPC":"JSON"}',
    { code: 34, opaque: 4, flag: 0, version: 401, remark: undefined },
    [],
  ],
  [
    'NewLife (.NET), which leaves out a flag of 0 and does not escape control characters',
    '{"code":310,"extFields":{"i":"KEYS\u0001k\u0002TAGS\u0001ä\u0002"},"language":"CPP","opaque":5,"serializeTypeCurrentRPC":"JSON","version":275}',
    { code: 310, opaque: 5, flag: 0, version: 275, remark: undefined },
    [['i', 'KEYS\u0001k\u0002TAGS\u0001ä\u0002']],
  ],
  [
    "NewLife (.NET), an answer to a broker's request, which leaves out the code 0",
    '{"flag":1,"language":"CPP","opaque":6,"serializeTypeCurrentRPC":"JSON","version":275}',
    { code: 0, opaque: 6, flag: 1, version: 275, remark: undefined },
    [],
  ],
  [
    'anybody with the empty extFields, null among them, and a number above 2^53',
    '{"code":1,"opaque":1,"flag":0,"extFields":{"a":null,"n":9007199254740993,"__proto__":"p","":"no name"}}',
    { code: 1, opaque: 1, flag: 0, version: 0, remark: undefined },
    [
      ['n', '9007199254740993'],
      ['__proto__', 'p'],
      ['', 'no name'],
    ],
  ],
  [
    'anybody with a numeric language and the least numbers',
    ' {"language":5,"code":-2147483648,"opaque":2147483647,"flag":-1,"extFields":{}}\r\n\t',
    { code: -2147483648, opaque: 2147483647, flag: -1, version: 0, remark: undefined },
    [],
  ],
]

for (const [name, text, header, ext] of accepted) {
  test(`a header as written by ${name} is read`, t => {
    const { ext: found, ...rest } = decodeHeader(headOf(jsonFrame(text)))
    t.deepEqual(rest, header as typeof rest)
    t.deepEqual([...found], ext)
  })
}

test('escapes stand for what JSON says, surrogate pairs included', t => {
  const raw = '\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e4\\u20AC\\ud83d\\ude00\\u0000ä😀'
  const head = headOf(jsonFrame(`{"code":1,"opaque":1,"flag":1,"remark":"${raw}","extFields":{"v":"${raw}"}}`))
  t.is(decodeHeader(head).ext.get('v'), '"\\/\b\f\n\r\tAä€😀\0ä😀')
  t.is(remarkOf(head), '"\\/\b\f\n\r\tAä€😀\0ä😀')
})

test('half a surrogate pair becomes a question mark, as brokers store it', t => {
  const values = ['\\ud83d', '\\ud83dx', '\\ude00\\ud83d', '\\ud83d\\u0041', '\\ud83d\\ud83d\\ude00']
  const text = values.map((value, i) => `"v${i}":"${value}"`).join()
  const { ext } = decodeHeader(headOf(jsonFrame(withExt(`{${text}}`))))
  t.deepEqual([...ext.values()], ['?', '?x', '??', '?A', '?😀'])
})

test('a __proto__ among the fields is a field', t => {
  const text = javaSend(JSON.parse('{"a":"1","__proto__":"2","constructor":"3"}'))
  const { ext } = decodeHeader(headOf(jsonFrame(text)))
  t.deepEqual(Object.fromEntries(ext), JSON.parse('{"a":"1","__proto__":"2","constructor":"3"}'))
  const again = decodeHeader(headOf(encodeFrame({ code: 1, opaque: 1, ext: [['__proto__', '2']] }, undefined, 0)))
  t.is(again.ext.get('__proto__'), '2')
})

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })
const name = fc.string({ unit: fc.constantFrom(...'abcdefgXYZ_019'), minLength: 1, maxLength: 12 })
const anyText = fc.string({ unit: 'binary', maxLength: 40 })
const fields = fc.uniqueArray(fc.tuple(name, anyText), { selector: ([key]) => key, maxLength: 12 })
const sorted = (ext: Iterable<readonly [string, string]>) => [...ext].sort(([a], [b]) => (a < b ? -1 : 1))

for (const [type, label] of [
  [0, 'JSON'],
  [1, 'binary'],
] as [HeaderType, string][]) {
  test(`whatever is encoded as ${label} is decoded the same`, t => {
    const code = fc.integer({ min: -(2 ** 15), max: 2 ** 15 - 1 })
    const header = fc.record({
      code,
      opaque: int32,
      flag: int32,
      version: fc.nat(32_767),
      remark: anyText,
      ext: fields,
    })
    fc.assert(
      fc.property(header, fc.nat(1_000), (given, bodyBytes) => {
        const bytes = encodeHead(given, bodyBytes, type)
        const head = headOf(bytes)
        const { ext, remark, ...rest } = decodeHeader(head)
        t.deepEqual(rest, { code: given.code, opaque: given.opaque, flag: given.flag, version: given.version })
        t.is(remark ?? '', given.remark)
        t.deepEqual(sorted(ext), sorted(given.ext))
        t.is(head.type, type)
        t.is(head.bodyBytes, bodyBytes)
      }),
      { seed: printedSeed(t), numRuns: 1_000 },
    )
  })
}

test('headers by JSON.stringify are read as JSON.parse reads them', t => {
  const header = fc.record(
    {
      code: int32,
      opaque: int32,
      flag: int32,
      version: int32,
      language: fc.oneof(fc.constantFrom('JAVA', 'GO'), fc.nat(13)),
      remark: fc.option(fc.string({ unit: 'binary' })),
      extFields: fc.option(
        fc.dictionary(name, fc.oneof(anyText, fc.maxSafeInteger(), fc.boolean(), fc.constant(null))),
      ),
      serializeTypeCurrentRPC: fc.constant('JSON'),
    },
    { requiredKeys: ['code', 'opaque', 'flag'] },
  )
  fc.assert(
    fc.property(header, fc.constantFrom(undefined, 1, '\t'), (given, indent) => {
      const text = JSON.stringify(given, null, indent)
      const parsed = JSON.parse(text)
      const found = decodeHeader(headOf(jsonFrame(text)))
      const ext = Object.entries(parsed.extFields ?? {}).filter(([, value]) => value !== null)
      t.deepEqual(sorted(found.ext), sorted(ext.map(([key, value]) => [key, String(value)])))
      t.deepEqual(
        {
          code: found.code,
          opaque: found.opaque,
          flag: found.flag,
          version: found.version,
          remark: found.remark ?? '',
        },
        {
          code: parsed.code,
          opaque: parsed.opaque,
          flag: parsed.flag,
          version: parsed.version ?? 0,
          remark: parsed.remark ?? '',
        },
      )
    }),
    { seed: printedSeed(t), numRuns: 1_000 },
  )
})

test('a oneway head as a two-way one differs in its opaque and flag only', t => {
  const json = headOf(jsonFrame(javaSend(SEND_V2, 7, 310, 2), Buffer.from('body')))
  const two = Buffer.concat([asTwoWay(json, -1234567), Buffer.from('body')])
  t.deepEqual(two, jsonFrame(javaSend(SEND_V2, -1234567, 310, 0), Buffer.from('body')))

  const early = '{"opaque":1,"flag":3,"code":310}'
  t.deepEqual(asTwoWay(headOf(jsonFrame(early)), 22), jsonFrame('{"opaque":22,"flag":1,"code":310}'))
  t.deepEqual(
    asTwoWay(headOf(jsonFrame('{"code":310,"opaque":1}')), 22),
    jsonFrame('{"code":310,"opaque":22}'),
    'no flag, none to change',
  )

  const ext = Object.entries(SEND_V2)
  const binary = headOf(binaryFrame({ code: 310, opaque: 7, flag: 6, ext }))
  t.deepEqual(asTwoWay(binary, -9), binaryFrame({ code: 310, opaque: -9, flag: 4, ext }))
})
