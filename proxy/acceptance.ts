// Takes over a send that the source has accepted: cuts it into messages, and gives each to the broker's replay or counts why not.
//
// For the answer that a session reads, and for what is found at the source after a session has ended.

import { CodecError, type SendAnswer } from '../codec/index.ts'
import type { Send, SourceBroker } from '../replay/index.ts'
import type { Logger } from './logger.ts'
import { type TeeSink, tee } from './tee.ts'

export interface AcceptanceContext {
  log: Logger
  broker: SourceBroker
  /** The remote cluster's name, once known. */
  remoteCluster(): string | undefined
  /** Something was skipped by rule, of a topic. */
  skipped(reason: string, topic: string): void
}

export class Acceptance {
  readonly #context: AcceptanceContext
  readonly #sink: TeeSink
  /** The send that is taken over, where it is, and how many of its messages go to the remote. */
  #send: Send | undefined
  #queueId = 0
  #teed = 0

  constructor(context: AcceptanceContext) {
    this.#context = context
    const { broker } = context
    this.#sink = {
      message: message => {
        this.#teed++
        broker.acked(this.#send!, this.#queueId, message)
      },
      skipped: reason => {
        broker.skipped(reason, 1)
        context.skipped(reason, this.#send!.topic)
      },
    }
  }

  /** True where its places are to be written before anybody is told. */
  accept(send: Send, answer: SendAnswer): boolean {
    const { broker, log, remoteCluster } = this.#context
    this.#send = send
    this.#queueId = answer.queueId
    this.#teed = 0
    try {
      tee(send, answer, Date.now(), remoteCluster(), this.#sink)
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
    if (this.#teed === 0) {
      broker.refused(send)
      return false
    }
    broker.answered(send, answer.queueId)
    return true
  }
}
