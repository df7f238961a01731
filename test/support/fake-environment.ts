// A world that a test plays by hand, for everything in replay/: disk, clock, network, chance and log, all in memory.
//
// Nothing in it happens by itself: what is due soon runs when the test settles it, time passes when the test lets it.
// A crash is a new environment with what the old one left on its disk. It knows no broker: a test serves addresses.

import { type ExtValue, encodeFrame, type Frame, type FrameHead, Framer } from '../../codec/index.ts'
import type { Clock } from '../../replay/clock.ts'
import type { Address, Connection, ConnectionEvents } from '../../replay/dial.ts'
import type { Environment } from '../../replay/environment.ts'
import type { Log } from '../../replay/log.ts'
import { FakeDisk } from './fake-disk.ts'
import { Random } from './random.ts'

export { type DiskOperation, FakeDisk } from './fake-disk.ts'

/** Timers that fire, or turns that pass, before it is said that what is waited for never comes. */
const PATIENCE = 5_000

export class FakeEnvironment implements Environment {
  readonly clock: FakeClock
  readonly fileSystem: FakeDisk
  readonly network: FakeNetwork
  readonly log = new FakeLog()
  readonly chance: Random
  readonly random = () => this.chance.next()
  readonly randomId = (bytes: number) => this.chance.bytes(bytes).toString('hex')
  readonly dial = (address: Address, events: ConnectionEvents) => this.network.dial(address, events)

  constructor(chance = new Random(1), disk = new FakeDisk(), now = 1_750_000_000_000) {
    this.chance = chance
    this.fileSystem = disk
    this.clock = new FakeClock(now)
    this.network = new FakeNetwork(this.clock)
  }

  /** Where the next process starts. After a power cut the disk has only what was synced. Nothing of this one runs on. */
  afterCrash(powerCut = false): FakeEnvironment {
    this.network.cut()
    return new FakeEnvironment(this.chance, this.fileSystem.afterCrash(powerCut), this.clock.now() + 1)
  }

  /** Lets everything happen that needs no time. */
  async settled(): Promise<void> {
    for (let turns = 0; turns < PATIENCE; turns++) {
      await new Promise(resolve => setImmediate(resolve))
      if (!this.clock.runSoon()) return
    }
    throw new Error('it never settles')
  }

  async pass(ms: number): Promise<void> {
    const end = Math.floor(this.clock.uptime()) + ms
    await this.settled()
    while (this.clock.fireNext(end)) await this.settled()
    this.clock.moveTo(end)
  }

  /** Lets time pass until it is so. Throws where it never is. */
  async until(what: string, condition: () => boolean): Promise<void> {
    await this.settled()
    for (let fired = 0; !condition(); fired++) {
      if (fired === PATIENCE || !this.clock.fireNext()) throw new Error(`it never came to this: ${what}`)
      await this.settled()
    }
  }
}

export class FakeClock implements Clock {
  #now: number
  /** How far the wall clock was set: back where it is negative. */
  #set = 0
  #timers: { at: number; call: () => void }[] = []
  #soon: (() => void)[] = []

  constructor(now: number) {
    this.#now = now
  }

