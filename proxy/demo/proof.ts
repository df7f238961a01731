// The proof: reads a topic of both clusters, message by message, and compares.
//
// A message is known by its KEYS, which the senders here make unique. Order is looked at for each source queue: its
// messages must stand in the remote in the order in which they stand at the source. Each is compared with the one that
// its stamp names: payload, flags, born timestamp and properties.
//
// What the remote's broker tore as it was killed (isTorn in replay/settle.ts) is told apart: nobody was told that it is stored.

import {
  decodeProperties,
  decodeStamp,
  findProperty,
  isStorageLeftover,
  STAMP_PROPERTY,
  type StoredMessage,
} from '../../codec/index.ts'
import { Cluster, type Environment, isTorn, masterOf, parseAddress, pull } from '../../replay/index.ts'

export interface Proof {
  acked: number
  remote: number
  missing: string[]
  duplicates: string[]
  outOfOrder: string[]
  /** Not as they stand at the place that their stamp names. */
  altered: string[]
  /** At the remote, which tore them as it died: keys, as far as they are there. They count as nothing else. */
  torn: string[]
}

/** How far born timestamps may be apart: those of a batch are one. */
const BORN_TOLERANCE = 1_000
/** Whether a payload is compressed, and how. */
const COMPRESSION = 0x701

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
  const placeAtSource = new Map<string, { queue: string; index: number; message: StoredMessage }>()
  const uniqKeys = new Map<string, number>()
  for (const [queue, messages] of source)
    messages.forEach((message, index) => {
      placeAtSource.set(keyOf(message), { queue, index, message })
      // Of two of one name the last counts: a batch's own stands behind the message's.
      const uniqKey = decodeProperties(message.properties).get('UNIQ_KEY') ?? ''
      uniqKeys.set(uniqKey, (uniqKeys.get(uniqKey) ?? 0) + 1)
    })
  const proof: Proof = {
    acked: acked.size,
    remote: 0,
    missing: [],
    duplicates: [],
    outOfOrder: [],
    altered: [],
    torn: [],
  }
  const seen = new Set<string>()
  for (const messages of remote.values()) {
    const last = new Map<string, number>()
    for (const message of messages) {
      const key = keyOf(message)
      if (isTorn(message)) {
        proof.torn.push(key)
        continue
      }
      proof.remote++
      if (seen.has(key)) {
        proof.duplicates.push(key)
        continue
      }
      seen.add(key)
      const place = placeAtSource.get(key)
      const stamp = decodeStamp(findProperty(message.properties, STAMP_PROPERTY) ?? '')
      const original =
        stamp === undefined ? place?.message : at(source.get(`${stamp.broker}/${stamp.queueId}`), stamp.queueOffset)
      if (original === undefined ? stamp !== undefined : !isCopy(message, original, uniqKeys)) proof.altered.push(key)
      if (place === undefined) continue
      if (place.index < (last.get(place.queue) ?? -1)) proof.outOfOrder.push(key)
      last.set(place.queue, place.index)
    }
  }
  for (const key of acked) if (!seen.has(key)) proof.missing.push(key)
  return proof
}

function at(messages: readonly StoredMessage[] | undefined, queueOffset: number): StoredMessage | undefined {
  return messages?.[queueOffset - (messages[0]?.queueOffset ?? 0)]
}

/** Whether all is as the client sent it. `uniqKeys`: how many messages of the source have each. */
function isCopy(copy: StoredMessage, original: StoredMessage, uniqKeys: ReadonlyMap<string, number>): boolean {
  return (
    copy.body.equals(original.body) &&
    copy.flag === original.flag &&
    (copy.sysFlag & COMPRESSION) === (original.sysFlag & COMPRESSION) &&
    Math.abs(copy.bornTimestamp - original.bornTimestamp) <= BORN_TOLERANCE &&
    ownProperties(copy, uniqKeys) === ownProperties(original, uniqKeys)
  )
}

/** Properties but for what brokers add and take away. */
function ownProperties({ properties }: StoredMessage, uniqKeys: ReadonlyMap<string, number>): string {
  const own = [...decodeProperties(properties)].filter(
    ([name, value]) =>
      // A 5.x broker does not store WAIT; up to 5.3.3 one stores a batch's own key into each of its messages.
      !isStorageLeftover(name) &&
      name !== STAMP_PROPERTY &&
      name !== 'WAIT' &&
      !(name === 'UNIQ_KEY' && uniqKeys.get(value) !== 1),
  )
  return JSON.stringify(own.sort())
}

export function proofLine({ acked, remote, missing, duplicates, outOfOrder, altered, torn }: Proof): string {
  const line = `proof: acked=${acked} remote=${remote} missing=${missing.length} duplicates=${duplicates.length} out-of-order=${outOfOrder.length} altered=${altered.length}`
  return torn.length === 0 ? line : `${line} torn-by-remote=${torn.length}`
}

/** Only a remote whose broker was killed may have torn some. */
export function holds(proof: Proof, remote: 'lives' | 'was killed' = 'lives'): boolean {
  const { acked, missing, duplicates, outOfOrder, altered, torn } = proof
  const wrong = [missing, duplicates, outOfOrder, altered, ...(remote === 'lives' ? [torn] : [])]
  return acked > 0 && wrong.every(({ length }) => length === 0)
}
