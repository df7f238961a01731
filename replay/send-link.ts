// A link to a remote broker that carries sends: one connection with a producer group of its own, the heart-beats that keep
// it, and the watch over sends without an answer.
//
// A send without answer is only late while its connection lives. After 10 s a cheap request goes over the same link: is it
// answered, the send's answer is lost and the link is ended; is it not, the broker is stalled, and is waited for. The 10 s
// count as in-flight.ts says. A link that has ended is not used again.

import { type ExtValue, encodeFrame, encodeHeartbeat, type Frame, RequestCode } from '../codec/index.ts'
import { type Answer, ASK_TIMEOUT, type Asked, answerOf } from './cluster.ts'
import { parseAddress } from './dial.ts'
import type { Environment } from './environment.ts'
import { InFlight, type Sent } from './in-flight.ts'
import { Link, LinkError } from './link.ts'

/** A broker closes a producer that is silent for 120 s (ProducerManager.java). */
const HEARTBEAT_INTERVAL = 30_000
/** With a send out for longer there is no heart-beat: one that a stalled broker executes late registers a dead link. */
const HEARTBEAT_HOLD = 1_000
const HEARTBEAT_TIMEOUT = 60_000
/** For the answer to a send, then to the cheap request; and in all, where neither comes. */
const SEND_TIMEOUT = 10_000
const PROBE_TIMEOUT = 1_000
const STALL_MOST = 60_000
/** Bytes of sends without answer, after which the next waits. One more request than this may be out. */
const IN_FLIGHT_BYTES = 8 * 1024 * 1024

export interface SendLinkEvents {
  connected(): void
  answered(): void
  /** Told before those who wait. */
  ended(reason: string): void
}

export class SendLink implements Asked {
  readonly group: string
  readonly address: string
  /** Whether a send was written. */
  carried = false
  readonly #name: string
  readonly #inFlightBytes: number
  readonly #environment: Environment
  readonly #events: SendLinkEvents
  readonly #link: Link
  readonly #inFlight = new InFlight()
  readonly #wantRoom: (() => void)[] = []
  readonly #waiting = new Set<(error: LinkError) => void>()
  #isEnded = false
  #isWatching = false
  #cancelHeartbeat = () => {}

  constructor(
    environment: Environment,
    name: string,
    address: string,
    group: string,
    events: SendLinkEvents,
    inFlightBytes = IN_FLIGHT_BYTES,
  ) {
    this.#environment = environment
    this.#name = name
    this.#inFlightBytes = inFlightBytes
    this.address = address
    this.group = group
    this.#events = events
    this.#link = new Link(environment, parseAddress(address))
    this.#link.onConnected = () => events.connected()
    this.#link.onEnded = reason => this.#ended(reason)
  }

  /** Its first heart-beat, which dials it; others follow. */
  async register(): Promise<Answer> {
    const body = encodeHeartbeat(this.group, this.group)
    const answer = await this.ask(this.address, RequestCode.HEART_BEAT, [], body)
    this.#scheduleHeartbeat(HEARTBEAT_INTERVAL)
    return answer
  }

  async ask(
    _: string,
    code: number,
    ext: Iterable<readonly [string, ExtValue]> = [],
    body?: Buffer,
    timeoutMs = ASK_TIMEOUT,
  ): Promise<Answer> {
    return answerOf(await this.request(opaque => encodeFrame({ code, opaque, ext }, body), timeoutMs))
  }

