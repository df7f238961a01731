// One file of places while it is written: appended to, synced, ended.
//
// Appends are made one at a time. It keeps what is not synced. The first operation that fails, or takes too long, is its last: the file is left behind, and what is in doubt is handed back. An fsync
// is never tried again: after a failed one the kernel takes the pages for clean, and the next would say that all is well.

import type { Environment } from './environment.ts'
import type { AppendFile } from './file-system.ts'

export interface PlaceFileEvents {
  /** Seconds that an append, a sync took. */
  appended(seconds: number): void
  synced(seconds: number): void
  failed(file: PlaceFile, operation: string, error: Error, inDoubt: Buffer[]): void
}

export class PlaceFile {
  readonly path: string
  bytes = 0
  readonly #environment: Environment
  readonly #file: AppendFile
  readonly #events: PlaceFileEvents
  /** Milliseconds: for who waits for a write, and for a sync. */
  readonly #writeTimeout: number
  readonly #syncTimeout: number
  /** What is being appended, was appended since the last sync began, and what that sync is about. */
  #beingWritten: Buffer | undefined
  #unsynced: Buffer[] = []
  #beingSynced: Buffer[] = []
  #idle: Promise<void> = Promise.resolve()
  #syncing: Promise<void> | undefined
  #nextSync: Promise<void> | undefined
  #failed = false
  /** Who waits, and is told when it fails. */
  readonly #waiting = new Set<() => void>()

  constructor(
    environment: Environment,
    path: string,
    file: AppendFile,
    timeouts: { write: number; sync: number },
    events: PlaceFileEvents,
  ) {
    this.#environment = environment
    this.path = path
    this.#file = file
    this.#writeTimeout = timeouts.write
    this.#syncTimeout = timeouts.sync
    this.#events = events
  }

  /** Whether an append is out. */
  get isBusy(): boolean {
    return this.#beingWritten !== undefined
  }

  /** Resolves when the append that is out has returned, and who waited for it is told. */
  get idle(): Promise<void> {
    return this.#idle
  }

  /**
   * Appends; `told` is called when that has returned, or has failed. Not while it is busy. `head`, with which a file begins,
   * is never in doubt: whoever writes anew has one.
   */
  append(bytes: Buffer, head: Buffer | undefined, told: () => void): void {
    const all = head === undefined ? bytes : Buffer.concat([head, bytes])
    this.bytes += all.length
    const started = this.#environment.clock.uptime()
    this.#beingWritten = bytes
    this.#idle = this.#watched('append', this.#writeTimeout, this.#file.append(all), () => {
      // Only now: a sync that is out does not know of it.
      this.#beingWritten = undefined
      this.#unsynced.push(bytes)
      this.#events.appended((this.#environment.clock.uptime() - started) / 1000)
    }).then(told)
  }

  /** Resolves when what is written so far is synced, or the file has failed. */
  sync(): Promise<void> {
    if (this.#failed || (this.#unsynced.length === 0 && this.#syncing === undefined)) return Promise.resolve()
    if (this.#syncing !== undefined) {
      // The one that is out may not know of what was written meanwhile.
      this.#nextSync ??= this.#syncing.then(() => {
        this.#nextSync = undefined
        return this.sync()
      })
      return this.#nextSync
    }
    this.#beingSynced = this.#unsynced
    this.#unsynced = []
    const started = this.#environment.clock.uptime()
    this.#syncing = this.#watched('sync', this.#syncTimeout, this.#file.sync(), () => {
      this.#beingSynced = []
      this.#events.synced((this.#environment.clock.uptime() - started) / 1000)
    }).finally(() => {
      this.#syncing = undefined
    })
    return this.#syncing
  }

  /** No more comes: it is synced and closed. */
  async end(): Promise<void> {
    await this.sync()
    if (!this.#failed) await this.#file.close().catch(error => this.#fail('close', error))
  }

  /** Resolves when the operation is done, or the file has failed; it fails where that takes too long. */
  #watched(operation: string, timeout: number, done: Promise<void>, succeeded: () => void): Promise<void> {
    return new Promise(resolve => {
      const cancel = this.#environment.clock.after(timeout, () =>
        this.#fail(operation, new Error(`not done within ${timeout} ms`)),
      )
      this.#waiting.add(resolve)
      const ended = () => {
        cancel()
        this.#waiting.delete(resolve)
        resolve()
      }
      done.then(
        () => {
          if (!this.#failed) succeeded()
          ended()
        },
        error => {
          this.#fail(operation, error)
          ended()
        },
      )
    })
  }

  #fail(operation: string, error: Error): void {
    if (this.#failed) return
    this.#failed = true
    const inDoubt = [...this.#beingSynced, ...this.#unsynced]
    if (this.#beingWritten !== undefined) inDoubt.push(this.#beingWritten)
    this.#beingSynced = this.#unsynced = []
    this.#beingWritten = undefined
    this.#file.close().catch(() => {})
    this.#events.failed(this, operation, error, inDoubt)
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}
