// What can go wrong with an embedded broker, switched on and off at any time.
//
// Faults of requests hold for those that a scope says; of several that fit, the one that was added first counts, so
// that what happens to a request is one thing. Faults of the store happen at once. It decides and does not act on
// sockets: see embedded-broker.ts.

import type { EmbeddedStore } from './embedded-store.ts'

/** Which requests a fault is for. All of it must hold; an empty scope is every request. */
export interface Scope {
  codes?: readonly number[]
  topic?: string
  when?: (request: FaultRequest) => boolean
  /** Requests that fit and are let through before it begins. */
  after?: number
  /** Requests that it is for; without it, until it is taken away. */
  times?: number
}

export interface FaultRequest {
  readonly code: number
  readonly topic: string | undefined
  readonly ext: Map<string, string>
  readonly body: Buffer | undefined
  readonly oneway: boolean
}

export type Effect =
  | { kind: 'refuse'; code: number; remark: string }
  | { kind: 'time-out' }
  | { kind: 'lose-answer' }
  | { kind: 'reset-before' }
  | { kind: 'reset-after' }
  | { kind: 'slow'; ms: number }
  | { kind: 'shuffle'; size: number; random: () => number; held: (() => void)[] }

export class Fault {
  readonly effect: Effect
  readonly #scope: Scope
  readonly #stop: (fault: Fault) => void
  #passed = 0
  /** Requests that it was for so far. */
  hits = 0

  constructor(effect: Effect, scope: Scope, stop: (fault: Fault) => void) {
    this.effect = effect
    this.#scope = scope
    this.#stop = stop
  }

  /** Takes it away. */
  stop(): void {
    this.#stop(this)
  }

  /** Whether it is for this request; counts it if so. */
  takes(request: FaultRequest): boolean {
    const { codes, topic, when, after = 0, times = Number.POSITIVE_INFINITY } = this.#scope
    if (this.hits >= times) return false
    if (codes !== undefined && !codes.includes(request.code)) return false
    if (topic !== undefined && topic !== request.topic) return false
    if (when !== undefined && !when(request)) return false
    if (this.#passed++ < after) return false
    this.hits++
    return true
  }
}

export class Faults {
  readonly #store: EmbeddedStore
  readonly #dispatched: () => void
  #faults: Fault[] = []
  #lagMs = 0
  #holding = false
  #timer: NodeJS.Timeout | undefined

  /** `dispatched` is called when something more can be read. */
  constructor(store: EmbeddedStore, dispatched: () => void) {
    this.#store = store
    this.#dispatched = dispatched
  }

  // Of requests

  /** Answered with this code and not executed. */
  refuse(code: number, scope: Scope = {}, remark = 'refused by a fault'): Fault {
    return this.#add({ kind: 'refuse', code, remark }, scope)
  }

  /** Neither executed nor answered. */
  timeOut(scope: Scope = {}): Fault {
    return this.#add({ kind: 'time-out' }, scope)
  }

  /** Executed and not answered. */
  loseAnswers(scope: Scope = {}): Fault {
    return this.#add({ kind: 'lose-answer' }, scope)
  }

  /** The connection is reset, and the request not executed. */
  resetBefore(scope: Scope = {}): Fault {
    return this.#add({ kind: 'reset-before' }, scope)
  }

  /** The request is executed, and the connection reset instead of an answer. */
  resetAfter(scope: Scope = {}): Fault {
    return this.#add({ kind: 'reset-after' }, scope)
  }

  /** Executed at once, answered this much later. */
  slow(ms: number, scope: Scope = {}): Fault {
    return this.#add({ kind: 'slow', ms }, scope)
  }

  /** Answers are kept until there are `size` of them (or no more come), then given in another order. */
  shuffle(seed: number, size: number, scope: Scope = {}): Fault {
    return this.#add({ kind: 'shuffle', size, random: randomOf(seed), held: [] }, scope)
  }

  /** What happens to this request. */
  for(request: FaultRequest): Effect | undefined {
    return this.#faults.find(fault => fault.takes(request))?.effect
  }

  #add(effect: Effect, scope: Scope): Fault {
    const fault = new Fault(effect, scope, gone => {
      this.#faults = this.#faults.filter(other => other !== gone)
    })
    this.#faults.push(fault)
    return fault
  }

  // Of the store

  /** What is stored can be pulled only this much later; VIEW_MESSAGE_BY_ID sees it at once. */
  lagDispatch(ms: number): void {
    this.#lagMs = ms
    this.stored()
  }

  /** What is stored from now on cannot be pulled until it is released. */
  holdDispatch(): void {
    this.#holding = true
  }

  releaseDispatch(): void {
    this.#holding = false
    this.#lagMs = 0
    this.stored()
  }

  /** The messages stored last are gone, and their offsets will be given again. */
  loseTail(count: number): number {
    return this.#store.dropTail(count)
  }

  /** A queue begins at this offset. */
  expire(topic: string, queueId: number, minOffset: number): void {
    this.#store.expire(topic, queueId, minOffset)
  }

  /** Takes all away. */
  clear(): void {
    this.#faults = []
    this.releaseDispatch()
  }

  /** Called when something was stored: dispatches it, now or when its time has come. */
  stored(): void {
    if (this.#holding) return
    if (this.#lagMs === 0) {
      if (this.#store.dispatch()) this.#dispatched()
      return
    }
    const since = this.#store.undispatchedSince
    if (this.#timer !== undefined || since === undefined) return
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined
        if (this.#holding) return
        const more = this.#store.dispatch(Date.now() - this.#lagMs)
        if (more) this.#dispatched()
        // What is still due then is not to be dispatched at all.
        if (more || (this.#store.undispatchedSince ?? 0) + this.#lagMs > Date.now()) this.stored()
      },
      Math.max(1, since + this.#lagMs - Date.now()),
    )
  }

  /** Stops its timer; `stored` starts it again. */
  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}

/** Numbers from 0 up to 1, the same for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** The items in another order. */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const out = [...items]
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[out[i], out[j]] = [out[j]!, out[i]!]
  }
  return out
}
