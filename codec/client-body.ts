// Bodies of the requests by which a broker knows its clients, and tells of itself.
//
// HEART_BEAT (34): HeartbeatData.java and ProducerData.java under remoting/.../protocol/heartbeat, taken by
// ClientManageProcessor.java. GET_PRODUCER_CONNECTION_LIST (204): ProducerConnection.java under protocol/body; a group that
// nobody is in is answered code 1 "the producer group[…] not exist" (AdminBrokerProcessor.getProducerConnectionList).
// GET_BROKER_CONFIG (26): all settings as lines of a properties file (Configuration.getAllConfigsFormatString).
// All in apache/rocketmq.

import { ResponseCode } from './response-code.ts'

/** The body of a heart-beat of one producer group. `heartbeatFingerprint` 0: the first, plain form, which 4.9 knows too. */
export function encodeHeartbeat(clientId: string, producerGroup: string): Buffer {
  return Buffer.from(
    JSON.stringify({
      clientID: clientId,
      producerDataSet: [{ groupName: producerGroup }],
      consumerDataSet: [],
      heartbeatFingerprint: 0,
      withoutSub: false,
    }),
  )
}

/** How many connections a producer group has; undefined where the answer does not tell (refused, or too busy). */
export function producerConnections(code: number, remark: string, body: Buffer): number | undefined {
  if (code === ResponseCode.SYSTEM_ERROR && remark.includes('not exist')) return 0
  if (code !== ResponseCode.SUCCESS) return undefined
  const { connectionSet } = JSON.parse(body.toString()) as { connectionSet?: unknown[] }
  return connectionSet?.length
}

/** A broker's settings. */
export function readBrokerConfig(body: Buffer): Map<string, string> {
  const settings = new Map<string, string>()
  for (const line of body.toString().split('\n')) {
    const equals = line.indexOf('=')
    if (equals > 0) settings.set(line.slice(0, equals).trim(), line.slice(equals + 1).trim())
  }
  return settings
}
