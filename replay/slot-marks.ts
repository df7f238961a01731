// What a slot of the cursor says of places: which are done. Of places from its sequence on it says nothing.

import type { QueueMark, Slot } from './cursor.ts'
import type { Place } from './place.ts'

export class SlotMarks {
  readonly sequence: number
  /** By topic, queue and epoch. */
  readonly #marks = new Map<string, QueueMark>()

  constructor({ sequence, queues }: Slot) {
    this.sequence = sequence
    for (const { topic, queueId, marks } of queues)
      for (const mark of marks) this.#marks.set(`${topic}\n${queueId}\n${mark.epoch}`, mark)
  }

  mark(topic: string, queueId: number, epoch: number): QueueMark | undefined {
    return this.#marks.get(`${topic}\n${queueId}\n${epoch}`)
  }

  covers(sequence: number): boolean {
    return sequence < this.sequence
  }

  /** Whether it is done for sure. */
  isDone(topic: string, queueId: number, { epoch, sequence, queueOffset }: Place): boolean {
    if (!this.covers(sequence)) return false
    const mark = this.mark(topic, queueId, epoch)
    if (mark === undefined) return false
    // Whatever it lies among.
    if (mark.late.includes(queueOffset)) return false
    return queueOffset < mark.mark || isAmong(mark.done, queueOffset)
  }
}

/** Of runs in the order of their offsets, none of which meets another. */
export function isAmong(runs: QueueMark['done'], offset: number): boolean {
  let low = 0
  let high = runs.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const [first, count] = runs[middle]!
    if (offset < first) high = middle
    else if (offset >= first + count) low = middle + 1
    else return true
  }
  return false
}
