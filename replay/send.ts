// A send that was forwarded to the source and is not answered: what its request says, and the bytes it came in.
//
// The one object that the gateway makes for a send. When the answer says that it is stored, a send that is no batch is
// the acked message itself.

import { SendRequest } from '../codec/index.ts'
import type { Backlog } from './backlog.ts'
import type { SourceConnection, SourceEpoch, Traced } from './epoch.ts'
import type { AckedMessage } from './message.ts'
import type { Outstanding } from './release.ts'

const NONE = Buffer.alloc(0)

export class Send extends SendRequest implements Outstanding, Traced, AckedMessage {
  /** Bytes of its frame. */
  frameBytes = 0
  /** Whether the client asked for no answer. */
  oneway = false
  payloadBytes: Buffer = NONE
  payloadStart = 0
  payloadEnd = 0
  payloadRest: Buffer[] | undefined = undefined

  forwarded = 0
  settled = false
  /** Told when it is waited for no longer; its answer may come all the same. */
  givenUp: ((send: Send) => void) | undefined = undefined

  connection: SourceConnection | undefined = undefined
  forwardedIn: SourceEpoch | undefined = undefined
  logBefore = -1
  queueBefore = -1
  queuesBefore: ReadonlyMap<number, number> | undefined = undefined
  ackedIn: SourceEpoch | undefined = undefined
  /** Its answer never came, and it was found at the source. */
  isFound = false

  epoch = 0
  sequence = 0
  queueOffset = 0
  commitLogOffset = -1
  ackedAt = 0
  hash = 0
  placeFlags = 0
  skipReason = 0
  skipMask = 0
  before = 0
  released = false
  backlog: Backlog | undefined = undefined
  kept = false
  journaled = false
  isOverdue = false
  isReordered = false

  /** A piece of its body, in the order in which they come. */
  addPayload(chunk: Buffer, start: number, end: number): void {
    if (this.payloadEnd === 0) {
      this.payloadBytes = chunk
      this.payloadStart = start
      this.payloadEnd = end
    } else {
      this.payloadRest ??= []
      this.payloadRest.push(chunk.subarray(start, end))
    }
  }
}
