// Sample places, messages and bodies for the tests of replay/, and a writer of stored messages of its own.

import { encodeProperties, type StoredMessage } from '../../codec/index.ts'
import { Message } from '../../replay/message.ts'
import { hashOf, type Place } from '../../replay/place.ts'
import { int, long } from '../codec/wire.ts'

export const BORN = 1_750_000_000_123

export function placeAt(queueOffset: number, more: Partial<Place> = {}): Place {
  return {
    epoch: 1,
    sequence: queueOffset,
    queueOffset,
    commitLogOffset: queueOffset * 200,
    bornTimestamp: BORN,
    ackedAt: BORN + 10,
    hash: hashOf(Buffer.from(`KEY${queueOffset}`), []),
    placeFlags: 0,
    skipReason: 0,
    skipMask: 0,
    ...more,
  }
}

export function propertiesWith(key: string, more: [string, string][] = []): Buffer {
  return encodeProperties([['UNIQ_KEY', key], ...more])
}

/** A body with memory of its own, as it comes from a socket. */
export function bodyWith(text: string, properties = propertiesWith(text), sysFlag = 0, flag = 0): Message {
  return new Message(flag, sysFlag, own(properties), own(Buffer.from(text)))
}

export function own(bytes: Buffer): Buffer {
  return Buffer.from(new Uint8Array(bytes).buffer)
}

export function storedAt(queueOffset: number, more: Partial<StoredMessage> = {}): StoredMessage {
  return {
    topic: 'orders',
    queueId: 0,
    queueOffset,
    commitLogOffset: queueOffset * 200,
    sysFlag: 0,
    flag: 0,
    bornTimestamp: BORN,
    storeTimestamp: BORN + 5,
    preparedTransactionOffset: 0,
    body: Buffer.from(`body ${queueOffset}`),
    properties: propertiesWith(`KEY${queueOffset}`),
    ...more,
  }
}

/** As MessageExtEncoder writes it. */
export function encodeStored(message: StoredMessage): Buffer {
  const topic = Buffer.from(message.topic)
  const rest = Buffer.concat([
    int(0xdaa320a7, 4),
    int(0, 4),
    int(message.queueId, 4),
    int(message.flag, 4),
    long(BigInt(message.queueOffset)),
    long(BigInt(message.commitLogOffset)),
    int(message.sysFlag, 4),
    long(BigInt(message.bornTimestamp)),
    message.bornHost ?? Buffer.alloc(message.sysFlag & 0x10 ? 20 : 8),
    long(BigInt(message.storeTimestamp)),
    Buffer.alloc(message.sysFlag & 0x20 ? 20 : 8),
    int(0, 4),
    long(BigInt(message.preparedTransactionOffset)),
    int(message.body.length, 4),
    message.body,
    int(topic.length, 1),
    topic,
    int(message.properties.length, 2),
    message.properties,
  ])
  return Buffer.concat([int(rest.length + 4, 4), rest])
}
