// Which listener of ours stands for which broker address of the source, kept in dataDir/listeners.json.
//
// Broker i has port communicationPort + 4 × i, and port − 2 answers as its VIP port. A number once given stays, so that
// a restart keeps every port, and a broker that comes back finds its clients. Pure but for the file, which is handed in.

import type { BrokerAddress } from '../codec/index.ts'

export interface ListenerEntry {
  /** Number of the address in the table. */
  index: number
  broker: string
  cluster: string
  brokerId: number
  /** The source's address, `ip:port`. */
  address: string
  /** Port of our listener, once it listens; with free ports (tests) it is kept all the same. */
  port: number
}

export class AddressTable {
  readonly entries: ListenerEntry[] = []

  /** The entry of a broker's address; a new one when it was not known. Says whether anything changed. */
  learn({ broker, cluster, brokerId, address }: BrokerAddress): { entry: ListenerEntry; changed: boolean } {
    const known = this.entries.find(entry => entry.broker === broker && entry.brokerId === brokerId)
    if (known !== undefined) {
      const changed = known.address !== address || known.cluster !== cluster
      known.address = address
      known.cluster = cluster
      return { entry: known, changed }
    }
    const entry = { index: this.entries.length, broker, cluster, brokerId, address, port: 0 }
    this.entries.push(entry)
    return { entry, changed: true }
  }

  /** Number of a broker name among all names, by first appearance: the same over restarts. */
  ordinal(broker: string): number {
    const names: string[] = []
    for (const entry of this.entries) if (!names.includes(entry.broker)) names.push(entry.broker)
    return names.indexOf(broker)
  }

  encode(): Buffer {
    return Buffer.from(`${JSON.stringify({ version: 1, listeners: this.entries }, undefined, 2)}\n`)
  }

  /** Takes over what a file holds. Throws where it is not ours. */
  restore(bytes: Buffer): void {
    const { version, listeners } = JSON.parse(bytes.toString()) as { version: number; listeners: ListenerEntry[] }
    if (version !== 1) throw new Error(`listeners.json is of version ${version}; this program reads version 1`)
    this.entries.push(...listeners)
  }
}