  /** Without a deadline it is waited for as long as the link lives. Throws LinkError. */
  async request(encode: (opaque: number) => Buffer, timeoutMs?: number): Promise<Frame> {
    if (this.#isEnded) throw this.#endedError()
    const frame = await this.#link.request(encode, timeoutMs)
    this.#events.answered()
    return frame
  }

  /** Whether the next send may go out; also where the link has ended: that send says so. */
  get hasRoom(): boolean {
    return this.#isEnded || this.#inFlight.bytes < this.#inFlightBytes
  }

  /** Resolves when there may be room. Who sends at once then is before those who have waited for less time. */
  roomChange(): Promise<void> {
    return new Promise(resolve => this.#wantRoom.push(resolve))
  }

  /** It is encoded and written before this returns. Throws LinkError. */
  async send(encode: (opaque: number) => Buffer): Promise<Frame> {
    if (this.#isEnded) throw this.#endedError()
    this.carried = true
    let sent: Sent | undefined
    const answer = this.request(opaque => {
      const bytes = encode(opaque)
      sent = this.#inFlight.add(bytes.length, this.#now())
      return bytes
    })
    this.#watch()
    const frame = await answer
    this.#inFlight.answered(sent!, this.#now())
    if (this.hasRoom) this.#wake()
    return frame
  }

  end(reason: string): void {
    this.#link.end(reason)
  }

  /** Rejects where the link ends. */
  async pause(ms: number): Promise<void> {
    await this.within(ms, new Promise<void>(() => {}))
  }

  /** What the promise gives; undefined where it is not there in time. Rejects where the link ends. */
  within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      promise.catch(() => {})
      if (this.#isEnded) return reject(this.#endedError())
      const settle = () => {
        cancel()
        this.#waiting.delete(fail)
      }
      const fail = (error: Error) => {
        settle()
        reject(error)
      }
      const cancel = this.#environment.clock.after(Math.max(0, ms), () => {
        settle()
        resolve(undefined)
      })
      this.#waiting.add(fail)
      promise.then(value => {
        settle()
        resolve(value)
      }, fail)
    })
  }

  /** For how long a send is out: a wall clock that is set back must not make that longer. */
  #now(): number {
    return this.#environment.clock.uptime()
  }

  #endedError(): LinkError {
    return new LinkError(`the link to ${this.#name} has ended`, false)
  }

  #ended(reason: string): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#cancelHeartbeat()
    this.#inFlight.clear()
    this.#events.ended(reason)
    for (const fail of [...this.#waiting]) fail(new LinkError(`${this.#name}: ${reason}`, false))
    this.#wake()
  }

  #wake(): void {
    for (const wake of this.#wantRoom.splice(0)) wake()
  }

  #scheduleHeartbeat(ms: number): void {
    this.#cancelHeartbeat = this.#environment.clock.after(ms, () => {
      const since = this.#inFlight.longest?.since
      if (since !== undefined && this.#now() - since > HEARTBEAT_HOLD) return this.#scheduleHeartbeat(HEARTBEAT_HOLD)
      const body = encodeHeartbeat(this.group, this.group)
      this.ask(this.address, RequestCode.HEART_BEAT, [], body, HEARTBEAT_TIMEOUT).catch(() => {})
      this.#scheduleHeartbeat(HEARTBEAT_INTERVAL)
    })
  }

  #watch(): void {
    if (this.#isWatching) return
    this.#isWatching = true
    this.#watchOn().catch(() => {})
  }

  /** As long as sends are out. Throws LinkError when the link has ended. */
  async #watchOn(): Promise<void> {
    for (;;) {
      const { longest } = this.#inFlight
      if (longest === undefined) break
      const left = longest.since + SEND_TIMEOUT - this.#now()
      if (left > 0) await this.pause(left)
      else await this.#overdue(longest)
    }
    this.#isWatching = false
  }

  async #overdue(sent: Sent & { since: number }): Promise<void> {
    const seconds = () => `for ${Math.round((this.#now() - sent.since) / 1_000)} s`
    while (this.#inFlight.has(sent)) {
      const probe = this.ask(this.address, RequestCode.GET_BROKER_RUNTIME_INFO, [], undefined, STALL_MOST)
      const soon = await this.within(PROBE_TIMEOUT, probe)
      if (!this.#inFlight.has(sent)) return
      if (soon !== undefined) return this.end(`the answer to a send is missing ${seconds()}, others come`)
      await this.within(Math.max(0, sent.since + STALL_MOST - this.#now()), probe)
      if (this.#inFlight.has(sent) && this.#now() >= sent.since + STALL_MOST)
        return this.end(`nothing was answered ${seconds()}`)
    }
  }
}
