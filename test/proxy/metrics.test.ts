// The metrics as a Prometheus server reads them. A parser that takes nothing but format 0.0.4 checks every scrape.

import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { Metrics } from '../../proxy/metrics.ts'
import { METRIC_PREFIX, METRICS, SECONDS_BUCKETS } from '../../proxy/metrics-table.ts'

interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

interface Family {
  help: string
  type: string
  samples: Sample[]
}

const HELP = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/
const TYPE = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram)$/
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.+)\})? (NaN|[+-]Inf|-?[0-9.]+(?:e[+-]?[0-9]+)?)$/
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"(,|$)/y

/** Each family is HELP, TYPE, then its samples, once; anything else throws. */
function parse(text: string): Map<string, Family> {
  if (!text.endsWith('\n')) throw new Error('no line feed at the end')
  const families = new Map<string, Family>()
  const series = new Set<string>()
  const lines = text.slice(0, -1).split('\n')
  for (let i = 0; i < lines.length; ) {
    const [, name, help] = HELP.exec(lines[i]!) ?? fail(lines[i]!)
    const [, typed, type] = TYPE.exec(lines[i + 1] ?? '') ?? fail(lines[i + 1]!)
    if (typed !== name || families.has(name!)) fail(lines[i]!)
    const family: Family = { help: help!, type: type!, samples: [] }
    families.set(name!, family)
    for (i += 2; i < lines.length && !lines[i]!.startsWith('#'); i++) {
      const [, sampled, labels, value] = SAMPLE.exec(lines[i]!) ?? fail(lines[i]!)
      const suffix = sampled!.slice(name!.length)
      const allowed = type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']
      if (!sampled!.startsWith(name!) || !allowed.includes(suffix)) fail(lines[i]!)
      const key = `${sampled}{${labels}}`
      if (series.has(key)) fail(`twice: ${key}`)
      series.add(key)
      const sample = { name: sampled!, labels: parseLabels(labels), value: Number(value!.replace('Inf', 'Infinity')) }
      family.samples.push(sample)
    }
    if (family.samples.length === 0) fail(`no samples of ${name}`)
  }
  return families
}

function parseLabels(text: string | undefined): Record<string, string> {
  const labels: Record<string, string> = {}
  LABEL.lastIndex = 0
  for (let at = 0; text !== undefined && at < text.length; at = LABEL.lastIndex) {
    const [, name, value] = LABEL.exec(text) ?? fail(text)
    if (name! in labels) fail(text)
    labels[name!] = value!.replace(/\\(.)/g, (_, escaped) => (escaped === 'n' ? '\n' : escaped))
  }
  return labels
}

function fail(line: string): never {
  throw new Error(`not the exposition format: ${line}`)
}

const full = (name: string) => METRIC_PREFIX + name
const samplesOf = (metrics: Metrics, name: string) =>
  (parse(metrics.render()).get(name)?.samples ?? []).map(({ labels, value }) => ({ labels, value }))

test('the parser of this test takes nothing that is not the format', t => {
  const head = '# HELP a b\n# TYPE a gauge\n'
  t.notThrows(() => parse(`${head}a{x="1",y="\\"\\\\\\n"} 1e-7\n`))
  for (const bad of [
    '',
    `${head}a 1`,
    `${head}b 1\n`,
    `${head}a 1\na 1\n`,
    `${head}a{x="\\t"} 1\n`,
    `${head}a Infinity\n`,
  ])
    t.throws(() => parse(bad), undefined, bad)
})

test('a scrape before anything happened shows counters without labels as 0 and no counter with labels', t => {
  const families = parse(new Metrics().render())
  for (const { name, kind, labels, bare } of METRICS) {
    if (kind !== 'counter' || bare) continue
    const samples = families.get(full(name))?.samples
    if (labels.length === 0) t.deepEqual(samples, [{ name: full(name), labels: {}, value: 0 }])
    else t.is(samples, undefined, name)
  }
})

