// Counters and histograms, and the text a Prometheus server scrapes (exposition format 0.0.4).
//
// What is counted as it happens goes through `add` and `histogram`; what somebody else keeps (totals kept with the
// cursor, sizes, lags) is read on each scrape through `collect`, so a series whose owner is gone is gone too. It knows
// no HTTP, keeps nothing over a restart, and takes no name or label that is not in the table.

import { readFileSync } from 'node:fs'
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks'
import { METRIC_PREFIX, METRICS, type MetricEntry, SECONDS_BUCKETS } from './metrics-table.ts'

export type Labels = Record<string, string>
export type SetMetric = (name: string, value: number, labels?: Labels) => void

const NO_LABELS: Labels = {}
const LOOP_RESOLUTION_MS = 20

/** Values by the text of their labels, `{a="b"}` or nothing. */
type Series = Map<string, number>

export class Histogram {
  /** One more than there are bounds: the last is what exceeds them all. Not cumulative until rendered. */
  readonly #counts = new Array<number>(SECONDS_BUCKETS.length + 1).fill(0)
  #sum = 0

  observe(seconds: number): void {
    // One such value would make the sum NaN for good, or let it go down, which reads as a restart.
    if (!Number.isFinite(seconds) || seconds < 0) return
    let bucket = 0
    while (bucket < SECONDS_BUCKETS.length && seconds > SECONDS_BUCKETS[bucket]!) bucket++
    this.#counts[bucket]!++
    this.#sum += seconds
  }

  /** The lines of this histogram, under its full name. */
  lines(name: string): string[] {
    const lines: string[] = []
    let count = 0
    for (const [bucket, within] of this.#counts.entries()) {
      count += within
      lines.push(`${name}_bucket{le="${numberText(SECONDS_BUCKETS[bucket] ?? Number.POSITIVE_INFINITY)}"} ${count}`)
    }
    lines.push(`${name}_sum ${numberText(this.#sum)}`, `${name}_count ${count}`)
    return lines
  }
}

export class Metrics {
  readonly #entries = new Map<string, MetricEntry>()
  readonly #counters = new Map<string, Series>()
  readonly #histograms = new Map<string, Histogram>()
  readonly #readers: ((set: SetMetric) => void)[] = []

  constructor() {
    for (const entry of METRICS) {
      this.#entries.set(entry.name, entry)
      if (entry.kind === 'histogram') this.#histograms.set(entry.name, new Histogram())
      if (entry.kind !== 'counter') continue
      // A counter that appears only with its first event hides that event from rate().
      this.#counters.set(entry.name, new Map(entry.labels.length === 0 ? [['', 0]] : []))
    }
    const version = packageVersion()
    const delay = loopDelay()
    this.collect(set => {
      set('build_info', 1, { version })
      set('process_resident_memory_bytes', process.memoryUsage.rss())
      const { user, system } = process.cpuUsage()
      set('process_cpu_seconds_total', (user + system) / 1e6)
      // The monitor records the time between two ticks of its timer, so an idle loop shows the timer's own interval.
      set('nodejs_eventloop_lag_seconds', Math.max(0, delay.percentile(99) / 1e6 - LOOP_RESOLUTION_MS) / 1e3)
      // Costs the one tick that spans the scrape: the monitor measures anew from its next tick.
      delay.reset()
    })
  }

  /** Counts on. */
  add(name: string, labels: Labels = NO_LABELS, by = 1): void {
    const series = this.#counters.get(name)
    if (series === undefined) throw this.#noSuch('counter', name)
    if (!(by >= 0)) throw new RangeError(`${name} is a counter and cannot go on by ${by}`)
    const key = labelText(this.#entries.get(name)!, labels)
    series.set(key, (series.get(key) ?? 0) + by)
  }

  /** The histogram of that name, the same one each time. */
  histogram(name: string): Histogram {
    const histogram = this.#histograms.get(name)
    if (histogram === undefined) throw this.#noSuch('histogram', name)
    return histogram
  }

  /** Has `read` called on each scrape. What it sets counts for that scrape only, and wins over what `add` counted. */
  collect(read: (set: SetMetric) => void): void {
    this.#readers.push(read)
  }

  render(): string {
    const samples = new Map<string, Series>()
    for (const [name, series] of this.#counters) samples.set(name, new Map(series))
    const set: SetMetric = (name, value, labels = NO_LABELS) => {
      const entry = this.#entries.get(name)
      if (entry === undefined || entry.kind === 'histogram') throw this.#noSuch('counter or gauge', name)
      let series = samples.get(name)
      if (series === undefined) {
        series = new Map()
        samples.set(name, series)
      }
      series.set(labelText(entry, labels), value)
    }
    for (const read of this.#readers) read(set)

    const lines: string[] = []
    for (const entry of this.#entries.values()) {
      const name = entry.bare ? entry.name : METRIC_PREFIX + entry.name
      const found =
        this.#histograms.get(entry.name)?.lines(name) ??
        [...(samples.get(entry.name) ?? [])].map(([labels, value]) => `${name}${labels} ${numberText(value)}`)
      if (found.length === 0) continue
      lines.push(`# HELP ${name} ${escapeHelp(entry.help)}`, `# TYPE ${name} ${entry.kind}`, ...found)
    }
    return `${lines.join('\n')}\n`
  }

  #noSuch(wanted: string, name: string): Error {
    const kind = this.#entries.get(name)?.kind
    return new Error(`no ${wanted} ${name}: ${kind === undefined ? 'not in the table of metrics' : `it is a ${kind}`}`)
  }
}

/** In the order of the table, so that the same labels are the same series however the caller wrote them. */
function labelText(entry: MetricEntry, labels: Labels): string {
  if (Object.keys(labels).length !== entry.labels.length) throw wrongLabels(entry, labels)
  if (entry.labels.length === 0) return ''
  const pairs = entry.labels.map(label => {
    const value = Object.hasOwn(labels, label) ? labels[label] : undefined
    if (value === undefined) throw wrongLabels(entry, labels)
    return `${label}="${escapeLabel(value)}"`
  })
  return `{${pairs.join(',')}}`
}

function wrongLabels(entry: MetricEntry, labels: Labels): Error {
  return new Error(`${entry.name} has the labels [${entry.labels}], not [${Object.keys(labels)}]`)
}

function escapeLabel(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"')
}

/** Unlike in a label, a quote stays as it is. */
function escapeHelp(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
}

function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return '+Inf'
  if (value === Number.NEGATIVE_INFINITY) return '-Inf'
  return String(value)
}

let monitor: IntervalHistogram | undefined

/** One for the process, however many gateways it runs: the loop is one. Its timer does not keep the process alive. */
function loopDelay(): IntervalHistogram {
  if (monitor === undefined) {
    monitor = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS })
    monitor.enable()
  }
  return monitor
}

/** Looked for upwards, because the compiled file lies one folder deeper than its source. */
function packageVersion(): string {
  for (const up of ['../package.json', '../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8'))
      if (name === 'rocketmq-tee' && typeof version === 'string') return version
    } catch {
      // Not there; a version nobody can tell is no reason not to start.
    }
  }
  return 'unknown'
}
