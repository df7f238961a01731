// A network in memory: machines, connections between them, and what becomes of bytes on their way.
//
// Each direction of a connection keeps its order and has a latency of its own. What a machine's kernel has taken goes on
// when its process ends, and arrives later than a new connection's where the way was cut (seen: 1 s later); a reset by its owner
// drops it, as far as it has not left. A partition lets nothing through, in both directions, and says nothing.

import type { FakeClock } from '../support/fake-environment.ts'
import type { Random } from '../support/random.ts'

/** A process and its kernel, as the network sees them. */
export interface Host {
  readonly name: string
  /** Runs what comes from outside, now or when the process can; never once it has ended. */
  deliver(call: () => void): void
  /** When what it writes now leaves it: later than now where it is stalled. */
  now(): number
}

export interface EndEvents {
  connected?(): void
  data(bytes: Buffer): void
  /** The other side writes no more. */
  ended?(): void
  closed(reason: string): void
  drained?(): void
}

export interface NetworkOptions {
  /** Milliseconds, at most. */
  latency: number
  /** Bytes on their way, from which on a writer is asked to wait. */
  highWater: number
  /** Whether chunks are cut and joined on their way. */
  cutsChunks: boolean
  /** Whether what a kernel still has of an ended process arrives after a partition. */
  lateBytes: boolean
}

interface Item {
  kind: 'data' | 'fin' | 'reset'
  bytes: Buffer
  at: number
}

const NONE = Buffer.alloc(0)
/** How long a connection may take to come up: what dialTcp gives it. */
const CONNECT_TIMEOUT = 3_000
/** After a partition a kernel sends again when its timer says so. */
const RETRANSMISSION_MOST = 1_500

export class Network {
  readonly clock: FakeClock
  readonly options: NetworkOptions
  readonly chance: Random
  readonly #listeners = new Map<string, { host: Host; accept: (end: End) => void }>()
  readonly #partitions = new Set<string>()
  readonly ends = new Set<End>()
  /** Milliseconds after a partition until a kernel sends again for a process that has ended, where it is to be exact. */
  retransmission: number | undefined
  #parked: End[] = []

  constructor(clock: FakeClock, options: NetworkOptions, chance: Random) {
    this.clock = clock
    this.options = options
    this.chance = chance
  }

  get latency(): number {
    return 0.02 + this.chance.next() ** 3 * this.options.latency
  }

  listen(address: string, host: Host, accept: (end: End) => void): void {
    this.#listeners.set(address, { host, accept })
  }

  stopListening(address: string): void {
    this.#listeners.delete(address)
  }

  isUp(one: string, other: string): boolean {
    return !this.#partitions.has(pair(one, other))
  }

  partition(one: string, other: string): void {
    this.#partitions.add(pair(one, other))
  }

  heal(one?: string, other?: string): void {
    if (one === undefined) this.#partitions.clear()
    else this.#partitions.delete(pair(one, other!))
    const parked = this.#parked
    this.#parked = []
    for (const end of parked) end.resend()
  }

  park(end: End): void {
    this.#parked.push(end)
  }

  /** `events` are told on the host. */
  connect(host: Host, address: string, events: EndEvents, timeout = CONNECT_TIMEOUT): End {
    const end = new End(this, host, events, address)
    this.ends.add(end)
    const listener = this.#listeners.get(address)
    const reachable = listener === undefined || this.isUp(host.name, listener.host.name)
    if (!reachable) {
      this.clock.after(timeout, () => end.fail(`no connection within ${timeout} ms`))
      return end
    }
    this.clock.after(this.latency, () => {
      const now = this.#listeners.get(address)
      if (end.isClosed) return
      if (now === undefined) return end.fail('connection refused')
      const other = new End(this, now.host, { data: () => {}, closed: () => {} }, host.name)
      this.ends.add(other)
      end.join(other)
      now.host.deliver(() => now.accept(other))
      this.clock.after(this.latency, () => end.up())
    })
    return end
  }

  /** Both sides of each connection between two hosts learn that it is gone. */
  cut(one: string, other: string): number {
    let count = 0
    for (const end of [...this.ends])
      if (end.host.name === one && end.peer?.host.name === other) {
        count++
        const { peer } = end
        end.fail('connection reset')
        peer.fail('connection reset')
      }
    return count
  }

  /** A process has ended; its kernel closes its connections. After a power cut nobody says anything. */
  ended(host: Host, powerCut: boolean): void {
    for (const [address, listener] of this.#listeners) if (listener.host === host) this.#listeners.delete(address)
    for (const end of [...this.ends]) if (end.host === host) end.ownerEnded(powerCut)
  }

  openEnds(host: Host): number {
    let count = 0
    for (const end of this.ends) if (end.host === host) count++
    return count
  }
}

function pair(one: string, other: string): string {
  return one < other ? `${one} ${other}` : `${other} ${one}`
}

/** One side of a connection. */
export class End {
  readonly host: Host
  readonly to: string
  readonly #network: Network
  #events: EndEvents
  #peer: End | undefined
  #out: Item[] = []
  #pumping = false
  #isUp = false
  #closed = false
  #wroteEnd = false
  #paused = false
  #unread: Item[] = []
  #inFlight = 0
  #needsDrain = false
  #lastAt = 0

  constructor(network: Network, host: Host, events: EndEvents, to: string) {
    this.#network = network
    this.host = host
    this.to = to
    this.#events = events
  }

