// An acked message: its place in the source, its body, and where it stands between ack and backlog.
//
// A send that is one message is that message (send.ts); members of a batch and what is read back are of this class.

import type { Backlog } from './backlog.ts'
import type { Body } from './body.ts'
import type { Place } from './place.ts'
import type { Releasable } from './release.ts'

export interface AckedMessage extends Place, Body, Releasable {
  /** Where it goes, from its ack on. */
  backlog: Backlog | undefined
  /** Whether its body is kept in memory. */
  kept: boolean
  /** Whether it cannot be had from the source again: the journal has its body, too. */
  journaled: boolean
  /** Whether its send was given up before. */
  isOverdue: boolean
  /** Whether it counts as reordered: it does when its cursor names it, not when its turn comes. */
  isReordered: boolean
}

export class Message implements AckedMessage {
  epoch = 0
  sequence = 0
  queueOffset = 0
  commitLogOffset = -1
  bornTimestamp = 0
  ackedAt = 0
  hash = 0
  placeFlags = 0
  skipReason = 0
  skipMask = 0
  flag: number
  sysFlag: number
  propertyBytes: Buffer
  propertiesStart = 0
  propertiesEnd: number
  payloadBytes: Buffer
  payloadStart = 0
  payloadEnd: number
  payloadRest: readonly Buffer[] | undefined = undefined
  before = 0
  released = false
  backlog: Backlog | undefined = undefined
  kept = false
  journaled = false
  isOverdue = false
  isReordered = false

  constructor(flag: number, sysFlag: number, properties: Buffer, payload: Buffer) {
    this.flag = flag
    this.sysFlag = sysFlag
    this.propertyBytes = properties
    this.propertiesEnd = properties.length
    this.payloadBytes = payload
    this.payloadEnd = payload.length
  }
}
