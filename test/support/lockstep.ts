// Two clusters' queues of one topic, read side by side: for more messages than fit into memory.
//
// Only where all that the source has is to be at the remote: each queue is then exactly the same, message by message.

import { decodeStamp, findProperty, STAMP_PROPERTY, type StoredMessage } from '../../codec/index.ts'
import type { Cluster as DemoCluster } from '../../proxy/demo/cluster.ts'
import { Cluster, parseAddress, pull } from '../../replay/index.ts'
import { environment } from './load.ts'

/** How many messages are the same, from the start on, and what is not; undefined where all is. */
export async function sameQueues(
  source: DemoCluster,
  remote: DemoCluster,
  topic: string,
  queues: number,
): Promise<{ same: number; difference: string | undefined }> {
  const results = await Promise.all(
    Array.from({ length: queues }, (_, queueId) => sameQueue(source, remote, topic, queueId)),
  )
  return {
    same: results.reduce((sum, { same }) => sum + same, 0),
    difference: results.find(({ difference }) => difference !== undefined)?.difference,
  }
}

async function sameQueue(source: DemoCluster, remote: DemoCluster, topic: string, queueId: number) {
  const originals = messagesOf(source, topic, queueId)
  const copies = messagesOf(remote, topic, queueId)
  let same = 0
  try {
    for (;;) {
      const [original, copy] = await Promise.all([originals.next(), copies.next()])
      if (original.done && copy.done) return { same, difference: undefined }
      if (original.done || copy.done || !isCopy(copy.value, original.value))
        return { same, difference: `queue ${queueId}, message ${same}` }
      same++
    }
  } finally {
    await Promise.all([originals.return(undefined), copies.return(undefined)])
  }
}

function isCopy(copy: StoredMessage, original: StoredMessage): boolean {
  const stamp = decodeStamp(findProperty(copy.properties, STAMP_PROPERTY) ?? '')
  return (
    stamp?.queueId === original.queueId &&
    stamp.queueOffset === original.queueOffset &&
    findProperty(copy.properties, 'UNIQ_KEY') === findProperty(original.properties, 'UNIQ_KEY') &&
    copy.body.equals(original.body)
  )
}

async function* messagesOf(
  { nameServer, brokers }: DemoCluster,
  topic: string,
  queueId: number,
): AsyncGenerator<StoredMessage, undefined> {
  const cluster = new Cluster(environment, [parseAddress(nameServer)])
  try {
    for (let offset = 0; ; ) {
      const { messages, nextOffset, maxOffset } = await pull(cluster, brokers[0]!.address, topic, queueId, offset)
      yield* messages
      if (messages.length === 0 && nextOffset >= maxOffset) return undefined
      offset = Math.max(nextOffset, offset)
    }
  } finally {
    cluster.end()
  }
}
