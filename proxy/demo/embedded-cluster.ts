// A whole cluster inside this process: a name server and brokers that speak the remoting protocol over TCP, with
// nothing on disk. For `rocketmq-tee demo --embedded`, where there is no Java, and for tests of what goes wrong.
//
// What it does is held against a real broker 5.3.3 by the same list of behaviours (test/proxy/demo/broker-behaviour.ts).

import type { Cluster } from './cluster.ts'
import { EmbeddedBroker } from './embedded-broker.ts'
import { EmbeddedNameServer } from './embedded-name-server.ts'
import type { AnswerType } from './embedded-server.ts'

export { EmbeddedBroker } from './embedded-broker.ts'
export type { EmbeddedNameServer } from './embedded-name-server.ts'
export type { EmbeddedStore } from './embedded-store.ts'
export type { Fault, FaultRequest, Faults, Scope } from './faults.ts'

export interface EmbeddedOptions {
  name: string
  /** How many, 1 by default, at most 26: their names end in -a, -b, … */
  brokers?: number
  /** Brokers that keep nothing, for benchmarks. Their topics are made by `store.createTopic` or code 17. */
  nullBroker?: boolean
  answerType?: AnswerType
  /** Bytes of messages that a broker keeps before the oldest go; 512 MiB by default. */
  keepBytes?: number
}

export interface EmbeddedCluster extends Cluster {
  version: 'embedded'
  brokers: EmbeddedBroker[]
  /** The name server itself: it can be stopped and started, and be told to keep stopped brokers in the routes. */
  names: EmbeddedNameServer
}

export async function startEmbeddedCluster(options: EmbeddedOptions): Promise<EmbeddedCluster> {
  const { name, brokers: count = 1, ...rest } = options
  const brokers: EmbeddedBroker[] = []
  const names = new EmbeddedNameServer(name, brokers)
  const stop = async () => {
    await Promise.all([names.stop(), ...brokers.map(broker => broker.stop())])
  }
  try {
    for (let i = 0; i < count; i++) {
      const broker = new EmbeddedBroker({ cluster: name, name: `${name}-${String.fromCharCode(97 + i)}`, ...rest })
      brokers.push(broker)
      await broker.start()
    }
    await names.start()
  } catch (error) {
    await stop()
    throw error
  }
  return { name, version: 'embedded', nameServer: names.address, brokers, names, stop }
}
