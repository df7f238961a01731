// Whether what a real client was told is safe stands at the remote as the client sent it.

import { createHash } from 'node:crypto'
import { inflateSync } from 'node:zlib'
import { decodeProperties, type StoredMessage } from '../../codec/index.ts'
import { keyOf } from '../../proxy/demo/proof.ts'

/** What a client says of a message that was acked. */
export interface Sent {
  keys: string
  /** Null where the client gives none: Go to the members of a batch. */
  uniqKey: string | null
  tags: string | null
  bodySha1: string
  properties: Record<string, string>
}

export function keysOf(messages: readonly { keys: string }[]): Set<string> {
  return new Set(messages.map(({ keys }) => keys))
}

const COMPRESSED = 0x1
/** Properties that are not a user's: the client's own, the brokers', and the stamp. */
const notUsers = new Set([
  'KEYS',
  'TAGS',
  'UNIQ_KEY',
  'WAIT',
  'TEE_ORIGIN',
  'MSG_REGION',
  'TRACE_ON',
  'CLUSTER',
  'INSTANCE_ID',
  '__SHARDINGKEY',
  'SHARDING_KEY',
])

/** Differences between what was sent and what stands at the remote; none when all is well. */
export function differences(sent: readonly Sent[], remote: ReadonlyMap<string, StoredMessage[]>): string[] {
  const byKey = new Map<string, StoredMessage>()
  for (const messages of remote.values()) for (const message of messages) byKey.set(keyOf(message), message)
  const out: string[] = []
  for (const message of sent) {
    const stored = byKey.get(message.keys)
    if (stored === undefined) {
      out.push(`${message.keys} is missing`)
      continue
    }
    const properties = decodeProperties(stored.properties)
    const body = stored.sysFlag & COMPRESSED ? inflateSync(stored.body) : stored.body
    const users = Object.fromEntries([...properties].filter(([name]) => !notUsers.has(name)).sort())
    const expected = Object.fromEntries(
      Object.entries(message.properties)
        .filter(([name]) => !notUsers.has(name))
        .sort(),
    )
    if (createHash('sha1').update(body).digest('hex') !== message.bodySha1) out.push(`${message.keys} has another body`)
    if ((properties.get('TAGS') ?? null) !== message.tags)
      out.push(`${message.keys} has tags ${properties.get('TAGS')}, was sent with ${message.tags}`)
    if ((properties.get('UNIQ_KEY') ?? null) !== message.uniqKey)
      out.push(`${message.keys} has UNIQ_KEY ${properties.get('UNIQ_KEY')}, was sent with ${message.uniqKey}`)
    if (JSON.stringify(users) !== JSON.stringify(expected))
      out.push(`${message.keys} has properties ${JSON.stringify(users)}, was sent with ${JSON.stringify(expected)}`)
    if (!properties.has('TEE_ORIGIN')) out.push(`${message.keys} has no stamp`)
  }
  return out
}