  get peer(): End | undefined {
    return this.#peer
  }

  get isClosed(): boolean {
    return this.#closed
  }

  get bytesInFlight(): number {
    return this.#inFlight
  }

  get needsDrain(): boolean {
    return this.#needsDrain
  }

  set events(events: EndEvents) {
    this.#events = events
  }

  join(peer: End): void {
    this.#peer = peer
    peer.#peer = this
    peer.#isUp = true
  }

  up(): void {
    if (this.#closed) return
    this.#isUp = true
    this.#tell(() => this.#events.connected?.())
    this.#pump()
  }

  write(bytes: Buffer): void {
    if (this.#closed || this.#wroteEnd) return
    const { chance, options } = this.#network
    // Copied: the kernel has what was written, whatever becomes of the buffer.
    let rest = Buffer.from(new Uint8Array(bytes).buffer)
    this.#inFlight += rest.length
    this.#needsDrain ||= this.#inFlight > options.highWater
    while (options.cutsChunks && rest.length > 1 && chance.chance(0.1)) {
      const cut = chance.integer(1, rest.length - 1)
      this.#push('data', Buffer.from(new Uint8Array(rest.subarray(0, cut)).buffer))
      rest = Buffer.from(new Uint8Array(rest.subarray(cut)).buffer)
    }
    this.#push('data', rest)
  }

  /** Writes no more; what comes is still read. */
  end(): void {
    if (this.#closed || this.#wroteEnd) return
    this.#wroteEnd = true
    this.#push('fin', NONE)
  }

  /** Lets go of it; what the kernel has of it goes on. */
  destroy(): void {
    if (this.#closed) return
    this.#close()
    if (!this.#wroteEnd) this.#push('fin', NONE)
    this.#wroteEnd = true
  }

  /** Ends it at once: what has not left yet is dropped. */
  reset(): void {
    if (this.#closed) return
    this.#close()
    const leaves = this.#peer !== undefined && this.#network.isUp(this.host.name, this.#peer.host.name)
    // Of a stream only a prefix can have left.
    this.#out = leaves ? this.#out.slice(0, this.#network.chance.integer(0, this.#out.length)) : []
    if (leaves) this.#push('reset', NONE)
  }

  /** The process ended that it belongs to. */
  ownerEnded(powerCut: boolean): void {
    if (this.#closed) return
    this.#close()
    const parked = this.#peer !== undefined && !this.#network.isUp(this.host.name, this.#peer.host.name)
    if (powerCut || (parked && !this.#network.options.lateBytes)) this.#out = []
    else this.#push('fin', NONE)
  }

  /** It is found to be gone. */
  fail(reason: string): void {
    if (this.#closed) return
    this.#close()
    this.#out = []
    this.#tell(() => this.#events.closed(reason), true)
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    const unread = this.#unread
    this.#unread = []
    for (const item of unread) this.#arrive(item)
  }

  /** Calls its owner in a turn of its own. */
  soon(call: () => void): void {
    this.#network.clock.after(0, () => this.host.deliver(call))
  }

  /** The way is open again. */
  resend(): void {
    const { chance, latency, retransmission } = this.#network
    const late = this.#closed ? (retransmission ?? chance.next() * RETRANSMISSION_MOST) : latency
    for (const item of this.#out) item.at = Math.max(item.at, this.#network.clock.now() + late)
    this.#pumping = false
    this.#pump()
  }

  #close(): void {
    this.#closed = true
    this.#network.ends.delete(this)
    this.#unread = []
  }

  #push(kind: Item['kind'], bytes: Buffer): void {
    const at = Math.max(this.#lastAt, this.host.now() + this.#network.latency)
    this.#lastAt = at
    this.#out.push({ kind, bytes, at })
    this.#pump()
  }

  #pump(): void {
    const [item] = this.#out
    if (this.#pumping || item === undefined || !(this.#isUp || this.#closed) || this.#peer === undefined) return
    this.#pumping = true
    const { clock } = this.#network
    clock.after(Math.max(0, item.at - clock.now()), () => this.#leave(item))
  }

  #leave(item: Item): void {
    // Dropped, or kept back by a partition, meanwhile.
    if (this.#out[0] !== item || this.#peer === undefined) {
      this.#pumping = false
      return this.#pump()
    }
    const peer = this.#peer
    if (!this.#network.isUp(this.host.name, peer.host.name)) return this.#network.park(this)
    this.#pumping = false
    this.#out.shift()
    if (peer.#closed) {
      // Its kernel knows nothing of it.
      this.#out = []
      if (item.kind === 'data') this.fail('connection reset')
      return
    }
    peer.#arrive(item)
    this.#pump()
  }

  #arrive(item: Item): void {
    if (this.#closed) return
    if (this.#paused && item.kind !== 'reset') return void this.#unread.push(item)
    if (item.kind === 'reset') return this.fail('connection reset')
    this.#tell(() => {
      if (item.kind === 'fin') this.#events.ended?.()
      else {
        this.#peer!.#read(item.bytes.length)
        this.#events.data(item.bytes)
      }
    })
  }

  #read(bytes: number): void {
    this.#inFlight -= bytes
    if (!this.#needsDrain || this.#inFlight > 0) return
    this.#needsDrain = false
    this.#tell(() => this.#events.drained?.())
  }

  #tell(call: () => void, last = false): void {
    this.host.deliver(() => {
      if (!this.#closed || last) call()
    })
  }
}
