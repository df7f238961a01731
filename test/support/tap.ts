// A tap: a port that passes bytes on to another address, and keeps what passed, by connection and direction.
//
// It stands before a broker, so that a test sees what really reached it and what it really said, and can say something
// else in its place. Requests pass as they come; answers pass frame by frame. Who is slow makes the other side wait.

import { connect, createServer, type Server, type Socket } from 'node:net'
import { type Frame, Framer } from '../../codec/index.ts'
import { parseAddress } from '../../replay/index.ts'

export class TapConnection {
  readonly #requests: Buffer[] = []
  readonly #answers: Buffer[] = []
  readonly #client: Socket
  readonly #server: Socket
  /** Bytes that came from the client. */
  requestBytes = 0
  /** Frames that the client was given. */
  answerCount = 0

  /** `answer` says what is passed on in place of an answer; null: nothing. */
  constructor(client: Socket, target: string, answer: (frame: Frame, connection: TapConnection) => Buffer | null) {
    this.#client = client
    this.#server = connect({ ...parseAddress(target), noDelay: true, allowHalfOpen: true })
    const framer = new Framer()
    client.on('data', chunk => {
      this.#requests.push(chunk)
      this.requestBytes += chunk.length
      if (!this.#server.write(chunk)) client.pause()
    })
    this.#server.on('data', chunk => {
      for (const frame of framer.push(chunk)) {
        const bytes = answer(frame, this)
        if (bytes !== null) this.say(bytes)
      }
    })
    client.on('drain', () => this.#server.resume())
    this.#server.on('drain', () => client.resume())
    for (const [from, to] of [
      [client, this.#server],
      [this.#server, client],
    ] as const) {
      from.on('error', () => {})
      from.on('end', () => to.end())
      from.on('close', failed => (failed ? to.resetAndDestroy() : to.destroy()))
    }
  }

  /** All bytes that came from the client. */
  get requests(): Buffer {
    return Buffer.concat(this.#requests)
  }

  /** All bytes that the client was given. */
  get answers(): Buffer {
    return Buffer.concat(this.#answers)
  }

  /** Gives the client these bytes, as if the server had. */
  say(bytes: Buffer): void {
    this.#answers.push(bytes)
    this.answerCount++
    if (!this.#client.write(bytes)) this.#server.pause()
  }

  /** As when the server dies. */
  reset(): void {
    this.#client.resetAndDestroy()
    this.#server.resetAndDestroy()
  }
}

export class Tap {
  readonly connections: TapConnection[] = []
  /** What is passed on in place of an answer's frame; null: nothing. */
  answer: (frame: Frame, connection: TapConnection) => Buffer | null = frame => frame.bytes
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(target: () => string) {
    this.#server = createServer({ noDelay: true, allowHalfOpen: true }, client => {
      this.#sockets.add(client)
      client.once('close', () => this.#sockets.delete(client))
      this.connections.push(new TapConnection(client, target(), (frame, connection) => this.answer(frame, connection)))
    })
  }

  /** `target` is asked for each connection. */
  static async start(target: () => string): Promise<Tap> {
    const tap = new Tap(target)
    await new Promise<void>((resolve, reject) => {
      tap.#server.once('error', reject)
      tap.#server.listen(0, '127.0.0.1', () => resolve())
    })
    return tap
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as { port: number }).port}`
  }

  /** The connection on which these bytes came. */
  carrying(bytes: Buffer): TapConnection {
    const found = this.connections.find(connection => connection.requests.includes(bytes))
    if (found === undefined) throw new Error('no connection carried these bytes')
    return found
  }

  async stop(): Promise<void> {
    const closed = new Promise(resolve => this.#server.close(resolve))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }
}
