// How long a broker may go on executing what it has received on a connection that is gone.
//
// A send that waits in the broker's queue for longer than waitTimeMillsInSendQueue is dropped (BrokerFastFailure.java);
// five times that, at least a second. Where that cannot be had, or is switched off: ten seconds.

import { RequestCode, ResponseCode, readBrokerConfig } from '../codec/index.ts'
import type { Answer, Cluster } from './cluster.ts'

const SHORTEST = 1_000
export const EXECUTION_UNKNOWN = 10_000
const FACTOR = 5

/** Milliseconds. Throws LinkError. */
export async function executionPause(cluster: Cluster, address: string): Promise<number> {
  return pauseOf(await cluster.ask(address, RequestCode.GET_BROKER_CONFIG))
}

/** Milliseconds, by the broker's answer to GET_BROKER_CONFIG. */
export function pauseOf({ header, body }: Answer): number {
  if (header.code !== ResponseCode.SUCCESS) return EXECUTION_UNKNOWN
  const settings = readBrokerConfig(body)
  const inQueue = Number(settings.get('waitTimeMillsInSendQueue'))
  if (settings.get('brokerFastFailureEnable') !== 'true' || !(inQueue > 0)) return EXECUTION_UNKNOWN
  return Math.max(SHORTEST, FACTOR * inQueue)
}
