import test from 'ava'
import { ConfigError, describeConfig, loadConfig } from '../../proxy/config.ts'
import { readProperties } from '../../proxy/properties-file.ts'
import { topicFilter } from '../../proxy/topic-pattern.ts'

const required = ['--srcClusterAddr=a:9876', '--destClusterAddr=b:9876']

function load(argv: string[], env: NodeJS.ProcessEnv = {}, file = '') {
  return loadConfig({ argv, env, readFile: () => file })
}

function refusal(argv: string[], file = ''): string {
  try {
    load(argv, {}, file)
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  return ''
}

test('the command line goes over the environment, that over the file, that over the default', t => {
  const file = 'bodyMemory=1MiB\nlogLevel=warn\ntopics=file-*\n'
  const env = { ROCKETMQ_TEE_BODY_MEMORY: '2MiB', ROCKETMQ_TEE_LOG_LEVEL: 'error' }
  const config = load([...required, '--config', 'f', '--bodyMemory=3MiB'], env, file)
  t.is(config.bodyMemory, 3 * 1024 * 1024)
  t.is(config.logLevel, 'error')
  t.is(config.topics, 'file-*')
  t.is(config.drainTimeout, 20_000)
  t.regex(describeConfig(config), /# f:3\ntopics=file-\*/)
})

for (const [what, argv, expected] of [
  ['a required key that is missing', ['--srcClusterAddr=a:1'], /^destClusterAddr is required/],
  [
    'an unknown key, naming the nearest',
    [...required, '--bodyMemroy=1MiB'],
    /unknown key bodyMemroy \(command line\); did you mean bodyMemory\?/,
  ],
  [
    'an unknown key that is like none',
    [...required, '--foo=1'],
    /unknown key foo \(command line\); start --help lists/,
  ],
  ['a key twice', [...required, '--logLevel=info', '--logLevel=warn'], /logLevel is given twice/],
  [
    'a size without a known unit',
    [...required, '--bodyMemory=64M'],
    /bodyMemory=64M \(command line\): must be a number with a unit/,
  ],
  ['a duration without a unit', [...required, '--drainTimeout=20'], /drainTimeout=20/],
  ['a port out of range', [...required, '--adminPort=70000'], /adminPort=70000 .*0 to 65535/],
  ['an address without a port', ['--srcClusterAddr=a', '--destClusterAddr=b:1'], /srcClusterAddr=a .*host:port/],
  ['a source that is also the remote', ['--srcClusterAddr=a:1', '--destClusterAddr=a:1'], /must be another cluster/],
  ['name server and brokers on one port', [...required, '--nameServerPort=10911'], /is a broker port/],
  ['a value that is none of those allowed', [...required, '--topicSync=maybe'], /must be one of create, off/],
  ['several problems, as the first and a count', ['--nope=1'], /^unknown key nope .*\(and 2 more\)$/],
] as const) {
  test(`refused in one line: ${what}`, t => {
    const message = refusal([...argv])
    t.regex(message, expected)
    t.notRegex(message, /\n/)
  })
}

test('several remotes are given by name, beside one without', t => {
  const file = 'destClusterAddr.oslo=oslo:9876\ndestClusterAddr.new_york-2 = ny:1;ny:2\n'
  const config = load(['--srcClusterAddr=a:1', '--config=f', '--destClusterAddr.oslo=oslo:1234'], {}, file)
  t.deepEqual(
    [...config.remotes],
    [
      ['oslo', [{ host: 'oslo', port: 1234 }]],
      [
        'new_york-2',
        [
          { host: 'ny', port: 1 },
          { host: 'ny', port: 2 },
        ],
      ],
    ],
  )
  t.regex(describeConfig(config), /# f:2\ndestClusterAddr\.new_york-2=ny:1;ny:2\n/)
  const both = load(['--srcClusterAddr=a:1', '--destClusterAddr=rome:1', '--destClusterAddr.oslo=oslo:1'])
  t.deepEqual([...both.remotes.keys()], ['default', 'oslo'])
})

for (const [what, argv, expected] of [
  ['without a name', ['--destClusterAddr.=b:1'], /destClusterAddr\.=b:1 \(command line\): the name may have letters/],
  [
    'with a name that is no folder’s',
    ['--destClusterAddr.a/b=b:1'],
    /destClusterAddr\.a\/b=.*the name may have letters/,
  ],
  ['with dots for a name', ['--destClusterAddr...=b:1'], /the name may have letters/],
  [
    'with the name of the one without',
    ['--destClusterAddr.default=b:1'],
    /the name default is that of destClusterAddr/,
  ],
  ['without a port', ['--destClusterAddr.oslo=b'], /destClusterAddr\.oslo=b \(command line\): must be host:port/],
  ['without an address', ['--destClusterAddr.oslo='], /destClusterAddr\.oslo= \(command line\)/],
  ['that is the source', ['--destClusterAddr.oslo=a:1'], /srcClusterAddr and destClusterAddr\.oslo are the same/],
  [
    'that is another, in another order',
    ['--destClusterAddr.oslo=b:1;b:2', '--destClusterAddr.rome=b:2;b:1'],
    /destClusterAddr\.oslo and destClusterAddr\.rome are the same/,
  ],
  ['twice', ['--destClusterAddr.oslo=b:1', '--destClusterAddr.oslo=b:2'], /destClusterAddr\.oslo is given twice/],
  ['misspelt', ['--destClusterAdr.oslo=b:1'], /unknown key destClusterAdr\.oslo/],
] as const)
  test(`refused: a remote ${what}`, t => {
    t.regex(refusal(['--srcClusterAddr=a:1', ...argv]), expected)
  })

test('the keys of the journal have their defaults, kinds and limits', t => {
  const defaults = load(required)
  t.is(defaults.journalAck, 'append')
  t.is(defaults.journalMaxBytes, 10 * 1024 ** 3)
  t.is(defaults.journalMinFreeBytes, 256 * 1024 ** 2)
  t.is(defaults.journalSpillAfter, 200)
  t.is(defaults.journalStallTimeout, 1_000)
  t.is(defaults.journalCompression, 'none')
  const file = 'journalAck=fsync\njournalMaxBytes=8MiB\njournalMinFreeBytes=0\njournalCompression=lz4\n'
  const env = { ROCKETMQ_TEE_JOURNAL_SPILL_AFTER: '2s', ROCKETMQ_TEE_JOURNAL_STALL_TIMEOUT: '500ms' }
  const given = load([...required, '--config=f'], env, file)
  t.like(given, {
    journalAck: 'fsync',
    journalMaxBytes: 8 * 1024 ** 2,
    journalMinFreeBytes: 0,
    journalSpillAfter: 2_000,
    journalStallTimeout: 500,
    journalCompression: 'lz4',
  })
  for (const [option, expected] of [
    ['--journalAck=sync', /journalAck=sync .*must be one of append, fsync/],
    ['--journalCompression=zstd', /must be one of none, lz4/],
    ['--journalMaxBytes=10GB', /must be a number with a unit: B, KiB, MiB, GiB/],
    ['--journalSpillAfter=200', /must be a number with a unit: ms, s, min, h/],
    ['--journalStalTimeout=1s', /did you mean journalStallTimeout/],
  ] as const)
    t.regex(refusal([...required, option]), expected)
})

test('a problem in the file is named by file and line', t => {
  t.regex(
    refusal([...required, '--config=gateway.properties'], '# comment\n\nlogLevl=info\n'),
    /gateway\.properties:3.*logLevel/,
  )
})

test('an unknown environment name only warns, for Kubernetes makes such names', t => {
  const config = load(required, { ROCKETMQ_TEE_PORT: 'tcp://10.0.0.1:9876' })
  t.deepEqual(config.warnings, ['environment variable ROCKETMQ_TEE_PORT is not a key'])
})

test('a properties file is read by the rules of java.util.Properties', t => {
  const text = '! note\n# note\na = 1\nb:2\nc 3\nd=one, \\\n   two\ne\\=f=g\numl\\u00e4ut=\\t\u{e4}\nempty\n'
  t.deepEqual(
    readProperties(text).map(({ key, value, line }) => [key, value, line]),
    [
      ['a', '1', 3],
      ['b', '2', 4],
      ['c', '3', 5],
      ['d', 'one, two', 6],
      ['e=f', 'g', 8],
      ['umläut', '\tä', 9],
      ['empty', '', 10],
    ],
  )
})

test('the longest pattern decides about a topic, and of equal ones the exclusion', t => {
  const chosen = topicFilter('*,order-special', 'order-*,test')
  t.true(chosen('anything'))
  t.false(chosen('order-1'))
  t.true(chosen('order-special'))
  t.false(chosen('test'))
  t.true(topicFilter('a.b*', '')('a.bc'))
  t.false(topicFilter('a.b*', '')('aXbc'))
})
