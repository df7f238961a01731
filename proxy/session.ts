// A session: one client connection and the source connection of its own, frame by frame, in both directions.
//
//      client ──▶ requests: as they came; a send is registered before its last bytes leave ──▶ source
//      client ◀── answers: as they came; the ack of a send when its place is written      ◀── source
//
// Whatever is not a send passes, in both directions, also what the gateway has never heard of. A oneway send goes on as a
// two-way one under an opaque of the session's own, so that its outcome is known; its answer is not passed on.
//
// Backpressure: a slow source pauses its client; a slow client pauses its source, but not while a send is unanswered
// here, for other clients' order waits for that answer; at a limit the session is closed instead. The remote pauses nobody.
// When the source ends, so does the client, as a broker's death would end it. When the client ends, so does the source, but
// not before its sends are answered or given up: what they stored is replicated too.

import {
  ANSWER_HEADER_BYTES_MAX,
  asTwoWay,
  CodecError,
  encodeFrame,
  FLAG_RESPONSE,
  type FrameHead,
  FrameScanner,
  type FrameSink,
  hostBytes,
  isSend,
  ResponseCode,
  readSendAnswer,
  readSendRequest,
  remarkOf,
  type SendAnswer,
  saysStored,
  type Verdict,
} from '../codec/index.ts'
import { meaningOf, Send, type SourceConnection, type Unanswered } from '../replay/index.ts'
import { Acceptance, type AcceptanceContext } from './acceptance.ts'
import type { TopicPolicy } from './policy.ts'

/** What a session needs of a socket; net.Socket has it. */
export interface SessionSocket {
  readonly destroyed: boolean
  readonly writableNeedDrain: boolean
  readonly writableLength: number
  readonly remoteAddress?: string | undefined
  readonly remotePort?: number | undefined
  readonly localAddress?: string | undefined
  readonly localPort?: number | undefined
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'drain' | 'end' | 'close', listener: () => void): unknown
  write(bytes: Buffer): boolean
  cork(): void
  uncork(): void
  pause(): unknown
  resume(): unknown
  end(): unknown
  destroy(): unknown
}

export interface SessionContext extends AcceptanceContext {
  policy: TopicPolicy
  /** The source connection of the session, for its epoch. */
  connection: SourceConnection
  frameBytesMax: number
  pendingBytesMax: number
  /** A request was refused here: answered with this code, unless it is oneway. */
  refused(code: number): void
  /** Seconds that answers were held here until the places of the acks among them were written. */
  ackHeld(seconds: number): void
  malformed(reason: string): void
  closed(cause: string): void
}

/** MQVersion ordinal (common/.../MQVersion.java). */
const V5_3_0 = 473

export class Session {
  readonly #context: SessionContext
  readonly #client: SessionSocket
  readonly #source: SessionSocket
  readonly #requests: FrameScanner
  readonly #answers: FrameScanner
  /** Unanswered sends by their opaque towards the source. */
  readonly #pending = new Map<number, Send>()
  /** Bytes of those that are waited for, and of those that were given up. */
  #pendingBytes = 0
  #givenUpBytes = 0
  /** The send whose body is coming in, and its opaque towards the source. */
  #incoming: Send | undefined
  #incomingOpaque = 0
  /** What the answer says that is looked at. */
  readonly #answer: SendAnswer = { queueId: -1, queueOffset: -1, commitLogOffsets: [] }
  readonly #acceptance: Acceptance
  readonly #unanswered: Unanswered
  /** Below any opaque that a client counts up to. */
  #ownOpaque = -0x80000000
  /**
   * Answers not passed on yet: each group begins with an ack that waits for its place to be written, and what came behind it.
   * Places of a later group may be written later.
   */
  readonly #held: { since: number; bytes: Buffer[] }[] = []
  #hasAcks = false
  /** Answers of our own that wait for the next boundary between frames of the source. */
  #own: Buffer[] = []
  /** What is done when they have been passed on. */
  #after: (() => void)[] = []
  readonly #passHeld = () => this.#pass()
  /** What came from the source while the epoch of its connection is not confirmed, unread. */
  #unread: Buffer[] = []
  readonly #givenUp = (send: Send) => this.#gaveUp(send)
  #clientPaused = false
  #sourcePaused = false
  #clientEnded = false
  #draining = false
  #closed = false

