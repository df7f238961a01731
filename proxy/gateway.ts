// The gateway as a whole: what starts, in which order, and how it ends.
//
// Start: data directory and its lock, the table of listeners, the source's brokers if they can be asked, then the ports.
// Stop: no new connections, sends that are out are answered, lanes end, cursors are written, links end.

import { mkdir } from 'node:fs/promises'
import {
  LockedError,
  lockDirectory,
  OtherClusterError,
  RemoteChangeError,
  Replay,
  realClock,
  realEnvironment,
  realFileSystem,
  SegmentVersionError,
  SlotVersionError,
  type SourceBroker,
} from '../replay/index.ts'
import type { ListenerEntry } from './address-table.ts'
import { startAdmin } from './admin/server.ts'
import { BrokerListeners } from './broker-listeners.ts'
import type { Config } from './config.ts'
import { ExitCode, FatalError } from './exit-code.ts'
import { Listener } from './listener.ts'
import type { Logger } from './logger.ts'
import { Metrics } from './metrics.ts'
import { NameServerSession } from './name-server.ts'
import { TopicPolicy } from './policy.ts'
import { collectReplay } from './replay-metrics.ts'
import type { SessionContext } from './session.ts'
import { topicFilter } from './topic-pattern.ts'

/** Milliseconds between two looks at the source's brokers; more often while none is known. */
const BROKERS_INTERVAL = 30_000
const BROKERS_INTERVAL_UNKNOWN = 1_000
const PROBE_INTERVAL = 5_000
/** That a start waits for remotes to say who they are. */
const REMOTES_CHECK = 1_000

export class Gateway {
  readonly metrics = new Metrics()
  readonly replay: Replay
  nameServerAddress = ''
  adminAddress = ''
  readonly #config: Config
  readonly #log: Logger
  readonly #policy: TopicPolicy
  readonly #brokers: BrokerListeners
  readonly #nameServer: Listener
  readonly #nameServerSessions = new Set<NameServerSession>()
  readonly #saidSkipped = new Set<string>()
  #unlock: () => Promise<void> = async () => {}
  #closeAdmin: () => Promise<void> = async () => {}
  #timers: NodeJS.Timeout[] = []
  #listening = false
  #starting: Promise<void> | undefined
  #stopping: Promise<void> | undefined

