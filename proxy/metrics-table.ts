// Every metric the gateway has: name, kind, help and labels, in the order they are shown.
//
// Only the table: nothing is counted here. Label sets are bounded, never a topic, a client or a queue, so that the
// number of series does not grow with what clients do.

export type MetricKind = 'counter' | 'gauge' | 'histogram'

export interface MetricEntry {
  /** As the code says it; shown with the prefix unless `bare`. */
  name: string
  kind: MetricKind
  help: string
  labels: readonly string[]
  /** Shown without the prefix: dashboards expect these names of every process. */
  bare: boolean
}

export const METRIC_PREFIX = 'rocketmq_tee_'

/** Upper bounds in seconds: from a write to the page cache to a disk that hangs. */
export const SECONDS_BUCKETS: readonly number[] = [
  0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
  5, 10,
]

const entry =
  (kind: MetricKind, bare = false) =>
  (name: string, help: string, ...labels: string[]): MetricEntry => ({ name, kind, help, labels, bare })
const counter = entry('counter')
const gauge = entry('gauge')
const histogram = entry('histogram')
const bareCounter = entry('counter', true)
const bareGauge = entry('gauge', true)

export const METRICS: readonly MetricEntry[] = [
  gauge('build_info', 'Always 1; the label says which version runs.', 'version'),

  counter('acked_messages_total', 'Messages the source accepted; each member of a batch counts.'),
  // A gauge, for a remote can lose its tail.
  gauge('replicated_messages', 'Acked messages known to be on the remote.', 'remote'),
  gauge('queued_messages', 'Acked messages waiting for the remote.', 'remote'),
  gauge('gap_messages', 'Acked messages in gaps, still to be read back from the source.', 'remote'),
  gauge('dead_letter_messages', 'Messages set aside as dead letters.', 'remote'),
  counter('skipped_messages_total', 'Acked messages that are not to be copied, by reason.', 'remote', 'reason'),
  counter('lost_messages_total', 'Acked messages that can no longer be copied, by cause.', 'remote', 'cause'),
  counter('unresolved_messages_total', 'Sends whose outcome at the source could not be found out.'),
  counter('reordered_messages_total', 'Messages copied in another order than the source has them.'),
  counter('unstamped_messages_total', 'Messages sent on without the stamp that tells a copy.'),
  counter('sent_messages_total', 'Messages sent to the remote, those sent again included.', 'remote'),
  counter('sent_again_messages_total', 'Messages sent to the remote more than once.', 'remote'),
  gauge('lag_messages', 'Acked messages not yet on the remote.', 'remote'),
  gauge('lag_seconds', 'Seconds since the ack of the oldest message not yet on the remote.', 'remote'),
  gauge('waiting_lanes', 'Lanes that wait before they try again.', 'remote'),

  histogram('ack_hold_seconds', 'Seconds that answers are held for the places of the acks among them to be written.'),
  gauge('journal_bytes', 'Bytes of the journal on disk, by kind.', 'kind'),
  gauge('journal_segments', 'Files of the journal on disk, by kind.', 'kind'),
  histogram('journal_append_seconds', 'Seconds of one append to the journal.'),
  histogram('journal_sync_seconds', 'Seconds of one fsync of the journal.'),
  counter('journal_errors_total', 'Writes and syncs of the journal that failed.'),
  gauge('body_memory_bytes', 'Bytes of message bodies held in memory.'),
  counter('spilled_messages_total', 'Messages whose body was written to disk.'),
  counter('damaged_blocks_total', 'Blocks of bodies on disk that could not be read.'),
  counter('read_back_messages_total', 'Messages whose body was read back from the source.'),

  gauge('remote_up', '1 while a broker of the remote can be sent to, else 0.', 'remote'),
  gauge('source_up', '1 while the broker of the source can be reached, else 0.', 'broker'),
  gauge('connections', 'Client connections that are open.'),
  counter('connections_total', 'Client connections accepted, by listener.', 'listener'),
  counter('disconnects_total', 'Client connections that ended, by cause.', 'cause'),
  counter(
    'refused_requests_total',
    'Requests that were refused here, by the code of the answer; oneway ones have none.',
    'code',
  ),
  counter('malformed_frames_total', 'Frames that could not be read, by reason.', 'reason'),

  bareGauge('process_resident_memory_bytes', 'Resident memory size in bytes.'),
  bareCounter('process_cpu_seconds_total', 'User and system CPU time spent in seconds.'),
  bareGauge('nodejs_eventloop_lag_seconds', 'Event loop lag in seconds, 99th percentile since the last scrape.'),
]
