// The request codes that this project speaks of, with their numbers.
//
// Source: remoting/src/main/java/org/apache/rocketmq/remoting/protocol/RequestCode.java in apache/rocketmq.
// A code that is not here is passed on untouched: the table names, it does not restrict.

export const RequestCode = {
  SEND_MESSAGE: 10,
  PULL_MESSAGE: 11,
  UPDATE_AND_CREATE_TOPIC: 17,
  GET_BROKER_CONFIG: 26,
  GET_BROKER_RUNTIME_INFO: 28,
  SEARCH_OFFSET_BY_TIMESTAMP: 29,
  GET_MAX_OFFSET: 30,
  GET_MIN_OFFSET: 31,
  VIEW_MESSAGE_BY_ID: 33,
  HEART_BEAT: 34,
  UNREGISTER_CLIENT: 35,
  CONSUMER_SEND_MSG_BACK: 36,
  END_TRANSACTION: 37,
  CHECK_TRANSACTION_STATE: 39,
  GET_ROUTEINFO_BY_TOPIC: 105,
  GET_BROKER_CLUSTER_INFO: 106,
  GET_TOPIC_STATS_INFO: 202,
  GET_PRODUCER_CONNECTION_LIST: 204,
  SEND_MESSAGE_V2: 310,
  SEND_BATCH_MESSAGE: 320,
  SEND_REPLY_MESSAGE: 324,
  SEND_REPLY_MESSAGE_V2: 325,
  GET_TOPIC_CONFIG: 351,
  RECALL_MESSAGE: 370,
} as const

/** The requests whose accepted messages are copied to the remote. Replies (324, 325) are not among them. */
export function isSend(code: number): boolean {
  return (
    code === RequestCode.SEND_MESSAGE_V2 || code === RequestCode.SEND_MESSAGE || code === RequestCode.SEND_BATCH_MESSAGE
  )
}

/** What a request code is called in logs, `310 SEND_MESSAGE_V2`; an unknown code is its number. */
export function requestCodeName(code: number): string {
  for (const [name, value] of Object.entries(RequestCode)) if (value === code) return `${code} ${name}`
  return String(code)
}
