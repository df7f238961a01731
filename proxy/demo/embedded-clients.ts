// Who is connected to an embedded broker: the producer and consumer groups that heart-beats told, the subscriptions of
// consumers, and the queues that consumers have locked.
//
// A client is what came in by one connection, and is gone with it. It sends nothing itself: it says whom to tell.

import type { Connection } from './embedded-server.ts'

const LOCK_MS = 60_000

export interface Client {
  clientId: string
  language: string
  version: number
}

export interface Subscription {
  expressionType: string
  /** `*`, or tags with `||` between them. */
  expression: string
}

interface Heartbeat {
  clientID?: string
  producerDataSet?: { groupName: string }[]
  consumerDataSet?: {
    groupName: string
    subscriptionDataSet?: { topic: string; subString: string; expressionType?: string }[]
  }[]
}

interface ConsumerGroup {
  clients: Map<Connection, Client>
  subscriptions: Map<string, Subscription>
}

interface MessageQueue {
  topic: string
  brokerName: string
  queueId: number
}

export class EmbeddedClients {
  readonly #producers = new Map<string, Map<Connection, Client>>()
  readonly #consumers = new Map<string, ConsumerGroup>()
  readonly #locks = new Map<string, { clientId: string; until: number }>()
  readonly #changed: (group: string, members: Connection[]) => void

  /** `changed` is called when a consumer came to a group or left it. */
  constructor(changed: (group: string, members: Connection[]) => void) {
    this.#changed = changed
  }

  /** Takes a heart-beat; returns the consumer groups in it. */
  heartbeat(connection: Connection, body: Buffer, language: string, version: number): string[] {
    const beat = JSON.parse(body.toString()) as Heartbeat
    const client = { clientId: beat.clientID ?? '', language, version }
    for (const { groupName } of beat.producerDataSet ?? []) {
      const clients = this.#producers.get(groupName) ?? new Map<Connection, Client>()
      this.#producers.set(groupName, clients.set(connection, client))
    }
    const groups: string[] = []
    for (const { groupName, subscriptionDataSet = [] } of beat.consumerDataSet ?? []) {
      groups.push(groupName)
      const group = this.#consumers.get(groupName) ?? { clients: new Map(), subscriptions: new Map() }
      this.#consumers.set(groupName, group)
      const isNew = !group.clients.has(connection)
      group.clients.set(connection, client)
      for (const { topic, subString, expressionType = 'TAG' } of subscriptionDataSet)
        group.subscriptions.set(topic, { expressionType, expression: subString })
      if (isNew) this.#changed(groupName, [...group.clients.keys()])
    }
    return groups
  }

  unregister(connection: Connection, producerGroup: string | undefined, consumerGroup: string | undefined): void {
    if (producerGroup !== undefined) this.#removeProducer(producerGroup, connection)
    if (consumerGroup !== undefined) this.#removeConsumer(consumerGroup, connection)
  }

  closed(connection: Connection): void {
    for (const group of this.#producers.keys()) this.#removeProducer(group, connection)
    for (const group of this.#consumers.keys()) this.#removeConsumer(group, connection)
  }

  producersOf(group: string): ReadonlyMap<Connection, Client> | undefined {
    return this.#producers.get(group)
  }

  consumersOf(group: string): string[] {
    return [...(this.#consumers.get(group)?.clients.values() ?? [])].map(client => client.clientId)
  }

  hasConsumers(group: string): boolean {
    return this.#consumers.has(group)
  }

  subscription(group: string, topic: string): Subscription | undefined {
    return this.#consumers.get(group)?.subscriptions.get(topic)
  }

  /** The queues of these that the client has from now on. */
  lock(group: string, clientId: string, queues: MessageQueue[]): MessageQueue[] {
    const now = Date.now()
    return queues.filter(queue => {
      const key = lockKey(group, queue)
      const held = this.#locks.get(key)
      if (held !== undefined && held.clientId !== clientId && held.until > now) return false
      this.#locks.set(key, { clientId, until: now + LOCK_MS })
      return true
    })
  }

  unlock(group: string, clientId: string, queues: MessageQueue[]): void {
    for (const queue of queues) {
      const key = lockKey(group, queue)
      if (this.#locks.get(key)?.clientId === clientId) this.#locks.delete(key)
    }
  }

  #removeProducer(group: string, connection: Connection): void {
    const clients = this.#producers.get(group)
    clients?.delete(connection)
    if (clients?.size === 0) this.#producers.delete(group)
  }

  #removeConsumer(name: string, connection: Connection): void {
    const group = this.#consumers.get(name)
    if (group?.clients.delete(connection) !== true) return
    if (group.clients.size === 0) this.#consumers.delete(name)
    this.#changed(name, [...group.clients.keys()])
  }
}

function lockKey(group: string, { topic, brokerName, queueId }: MessageQueue): string {
  return `${group}@${topic}@${brokerName}@${queueId}`
}
