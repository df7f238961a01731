// Whatever becomes of the source and of connections to it: what was acked is at the remote once or is said to be lost, what
// was stored and not answered is at the remote once, what was not stored is not, and the order is the source's.

import test, { type ExecutionContext } from 'ava'
import { hostBytes } from '../../codec/index.ts'
import type { SourceConnection } from '../../replay/epoch.ts'
import { printedSeed, Random } from '../support/random.ts'
import { Scene, type Sending, TOPIC } from './scene.ts'

const ROUNDS = 60
const STEPS = 60
const QUEUES = 2

interface Out {
  sending: Sending
  texts: string[]
  connection: SourceConnection
  bornHost: Buffer
  stored: boolean
}

class Flow {
  readonly #t: ExecutionContext
  readonly #seed: number
  readonly #random: Random
  readonly #scene: Scene
  readonly #acked = new Set<number>()
  /** Stored and not answered: to be found. */
  readonly #toBeFound = new Set<number>()
  /** Nobody looks for them: the gateway has died since, or the source has lost them. */
  readonly #maybe = new Set<number>()
  /** Not in order: the source has lost them, or they were found or acked after they had been given up. */
  readonly #unordered = new Set<number>()
  readonly #queueOf: number[] = []
  readonly #batchOf = new Map<number, number[]>()
  /** Batches of which the source lost a part while nobody knew of them. */
  #torn = 0
  #out: Out[] = []
  readonly #lost: Out[] = []
  #connections: { connection: SourceConnection; bornHost: Buffer }[] = []
  #ports = 1

  static async run(t: ExecutionContext, seed: number): Promise<void> {
    const random = new Random(seed)
    const scene = await Scene.open({ random, bodyMemory: random.pick([0, 3_000, 1_000_000]) })
    const flow = new Flow(t, scene, random, seed)
    for (let step = 0; step < STEPS; step++) await flow.#step()
    await flow.#end()
  }

  private constructor(t: ExecutionContext, scene: Scene, random: Random, seed: number) {
    this.#t = t
    this.#seed = seed
    this.#scene = scene
    this.#random = random
    this.#connect()
  }

