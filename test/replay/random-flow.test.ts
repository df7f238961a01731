// Whatever happens between an ack and the remote, and in whatever order: every acked message is at the remote once, in its
// order, or is a dead letter that the remote refused.

import test, { type ExecutionContext } from 'ava'
import { decodeHeader, encodeProperties } from '../../codec/index.ts'
import { type Random, seededRandom } from '../support/random.ts'
import type { FakeSend } from './fake-cluster.ts'
import { propertiesWith } from './sample.ts'
import { Scene, type Sending } from './scene.ts'

const ROUNDS = 60
const STEPS = 80
/** Unclear answers to one message of a healthy remote: with a third it would be a dead letter. */
const UNCLEAR_MOST = 2

type Trouble = 'crashes' | 'disk faults' | 'a remote that loses its tail'

class Flow {
  readonly #random: Random
  readonly #trouble: Trouble
  readonly #scene: Scene
  /** Acked messages by queue, as numbers in the order in which they were stored. */
  readonly #acked: number[][] = [[], []]
  /** Acked after their sends had been given up: they may come behind higher ones. */
  readonly #late = new Set<number>()
  /** What the remote never takes. */
  readonly #illegal = new Set<number>()
  readonly #unclear = new Map<number, number>()
  readonly #queueOf: number[] = []
  #out: Sending[] = []
  /** What the remote has of connections that are gone, or will have: until it is executed it lists their groups. */
  #arriving: { send: FakeSend; group: string }[] = []

  static async run(t: ExecutionContext, random: Random, trouble: Trouble): Promise<void> {
    const bodyMemory = random.pick([0, 1_500, 3_000, 1_000_000])
    const scene = await Scene.open({ random, bodyMemory, remoteQueues: random.pick([1, 2]) })
    const flow = new Flow(scene, random, trouble)
    flow.#moody()
    for (let step = 0; step < STEPS; step++) {
      await flow.#step()
      t.is(scene.broker.account.acked, flow.#ackedCount, `step ${step}`)
    }
    await flow.#end()
    flow.#check(t)
    await scene.close()
    t.is(scene.environment.clock.timers, 0)
  }

  private constructor(scene: Scene, random: Random, trouble: Trouble) {
    this.#scene = scene
    this.#random = random
    this.#trouble = trouble
  }

  get #ackedCount(): number {
    return this.#acked[0]!.length + this.#acked[1]!.length
  }

  async #step(): Promise<void> {
    const { environment, broker, remote } = this.#scene
    const random = this.#random
    if (random.chance(0.5)) this.#send()
    for (let count = random.integer(0, 2); count > 0 && this.#out.length > 0; count--)
      this.#answer(this.#out.splice(random.integer(0, this.#out.length - 1), 1)[0]!)
    if (random.chance(0.1)) this.#out.push(this.#scene.forward(random.integer(-1, 1)))
    // Else more comes in the same turn.
    if (random.chance(0.7)) await environment.settled()
    if (random.chance(0.1)) void broker.checkpoint().catch(() => {})
    if (random.chance(0.2)) await environment.pass(random.pick([random.integer(1, 2_000), 12_000]))
    if (this.#arriving.length > 0 && random.chance(0.3)) this.#executeLate()
    if (random.chance(0.03)) remote.disconnect(environment.network)
    else if (random.chance(0.1)) remote.connect(environment.network)
    if (this.#trouble === 'a remote that loses its tail' && random.chance(0.06)) await this.#loseTail()
    if (this.#trouble === 'disk faults' && random.chance(0.1)) this.#breakDisk()
    if (this.#trouble === 'crashes' && random.chance(0.06)) await this.#crash()
    await environment.settled()
  }

  /** One message or a batch is stored and not yet acked. */
  #send(): void {
    const random = this.#random
    const queueId = random.integer(0, 1)
    const send = this.#scene.forward(random.chance(0.2) ? -1 : queueId)
    for (let count = random.integer(1, 4); count > 0; count--) {
      const number = this.#queueOf.push(queueId) - 1
      if (random.chance(0.05)) this.#illegal.add(number)
      const kind = random.integer(0, 9)
      if (kind === 0) send.store(`${number}`, { queueId, properties: encodeProperties([['own', 'value']]) })
      else if (kind === 1) {
        const noRoom = propertiesWith(`${number}`, [['long', 'x'.repeat(32_300)]])
        send.store(`${number}`, { queueId, properties: noRoom })
      } else send.store(`${number}`, { queueId })
    }
    this.#out.push(send)
  }

  #answer(send: Sending): void {
    if (send.stored.length === 0) return send.refuse()
    send.ack()
    for (const { queueId, body } of send.stored) {
      this.#acked[queueId]!.push(Number(body))
      if (send.givenUp) this.#late.add(Number(body))
    }
  }

  #executeLate(): void {
    const { send, group } = this.#arriving.shift()!
    send.store()
    if (!this.#arriving.some(other => other.group === group)) this.#scene.remote.broker.lingering.delete(group)
  }

  #breakDisk(): void {
    const { fileSystem } = this.#scene.environment
    const chance = this.#random.pick([0, 0, 0.05, 0.3])
    fileSystem.tornBytes = this.#random.integer(0, 100)
    fileSystem.fault = operation =>
      ['append', 'create', 'sync', 'overwrite'].includes(operation) && this.#random.chance(chance)
        ? new Error('bad disk')
        : undefined
  }

  /** A power cut, with asynchronous flush. What it had received and not executed is gone, too. */
  async #loseTail(): Promise<void> {
    const { remote } = this.#scene
    const random = this.#random
    remote.disconnect(this.#scene.environment.network)
    if (random.chance(0.3)) await this.#crash()
    const { environment } = this.#scene
    remote.disconnect(environment.network)
    await environment.settled()
    this.#arriving = []
    remote.broker.lingering.clear()
    for (const [queueId, { messages }] of remote.broker.topics.get('orders')!.entries())
      if (messages.length > 0)
        remote.broker.loseTail('orders', queueId, random.integer(1, Math.min(messages.length, 6)))
    remote.connect(environment.network)
  }

  /** Up to three in a row. Nobody is told what became of what is out. */
  async #crash(): Promise<void> {
    const random = this.#random
    await this.#scene.environment.settled()
    this.#out = []
    for (let count = random.integer(1, 3); count > 0; count--) {
      if (random.chance(0.3)) {
        this.#scene.takeSends()
        this.#scene.remote.connect(this.#scene.environment.network)
        await this.#scene.restart()
      } else await this.#scene.crash()
      if (random.chance(0.5)) this.#scene.refuseSends(2)
      else this.#moody()
      if (random.chance(0.5)) await this.#scene.environment.pass(random.integer(1, 5_000))
    }
    this.#moody()
  }

