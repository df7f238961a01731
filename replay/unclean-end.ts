// How the process before this one ended: may it have acked what is in no journal?
//
// A mark stands on the disk while a process runs, and a note in memory that outlives it, but not the machine, says that its
// journal fails.

import { basename } from 'node:path'
import type { Backlog } from './backlog.ts'
import type { QueueState } from './cursor.ts'
import type { FileSystem } from './file-system.ts'

const MARK = 'unclean'
const NOTES = '/dev/shm'

export class UncleanEnd {
  readonly #fileSystem: FileSystem
  readonly #mark: string
  readonly #note: string

  constructor(fileSystem: FileSystem, folder: string, gatewayId: string) {
    this.#fileSystem = fileSystem
    this.#mark = `${folder}/${MARK}`
    this.#note = `${NOTES}/rocketmq-tee-${gatewayId}-${basename(folder)}`
  }

  /** Why what was acked last may be missing; undefined where it is not. */
  async read(): Promise<string | undefined> {
    if ((await this.#fileSystem.read(this.#mark)) === undefined) return undefined
    const note = this.#fileSystem.readNote(this.#note)
    if (note === undefined) return 'the process before this one ended without a word, and its machine since'
    return note === '' ? undefined : 'the process before this one ended without a word while its journal failed'
  }

  /** From here on nothing of before is in doubt. The journal may fail already. Throws where the mark cannot be written. */
  async begin(journalFails: boolean): Promise<void> {
    this.journalFails(journalFails)
    await this.#fileSystem.replace(this.#mark, Buffer.alloc(0))
  }

  /** At once: before anything is acked that is not in the journal. */
  journalFails(fails: boolean): void {
    this.#fileSystem.writeNote(this.#note, fails ? 'the journal fails' : '')
  }

  /** All that was acked is in the journal. */
  async end(): Promise<void> {
    await this.#fileSystem.remove(this.#mark)
    this.#fileSystem.writeNote(this.#note, undefined)
  }
}

/** Of each queue the offset behind the newest place that is known, from what waits and from what cursors say is done. */
export function newestKnown(
  backlogs: Iterable<Backlog>,
  queues: readonly QueueState[],
): { topic: string; queueId: number; offset: number }[] {
  return [...backlogs].map(backlog => {
    const { topic, queueId } = backlog
    let offset = backlog.releasedEnd
    for (const queue of queues)
      if (queue.topic === topic && queue.queueId === queueId)
        for (const { epoch, mark } of queue.marks) if (!backlog.isLate(epoch, mark)) offset = mark
    return { topic, queueId, offset }
  })
}