  /** Whole milliseconds, as the real one's. */
  now(): number {
    return Math.floor(this.#now + this.#set)
  }

  /** Sets the wall clock, as a time server does; nothing that is due comes earlier or later. */
  set(ms: number): void {
    this.#set += ms
  }

  uptime(): number {
    return this.#now
  }

  after(ms: number, call: () => void): () => void {
    const timer = { at: this.#now + ms, call }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter(one => one !== timer)
    }
  }

  soon(call: () => void): void {
    this.#soon.push(call)
  }

  get timers(): number {
    return this.#timers.length
  }

  /** False where nothing was due. */
  runSoon(): boolean {
    const due = this.#soon
    this.#soon = []
    for (const call of due) call()
    return due.length > 0
  }

  /** Goes to the next timer and calls it; false where there is none until `end`. */
  fireNext(end = Number.POSITIVE_INFINITY): boolean {
    let next: { at: number; call: () => void } | undefined
    for (const timer of this.#timers) if (next === undefined || timer.at < next.at) next = timer
    if (next === undefined || next.at > end) return false
    this.#timers.splice(this.#timers.indexOf(next), 1)
    this.moveTo(next.at)
    next.call()
    return true
  }

  moveTo(now: number): void {
    this.#now = Math.max(this.#now, now)
  }
}

export interface FakeAnswer {
  code?: number
  remark?: string
  ext?: Iterable<readonly [string, ExtValue]>
  body?: Buffer
}

/** A request as the other side has it. It is answered, or the connection breaks, or nothing ever comes. */
export interface FakeRequest {
  address: string
  /** The connection that it came by. */
  connection: { readonly isOpen: boolean }
  head: FrameHead
  body: Buffer
  answer(answer: FakeAnswer): void
  breakOff(): void
}

type Serve = (request: FakeRequest) => void

export class FakeNetwork {
  /** Told of each write as it is made, before any of it is on its way. */
  onWrite: (address: string, bytes: Buffer) => void = () => {}
  readonly #clock: Clock
  readonly #served = new Map<string, Serve>()
  readonly #open = new Set<FakeConnection>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  serve(address: string, serve: Serve): void {
    this.#served.set(address, serve)
  }

  /** Ends its connections, and takes no more. */
  stop(address: string): void {
    this.#served.delete(address)
    for (const connection of [...this.#open]) if (connection.address === address) connection.end('stopped')
  }

  /** Nobody hears of anybody any more. */
  cut(): void {
    this.#served.clear()
    for (const connection of this.#open) connection.forget()
    this.#open.clear()
  }

  connections(address: string): number {
    return [...this.#open].filter(connection => connection.address === address).length
  }

  dial({ host, port }: Address, events: ConnectionEvents): Connection {
    const address = `${host}:${port}`
    const connection = new FakeConnection(this.#clock, address, events, this.#served, this.#open)
    this.#open.add(connection)
    return {
      write: bytes => {
        this.onWrite(address, bytes)
        connection.write(bytes)
      },
      reset: () => connection.end('ended by us'),
    }
  }
}

class FakeConnection {
  readonly address: string
  readonly #clock: Clock
  readonly #served: Map<string, Serve>
  readonly #open: Set<FakeConnection>
  readonly #framer = new Framer()
  #events: ConnectionEvents | undefined

  constructor(
    clock: Clock,
    address: string,
    events: ConnectionEvents,
    served: Map<string, Serve>,
    open: Set<FakeConnection>,
  ) {
    this.#clock = clock
    this.address = address
    this.#events = events
    this.#served = served
    this.#open = open
    clock.soon(() => {
      if (this.#served.has(address)) this.#events?.connected()
      else this.end('connection refused')
    })
  }

  write(bytes: Buffer): void {
    const copy = Buffer.from(bytes)
    this.#clock.soon(() => {
      if (this.#events !== undefined) for (const frame of this.#framer.push(copy)) this.#serve(frame)
    })
  }

  end(reason: string): void {
    const events = this.#events
    this.forget()
    this.#open.delete(this)
    this.#clock.soon(() => events?.closed(reason))
  }

  forget(): void {
    this.#events = undefined
  }

  get isOpen(): boolean {
    return this.#events !== undefined
  }

  #serve({ head, body }: Frame): void {
    this.#served.get(this.address)?.({
      address: this.address,
      connection: this,
      head,
      body,
      answer: ({ code = 0, remark, ext, body }) => {
        const frame = encodeFrame(
          { code, opaque: head.opaque, flag: 1, ...(remark && { remark }), ...(ext && { ext }) },
          body,
        )
        this.#clock.soon(() => this.#events?.data(frame))
      },
      breakOff: () => this.end('connection reset'),
    })
  }
}

export interface LogLine {
  level: keyof Log
  message: string
  fields: Record<string, unknown>
}

/** Says nothing, and remembers it. */
export class FakeLog implements Log {
  readonly lines: LogLine[] = []
  readonly debug = this.#write('debug')
  readonly info = this.#write('info')
  readonly warn = this.#write('warn')
  readonly error = this.#write('error')

  said(words: string): LogLine[] {
    return this.lines.filter(line => line.message.includes(words))
  }

  /** Messages that were said to be lost, run by run. */
  get lost(): number {
    return this.said('messages lost').reduce((sum, { fields }) => sum + Number(fields.messages), 0)
  }

  #write(level: keyof Log) {
    return (fields: object, message: string) => void this.lines.push({ level, message, fields: { ...fields } })
  }
}
