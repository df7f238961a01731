import test from 'ava'
import fc from 'fast-check'
import {
  decodeProperties,
  encodeProperties,
  findProperty,
  Properties,
  propertyBytes,
  withoutProperties,
  writeProperty,
} from '../../codec/index.ts'
import { printedSeed } from '../support/random.ts'

/** `A=1|B=2|` with the real separators: `=` is 0x01, `|` is 0x02. */
const props = (text: string) => Buffer.from(text.replaceAll('=', '\u0001').replaceAll('|', '\u0002'))
const shown = (bytes: Buffer) => bytes.toString().replaceAll('\u0001', '=').replaceAll('\u0002', '|')

const cases: [name: string, text: string, entries: [string, string][]][] = [
  ['with the last 0x02', 'KEYS=k|TAGS=t|', [['KEYS', 'k'], ['TAGS', 't']]], // biome-ignore format: a table
  ['without the last 0x02', 'KEYS=k|TAGS=t', [['KEYS', 'k'], ['TAGS', 't']]], // biome-ignore format: a table
  ['of nothing', '', []],
  ['of a separator', '|', []],
  ['of separators', '|||=|=|', []],
  ['with an entry without a value', 'A=|B=b|', [['B', 'b']]],
  ['with an entry without a name', '=a|B=b|', [['B', 'b']]],
  ['with an entry without 0x01', 'A|B=b|', [['B', 'b']]],
  ['with one whose last entry has no value', 'B=b|A=', [['B', 'b']]],
  ['with one whose last entry has no 0x01', 'B=b|A', [['B', 'b']]],
  ['with 0x01 in a value', 'A=b=c|', [['A', 'b=c']]],
  ['with the shortest entry', 'A=b', [['A', 'b']]],
  ['with text of all the world', 'schlüssel=grün😀|', [['schlüssel', 'grün😀']]],
]

function withProperty(bytes: Buffer, name: string, value: string): Buffer {
  const out = Buffer.alloc(propertyBytes(bytes, 0, bytes.length, name, value))
  if (writeProperty(out, 0, bytes, 0, bytes.length, name, value) !== out.length) throw new Error('another length')
  return out
}

for (const [name, text, entries] of cases) {
  test(`a property string ${name} is read as MessageDecoder reads it`, t => {
    const found: [string, string][] = []
    const properties = new Properties(props(text))
    while (properties.next()) found.push([properties.name, properties.value])
    const expected = entries.map(([key, value]) => [key, value.replaceAll('=', '\u0001')])
    t.deepEqual(found, expected as typeof found)
    t.deepEqual([...decodeProperties(props(text))], expected as typeof found)
  })
}

/** MessageDecoder.string2messageProperties, line by line, on text. */
function javaMap(text: string): Map<string, string> {
  const map = new Map<string, string>()
  let index = 0
  while (index < text.length) {
    let newIndex = text.indexOf('\u0002', index)
    if (newIndex < 0) newIndex = text.length
    if (newIndex - index >= 3) {
      const separator = text.indexOf('\u0001', index)
      if (separator > index && separator < newIndex - 1)
        map.set(text.slice(index, separator), text.slice(separator + 1, newIndex))
    }
    index = newIndex + 1
  }
  return map
}

const soup = fc.string({ unit: fc.constantFrom('\u0001', '\u0002', 'A', 'b', 'ü'), maxLength: 40 })

test('any soup of names and separators is read as MessageDecoder reads it', t => {
  fc.assert(
    fc.property(soup, text => {
      t.deepEqual([...decodeProperties(Buffer.from(text))].sort(), [...javaMap(text)].sort())
    }),
    { seed: printedSeed(t), numRuns: 5_000 },
  )
})

test('of two of one name the map has the last, and findProperty finds the first', t => {
  const bytes = props('UNIQ_KEY=inner|WAIT=true|UNIQ_KEY=outer')
  t.is(decodeProperties(bytes).get('UNIQ_KEY'), 'outer')
  t.is(findProperty(bytes, 'UNIQ_KEY'), 'inner')
  t.is(findProperty(bytes, 'UNIQ'), undefined)
  t.is(findProperty(bytes, 'WAIT'), 'true')
})

test('values are views, and an entry knows where it ends', t => {
  const bytes = props('A=1|B=22')
  const properties = new Properties(bytes)
  t.true(properties.next())
  t.deepEqual([properties.start, properties.end], [0, 4])
  t.true(properties.nameIs('A'))
  t.false(properties.nameIs('B'))
  t.is(properties.valueBytes.buffer, bytes.buffer)
  t.true(properties.next())
  t.deepEqual([properties.start, properties.end, properties.valueBytes.toString()], [4, 8, '22'])
  t.false(properties.next())
})

test('what is encoded is decoded the same', t => {
  const word = fc.string({ unit: fc.constantFrom('A', 'b', '_', 'ü', '😀'), minLength: 1 })
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(word, word), { selector: ([key]) => key }), entries => {
      t.deepEqual([...decodeProperties(encodeProperties(entries))], entries)
    }),
    { seed: printedSeed(t) },
  )
})

test('properties are dropped by name, by being there again, or not at all', t => {
  const bytes = props('A=1|B=2|A=3|C=4')
  t.is(
    withoutProperties(bytes, () => false),
    bytes,
    'the bytes themselves',
  )
  t.is(shown(withoutProperties(bytes, name => name === 'B')), 'A=1|A=3|C=4|')
  t.is(shown(withoutProperties(bytes, (_, seen) => seen)), 'A=1|B=2|C=4|')
  t.is(shown(withoutProperties(bytes, name => name === 'C')), 'A=1|B=2|A=3|')
  t.is(withoutProperties(bytes, () => true).length, 0)
})

test('a property is added behind the others, whether they end in 0x02 or not', t => {
  t.is(shown(withProperty(props(''), 'N', 'v')), 'N=v|')
  t.is(shown(withProperty(props('A=1|'), 'N', 'v')), 'A=1|N=v|')
  t.is(shown(withProperty(props('A=1'), 'N', 'v')), 'A=1|N=v|')
})

test('dropping and adding in any soup change nothing else', t => {
  fc.assert(
    fc.property(soup, text => {
      const bytes = Buffer.from(text)
      const without = javaMap(text)
      without.delete('A')
      t.deepEqual([...decodeProperties(withoutProperties(bytes, name => name === 'A'))].sort(), [...without].sort())
      t.deepEqual([...decodeProperties(withProperty(bytes, 'N', 'v'))].sort(), [...javaMap(text).set('N', 'v')].sort())
    }),
    { seed: printedSeed(t), numRuns: 2_000 },
  )
})

test('bytes that are not UTF-8 stay as they are', t => {
  const bytes = Buffer.from('A\x01\xff\xfe\x02B\x01\xe4\x02', 'latin1')
  t.deepEqual(
    withoutProperties(bytes, name => name === 'B'),
    bytes.subarray(0, 5),
  )
  t.deepEqual(withProperty(bytes, 'N', 'v').subarray(0, bytes.length), bytes)
})

test('a quarter of a megabyte of separators is walked at once', t => {
  t.is(decodeProperties(Buffer.alloc(262_144, 2)).size, 0)
  t.is(decodeProperties(Buffer.alloc(262_144, 1)).size, 0)
  t.is(decodeProperties(Buffer.alloc(262_144, 'a\u0002')).size, 0)
  const long = Buffer.concat([Buffer.alloc(200_000, 2), props('A=1|')])
  t.deepEqual([...decodeProperties(long)], [['A', '1']])
})
