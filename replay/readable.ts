// May the source be read back from? For each topic at a broker, as told by one PULL of one message: at its first ack, every
// 10 minutes, and after a refusal.
//
// Until it is answered, and where it is refused (permission, ACL), it may not; nor where offsets are not those of the
// broker's own log (static topics), or messages go before their time (COMPACTION topics). Such a topic's messages have
// to be kept here. Who reads says what was refused; whoever keeps asks before each message, which costs a look-up.

import { RequestCode, ResponseCode } from '../codec/index.ts'
import type { Clock } from './clock.ts'
import { type Cluster, RefusedError } from './cluster.ts'
import type { Log } from './log.ts'
import { pull } from './reading.ts'

const ASK_AGAIN = 600_000
/** Where there was no answer. */
const RETRY = 5_000

interface Topic {
  name: string
  /** Why not; empty where it may be read, undefined while nobody knows. */
  reason: string | undefined
  /** A message that stands there. */
  queueId: number
  queueOffset: number
  asking: boolean
  cancel: () => void
}

export interface ReadableContext {
  clock: Clock
  log: Log
  source: Cluster
  broker: string
  address(): string
}

export class Readable {
  readonly #context: ReadableContext
  readonly #topics = new Map<string, Topic>()
  /** Clients send to few topics: the last one is not looked up again. */
  #last: Topic | undefined
  #closed = false

  constructor(context: ReadableContext) {
    this.#context = context
  }

  /** Whether what is acked of this topic can be had from the source again; a message of it stands at this place. */
  mayReadBack(name: string, queueId: number, queueOffset: number): boolean {
    const topic = this.#last?.name === name ? this.#last : this.#topic(name, queueId, queueOffset)
    this.#last = topic
    topic.queueId = queueId
    topic.queueOffset = queueOffset
    return topic.reason === ''
  }

  /** Whether it is known that it may not. */
  isRefused(name: string): boolean {
    return (this.#topics.get(name)?.reason ?? '') !== ''
  }

  /** Reading it back was refused: that holds until it is asked again, which is at once. */
  refused(name: string, reason: string): void {
    const topic = this.#topics.get(name)
    if (topic === undefined || topic.asking) return
    this.#learn(topic, reason)
    topic.cancel()
    void this.#ask(topic)
  }

  /** Topics that may not be read back, with the reason. */
  get refusals(): { topic: string; reason: string }[] {
    return [...this.#topics.values()]
      .filter(({ reason }) => reason !== undefined && reason !== '')
      .map(({ name, reason }) => ({ topic: name, reason: reason! }))
  }

  close(): void {
    this.#closed = true
    for (const { cancel } of this.#topics.values()) cancel()
  }

  #topic(name: string, queueId: number, queueOffset: number): Topic {
    const known = this.#topics.get(name)
    if (known !== undefined) return known
    const topic: Topic = { name, reason: undefined, queueId, queueOffset, asking: false, cancel: () => {} }
    this.#topics.set(name, topic)
    void this.#ask(topic)
    return topic
  }

  async #ask(topic: Topic): Promise<void> {
    if (this.#closed) return
    topic.asking = true
    let again = ASK_AGAIN
    try {
      this.#learn(topic, await this.#reasonNotTo(topic))
    } catch {
      // What was known holds until there is an answer.
      again = RETRY
    }
    topic.asking = false
    if (!this.#closed) topic.cancel = this.#context.clock.after(again, () => void this.#ask(topic))
  }

  #learn(topic: Topic, reason: string): void {
    const { log, broker } = this.#context
    if (reason !== '' && reason !== topic.reason)
      log.warn({ broker, topic: topic.name, reason }, 'the source may not be read back from: messages are kept here')
    else if (reason === '' && topic.reason) log.info({ broker, topic: topic.name }, 'the source may be read back from')
    topic.reason = reason
  }

  /** Throws LinkError. */
  async #reasonNotTo({ name, queueId, queueOffset }: Topic): Promise<string> {
    const { source, address } = this.#context
    const { header, body } = await source.ask(address(), RequestCode.GET_TOPIC_CONFIG, [['topic', name]])
    // Brokers of 4.9 have neither the request nor such topics.
    if (header.code !== ResponseCode.REQUEST_CODE_NOT_SUPPORTED) {
      if (header.code !== ResponseCode.SUCCESS) return `its settings were refused with code ${header.code}`
      const config = JSON.parse(body.toString()) as { attributes?: Record<string, string>; mappingDetail?: unknown }
      if (config.mappingDetail) return 'a static topic: its offsets are logical'
      if (config.attributes?.['cleanup.policy'] === 'COMPACTION')
        return 'a compaction topic: messages go before their time'
    }
    try {
      await pull(source, address(), name, queueId, queueOffset, 1)
      return ''
    } catch (error) {
      if (error instanceof RefusedError) return error.message
      throw error
    }
  }
}
