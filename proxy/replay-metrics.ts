// What replay/ counts, as metrics: read on each scrape, in one synchronous step, so that the terms of a sum fit each other.

import type { Feed, Replay, SourceBroker } from '../replay/index.ts'
import type { Metrics, SetMetric } from './metrics.ts'

export function collectReplay(metrics: Metrics, replay: Replay): void {
  metrics.collect(set => {
    const brokers = [...replay.brokers.values()]
    for (const remote of replay.remotes) {
      const { label, bit } = remote
      const feeds = brokers.flatMap(broker => broker.feeds.filter(feed => feed.remote.bit === bit))
      collectRemote(set, label, feeds)
      set('remote_up', replay.isUp(remote) ? 1 : 0, { remote: label })
    }
    collectBrokers(set, brokers)
    set('body_memory_bytes', replay.memory.used)
  })
}

function collectRemote(set: SetMetric, remote: string, feeds: readonly Feed[]): void {
  const sum = (read: (feed: Feed) => number) => feeds.reduce((total, feed) => total + read(feed), 0)
  const byLabel = (name: string, label: string, read: (feed: Feed) => Record<string, number>) => {
    const counts = new Map<string, number>()
    for (const feed of feeds)
      for (const [key, count] of Object.entries(read(feed))) counts.set(key, (counts.get(key) ?? 0) + count)
    for (const [key, count] of counts) set(name, count, { remote, [label]: key })
  }
  const gauges: [name: string, read: (feed: Feed) => number][] = [
    ['replicated_messages', ({ account }) => account.totals.replicated],
    ['queued_messages', ({ account }) => account.queued],
    ['gap_messages', ({ account }) => account.inGap],
    ['dead_letter_messages', ({ account }) => account.totals.deadLettered],
    ['sent_messages_total', ({ account }) => account.totals.sent],
    ['sent_again_messages_total', ({ account }) => account.totals.sentAgain],
    ['lag_messages', ({ account }) => account.queued + account.inGap],
    ['waiting_lanes', ({ troubles }) => troubles.length],
  ]
  for (const [name, read] of gauges) set(name, sum(read), { remote })
  byLabel('skipped_messages_total', 'reason', ({ account }) => account.totals.skipped)
  byLabel('lost_messages_total', 'cause', ({ account }) => account.totals.lost)
  set('lag_seconds', Math.max(0, ...feeds.map(feed => feed.lagMs)) / 1000, { remote })
}

/** What is the same for all remotes stands in the account of each: the first one's is taken. */
function collectBrokers(set: SetMetric, brokers: readonly SourceBroker[]): void {
  const sum = (read: (broker: SourceBroker) => number) => brokers.reduce((total, broker) => total + read(broker), 0)
  const values: [name: string, read: (broker: SourceBroker) => number][] = [
    ['acked_messages_total', ({ feeds }) => feeds[0]!.account.acked],
    ['unresolved_messages_total', ({ feeds }) => feeds[0]!.account.totals.unresolved],
    ['reordered_messages_total', ({ feeds }) => feeds[0]!.account.totals.reordered],
    ['unstamped_messages_total', ({ feeds }) => feeds.reduce((all, { account }) => all + account.totals.unstamped, 0)],
    ['read_back_messages_total', ({ feeds }) => feeds.reduce((all, { account }) => all + account.readBack, 0)],
    ['journal_errors_total', ({ journal, spill }) => journal.errors + spill.errors],
    ['spilled_messages_total', ({ spill }) => spill.spilled],
    ['damaged_blocks_total', ({ spill }) => spill.damaged],
  ]
  for (const [name, read] of values) set(name, sum(read))
  const kinds: [kind: string, read: (broker: SourceBroker) => { bytes: number; files: number }][] = [
    ['places', ({ journal }) => journal.counts],
    ['bodies', ({ spill }) => spill.counts],
    ['kept', ({ kept }) => kept.counts],
  ]
  for (const [kind, read] of kinds) {
    set(
      'journal_bytes',
      sum(broker => read(broker).bytes),
      { kind },
    )
    set(
      'journal_segments',
      sum(broker => read(broker).files),
      { kind },
    )
  }
}
