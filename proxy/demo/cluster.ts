// What a demo and the tests know of a cluster, whether it is a real one in Java or the one inside this process.
//
// It says how to reach, stop and start it, and nothing about how it is made.

export interface Broker {
  name: string
  /** `ip:port`, as the name server gives it out. */
  address: string
  /** Starts again, at the same address, with what was stored. */
  start(): Promise<void>
  stop(): Promise<void>
}

export interface Cluster {
  name: string
  version: string
  /** `ip:port` */
  nameServer: string
  brokers: Broker[]
  stop(): Promise<void>
}
