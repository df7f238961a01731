// The response codes that this project acts on, with their numbers.
//
// Source: ResponseCode.java and RemotingSysResponseCode.java under remoting/src/main/java/org/apache/rocketmq/remoting/protocol.

export const ResponseCode = {
  SUCCESS: 0,
  SYSTEM_ERROR: 1,
  SYSTEM_BUSY: 2,
  REQUEST_CODE_NOT_SUPPORTED: 3,
  FLUSH_DISK_TIMEOUT: 10,
  SLAVE_NOT_AVAILABLE: 11,
  FLUSH_SLAVE_TIMEOUT: 12,
  MESSAGE_ILLEGAL: 13,
  SERVICE_NOT_AVAILABLE: 14,
  NO_PERMISSION: 16,
  TOPIC_NOT_EXIST: 17,
  PULL_NOT_FOUND: 19,
  PULL_RETRY_IMMEDIATELY: 20,
  PULL_OFFSET_MOVED: 21,
  SUBSCRIPTION_NOT_EXIST: 24,
  SUBSCRIPTION_GROUP_NOT_EXIST: 26,
  INVALID_PARAMETER: 29,
  FLOW_CONTROL: 215,
  NOT_LEADER_FOR_QUEUE: 501,
} as const

/**
 * Whether an answer to a send says that the broker has the message: success, and the three that say that a flush or a
 * replica was late (SendMessageProcessor.handlePutMessageResult).
 */
export function saysStored(code: number): boolean {
  return code === 0 || code === 10 || code === 11 || code === 12
}
