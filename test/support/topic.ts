// Makes a topic at the first broker of a cluster, or changes one that is there.

import { RequestCode, ResponseCode } from '../../codec/index.ts'
import type { Cluster as DemoCluster } from '../../proxy/demo/cluster.ts'
import { Cluster, parseAddress } from '../../replay/index.ts'
import { until } from './gateway-process.ts'
import { environment } from './load.ts'

/** Permissions of a topic. */
export const WRITE_ONLY = 2
export const READ_AND_WRITE = 6

/** Waits until the name server tells it so. */
export async function setTopic({ nameServer, brokers }: DemoCluster, topic: string, perm: number): Promise<void> {
  const cluster = new Cluster(environment, [parseAddress(nameServer)])
  try {
    const { header } = await cluster.ask(brokers[0]!.address, RequestCode.UPDATE_AND_CREATE_TOPIC, [
      ['topic', topic],
      ['defaultTopic', 'TBW102'],
      ['readQueueNums', 4],
      ['writeQueueNums', 4],
      ['perm', perm],
      ['topicFilterType', 'SINGLE_TAG'],
      ['topicSysFlag', 0],
      ['order', false],
    ])
    if (header.code !== ResponseCode.SUCCESS) throw new Error(`topic ${topic}: code ${header.code} ${header.remark}`)
    await until(`the route of ${topic} has permission ${perm}`, async () =>
      Boolean((await cluster.route(topic))?.queues.every(queue => queue.perm === perm)),
    )
  } finally {
    cluster.end()
  }
}
