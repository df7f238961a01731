// Pages that have to wait go to disk, in blocks, one behind the other in files of their own; and come back when their turn comes.
//
// What waits longer than `spillAfter`, or does not fit into memory, is written, off the event loop. A body leaves memory when
// the write of its block has returned. When the block is synced, the journal need not know its places any more: that is how a
// long outage does not fill it. A write or sync that fails costs no message: places are in the journal still, and bodies that
// were not written become gaps when memory runs out. While there is no room (`journalMaxBytes`, or the disk itself), blocks go
// without bodies: places are never dropped.

import type { Backlog } from './backlog.ts'
import { type BlockMessage, type BlockPlaces, decodeBlockBodies, decodeBlockHeader, encodeBlock } from './block.ts'
import { blockFileName, decodeBlockOf, encodeBlockFileHeader } from './block-file.ts'
import type { Body, BodyMemory } from './body.ts'
import { type BlockFile, Compaction, type NewFile, newBlockFile } from './compaction.ts'
import type { Environment } from './environment.ts'
import type { AppendFile } from './file-system.ts'
import type { BlockLocation, Page } from './page.ts'
import { eraOf } from './place.ts'
import { WaitingPages } from './waiting-pages.ts'

/** Bytes of blocks in one write, and written and not synced, at most. */
const WRITE_BYTES = 1024 * 1024
const UNSYNCED_BYTES_MAX = 32 * 1024 * 1024
/** Milliseconds between two looks for pages that have waited long enough, and after a failure. */
const LOOK_INTERVAL = 20
const RETRY_DELAY = 1_000
/** Milliseconds from a write to its sync, at most. */
const SYNC_DELAY = 200
/** Milliseconds after which an operation of the disk is said to hang. */
const HANGS_AFTER = 5_000
/** From this share of body memory on, pages are written before their time. */
const PRESSURE = 0.5
/**
 * Milliseconds for which a block that the disk does not let be read is tried again: then its bodies are given up, for the
 * source has them; and its places much later, for they are nowhere else.
 */
const BODIES_UNREADABLE_MOST = 10_000
const PLACES_UNREADABLE_MOST = 600_000

export interface SpillOptions {
  /** A file is ended when it is longer than this. */
  fileBytes: number
  /** Milliseconds that a message waits before it is spilled. */
  after: number
  compress: boolean
  /** Whether sends are refused for what has no room: then it stays in memory, until that is full. */
  refuses?: boolean
  /** Whether so many more bytes may be used for bodies. */
  hasRoom(bytes: number): boolean
  /** Makes that room, where what is kept of what is done takes it. */
  giveWay(): Promise<void>
  /** What is done with a file that has bodies which may not be had again, in place of removing it. */
  keep(path: string): Promise<void>
  /** Removes what is needless, once the cursors say so. */
  checkpoint(): Promise<void>
  /** A place is safe in a synced block. */
  folded(sequence: number): void
  /** Pages of small queues that nobody has written yet, where memory has to be freed. */
  openPages(): Iterable<[Page, Backlog]>
}

interface OpenFile extends BlockFile {
  file: AppendFile
  salt: number
  unsynced: [Page, Backlog][]
  unsyncedBytes: number
}

export class Spill {
  readonly #environment: Environment
  readonly #folder: string
  readonly #options: SpillOptions
  readonly #memory: BodyMemory
  readonly #compaction: Compaction
  errors = 0
  /** Messages whose bodies were written since the start, and bytes of all blocks. */
  spilled = 0
  /** Blocks that could not be read. */
  damaged = 0
  nextFileId = 1
  /** By path. */
  readonly #files = new Map<string, BlockFile>()
  #file: OpenFile | undefined
  readonly #waiting: WaitingPages
  readonly #loading = new Map<Page, Promise<'loaded' | 'damaged'>>()
  /** Uptime since which they could not be read. */
  readonly #unreadable = new Map<Page, number>()
  #running: Promise<void> | undefined
  #syncing: Promise<void> | undefined
  #syncDueAt = 0
  #cancelLook: (() => void) | undefined
  #retryAt = 0
  #failed = false
  /** Whether the start is over: from then on names of files and of epochs are known. */
  #isOpen = false
  #closed = false
  /** Pages whose places lie at or below this are written, whatever their age. */
  #forcedTo = -1

