// A remote broker as one source broker's lanes send to it: a link for sends alone, and what has to be known before any
// lane sends again after the link ended.
//
// A broker goes on to execute what it received on a connection that is gone, and the kernel of a killed process on what it
// holds for it. So each link has a producer group of its own, durable before it connects; a heart-beat with it is answered
// before the first send. After a link ended, and at a start, the broker is settled once for all lanes:
//   1  no earlier group is listed any more (204): nothing of an earlier link can arrive
//   2  what had arrived is executed or dropped: a pause, by the broker's own settings (26)
//   3  what is stored can be read: a marker is answered soon, another can be pulled (marker.ts); else by 28
// What of a lane's own stands there the lane finds out itself (settle.ts). A connection that ends meanwhile, or a broker
// that moves to another address, begins it again.
//
// A send without answer is only late while its connection lives. After 10 s a cheap request goes over the same link: is it
// answered, the send's answer is lost and the link is ended; is it not, the broker is stalled, and is waited for. The 10 s
// count as in-flight.ts says. It knows no queue and decides nothing about messages.

import {
  type ExtValue,
  encodeFrame,
  encodeHeartbeat,
  type Frame,
  producerConnections,
  RequestCode,
  ResponseCode,
  readBrokerConfig,
} from '../codec/index.ts'
import { Backoff } from './backoff.ts'
import { type Answer, ASK_TIMEOUT, type Asked, answerOf, RefusedError } from './cluster.ts'
import { parseAddress } from './dial.ts'
import type { Environment } from './environment.ts'
import { InFlight, type Sent } from './in-flight.ts'
import { Link, LinkError } from './link.ts'
import { encodeMarker, isReadable, type Marker, makeMarkerTopic, markerAnswer } from './marker.ts'
import { logEnd } from './reading.ts'
import { StoppedError } from './stopped-error.ts'
import { WaitError } from './wait-error.ts'

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
/** Between two looks whether an earlier link is gone. */
const LISTED_POLL_MOST = 1_000
/** The longest pause between two transmissions of a kernel: what it holds for a dead link arrives within it. */
const OUTAGE_MOST = 120_000
/** Times `waitTimeMillsInSendQueue`, after which BrokerFastFailure.java has dropped what was not executed. */
const EXECUTION_FACTOR = 5
const EXECUTION_LEAST = 1_000
const EXECUTION_UNKNOWN = 10_000
const MARKER_TIMEOUT = 1_000
const MARKER_MOST = 60_000
const READABLE_POLL = 20

/** Links of earlier processes. */
export interface EarlierLinks {
  /** Their groups, as far as it is not proven that they are gone; undefined: there may be some that nobody knows. */
  groups: readonly string[] | undefined
  /** When the broker last answered. */
  lastAnswerAt: number | undefined
}

export interface RemoteBrokerOptions {
  name: string
  gatewayId: string
  topicSync: 'create' | 'off'
  /** Undefined: no earlier process ever sent anything there. */
  earlier: EarlierLinks | undefined
  /** Resolves when the group is on the disk. */
  rememberGroup(group: string): Promise<void>
  forgetGroup(group: string): void
  /** Where the broker is now: asked to settle it also where no lane has anything to send. */
  address(): Promise<string>
  /** Told when it was settled anew: lanes look after what they had sent. */
  settledAnew(): void
}

export interface Settled {
  /** Changes with every settling. */
  readonly number: number
  readonly address: string
}

interface Settling {
  readonly address: string
  promise: Promise<Settled>
}

interface Connection extends Asked {
  readonly link: Link
  readonly group: string
  readonly address: string
  /** Whether a send of a lane was written. */
  carried: boolean
  markers: number
  /** Told with the end. */
  readonly waiting: Set<(error: LinkError) => void>
}

