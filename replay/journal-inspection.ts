// What there is in the journal of a source broker, as one plain value: its files, what each remote has still to do, what is
// damaged and what is missing. Made of a reading; it changes nothing and decides nothing.

import type { Totals } from './account.ts'
import type { QueueState } from './cursor.ts'
import type { Environment } from './environment.ts'
import { FoldedPlaces } from './folded-places.ts'
import { type Damage, type JournalPlace, JournalReading, type KeptFileReading } from './journal-reading.ts'
import type { EncodedKnownEnds } from './known-ends.ts'
import type { DeadLetterFile, RemoteName, RemoteReading, SlotReading } from './remote-reading.ts'

/** Damaged ranges that are named; of more there is a count. */
const DAMAGE_MAX = 1_000

export interface FileInspection {
  name: string
  bytes: number
  header: 'whole' | 'damaged' | 'empty'
  epochs: number[]
  tornBytes: number
  damagedRanges: number
  damagedBytes: number
}

export interface SegmentInspection extends FileInspection {
  records: number
  places: number
  /** Null where there is no place. */
  sequences: [first: number, last: number] | null
  topics: number
}

export interface BlockFileInspection extends FileInspection {
  blocks: number
  compressedBlocks: number
  messages: number
  withBody: number
}

export interface RemoteInspection {
  label: string
  cursor: SlotReading['state']
  slots: SlotReading[]
  deadLetters: DeadLetterFile[]
  /** Its newest whole slot. */
  slot: SlotInspection | null
  /** On the disk, as a start would find it. */
  found: {
    /** Not done, as far as the cursor tells. */
    waiting: number
    /** Of these: to be read back from the source. */
    withoutBody: number
    /** Of these: acked after the cursor was written, which does not tell of them. */
    behindCursor: number
  }
  /** Null where it cannot be told: there is no whole cursor, or the gateway went on meanwhile. */
  missing: {
    /** Messages that the cursor knew to wait, and of which no place is left. */
    places: number
    /** Sequences behind the cursor of which no record is left, with later ones behind them. */
    records: number
  } | null
  /** Other remotes have newer cursors: it may not be configured any more. */
  isBehindOthers: boolean
}

export interface SlotInspection {
  generation: number
  sequence: number
  remoteCluster: string
  acked: number
  /** Queued or in a gap. */
  waiting: number
  totals: Totals
  queues: number
  knownEnds: number
  /** Messages that were done, and are unclear since the remote lost its tail. */
  unclearAgain: number
  links: { broker: string; groups: number; lastAnswerAt: number | null }[]
}

export interface QueueInspection {
  /** Null where the record of its name is lost. */
  topic: string | null
  queueId: number
  epoch: number
  epochId: string | null
  /** On the disk, done ones included. */
  places: number
  withBody: number
  /** By remote. */
  waiting: Record<string, number>
}

export interface BrokerInspection {
  broker: string
  segments: SegmentInspection[]
  blockFiles: BlockFileInspection[]
  /** Bodies of what is done, for a remote that loses its tail. They are no part of what waits. */
  keptFiles: KeptFileReading[]
  otherFiles: string[]
  remotes: RemoteInspection[]
  queues: QueueInspection[]
  /** The first of them. */
  damage: Damage[]
  damagedRanges: number
  /** The gateway wrote a cursor while this was read. */
  wentOn: boolean
  isDamaged: boolean
}

interface Found {
  waiting: number
  withoutBody: number
  behindCursor: number
}

/** Throws SegmentVersionError, SlotVersionError, and where the folder cannot be read. */
export async function inspectJournal(
  environment: Pick<Environment, 'fileSystem' | 'clock'>,
  broker: string,
  folder: string,
  remotes: RemoteName[],
): Promise<BrokerInspection> {
  const reading = new JournalReading(environment, folder, remotes)
  const queues = new Queues()
  const found = new Map<RemoteReading, Found>(
    reading.remotes.map(remote => [remote, { waiting: 0, withoutBody: 0, behindCursor: 0 }]),
  )
  /** Whose topic or epoch nobody can tell. */
  const nameless = new Map<RemoteReading, number>()
  const damage: Damage[] = []
  const damagedIn = new Map<string, { ranges: number; bytes: number }>()
  let damagedRanges = 0
  await reading.read(
    batch => {
      for (const one of batch.places) {
        const queue = queues.of(one)
        for (const [remote, counts] of found) {
          count(remote, counts, queue, one)
          const { topic, epochId, place } = one
          if (
            (topic === undefined || epochId === undefined) &&
            !remote.isSkipped(place) &&
            !remote.covers(place.sequence)
          )
            nameless.set(remote, (nameless.get(remote) ?? 0) + 1)
        }
      }
      for (const one of batch.damage) {
        damagedRanges++
        if (damage.length < DAMAGE_MAX) damage.push(one)
        const { ranges, bytes } = damagedIn.get(one.file) ?? { ranges: 0, bytes: 0 }
        damagedIn.set(one.file, { ranges: ranges + 1, bytes: bytes + one.bytes })
      }
    },
    { bodies: true },
  )
  const wentOn = await reading.hasMoved()
  const newest = Math.max(...reading.remotes.map(({ slot }) => slot?.sequence ?? 0))
  const inspected: RemoteInspection[] = []
  for (const remote of reading.remotes) {
    const { label, cursor, slots, slot } = remote
    inspected.push({
      label,
      cursor,
      slots,
      deadLetters: await remote.deadLetters(),
      slot: slot === undefined ? null : inspectSlot(slot),
      found: found.get(remote)!,
      missing: wentOn ? null : missing(reading, remote, found.get(remote)!, nameless.get(remote) ?? 0),
      isBehindOthers: slot !== undefined && slot.sequence < newest,
    })
  }
  const fileOf = (file: {
    name: string
    bytes: number
    headerWhole: boolean
    tornBytes: number
    epochs: Set<number>
  }) => {
    const { ranges, bytes } = damagedIn.get(file.name) ?? { ranges: 0, bytes: 0 }
    return {
      name: file.name,
      bytes: file.bytes,
      header: file.headerWhole ? ('whole' as const) : ('damaged' as const),
      epochs: [...file.epochs].sort((a, b) => a - b),
      tornBytes: file.tornBytes,
      damagedRanges: ranges,
      damagedBytes: bytes,
    }
  }
  return {
    broker,
    segments: reading.segments.map(segment => ({
      ...fileOf(segment),
      ...(segment.isEmpty ? { header: 'empty' as const } : {}),
      records: segment.records,
      places: segment.places,
      sequences: segment.places === 0 ? null : [segment.firstSequence, segment.lastSequence],
      topics: segment.topics.size,
    })),
    blockFiles: reading.blockFiles.map(file => ({
      ...fileOf(file),
      ...(file.bytes === 0 ? { header: 'empty' as const } : {}),
      blocks: file.blocks,
      compressedBlocks: file.compressedBlocks,
      messages: file.messages,
      withBody: file.withBody,
    })),
    keptFiles: reading.keptFiles,
    otherFiles: reading.otherFiles,
    remotes: inspected,
    queues: queues.sorted(),
    damage,
    damagedRanges,
    wentOn,
    isDamaged: damagedRanges > 0 || inspected.some(isDamaged),
  }
}

