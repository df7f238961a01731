// A disk in memory that keeps apart what a process sees of a file and what survives a power cut.
//
// A write is in the page cache at once; a sync that returns brings the sectors that were dirty when it began to the disk.
// A power cut leaves of each file what was synced and, where chance is given, any part of the rest: all of it, a prefix of
// sectors, or torn ones. A sync that failed leaves its sectors clean and not on the disk, so that the next one 'succeeds'
// without them, as Linux does it. A name lasts from the first sync of its file on, a removal from its return on.

import { basename } from 'node:path'
import type { AppendFile, FileSystem } from '../../replay/file-system.ts'
import type { Random } from './random.ts'

const SECTOR_BYTES = 512

export type DiskOperation = 'create' | 'append' | 'sync' | 'read' | 'overwrite' | 'replace' | 'rename' | 'remove'

export class DiskError extends Error {
  readonly code: string

  constructor(code: 'EIO' | 'ENOSPC' | 'ENOENT', operation: string, path: string) {
    super(`${code}: ${operation} ${path}`)
    this.code = code
  }
}

class FakeFile {
  /** As processes see it. */
  bytes: Buffer = Buffer.alloc(0)
  /** What is on the disk; undefined while even its name is not. */
  durable: Buffer | undefined
  /** Bytes that are set aside for it. */
  reserved = 0
  /** Sectors that are not on the disk, each with the number of its last change. */
  readonly #dirty = new Map<number, number>()
  #changes = 0
  /** Changes that the newest sync knew of that has brought anything to the disk. */
  #syncedChanges = 0

  /** So much of it survives a power cut. */
  get synced(): number {
    return this.durable?.length ?? 0
  }

  get isDirty(): boolean {
    return this.#dirty.size > 0 || this.durable?.length !== this.bytes.length
  }

  write(at: number, bytes: Buffer): void {
    if (at === this.bytes.length) this.bytes = Buffer.concat([this.bytes, bytes])
    else {
      const grown = Buffer.alloc(Math.max(this.bytes.length, at + bytes.length))
      this.bytes.copy(grown)
      bytes.copy(grown, at)
      this.bytes = grown
    }
    this.#changes++
    for (let sector = sectorOf(at); sector * SECTOR_BYTES < at + bytes.length; sector++)
      this.#dirty.set(sector, this.#changes)
  }