  constructor(context: SessionContext, client: SessionSocket, source: SessionSocket) {
    this.#context = context
    this.#client = client
    this.#source = source
    const requestSink: FrameSink = {
      head: head => this.#requestHead(head),
      body: (chunk, start, end, last) => this.#requestBody(chunk, start, end, last),
    }
    const answerSink: FrameSink = { head: head => this.#behindOwn(head, this.#answerHead(head)), body: () => {} }
    this.#requests = new FrameScanner(requestSink, context.frameBytesMax)
    this.#answers = new FrameScanner(answerSink, context.frameBytesMax, ANSWER_HEADER_BYTES_MAX)
    this.#acceptance = new Acceptance(context)
    const { localAddress = '', localPort = 0 } = source
    this.#unanswered = {
      bornHost: hostBytes(localAddress, localPort),
      accept: (send, answer) => void this.#acceptance.accept(send, answer),
    }
  }

  /** Both sockets are up. */
  start(): void {
    const { log } = this.#context
    this.#client.on('data', chunk => this.#fromClient(chunk))
    this.#source.on('data', chunk => this.#fromSource(chunk))
    this.#client.on('drain', () => this.#flowToClient())
    this.#source.on('drain', () => this.#flowToSource())
    this.#client.on('end', () => this.#endOfClient())
    this.#source.on('end', () => this.#afterHeld(() => this.#client.end()))
    this.#client.on('error', error => log.debug({ err: error }, 'client connection failed'))
    this.#source.on('error', error => log.debug({ err: error }, 'source connection failed'))
    this.#client.on('close', () => this.#endOfClient())
    this.#source.on('close', () => this.#afterHeld(() => this.close('source')))
    this.#context.connection.onConfirmed = () => this.#confirmed()
  }

