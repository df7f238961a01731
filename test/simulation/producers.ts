// The producers that a model broker knows: by group, from heartbeats; forgotten with their connection, or when silent.
//
// Seen on a broker of 5.3.3: request 204 lists a connection while it lives, and answers code 1 once its group has none.

import type { End } from './network.ts'

/** A broker closes a producer that has been silent for so long. */
const SILENT = 120_000

interface Beat {
  clientID: string
  producerDataSet?: { groupName: string }[]
}

export class Producers {
  readonly #groups = new Map<string, Map<End, { clientId: string; at: number }>>()

  beat(end: End, { clientID, producerDataSet = [] }: Beat, at: number): void {
    for (const { groupName } of producerDataSet) {
      const group = this.#groups.get(groupName) ?? new Map()
      this.#groups.set(groupName, group.set(end, { clientId: clientID, at }))
    }
  }

  gone(end: End): void {
    for (const [name, group] of this.#groups) if (group.delete(end) && group.size === 0) this.#groups.delete(name)
  }

  scan(now: number): void {
    for (const group of [...this.#groups.values()])
      for (const [end, { at }] of group)
        if (now - at > SILENT) {
          end.destroy()
          this.gone(end)
        }
  }

  clear(): void {
    this.#groups.clear()
  }

  list(group: string): { code?: number; remark?: string; body?: Buffer } {
    const connections = this.#groups.get(group)
    if (connections === undefined) return { code: 1, remark: `the producer group[${group}] not exist` }
    const connectionSet = [...connections].map(([end, { clientId }]) => ({
      clientId,
      clientAddr: `${end.to}:1`,
      language: 'OTHER',
      version: 479,
    }))
    return { body: Buffer.from(JSON.stringify({ connectionSet })) }
  }
}