  async #step(): Promise<void> {
    const random = this.#random
    const { environment } = this.#scene
    for (let count = random.integer(0, 2); count > 0; count--) this.#forward()
    for (let count = random.integer(0, 2); count > 0; count--) this.#store()
    for (let count = random.integer(0, 2); count > 0; count--) this.#ack()
    if (random.chance(0.7)) await environment.settled()
    if (random.chance(0.2)) await environment.pass(random.pick([random.integer(1, 700), 2_000]))
    if (random.chance(0.1)) this.#connect()
    if (random.chance(0.08)) this.#cutOne()
    if (random.chance(0.1)) this.#others()
    if (random.chance(0.06)) await this.#restartSource()
    if (random.chance(0.03)) await this.#crash()
    if (random.chance(0.1)) this.#scene.refuseSends(2)
    else if (random.chance(0.2)) this.#scene.takeSends()
  }

  #connect(): void {
    const connection = this.#scene.connect()
    this.#connections.push({ connection, bornHost: hostBytes('10.0.0.1', this.#ports++)! })
  }

  #forward(): void {
    const random = this.#random
    const { connection, bornHost } = random.pick(this.#connections)
    const queueId = random.integer(0, QUEUES - 1)
    const count = random.chance(0.3) ? random.integer(2, 4) : 1
    const texts = Array.from({ length: count }, () => `${this.#queueOf.push(queueId) - 1}`)
    const sending = this.#scene.forward(random.chance(0.2) ? -1 : queueId, connection)
    const batch = texts.map(Number)
    for (const number of batch) this.#batchOf.set(number, batch)
    this.#out.push({ sending, texts, connection, bornHost, stored: false })
  }

  #store(out = this.#random.pick(this.#out.filter(({ stored }) => !stored))): void {
    if (out === undefined) return
    out.stored = true
    const queueId = this.#queueOf[Number(out.texts[0])]!
    for (const text of out.texts) out.sending.store(text, { queueId, bornHost: out.bornHost })
  }

  /** Whoever else writes to the queues. */
  #others(): void {
    this.#scene.source.broker.store(TOPIC, this.#random.integer(0, QUEUES - 1), { body: Buffer.from('another’s') })
  }

  #ack(): void {
    // As a session does: acks wait while their connection's epoch is not sure.
    const ready = this.#out.filter(({ stored, connection }) => stored && !connection.isUnclear)
    if (ready.length === 0) return
    const out = this.#random.pick(ready)
    this.#out.splice(this.#out.indexOf(out), 1)
    if (this.#random.chance(0.15)) return this.#lose(out)
    out.sending.ack()
    for (const text of out.texts) {
      this.#acked.add(Number(text))
      if (out.sending.givenUp) this.#unordered.add(Number(text))
    }
  }

  /** Its connection has ended, or its answer said nothing. */
  #lose(out: Out): void {
    const { sending, texts, bornHost, stored } = out
    sending.lose(texts, { bornHost })
    this.#lost.push(out)
    if (stored) for (const text of texts) if (!this.#maybe.has(Number(text))) this.#toBeFound.add(Number(text))
  }

  #cutOne(): void {
    const { connection } = this.#random.pick(this.#connections)
    this.#connections = this.#connections.filter(one => one.connection !== connection)
    if (this.#connections.length === 0) this.#connect()
    for (const out of this.#out.filter(out => out.connection === connection)) this.#lose(out)
    this.#out = this.#out.filter(out => out.connection !== connection)
  }

  /** All connections end; its newest records may be gone. */
  async #restartSource(): Promise<void> {
    const random = this.#random
    const { environment, source } = this.#scene
    while (this.#connections.length > 0) {
      const before = this.#connections.length
      this.#cutOne()
      if (before === 1) break
    }
    source.disconnect(environment.network)
    if (random.chance(0.5)) this.#loseTail(random.integer(1, 6))
    if (random.chance(0.5)) await environment.pass(random.integer(1, 8_000))
    if (random.chance(0.2)) this.#scene.broker.address = source.broker.address
    source.connect(environment.network)
    this.#connections = []
    this.#connect()
    if (random.chance(0.5)) this.#others()
  }

  #loseTail(records: number): void {
    const { broker } = this.#scene.source
    const most = Math.min(records, broker.log.length)
    for (const { body } of broker.log.slice(broker.log.length - most)) {
      if (!/^\d+$/.test(body.toString())) continue
      const number = Number(body)
      this.#unordered.add(number)
      const batch = this.#batchOf.get(number)!
      if (this.#acked.has(number)) continue
      if (batch.length > 1) this.#torn++
      for (const member of batch) {
        this.#toBeFound.delete(member)
        this.#maybe.add(member)
        this.#unordered.add(member)
      }
    }
    broker.loseTail(most)
  }

  async #crash(): Promise<void> {
    await this.#scene.environment.settled()
    for (const number of this.#toBeFound) this.#maybe.add(number)
    this.#toBeFound.clear()
    for (const { texts } of this.#out) for (const text of texts) this.#maybe.add(Number(text))
    this.#out = []
    await this.#scene.crash()
    this.#connections = []
    this.#connect()
  }

  async #end(): Promise<void> {
    const t = this.#t
    const { environment, remote, source } = this.#scene
    this.#scene.takeSends()
    for (const out of this.#out) {
      if (!out.stored && this.#random.chance(0.5)) this.#store(out)
      this.#lose(out)
    }
    this.#out = []
    source.connect(environment.network)
    await this.#scene.until('nobody is looked for', () => this.#scene.broker.unresolvedNow === 0)
    await this.#scene.allDone()
    // They were looked for longer than their queues waited.
    for (const { sending, texts } of this.#lost)
      if (sending.givenUp) for (const text of texts) this.#unordered.add(Number(text))
    const arrived = remote.broker.topics.get(TOPIC)!.map(({ messages }) => messages.map(({ body }) => Number(body)))
    const all = arrived.flat()
    t.is(new Set(all).size, all.length, `TEST_SEED=${this.#seed}: each once: ${all}`)
    for (const number of all)
      t.true(this.#acked.has(number) || this.#toBeFound.has(number) || this.#maybe.has(number), `${number} is of ours`)
    for (const number of this.#toBeFound) t.true(all.includes(number), `${number} was stored, and is found`)
    const missing = [...this.#acked].filter(number => !all.includes(number))
    for (const number of missing) t.true(this.#unordered.has(number), `${number} was acked, and is still at the source`)
    const { totals, acked } = this.#scene.account
    t.is(totals.lost.source ?? 0, acked - totals.replicated)
    t.true(missing.length <= (totals.lost.source ?? 0))
    t.true(totals.unresolved <= this.#torn)
    arrived.forEach((numbers, queueId) => {
      const places = numbers.filter(number => !this.#unordered.has(number)).map(number => this.#placeOf(number))
      t.deepEqual(
        places,
        [...places].sort((a, b) => a - b),
        `TEST_SEED=${this.#seed}: queue ${queueId}: order of ${numbers}`,
      )
    })
    await this.#scene.close()
    t.is(environment.clock.timers, 0)
  }

  /** Where the source has it. */
  #placeOf(number: number): number {
    return this.#scene.source.broker.log.findIndex(({ body }) => body.toString() === `${number}`)
  }
}

test('whatever becomes of the source and of the connections to it, each message is where it belongs', async t => {
  const seed = printedSeed(t)
  // Each round has a seed of its own: one that fails is the first when it is repeated with that.
  for (let round = 0; round < ROUNDS; round++) await Flow.run(t, seed + round)
})
