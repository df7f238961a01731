// Bodies that may not be had from the source again, for as long as they may be needed once more: a remote can lose its tail
// (remote-tail.ts), and then what was done has to be sent anew.
//
// A file with such bodies in which nothing is left to do is not removed but renamed. No start takes what it has for waiting, and its
// name says since when it is kept:
//
//   kept-<milliseconds, 12 hex digits>-<the name that it had>
//
// It goes when every remote has answered for long enough since then, or when the journal needs its room, the oldest first. Bodies are
// found in these files, and in those that are in use still, the newest first; where in them, body-index.ts finds out. That is
// forgotten when nobody has asked for a while: nothing is in memory until a tail is lost.
//
// Who is done with a file, and what becomes of a body that is not found, others decide.

import { basename } from 'node:path'
import type { LostCause } from './account.ts'
import { parseBlockFileName } from './block-file.ts'
import { payloadLength } from './body.ts'
import { BodyIndex, type KeptBody, keyOf, type Offsets } from './body-index.ts'
import type { Environment } from './environment.ts'
import type { Place } from './place.ts'
import { type ReadableFiles, readableFiles, unlessGone } from './readable-files.ts'
import { parseSegmentName } from './segment.ts'
import { Turns } from './turns.ts'

/** Bytes of bodies that are found for one question, nearly: the rest is asked for once more. */
const FOUND_MOST = 4 * 1024 * 1024
/** Milliseconds after the last question for which it is known where bodies are. */
const REMEMBERED_FOR = 60_000
/** A file may get another name, or go, while it is read. */
const TRIES = 5

export interface KeptFile {
  /** In its folder. */
  name: string
  /** The name that it had. */
  formerName: string
  /** Milliseconds, our clock: nothing in it was left to do then. */
  since: number
}

type Kept = KeptFile & { bytes: number }

export function keptFileName({ formerName, since }: Omit<KeptFile, 'name'>): string {
  return `kept-${since.toString(16).padStart(12, '0')}-${formerName}`
}

/** Undefined where it is none. */
export function parseKeptFileName(name: string): KeptFile | undefined {
  const match = /^kept-([0-9a-f]{12})-(.*)$/.exec(name)
  const formerName = match?.[2] ?? ''
  if (parseSegmentName(formerName) === undefined && parseBlockFileName(formerName) === undefined) return undefined
  return { name, formerName, since: Number.parseInt(match![1]!, 16) }
}

export interface KeptBodiesContext {
  environment: Pick<Environment, 'clock' | 'fileSystem' | 'log'>
  folder: string
  /** Milliseconds for which a file is kept, counted to the last answer of the remotes. */
  retention: number
  /** Paths of files with such bodies in which something is left to do. */
  inUse(): Iterable<string>
  /** Bytes that have to be given up, for there is no room for them. */
  excess(): number
  /** So many bytes are given up. */
  freed(bytes: number): void
  /** A file could not be removed, or not be kept. */
  notRemoved(error: Error): void
  epochId(epoch: number): string
}

export interface Found {
  /** By the sequence of the place that was asked for. */
  bodies: Map<number, KeptBody>
  /** Why the others are not there; undefined where not all was looked through. */
  cause: LostCause | undefined
}

export class KeptBodies {
  readonly #context: KeptBodiesContext
  readonly #files: ReadableFiles
  /** The oldest first. */
  #kept: readonly Kept[] = []
  #bytes = 0
  /** Who looks for the oldest does so one at a time. */
  readonly #removals = new Turns(1)
  readonly #index: BodyIndex
  /** Of these the disk did not give all at the last question. */
  readonly #unreadable = new Set<string>()
  readonly #turns = new Turns(1)
  /** Questions that are not answered yet, and the uptime when the last was. */
  #asking = 0
  #askedAt = Number.NEGATIVE_INFINITY
  /** Uptime when one was last given up for its room. */
  #gaveUpAt = Number.NEGATIVE_INFINITY

  constructor(context: KeptBodiesContext) {
    this.#context = context
    this.#files = readableFiles(context.environment.fileSystem, path => this.#unreadable.add(formerNameOf(path)))
    this.#index = new BodyIndex(context.environment.clock, this.#files, formerNameOf)
  }