  /** Ends both sides. */
  close(cause: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#client.destroy()
    this.#source.destroy()
    for (const send of this.#pending.values()) this.#context.broker.findOut(send, this.#unanswered)
    this.#pending.clear()
    this.#context.closed(cause)
  }

  /** Reads no more requests from the next boundary on, and closes when all sends are answered. */
  drain(): void {
    this.#draining = true
    this.#stopReading()
  }

  get unanswered(): number {
    return this.#pending.size
  }

  // Requests

  #fromClient(chunk: Buffer): void {
    if (this.#closed || (this.#draining && this.#requests.atBoundary)) return
    const out: Buffer[] = []
    const waiting = this.#pending.size
    try {
      this.#requests.push(chunk, out)
    } catch (error) {
      // The sends of this chunk do not go on: nobody has to wait for them.
      for (const [opaque, send] of [...this.#pending].slice(waiting)) {
        this.#context.broker.refused(send)
        this.#pending.delete(opaque)
      }
      return this.#malformed('client', error as Error)
    }
    if (!writeAll(this.#source, out) || this.#pendingBytes > this.#context.pendingBytesMax) this.#pauseClient()
    if (this.#draining) this.#stopReading()
  }

  #requestHead(head: FrameHead): Verdict {
    if (head.isResponse) return undefined
    // Two under one opaque: which of them an answer is for cannot be told, and one of them may be a send.
    if (this.#pending.has(head.opaque) && !head.isOneway)
      throw new CodecError('opaque', `opaque ${head.opaque} is that of a send that is not answered yet`)
    if (!isSend(head.code)) return undefined
    const send = readSendRequest(head, new Send())
    if (!this.#context.policy.isTeed(send.topic)) return undefined
    if (this.#context.broker.isFull) return this.#refuse(head)
    send.frameBytes = head.frameBytes
    send.oneway = head.isOneway
    send.givenUp = this.#givenUp
    this.#incoming = send
    this.#incomingOpaque = head.opaque
    this.#requests.collect()
    if (!head.isOneway) return undefined
    while (this.#pending.has(this.#ownOpaque)) this.#ownOpaque++
    this.#incomingOpaque = this.#ownOpaque++
    return asTwoWay(head, this.#incomingOpaque)
  }

  /** Answered here: what it brings could not be kept. Clients before 5.3.0 do not retry on 2. */
  #refuse({ opaque, version, isOneway }: FrameHead): null {
    const code = version >= V5_3_0 ? ResponseCode.SYSTEM_BUSY : ResponseCode.SERVICE_NOT_AVAILABLE
    this.#context.refused(code)
    if (isOneway) return null
    const remark = 'rocketmq-tee: the replay queue is full (journalMaxBytes), and onJournalFull=reject'
    this.#own.push(encodeFrame({ code, opaque, flag: FLAG_RESPONSE, remark }))
    if (this.#answers.atBoundary) this.#passOwn()
    return null
  }

  /** Behind all that came from the source, of which a part may be held. */
  #passOwn(): void {
    const own = this.#own
    this.#own = []
    if (this.#held.length > 0) this.#held.at(-1)!.bytes.push(...own)
    else this.#toClient(own)
    this.#flowToClient()
  }

  #requestBody(chunk: Buffer, start: number, end: number, last: boolean): void {
    const send = this.#incoming!
    send.addPayload(chunk, start, end)
    if (!last) return
    // It goes on after this: registered before its last bytes are written.
    this.#incoming = undefined
    this.#context.broker.forwarded(send, this.#context.connection)
    this.#pending.set(this.#incomingOpaque, send)
    this.#pendingBytes += send.frameBytes
    this.#flowToClient()
  }

  // Answers

  #fromSource(chunk: Buffer): void {
    if (this.#closed) return
    if (this.#context.connection.isUnclear) {
      // Nothing behind it is read meanwhile; it takes half a second at most.
      this.#unread.push(chunk)
      this.#source.pause()
      return
    }
    const out: Buffer[] = []
    this.#hasAcks = false
    try {
      this.#answers.push(chunk, out)
    } catch (error) {
      return this.#malformed('source', error as Error)
    }
    if (this.#answers.atBoundary) out.push(...this.#own.splice(0))
    // Acks in this chunk wait for the journal, and what comes behind them waits with them: bytes keep their order.
    if (this.#hasAcks) {
      this.#held.push({ since: this.#context.clock.uptime(), bytes: out })
      this.#context.broker.whenWritten(this.#passHeld)
    } else if (this.#held.length > 0) this.#held.at(-1)!.bytes.push(...out)
    else this.#toClient(out)
    this.#flowToClient()
    if (this.#clientPaused) this.#flowToSource()
    this.#endWhenAnswered()
  }

  #confirmed(): void {
    const unread = this.#unread
    if (unread.length === 0) return
    this.#unread = []
    for (const chunk of unread) this.#fromSource(chunk)
    if (!this.#sourcePaused && !this.#closed) this.#source.resume()
    this.#callAfter()
  }

  #answerHead(head: FrameHead): Verdict {
    if (!head.isResponse) return undefined
    const { opaque } = head
    const send = this.#pending.get(opaque)
    if (send === undefined) return undefined
    const { broker, log } = this.#context
    const wasGivenUp = send.settled
    if (!saysStored(head.code)) {
      // An error after it was stored, maybe.
      if (meaningOf(head.code, remarkOf(head) ?? '') === 'unclear') broker.findOut(send, this.#unanswered)
      else broker.refused(send)
    } else if (readSendAnswer(head, this.#answer) !== undefined) this.#accept(send)
    else {
      log.error({ topic: send.topic }, 'the source accepted a message without saying where: it is looked for')
      broker.findOut(send, this.#unanswered)
    }
    this.#pending.delete(opaque)
    if (wasGivenUp) this.#givenUpBytes -= send.frameBytes
    else this.#pendingBytes -= send.frameBytes
    return send.oneway ? null : undefined
  }

  /** What is answered here goes before a frame of the source that goes on: within one it would be taken for a part of it. */
  #behindOwn({ bytes, start, end }: FrameHead, verdict: Verdict): Verdict {
    if (this.#own.length === 0 || verdict === null) return verdict
    return Buffer.concat([...this.#own.splice(0), verdict ?? bytes.subarray(start, end)])
  }

  #accept(send: Send): void {
    if (this.#acceptance.accept(send, this.#answer)) this.#hasAcks = true
  }

  #pass(): void {
    const { since, bytes } = this.#held.shift()!
    this.#context.ackHeld((this.#context.clock.uptime() - since) / 1000)
    if (this.#closed) return
    this.#toClient(bytes)
    this.#flowToClient()
    this.#callAfter()
    this.#endWhenAnswered()
  }

  /** An ack that the source gave before it ended is still passed on. */
  #afterHeld(call: () => void): void {
    if (this.#isHolding) this.#after.push(call)
    else call()
  }

  #callAfter(): void {
    if (this.#isHolding) return
    const after = this.#after
    this.#after = []
    for (const call of after) call()
  }

  get #isHolding(): boolean {
    return this.#held.length > 0 || this.#unread.length > 0
  }

  /** A send is waited for no longer; its answer may still come. */
  #gaveUp(send: Send): void {
    if (this.#closed) return
    this.#pendingBytes -= send.frameBytes
    this.#givenUpBytes += send.frameBytes
    if (this.#givenUpBytes > this.#context.pendingBytesMax) {
      this.#context.log.warn(
        { bytes: this.#givenUpBytes, limit: this.#context.pendingBytesMax },
        'source does not answer its sends: connection closed',
      )
      return this.close('source-silent')
    }
    this.#flowToSource()
    this.#endWhenAnswered()
  }

  // Flow

  #toClient(out: readonly Buffer[]): void {
    if (!this.#client.destroyed) writeAll(this.#client, out)
  }

  #pauseClient(): void {
    if (this.#clientPaused) return
    this.#clientPaused = true
    this.#client.pause()
  }

  #flowToSource(): void {
    if (!this.#clientPaused || this.#source.writableNeedDrain || this.#pendingBytes > this.#context.pendingBytesMax / 2)
      return
    this.#clientPaused = false
    // A frame that has begun to go on goes on to its end.
    if (!this.#draining || !this.#requests.atBoundary) this.#client.resume()
  }

  #flowToClient(): void {
    const slow = !this.#client.destroyed && this.#client.writableNeedDrain
    if (slow && this.#client.writableLength > this.#context.pendingBytesMax) {
      this.#context.log.warn(
        { bytes: this.#client.writableLength, limit: this.#context.pendingBytesMax },
        'client does not read its answers: connection closed',
      )
      return this.close('client-too-slow')
    }
    const pause = slow && this.#pendingBytes === 0
    if (pause === this.#sourcePaused) return
    this.#sourcePaused = pause
    if (pause) this.#source.pause()
    else if (this.#unread.length === 0) this.#source.resume()
  }

  /** While draining: at a boundary no more is read. */
  #stopReading(): void {
    if (!this.#requests.atBoundary) return
    this.#client.pause()
    this.#endWhenAnswered()
  }

  #endOfClient(): void {
    this.#clientEnded = true
    this.#flowToClient()
    this.#endWhenAnswered()
  }

  /** No more requests will come: the source's side ends when all sends are answered or given up. */
  #endWhenAnswered(): void {
    if (this.#closed || this.#pendingBytes > 0 || this.#held.length > 0) return
    if (this.#client.destroyed) this.close('client')
    else if (this.#clientEnded || (this.#draining && this.#requests.atBoundary)) this.#source.end()
  }

  #malformed(side: 'client' | 'source', error: Error): void {
    const reason = error instanceof CodecError ? error.reason : 'internal'
    const peer = `${this.#client.remoteAddress}:${this.#client.remotePort}`
    this.#context.log.warn({ side, peer, reason, detail: error.message }, 'malformed frame: connection closed')
    this.#context.malformed(reason)
    this.close(`malformed-${side}`)
  }
}

/** Writes all of it; false where the socket asks to wait. */
function writeAll(socket: SessionSocket, out: readonly Buffer[]): boolean {
  if (out.length === 1) return socket.write(out[0]!)
  if (out.length === 0) return !socket.writableNeedDrain
  socket.cork()
  for (const bytes of out) socket.write(bytes)
  socket.uncork()
  return !socket.writableNeedDrain
}