export class RemoteBroker {
  readonly name: string
  readonly #environment: Environment
  readonly #options: RemoteBrokerOptions
  /** Groups of earlier links of which bytes may still arrive. */
  readonly #earlier: Set<string>
  /** Whether there may be other earlier links. */
  #unknownEarlier: boolean
  /** Whether anything was ever sent there: each new link has to find out what became of it. */
  #owed: boolean
  #lastAnswerAt: number | undefined
  /** When the broker last answered before the link ended, until it is settled again. */
  #outageSince: number | undefined
  /** A group that never connected: the next link has it. */
  #unusedGroup: string | undefined
  #connection: Connection | undefined
  #settled: Settled | undefined
  #settling: Settling | undefined
  #number = 0
  readonly #inFlight = new InFlight()
  readonly #wantRoom: (() => void)[] = []
  #watching = false
  #cancelHeartbeat = () => {}
  #reviving = false
  #marking: Promise<void> | undefined
  #markingNext: Promise<void> | undefined
  #stopped = false
  #wakeReviver = () => {}

  constructor(environment: Environment, options: RemoteBrokerOptions) {
    this.#environment = environment
    this.#options = options
    this.name = options.name
    const { earlier } = options
    this.#earlier = new Set(earlier?.groups)
    this.#unknownEarlier = earlier !== undefined && earlier.groups === undefined
    // Also where all groups are gone: what they brought may be under way still.
    this.#owed = earlier !== undefined
    this.#lastAnswerAt = earlier?.lastAnswerAt
    this.#outageSince = earlier && (earlier.lastAnswerAt ?? Number.NEGATIVE_INFINITY)
  }

  get isUp(): boolean {
    return this.#settled !== undefined
  }

  /** When it last answered, for the age of what is kept about it. */
  get lastAnswerAt(): number | undefined {
    return this.#lastAnswerAt
  }

