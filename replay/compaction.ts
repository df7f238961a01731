// Compaction: when the disk is full, a file of blocks is written anew without its bodies, where only those need them who lag.
// They are gaps from then on, to be read back from the source. Places are never dropped, nor what may not be read back.
//
// It knows what was given up, and keeps the room for those who do not lag; which pages are due, and which files there are, is
// spill.ts.

import type { Backlog } from './backlog.ts'
import { type BlockMessage, decodeBlockBodies, decodeBlockHeader, encodeBlock } from './block.ts'
import { decodeBlockOf, encodeBlockFileHeader } from './block-file.ts'
import type { Environment } from './environment.ts'
import type { FileSystem } from './file-system.ts'
import type { BlockLocation, Page } from './page.ts'
import { eraOf } from './place.ts'
import type { Reader } from './reader.ts'
import { SEGMENT_HEADER_BYTES } from './segment.ts'
import type { SpillOptions } from './spill.ts'

/** Room is made for so much at a time. */
const AT_ONCE_BYTES = 1024 * 1024

/** A file of blocks. */
export interface BlockFile {
  path: string
  bytes: number
  /** Pages in it that somebody needs. */
  pages: Map<Page, Backlog>
  /** Lowest era of its blocks. */
  era: number
  /** Some of its bodies may not be had from the source again. */
  keeps: boolean
  /** Some of it cannot be read: it is not written anew. */
  stays?: boolean
}

/** One who waits for a page, and the time of the ack up to which he, and his remote, have had all. */
interface Front {
  reader: Reader
  ackedAt: number
}

/** A page whose block is in another file now. */
interface Moved {
  page: Page
  backlog: Backlog
  block: BlockLocation
  /** Which bodies the former block had, and which the new one has. */
  had: boolean[]
  has: boolean[]
}

export interface NewFile {
  id: number
  salt: number
  path: string
}

/** What it needs of who has the files. */
export interface BlockFiles {
  /** That are not written to any more, the oldest first. */
  list(): BlockFile[]
  /** A name that no other ever has. */
  name(): NewFile
  add(file: BlockFile): void
  /** The disk does not take it. */
  failed(error: Error): void
  /** Resolves when nobody reads these pages' blocks. */
  unread(pages: readonly Page[]): Promise<void>
}

class UnreadableBlockError extends Error {}

export class Compaction {
  readonly #environment: Environment
  readonly #options: Pick<SpillOptions, 'hasRoom' | 'checkpoint' | 'compress'>
  readonly #files: BlockFiles
  /** Bytes that were given up and are free still, and the time of the ack up to which those were. */
  #made = 0
  #gaveUpTo = 0

  constructor(
    environment: Environment,
    options: Pick<SpillOptions, 'hasRoom' | 'checkpoint' | 'compress'>,
    files: BlockFiles,
  ) {
    this.#environment = environment
    this.#options = options
    this.#files = files
  }

