// What may be done to the world, as values: a schedule of these is drawn from a seed, or written by hand.

import type { JournalSettings } from '../../replay/journal-settings.ts'
import type { DiskOperation } from '../support/fake-disk.ts'
import type { SendFault } from './broker.ts'
import type { Damaged } from './damage.ts'

/** `remote2`: of a history with two. */
export type RemoteSide = 'remote' | 'remote2'
export type Side = 'source' | RemoteSide

export type Act =
  | {
      do: 'send'
      client: number
      topic: number
      queueId: number
      messages: number
      size: number
      oneway?: boolean
      kind?: 'illegal' | 'keyless' | 'long' | 'delayed'
      isToRepeat?: boolean
    }
  | { do: 'client closes'; client: number; how: 'end' | 'destroy' | 'reset' }
  | { do: 'arm'; side: Side; broker: number; faults: SendFault[] }
  | { do: 'refuse'; side: Side; broker: number; code: number; forMs: number }
  | { do: 'stall'; side: Side; broker: number; forMs: number }
  /** `isAway`: routes do not name it meanwhile. */
  | { do: 'broker restarts'; side: Side; broker: number; downMs: number; losesRecords: number; isAway?: true }
  | { do: 'broker moves'; side: Side; broker: number; lacksRecords: number; oldGoesOn: boolean; learntAfterMs: number }
  | { do: 'expire'; side: Side; broker: number; keeps: number }
  | { do: 'stranger'; side: Side; broker: number; topic: number; queueId: number }
  | { do: 'topic made anew'; side: Side; broker: number; topic: number; queues: number }
  | { do: 'partition'; side: Side | 'clients'; forMs: number }
  | { do: 'cut'; side: Side | 'clients' }
  | { do: 'name server away'; side: Side; forMs: number }
  /** Nothing of it is there until all faults end. */
  | { do: 'away'; side: Side }
  | { do: 'kill'; downMs: number }
  | { do: 'power cut'; downMs: number; with: Side[] }
  | { do: 'die at disk operation'; operations: number; downMs: number; powerCut: boolean; only?: DiskOperation }
  | { do: 'restart' }
  | {
      do: 'disk fault'
      operations: DiskOperation[]
      probability: number
      torn: boolean
      code: 'EIO' | 'ENOSPC'
      forMs: number
    }
  | { do: 'disk full'; roomBytes: number; forMs: number }
  | { do: 'disk stall'; ms: number }
  /** Between a kill and the next start: a bit of what there is of the kind, at this share of it, is another; of a cursor in both slots. */
  | { do: 'damage'; share: number; of?: Damaged }

/** At so many milliseconds from the start; `fault`: the kind that it belongs to. */
export type Step = Act & { at: number; fault?: string }

/** What a history's world is like. */
export interface Setup {
  seed: number
  clients: number
  sourceBrokers: number
  remotes: 1 | 2
  /** Of each remote. */
  remoteBrokers: number
  /** A lane goes to another broker where its own is away. */
  reroutes?: boolean
  topics: { sourceQueues: number; remoteQueues: number }[]
  latency: number
  cutsChunks: boolean
  highWater: number
  lateBytes: boolean
  executionMost: number
  dispatchMost: number
  flushMost: number
  addsProperties: boolean
  batchKeyBehind: boolean
  diskMost: number
  bodyMemory: number
  bornTimestampTolerance: number
  /** Bytes of sends without answer on one link; undefined: more than a history has. */
  inFlightBytes?: number | undefined
  sendGiveUpTimeout: number
  /** What is not as usual. */
  journal?: Partial<JournalSettings>
  /** A power cut leaves what was synced and nothing else; any part of the rest otherwise. */
  harshPowerCut?: boolean
  /** The source never lets its queues be read. */
  sourceIsClosed?: boolean
  /** A source that lost its tail is not written to by others at the end. */
  sourceStaysShort?: boolean
}

export interface Schedule {
  setup: Setup
  steps: Step[]
}

/** As a line of a history, or of a named history to be written. */
export function stepText({ at, fault, ...act }: Step): string {
  return `${String(at).padStart(6)} ms  ${JSON.stringify(act)}${fault === undefined ? '' : `   (${fault})`}`
}
