// Messages that the remote will never take, kept in a file of JSON lines: place, reason, properties and payload (base64).
//
// A message counts as a dead letter when its line is synced; until then its lane waits. One file a start of the gateway.

import { type Body, payloadOf, propertiesOf } from './body.ts'
import type { Environment } from './environment.ts'
import type { AppendFile } from './file-system.ts'
import type { QueuedPlace } from './place-queue.ts'

export class DeadLetters {
  readonly #environment: Environment
  readonly #path: string
  #file: AppendFile | undefined

  constructor(environment: Environment, path: string) {
    this.#environment = environment
    this.#path = path
  }

  /** Throws where it cannot be written and synced. */
  async add(topic: string, queueId: number, place: QueuedPlace, body: Body, reason: string): Promise<void> {
    const line = JSON.stringify({
      at: new Date(this.#environment.clock.now()).toISOString(),
      reason,
      topic,
      queueId,
      queueOffset: place.queueOffset,
      epoch: place.epoch,
      bornTimestamp: place.bornTimestamp,
      flag: body.flag,
      sysFlag: body.sysFlag,
      properties: propertiesOf(body).toString('base64'),
      payload: Buffer.concat(payloadOf(body)).toString('base64'),
    })
    this.#file ??= this.#environment.fileSystem.create(this.#path)
    this.#file.append(Buffer.from(`${line}\n`))
    await this.#file.sync()
  }

  async close(): Promise<void> {
    await this.#file?.close()
  }
}
