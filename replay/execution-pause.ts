// How long a broker may go on executing what it has received on a connection that is gone.
//
// A send that waits in the broker's queue for longer than waitTimeMillsInSendQueue is dropped (BrokerFastFailure.java);
// five times that, at least a second. Where that cannot be had, or is switched off: ten seconds.

import { RequestCode, ResponseCode } from '../codec/index.ts'
import type { Cluster } from './cluster.ts'

const SHORTEST = 1_000
const UNKNOWN = 10_000
const FACTOR = 5
const WAIT_DEFAULT = 200

/** Milliseconds. Throws LinkError. */
export async function executionPause(cluster: Cluster, address: string): Promise<number> {
  const { header, body } = await cluster.ask(address, RequestCode.GET_BROKER_CONFIG)
  if (header.code !== ResponseCode.SUCCESS) return UNKNOWN
  return pauseOf(body.toString())
}

export function pauseOf(config: string): number {
  const value = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(config)?.[1]?.trim()
  if (value('brokerFastFailureEnable') === 'false') return UNKNOWN
  const wait = Number(value('waitTimeMillsInSendQueue') ?? WAIT_DEFAULT)
  return Number.isFinite(wait) ? Math.max(SHORTEST, FACTOR * wait) : UNKNOWN
}