  constructor(config: Config, log: Logger) {
    this.#config = config
    this.#log = log
    this.replay = new Replay(realEnvironment(log), {
      dataDir: config.dataDir,
      source: config.srcClusterAddr,
      remotes: config.remotes,
      group: config.replicationGroup,
      bodyMemory: config.bodyMemory,
      bornTimestampTolerance: config.bornTimestampTolerance,
      sendGiveUpTimeout: config.sendGiveUpTimeout,
      topicSync: config.topicSync,
      journal: {
        ack: config.journalAck,
        bodies: config.journalBodies,
        onFull: config.onJournalFull,
        maxBytes: config.journalMaxBytes,
        minFreeBytes: config.journalMinFreeBytes,
        spillAfter: config.journalSpillAfter,
        stallTimeout: config.journalStallTimeout,
        retention: config.journalRetention,
        compress: config.journalCompression === 'lz4',
      },
      remoteBrokerAway: config.remoteBrokerAway,
      newRemotes: config.newRemotes,
      forgetRemotes: config.forgetRemotes,
    })
    const isClusterName = (name: string) =>
      this.#brokers.table.entries.some(({ broker, cluster }) => broker === name || cluster === name)
    this.#policy = new TopicPolicy(topicFilter(config.topics, config.topicsExclude), isClusterName)
    this.#brokers = new BrokerListeners({
      listenHost: config.listenHost,
      communicationPort: config.communicationPort,
      log,
      save: bytes => realFileSystem.replace(`${config.dataDir}/listeners.json`, bytes),
      openBroker: (entry, ordinal) => this.#openBroker(entry, ordinal),
      sessionContext: broker => this.#sessionContext(broker),
      accepted: () => this.metrics.add('connections_total', { listener: 'broker' }),
    })
    this.#nameServer = new Listener(socket => {
      this.metrics.add('connections_total', { listener: 'nameserver' })
      const session = new NameServerSession(
        {
          log,
          nameServers: config.srcClusterAddr,
          frameBytesMax: config.frameBytesMax,
          advertisedHost: config.advertisedHost,
          portsOf: addresses => this.#brokers.portsOf(addresses),
          malformed: reason => this.metrics.add('malformed_frames_total', { reason }),
        },
        socket,
      )
      this.#nameServerSessions.add(session)
      socket.once('close', () => this.#nameServerSessions.delete(session))
      void session.start().then(() => socket.resume())
    })
    this.#collectMetrics()
  }

  /** Throws FatalError. */
  start(): Promise<void> {
    this.#starting ??= this.#start()
    return this.#starting
  }

  async #start(): Promise<void> {
    const config = this.#config
    const log = this.#log
    for (const warning of config.warnings) log.warn({ warning }, 'configuration')
    await this.#openDataDirectory()
    await this.#learnBrokers().catch(error => {
      if (error instanceof FatalError) throw error
      log.warn(
        { reason: (error as Error).message },
        'the source cannot be asked for its brokers yet: the kept table serves',
      )
    })
    await this.#brokers.portsOf([...this.#brokers.table.entries])
    // Away, or slow: lanes look again before they send anything.
    await this.replay.checkRemotes(REMOTES_CHECK).catch(error => {
      throw new FatalError(ExitCode.config, (error as Error).message)
    })
    await this.#nameServer.listen(config.listenHost, config.nameServerPort).catch(error => {
      throw new FatalError(
        ExitCode.portInUse,
        `nameServerPort ${config.nameServerPort} cannot be had (${(error as NodeJS.ErrnoException).code}): change it, or free the port`,
      )
    })
    this.nameServerAddress = `${config.listenHost === '0.0.0.0' ? '127.0.0.1' : config.listenHost}:${this.#nameServer.port}`
    const admin = await startAdmin({
      host: config.adminHost,
      port: config.adminPort,
      metrics: () => this.metrics.render(),
      readiness: () => this.#readiness(),
    }).catch(error => {
      throw new FatalError(
        ExitCode.portInUse,
        `adminPort ${config.adminPort} cannot be had (${(error as NodeJS.ErrnoException).code}): change it, or free the port`,
      )
    })
    this.adminAddress = admin.address
    this.#closeAdmin = () => admin.close()
    await this.#brokers.probe()
    this.#listening = true
    this.#repeat(PROBE_INTERVAL, () => this.#brokers.probe())
    this.#watchBrokers()
  }

  /** Drains, up to `drainTimeout`, and ends. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    // What is half open cannot be closed; a start takes seconds at most, or fails.
    await this.#starting?.catch(() => {})
    const deadline = performance.now() + this.#config.drainTimeout
    for (const timer of this.#timers) clearTimeout(timer)
    this.#nameServer.closeAccepting()
    this.#brokers.drain()
    while (this.#brokers.sessions.size > 0 && performance.now() < deadline)
      await new Promise(resolve => setTimeout(resolve, 20))
    for (const session of this.#brokers.sessions) session.close('drain-timeout')
    for (const session of this.#nameServerSessions) session.close()
    await this.#brokers.destroySockets()
    await this.replay.close()
    await this.#closeAdmin()
    await this.#unlock()
    this.#log.info('stopped')
  }

  async #openDataDirectory(): Promise<void> {
    const { dataDir } = this.#config
    await mkdir(dataDir, { recursive: true, mode: 0o700 }).catch(error => {
      throw new FatalError(ExitCode.dataDirectory, `dataDir ${dataDir} cannot be made: ${(error as Error).message}`)
    })
    this.#unlock = await lockDirectory(dataDir).catch(error => {
      throw new FatalError(
        error instanceof LockedError ? ExitCode.locked : ExitCode.dataDirectory,
        (error as Error).message,
      )
    })
    try {
      await this.replay.open()
      const kept = await realFileSystem.read(`${dataDir}/listeners.json`)
      if (kept !== undefined) this.#brokers.table.restore(kept)
    } catch (error) {
      if (error instanceof RemoteChangeError || error instanceof OtherClusterError)
        throw new FatalError(ExitCode.config, error.message)
      throw new FatalError(ExitCode.dataDirectory, `dataDir ${dataDir} cannot be read: ${(error as Error).message}`)
    }
  }

  async #openBroker({ broker, cluster, address, brokerId }: ListenerEntry, ordinal: number): Promise<SourceBroker> {
    const master = this.#brokers.table.entries.find(entry => entry.broker === broker && entry.brokerId === 0)
    try {
      const opened = await this.replay.broker(broker, cluster, ordinal, master?.address ?? address)
      const { journal } = opened
      if (brokerId === 0) {
        journal.onAppend = seconds => this.metrics.histogram('journal_append_seconds').observe(seconds)
        journal.onSync = seconds => this.metrics.histogram('journal_sync_seconds').observe(seconds)
      }
      return opened
    } catch (error) {
      if (
        error instanceof SegmentVersionError ||
        error instanceof SlotVersionError ||
        error instanceof OtherClusterError
      )
        throw new FatalError(ExitCode.config, error.message)
      throw new FatalError(
        ExitCode.storage,
        `the journal of broker ${broker} cannot be opened: ${(error as Error).message}`,
      )
    }
  }

  async #learnBrokers(): Promise<void> {
    const { addresses } = await this.replay.source.brokers()
    await this.#brokers.portsOf(addresses)
  }

  #watchBrokers(): void {
    const interval = this.#brokers.table.entries.length > 0 ? BROKERS_INTERVAL : BROKERS_INTERVAL_UNKNOWN
    this.#timers.push(
      setTimeout(() => {
        this.#learnBrokers()
          .catch(error => {
            // A broker that is new cannot be served: its port is taken, or its journal cannot be opened.
            if (error instanceof FatalError) this.#log.error({ reason: error.message }, 'a broker cannot be served')
            else this.#log.debug({ reason: (error as Error).message }, 'the source cannot be asked for its brokers')
          })
          .finally(() => this.#stopping === undefined && this.#watchBrokers())
      }, interval),
    )
  }

  #repeat(interval: number, call: () => Promise<void>): void {
    this.#timers.push(
      setTimeout(
        () => void call().finally(() => this.#stopping === undefined && this.#repeat(interval, call)),
        interval,
      ),
    )
  }

  #sessionContext(broker: SourceBroker): Omit<SessionContext, 'connection'> {
    const { frameBytesMax, pendingBytesMax } = this.#config
    const held = this.metrics.histogram('ack_hold_seconds')
    return {
      clock: realClock,
      log: this.#log,
      policy: this.#policy,
      broker,
      remotes: this.replay.remotes,
      frameBytesMax,
      pendingBytesMax,
      skipped: (reason, topic) => this.#saySkipped(reason, topic),
      ackHeld: seconds => held.observe(seconds),
      refused: code => this.metrics.add('refused_requests_total', { code: String(code) }),
      malformed: reason => this.metrics.add('malformed_frames_total', { reason }),
      closed: cause => this.metrics.add('disconnects_total', { cause }),
    }
  }

  #saySkipped(reason: string, topic: string): void {
    if (this.#saidSkipped.has(reason)) return
    this.#saidSkipped.add(reason)
    this.#log.warn(
      { reason, topic },
      `messages of kind ${reason} pass to the source and are not replicated; said once, counted in skipped_messages_total`,
    )
  }

  #readiness(): { ready: boolean } & Record<string, unknown> {
    const reachable = [...this.#brokers.reachable].filter(([, up]) => up).map(([name]) => name)
    const brokers = [...this.replay.brokers.values()]
    return {
      ready: this.#listening && this.#stopping === undefined && reachable.length > 0,
      listening: this.#listening,
      draining: this.#stopping !== undefined,
      sourceBrokersReachable: reachable,
      remotes: this.replay.remotes.map(remote => ({
        label: remote.label,
        name: remote.name ?? null,
        up: this.replay.isUp(remote),
      })),
      waitingLanes: brokers
        .flatMap(({ feeds }) => feeds)
        .flatMap(({ remote, troubles }) => troubles.map(trouble => ({ remote: remote.label, ...trouble })))
        .slice(0, 20),
      journal: brokers.map(broker => ({
        broker: broker.options.name,
        failed: broker.journal.failed || broker.spill.failed,
        errors: broker.journal.errors + broker.spill.errors,
      })),
    }
  }

  #collectMetrics(): void {
    collectReplay(this.metrics, this.replay)
    this.metrics.collect(set => {
      for (const [broker, up] of this.#brokers.reachable) set('source_up', up ? 1 : 0, { broker })
      set('connections', this.#brokers.sessions.size + this.#nameServerSessions.size)
    })
  }
}
