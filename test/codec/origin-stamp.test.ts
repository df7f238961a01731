import test from 'ava'
import fc from 'fast-check'
import { bindOf, decodeStamp, encodeStamp, type OriginStamp } from '../../codec/index.ts'
import { printedSeed } from '../support/random.ts'

const sample: OriginStamp = {
  group: 'tee',
  path: ['paris', 'rome'],
  gateway: 'gw-1',
  broker: 'broker-a',
  epoch: 'k3x9',
  queueId: 3,
  queueOffset: 12_345,
  topic: '',
  bornTimestamp: 1_763_928_347_123,
  bind: 'AC120001000A18B4AAC27F9D6E5C0001',
}

test('a stamp is eleven fields with semicolons between them', t => {
  const text = '1;tee;paris,rome;gw-1;broker-a;k3x9;3;12345;;1763928347123;AC120001000A18B4AAC27F9D6E5C0001'
  t.is(encodeStamp(sample), text)
  t.deepEqual(decodeStamp(text), sample)
})

test('any stamp is read as it was written, whatever clients make of UNIQ_KEY', t => {
  const word = fc.string({ unit: fc.constantFrom('a', 'Z', '0', '-', '_', '.', 'ü') })
  const stamp = fc.record({
    group: word,
    path: fc.array(
      word.filter(cluster => cluster !== ''),
      { maxLength: 4 },
    ),
    gateway: word,
    broker: word,
    epoch: word,
    queueId: fc.nat(),
    queueOffset: fc.maxSafeNat(),
    topic: word,
    bornTimestamp: fc.maxSafeInteger(),
    bind: fc.string(),
  })
  fc.assert(
    fc.property(stamp, given => {
      t.deepEqual(decodeStamp(encodeStamp(given)), given)
    }),
    { seed: printedSeed(t), numRuns: 1_000 },
  )
})

test('what is no stamp of this version is none', t => {
  const text = encodeStamp(sample)
  const none = [
    '',
    '1',
    text.replace('1;', '2;'),
    text.replace('1;', ';'),
    text.slice(0, text.lastIndexOf(';')),
    text.replace(';3;', ';x;'),
    text.replace(';3;', ';;'),
    text.replace(';3;', ';-3;'),
    text.replace(';12345;', ';1.5;'),
    text.replace('1763928347123', '1e12'),
    text.replace('1763928347123', '-'),
  ]
  for (const given of none) t.is(decodeStamp(given), undefined, given)
})

test('a message is bound by its UNIQ_KEY, else by the CRC-32 of its payload, in any parts', t => {
  t.is(bindOf('KEY', [Buffer.from('x')]), 'KEY')
  // The check value of CRC-32 (ISO-HDLC).
  t.is(bindOf(undefined, [Buffer.from('123456789')]), 'crc32:cbf43926')
  t.is(bindOf(undefined, [Buffer.from('1234'), Buffer.alloc(0), Buffer.from('56789')]), 'crc32:cbf43926')
  t.is(bindOf(undefined, []), 'crc32:00000000')
})
