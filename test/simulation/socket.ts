// A connection's end as a session has it: what it uses of net.Socket, with its events.

import type { SessionSocket } from '../../proxy/session.ts'
import type { End } from './network.ts'

type Listeners = Record<string, ((value?: never) => void)[]>

export class SimSocket implements SessionSocket {
  destroyed = false
  readonly remoteAddress: string
  readonly remotePort = 1
  readonly #end: End
  readonly #listeners: Listeners = {}
  #ended = false
  #wroteEnd = false

  constructor(end: End) {
    this.#end = end
    this.remoteAddress = end.to
    end.events = {
      data: bytes => this.#emit('data', bytes),
      ended: () => {
        this.#ended = true
        this.#emit('end')
        if (this.#wroteEnd) this.destroy()
      },
      closed: reason => {
        if (this.destroyed) return
        this.destroyed = true
        this.#emit('error', new Error(reason))
        this.#emit('close')
      },
      drained: () => this.#emit('drain'),
    }
  }

  get writableNeedDrain(): boolean {
    return this.#end.needsDrain
  }

  get writableLength(): number {
    return this.#end.bytesInFlight
  }

  on(event: string, listener: (value: never) => void): void {
    this.#listeners[event] ??= []
    this.#listeners[event].push(listener as (value?: never) => void)
  }

  write(bytes: Buffer): boolean {
    if (!this.#wroteEnd && !this.destroyed) this.#end.write(bytes)
    return !this.#end.needsDrain
  }

  cork(): void {}

  uncork(): void {}

  pause(): void {
    this.#end.pause()
  }

  resume(): void {
    this.#end.resume()
  }

  end(): void {
    if (this.#wroteEnd || this.destroyed) return
    this.#wroteEnd = true
    this.#end.end()
    if (this.#ended) this.destroy()
  }

  destroy(): void {
    if (this.destroyed) return
    this.destroyed = true
    this.#end.destroy()
    this.#end.soon(() => this.#emit('close'))
  }

  #emit(event: string, value?: unknown): void {
    for (const listener of this.#listeners[event] ?? []) listener(value as never)
  }
}
