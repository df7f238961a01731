// Messages that the remote will never take, kept in a file of JSON lines: place, reason, properties and payload (base64).
//
// A message counts as a dead letter when its line is synced; until then its lane waits. One file a start of the gateway, and
// a fresh one after a failure: nothing is known of the end of the old.

import { type Body, payloadOf, propertiesOf } from './body.ts'
import type { Environment } from './environment.ts'
import type { AppendFile } from './file-system.ts'
import type { Place } from './place.ts'
import type { ReadableFiles } from './readable-files.ts'

const PREFIX = 'dead-letters-'
const SUFFIX = '.jsonl'

export function isDeadLetterFile(name: string): boolean {
  return name.startsWith(PREFIX) && name.endsWith(SUFFIX)
}

export class DeadLetters {
  readonly #environment: Environment
  readonly #folder: string
  #file: AppendFile | undefined
  #writing: Promise<void> = Promise.resolve()
  /** Bytes of all files, as they were found at the start and have grown since. */
  bytes = 0

  constructor(environment: Environment, folder: string) {
    this.#environment = environment
    this.#folder = folder
  }

  /** Finds what earlier processes have left. */
  async open(files: Pick<ReadableFiles, 'list' | 'size'>): Promise<void> {
    for (const name of await files.list(this.#folder))
      if (isDeadLetterFile(name)) this.bytes += await files.size(`${this.#folder}/${name}`)
  }

  /** Throws where it cannot be written and synced. */
  async add(topic: string, queueId: number, place: Place, body: Body, reason: string): Promise<void> {
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
    // One at a time: several lanes may have one.
    const written = this.#writing.then(() => this.#write(line))
    this.#writing = written.catch(() => {})
    await written
  }

  async #write(line: string): Promise<void> {
    const { clock, fileSystem, randomId } = this.#environment
    this.#file ??= await fileSystem.create(`${this.#folder}/${PREFIX}${clock.now()}-${randomId(2)}${SUFFIX}`)
    const file = this.#file
    try {
      const bytes = Buffer.from(`${line}\n`)
      this.bytes += bytes.length
      await file.append(bytes)
      await file.sync()
    } catch (error) {
      if (this.#file === file) this.#file = undefined
      await file.close().catch(() => {})
      throw error
    }
  }

  async close(): Promise<void> {
    await this.#writing
    await this.#file?.close()
  }
}
