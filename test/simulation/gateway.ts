// A process of the gateway: the real replay/ and real sessions, on a clock, a disk and a network that are played.
//
// It stands for what proxy/gateway.ts and proxy/broker-listeners.ts do beside that: a listener for each address of a source
// broker, and a source connection for each that comes. It may end at any point, also in the middle of a turn: from then on
// nothing that it does reaches anything.

import { TopicPolicy } from '../../proxy/policy.ts'
import { Session } from '../../proxy/session.ts'
import type { Connection, ConnectionEvents } from '../../replay/dial.ts'
import {
  type Account,
  type Address,
  type Environment,
  type Log,
  Replay,
  type SourceBroker,
} from '../../replay/index.ts'
import type { JournalSettings } from '../../replay/journal-settings.ts'
import { ALL_REMOTES, SKIP_REASONS } from '../../replay/place.ts'
import { DiskError, type DiskOperation, type FakeDisk } from '../support/fake-disk.ts'
import { type FakeClock, FakeLog } from '../support/fake-environment.ts'
import type { Random } from '../support/random.ts'
import type { ModelCluster } from './cluster.ts'
import type { End, Host, Network } from './network.ts'
import { SimSocket } from './socket.ts'

export interface GatewayOptions {
  bodyMemory: number
  bornTimestampTolerance: number
  inFlightBytes: number | undefined
  sendGiveUpTimeout: number
  remoteBrokerAway: 'wait' | 'reroute'
  journal: Partial<JournalSettings>
  pendingBytesMax: number
  /** Milliseconds that a disk operation takes, at most. */
  diskMost: number
  say(who: string, what: string): void
  /** Messages are taken over, or skipped, when their places are written, or these begin to be. */
  counted(kind: 'acked' | 'skipped' | 'begun', count: number): void
  /** A send is waited for no longer. */
  givenUp(): void
  /** A message is acked whose place could not be written. */
  unsaved(place: string): void
}

/** What a process counted of messages, by its account, when it came up. */
export interface AtStart {
  acked: number
  skipped: number
}

export type DiskFault =
  /** These operations fail, each with this probability. */
  { operations: DiskOperation[]; probability: number; torn: boolean; code: 'EIO' | 'ENOSPC' }

/** Where clients find the listener for a source broker's address. */
export function listenerFor(address: string): string {
  return `gateway for ${address}`
}

export class GatewayProcess implements Host {
  readonly name = 'gateway'
  readonly environment: Environment
  readonly disk: FakeDisk
  readonly log = new FakeLog()
  readonly replay: Replay
  readonly sessions = new Set<Session>()
  alive = true
  /** Whether it was given anything to do since it was looked at. */
  touched = false
  /** Disk operations until it dies; undefined: it does not. */
  diesAtOperation: number | undefined
  /** Of these only. */
  diesAtOnly: DiskOperation | undefined
  dies: () => void = () => {}
  diskFault: DiskFault | undefined
  /** Milliseconds that the next disk operation takes. */
  diskStall = 0
  /** Milliseconds that each sync takes, where it is to be exact. */
  syncTakes: number | undefined
  timers = 0
  readonly #network: Network
  readonly #clock: FakeClock
  readonly #chance: Random
  readonly #source: ModelCluster
  readonly #options: GatewayOptions
  readonly #ordinals = new Map<string, number>()
  readonly #addresses = new Set<string>()
  readonly #counted = new Set<SourceBroker>()
  readonly #atStart = new Map<string, AtStart>()
  #soon: (() => void)[] = []
  #waiting: (() => void)[] = []
  #blockedUntil = 0
  #isOpen = false

  constructor(
    network: Network,
    chance: Random,
    disk: FakeDisk,
    source: ModelCluster,
    /** By label. */
    remotes: ReadonlyMap<string, ModelCluster>,
    options: GatewayOptions,
  ) {
    this.#network = network
    this.#clock = network.clock
    this.#chance = chance
    this.#source = source
    this.#options = options
    this.disk = disk
    for (const label of remotes.keys()) this.#atStart.set(label, { acked: 0, skipped: 0 })
    disk.fault = (operation, path) => this.#diskOperation(operation, path)
    disk.step = (operation, path) => this.#diskStep(operation, path)
    this.environment = {
      clock: {
        now: () => Math.floor(this.now()),
        uptime: () => this.now(),
        after: (ms, call) => this.#after(ms, call),
        soon: call => void this.#soon.push(call),
      },
      random: () => chance.next(),
      randomId: bytes => chance.bytes(bytes).toString('hex'),
      fileSystem: disk,
      dial: (address, events) => this.#dial(address, events),
      log: this.#saying(),
    }
    const { bodyMemory, bornTimestampTolerance, inFlightBytes, sendGiveUpTimeout } = options
    this.replay = new Replay(this.environment, {
      dataDir: '/data',
      source: [source.nameServer],
      remotes: new Map([...remotes].map(([label, { nameServer }]) => [label, [nameServer]])),
      group: 'tee',
      bodyMemory,
      bornTimestampTolerance,
      inFlightBytes,
      sendGiveUpTimeout,
      topicSync: 'create',
      remoteBrokerAway: options.remoteBrokerAway,
      journal: {
        ack: 'append',
        bodies: 'spill',
        onFull: 'gap',
        maxBytes: 1_000_000_000,
        minFreeBytes: 0,
        spillAfter: 200,
        stallTimeout: 1_000,
        retention: 600_000,
        compress: false,
        ...options.journal,
      },
    })
  }

