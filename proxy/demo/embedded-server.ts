// Listening sockets that speak the remoting protocol, for the embedded name server and brokers: frames in, answers out.
//
// Bytes that are no frame end the connection without an answer, as with a real broker. It does not know what requests
// mean.

import { createServer, type Server, type Socket } from 'node:net'
import {
  BINARY_HEADER,
  decodeHeader,
  encodeFrame,
  FLAG_ONEWAY,
  FLAG_RESPONSE,
  type Frame,
  Framer,
  OWN_VERSION,
} from '../../codec/index.ts'

export const HOST = '127.0.0.1'

/**
 * Ports are taken from below the range that Linux gives to outgoing connections. Inside it, a client that tries again
 * and again while a broker is stopped can take the broker's port, or be connected to itself.
 */
const PORT_FIRST = 18_000
const PORTS = 14_000
/** Bytes of answers that may wait for a peer before no more of its requests are read. */
const WAITING_BYTES_MAX = 16 * 1024 * 1024

/** The type of the answers' headers. A 5.x broker answers in JSON, whatever it was asked in; 4.9 as it was asked. */
export type AnswerType = 'json' | 'binary' | 'asked'

export interface Answer {
  code: number
  remark?: string
  ext?: Record<string, string | number | boolean>
  body?: Buffer[]
}

export class Connection {
  readonly socket: Socket
  /** The port that it came in by. */
  readonly port: number
  /** `ip:port` of the peer. */
  readonly peer: string
  /** The peer as messages keep it: 4 bytes of address, 4 of port. */
  readonly peerHost: Buffer
  readonly #answerType: AnswerType

  constructor(socket: Socket, port: number, answerType: AnswerType) {
    this.socket = socket
    this.port = port
    this.peer = `${socket.remoteAddress}:${socket.remotePort}`
    this.peerHost = hostBytes(socket.remoteAddress ?? HOST, socket.remotePort ?? 0)
    this.#answerType = answerType
  }

  answer(request: Request, answer: Answer): void {
    if (request.oneway || this.socket.destroyed) return
    const binary = this.#answerType === 'binary' || (this.#answerType === 'asked' && request.binary)
    this.write(encodeAnswer(request.opaque, answer, binary), answer.body)
  }

  /** A oneway request of the broker's to the client. */
  tell(code: number, ext: Record<string, string>): void {
    if (this.socket.destroyed) return
    this.write(encodeFrame({ code, opaque: 0, flag: FLAG_ONEWAY, ext: Object.entries(ext) }))
  }

  write(head: Buffer, body?: Buffer[]): void {
    const { socket } = this
    socket.cork()
    socket.write(head)
    for (const part of body ?? []) socket.write(part)
    socket.uncork()
    if (socket.writableLength > WAITING_BYTES_MAX && !socket.isPaused()) {
      socket.pause()
      socket.once('drain', () => socket.resume())
    }
  }
}

export class Request {
  readonly connection: Connection
  readonly code: number
  readonly opaque: number
  readonly version: number
  readonly language: string
  readonly oneway: boolean
  readonly binary: boolean
  readonly ext: Map<string, string>
  /** Undefined where the frame has none: an empty body and no body are the same on the wire. */
  readonly body: Buffer | undefined

  constructor(connection: Connection, frame: Frame) {
    const { head } = frame
    const { code, opaque, version, ext } = decodeHeader(head)
    this.connection = connection
    this.code = code
    this.opaque = opaque
    this.version = version
    this.language = head.bytes.toString('latin1', head.languageStart, head.languageEnd).replaceAll('"', '')
    this.oneway = head.isOneway
    this.binary = head.type === BINARY_HEADER
    this.ext = ext
    this.body = frame.body.length > 0 ? frame.body : undefined
  }

  /** The topic that it is about, in any of the spellings. */
  get topic(): string | undefined {
    return this.ext.get('topic') ?? this.ext.get('b')
  }

  text(name: string): string {
    const value = this.ext.get(name)
    if (value === undefined) throw new Error(`the request has no ${name}`)
    return value
  }

  integer(name: string, otherwise?: number): number {
    const value = this.ext.get(name)
    if (value === undefined && otherwise !== undefined) return otherwise
    if (value === undefined || !/^[-+]?\d+$/.test(value)) throw new Error(`For input string: "${value ?? 'null'}"`)
    return Number(value)
  }

  flag(name: string): boolean {
    return this.ext.get(name)?.toLowerCase() === 'true'
  }
}

