// A gateway's replay between two fake clusters, from the ack to the remote queue, over crashes and restarts.
//
// The source stores what a test lets it store and in what order; the test says when each ack comes. Topic `orders`.

import { decodeHeader, encodeMember, memberBytes, RequestCode, type StoredMessage } from '../../codec/index.ts'
import { Acceptance } from '../../proxy/acceptance.ts'
import type { Account } from '../../replay/account.ts'
import { firstValue } from '../../replay/check.ts'
import type { SourceConnection } from '../../replay/epoch.ts'
import type { Feed } from '../../replay/feed.ts'
import { type AckedMessage, Message } from '../../replay/message.ts'
import { ALL_REMOTES, hashOf, PlaceFlag, SKIP_REASONS, type SkipReason } from '../../replay/place.ts'
import { Replay } from '../../replay/replay.ts'
import { Send } from '../../replay/send.ts'
import type { SourceBroker } from '../../replay/source-broker.ts'
import { type FakeDisk, FakeEnvironment } from '../support/fake-environment.ts'
import type { Random } from '../support/random.ts'
import { type FakeBroker, FakeCluster, type FakeSend } from './fake-cluster.ts'
import { BORN, own, propertiesWith } from './sample.ts'

export const TOPIC = 'orders'
export const FOLDER = '/data/brokers/paris-a'

export const texts = (from: number, to: number) => Array.from({ length: to - from }, (_, index) => `m${from + index}`)

export function refuse(remote: FakeCluster): void {
  remote.broker.onSend = send => send.request.answer({ code: 2 })
}

export function take(remote: FakeCluster): void {
  remote.broker.onSend = send => send.answerStored(send.store())
}

export const arrivedAt = (scene: Scene, label: string, queueId = 0) =>
  scene.remoteOf(label).broker.texts(TOPIC, queueId)
export const waitingFor = (scene: Scene, label: string) =>
  scene.feedOf(label).account.queued + scene.feedOf(label).account.inGap

/** It is too busy to be read, so many times. */
export function refusesPulls(broker: FakeBroker, times: number): void {
  let left = times
  broker.intercept = request => {
    const { code, ext } = decodeHeader(request.head)
    if (code !== RequestCode.PULL_MESSAGE || ext.get('topic') !== TOPIC || left === 0) return false
    left--
    request.answer({ code: 2, remark: '[TIMEOUT_CLEAN_QUEUE]broker busy' })
    return true
  }
}

/** Where a remote's cursor and dead letters are. */
export function slotFolder(label = 'default'): string {
  return `${FOLDER}/remotes/${label}`
}

export interface SceneOptions {
  sourceQueues?: number
  remoteQueues?: number
  bodyMemory?: number
  maxBytes?: number
  spillAfter?: number
  compress?: boolean
  journalBodies?: 'spill' | 'always'
  /** Nothing is known at first of whether the source may be read back from. */
  isUnknown?: boolean
  onJournalFull?: 'gap' | 'reject'
  journalAck?: 'append' | 'fsync'
  unresolvedMemory?: number
  /** Labels of the remotes. */
  remotes?: readonly string[]
  random?: Random
  /** When it begins: milliseconds. */
  now?: number
  remoteBrokers?: number
  remoteBrokerAway?: 'wait' | 'reroute'
  newRemotes?: readonly string[]
  forgetRemotes?: readonly string[]
  /** What an earlier scene left: its disk, its source, its remotes by label. */
  disk?: FakeDisk
  source?: FakeCluster
  clusters?: ReadonlyMap<string, FakeCluster>
}

export class Scene {
  readonly source: FakeCluster
  /** By label; those that are configured, and those that were. */
  readonly remotes = new Map<string, FakeCluster>()
  /** Labels of those that are configured. */
  labels: readonly string[]
  readonly relayed: string[] = []
  /** Called when an ack is relayed. */
  onRelay: () => void = () => {}
  environment: FakeEnvironment
  replay!: Replay
  broker!: SourceBroker
  /** For the next start. */
  readonly options: SceneOptions

  private constructor(options: SceneOptions) {
    this.options = options
    this.environment = new FakeEnvironment(options.random, options.disk, options.now)
    this.source = options.source ?? new FakeCluster('paris')
    if (options.source === undefined) this.source.makeTopic(TOPIC, options.sourceQueues ?? 2)
    this.labels = options.remotes ?? ['default']
    for (const [label, cluster] of options.clusters ?? []) this.remotes.set(label, cluster)
  }

  static async open(options: SceneOptions = {}): Promise<Scene> {
    const scene = new Scene(options)
    await scene.start()
    return scene
  }

  /** What the remote has of a queue, in its order. */
  arrived(queueId = 0): string[] {
    return this.remote.broker.texts(TOPIC, queueId)
  }

  /** No route names this broker of the remote any more, and nothing answers there. */
  async goesAway(broker: FakeBroker): Promise<void> {
    this.remote.away.add(broker)
    this.environment.network.stop(broker.address)
    await this.environment.settled()
  }