  /** What may become of a send at the remote. */
  #moody(): void {
    const random = this.#random
    this.#scene.remote.broker.onSend = send => {
      const { request } = send
      const numbers = send.messages.map(({ body }) => Number(body))
      const all = numbers.map((_, index) => index)
      const isIllegal = numbers.some(number => this.#illegal.has(number))
      if (isIllegal && random.chance(0.8)) return request.answer({ code: 13 })
      const unclear = (which: number[]) => {
        if (numbers.some(number => (this.#unclear.get(number) ?? 0) >= UNCLEAR_MOST)) return request.breakOff()
        for (const number of numbers) this.#unclear.set(number, (this.#unclear.get(number) ?? 0) + 1)
        send.store(which)
        request.answer({ code: 1, remark: 'unknown' })
      }
      switch (random.integer(0, 14)) {
        case 13:
        case 14: {
          if (isIllegal) return request.answer({ code: 13 })
          const group = decodeHeader(request.head).ext.get('a') ?? ''
          this.#scene.remote.broker.lingering.add(group)
          this.#arriving.push({ send, group })
          return random.chance(0.5) ? request.breakOff() : undefined
        }
        case 0:
          return request.breakOff()
        case 1:
          send.store()
          return request.breakOff()
        case 2:
          send.store()
          return
        case 3:
          return unclear(all)
        case 4:
          return request.answer({ code: random.pick([2, 14, 16, 215]) })
        case 5:
          send.store(all.slice(0, random.integer(0, all.length)))
          return request.breakOff()
        case 6:
          return unclear(all.slice(0, random.integer(0, all.length)))
        case 7:
          return
        default:
          if (isIllegal) return request.answer({ code: 13 })
          send.answerStored(send.store())
      }
    }
  }

  /** Everything that is out is answered, all faults are over, and what waits arrives. */
  async #end(): Promise<void> {
    const { environment, remote } = this.#scene
    environment.fileSystem.fault = () => undefined
    for (const send of this.#out) this.#answer(send)
    while (this.#arriving.length > 0) this.#executeLate()
    remote.connect(environment.network)
    remote.broker.onSend = send =>
      send.messages.some(({ body }) => this.#illegal.has(Number(body)))
        ? send.request.answer({ code: 13 })
        : send.answerStored(send.store())
    await environment.settled()
    await this.#scene.allDone()
  }

  #check(t: ExecutionContext): void {
    const { broker, remote, replay } = this.#scene
    const ascending = (numbers: number[]) => [...numbers].sort((a, b) => a - b)
    const letters = this.#deadLetters()
    for (const letter of letters) t.true(this.#illegal.has(letter), `${letter} is a dead letter`)
    const arrivedAtAll = [...remote.broker.topics.get('orders')!].flatMap(({ messages }) =>
      messages.map(({ body }) => Number(body)),
    )
    for (const queueId of [0, 1]) {
      const arrived = arrivedAtAll.filter(number => this.#queueOf[number] === queueId)
      const expected = this.#acked[queueId]!.filter(number => arrived.includes(number) || !letters.has(number))
      t.deepEqual(ascending(arrived), ascending(expected), `queue ${queueId}`)
      // A dead letter that no cursor knows of is tried again after a crash; the remote may take it then.
      const inTime = arrived.filter(number => !this.#late.has(number) && !letters.has(number))
      t.deepEqual(inTime, ascending(inTime), `queue ${queueId}: order`)
    }
    t.deepEqual(broker.account.totals.lost, {})
    t.is(broker.account.acked, this.#ackedCount)
    t.is(replay.memory.used, 0)
  }

  #deadLetters(): Set<number> {
    const { fileSystem } = this.#scene.environment
    const letters = new Set<number>()
    // A line that was torn is written again elsewhere.
    for (const path of fileSystem.find(/^dead-letters-/))
      for (const line of fileSystem.bytes(path).toString().split('\n'))
        if (line.endsWith('}')) letters.add(Number(Buffer.from(JSON.parse(line).payload, 'base64')))
    return letters
  }
}

for (const trouble of ['crashes', 'disk faults', 'a remote that loses its tail'] as const)
  test(`every acked message arrives once, in its order, whatever the remote does, with ${trouble}`, async t => {
    const random = seededRandom(t)
    for (let round = 0; round < ROUNDS; round++) await Flow.run(t, random, trouble)
  })
