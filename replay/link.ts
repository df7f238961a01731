// A link: one connection to one broker or name server, with requests of our own and their answers.
//
// Dialled when it is needed. An answer is matched by its opaque, and may come late: it is waited for until its deadline,
// which may be put off while anything arrives, after which the link is ended, for nothing is known of what the other side
// still holds; without one until the link ends. Whoever waits learns whether the request may have arrived (`unclear`) or cannot have (`unsent`). Requests of the
// other side are not answered.

import { ANSWER_HEADER_BYTES_MAX, type Frame, Framer } from '../codec/index.ts'
import type { Address, Connection } from './dial.ts'
import type { Environment } from './environment.ts'

export class LinkError extends Error {
  /** Whether the other side may have the request. */
  readonly unclear: boolean

  constructor(message: string, unclear: boolean) {
    super(message)
    this.name = 'LinkError'
    this.unclear = unclear
  }
}

/** A link lives as long as the process, and opaques have 32 bits with a sign. */
const OPAQUE_MAX = 0x7fffffff

interface Waiter {
  resolve: (frame: Frame) => void
  reject: (error: LinkError) => void
  cancelDeadline: () => void
}

export class Link {
  readonly address: Address
  readonly #environment: Environment
  #connection: Connection | undefined
  #connected = false
  /** Uptime. */
  #arrivedAt = 0
  #opaque = 0
  readonly #waiting = new Map<number, Waiter>()
  /** Frames that wait for the connection to come up. */
  #unwritten: Buffer[] = []
  onConnected: () => void = () => {}
  /** Told before those who wait. */
  onEnded: (reason: string) => void = () => {}

  constructor(environment: Environment, address: Address) {
    this.#environment = environment
    this.address = address
  }

  get isUp(): boolean {
    return this.#connected
  }

  /**
   * Sends what `encode` makes for an opaque; resolves with the answer, whatever its code. Rejects with LinkError. The timeout
   * counts from what arrived last, whosever it is, as long as no more than `mostMs` have passed.
   */
  request(encode: (opaque: number) => Buffer, timeoutMs?: number, mostMs = timeoutMs): Promise<Frame> {
    const { clock } = this.#environment
    const asked = clock.uptime()
    return new Promise((resolve, reject) => {
      const opaque = this.#opaque
      const bytes = encode(opaque)
      this.#opaque = (opaque + 1) & OPAQUE_MAX
      const waiter: Waiter = { resolve, reject, cancelDeadline: () => {} }
      this.#waiting.set(opaque, waiter)
      const waitUntil = (deadline: number) => {
        waiter.cancelDeadline = clock.after(deadline - clock.uptime(), late)
      }
      const late = () => {
        const deadline = Math.min(this.#arrivedAt + timeoutMs!, asked + mostMs!)
        if (deadline > clock.uptime()) return waitUntil(deadline)
        this.#waiting.delete(opaque)
        const unclear = this.#connected
        const ms = Math.round(clock.uptime() - asked)
        reject(new LinkError(`no answer from ${this.#name} within ${ms} ms`, unclear))
        this.end('a request was not answered in time')
      }
      if (timeoutMs !== undefined) waitUntil(asked + timeoutMs)
      if (this.#connected) this.#connection!.write(bytes)
      else {
        this.#unwritten.push(bytes)
        this.#connection ??= this.#dial()
      }
    })
  }

  /** Ends the connection; who waits is told. The next request dials anew. */
  end(reason: string): void {
    const connection = this.#connection
    this.#closed(reason)
    connection?.reset()
  }

  get #name(): string {
    return `${this.address.host}:${this.address.port}`
  }

  #dial(): Connection {
    const framer = new Framer(undefined, ANSWER_HEADER_BYTES_MAX)
    const connection: Connection = this.#environment.dial(this.address, {
      connected: () => {
        if (this.#connection !== connection) return
        this.#connected = true
        for (const bytes of this.#unwritten) connection.write(bytes)
        this.#unwritten = []
        this.onConnected()
      },
      data: chunk => {
        if (this.#connection !== connection) return
        this.#arrivedAt = this.#environment.clock.uptime()
        try {
          for (const frame of framer.push(chunk)) this.#answered(frame)
        } catch (error) {
          this.end((error as Error).message)
        }
      },
      closed: reason => {
        if (this.#connection === connection) this.#closed(reason)
      },
    })
    return connection
  }

  #answered(frame: Frame): void {
    if (!frame.head.isResponse) return
    const waiter = this.#waiting.get(frame.head.opaque)
    if (waiter === undefined) return
    this.#waiting.delete(frame.head.opaque)
    waiter.cancelDeadline()
    waiter.resolve(frame)
  }

  #closed(reason: string): void {
    const unclear = this.#connected
    this.#connection = undefined
    this.#connected = false
    this.#unwritten = []
    this.onEnded(reason)
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { reject, cancelDeadline } of waiting) {
      cancelDeadline()
      reject(new LinkError(`${this.#name}: ${reason}`, unclear))
    }
  }
}