  get brokers(): SourceBroker[] {
    return [...this.replay.brokers.values()]
  }

  /** Of each broker of the source, the account of what one remote has. */
  accountsOf(label: string): Account[] {
    return this.brokers.flatMap(({ feeds }) =>
      feeds.filter(({ remote }) => remote.label === label).map(feed => feed.account),
    )
  }

  /** What it counted for a remote when it came up. */
  atStart(label: string): AtStart {
    return this.#atStart.get(label)!
  }

  /** Messages that are acked and not done, for all remotes. */
  get waiting(): number {
    const accounts = this.brokers.flatMap(({ feeds }) => feeds.map(({ account }) => account))
    return accounts.reduce((sum, { queued, inGap }) => sum + queued + inGap, 0)
  }

  /** Whether what is done was looked after since the remote was last settled. */
  get isSettled(): boolean {
    return this.brokers.every(({ feeds }) => feeds.every(({ isUnsettled }) => !isUnsettled))
  }

  now(): number {
    return Math.max(this.#clock.now(), this.#blockedUntil)
  }

  deliver(call: () => void): void {
    if (!this.alive) return
    if (this.#clock.now() < this.#blockedUntil || this.#waiting.length > 0) return void this.#waiting.push(call)
    this.touched = true
    call()
  }

  /** Runs what is due at the end of a turn; false where nothing was. */
  runSoon(): boolean {
    if (!this.alive || this.#clock.now() < this.#blockedUntil) return false
    const due = this.#soon
    this.#soon = []
    for (const call of due) if (this.alive) call()
    return due.length > 0
  }

  get hasSoon(): boolean {
    return this.alive && this.#soon.length > 0
  }

  /** Nothing runs in it for so long: a write of its own blocks it. */
  block(ms: number): void {
    this.#blockedUntil = this.#clock.now() + ms
    this.#clock.after(ms, () => {
      const waiting = this.#waiting
      this.#waiting = []
      for (const call of waiting) this.deliver(call)
      this.touched = true
    })
  }

  /** Rejects where the disk fails it; the process ends then, as the command does. */
  async start(): Promise<void> {
    await this.replay.open()
    this.#isOpen = true
    for (const broker of this.#source.brokers.values()) await this.learn(broker.options.name, broker.address)
  }

  /** A broker of the source, new or at another address. */
  async learn(name: string, address: string): Promise<void> {
    // It learns all when it is.
    if (!this.#isOpen) return
    const ordinal = this.#ordinals.get(name) ?? this.#ordinals.size
    this.#ordinals.set(name, ordinal)
    const broker = await this.replay.broker(name, this.#source.name, ordinal, address)
    if (!this.#counted.has(broker)) this.#count(broker)
    if (this.#addresses.has(address)) return
    this.#addresses.add(address)
    this.#network.listen(listenerFor(address), this, end => this.#accept(end, broker, address))
  }

  /** It ends without a word; what its kernel has goes on, unless the power is cut. */
  kill(powerCut: boolean): void {
    this.alive = false
    this.#soon = []
    this.#waiting = []
    this.#network.ended(this, powerCut)
  }

  /** As the command stops: no more sends, then what is open is closed. */
  async stop(): Promise<void> {
    for (const address of this.#addresses) this.#network.stopListening(listenerFor(address))
    for (const session of this.sessions) session.drain()
    for (let looks = 0; this.sessions.size > 0 && looks < 100; looks++) await this.#sleep(20)
    for (const session of [...this.sessions]) session.close('drain-timeout')
    await this.replay.close()
  }

  #sleep(ms: number): Promise<void> {
    return new Promise(resolve => void this.environment.clock.after(ms, resolve))
  }

  #after(ms: number, call: () => void): () => void {
    let isOver = false
    this.timers++
    const over = () => {
      if (!isOver) this.timers--
      isOver = true
    }
    const cancel = this.#clock.after(ms + Math.max(0, this.#blockedUntil - this.#clock.now()), () =>
      this.deliver(() => {
        if (isOver) return
        over()
        call()
      }),
    )
    return () => {
      over()
      cancel()
    }
  }

  #dial({ host, port }: Address, events: ConnectionEvents): Connection {
    let isOver = false
    const closed = (reason: string) => {
      if (!isOver) events.closed(reason)
      isOver = true
    }
    const end = this.#network.connect(this, `${host}:${port}`, {
      connected: () => events.connected(),
      data: bytes => events.data(bytes),
      ended: () => {
        end.destroy()
        closed('closed by the other side')
      },
      closed,
    })
    return {
      write: bytes => end.write(bytes),
      reset: () => {
        end.reset()
        end.soon(() => closed('ended by us'))
      },
    }
  }

  #accept(end: End, broker: SourceBroker, address: string): void {
    const client = new SimSocket(end)
    client.pause()
    let isUp = false
    const out = this.#network.connect(this, address, {
      connected: () => {
        isUp = true
        const source = new SimSocket(out)
        if (client.destroyed) return source.destroy()
        this.#open(client, source, broker, address)
      },
      data: () => {},
      closed: () => isUp || client.destroy(),
    })
  }

  #open(client: SimSocket, source: SimSocket, broker: SourceBroker, address: string): void {
    const { pendingBytesMax, say } = this.#options
    const session = new Session(
      {
        clock: this.environment.clock,
        log: this.environment.log,
        policy: policy(),
        broker,
        remotes: this.replay.remotes,
        connection: broker.connection(address),
        frameBytesMax: 1_000_000,
        pendingBytesMax,
        skipped: () => {},
        refused: () => {},
        ackHeld: () => {},
        malformed: reason => say(this.name, `malformed frame: ${reason}`),
        closed: () => void this.sessions.delete(session),
      },
      client,
      source,
    )
    this.sessions.add(session)
    session.start()
    client.resume()
  }

  #count(broker: SourceBroker): void {
    this.#counted.add(broker)
    for (const { account, remote } of broker.feeds) {
      const skipped = Object.values(account.totals.skipped).reduce((sum, count) => sum + count, 0)
      const atStart = this.atStart(remote.label)
      atStart.skipped += skipped
      atStart.acked += account.acked - skipped
    }
    const { acked, forwarded } = broker
    broker.forwarded = (send, connection) => {
      const { givenUp } = send
      send.givenUp = send => {
        this.#options.givenUp()
        givenUp?.(send)
      }
      forwarded.call(broker, send, connection)
    }
    const { journal } = broker
    let gathered = 0
    broker.acked = (send, queueId, message) => {
      const isNew = acked.call(broker, send, queueId, message)
      if (!this.alive || !isNew) return isNew
      const isLost = SKIP_REASONS[message.skipReason] === 'full'
      const isSkipped = message.skipMask === ALL_REMOTES && !isLost
      gathered++
      // The offset of one that is skipped may be that of a system topic.
      const place = `${isSkipped ? 'skipped ' : ''}${send.topic} q${queueId}:${message.queueOffset}`
      broker.whenWritten(() => {
        if (!this.alive) return
        this.#options.counted(isSkipped ? 'skipped' : 'acked', 1)
        if (journal.failed) this.#options.unsaved(place)
      })
      return isNew
    }
    const flush = journal.onFlush
    journal.onFlush = () => {
      if (this.alive) this.#options.counted('begun', gathered)
      gathered = 0
      return flush()
    }
  }

  #diskOperation(operation: DiskOperation, path: string): Error | undefined {
    this.#countOperation(operation, path)
    if (!this.alive) return undefined
    const { diskFault } = this
    if (diskFault === undefined || !diskFault.operations.includes(operation)) return undefined
    if (!this.#chance.chance(diskFault.probability)) return undefined
    this.disk.tornBytes = diskFault.torn ? this.#chance.integer(0, 200) : 0
    this.#options.say('disk', `${diskFault.code} at ${operation} of ${path}`)
    return new DiskError(diskFault.code, operation, path)
  }

  #diskStep(operation: DiskOperation, path: string): Promise<void> {
    this.#countOperation(operation, path)
    const drawn = this.#chance.next() ** 3 * this.#options.diskMost
    let ms = operation === 'sync' ? (this.syncTakes ?? drawn) : drawn
    if (operation === 'append' && this.diskStall > 0) {
      this.#options.say('disk', `stalls for ${this.diskStall} ms`)
      ms += this.diskStall
      this.diskStall = 0
    }
    return new Promise(resolve => {
      this.#clock.after(ms, () => this.deliver(resolve))
    })
  }

  #countOperation(operation: DiskOperation, path: string): void {
    if (this.diesAtOperation === undefined || !this.alive) return
    if (this.diesAtOnly !== undefined && operation !== this.diesAtOnly) return
    if (this.diesAtOperation-- > 0) return
    this.#options.say(this.name, `dies before ${operation} of ${path}`)
    this.dies()
  }

  #saying(): Log {
    const { log } = this
    const say = (level: 'info' | 'warn' | 'error') => (fields: object, message: string) => {
      log[level](fields, message)
      if (this.alive) this.#options.say(this.name, `${level}: ${message} ${describe(fields)}`)
    }
    return { debug: () => {}, info: say('info'), warn: say('warn'), error: say('error') }
  }
}

function policy(): TopicPolicy {
  return new TopicPolicy(
    topic => topic !== 'untold',
    () => false,
  )
}

function describe(fields: object): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value instanceof Error ? value.message : String(value)}`)
    .join(' ')
}
