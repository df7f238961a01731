// THE table of configuration keys: kind, default, one sentence. Parsing, help and the dump of `check` come from it.

export type Kind =
  | 'addresses'
  | 'text'
  | 'host'
  | 'port'
  | 'path'
  | 'size'
  | 'duration'
  | 'patterns'
  | readonly string[]

export interface ConfigKey {
  kind: Kind
  /** As it would stand in a file; undefined: the key is required. */
  fallback: string | undefined
  help: string
}

export const configTable = {
  srcClusterAddr: {
    kind: 'addresses',
    fallback: undefined,
    help: 'name servers of the source cluster, host:port;host:port',
  },
  destClusterAddr: {
    kind: 'addresses',
    fallback: '',
    help: 'name servers of the remote cluster; destClusterAddr.NAME for several',
  },
  replicationGroup: { kind: 'text', fallback: 'default', help: 'name that is written into the stamp of each message' },
  communicationPort: { kind: 'port', fallback: '10911', help: 'first broker port of the gateway; 0 for free ports' },
  nameServerPort: { kind: 'port', fallback: '9876', help: 'the port that clients use as their name server' },
  listenHost: { kind: 'host', fallback: '0.0.0.0', help: 'address to bind' },
  advertisedHost: {
    kind: 'host',
    fallback: '',
    help: 'what clients are told; by default the local address of the connection that asks',
  },
  dataDir: { kind: 'path', fallback: './data', help: 'journal, cursors, table of listeners' },
  adminHost: { kind: 'host', fallback: '127.0.0.1', help: 'address of the admin port' },
  adminPort: { kind: 'port', fallback: '9464', help: '/metrics, /livez, /readyz' },
  topics: { kind: 'patterns', fallback: '*', help: 'topics to replicate, patterns with *, comma-separated' },
  topicsExclude: { kind: 'patterns', fallback: '', help: 'topics not to replicate; the longest pattern wins' },
  topicSync: {
    kind: ['create', 'off'],
    fallback: 'create',
    help: 'whether a topic that the remote lacks is made there',
  },
  remoteBrokerAway: {
    kind: ['wait', 'reroute'],
    fallback: 'wait',
    help: 'whether lanes wait for a remote broker that is away, or go to another after a minute, out of order',
  },
  bodyMemory: {
    kind: 'size',
    fallback: '64MiB',
    help: 'bodies kept in memory; what does not fit is read back from the source',
  },
  journalAck: {
    kind: ['append', 'fsync'],
    fallback: 'append',
    help: 'what an ack waits for: its place written, or synced',
  },
  journalBodies: {
    kind: ['spill', 'always'],
    fallback: 'spill',
    help: 'always: bodies are on disk before the ack, as they are of topics that the source does not let be read back',
  },
  onJournalFull: {
    kind: ['gap', 'reject'],
    fallback: 'gap',
    help: 'when a body has to wait and there is no room: it is read back from the source, or sends are refused',
  },
  journalMaxBytes: { kind: 'size', fallback: '10GiB', help: 'bytes of the journal on disk, for each source broker' },
  journalMinFreeBytes: { kind: 'size', fallback: '256MiB', help: 'bytes left free on the disk: bodies take no more' },
  journalSpillAfter: { kind: 'duration', fallback: '200ms', help: 'how long a message waits before it goes to disk' },
  journalStallTimeout: {
    kind: 'duration',
    fallback: '1s',
    help: 'how long a write may take before acks go on without it',
  },
  journalRetention: {
    kind: 'duration',
    fallback: '10min',
    help: 'for how long it is known what a remote was seen to have, in case it loses its tail',
  },
  journalCompression: { kind: ['none', 'lz4'], fallback: 'none', help: 'compression of bodies on disk' },
  bornTimestampTolerance: {
    kind: 'duration',
    fallback: '1s',
    help: 'how far apart born timestamps may be in one batch',
  },
  sendGiveUpTimeout: {
    kind: 'duration',
    fallback: '10s',
    help: 'how long a send without an answer holds back later ones',
  },
  frameBytesMax: { kind: 'size', fallback: '16MiB', help: 'longest frame accepted' },
  pendingBytesMax: {
    kind: 'size',
    fallback: '64MiB',
    help: 'bytes of unanswered sends of one connection before it is not read',
  },
  drainTimeout: { kind: 'duration', fallback: '20s', help: 'how long a stop waits for answers' },
  logLevel: {
    kind: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    fallback: 'info',
    help: 'least level that is logged',
  },
} as const satisfies Record<string, ConfigKey>

export type Key = keyof typeof configTable
