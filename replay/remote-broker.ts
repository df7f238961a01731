// A remote broker as one source broker's lanes send to it: a link for sends alone, and what has to be known before any
// lane sends again after the link ended.
//
// A broker goes on to execute what it received on a connection that is gone, and the kernel of a killed process on what it
// holds for it. So each link has a producer group of its own, durable before it connects; a heart-beat with it is answered
// before the first send. After a link ended, and at a start, the broker is settled once for all lanes:
//   1  no earlier group is listed any more (204): nothing of an earlier link can arrive
//   2  what had arrived is executed or dropped: a pause, by the broker's own settings (26)
//   3  what is stored can be read: a marker is answered soon, another can be pulled (marker.ts); else by 28
// What of a lane's own stands there the lane finds out itself (remote-tail.ts). A connection that ends meanwhile, or a broker
// that moves to another address, begins it again. It knows no queue and decides nothing about messages.

import { type Frame, producerConnections, RequestCode, ResponseCode } from '../codec/index.ts'
import { Backoff } from './backoff.ts'
import { Sleep } from './clock.ts'
import { type Answer, RefusedError } from './cluster.ts'
import { Coalesced } from './coalesced.ts'
import type { Environment } from './environment.ts'
import { EXECUTION_UNKNOWN, pauseOf } from './execution-pause.ts'
import { LinkError } from './link.ts'
import { encodeMarker, isReadable, type Marker, makeMarkerTopic, markerAnswer } from './marker.ts'
import { logEnd } from './reading.ts'
import { SendLink } from './send-link.ts'
import { StoppedError } from './stopped-error.ts'
import { WaitError } from './wait-error.ts'

/** Between two looks whether an earlier link is gone. */
const LISTED_POLL_MOST = 1_000
/** The longest pause between two transmissions of a kernel: what it holds for a dead link arrives within it. */
export const OUTAGE_MOST = 120_000
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
  /** Bytes of sends without answer on one link, after which the next waits; undefined: as many as are usual. */
  inFlightBytes?: number | undefined
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

/** By both clocks: the wall clock for what is on disk, uptime for how long ago it is. */
interface Moment {
  at: number
  uptime: number
}

const UNKNOWN: Moment = { at: Number.NEGATIVE_INFINITY, uptime: Number.NEGATIVE_INFINITY }

interface Settling {
  readonly address: string
  promise: Promise<Settled>
}

