// The proof: reads a topic of both clusters, message by message, and compares.
//
// A message is known by its KEYS, which the senders here make unique. Order is looked at for each source queue: its
// messages must stand in the remote in the order in which they stand at the source.

import { findProperty, type StoredMessage } from '../../codec/index.ts'
import { Cluster, type Environment, masterOf, parseAddress, pull } from '../../replay/index.ts'

export interface Proof {
  acked: number
  remote: number
  missing: string[]
  duplicates: string[]
  outOfOrder: string[]
}

export function keyOf({ properties }: StoredMessage): string {
  return findProperty(properties, 'KEYS') ?? ''
}

/** All messages of a topic, by `broker/queue`, as they stand there. */
export async function readTopic(
  environment: Environment,
  nameServer: string,
  topic: string,
): Promise<Map<string, StoredMessage[]>> {
  const cluster = new Cluster(environment, [parseAddress(nameServer)])
  const queues = new Map<string, StoredMessage[]>()
  try {
    const route = await cluster.route(topic)
    for (const { broker, readQueues } of route?.queues ?? []) {
      const address = masterOf(route!, broker)
      if (address === undefined) throw new Error(`broker ${broker} of ${topic} is away`)
      for (let queueId = 0; queueId < readQueues; queueId++)
        queues.set(`${broker}/${queueId}`, await readQueue(cluster, address, topic, queueId))
    }
  } finally {
    cluster.end()
  }
  return queues
}

async function readQueue(cluster: Cluster, address: string, topic: string, queueId: number): Promise<StoredMessage[]> {
  const all: StoredMessage[] = []
  for (let offset = 0; ; ) {
    const { messages, nextOffset, maxOffset } = await pull(cluster, address, topic, queueId, offset)
    all.push(...messages)
    if (messages.length === 0 && nextOffset >= maxOffset) return all
    offset = Math.max(nextOffset, offset)
  }
}

export function compare(
  acked: ReadonlySet<string>,
  source: ReadonlyMap<string, StoredMessage[]>,
  remote: ReadonlyMap<string, StoredMessage[]>,
): Proof {
  const placeAtSource = new Map<string, { queue: string; index: number }>()
  for (const [queue, messages] of source)
    messages.forEach((message, index) => placeAtSource.set(keyOf(message), { queue, index }))
  const proof: Proof = { acked: acked.size, remote: 0, missing: [], duplicates: [], outOfOrder: [] }
  const seen = new Set<string>()
  for (const messages of remote.values()) {
    const last = new Map<string, number>()
    for (const message of messages) {
      proof.remote++
      const key = keyOf(message)
      if (seen.has(key)) {
        proof.duplicates.push(key)
        continue
      }
      seen.add(key)
      const place = placeAtSource.get(key)
      if (place === undefined) continue
      if (place.index < (last.get(place.queue) ?? -1)) proof.outOfOrder.push(key)
      last.set(place.queue, place.index)
    }
  }
  for (const key of acked) if (!seen.has(key)) proof.missing.push(key)
  return proof
}

export function proofLine({ acked, remote, missing, duplicates, outOfOrder }: Proof): string {
  return `proof: acked=${acked} remote=${remote} missing=${missing.length} duplicates=${duplicates.length} out-of-order=${outOfOrder.length}`
}

export function holds({ acked, missing, duplicates, outOfOrder }: Proof): boolean {
  return acked > 0 && missing.length === 0 && duplicates.length === 0 && outOfOrder.length === 0
}