  constructor(environment: Environment, folder: string, options: SpillOptions, memory: BodyMemory) {
    this.#environment = environment
    this.#folder = folder
    this.#options = options
    this.#memory = memory
    this.#waiting = new WaitingPages(environment.clock, environment.log)
    this.#compaction = new Compaction(environment, options, {
      list: () => [...this.#files.values()].filter(file => file !== this.#file),
      name: () => this.#nameFile(),
      add: file => void this.#files.set(file.path, file),
      failed: error => this.#fail('write', error),
      unread: async pages => {
        const reading = () => pages.find(page => this.#loading.has(page))
        for (let page = reading(); page !== undefined; page = reading()) await this.#loading.get(page)!.catch(() => {})
      },
    })
  }

  get failed(): boolean {
    return this.#failed
  }

  get counts(): { bytes: number; files: number } {
    let bytes = 0
    for (const file of this.#files.values()) bytes += file.bytes
    return { bytes, files: this.#files.size }
  }

  /** Bytes of memory that the places of pages take which wait to be written. */
  get placesMemory(): number {
    return this.#waiting.bytes
  }

  /** Lowest era of which there is a block. */
  get oldestEra(): number {
    let oldest = Number.POSITIVE_INFINITY
    for (const { era } of this.#files.values()) oldest = Math.min(oldest, era)
    return oldest
  }

  /** Of files with bodies that may not be had from the source again. */
  get pathsThatKeep(): string[] {
    return [...this.#files.values()].flatMap(({ keeps, path }) => (keeps ? [path] : []))
  }

  /** Pages on disk that are still needed. Nothing is written before. */
  restore(files: readonly BlockFile[], nextFileId: number): void {
    for (const file of files) this.#files.set(file.path, file)
    this.nextFileId = nextFileId
    this.#isOpen = true
    this.#lookSoon()
  }

  /** A page is full, or for another reason at its end. */
  sealed(page: Page, backlog: Backlog): void {
    this.#waiting.add(page, backlog)
    this.#loseBeyond()
    this.#lookSoon()
  }

  /** Nobody needs this page any more. */
  passed(page: Page): void {
    this.#unreadable.delete(page)
    this.#waiting.delete(page)
    const file = page.block && this.#files.get(page.block.path)
    file?.pages.delete(page)
  }

  /** Writes every page with places up to this sequence, so that the journal can forget them. */
  force(sequence: number): void {
    this.#forcedTo = Math.max(this.#forcedTo, sequence)
    for (const [page, backlog] of this.#options.openPages())
      if (page.count > 0 && page.minSequence <= sequence) backlog.seal(page)
    this.#lookSoon()
  }

  /** Memory runs short. */
  pressed(): void {
    this.#lookSoon()
  }

  /** Files in which nothing is needed any more; to be removed once the cursors say so. */
  needless(): BlockFile[] {
    return [...this.#files.values()].filter(file => file.pages.size === 0 && file !== this.#file)
  }

  async remove({ path, keeps }: BlockFile): Promise<void> {
    if (keeps) await this.#options.keep(path)
    else await this.#environment.fileSystem.remove(path)
    this.#files.delete(path)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#cancelLook?.()
    this.#waiting.close()
    await this.#running
    await this.#syncing
    if (this.#file !== undefined) await this.#syncAll(this.#file)
    await this.#file?.file.close().catch(() => {})
    // Where nothing in it is needed, the last cursors say so first.
    this.#file = undefined
  }

  /** Brings a page back into memory. Rejects where the disk does not let it be read now. */
  load(page: Page, backlog: Backlog): Promise<'loaded' | 'damaged'> {
    let loading = this.#loading.get(page)
    if (loading === undefined) {
      loading = this.#load(page, backlog).finally(() => this.#loading.delete(page))
      this.#loading.set(page, loading)
    }
    return loading
  }

  // Writing

  #lookSoon(): void {
    if (!this.#isOpen || this.#closed || this.#running !== undefined) return
    this.#cancelLook ??= this.#environment.clock.after(LOOK_INTERVAL, () => {
      this.#cancelLook = undefined
      // From the next step on: what it seals looks for it already.
      this.#running = Promise.resolve()
        .then(() => this.#run())
        .finally(() => {
          this.#running = undefined
          if (this.#waiting.size > 0 || (this.#file !== undefined && this.#file.unsynced.length > 0)) this.#lookSoon()
        })
    })
  }

  get #isPressed(): boolean {
    return this.#memory.used > this.#memory.limit * PRESSURE
  }

  async #run(): Promise<void> {
    const { clock } = this.#environment
    while (!this.#closed && clock.uptime() >= this.#retryAt) {
      if (this.#isPressed) this.#sealOpenPages()
      await this.#compaction.makeRoom(this.#waiting, page => this.#isDue(page))
      const due = this.#due()
      if (due.length > 0) await this.#write(due)
      const file = this.#file
      if (
        file !== undefined &&
        file.unsynced.length > 0 &&
        (file.unsyncedBytes > WRITE_BYTES * 8 || clock.uptime() >= this.#syncDueAt)
      ) {
        const syncing = this.#sync()
        if (file.unsyncedBytes > UNSYNCED_BYTES_MAX) await syncing
      }
      if (due.length === 0) return
    }
  }

  /** Pages to write now, oldest first, as many as go into one write. */
  #due(): [Page, Backlog][] {
    const due: [Page, Backlog][] = []
    let bytes = 0
    for (const entry of this.#waiting) {
      if (bytes >= WRITE_BYTES) break
      const [page] = entry
      if (!this.#isDue(page)) continue
      // What cannot be had again stays in memory, and in the journal, until there is room.
      const stays = page.keeps || (this.#options.refuses && page.bodyBytes > 0 && page.minSequence > this.#forcedTo)
      if (stays && !this.#options.hasRoom(page.bodyBytes)) continue
      due.push(entry)
      bytes += page.bodyBytes + page.count * 16
    }
    for (const [page] of due) this.#waiting.delete(page)
    return due
  }

  #isDue({ firstAckedAt, pins, minSequence }: Page): boolean {
    const isOld = firstAckedAt <= this.#environment.clock.now() - this.#options.after && pins === 0
    return isOld || this.#isPressed || minSequence <= this.#forcedTo
  }

  /** The largest of the pages that are not full, half of them: small ones gain little. */
  #sealOpenPages(): void {
    for (const [page] of this.#waiting) if (page.bodyBytes > 0) return
    const open = [...this.#options.openPages()].filter(([page]) => page.bodyBytes > 0)
    open.sort(([a], [b]) => b.bodyBytes - a.bodyBytes)
    for (const [page, backlog] of open.slice(0, Math.ceil(open.length / 2))) backlog.seal(page)
  }

  async #write(entries: readonly [Page, Backlog][]): Promise<void> {
    const { clock } = this.#environment
    try {
      const open = await this.#openFile()
      const blocks: Buffer[] = []
      const written: { page: Page; backlog: Backlog; location: BlockLocation; withBody: boolean[] }[] = []
      let at = open.bytes
      for (const [page, backlog] of entries) {
        const messages = messagesOf(page, page.keeps || this.#compaction.hasRoomFor(page, backlog))
        const block = this.#encode(page, backlog, messages, open.salt)
        const withBody = messages.map(({ body }) => body !== undefined)
        const { headerBytes, placesBytes } = decodeBlockHeader(block, open.salt)!
        const location = { path: open.path, at, bytes: block.length, headBytes: headerBytes + placesBytes }
        written.push({ page, backlog, location, withBody })
        blocks.push(block)
        at += block.length
      }
      // Counted before: where the write fails nothing is known of the file's end, and it is left behind.
      open.bytes = at
      const bytes = blocks.length === 1 ? blocks[0]! : Buffer.concat(blocks)
      await this.#watched('write', open.file.append(bytes))
      if (this.#file !== open) throw new Error(`${open.path} was left while a block was written to it`)
      if (open.unsynced.length === 0) this.#syncDueAt = clock.uptime() + SYNC_DELAY
      open.unsyncedBytes += bytes.length
      for (const { page, backlog, location, withBody } of written) {
        open.era = Math.min(open.era, eraOf(page.epoch))
        open.keeps ||= page.keeps
        if (page.readers === 0) continue
        backlog.wasStored(page, location, withBody)
        this.spilled += page.withBody
        open.pages.set(page, backlog)
        open.unsynced.push([page, backlog])
        if (!page.keeps && (page.pins === 0 || this.#memory.isFull)) backlog.dropBodies(page)
      }
    } catch (error) {
      this.#fail('write', error as Error)
      this.#waiting.addFirst(entries)
      await this.#leaveFile()
    }
  }

  #encode(page: Page, backlog: Backlog, messages: readonly BlockMessage[], salt: number): Buffer {
    const { topic, queueId } = backlog
    return encodeBlock(topic, queueId, backlog.epochId(page.epoch), page, messages, salt, this.#options.compress)
  }

  async #openFile(): Promise<OpenFile> {
    const current = this.#file
    if (current !== undefined && current.bytes < this.#options.fileBytes) return current
    if (current !== undefined) await this.#leaveFile()
    await this.#options.giveWay()
    const { id, salt, path } = this.#nameFile()
    const file = await this.#environment.fileSystem.create(path)
    const open = { ...newBlockFile(path), file, salt, unsynced: [], unsyncedBytes: 0 }
    this.#files.set(path, open)
    this.#file = open
    await file.append(encodeBlockFileHeader(id, salt))
    return open
  }

  #nameFile(): NewFile {
    const id = this.nextFileId++
    const salt = Number.parseInt(this.#environment.randomId(4), 16)
    return { id, salt, path: `${this.#folder}/${blockFileName(id, salt)}` }
  }

  /** Nothing more goes into the file. */
  async #leaveFile(): Promise<void> {
    const file = this.#file
    if (file === undefined) return
    await this.#syncAll(file)
    // A failed sync has left it already.
    if (this.#file !== file) return
    this.#file = undefined
    await file.file.close().catch(() => {})
  }

  /** A sync that is out does not know of what was written meanwhile. */
  async #syncAll(file: OpenFile): Promise<void> {
    while (this.#file === file && file.unsynced.length > 0) await this.#sync()
  }

  /** Syncs what is written; then the journal need not know those places any more. */
  #sync(): Promise<void> {
    this.#syncing ??= this.#syncFile().finally(() => {
      this.#syncing = undefined
    })
    return this.#syncing
  }

  async #syncFile(): Promise<void> {
    const file = this.#file
    if (file === undefined || file.unsynced.length === 0) return
    const pages = file.unsynced
    file.unsynced = []
    file.unsyncedBytes = 0
    try {
      await this.#watched('sync', file.file.sync())
    } catch (error) {
      this.#fail('sync', error as Error)
      if (this.#file === file) this.#file = undefined
      await file.file.close().catch(() => {})
      this.#writtenForNothing([...pages, ...file.unsynced])
      return
    }
    this.#wrote()
    for (const [page, backlog] of pages) {
      for (let at = 0; at < page.count; at++)
        if (backlog.readers.some(reader => !reader.hasDone(page, at))) this.#options.folded(page.sequence(at))
      page.folded = true
      if (page.keeps && page.readers > 0 && page.isLoaded && (page.pins === 0 || this.#memory.isFull))
        backlog.dropBodies(page)
      backlog.dropPlaces(page)
    }
  }

  /** Whether these blocks are on the disk is not known: they are written once more. Bodies that are not in memory are gaps. */
  #writtenForNothing(pages: readonly [Page, Backlog][]): void {
    for (const [page, backlog] of pages) {
      const file = this.#files.get(page.block!.path)
      file?.pages.delete(page)
      backlog.forgetBlock(page)
      if (page.readers > 0) this.#waiting.add(page, backlog)
    }
    this.#lookSoon()
  }

  /** Where the disk fails, places may take as much memory as bodies: a million of them, by default, have room. */
  #loseBeyond(): void {
    if (this.#failed) this.#waiting.loseBeyond(this.#memory.limit)
  }

  /** A disk that hangs is said; it is waited for all the same. */
  async #watched(operation: string, done: Promise<void>): Promise<void> {
    const hangs = new Error(`not done within ${HANGS_AFTER} ms`)
    const cancel = this.#environment.clock.after(HANGS_AFTER, () => this.#fail(operation, hangs))
    await done.finally(cancel)
  }

  #fail(operation: string, error: Error): void {
    this.errors++
    this.#retryAt = this.#environment.clock.uptime() + RETRY_DELAY
    if (!this.#failed)
      this.#environment.log.error(
        { operation, err: error, folder: this.#folder },
        'bodies cannot be written to disk: what does not fit into memory is read back from the source',
      )
    this.#failed = true
    this.#loseBeyond()
  }

  #wrote(): void {
    if (this.#failed) this.#environment.log.info({ folder: this.#folder }, 'bodies can be written to disk again')
    this.#failed = false
  }

  // Reading

  async #load(page: Page, backlog: Backlog): Promise<'loaded' | 'damaged'> {
    const block = await this.#read(page)
    // Its places may be in memory still: then only bodies are missing.
    if (page.isLoaded) return 'loaded'
    if (block === undefined && !page.hasPlaces) return 'damaged'
    backlog.loaded(page, block?.places, block?.bodies)
    return 'loaded'
  }

  async #readBytes(page: Page, path: string, at: number, length: number): Promise<Buffer> {
    const bytes = await this.#environment.fileSystem.readAt(path, at, length)
    this.#unreadable.delete(page)
    return bytes
  }

  /** Milliseconds since it could first not be read. */
  #unreadableFor(page: Page): number {
    const now = this.#environment.clock.uptime()
    const since = this.#unreadable.get(page) ?? now
    this.#unreadable.set(page, since)
    return now - since
  }

  async #read(page: Page): Promise<{ places: BlockPlaces; bodies: (Body | undefined)[] | undefined } | undefined> {
    const { path, at, bytes, headBytes } = page.block!
    let read: Buffer
    try {
      read = await this.#readBytes(page, path, at, bytes)
    } catch (error) {
      const forMs = this.#unreadableFor(page)
      if (forMs < BODIES_UNREADABLE_MOST) throw error
      read = await this.#readBytes(page, path, at, headBytes).catch(error => {
        if (forMs < PLACES_UNREADABLE_MOST) throw error
        return Buffer.alloc(0)
      })
    }
    const { header, places, salt } = decodeBlockOf(page, path, read)
    // Without any, or found to be damaged before.
    if (places !== undefined && page.withBody === 0) return { places: withoutBodies(places), bodies: [] }
    const bodies = places && decodeBlockBodies(read, header!, places, salt)
    if (bodies === undefined) {
      this.damaged++
      this.#environment.log.error(
        { path, at, places: places === undefined ? 'damaged' : 'whole' },
        places === undefined
          ? 'a block cannot be read: messages whose places were only there are lost'
          : 'bodies cannot be read from disk: they are read back from the source',
      )
    }
    return places && { places, bodies }
  }
}

function withoutBodies({ places }: BlockPlaces): BlockPlaces {
  return { places, shapes: places.map(() => undefined) }
}

function messagesOf(page: Page, withBodies: boolean): BlockMessage[] {
  const messages: BlockMessage[] = []
  for (let at = 0; at < page.count; at++)
    messages.push({ place: page.place(at), body: withBodies ? page.body(at) : undefined })
  return messages
}
