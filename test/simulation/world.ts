// The world of one history: clients, a gateway, a source, one or two remotes, one clock. Time passes from event to event; what the gateway is
// given is done to its end before the next event, as a turn of its loop, but for what its turn leaves for later.
//
// One seed, one history: every part draws its chance from a stream of its own, nothing here waits for real time, and no two
// buffers share memory.

import { encodeProperties } from '../../codec/index.ts'
import { FakeDisk } from '../support/fake-disk.ts'
import { FakeClock, type FakeLog } from '../support/fake-environment.ts'
import type { Random } from '../support/random.ts'
import { perform } from './acts.ts'
import type { ModelBroker } from './broker.ts'
import { ModelClient } from './client.ts'
import { ModelCluster } from './cluster.ts'
import { inSlots } from './damage.ts'
import { GatewayProcess, listenerFor } from './gateway.ts'
import { History } from './history.ts'
import { isIllegal, Ledger, type Message } from './ledger.ts'
import { Network } from './network.ts'
import { stream } from './random-streams.ts'
import { type Counts, Remote } from './remote.ts'
import type { Act, RemoteSide, Setup, Side, Step } from './step.ts'

// The memory of bodies is counted by the memory that their buffers lie in: of Node's pool, that depends on what was made before.
Buffer.poolSize = 0

export const START = 1_750_000_000_000
const PORT = 10_911
/**
 * Bytes that the head of a lane may have in memory though there is no room: a page from the disk (256 KiB of bodies, 480 bytes for each of its 512
 * messages), and for what is not in it one answer of a broker and what came in one chunk with it.
 */
const READ_BACK_MOST = 2 * 256 * 1024 + 512 * 480

export class World {
  readonly clock = new FakeClock(START)
  readonly history: History
  readonly ledger = new Ledger()
  readonly network: Network
  readonly source: ModelCluster
  readonly remotes: Remote[]
  readonly clients: ModelClient[] = []
  readonly setup: Setup
  /** Kinds of causes that did happen, by when; milliseconds. */
  readonly happened = new Map<string, number[]>()
  gateway!: GatewayProcess
  disk = new FakeDisk()
  /** Sends that were waited for no longer. */
  givenUp = 0
  /** Places that were acked while the disk failed, as it was said: they are in memory only. */
  readonly unsaved = new Set<string>()
  readonly logs: FakeLog[] = []
  deaths = 0
  readonly #chance: Random
  #comesBackAt: number | undefined
  #postponed = false
  #problems: string[] = []