test('every name of the table is unique and named after its kind and unit', t => {
  t.is(new Set(METRICS.map(({ name }) => name)).size, METRICS.length)
  for (const { name, kind, help } of METRICS) {
    t.is(name.endsWith('_total'), kind === 'counter', name)
    if (kind === 'histogram') t.true(name.endsWith('_seconds'), name)
    t.regex(help, /\.$/, name)
  }
})

test('every metric of the table can be filled, and is shown with its help, kind and labels', t => {
  const metrics = new Metrics()
  metrics.collect(set => {
    for (const { name, kind, labels } of METRICS)
      if (kind === 'gauge' && name !== 'build_info') set(name, 2, Object.fromEntries(labels.map(label => [label, 'x'])))
  })
  for (const { name, kind, labels, bare } of METRICS)
    if (kind === 'counter' && !bare) metrics.add(name, Object.fromEntries(labels.map(label => [label, 'x'])))
  const families = parse(metrics.render())
  t.is(families.size, METRICS.length)
  for (const { name, kind, help, labels, bare } of METRICS) {
    const family = families.get(bare ? name : full(name))
    t.is(family?.type, kind, name)
    t.is(family?.help, help)
    if (kind !== 'histogram') t.deepEqual(Object.keys(family!.samples[0]!.labels), labels, name)
  }
})

test('counters count by one or by more, each series by itself', t => {
  const metrics = new Metrics()
  metrics.add('connections_total', { listener: 'broker' })
  metrics.add('connections_total', { listener: 'nameserver' })
  metrics.add('connections_total', { listener: 'broker' }, 4)
  t.deepEqual(samplesOf(metrics, full('connections_total')), [
    { labels: { listener: 'broker' }, value: 5 },
    { labels: { listener: 'nameserver' }, value: 1 },
  ])
})

test('the order in which labels are written does not make another series', t => {
  const metrics = new Metrics()
  metrics.add('lost_messages_total', { remote: 'r', cause: 'c' })
  metrics.add('lost_messages_total', { cause: 'c', remote: 'r' })
  t.deepEqual(samplesOf(metrics, full('lost_messages_total')), [{ labels: { remote: 'r', cause: 'c' }, value: 2 }])
})

test('label values with quotes, backslashes and line feeds come out as they went in', t => {
  const metrics = new Metrics()
  const reason = 'a "quoted" \\n back\\slash,\nsecond} line {é}'
  metrics.add('malformed_frames_total', { reason })
  t.deepEqual(samplesOf(metrics, full('malformed_frames_total')), [{ labels: { reason }, value: 1 }])
})

test('a name that is not in the table throws', t => {
  const metrics = new Metrics()
  t.throws(() => metrics.add('nothing_total'), { message: /nothing_total: not in the table/ })
  t.throws(() => metrics.add('constructor'), { message: /not in the table/ })
  t.throws(() => metrics.histogram('nothing_seconds'), { message: /not in the table/ })
  metrics.collect(set => set('nothing', 1))
  t.throws(() => metrics.render(), { message: /not in the table/ })
})

test('a name of another kind throws', t => {
  const metrics = new Metrics()
  t.throws(() => metrics.add('connections'), { message: /it is a gauge/ })
  t.throws(() => metrics.histogram('connections'), { message: /it is a gauge/ })
  metrics.collect(set => set('ack_hold_seconds', 1))
  t.throws(() => metrics.render(), { message: /it is a histogram/ })
})

test('labels other than those of the table throw', t => {
  const metrics = new Metrics()
  t.throws(() => metrics.add('connections_total'), { message: /labels \[listener\], not \[\]/ })
  t.throws(() => metrics.add('connections_total', { port: '1' }), { message: /not \[port\]/ })
  t.throws(() => metrics.add('journal_errors_total', { remote: 'r' }), { message: /labels \[\]/ })
})

test('a counter does not go down', t => {
  const metrics = new Metrics()
  t.throws(() => metrics.add('journal_errors_total', {}, -1), { instanceOf: RangeError })
  t.throws(() => metrics.add('journal_errors_total', {}, Number.NaN), { instanceOf: RangeError })
  t.deepEqual(samplesOf(metrics, full('journal_errors_total')), [{ labels: {}, value: 0 }])
})