  /** As a process leaves it that ends: the page cache is the kernel's. */
  left(): FakeFile {
    const left = new FakeFile()
    left.bytes = this.bytes
    left.durable = this.durable
    for (const [sector, change] of this.#dirty) left.#dirty.set(sector, change)
    left.#changes = this.#changes
    left.#syncedChanges = this.#syncedChanges
    return left
  }

  /** Takes down what a sync that begins now brings to the disk; what is returned does it, or fails to. */
  beginSync(): (failed: boolean) => void {
    const dirty = new Map(this.#dirty)
    const { bytes } = this
    const changes = this.#changes
    return failed => {
      for (const [sector, change] of dirty) if (this.#dirty.get(sector) === change) this.#dirty.delete(sector)
      // One that began later took these along, and more.
      if (failed || changes < this.#syncedChanges) return
      this.#syncedChanges = changes
      this.durable = this.#mixed(bytes, sector => dirty.has(sector))
    }
  }

  /** After a power cut: undefined where it is gone. */
  afterPowerCut(chance: Random | undefined): Buffer | undefined {
    if (!this.isDirty || chance === undefined) return this.durable
    const { bytes } = this
    const synced = this.synced
    const reached = Math.max(synced, bytes.length)
    const cut = Math.max(synced, chance.integer(sectorOf(synced), sectorOf(reached) + 1) * SECTOR_BYTES)
    switch (chance.integer(0, 3)) {
      case 0:
        return this.durable
      case 1:
        return this.#mixed(bytes, sector => this.#dirty.has(sector))
      case 2:
        return this.#mixed(bytes.subarray(0, cut), sector => this.#dirty.has(sector))
      default:
        return this.#mixed(bytes, sector => this.#dirty.has(sector) && chance.chance(0.5))
    }
  }

  /** These bytes' sectors where they are `fresh`, the disk's elsewhere; zeros where it has none. */
  #mixed(bytes: Buffer, fresh: (sector: number) => boolean): Buffer {
    const out = Buffer.alloc(bytes.length)
    for (let sector = 0; sector * SECTOR_BYTES < bytes.length; sector++) {
      const start = sector * SECTOR_BYTES
      const from = fresh(sector) ? bytes : this.durable
      if (from !== undefined && from.length > start) from.copy(out, start, start, start + SECTOR_BYTES)
    }
    return out
  }
}

function sectorOf(at: number): number {
  return Math.floor(at / SECTOR_BYTES)
}

export class FakeDisk implements FileSystem {
  readonly files = new Map<string, FakeFile>()
  readonly folders = new Set<string>()
  /** Being removed: back after a power cut, or not. */
  readonly #removed = new Map<string, FakeFile>()
  /** Being renamed: after a power cut under the one name or the other. The newer first. */
  readonly #renamed = new Map<string, string>()
  /** Asked before each operation; what it gives back is thrown. */
  fault: (operation: DiskOperation, path: string) => Error | undefined = () => undefined
  /** Of an append that fails, so many bytes get into the file. */
  tornBytes = 0
  /** Before each step of what is not done on the event loop: it takes its time, or fails there. Undefined: it is done at once. */
  step: ((operation: DiskOperation, path: string) => Promise<void>) | undefined
  /** Bytes that it holds. */
  capacity = Number.POSITIVE_INFINITY
  /** Files that are open. */
  open = 0
  readonly #notes = new Map<string, string>()

  /** What the next process finds. Without chance, a power cut leaves what was synced, and nothing else. */
  afterCrash(powerCut: boolean, chance?: Random): FakeDisk {
    const after = new FakeDisk()
    after.capacity = this.capacity
    const take = (name: string, file: FakeFile) => {
      let path = name
      const bytes = powerCut ? file.afterPowerCut(chance) : file.bytes
      if (bytes === undefined) return
      const former = this.#renamed.get(path)
      if (powerCut && former !== undefined && (chance === undefined || chance.chance(0.5))) path = former
      if (powerCut) after.put(path, bytes)
      else after.files.set(path, file.left())
    }
    for (const folder of this.folders) after.folders.add(folder)
    if (!powerCut) for (const [path, note] of this.#notes) after.#notes.set(path, note)
    for (const [path, file] of this.files) take(path, file)
    for (const [path, file] of this.#removed)
      if (powerCut && !after.files.has(path) && chance?.chance(0.5)) take(path, file)
    return after
  }

  /** A file that is there, and on the disk. */
  put(path: string, bytes: Buffer): FakeFile {
    const file = new FakeFile()
    file.bytes = Buffer.from(bytes)
    file.durable = file.bytes
    this.files.set(path, file)
    return file
  }

  bytes(path: string): Buffer {
    const file = this.files.get(path)
    if (file === undefined) throw new Error(`there is no ${path}`)
    return file.bytes
  }

  /** Paths of all files whose name fits. */
  find(name: RegExp): string[] {
    return [...this.files.keys()].filter(path => name.test(basename(path))).sort()
  }

  get used(): number {
    let bytes = 0
    for (const file of this.files.values()) bytes += Math.max(file.bytes.length, file.reserved)
    return bytes
  }

  writeNote(path: string, text: string | undefined): void {
    if (text === undefined) this.#notes.delete(path)
    else this.#notes.set(path, text)
  }

  readNote(path: string): string | undefined {
    return this.#notes.get(path)
  }

  async freeBytes(): Promise<number> {
    return Math.max(0, this.capacity - this.used)
  }

  async makeFolder(path: string): Promise<void> {
    this.folders.add(path)
  }

  async list(folder: string): Promise<string[]> {
    if (this.step) await this.step('read', folder)
    const inside = [...this.files.keys(), ...this.folders].filter(path => path.startsWith(`${folder}/`))
    return [...new Set(inside.map(path => path.slice(folder.length + 1).split('/')[0]!))]
  }

  /** What is set aside is as much as there is; it reads as if it were not there, where a real one has zeros. */
  async create(path: string, reserved = 0): Promise<AppendFile> {
    this.#check('create', path)
    if (this.files.has(path)) throw new Error(`${path} exists`)
    const file = new FakeFile()
    file.reserved = Math.min(reserved, Math.max(0, this.capacity - this.used))
    this.files.set(path, file)
    this.open++
    let isOpen = true
    return {
      append: async bytes => {
        if (this.step) await this.step('append', path)
        this.#append(path, file, bytes, this.fault('append', path))
      },
      sync: () => this.#sync(path, file),
      // Once more is nothing, as it is to Node.
      close: async () => {
        file.reserved = 0
        if (isOpen) this.open--
        isOpen = false
      },
    }
  }

  async read(path: string): Promise<Buffer | undefined> {
    this.#check('read', path)
    if (this.step) await this.step('read', path)
    const file = this.files.get(path)
    return file && Buffer.from(file.bytes)
  }

  async readAt(path: string, at: number, length: number): Promise<Buffer> {
    const bytes = await this.read(path)
    if (bytes === undefined) throw new DiskError('ENOENT', 'read', path)
    return bytes.subarray(at, at + length)
  }

  async size(path: string): Promise<number> {
    const file = this.files.get(path)
    if (file === undefined) throw new DiskError('ENOENT', 'read', path)
    return file.bytes.length
  }

  async overwrite(path: string, bytes: Buffer): Promise<void> {
    this.#check('overwrite', path)
    let file = this.files.get(path)
    if (file === undefined) {
      file = new FakeFile()
      this.files.set(path, file)
    }
    if (this.step) await this.step('overwrite', path)
    const room = Math.max(0, this.capacity - this.used)
    if (bytes.length > file.bytes.length + room) throw new DiskError('ENOSPC', 'overwrite', path)
    file.write(0, bytes)
    if (this.step) await this.step('overwrite', path)
    file.beginSync()(false)
  }

  async replace(path: string, bytes: Buffer): Promise<void> {
    this.#check('replace', path)
    this.files.delete(`${path}.new`)
    await this.overwrite(`${path}.new`, bytes)
    if (this.step) await this.step('rename', `${path}.new`)
    this.files.set(path, this.files.get(`${path}.new`)!)
    this.files.delete(`${path}.new`)
  }

  async rename(from: string, to: string): Promise<void> {
    this.#check('rename', from)
    if (this.step) await this.step('rename', from)
    const file = this.files.get(from)
    if (file === undefined) return
    this.files.delete(from)
    this.files.set(to, file)
    // It lasts when the folder is synced.
    this.#renamed.set(to, from)
    if (this.step) await this.step('rename', to)
    this.#renamed.delete(to)
  }

  async remove(path: string): Promise<void> {
    this.#check('remove', path)
    const file = this.files.get(path)
    if (file === undefined) return
    this.files.delete(path)
    this.#removed.set(path, file)
    if (this.step) await this.step('remove', path)
    this.#removed.delete(path)
  }

  async removeFolder(folder: string): Promise<void> {
    for (const path of this.files.keys()) if (path.startsWith(`${folder}/`)) await this.remove(path)
    for (const path of this.folders) if (`${path}/`.startsWith(`${folder}/`)) this.folders.delete(path)
  }

  async sync(path: string): Promise<void> {
    const file = this.files.get(path)
    if (file === undefined) throw new Error(`there is no ${path}`)
    await this.#sync(path, file)
  }

  async #sync(path: string, file: FakeFile): Promise<void> {
    const end = file.beginSync()
    try {
      if (this.step) await this.step('sync', path)
      this.#check('sync', path)
    } catch (error) {
      end(true)
      throw error
    }
    end(false)
  }

  #append(path: string, file: FakeFile, bytes: Buffer, error: Error | undefined): void {
    const room = Math.max(0, this.capacity - this.used + Math.max(0, file.reserved - file.bytes.length))
    const fits = error !== undefined ? Math.min(this.tornBytes, room) : room
    file.write(file.bytes.length, bytes.length <= fits ? bytes : bytes.subarray(0, fits))
    if (error !== undefined) throw error
    if (bytes.length > room) throw new DiskError('ENOSPC', 'append', path)
  }

  #check(operation: DiskOperation, path: string): void {
    const error = this.fault(operation, path)
    if (error !== undefined) throw error
  }
}
