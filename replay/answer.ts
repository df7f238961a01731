// What an answer of the remote broker to a send means for the message. One table, one place.
//
// stored: it is there · again: it is not there, try again · unclear: find out · wait: not there, and no use in hurrying,
// an operator has to act · dead: this remote will never take this message.
// Facts: SendMessageProcessor.java and BrokerFastFailure.java in apache/rocketmq's broker.

import { ResponseCode, saysStored } from '../codec/index.ts'

export type Meaning = 'stored' | 'again' | 'unclear' | 'wait' | 'dead'

/**
 * Remarks of code 1 that are written before anything is stored. Not 'in-sync replicas not enough': a DLedger broker says it
 * when its own log has the message and the others are late.
 */
const NOT_STORED = ['create mapped file failed', 'flow control']
/** DLedger's: the message may be in the leader's log (DLedgerCommitLog.java). With it comes 'flow control'. */
const MAYBE_STORED = '[PC_SYNCHRONIZED]'

export function meaningOf(code: number, remark: string): Meaning {
  if (saysStored(code)) return 'stored'
  if (remark.includes(MAYBE_STORED)) return 'unclear'
  switch (code) {
    case ResponseCode.SYSTEM_BUSY:
    case ResponseCode.SERVICE_NOT_AVAILABLE:
    case ResponseCode.FLOW_CONTROL:
      return 'again'
    case ResponseCode.SYSTEM_ERROR:
      return NOT_STORED.some(text => remark.toLowerCase().includes(text)) ? 'again' : 'unclear'
    case ResponseCode.MESSAGE_ILLEGAL:
      return 'dead'
    default:
      // 16, 17, 29, ACL and topic troubles, and whatever is not known: never dead-lettered.
      return 'wait'
  }
}
