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
const WELL = 'the journal is well'
const FAILS = 'the journal fails'

export class UncleanEnd {
  readonly #fileSystem: FileSystem
  readonly #mark: string
  readonly #note: string
  #isMarked = false

  constructor(fileSystem: FileSystem, folder: string, gatewayId: string) {
    this.#fileSystem = fileSystem
    this.#mark = `${folder}/${MARK}`
    this.#note = `${NOTES}/rocketmq-tee-${gatewayId}-${basename(folder)}`
  }

  /** Why what was acked last may be missing; undefined where it is not. */
  async read(): Promise<string | undefined> {
    const note = this.#fileSystem.readNote(this.#note)
    if (note === FAILS) return 'the process before this one ended without a word while its journal failed'
    if (note === WELL || (await this.#fileSystem.read(this.#mark)) === undefined) return undefined
    return 'the process before this one ended without a word, and its machine since'
  }

  /** That a process runs is on the disk then. Throws where it does not take it: to be tried again. */
  async mark(): Promise<void> {
    if (this.#isMarked) return
    await this.#fileSystem.replace(this.#mark, Buffer.alloc(0))
    this.#isMarked = true
  }

  /** At once: before anything is acked that is not in the journal. */
  journalFails(fails: boolean): void {
    this.#fileSystem.writeNote(this.#note, fails ? FAILS : WELL)
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