  /** All brokers of the remote are there. */
  allComeBack(): void {
    this.remote.away.clear()
    this.remote.connect(this.environment.network)
  }

  /** The first remote, or the only one. */
  get remote(): FakeCluster {
    return this.remoteOf(this.labels[0]!)
  }

  remoteOf(label: string): FakeCluster {
    let remote = this.remotes.get(label)
    if (remote === undefined) {
      remote = new FakeCluster(label === 'default' ? 'rome' : label, this.options.remoteBrokers)
      remote.makeTopic(TOPIC, this.options.remoteQueues ?? 2)
      this.remotes.set(label, remote)
    }
    return remote
  }

  get feed(): Feed {
    return this.broker.feeds[0]!
  }

  feedOf(label: string): Feed {
    return this.broker.feeds.find(({ remote }) => remote.label === label)!
  }

  get account(): Account {
    return this.feed.account
  }

  forward(queueId = 0, connection?: SourceConnection): Sending {
    return new Sending(this, queueId, connection)
  }

  /** A source connection that is up. */
  connect(address = this.source.broker.address): SourceConnection {
    return this.broker.connection(address)
  }

  /** Messages that are stored and acked at once. */
  send(texts: readonly string[], queueId = 0, more: Partial<StoredMessage> = {}): void {
    for (const text of texts) this.forward(queueId).store(text, more).ack()
  }

  /** Keeps the remote's sends from now on, unanswered and not stored. */
  holdSends(): FakeSend[] {
    const held: FakeSend[] = []
    this.remote.broker.onSend = send => void held.push(send)
    return held
  }

  /** The remote takes everything again. */
  takeSends(): void {
    this.remote.broker.onSend = send => send.answerStored(send.store())
  }

  /** The remote refuses every send, before it is stored. */
  refuseSends(code: number, remark = ''): void {
    this.remote.broker.onSend = send => send.request.answer({ code, remark })
  }

  /** Everything that waits goes to disk, as it does when the journal has many segments. */
  async spillAll(): Promise<void> {
    await this.environment.settled()
    const { spill } = this.broker
    const files = spill.counts
    spill.force(Number.MAX_SAFE_INTEGER)
    await this.until('it is on disk', () => spill.counts.bytes > files.bytes)
    await this.environment.pass(1_000)
  }

  async until(what: string, condition: () => boolean): Promise<void> {
    await this.environment.until(what, condition)
  }

  async allDone(): Promise<void> {
    await this.until('nothing waits', () =>
      this.broker.feeds.every(({ account }) => account.queued + account.inGap === 0),
    )
  }

  async close(): Promise<void> {
    let closed = false
    const closing = this.replay.close().then(() => {
      closed = true
    })
    await this.until('it is closed', () => closed)
    await closing
  }

  /** Ends without a word, and starts again. */
  async crash(powerCut = false): Promise<void> {
    this.environment = this.environment.afterCrash(powerCut)
    await this.start()
  }

  async restart(): Promise<void> {
    await this.close()
    await this.crash()
  }

  async start(): Promise<void> {
    const { environment, source, labels } = this
    source.connect(environment.network)
    for (const label of labels) {
      this.remoteOf(label).connect(environment.network)
      for (const broker of this.remoteOf(label).brokers) broker.now = () => environment.clock.now()
    }
    this.replay = new Replay(environment, {
      dataDir: '/data',
      source: [source.nameServer],
      remotes: new Map(labels.map(label => [label, [this.remoteOf(label).nameServer]])),
      group: 'tee',
      bodyMemory: this.options.bodyMemory ?? 1_000_000,
      bornTimestampTolerance: 1_000,
      sendGiveUpTimeout: 10_000,
      ...(this.options.unresolvedMemory === undefined ? {} : { unresolvedMemory: this.options.unresolvedMemory }),
      topicSync: 'create',
      journal: {
        ack: this.options.journalAck ?? 'append',
        bodies: this.options.journalBodies ?? 'spill',
        onFull: this.options.onJournalFull ?? 'gap',
        maxBytes: this.options.maxBytes ?? 1_000_000_000,
        minFreeBytes: 0,
        spillAfter: this.options.spillAfter ?? 200,
        stallTimeout: 1_000,
        retention: 600_000,
        compress: this.options.compress ?? false,
      },
      remoteBrokerAway: this.options.remoteBrokerAway ?? 'wait',
      newRemotes: this.options.newRemotes ?? [],
      forgetRemotes: this.options.forgetRemotes ?? [],
    })
    await this.#opened(async () => {
      await this.replay.open()
      return this.replay.broker('paris-a', 'paris', 0, source.broker.address)
    })
    if (!this.options.isUnknown) this.broker.readable.mayReadBack(TOPIC, 0, 0)
    await environment.settled()
  }

  /** It may ask the remotes, and a disk that fails is given time. */
  async #opened(open: () => Promise<SourceBroker>): Promise<void> {
    let isOver = false
    const opening = open().finally(() => {
      isOver = true
    })
    opening.catch(() => {})
    await this.until('it is open', () => isOver)
    this.broker = await opening
  }
}