test('what is collected is read on each scrape, and is gone when it is not set any more', t => {
  const metrics = new Metrics()
  let scrapes = 0
  metrics.collect(set => {
    scrapes++
    set('acked_messages_total', scrapes * 10)
    if (scrapes === 1) set('source_up', 1, { broker: 'broker-a' })
  })
  const first = parse(metrics.render())
  const second = parse(metrics.render())
  t.is(first.get(full('acked_messages_total'))?.samples[0]?.value, 10)
  t.is(second.get(full('acked_messages_total'))?.samples[0]?.value, 20)
  t.is(first.get(full('source_up'))?.samples.length, 1)
  t.false(second.has(full('source_up')))
})

test('values that are very small, very large or not finite stay readable', t => {
  for (const value of [1e-9, 1e21, 2 ** 53, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const metrics = new Metrics()
    metrics.collect(set => set('connections', value))
    t.is(samplesOf(metrics, full('connections'))[0]?.value, value)
  }
})

test('a histogram counts each value in every bucket from its own up, bounds included', t => {
  const metrics = new Metrics()
  const histogram = metrics.histogram('ack_hold_seconds')
  t.is(metrics.histogram('ack_hold_seconds'), histogram)
  const values = [0, 0.00001, 0.0003, 0.5, 10, 60]
  for (const value of values) histogram.observe(value)
  const { samples } = parse(metrics.render()).get(full('ack_hold_seconds'))!
  const buckets = samples.filter(({ name }) => name.endsWith('_bucket'))
  t.deepEqual(
    buckets.map(({ labels }) => labels.le),
    [...SECONDS_BUCKETS.map(String), '+Inf'],
  )
  for (const { labels, value } of buckets) {
    const bound = Number(labels.le!.replace('Inf', 'Infinity'))
    t.is(value, values.filter(observed => observed <= bound).length, labels.le)
  }
  const endingWith = (suffix: string) => samples.find(({ name }) => name.endsWith(suffix))?.value
  t.is(endingWith('_count'), values.length)
  t.true(Math.abs(endingWith('_sum')! - 70.50031) < 1e-9)
})

test('the bounds go up from 10 microseconds to 10 seconds', t => {
  t.is(SECONDS_BUCKETS[0], 0.00001)
  t.is(SECONDS_BUCKETS.at(-1), 10)
  t.deepEqual(
    [...new Set(SECONDS_BUCKETS)].sort((a, b) => a - b),
    [...SECONDS_BUCKETS],
  )
})

test('a histogram takes no duration that is negative or no number', t => {
  const metrics = new Metrics()
  for (const bad of [Number.NaN, -1, Number.POSITIVE_INFINITY]) metrics.histogram('journal_sync_seconds').observe(bad)
  const { samples } = parse(metrics.render()).get(full('journal_sync_seconds'))!
  t.true(samples.every(({ value }) => value === 0))
})

test('the version and the state of the process are there without anybody setting them', t => {
  const families = parse(new Metrics().render())
  const [build] = families.get(full('build_info'))!.samples
  t.is(build?.value, 1)
  t.regex(build!.labels.version!, /^\d+\.\d+\.\d+/)
  t.true(families.get('process_resident_memory_bytes')!.samples[0]!.value > 1e6)
  t.true(families.get('process_cpu_seconds_total')!.samples[0]!.value > 0)
})

test.serial('a loop that was blocked shows as lag, and only until the next scrape', async t => {
  const metrics = new Metrics()
  const lag = () => samplesOf(metrics, 'nodejs_eventloop_lag_seconds')[0]!.value
  lag()
  // The monitor measures from its first tick after a scrape.
  await sleep(100)
  const end = performance.now() + 300
  while (performance.now() < end);
  await sleep(100)
  const blocked = lag()
  t.true(blocked > 0.15 && blocked < 30, `${blocked}`)
  await sleep(100)
  t.true(lag() < blocked)
})
