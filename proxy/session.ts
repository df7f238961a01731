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
// When one side ends, so does the other, as a broker's death would end it.

import type { Socket } from 'node:net'
import {
  ANSWER_HEADER_BYTES_MAX,
  asTwoWay,
  CodecError,
  type FrameHead,
  FrameScanner,
  type FrameSink,
  isSend,
  readSendAnswer,
  readSendRequest,
  type SendAnswer,
  type SendRequest,
  saysStored,
  type Verdict,
} from '../codec/index.ts'
import type { Outstanding, SourceBroker } from '../replay/index.ts'
import type { Logger } from './logger.ts'
import type { TopicPolicy } from './policy.ts'
import { accepted } from './tee.ts'

export interface SessionContext {
  log: Logger
  policy: TopicPolicy
  broker: SourceBroker
  /** The remote cluster's name, once known. */
  remoteCluster(): string | undefined
  frameBytesMax: number
  pendingBytesMax: number
  /** Something was skipped by rule, of a topic. */
  skipped(reason: string, topic: string): void
  /** Seconds that an ack was held here. */
  ackHeld(seconds: number): void
  malformed(reason: string): void
  closed(cause: string): void
}

interface Pending {
  request: SendRequest
  payload: Buffer[]
  bytes: number
  outstanding: Outstanding | undefined
  oneway: boolean
}

export class Session {
  readonly #context: SessionContext
  readonly #client: Socket
  readonly #source: Socket
  readonly #requests: FrameScanner
  readonly #answers: FrameScanner
  readonly #pending = new Map<number, Pending>()
  #pendingBytes = 0
  /** The send whose body is coming in, and its opaque towards the source. */
  #incoming: Pending | undefined
  #incomingOpaque = 0
  /** The send whose answer is coming in, and what the answer says. */
  #answering: { pending: Pending; answer: SendAnswer | undefined; stored: boolean } | undefined
  /** Below any opaque that a client counts up to. */
  #ownOpaque = -0x80000000
  /** Answers not passed on yet, because an ack among them waits for its place to be written. */
  #held: Buffer[][] = []
  #holding = 0
  /** What is done when they have been passed on. */
  #after: (() => void)[] = []
  #clientPaused = false
  #sourcePaused = false
  #draining = false
  #closed = false