  constructor(setup: Setup) {
    this.setup = setup
    this.history = new History(() => this.clock.now())
    const { seed, latency, cutsChunks, highWater, lateBytes } = setup
    this.#chance = stream(seed, 'world')
    this.network = new Network(this.clock, { latency, cutsChunks, highWater, lateBytes }, stream(seed, 'network'))
    this.source = this.#cluster('source', 'paris', setup.sourceBrokers)
    if (setup.sourceIsClosed) this.did('source refuses reading')
    this.remotes = [this.#remote('remote', 'rome')]
    if (setup.remotes === 2) this.remotes.push(this.#remote('remote2', 'oslo'))
    const brokers = [...this.source.brokers.keys()]
    for (let i = 0; i < setup.clients; i++) {
      const broker = brokers[i % brokers.length]!
      const address = () => listenerFor(this.source.brokers.get(broker)!.address)
      const chance = stream(seed, `client ${i}`)
      this.clients.push(new ModelClient(`client-${i}`, broker, address, this.network, chance, this.history.say))
    }
  }

  get problems(): readonly string[] {
    return this.#problems
  }

  problem(what: string): void {
    this.history.say('PROBLEM', what)
    this.#problems.push(what)
  }

  get now(): number {
    return this.clock.now() - START
  }

  topic(index: number): string {
    return `topic${index % this.setup.topics.length}`
  }

  broker(side: Side, index: number): ModelBroker {
    const brokers = [...this.cluster(side).brokers.values()]
    return brokers[index % brokers.length]!
  }

  cluster(side: Side): ModelCluster {
    return side === 'source' ? this.source : this.remote(side).cluster
  }

  /** In a history that is made smaller acts may name a remote that is no more. */
  has(side: Side): boolean {
    return side === 'source' || this.remotes.some(remote => remote.side === side)
  }

  remote(side: RemoteSide): Remote {
    return this.remotes.find(remote => remote.side === side)!
  }

  get clusters(): ModelCluster[] {
    return [this.source, ...this.remotes.map(({ cluster }) => cluster)]
  }

  /** Which of several remotes it is, for what is said of it. */
  whichOf({ label }: Remote): string {
    return this.remotes.length === 1 ? '' : ` (${label})`
  }

  /** Lets time pass until then, milliseconds from the start, or until it is so; false where time ended it. */
  async until(end: number, condition: () => boolean = () => false): Promise<boolean> {
    await this.#turn()
    while (!condition()) {
      if (!this.clock.fireNext(START + end)) {
        this.clock.moveTo(START + end)
        return false
      }
      await this.#turn()
    }
    return true
  }

  pass(ms: number): Promise<boolean> {
    return this.until(this.now + ms)
  }

  async start(): Promise<void> {
    this.startGateway()
    await this.until(60_000, () => this.isServing)
  }

  /** The first log in which a start has to say that what was acked last is in doubt; undefined: nothing is. */
  #inDoubtSince: number | undefined

  #isServing = false
  get isServing(): boolean {
    return this.#isServing
  }

  startGateway(): void {
    const { bodyMemory, bornTimestampTolerance, inFlightBytes, sendGiveUpTimeout, diskMost, seed } = this.setup
    const gateway = new GatewayProcess(
      this.network,
      stream(seed, `gateway ${this.history.length}`),
      this.disk,
      this.source,
      new Map(this.remotes.map(({ label, cluster }) => [label, cluster])),
      {
        bodyMemory,
        bornTimestampTolerance,
        inFlightBytes,
        sendGiveUpTimeout,
        diskMost,
        remoteBrokerAway: this.setup.reroutes ? 'reroute' : 'wait',
        journal: this.setup.journal ?? {},
        pendingBytesMax: 100_000,
        say: this.history.say,
        counted: (kind, count) => {
          for (const remote of this.remotes) remote[kind] += count
        },
        givenUp: () => {
          this.givenUp++
        },
        unsaved: place => void this.unsaved.add(place),
      },
    )
    gateway.dies = () => this.gatewayDies(false, 500)
    this.gateway = gateway
    for (const remote of this.remotes) remote.reorderedBefore = inSlots(this.disk, remote, ({ reordered }) => reordered)
    this.logs.push(gateway.log)
    this.#comesBackAt = undefined
    this.#isServing = false
    const before = this.remotes.map(({ acked, skipped, begun }) => ({ acked, skipped, begun }))
    this.history.say('gateway', 'starts')
    gateway.start().then(
      () => {
        if (!gateway.alive) return
        this.#isServing = true
        this.did('served')
        for (const [index, remote] of this.remotes.entries()) {
          this.#compareWithBefore(remote, before[index]!)
          this.#compareWithDamage(remote)
        }
        this.#checkDoubt()
        this.history.say('gateway', `serves; ${this.#accountText()}`)
      },
      error => {
        if (!gateway.alive) return
        this.history.say('gateway', `cannot start: ${(error as Error).message}`)
        this.gatewayDies(false, 1_000)
      },
    )
    gateway.touched = true
  }

  /** What was written before must be counted after, but for what a power cut or a broken disk took. */
  #compareWithBefore(remote: Remote, before: Counts): void {
    const { acked, skipped } = this.gateway.atStart(remote.label)
    const excused = this.happened.has('power cut') || this.happened.has('disk')
    // What is missing in between may have been a skip.
    const all = acked + skipped
    const written = before.acked + before.skipped
    // Those that were in memory only, while the disk stalled and it was said, are gone; and those of which damage left nothing.
    const gone = this.unsaved.size + remote.untold
    if (all > before.begun || (all < written - gone && !excused && !remote.isCursorLost))
      this.problem(
        `after the start ${all} messages count as acked or skipped; ${written} places had been written, and ${before.begun} begun${this.whichOf(remote)}`,
      )
    remote.foundAgain += Math.max(0, remote.lostFromJournal - this.#lostFromJournal(remote))
    // Its listeners do not wait for each other: some of it is of this process.
    remote.acked += acked - before.acked
    remote.begun += all - before.begun
    remote.skipped += skipped - before.skipped
  }

  /** After an end that may have cost places nobody knows of, a start says so; and after no other. */
  #checkDoubt(): void {
    const logs = this.logs.slice(this.#inDoubtSince ?? -1)
    const isSaid = logs.some(log => log.said('what was acked last may be missing').length > 0)
    if (this.#inDoubtSince !== undefined && !isSaid) this.problem('it is not said that what was acked last is in doubt')
    const mayBe = ['power cut', 'disk', 'disk stall'].some(cause => this.happened.has(cause))
    if (this.#inDoubtSince === undefined && isSaid && !mayBe)
      this.problem('it is said that what was acked last is in doubt, and nothing is')
    this.#inDoubtSince = undefined
  }

  /** What was damaged counts as lost, exactly, but where something else may have taken places, too. */
  #compareWithDamage(remote: Remote): void {
    const expected = remote.lostAtStart
    remote.lostAtStart = undefined
    remote.lostOfNow = 0
    if (expected === undefined || remote.isCursorLost || this.unsaved.size > 0) return
    if (['power cut', 'disk', 'disk stall', 'damaged blocks'].some(cause => this.happened.has(cause))) return
    const lost = this.#lostFromJournal(remote)
    if (lost !== expected)
      this.problem(
        `after the start ${lost} messages count as lost, cause journal; ${expected} are${this.whichOf(remote)}`,
      )
  }

  did(cause: string): void {
    this.happened.set(cause, [...(this.happened.get(cause) ?? []), this.clock.now()])
  }

  /** Its process ends, with the power of its machine, and of others', or alone; it comes back by itself. */
  gatewayDies(powerCut: boolean, downMs: number, also: readonly Side[] = []): void {
    const { gateway } = this
    if (!gateway.alive) return
    this.noteReordered()
    const canSay = gateway.log.said('it could not be noted that a process runs').length === 0
    if (this.isServing && canSay && (powerCut || gateway.brokers.some(({ journal }) => journal.failed)))
      this.#inDoubtSince ??= this.logs.length
    this.deaths++
    this.did('death')
    gateway.kill(powerCut)
    this.#isServing = false
    this.history.say('gateway', powerCut ? 'POWER CUT' : 'KILLED')
    if (powerCut) this.did('power cut')
    this.disk = this.disk.afterCrash(powerCut, this.setup.harshPowerCut ? undefined : this.#chance)
    for (const side of also)
      for (const broker of this.cluster(side).brokers.values()) {
        const lost = broker.stop(broker.log.flushed)
        this.history.say(broker.name, `power cut: ${lost} records lost`)
        if (lost > 0) this.did(`${side} lost its tail`)
        this.clock.after(downMs, () => this.startBroker(broker))
      }
    const at = this.clock.now() + downMs
    this.#comesBackAt = at
    this.clock.after(downMs, () => {
      if (this.#comesBackAt === at) this.startGateway()
    })
  }

  /** A process that was closed ends. */
  gatewayEnds(): void {
    this.gateway.kill(false)
    this.disk = this.disk.afterCrash(false)
  }

  /** From now on everything works. */
  endFaults(): void {
    this.history.say('schedule', 'all faults end')
    this.network.heal()
    for (const cluster of this.clusters) {
      if (!cluster.isUp) cluster.serve()
      for (const broker of cluster.all) {
        broker.armed = []
        broker.goOn()
        broker.refuses.clear()
        this.startBroker(broker)
      }
    }
    this.gateway.diesAtOperation = undefined
    this.gateway.diskFault = undefined
    this.disk.capacity = Number.POSITIVE_INFINITY
  }

  /** Others write to the source until its queues are as long as they were before they lost their tails. */
  growSource(): void {
    for (const broker of this.source.brokers.values())
      for (const queues of broker.log.topics.values())
        for (const { topic, queueId, nextOffset, highestEnd } of queues)
          for (let offset = nextOffset; offset < highestEnd; offset++)
            broker.storeStranger(
              topic,
              queueId,
              Buffer.from('stranger'),
              Buffer.from(`UNIQ_KEY\u0001GROWS${offset}\u0002`),
            )
  }

  /** A message to each queue of the source. */
  sendOnceMore(): void {
    for (const [topic, { sourceQueues }] of this.setup.topics.entries())
      for (const client of this.clients.keys())
        for (let queueId = 0; queueId < sourceQueues; queueId++)
          this.send({ do: 'send', client, topic, queueId, messages: 1, size: 0, isToRepeat: true })
  }

  startBroker(broker: ModelBroker): void {
    // One whose name has moved stays away.
    if (broker.isUp || !this.clusters.some(({ all }) => all.includes(broker))) return
    this.history.say(broker.name, 'starts')
    broker.start()
    for (const cluster of this.clusters) cluster.away.delete(broker.options.name)
  }

  noteReordered(): void {
    // The slot may be older than what the process counted: each adds what it saw itself.
    for (const remote of this.remotes) {
      let counted = 0
      for (const { totals } of this.gateway.accountsOf(remote.label)) counted += totals.reordered
      // One that dies before it has read its slots has seen nothing.
      remote.reordered += Math.max(0, counted - remote.reorderedBefore)
      remote.reorderedBefore = counted
      remote.lostFromJournal = this.#lostFromJournal(remote)
    }
  }

  #lostFromJournal({ label }: Remote): number {
    return this.gateway.accountsOf(label).reduce((sum, { totals }) => sum + (totals.lost.journal ?? 0), 0)
  }

  /** One turn of the gateway's loop. */
  async #turn(): Promise<void> {
    const { gateway } = this
    if (gateway === undefined || !(gateway.touched || this.#postponed)) return
    gateway.touched = false
    await drained()
    if (!this.#postponed && gateway.hasSoon && this.#chance.chance(0.3)) {
      // More is ready to be read in this turn.
      this.#postponed = true
      this.clock.after(0.05, () => {})
      return
    }
    this.#postponed = false
    while (gateway.runSoon()) await drained()
    if (!gateway.alive || !this.#isServing || this.#problems.length > 0) return
    for (const remote of this.remotes) this.#checkSum(remote)
    this.#checkMemory()
  }

  #checkSum(remote: Remote): void {
    let acked = 0
    for (const account of this.gateway.accountsOf(remote.label)) {
      const { totals, queued, inGap } = account
      acked += account.acked
      if (queued < 0 || inGap < 0 || totals.replicated < 0)
        return this.problem(
          `below zero: queued ${queued}, in gap ${inGap}, replicated ${totals.replicated}${this.whichOf(remote)}`,
        )
    }
    if (acked !== remote.acked + remote.skipped)
      this.problem(
        `the sum is ${acked}, and ${remote.acked} acked and ${remote.skipped} skipped were counted${this.whichOf(remote)}`,
      )
  }

  #checkMemory(): void {
    const { used, limit } = this.gateway.replay.memory
    const { sourceBrokers, topics, remotes } = this.setup
    const lanes = remotes * sourceBrokers * topics.reduce((sum, { sourceQueues }) => sum + sourceQueues, 0)
    if (used > limit + lanes * READ_BACK_MOST) this.problem(`${used} bytes of bodies are kept, of ${limit}`)
  }

  #accountText(): string {
    return this.gateway.brokers
      .flatMap(({ options, feeds }) =>
        feeds.map(({ account: { totals, queued, inGap } }, index) => {
          const { replicated, deadLettered, lost } = totals
          return `${options.name}${this.whichOf(this.remotes[index]!)}: ${replicated} replicated, ${queued} queued, ${inGap} in gap, ${deadLettered} dead letters, lost ${JSON.stringify(lost)}`
        }),
      )
      .join('; ')
  }

  apply({ at: _, fault: __, ...act }: Step): void {
    if (act.do !== 'send') this.history.say('schedule', JSON.stringify(act))
    this.act(act)
  }

  act(act: Act): void {
    perform(this, act)
  }

  /** New messages, all of one kind, in one send. */
  send({ client, topic, queueId, messages, size, oneway, kind, isToRepeat }: Act & { do: 'send' }): Message[] {
    const from = this.clients[client % this.clients.length]!
    const name = this.topic(topic)
    const queues = this.setup.topics[topic % this.setup.topics.length]!.sourceQueues
    const sent = Array.from({ length: messages }, (_, index) => {
      const number = this.ledger.messages.length
      // As real clients do, each message says WAIT itself.
      const properties: [string, string][] = [
        ['TAGS', 'a'],
        ['WAIT', 'true'],
      ]
      if (kind !== 'keyless') properties.unshift(['UNIQ_KEY', `KEY${this.setup.seed}x${number}`])
      if (kind === 'long') properties.push(['long', 'x'.repeat(32_300)])
      if (kind === 'delayed' && messages === 1) properties.push(['DELAY', '3'])
      return this.ledger.add(
        {
          topic: name,
          broker: from.broker,
          properties: encodeProperties(properties),
          flag: number % 3,
          illegal: kind === 'illegal' && index === 0,
          delayed: kind === 'delayed' && messages === 1,
        },
        size,
      )
    })
    from.send(sent, queueId < 0 ? queueId : queueId % queues, oneway === true, isToRepeat === true)
    return sent
  }

  /** As an operator stops the command, and starts it again. */
  restartGateway(): void {
    const { gateway } = this
    if (!gateway.alive || !this.#isServing) return
    this.history.say('gateway', 'stops')
    this.#isServing = false
    gateway.deliver(() => {
      void gateway.stop().then(() => this.gatewayDies(false, 100))
    })
  }

  #remote(side: RemoteSide, name: string): Remote {
    return new Remote(side, this.#cluster(side, name, this.setup.remoteBrokers))
  }

  #cluster(side: Side, name: string, brokers: number): ModelCluster {
    const { setup, history, ledger } = this
    const cluster = new ModelCluster(name, this.network, stream(setup.seed, name))
    cluster.serve()
    for (let i = 0; i < brokers; i++) {
      const { log } = cluster.add({
        name: `${name}-${'abc'[i]}`,
        port: PORT,
        executionMost: setup.executionMost,
        dispatchMost: setup.dispatchMost,
        flushMost: setup.flushMost,
        addsProperties: setup.addsProperties,
        batchKeyBehind: setup.batchKeyBehind && side === 'source',
        isClosed: (setup.sourceIsClosed ?? false) && side === 'source',
        // What the source has torn goes to the remote as it stands there, which the ledger does not know.
        tearsAll: side === 'source',
        isIllegal: body => side !== 'source' && isIllegal(body),
        stored: ({ name, options }, records) => {
          if (side === 'source') return ledger.storedAtSource(name, records)
          const remote = this.remote(side)
          const { topics } = cluster.brokers.get(options.name)!.log
          for (const { body, topic, queueId } of records) {
            const message = ledger.of(body)
            if (message === undefined) continue
            remote.wentTo.set(message, queueId)
            // A former master took it, to a queue that its successor has not.
            if (queueId >= (topics.get(topic)?.length ?? Number.POSITIVE_INFINITY))
              remote.goneWithQueues.add(message.number)
          }
        },
        say: history.say,
      })
      for (const [index, { sourceQueues, remoteQueues }] of setup.topics.entries()) {
        const queues = side === 'source' ? sourceQueues : remoteQueues
        if (queues > 0) log.makeTopic(this.topic(index), queues)
      }
    }
    return cluster
  }
}

/** Waits until everything has been done that waits for nothing outside. */
function drained(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