  get counts(): { bytes: number; files: number } {
    return { bytes: this.#bytes, files: this.#kept.length }
  }

  /** Finds what an earlier process has kept. */
  async open(): Promise<void> {
    const found: Kept[] = []
    for (const name of await this.#files.list(this.#context.folder)) {
      const file = parseKeptFileName(name)
      if (file !== undefined) found.push({ ...file, bytes: await this.#files.size(this.#pathOf(name)) })
    }
    this.#setKept(found)
  }

  /** In place of removing it: nothing in it is left to do. Where the disk takes no other name it is removed. */
  async keep(path: string): Promise<void> {
    const { clock, fileSystem } = this.#context.environment
    const file = { formerName: basename(path), since: clock.now() }
    const name = keptFileName(file)
    const size = () => unlessGone(() => fileSystem.size(path))
    const bytes = await size()
    try {
      await fileSystem.rename(path, this.#pathOf(name))
    } catch (error) {
      if ((await size()) !== undefined) {
        this.#context.notRemoved(error as Error)
        this.#gaveUpAt = clock.uptime()
        return fileSystem.remove(path)
      }
      // It has its name; after a power cut it may have the one before, and is found to be done once more.
    }
    if (bytes !== undefined) this.#setKept([...this.#kept, { ...file, name, bytes }])
  }

  /** Removes what is needed no more, or has no room. `answeredUntil`: up to then every remote has answered, and has what it had. */
  forget(answeredUntil: number): Promise<void> {
    return this.#removals.take(async () => {
      const { environment, retention } = this.#context
      if (this.#asking === 0 && environment.clock.uptime() - this.#askedAt > REMEMBERED_FOR) this.#index.clear()
      for (const file of this.#kept) if (file.since < answeredUntil - retention) await this.#remove(file)
      await this.#makeRoom()
    })
  }

  /** Where there is no room for more the oldest go. */
  giveWay(): Promise<void> {
    return this.#removals.take(() => this.#makeRoom())
  }

  async #makeRoom(): Promise<void> {
    const { environment, excess, retention, folder } = this.#context
    for (const file of this.#kept) {
      if (excess() <= 0) return
      const now = environment.clock.uptime()
      if (now - this.#gaveUpAt > retention)
        environment.log.warn(
          { folder, ...this.counts },
          'bodies that may not be had from the source again make room before their time: what the remote loses of its tail may be lost',
        )
      this.#gaveUpAt = now
      await this.#remove(file)
    }
  }

  /**
   * The bodies of these places of a queue, as many as are read at once. A body that is damaged in one file may be whole in another.
   * Rejects where the disk does not let a file be read.
   */
  find(topic: string, queueId: number, places: readonly Place[]): Promise<Found> {
    this.#asking++
    const answer = this.#turns.take(async () => {
      for (let tries = 1; ; tries++) {
        try {
          return await this.#find(topic, queueId, places)
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || tries === TRIES) throw error
          await this.#forgetMissing()
        }
      }
    })
    return answer.finally(() => {
      this.#asking--
      this.#askedAt = this.#context.environment.clock.uptime()
    })
  }

  async #find(topic: string, queueId: number, places: readonly Place[]): Promise<Found> {
    const { environment, epochId, inUse, retention } = this.#context
    const wanted = new Map<string, Map<number, Place>>()
    for (const place of places) {
      const key = keyOf(topic, queueId, epochId(place.epoch))
      const offsets = wanted.get(key) ?? new Map<number, Place>()
      wanted.set(key, offsets.set(place.queueOffset, place))
    }
    const bodies: Found['bodies'] = new Map()
    let isDamaged = false
    let bytes = 0
    // A remote loses what is newest.
    for (const path of [...this.#kept.map(({ name }) => this.#pathOf(name)), ...inUse()].reverse()) {
      if (bodies.size === places.length) break
      const { mayMiss, offsets } = await this.#index.outline(path)
      isDamaged ||= mayMiss
      for (const [key, asked] of wanted) {
        const isMissingIn = (part: Offsets | undefined) => part !== undefined && hasOneIn(asked.values(), part, bodies)
        if (!isMissingIn(offsets(key))) continue
        for (const stretch of await this.#index.stretches(path, key)) {
          if (isMissingIn(stretch) && bytes >= FOUND_MOST) return { bodies, cause: undefined }
          for (const isQuick of [true, false]) {
            const read = isMissingIn(stretch) ? await this.#index.read(path, stretch, key, isQuick) : []
            isDamaged ||= read === undefined
            for (const found of read ?? []) {
              const place = asked.get(found.place.queueOffset)
              if (place === undefined || bodies.has(place.sequence) || !isThat(place, found.place)) continue
              bodies.set(place.sequence, found)
              bytes += payloadLength(found.body)
            }
          }
        }
      }
    }
    // The disk may give it at the next question.
    for (const name of this.#unreadable) this.#index.forget(name)
    isDamaged ||= this.#unreadable.size > 0
    this.#unreadable.clear()
    const isGivenUp = environment.clock.uptime() - this.#gaveUpAt <= retention
    return { bodies, cause: isDamaged ? 'journal' : isGivenUp ? 'full' : 'remote' }
  }

  /** What somebody else has removed. */
  async #forgetMissing(): Promise<void> {
    const before = new Set(this.#kept)
    const names = new Set(await this.#files.list(this.#context.folder))
    // What is kept meanwhile is not among these names.
    this.#setKept(this.#kept.filter(file => names.has(file.name) || !before.has(file)))
  }

  #pathOf(name: string): string {
    return `${this.#context.folder}/${name}`
  }

  #setKept(kept: readonly Kept[]): void {
    this.#kept = kept.toSorted((one, other) => (one.name < other.name ? -1 : 1))
    this.#bytes = kept.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  /** One that cannot be removed now is passed over. */
  async #remove(file: Kept): Promise<void> {
    try {
      await this.#context.environment.fileSystem.remove(this.#pathOf(file.name))
    } catch (error) {
      return this.#context.notRemoved(error as Error)
    }
    this.#setKept(this.#kept.filter(one => one !== file))
    this.#index.forget(file.formerName)
    this.#context.freed(file.bytes)
  }
}

/** Whether any of these is in a stretch, as it seems, and not found yet. */
function hasOneIn(
  places: Iterable<Place>,
  { minOffset, maxOffset }: Offsets,
  found: ReadonlyMap<number, unknown>,
): boolean {
  for (const { queueOffset, sequence } of places)
    if (queueOffset >= minOffset && queueOffset <= maxOffset && !found.has(sequence)) return true
  return false
}

function formerNameOf(path: string): string {
  const name = basename(path)
  return parseKeptFileName(name)?.formerName ?? name
}

/** Of one that was folded no check is known, and its offset in its epoch tells. */
function isThat(place: Place, found: Place): boolean {
  const isKnown = place.bornTimestamp !== 0 || place.hash !== 0
  return !isKnown || (place.bornTimestamp === found.bornTimestamp && place.hash === found.hash)
}