/** Milliseconds between two looks whether the name of a broker that is settled stands for another address. */
const ADDRESS_INTERVAL = 30_000

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
  #lastAnswer: Moment | undefined
  /** When the broker last answered before the link ended, until it is settled again. */
  #outageSince: Moment | undefined
  /** A group that never connected: the next link has it. */
  #unusedGroup: string | undefined
  #link: SendLink | undefined
  #markers = 0
  #settled: Settled | undefined
  #settling: Settling | undefined
  #number = 0
  #reviving = false
  #cancelWatch: () => void = () => {}
  readonly #revivalSleep: Sleep
  /** A marker that is under way may have been stored before what has to be readable. */
  readonly #marks = new Coalesced(() => this.#mark())
  #stopped = false

  constructor(environment: Environment, options: RemoteBrokerOptions) {
    this.#environment = environment
    this.#options = options
    this.name = options.name
    this.#revivalSleep = new Sleep(environment.clock)
    const { earlier } = options
    this.#earlier = new Set(earlier?.groups)
    this.#unknownEarlier = earlier !== undefined && earlier.groups === undefined
    // Also where all groups are gone: what they brought may be under way still.
    this.#owed = earlier !== undefined
    this.#lastAnswer = this.#momentAt(earlier?.lastAnswerAt)
    this.#outageSince = earlier && (this.#lastAnswer ?? UNKNOWN)
  }

  get isUp(): boolean {
    return this.#settled !== undefined
  }

  /** Undefined while lanes may not send to it. */
  get settled(): Settled | undefined {
    return this.#settled
  }

  /** Something was sent there, and whether it still stands there is not known until the broker is settled. */
  get isUnsettled(): boolean {
    return this.#owed && this.#settled === undefined
  }

  /**
   * When it last answered, for the age of what is kept about it. While it is being settled, before that: what it had then may be gone, and is yet to be
   * looked after.
   */
  get lastAnswerAt(): number | undefined {
    if (this.#settled !== undefined || this.#outageSince === undefined) return this.#lastAnswer?.at
    return this.#outageSince === UNKNOWN ? undefined : this.#outageSince.at
  }

  /** Resolves when lanes may send to it. Throws LinkError, RefusedError, WaitError, StoppedError: to be tried again. */
  ready(address: string): Promise<Settled> {
    if (this.#stopped) return Promise.reject(new StoppedError('the gateway stops'))
    if (this.#settled?.address === address) return Promise.resolve(this.#settled)
    if (this.#settling?.address !== address) {
      this.#link?.end(`broker ${this.name} is at ${address} now`)
      const settling = { address } as Settling
      this.#settling = settling
      settling.promise = this.#settle(settling).finally(() => {
        if (this.#settling === settling) this.#settling = undefined
      })
    }
    return this.#settling.promise
  }

  /** Settles it, where anything was sent there, also while no lane has anything to send. */
  settleSoon(): void {
    if (this.isUnsettled && !this.#stopped) void this.#revive()
  }

  /** Whether one more request may go out; also where the link that was settled so has ended: a send says so. */
  hasRoom(settled: Settled): boolean {
    return this.#settled !== settled || (this.#link?.hasRoom ?? true)
  }

  /** Resolves when that may be otherwise. */
  roomChange(): Promise<void> {
    return this.#link?.roomChange() ?? Promise.resolve()
  }

  /** Sends what `encode` makes, which is called before this returns; resolves with the answer, whatever its code. Throws LinkError. */
  send(settled: Settled, encode: (opaque: number, producerGroup: string) => Buffer): Promise<Frame> {
    const link = this.#link
    if (this.#settled !== settled || link === undefined)
      return Promise.reject(new LinkError(`the link to ${this.name} has ended`, false))
    this.#owed = true
    return link.send(opaque => encode(opaque, link.group))
  }

  /** Resolves when all that the broker had stored before this call can be read. Throws as `ready`. */
  readable(): Promise<void> {
    return this.#marks.run()
  }

  /** Settles no more; what is out is still answered. */
  stop(): void {
    this.#stopped = true
    this.#cancelWatch()
    this.#revivalSleep.wake()
    if (this.#settled === undefined) this.#link?.end('the gateway stops')
  }

  end(): void {
    this.stop()
    this.#link?.end('the gateway stops')
  }

  #uptime(): number {
    return this.#environment.clock.uptime()
  }

  #moment(): Moment {
    return { at: this.#environment.clock.now(), uptime: this.#uptime() }
  }

  /** Of a time on disk. One that is yet to come is of a clock that was set back since: how long ago it is nobody knows. */
  #momentAt(at: number | undefined): Moment | undefined {
    const now = this.#moment()
    if (at === undefined) return undefined
    return { at, uptime: at <= now.at ? now.uptime - (now.at - at) : UNKNOWN.uptime }
  }

  async #settle(settling: Settling): Promise<Settled> {
    const { log } = this.#environment
    const { address } = settling
    const began = this.#uptime()
    const link = await this.#connect(settling)
    try {
      if (this.#owed) {
        await this.#earlierGone(link)
        await this.#executed(link)
        await this.#isStillAt(link)
      }
    } catch (error) {
      link.end('the remote broker could not be settled')
      throw error
    }
    this.#outageSince = undefined
    this.#settled = { number: ++this.#number, address }
    log.info({ broker: this.name, address, ms: Math.round(this.#uptime() - began) }, 'the remote broker is settled')
    this.#options.settledAnew()
    this.#watch(this.#settled)
    return this.#settled
  }

  /** It took its time: the name may stand for another address by now. Where nobody can tell, it does not. */
  async #isStillAt(link: SendLink): Promise<void> {
    const address = await this.#options.address().catch(() => link.address)
    if (address !== link.address) throw new WaitError(`the remote's broker ${this.name} is at ${address} now`)
    if (this.#link !== link) throw new LinkError(`the link to ${this.name} has ended`, false)
  }

  /** A former master may go on for those who know no better: lanes that have nothing to send do not ask where the name stands. */
  #watch(settled: Settled): void {
    this.#cancelWatch = this.#environment.clock.after(ADDRESS_INTERVAL, async () => {
      const address = await this.#options.address().catch(() => settled.address)
      if (this.#settled !== settled || this.#stopped) return
      if (address === settled.address) this.#watch(settled)
      else this.#link?.end(`broker ${this.name} is at ${address} now`)
    })
  }

  async #connect(settling: Settling): Promise<SendLink> {
    const { address } = settling
    const { gatewayId } = this.#options
    const group = this.#unusedGroup ?? `TEE_${gatewayId}_${this.#environment.randomId(6)}`
    this.#unusedGroup = group
    await this.#options.rememberGroup(group)
    if (this.#stopped) throw new StoppedError('the gateway stops')
    if (this.#settling !== settling)
      throw new LinkError(`${address} is not the address of ${this.name} any more`, false)
    const events = {
      connected: () => {
        this.#unusedGroup = undefined
      },
      answered: () => {
        this.#lastAnswer = this.#moment()
      },
      ended: () => this.#ended(link),
    }
    const { inFlightBytes } = this.#options
    const link: SendLink = new SendLink(this.#environment, this.name, address, group, events, inFlightBytes)
    this.#link = link
    const { header } = await link.register()
    if (header.code === ResponseCode.SUCCESS) return link
    link.end('the heart-beat was refused')
    throw new RefusedError(header.code, `the heart-beat at ${this.name}`, header.remark)
  }

  #ended(link: SendLink): void {
    if (this.#link !== link) return
    const wasSettled = this.#settled !== undefined
    this.#cancelWatch()
    this.#link = undefined
    this.#settled = undefined
    // Without a lane's send on it nothing of it can be in the way. Its heart-beat was answered before the first.
    if (link.carried) this.#earlier.add(link.group)
    else if (this.#unusedGroup !== link.group) this.#options.forgetGroup(link.group)
    if (this.#owed) this.#outageSince ??= this.#lastAnswer ?? this.#moment()
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
        await this.#revivalSleep.for(backoff.next())
      }
    }
    this.#reviving = false
  }

  // Step 1

  async #earlierGone(link: SendLink): Promise<void> {
    const now = this.#uptime()
    const waited = now + Math.min(OUTAGE_MOST, now - (this.#outageSince?.uptime ?? now))
    for (const group of this.#earlier) {
      const backoff = new Backoff(LISTED_POLL_MOST, this.#environment.random)
      for (;;) {
        const listed = await this.#isListed(link, group)
        if (listed === false) break
        if (listed === undefined) {
          await link.pause(waited - this.#uptime())
          break
        }
        await link.pause(backoff.next())
      }
      this.#earlier.delete(group)
      this.#options.forgetGroup(group)
    }
    if (!this.#unknownEarlier) return
    await link.pause(waited - this.#uptime())
    this.#unknownEarlier = false
  }

  /** Undefined: the broker does not tell. */
  async #isListed(link: SendLink, group: string): Promise<boolean | undefined> {
    const { header, body } = await link.ask(link.address, RequestCode.GET_PRODUCER_CONNECTION_LIST, [
      ['producerGroup', group],
    ])
    if (isBusy(header.code)) return true
    const count = producerConnections(header.code, header.remark ?? '', body)
    return count === undefined ? undefined : count > 0
  }

  // Steps 2 and 3

  async #executed(link: SendLink): Promise<void> {
    const ms = await this.#executionTime(link)
    for (const until = this.#uptime() + MARKER_MOST; this.#uptime() < until; ) {
      await link.pause(ms)
      const first = await this.#markOnce(link)
      if (first === 'refused') {
        await link.pause(EXECUTION_UNKNOWN - ms)
        return this.#readableByLog(link)
      }
      if (first === 'late') continue
      const second = await this.#markOnce(link)
      if (typeof second === 'object') return this.#whenReadable(link, second.marker, second.offset)
    }
    throw new WaitError(`the remote's broker ${this.name} does not take a marker of ours within ${MARKER_TIMEOUT} ms`)
  }

  /** Milliseconds after which a request that the broker had received is executed or dropped. */
  async #executionTime(link: SendLink): Promise<number> {
    let answer: Answer
    do {
      answer = await link.ask(link.address, RequestCode.GET_BROKER_CONFIG)
      if (isBusy(answer.header.code)) await link.pause(READABLE_POLL)
    } while (isBusy(answer.header.code))
    return pauseOf(answer)
  }

  async #mark(): Promise<void> {
    const link = this.#link
    if (link === undefined) throw new LinkError(`the link to ${this.name} has ended`, false)
    const stored = await this.#markOnce(link)
    if (stored === 'refused') return this.#readableByLog(link)
    if (stored === 'late')
      throw new WaitError(`the remote's broker ${this.name} does not take a marker of ours within ${MARKER_TIMEOUT} ms`)
    return this.#whenReadable(link, stored.marker, stored.offset)
  }

  async #markOnce(link: SendLink): Promise<{ marker: Marker; offset: number } | 'late' | 'refused'> {
    const marker = {
      text: `${link.group}:${this.#markers++}`,
      bornTimestamp: this.#environment.clock.now(),
      producerGroup: link.group,
    }
    const frame = await link.within(
      MARKER_TIMEOUT,
      link.request(opaque => encodeMarker(marker, opaque)),
    )
    if (frame === undefined) return 'late'
    const answer = markerAnswer(frame)
    if (typeof answer === 'number') return { marker, offset: answer }
    if (answer === 'busy') return 'late'
    if (answer === 'refused' || this.#options.topicSync === 'off') return 'refused'
    return (await makeMarkerTopic(link, link.address)) ? this.#markOnce(link) : 'refused'
  }

  async #whenReadable(link: SendLink, marker: Marker, offset: number): Promise<void> {
    for (const until = this.#uptime() + MARKER_MOST; this.#uptime() < until; ) {
      try {
        if (await isReadable(link, link.address, marker, offset)) return
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error
        if (!isBusy(error.code)) return this.#readableByLog(link)
      }
      await link.pause(READABLE_POLL)
    }
    throw new WaitError(`what the remote's broker ${this.name} has stored cannot be read`)
  }

  async #readableByLog(link: SendLink): Promise<void> {
    const { end } = await logEnd(link, link.address)
    while ((await logEnd(link, link.address)).readable < end) await link.pause(READABLE_POLL)
  }
}

function isBusy(code: number): boolean {
  return code === ResponseCode.SYSTEM_BUSY || code === ResponseCode.FLOW_CONTROL
}