  constructor(context: SessionContext, client: Socket, source: Socket) {
    this.#context = context
    this.#client = client
    this.#source = source
    const requestSink: FrameSink = { head: head => this.#requestHead(head), frame: body => this.#requestFrame(body) }
    const answerSink: FrameSink = { head: head => this.#answerHead(head), frame: () => this.#answerFrame() }
    this.#requests = new FrameScanner(requestSink, context.frameBytesMax)
    this.#answers = new FrameScanner(answerSink, context.frameBytesMax, ANSWER_HEADER_BYTES_MAX)
  }

  /** Both sockets are up. */
  start(): void {
    const { log } = this.#context
    this.#client.on('data', chunk => this.#fromClient(chunk))
    this.#source.on('data', chunk => this.#fromSource(chunk))
    this.#client.on('drain', () => this.#flowToClient())
    this.#source.on('drain', () => this.#flowToSource())
    this.#client.on('end', () => this.#source.end())
    this.#source.on('end', () => this.#afterHeld(() => this.#client.end()))
    this.#client.on('error', error => log.debug({ err: error }, 'client connection failed'))
    this.#source.on('error', error => log.debug({ err: error }, 'source connection failed'))
    this.#client.on('close', () => this.close('client'))
    this.#source.on('close', () => this.#afterHeld(() => this.close('source')))
  }

  /** Ends both sides. */
  close(cause: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#client.destroy()
    this.#source.destroy()
    const { broker } = this.#context
    for (const { outstanding } of this.#pending.values()) if (outstanding !== undefined) broker.unanswered(outstanding)
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
    try {
      this.#requests.push(chunk, out)
    } catch (error) {
      return this.#malformed('client', error as Error)
    }
    if (!writeAll(this.#source, out) || this.#pendingBytes > this.#context.pendingBytesMax) this.#pauseClient()
    if (this.#draining) this.#stopReading()
  }

  #requestHead(head: FrameHead): Verdict {
    if (!isSend(head.code) || head.isResponse) return undefined
    const request = readSendRequest(head)
    if (!this.#context.policy.isTeed(request.topic)) return undefined
    // The properties are kept beyond this chunk's turn as it is: they are a view of it.
    this.#incoming = { request, payload: [], bytes: head.frameBytes, outstanding: undefined, oneway: head.isOneway }
    this.#incomingOpaque = head.opaque
    this.#requests.collect()
    if (!head.isOneway) return undefined
    while (this.#pending.has(this.#ownOpaque)) this.#ownOpaque++
    this.#incomingOpaque = this.#ownOpaque++
    return asTwoWay(head, this.#incomingOpaque)
  }

  /** The last of a send's body is here and goes on after this: registered before it is written. */
  #requestFrame(body: Buffer[]): void {
    const pending = this.#incoming!
    const opaque = this.#incomingOpaque
    this.#incoming = undefined
    pending.payload = body
    const { broker } = this.#context
    pending.outstanding = broker.forwarded(pending.request.topic, pending.request.queueId)
    const same = this.#pending.get(opaque)
    // Two under one opaque: their answers cannot be told apart, and the first is taken to have none.
    if (same?.outstanding !== undefined) {
      this.#pendingBytes -= same.bytes
      broker.unanswered(same.outstanding)
    }
    this.#pending.set(opaque, pending)
    this.#pendingBytes += pending.bytes
  }

  // Answers

  #fromSource(chunk: Buffer): void {
    if (this.#closed) return
    const out: Buffer[] = []
    try {
      this.#answers.push(chunk, out)
    } catch (error) {
      return this.#malformed('source', error as Error)
    }
    // Acks in this chunk wait for the journal, and what comes behind them waits with them: bytes keep their order.
    if (this.#holding > 0) this.#held.push(out)
    else writeAll(this.#client, out)
    this.#flowToClient()
    if (this.#draining) this.#stopReading()
  }

  #answerHead(head: FrameHead): Verdict {
    if (!head.isResponse) return undefined
    const pending = this.#pending.get(head.opaque)
    if (pending === undefined) return undefined
    this.#pending.delete(head.opaque)
    this.#pendingBytes -= pending.bytes
    const stored = saysStored(head.code)
    this.#answering = { pending, stored, answer: stored ? readSendAnswer(head) : undefined }
    this.#answers.collect()
    return pending.oneway ? null : undefined
  }

  #answerFrame(): void {
    const { pending, answer, stored } = this.#answering!
    this.#answering = undefined
    if (this.#clientPaused) this.#flowToSource()
    const { broker, log } = this.#context
    const outstanding = pending.outstanding!
    if (!stored) return broker.refused(outstanding)
    if (answer === undefined) {
      log.error(
        { topic: pending.request.topic },
        'the source accepted a message without saying where: it cannot be replicated',
      )
      return broker.unanswered(outstanding)
    }
    this.#accept(pending, outstanding, answer)
  }

  #accept({ request, payload }: Pending, outstanding: Outstanding, answer: SendAnswer): void {
    const { broker, log, remoteCluster, skipped, ackHeld } = this.#context
    let messages: ReturnType<typeof accepted>
    try {
      messages = accepted(request, answer, payload, Date.now(), remoteCluster())
    } catch (error) {
      // The broker took a batch whose members cannot be cut apart; it may have stored something else than was meant.
      log.error(
        { topic: request.topic, err: error },
        'the source accepted a batch that cannot be read: it cannot be replicated',
      )
      return broker.unanswered(outstanding)
    }
    for (const [reason, count] of messages.skipped) {
      broker.skipped(reason, count)
      skipped(reason, request.topic)
    }
    if (messages.messages.length === 0) return broker.refused(outstanding)
    this.#holding++
    const since = performance.now()
    broker.acked(outstanding, answer.queueId, messages.messages, () => {
      ackHeld((performance.now() - since) / 1000)
      if (--this.#holding === 0) this.#passHeld()
    })
  }

  #passHeld(): void {
    const held = this.#held
    this.#held = []
    if (this.#closed) return
    this.#client.cork()
    for (const out of held) writeAll(this.#client, out)
    this.#client.uncork()
    this.#flowToClient()
    if (this.#draining) this.#stopReading()
    const after = this.#after
    this.#after = []
    for (const call of after) call()
  }

  /** An ack that the source gave before it ended is still passed on. */
  #afterHeld(call: () => void): void {
    if (this.#holding > 0) this.#after.push(call)
    else call()
  }

  // Flow

  #pauseClient(): void {
    if (this.#clientPaused) return
    this.#clientPaused = true
    this.#client.pause()
  }

  #flowToSource(): void {
    if (!this.#clientPaused || this.#source.writableNeedDrain || this.#pendingBytes > this.#context.pendingBytesMax / 2)
      return
    this.#clientPaused = false
    if (!this.#draining) this.#client.resume()
  }

  #flowToClient(): void {
    if (this.#client.writableNeedDrain) {
      if (this.#client.writableLength > this.#context.pendingBytesMax) {
        this.#context.log.warn(
          { bytes: this.#client.writableLength, limit: this.#context.pendingBytesMax },
          'client does not read its answers: connection closed',
        )
        return this.close('client-too-slow')
      }
      if (!this.#sourcePaused && this.#pending.size === 0) {
        this.#sourcePaused = true
        this.#source.pause()
      }
    } else if (this.#sourcePaused) {
      this.#sourcePaused = false
      this.#source.resume()
    }
  }

  /** While draining: at a boundary no more is read, and when all sends are answered the connection ends. */
  #stopReading(): void {
    if (!this.#requests.atBoundary) return
    this.#client.pause()
    if (this.#pending.size === 0 && this.#holding === 0) this.#source.end()
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
function writeAll(socket: Socket, out: readonly Buffer[]): boolean {
  if (out.length === 1) return socket.write(out[0]!)
  if (out.length === 0) return !socket.writableNeedDrain
  socket.cork()
  for (const bytes of out) socket.write(bytes)
  socket.uncork()
  return !socket.writableNeedDrain
}