export function encodeAnswer(opaque: number, answer: Answer, binary: boolean): Buffer {
  const { code, remark, ext, body } = answer
  let bodyBytes = 0
  for (const part of body ?? []) bodyBytes += part.length
  if (binary) {
    const entries = Object.entries(ext ?? {})
    const head = encodeFrame({
      code,
      opaque,
      flag: FLAG_RESPONSE,
      ext: entries,
      ...(remark === undefined ? {} : { remark }),
    })
    head.writeInt32BE(head.length - 4 + bodyBytes)
    return head
  }
  let extFields: Record<string, string> | undefined
  if (ext !== undefined) {
    extFields = {}
    for (const name in ext) extFields[name] = String(ext[name])
  }
  // In the shape and order of a broker's: what is not there is left out, extFields too.
  const text = JSON.stringify({
    code,
    extFields,
    flag: FLAG_RESPONSE,
    language: 'JAVA',
    opaque,
    remark,
    serializeTypeCurrentRPC: 'JSON',
    version: OWN_VERSION,
  })
  const headerBytes = Buffer.byteLength(text)
  const out = Buffer.allocUnsafe(8 + headerBytes)
  out.writeInt32BE(4 + headerBytes + bodyBytes)
  out.writeUInt32BE(headerBytes, 4)
  out.write(text, 8)
  return out
}

/** An address as messages keep it. */
export function hostBytes(address: string, port: number): Buffer {
  const bytes = Buffer.alloc(8)
  const parts = address.replace('::ffff:', '').split('.')
  for (let i = 0; i < 4; i++) bytes[i] = Number(parts[i] ?? 0)
  bytes.writeInt32BE(port, 4)
  return bytes
}

export interface ServerOptions {
  /** Ports beside the main one, as distances to it. */
  extraPorts: number[]
  answerType: AnswerType
  request(request: Request): void
  closed?(connection: Connection): void
  /** Takes over a connection's bytes: then no request of it is reported unless this does. */
  reader?(connection: Connection): ((chunk: Buffer) => void) | undefined
}

export class EmbeddedServer {
  readonly #options: ServerOptions
  readonly #connections = new Set<Connection>()
  #servers: Server[] = []
  port = 0

  constructor(options: ServerOptions) {
    this.#options = options
  }

  get address(): string {
    return `${HOST}:${this.port}`
  }

  get connections(): Iterable<Connection> {
    return this.#connections
  }

  /** The first time it looks for ports of its own; later it takes the same. */
  async start(): Promise<void> {
    if (this.#servers.length > 0) return
    if (this.port !== 0) {
      this.#servers = await this.#listen(this.port)
      return
    }
    for (let tries = 0; ; tries++) {
      const port = PORT_FIRST + Math.floor(Math.random() * PORTS)
      try {
        this.#servers = await this.#listen(port)
        this.port = port
        return
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || tries === 100) throw error
      }
    }
  }

  /** Closes the ports and resets what is connected. */
  async stop(): Promise<void> {
    const servers = this.#servers
    this.#servers = []
    const closed = servers.map(server => new Promise(resolve => server.close(resolve)))
    for (const { socket } of this.#connections) socket.resetAndDestroy()
    await Promise.all(closed)
  }

  async #listen(port: number): Promise<Server[]> {
    const servers: Server[] = []
    try {
      for (const distance of [0, ...this.#options.extraPorts]) servers.push(await this.#listenAt(port + distance))
    } catch (error) {
      for (const server of servers) server.close()
      throw error
    }
    return servers
  }

  #listenAt(port: number): Promise<Server> {
    return new Promise((resolve, reject) => {
      const server = createServer({ noDelay: true }, socket => this.#accept(socket, port))
      server.once('error', reject)
      server.listen({ host: HOST, port }, () => {
        server.off('error', reject)
        resolve(server)
      })
    })
  }

  #accept(socket: Socket, port: number): void {
    const { request, closed, reader, answerType } = this.#options
    const connection = new Connection(socket, port, answerType)
    this.#connections.add(connection)
    // What ends a connection is told by 'close'.
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#connections.delete(connection)
      closed?.(connection)
    })
    const read = reader?.(connection) ?? framesOf(connection, request)
    socket.on('data', chunk => {
      socket.cork()
      try {
        read(chunk)
      } catch {
        socket.destroy()
      }
      socket.uncork()
    })
  }
}

function framesOf(connection: Connection, request: (request: Request) => void): (chunk: Buffer) => void {
  const framer = new Framer()
  return chunk => {
    for (const frame of framer.push(chunk)) {
      // Requests of one chunk that stand behind one whose fault reset the connection were never read.
      if (connection.socket.destroyed) return
      if (!frame.head.isResponse) request(new Request(connection, frame))
    }
  }
}
