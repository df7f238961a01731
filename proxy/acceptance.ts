// Takes over a send that the source has accepted: cuts it into messages, and gives each to the broker's replay or counts why not.
//
// For the answer that a session reads, and for what is found at the source after a session has ended.

import { CodecError, type SendAnswer } from '../codec/index.ts'
import { ALL_REMOTES, type Clock, type Log, type Send, SKIP_REASONS, type SourceBroker } from '../replay/index.ts'
import { type TeeRemote, type TeeSink, tee } from './tee.ts'

export interface AcceptanceContext {
  clock: Clock
  log: Log
  broker: SourceBroker
  remotes: readonly TeeRemote[]
  /** Something was skipped by rule, of a topic. */
  skipped(reason: string, topic: string): void
}

export class Acceptance {
  readonly #context: AcceptanceContext
  readonly #sink: TeeSink
  /** The send that is taken over, where it is, how many messages it has, and how many of them have been. */
  #send: Send | undefined
  #queueId = 0
  #messages = 0
  #taken = 0

  constructor(context: AcceptanceContext) {
    this.#context = context
    const { broker } = context
    this.#sink = {
      message: message => {
        this.#messages++
        // Where nothing has room for it, it counts as lost, and is skipped from then on.
        const isSkipped = message.skipMask === ALL_REMOTES
        if (!broker.acked(this.#send!, this.#queueId, message)) return
        this.#taken++
        if (isSkipped) context.skipped(SKIP_REASONS[message.skipReason]!, this.#send!.topic)
      },
    }
  }

  /** True where its places are to be written before anybody is told. */
  accept(send: Send, answer: SendAnswer): boolean {
    const { broker, clock, log, remotes } = this.#context
    this.#send = send
    this.#queueId = answer.queueId
    this.#messages = this.#taken = 0
    try {
      tee(send, answer, clock.now(), remotes, this.#sink)
    } catch (error) {
      if (!(error instanceof CodecError)) throw error
      // The broker took a batch whose members cannot be cut apart; it may have stored something else than was meant.
      log.error(
        { topic: send.topic, err: error },
        'the source accepted a batch that cannot be read: it cannot be replicated',
      )
      broker.unresolved()
    }
    this.#send = undefined
    if (this.#taken === 0) broker.refused(send)
    else broker.answered(send, answer.queueId)
    return this.#messages > 0
  }
}
