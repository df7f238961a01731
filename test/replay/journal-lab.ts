// A journal on a fake disk, and what its segments hold, read as a recovery reads them.

import { basename } from 'node:path'
import { Journal, type JournalOptions, type JournalStart } from '../../replay/journal.ts'
import type { Place } from '../../replay/place.ts'
import { parseSegmentName, readSegment } from '../../replay/segment.ts'
import type { FakeEnvironment } from '../support/fake-environment.ts'
import { placeAt } from './sample.ts'

export const FOLDER = '/data'
export const EPOCH_ID = '0123456789ab'

export async function openJournal(
  environment: FakeEnvironment,
  options: Partial<JournalOptions> = {},
  start: Partial<JournalStart> = {},
): Promise<Journal> {
  const journal = new Journal(environment, FOLDER, {
    ack: 'append',
    segmentBytes: 1024 * 1024,
    stallTimeout: 1_000,
    keep: path => environment.fileSystem.remove(path),
    notRemoved: error => {
      throw error
    },
    ...options,
  })
  const epochIds = new Map([[1, EPOCH_ID]])
  await journal.open({
    sequence: 0,
    nextSegmentId: 1,
    topics: new Map(),
    epochIds,
    segments: [],
    bodiesHere: new Set(),
    ...start,
  })
  return journal
}

/** Paths of all segments, those of which nothing is written yet left out. */
export function segments({ fileSystem }: FakeEnvironment): string[] {
  return fileSystem.find(/^places-/).filter(path => fileSystem.bytes(path).length > 0)
}

export interface FoundPlace {
  topic: string | undefined
  queueId: number
  epochId: string | undefined
  place: Place
}

/** What a segment's bytes hold. Throws where it is damaged. */
export function placesIn(path: string, bytes: Buffer): FoundPlace[] {
  const topics = new Map<number, string>()
  const epochs = new Map<number, string>()
  const places: FoundPlace[] = []
  const { damaged } = readSegment(bytes, parseSegmentName(basename(path))!.salt, {
    topic: (number, name) => void topics.set(number, name),
    epoch: (ordinal, id) => void epochs.set(ordinal, id),
    place: (topicNumber, queueId, place) =>
      places.push({ topic: topics.get(topicNumber), queueId, epochId: epochs.get(place.epoch), place }),
  })
  if (damaged.length > 0) throw new Error(`${path} is damaged at ${damaged[0]!.at}`)
  return places
}

/** The places of all segments, each once, by their sequence. */
export function found({ fileSystem }: FakeEnvironment): FoundPlace[] {
  const bySequence = new Map<number, FoundPlace>()
  for (const path of fileSystem.find(/^places-/))
    for (const one of placesIn(path, fileSystem.bytes(path))) bySequence.set(one.place.sequence, one)
  return [...bySequence.values()].sort((a, b) => a.place.sequence - b.place.sequence)
}

/** Their queue offsets. */
export function foundOffsets(environment: FakeEnvironment): number[] {
  return found(environment).map(({ place }) => place.queueOffset)
}

/** Appends a place and lets it be written. */
export async function write(
  environment: FakeEnvironment,
  journal: Journal,
  queueOffset: number,
  topic = 'orders',
): Promise<Place> {
  const place = placeAt(queueOffset)
  journal.append(topic, 0, place)
  await environment.settled()
  return place
}

/** Counts how often who waits is told. */
export function countTold(journal: Journal): { times: number } {
  const told = { times: 0 }
  journal.onFlush = () => () => {
    told.times++
  }
  return told
}

/** An operation that takes until the test says so. */
export class Held {
  readonly #resolves: (() => void)[] = []

  get count(): number {
    return this.#resolves.length
  }

  hold(): Promise<void> {
    return new Promise(resolve => this.#resolves.push(resolve))
  }

  release(): void {
    for (const resolve of this.#resolves.splice(0)) resolve()
  }
}
