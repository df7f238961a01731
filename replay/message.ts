// An acked message: its place in the source, its body, and where it stands between ack and lane.
//
// A send that is one message is that message (send.ts); members of a batch and what is read back are of this class.

import type { Body } from './body.ts'
import type { Place } from './place.ts'
import type { Releasable } from './release.ts'

/** Its lane, as far as ack and release have to know it. */
export interface Destination {
  readonly topic: string
  readonly queueId: number
  push(place: Place, epoch: number, body: Body | undefined): void
}

export interface AckedMessage extends Place, Body, Releasable {
  /** Where it goes, from its ack on. */
  lane: Destination | undefined
  /** Whether its body is kept in memory. */
  kept: boolean
}

export class Message implements AckedMessage {
  sequence = 0
  queueOffset = 0
  commitLogOffset = -1
  bornTimestamp = 0
  ackedAt = 0
  hash = 0
  placeFlags = 0
  epoch = 0
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
  lane: Destination | undefined = undefined
  kept = false

  constructor(flag: number, sysFlag: number, properties: Buffer, payload: Buffer) {
    this.flag = flag
    this.sysFlag = sysFlag
    this.propertyBytes = properties
    this.propertiesEnd = properties.length
    this.payloadBytes = payload
    this.payloadEnd = payload.length
  }
}
