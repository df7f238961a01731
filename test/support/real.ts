// Tests that need real RocketMQ: skipped where its tools are missing, but failing under CI, which has to have them.
// A cluster is started by the first test that asks, is shared by all of the process that ask for the like, and ends with it.

import { spawnSync } from 'node:child_process'
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

/** Why tests on real RocketMQ cannot run here, clients in Java among them, which are compiled first. Asked once: it starts JVMs. */
export const missingRocketMQ =
  missingTools() ??
  (spawnSync('javac', ['-version'], { stdio: 'ignore' }).status === 0
    ? undefined
    : 'the Java clients need javac, which is not here')

type Body = (t: ExecutionContext) => Promise<void>

export function realTest(title: string, body: Body, missing = missingRocketMQ): void {
  if (missing === undefined) test.serial(title, body)
  else if (process.env.CI === 'true') test.serial(title, t => t.fail(`cannot run: ${missing}`))
  else test.serial.skip(`${title} (${missing})`, body)
}

/** By name and options. */
const started = new Map<string, Promise<RealCluster>>()

test.after.always('the clusters end', async () => {
  // One that did not start has nothing to end, and was said by the test that asked.
  await Promise.allSettled([...started.values()].map(async cluster => (await cluster).stop()))
})

/** Clusters by their names; those of the same name and options are the same for all tests of the process. */
export function sharedClusters<Name extends string>(
  options: Record<Name, Omit<RealClusterOptions, 'name'>>,
): () => Promise<Record<Name, RealCluster>> {
  const names = Object.keys(options) as Name[]
  const get = (name: Name) => {
    const key = JSON.stringify([name, options[name]])
    const cluster = started.get(key) ?? startRealCluster({ ...options[name], name })
    started.set(key, cluster)
    return cluster
  }
  return async () => {
    const clusters = await Promise.all(names.map(get))
    return Object.fromEntries(names.map((name, i) => [name, clusters[i]])) as Record<Name, RealCluster>
  }
}

/** What most tests need. Who changes them leaves them as they were: running, and with all that they had. */
export const pair = sharedClusters({ source: {}, remote: { brokerConfig: asRemote } })