function count(remote: RemoteReading, counts: Found, queue: QueueInspection, found: JournalPlace): void {
  const { topic, queueId, place, hasBody } = found
  if (!remote.isWaiting(topic, queueId, place)) return
  queue.waiting[remote.label] = (queue.waiting[remote.label] ?? 0) + 1
  counts.waiting++
  if (!hasBody) counts.withoutBody++
  if (!remote.covers(place.sequence)) counts.behindCursor++
}

function inspectSlot(slot: NonNullable<RemoteReading['slot']>): SlotInspection {
  const { generation, sequence, remoteCluster, waiting, totals, queues, links } = slot
  const { replicated, deadLettered, skipped, lost } = totals
  return {
    generation,
    sequence,
    remoteCluster,
    acked: replicated + deadLettered + sumOf(skipped) + sumOf(lost) + waiting,
    waiting,
    totals,
    queues: queues.length,
    knownEnds: queues.flatMap(endsOf).reduce((sum, { ends }) => sum + ends.length, 0),
    unclearAgain: unclearAgain(slot),
    links: links.map(({ broker, groups, lastAnswerAt }) => ({
      broker,
      groups: groups.length,
      lastAnswerAt: lastAnswerAt ?? null,
    })),
  }
}

function unclearAgain({ queues }: NonNullable<RemoteReading['slot']>): number {
  return queues.flatMap(endsOf).reduce((sum, { again }) => sum + FoldedPlaces.decode(again).count, 0)
}

/** Of its present queue, and of those that its lane has left. */
function endsOf({ ends, formers = [] }: QueueState): EncodedKnownEnds[] {
  return [...(ends === undefined ? [] : [ends]), ...formers.map(former => former.ends)]
}

/** As a start counts what is lost. */
function missing(
  reading: JournalReading,
  remote: RemoteReading,
  found: Found,
  nameless: number,
): RemoteInspection['missing'] {
  const { slot } = remote
  if (slot === undefined) return null
  const covered = found.waiting - found.behindCursor
  return {
    places: Math.max(0, slot.waiting - unclearAgain(slot) - covered),
    records: reading.seen.missing(slot.sequence, reading.end) + nameless,
  }
}

function isDamaged({ slots, missing, isBehindOthers }: RemoteInspection): boolean {
  if (slots.some(({ state }) => state === 'damaged')) return true
  // What a remote that is no more had still to do is not kept.
  return missing !== null && !isBehindOthers && missing.places + missing.records > 0
}

function sumOf(counts: Record<string, number>): number {
  return Object.values(counts).reduce((a, b) => a + b, 0)
}

class Queues {
  readonly #queues = new Map<string, QueueInspection>()
  #last: QueueInspection | undefined

  /** Counts a place with its queue. */
  of({ queueId, place: { epoch }, hasBody, ...names }: JournalPlace): QueueInspection {
    const topic = names.topic ?? null
    let queue = this.#last
    if (queue === undefined || queue.topic !== topic || queue.queueId !== queueId || queue.epoch !== epoch) {
      const key = JSON.stringify([topic, queueId, epoch])
      queue = this.#queues.get(key) ?? newQueue(topic, queueId, epoch, names.epochId ?? null)
      this.#queues.set(key, queue)
      this.#last = queue
    }
    queue.places++
    if (hasBody) queue.withBody++
    return queue
  }

  sorted(): QueueInspection[] {
    const compare = (a: QueueInspection, b: QueueInspection) =>
      compareNames(a.topic ?? '', b.topic ?? '') || a.queueId - b.queueId || a.epoch - b.epoch
    return [...this.#queues.values()].sort(compare)
  }
}

function newQueue(topic: string | null, queueId: number, epoch: number, epochId: string | null): QueueInspection {
  return { topic, queueId, epoch, epochId, places: 0, withBody: 0, waiting: {} }
}

function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
