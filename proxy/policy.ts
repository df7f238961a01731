// Which topics are teed at all. (What a single message of such a topic is, tee.ts looks at.)

/** Topics that belong to RocketMQ itself, or to a gateway (TopicValidator.java, and what design and protocol add). */
const systemTopics = new Set([
  'SCHEDULE_TOPIC_XXXX',
  'TBW102',
  'DefaultHeartBeatSyncerTopic',
  'CHECKPOINT_TOPIC',
  'OFFSET_MOVED_EVENT',
  'TRANS_CHECK_MAX_TIME_TOPIC',
  'SELF_TEST_TOPIC',
  'BenchmarkTest',
  'TEE_MARKER',
])
const systemPrefixes = ['%RETRY%', '%DLQ%', '%LMQ%', 'RMQ_SYS_', 'rmq_sys_']

/** Decides by topic, and remembers. `isClusterName`: topics of the name of a cluster or a broker are the brokers' own. */
export class TopicPolicy {
  readonly #chosen: (topic: string) => boolean
  readonly #isClusterName: (topic: string) => boolean
  readonly #decided = new Map<string, boolean>()

  constructor(chosen: (topic: string) => boolean, isClusterName: (topic: string) => boolean) {
    this.#chosen = chosen
    this.#isClusterName = isClusterName
  }

  isTeed(topic: string): boolean {
    let teed = this.#decided.get(topic)
    if (teed === undefined) {
      teed = !this.#isSystem(topic) && this.#chosen(topic)
      // A client may name any number of topics that do not exist.
      if (this.#decided.size >= 100_000) this.#decided.clear()
      this.#decided.set(topic, teed)
    }
    return teed
  }

  #isSystem(topic: string): boolean {
    return (
      systemTopics.has(topic) ||
      systemPrefixes.some(prefix => topic.startsWith(prefix)) ||
      topic.endsWith('_REPLY_TOPIC') ||
      this.#isClusterName(topic)
    )
  }
}
