// A client that speaks the remoting protocol and nothing more: it writes the frames that a test makes and matches the
// answers by opaque. It does not retry, pool or choose anything.

import { connect, type Socket } from 'node:net'
import {
  decodeHeader,
  type ExtValue,
  encodeFrame,
  FLAG_ONEWAY,
  Framer,
  type HeaderType,
  type OwnFrame,
} from '../../codec/index.ts'

const ANSWER_MS = 10_000

export interface RawRequest {
  code: number
  ext?: Record<string, ExtValue> | undefined
  body?: Buffer | undefined
  flag?: number | undefined
  version?: number | undefined
  /** Chosen by the client where it is not given. */
  opaque?: number | undefined
  /** Binary where it is not given. */
  headerType?: HeaderType | undefined
}

export interface RawAnswer {
  code: number
  opaque: number
  flag: number
  version: number
  remark: string | undefined
  ext: Map<string, string>
  /** 0 JSON, 1 binary. */
  headerType: HeaderType
  body: Buffer
}

interface Waiting {
  resolve: (answer: RawAnswer) => void
  reject: (error: Error) => void
  timer: NodeJS.Timeout
}

export class RawClient {
  readonly socket: Socket
  /** Frames that are no answer to a request of ours. */
  readonly others: RawAnswer[] = []
  /** Opaques of the answers, in the order in which they came. */
  readonly order: number[] = []
  /** Ends with the connection. */
  readonly closed: Promise<void>
  readonly #waiting = new Map<number, Waiting>()
  readonly #framer = new Framer()
  #opaque = 0

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', chunk => this.#read(chunk))
    socket.on('error', () => {})
    this.closed = new Promise(resolve => {
      socket.on('close', () => {
        for (const { reject, timer } of this.#waiting.values()) {
          clearTimeout(timer)
          reject(new Error('the connection was closed before the answer came'))
        }
        this.#waiting.clear()
        resolve()
      })
    })
  }

  static connect(address: string): Promise<RawClient> {
    const colon = address.lastIndexOf(':')
    return new Promise((resolve, reject) => {
      const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)), noDelay: true })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new RawClient(socket))
      })
    })
  }

  /** The port that we come from. */
  get port(): number {
    return this.socket.localPort ?? 0
  }

  /** Rejects when the connection ends, or when no answer comes within `ms`. */
  request(request: RawRequest, ms = ANSWER_MS): Promise<RawAnswer> {
    const opaque = request.opaque ?? this.#opaque++
    const answer = new Promise<RawAnswer>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(opaque)
        reject(new Error(`no answer to request ${request.code} within ${ms} ms`))
      }, ms)
      this.#waiting.set(opaque, { resolve, reject, timer })
    })
    this.socket.write(frameOf({ ...request, opaque }))
    return answer
  }

  oneway(request: RawRequest): void {
    const opaque = request.opaque ?? this.#opaque++
    this.socket.write(frameOf({ ...request, opaque, flag: (request.flag ?? 0) | FLAG_ONEWAY }))
  }

  async close(): Promise<void> {
    this.socket.destroy()
    await this.closed
  }

  #read(chunk: Buffer): void {
    for (const { head, body } of this.#framer.push(chunk)) {
      const { code, opaque, flag, version, remark, ext } = decodeHeader(head)
      const answer = { code, opaque, flag, version, remark, ext, headerType: head.type, body }
      const waiting = head.isResponse ? this.#waiting.get(opaque) : undefined
      if (waiting === undefined) {
        this.others.push(answer)
        continue
      }
      this.#waiting.delete(opaque)
      this.order.push(opaque)
      clearTimeout(waiting.timer)
      waiting.resolve(answer)
    }
  }
}

/** The bytes of a request. */
export function frameOf(request: RawRequest & { opaque: number }): Buffer {
  const { code, opaque, ext, body, flag, version, headerType } = request
  const frame: OwnFrame = { code, opaque, ext: Object.entries(ext ?? {}) }
  if (flag !== undefined) frame.flag = flag
  if (version !== undefined) frame.version = version
  return encodeFrame(frame, body, headerType)
}

/** Asks again and again until there is something; the time is for all of it. */
export async function until<T>(
  what: string,
  ask: () => Promise<T | undefined | false> | T | undefined | false,
  ms = 15_000,
): Promise<T> {
  const end = Date.now() + ms
  for (;;) {
    const got = await ask()
    if (got !== undefined && got !== false) return got
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain for ${what}`)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}