  /** Resolves when lanes may send to it. Throws LinkError, RefusedError, WaitError, StoppedError: to be tried again. */
  ready(address: string): Promise<Settled> {
    if (this.#stopped) return Promise.reject(new StoppedError('the gateway stops'))
    if (this.#settled?.address === address) return Promise.resolve(this.#settled)
    if (this.#settling?.address !== address) {
      this.#connection?.link.end(`broker ${this.name} is at ${address} now`)
      const settling = { address } as Settling
      this.#settling = settling
      settling.promise = this.#settle(settling).finally(() => {
        if (this.#settling === settling) this.#settling = undefined
      })
    }
    return this.#settling.promise
  }

  /** Sends what `encode` makes; resolves with the answer, whatever its code. Throws LinkError. */
  async send(settled: Settled, encode: (opaque: number, producerGroup: string) => Buffer): Promise<Frame> {
    const connection = this.#connection
    while (this.#settled === settled && this.#inFlight.bytes >= IN_FLIGHT_BYTES)
      await new Promise<void>(resolve => this.#wantRoom.push(resolve))
    if (this.#settled !== settled || connection === undefined)
      throw new LinkError(`the link to ${this.name} has ended`, false)
    connection.carried = true
    this.#owed = true
    let sent: Sent | undefined
    const answer = connection.link.request(opaque => {
      const bytes = encode(opaque, connection.group)
      sent = this.#inFlight.add(bytes.length, this.#now())
      return bytes
    })
    this.#watch(connection)
    const frame = await answer
    if (this.#connection === connection) {
      this.#inFlight.answered(sent!, this.#now())
      this.#lastAnswerAt = this.#now()
      if (this.#inFlight.bytes < IN_FLIGHT_BYTES) this.#wantRoom.shift()?.()
    }
    return frame
  }

  /** Resolves when all that the broker had stored before this call can be read. Throws as `ready`. */
  readable(): Promise<void> {
    if (this.#marking === undefined) {
      this.#marking = this.#mark().finally(() => {
        this.#marking = undefined
      })
      return this.#marking
    }
    // The marker that is under way may have been stored before: all who come meanwhile share the next.
    this.#markingNext ??= this.#marking
      .catch(() => {})
      .then(() => {
        this.#markingNext = undefined
        return this.readable()
      })
    return this.#markingNext
  }

  /** Settles no more; what is out is still answered. */
  stop(): void {
    this.#stopped = true
    this.#wakeReviver()
    if (this.#settled === undefined) this.#connection?.link.end('the gateway stops')
  }

  end(): void {
    this.stop()
    this.#connection?.link.end('the gateway stops')
  }

  #now(): number {
    return this.#environment.clock.now()
  }

  async #settle(settling: Settling): Promise<Settled> {
    const { log } = this.#environment
    const { address } = settling
    const began = this.#now()
    const connection = await this.#connect(settling)
    try {
      if (this.#owed) {
        await this.#earlierGone(connection)
        await this.#executed(connection)
      }
    } catch (error) {
      connection.link.end('the remote broker could not be settled')
      throw error
    }
    this.#outageSince = undefined
    this.#settled = { number: ++this.#number, address }
    log.info({ broker: this.name, address, ms: this.#now() - began }, 'the remote broker is settled')
    this.#options.settledAnew()
    return this.#settled
  }

  async #connect(settling: Settling): Promise<Connection> {
    const { address } = settling
    const { gatewayId } = this.#options
    const group = this.#unusedGroup ?? `TEE_${gatewayId}_${this.#environment.randomId(6)}`
    this.#unusedGroup = group
    await this.#options.rememberGroup(group)
    if (this.#stopped) throw new StoppedError('the gateway stops')
    if (this.#settling !== settling)
      throw new LinkError(`${address} is not the address of ${this.name} any more`, false)
    const link = new Link(this.#environment, parseAddress(address))
    const connection: Connection = {
      link,
      group,
      address,
      carried: false,
      markers: 0,
      waiting: new Set(),
      ask: async (_, code, ext, body) => answerOf(await this.#request(connection, ASK_TIMEOUT, code, ext, body)),
    }
    this.#connection = connection
    link.onConnected = () => {
      this.#unusedGroup = undefined
    }
    link.onEnded = reason => this.#ended(connection, reason)
    const { header } = await connection.ask(address, RequestCode.HEART_BEAT, [], encodeHeartbeat(group, group))
    if (header.code !== ResponseCode.SUCCESS) {
      link.end('the heart-beat was refused')
      throw new RefusedError(header.code, `the heart-beat at ${this.name}`, header.remark)
    }
    this.#scheduleHeartbeat(connection, HEARTBEAT_INTERVAL)
    return connection
  }

  #ended(connection: Connection, reason: string): void {
    if (this.#connection !== connection) return
    const wasSettled = this.#settled !== undefined
    this.#connection = undefined
    this.#settled = undefined
    this.#cancelHeartbeat()
    this.#inFlight.clear()
    this.#watching = false
    // Without a lane's send on it nothing of it can be in the way. Its heart-beat was answered before the first.
    if (connection.carried) this.#earlier.add(connection.group)
    else if (this.#unusedGroup !== connection.group) this.#options.forgetGroup(connection.group)
    if (this.#owed) this.#outageSince ??= this.#lastAnswerAt ?? this.#now()
    for (const fail of [...connection.waiting]) fail(new LinkError(`${this.name}: ${reason}`, false))
    for (const wake of this.#wantRoom.splice(0)) wake()
    if (wasSettled && this.#owed && !this.#stopped) this.#revive()
  }

  /** It is settled again also where no lane has anything to send: what they had sent may be gone. */
  async #revive(): Promise<void> {
    if (this.#reviving) return
    this.#reviving = true
    const backoff = new Backoff(5_000, this.#environment.random)
    while (!this.#stopped && this.#settled === undefined) {
      try {
        const address = await this.#options.address()
        // A lane that was faster knows as well where it is.
        await (this.#settling?.promise ?? this.ready(address))
      } catch {
        await new Promise<void>(resolve => {
          const cancel = this.#environment.clock.after(backoff.next(), resolve)
          this.#wakeReviver = () => {
            cancel()
            resolve()
          }
        })
      }
    }
    this.#reviving = false
  }

  // Step 1

  async #earlierGone(connection: Connection): Promise<void> {
    const outage = Math.min(OUTAGE_MOST, Math.max(0, this.#now() - (this.#outageSince ?? this.#now())))
    const waited = this.#now() + outage
    for (const group of this.#earlier) {
      const backoff = new Backoff(LISTED_POLL_MOST, this.#environment.random)
      for (;;) {
        const listed = await this.#isListed(connection, group)
        if (listed === false) break
        if (listed === undefined) {
          await this.#pause(connection, waited - this.#now())
          break
        }
        await this.#pause(connection, backoff.next())
      }
      this.#earlier.delete(group)
      this.#options.forgetGroup(group)
    }
    if (!this.#unknownEarlier) return
    await this.#pause(connection, waited - this.#now())
    this.#unknownEarlier = false
  }

  /** Undefined: the broker does not tell. */
  async #isListed(connection: Connection, group: string): Promise<boolean | undefined> {
    const { header, body } = await connection.ask(connection.address, RequestCode.GET_PRODUCER_CONNECTION_LIST, [
      ['producerGroup', group],
    ])
    if (isBusy(header.code)) return true
    const count = producerConnections(header.code, header.remark ?? '', body)
    return count === undefined ? undefined : count > 0
  }

  // Steps 2 and 3

  async #executed(connection: Connection): Promise<void> {
    const ms = await this.#executionTime(connection)
    for (const until = this.#now() + MARKER_MOST; this.#now() < until; ) {
      await this.#pause(connection, ms)
      const first = await this.#markOnce(connection)
      if (first === 'refused') {
        await this.#pause(connection, EXECUTION_UNKNOWN - ms)
        return this.#readableByLog(connection)
      }
      if (first === 'late') continue
      const second = await this.#markOnce(connection)
      if (typeof second === 'object') return this.#whenReadable(connection, second.marker, second.offset)
    }
    throw new WaitError(`the remote's broker ${this.name} does not take a marker of ours within ${MARKER_TIMEOUT} ms`)
  }

  /** Milliseconds after which a request that the broker had received is executed or dropped. */
  async #executionTime(connection: Connection): Promise<number> {
    let answer: Answer
    do {
      answer = await connection.ask(connection.address, RequestCode.GET_BROKER_CONFIG)
      if (isBusy(answer.header.code)) await this.#pause(connection, READABLE_POLL)
    } while (isBusy(answer.header.code))
    if (answer.header.code !== ResponseCode.SUCCESS) return EXECUTION_UNKNOWN
    const settings = readBrokerConfig(answer.body)
    const inQueue = Number(settings.get('waitTimeMillsInSendQueue'))
    if (settings.get('brokerFastFailureEnable') !== 'true' || !(inQueue > 0)) return EXECUTION_UNKNOWN
    return Math.max(EXECUTION_LEAST, EXECUTION_FACTOR * inQueue)
  }

  async #mark(): Promise<void> {
    const connection = this.#connection
    if (connection === undefined) throw new LinkError(`the link to ${this.name} has ended`, false)
    const stored = await this.#markOnce(connection)
    if (stored === 'refused') return this.#readableByLog(connection)
    if (stored === 'late')
      throw new WaitError(`the remote's broker ${this.name} does not take a marker of ours within ${MARKER_TIMEOUT} ms`)
    return this.#whenReadable(connection, stored.marker, stored.offset)
  }

  async #markOnce(connection: Connection): Promise<{ marker: Marker; offset: number } | 'late' | 'refused'> {
    const marker = {
      text: `${connection.group}:${connection.markers++}`,
      bornTimestamp: this.#now(),
      producerGroup: connection.group,
    }
    const frame = await this.#within(
      connection,
      MARKER_TIMEOUT,
      this.#live(connection).request(opaque => encodeMarker(marker, opaque)),
    )
    if (frame === undefined) return 'late'
    const answer = markerAnswer(frame)
    if (typeof answer === 'number') return { marker, offset: answer }
    if (answer === 'busy') return 'late'
    if (answer === 'refused' || this.#options.topicSync === 'off') return 'refused'
    return (await makeMarkerTopic(connection, connection.address)) ? this.#markOnce(connection) : 'refused'
  }

  async #whenReadable(connection: Connection, marker: Marker, offset: number): Promise<void> {
    for (const until = this.#now() + MARKER_MOST; this.#now() < until; ) {
      try {
        if (await isReadable(connection, connection.address, marker, offset)) return
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error
        if (!isBusy(error.code)) return this.#readableByLog(connection)
      }
      await this.#pause(connection, READABLE_POLL)
    }
    throw new WaitError(`what the remote's broker ${this.name} has stored cannot be read`)
  }

  async #readableByLog(connection: Connection): Promise<void> {
    const { end } = await logEnd(connection, connection.address)
    while ((await logEnd(connection, connection.address)).readable < end) await this.#pause(connection, READABLE_POLL)
  }

  // The link

  #live(connection: Connection): Link {
    if (this.#connection !== connection) throw new LinkError(`the link to ${this.name} has ended`, false)
    return connection.link
  }

  async #request(
    connection: Connection,
    timeoutMs: number,
    code: number,
    ext: Iterable<readonly [string, ExtValue]> = [],
    body?: Buffer,
  ): Promise<Frame> {
    const link = this.#live(connection)
    const frame = await link.request(opaque => encodeFrame({ code, opaque, ext }, body), timeoutMs)
    this.#lastAnswerAt = this.#now()
    return frame
  }

  #scheduleHeartbeat(connection: Connection, ms: number): void {
    this.#cancelHeartbeat = this.#environment.clock.after(ms, () => {
      const since = this.#inFlight.longest?.since
      if (since !== undefined && this.#now() - since > HEARTBEAT_HOLD)
        return this.#scheduleHeartbeat(connection, HEARTBEAT_HOLD)
      const body = encodeHeartbeat(connection.group, connection.group)
      this.#request(connection, HEARTBEAT_TIMEOUT, RequestCode.HEART_BEAT, [], body).catch(() => {})
      this.#scheduleHeartbeat(connection, HEARTBEAT_INTERVAL)
    })
  }

  #watch(connection: Connection): void {
    if (this.#watching) return
    this.#watching = true
    this.#watchOn(connection).catch(() => {})
  }

  /** As long as sends are out. Throws LinkError when the link has ended. */
  async #watchOn(connection: Connection): Promise<void> {
    for (;;) {
      const { longest } = this.#inFlight
      if (longest === undefined) break
      const left = longest.since + SEND_TIMEOUT - this.#now()
      if (left > 0) await this.#pause(connection, left)
      else await this.#overdue(connection, longest)
    }
    this.#watching = false
  }

  async #overdue(connection: Connection, sent: Sent & { since: number }): Promise<void> {
    const seconds = () => `for ${Math.round((this.#now() - sent.since) / 1_000)} s`
    while (this.#inFlight.has(sent)) {
      const probe = this.#request(connection, STALL_MOST, RequestCode.GET_BROKER_RUNTIME_INFO)
      const soon = await this.#within(connection, PROBE_TIMEOUT, probe)
      if (!this.#inFlight.has(sent)) return
      if (soon !== undefined) return connection.link.end(`the answer to a send is missing ${seconds()}, others come`)
      await this.#within(connection, Math.max(0, sent.since + STALL_MOST - this.#now()), probe)
      if (this.#inFlight.has(sent) && this.#now() >= sent.since + STALL_MOST)
        return connection.link.end(`nothing was answered ${seconds()}`)
    }
  }

  /** Rejects where the link ends. */
  #pause(connection: Connection, ms: number): Promise<void> {
    return this.#within(connection, ms, new Promise<void>(() => {}))
  }

  /** What the promise gives; undefined where it is not there in time. Rejects where the link ends. */
  #within<T>(connection: Connection, ms: number, promise: Promise<T>): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      promise.catch(() => {})
      if (this.#connection !== connection) return reject(new LinkError(`the link to ${this.name} has ended`, false))
      const settle = () => {
        cancel()
        connection.waiting.delete(fail)
      }
      const fail = (error: Error) => {
        settle()
        reject(error)
      }
      const cancel = this.#environment.clock.after(Math.max(0, ms), () => {
        settle()
        resolve(undefined)
      })
      connection.waiting.add(fail)
      promise.then(value => {
        settle()
        resolve(value)
      }, fail)
    })
  }
}

function isBusy(code: number): boolean {
  return code === ResponseCode.SYSTEM_BUSY || code === ResponseCode.FLOW_CONTROL
}