  /** Makes room for the bodies of the first of these pages that are due, where others have to give way to them. */
  async makeRoom(pages: Iterable<readonly [Page, Backlog]>, isDue: (page: Page) => boolean): Promise<void> {
    if (this.#options.hasRoom(2 * AT_ONCE_BYTES)) return
    const due: (readonly [Page, Backlog])[] = []
    let bytes = 0
    for (const entry of pages) {
      if (bytes >= AT_ONCE_BYTES) break
      if (entry[0].bodyBytes === 0 || !isDue(entry[0])) continue
      due.push(entry)
      bytes += entry[0].bodyBytes
    }
    const front = frontOf(due)
    while (front !== undefined && !this.#options.hasRoom(bytes)) {
      const file = this.#files.list().find(one => isWorthIt(one, front))
      if (file === undefined || !(await this.#giveUpBodies(file))) return
    }
  }

  /** Who lags gets nothing of the room that it has made. */
  hasRoomFor(page: Page, backlog: Backlog): boolean {
    const isFurther = (frontOf([[page, backlog]])?.ackedAt ?? 0) > this.#gaveUpTo
    if (!this.#options.hasRoom(page.bodyBytes + (isFurther ? 0 : this.#made))) return false
    if (isFurther) this.#made = Math.max(0, this.#made - page.bodyBytes)
    return true
  }

  /** False where the disk does not take the places, or a cursor. */
  async #giveUpBodies(file: BlockFile): Promise<boolean> {
    const { fileSystem, log } = this.#environment
    const name = this.#files.name()
    try {
      const { file: made, moved } = await rewrite(fileSystem, file, name, this.#options.compress)
      await this.#files.unread(moved.map(({ page }) => page))
      this.#replaced(file, made, moved)
    } catch (error) {
      // What there is of it goes with what is needless.
      this.#files.add(newBlockFile(name.path))
      if (!(error instanceof UnreadableBlockError)) {
        this.#files.failed(error as Error)
        return false
      }
      log.warn({ path: file.path, err: error }, 'a file of bodies cannot be given up: it cannot be read')
      file.stays = true
    }
    return this.#options.checkpoint().then(
      () => true,
      () => false,
    )
  }

  /** In one step: from here on nobody reads the former blocks. */
  #replaced(file: BlockFile, made: BlockFile, moved: readonly Moved[]): void {
    this.#files.add(made)
    let messages = 0
    for (const { page, backlog, block, had, has } of moved) {
      // Meanwhile all have passed it.
      if (!file.pages.delete(page)) continue
      made.pages.set(page, backlog)
      if (!page.keeps) this.#gaveUpTo = Math.max(this.#gaveUpTo, page.firstAckedAt)
      for (const [at, one] of had.entries()) if (one && !has[at]) messages++
      backlog.movesTo(page, block, had, has)
    }
    const bytes = file.bytes - made.bytes
    this.#made += bytes
    this.#environment.log.warn(
      { path: file.path, bytes, messages },
      'no room on disk: bodies that only lagging lanes need are given up, and read back from the source',
    )
  }
}

/** Of all who wait for these pages, the one who is furthest. */
function frontOf(pages: Iterable<readonly [Page, Backlog]>): Front | undefined {
  let front: Front | undefined
  for (const [page, { readers }] of pages)
    for (const reader of readers) {
      if (reader.headIndex >= page.end) continue
      const ackedAt = Math.min(reader.account.newestDoneAt, reader.headAckedAt ?? 0)
      if (ackedAt > (front?.ackedAt ?? 0)) front = { reader, ackedAt }
    }
  return front
}

/** Whether all of its bodies lie behind the front, or have to stay, and it is less than half as large without them. */
function isWorthIt({ pages, bytes, stays }: BlockFile, front: Front): boolean {
  if (stays || pages.size === 0) return false
  let left = SEGMENT_HEADER_BYTES
  for (const [page, backlog] of pages) {
    const { block, folded, pins } = page
    // Who works on it does lag, and gets on.
    if (block === undefined || !folded || pins > 0) return false
    if (mayGo(page) && !isBehind(page, backlog, front)) return false
    left += mayGo(page) ? block.headBytes : block.bytes
  }
  return left * 2 < bytes
}

function mayGo({ withBody, keeps }: Page): boolean {
  return withBody > 0 && !keeps
}

function isBehind(page: Page, backlog: Backlog, { reader, ackedAt }: Front): boolean {
  return page.firstAckedAt < ackedAt && (backlog !== reader.backlog || reader.headIndex >= page.end)
}

/** Writes its pages to a new file, and syncs that. Throws UnreadableBlockError, and where the disk fails to write. */
async function rewrite(
  fileSystem: FileSystem,
  { pages }: BlockFile,
  { path, id, salt }: NewFile,
  compress: boolean,
): Promise<{ file: BlockFile; moved: Moved[] }> {
  const file = newBlockFile(path)
  const moved: Moved[] = []
  const out = await fileSystem.create(path)
  try {
    await out.append(encodeBlockFileHeader(id, salt))
    for (const [page, backlog] of [...pages]) {
      const { messages, had } = await readPage(fileSystem, page)
      const { topic, queueId } = backlog
      const bytes = encodeBlock(topic, queueId, backlog.epochId(page.epoch), page, messages, salt, compress)
      const { headerBytes, placesBytes } = decodeBlockHeader(bytes, salt)!
      const block = { path, at: file.bytes, bytes: bytes.length, headBytes: headerBytes + placesBytes }
      await out.append(bytes)
      moved.push({ page, backlog, block, had, has: messages.map(({ body }) => body !== undefined) })
      file.bytes += bytes.length
      file.era = Math.min(file.era, eraOf(page.epoch))
      file.keeps ||= page.keeps
    }
    await out.sync()
  } finally {
    await out.close().catch(() => {})
  }
  return { file, moved }
}

/** With its header, and nothing else. */
export function newBlockFile(path: string): BlockFile {
  return { path, bytes: SEGMENT_HEADER_BYTES, pages: new Map(), era: Number.POSITIVE_INFINITY, keeps: false }
}

/** Its places, with the bodies that have to stay. */
async function readPage(fileSystem: FileSystem, page: Page): Promise<{ messages: BlockMessage[]; had: boolean[] }> {
  const { path, at, bytes, headBytes } = page.block!
  const read = await fileSystem.readAt(path, at, page.keeps ? bytes : headBytes).catch(error => {
    throw new UnreadableBlockError(`${path} cannot be read at ${at}`, { cause: error })
  })
  const { header, places, salt } = decodeBlockOf(page, path, read)
  const bodies = page.keeps && places !== undefined ? decodeBlockBodies(read, header!, places, salt) : []
  if (places === undefined || bodies === undefined) throw new UnreadableBlockError(`${path} is damaged at ${at}`)
  return {
    messages: places.places.map((place, index) => ({ place, body: bodies[index] })),
    had: places.shapes.map(shape => shape !== undefined && page.withBody > 0),
  }
}