/** A send through the gateway. */
export class Sending {
  readonly stored: StoredMessage[] = []
  /** Whether it was given up. */
  givenUp = false
  readonly #scene: Scene
  readonly #send = new Send()

  constructor(scene: Scene, queueId: number, connection: SourceConnection | undefined) {
    this.#scene = scene
    this.#send.topic = TOPIC
    this.#send.queueId = queueId
    this.#send.givenUp = () => {
      this.givenUp = true
    }
    scene.broker.forwarded(this.#send, connection)
  }

  /** The source has it; its text is its key, too. */
  store(text: string, more: Partial<StoredMessage> = {}): this {
    const { source, environment } = this.#scene
    const storeTimestamp = Math.floor(environment.clock.now())
    const message = {
      bornTimestamp: BORN,
      storeTimestamp,
      body: Buffer.from(text),
      properties: propertiesWith(text),
      ...more,
    }
    this.stored.push(source.broker.store(TOPIC, more.queueId ?? Math.max(0, this.#send.queueId), message))
    return this
  }

  /**
   * Its connection ended unanswered: what its client sent is looked for at the source. `bornHost` is that of the connection.
   * Several texts are a batch.
   */
  lose(texts: readonly string[], more: Partial<StoredMessage> & { keyless?: boolean } = {}): void {
    const { broker, environment, replay } = this.#scene
    const { bornHost, bornTimestamp = BORN, keyless = false } = more
    const properties = (text: string) => (keyless ? Buffer.alloc(0) : propertiesWith(text))
    const send = this.#send
    send.bornTimestamp = bornTimestamp
    send.batch = texts.length > 1
    const [text] = texts as [string]
    if (!send.batch) {
      send.setProperties(own(properties(text)), 0, properties(text).length, false)
      send.addPayload(own(Buffer.from(text)), 0, text.length)
    } else {
      const members = texts.map(text => {
        const out = Buffer.alloc(memberBytes(text.length, properties(text).length))
        encodeMember(out, 0, 0, [Buffer.from(text)], text.length, properties(text))
        return out
      })
      const payload = Buffer.concat(members)
      send.addPayload(own(payload), 0, payload.length)
    }
    const acceptance = new Acceptance({
      clock: environment.clock,
      log: environment.log,
      broker,
      remotes: replay.remotes,
      skipped: () => {},
    })
    broker.findOut(send, {
      bornHost,
      accept: (send, answer) => void acceptance.accept(send, answer),
    })
  }

  /** `skip`: why it does not go to these remotes. */
  ack(skip?: { reason: SkipReason; labels: readonly string[] | 'all' }): void {
    const { broker } = this.#scene
    const [first] = this.stored as [StoredMessage]
    const inBatch = this.stored.length > 1
    let taken = 0
    for (const stored of this.stored) {
      const { flag, sysFlag, properties, body } = stored
      const message = inBatch ? new Message(flag, sysFlag, own(properties), own(body)) : this.#send
      if (message === this.#send) {
        this.#send.flag = flag
        this.#send.sysFlag = sysFlag
        this.#send.setProperties(own(properties), 0, properties.length, false)
        this.#send.addPayload(own(body), 0, body.length)
      }
      this.#setPlace(message, stored, inBatch)
      if (skip !== undefined) this.#setSkip(message, skip)
      if (broker.acked(this.#send, first.queueId, message)) taken++
    }
    if (taken > 0) broker.answered(this.#send, first.queueId)
    else broker.refused(this.#send)
    broker.whenWritten(() => {
      this.#scene.relayed.push(first.body.toString())
      this.#scene.onRelay()
    })
  }

  #setSkip(message: AckedMessage, { reason, labels }: { reason: SkipReason; labels: readonly string[] | 'all' }): void {
    message.skipReason = SKIP_REASONS.indexOf(reason)
    message.skipMask = 0
    if (labels === 'all') message.skipMask = ALL_REMOTES
    else for (const label of labels) message.skipMask |= this.#scene.feedOf(label).remote.bit
  }

  refuse(): void {
    this.#scene.broker.refused(this.#send)
  }

  #setPlace(message: AckedMessage, stored: StoredMessage, inBatch: boolean): void {
    const uniqKey = firstValue(stored.properties, 'UNIQ_KEY')
    message.queueOffset = stored.queueOffset
    message.commitLogOffset = stored.commitLogOffset
    message.bornTimestamp = stored.bornTimestamp
    message.ackedAt = this.#scene.environment.clock.now()
    message.hash = hashOf(uniqKey, [stored.body])
    message.placeFlags = (inBatch ? PlaceFlag.BATCH_MEMBER : 0) | (uniqKey === undefined ? PlaceFlag.PAYLOAD_HASH : 0)
  }
}
