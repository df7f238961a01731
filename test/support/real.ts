// Tests that need real RocketMQ: skipped where its tools are missing, but failing under CI, which has to have them.
// The clusters of a file are started by the first test that asks, and end with the file.

import test, { type ExecutionContext } from 'ava'
import {
  missingTools,
  type RealCluster,
  type RealClusterOptions,
  startRealCluster,
} from '../../proxy/demo/real-cluster.ts'

/**
 * For brokers of a remote: a request waits there as long as it may by RocketMQ's own default. After each end of a connection
 * the gateway waits for five times that.
 */
export const asRemote = { waitTimeMillsInSendQueue: '200' }

type Body = (t: ExecutionContext) => Promise<void>

export function realTest(title: string, body: Body, missing = missingTools()): void {
  if (missing === undefined) test.serial(title, body)
  else if (process.env.CI === 'true') test.serial(title, t => t.fail(`cannot run: ${missing}`))
  else test.serial.skip(`${title} (${missing})`, body)
}

/** Clusters that the tests of a file share. */
export function sharedClusters<Name extends string>(
  file: string,
  options: Record<Name, Omit<RealClusterOptions, 'name'>>,
): () => Promise<Record<Name, RealCluster>> {
  const names = Object.keys(options) as Name[]
  let starting: Promise<PromiseSettledResult<RealCluster>[]> | undefined
  test.after.always(async () => {
    const started = (await starting) ?? []
    await Promise.all(started.map(result => (result.status === 'fulfilled' ? result.value.stop() : undefined)))
  })
  return async () => {
    starting ??= Promise.allSettled(names.map(name => startRealCluster({ ...options[name], name: `${file}-${name}` })))
    const clusters = (await starting).map(result => {
      if (result.status === 'rejected') throw result.reason
      return result.value
    })
    return Object.fromEntries(names.map((name, i) => [name, clusters[i]])) as Record<Name, RealCluster>
  }
}
