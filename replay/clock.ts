// Time, as it is handed to everything in replay/, so that a simulator can play it.

export interface Clock {
  /** Wall clock, milliseconds: for what is compared with times on disk or of brokers. It is set, back and forward. */
  now(): number
  /** Milliseconds since any moment, with fractions; it is never set. For how long something takes, and for every deadline. */
  uptime(): number
  /** Calls back once, after so many milliseconds; the returned function takes it back. */
  after(ms: number, call: () => void): () => void
  /** Calls back when what is ready to be read now has been read: work that arrived together is done together. */
  soon(call: () => void): void
}

export const realClock: Clock = {
  now: () => Date.now(),
  uptime: () => performance.now(),
  after(ms, call) {
    const timer = setTimeout(call, ms)
    return () => clearTimeout(timer)
  },
  soon: call => void setImmediate(call),
}

/** Sleeps that can be ended before their time, one at a time. */
export class Sleep {
  /** Ends the sleep that is under way; where none is, nothing. */
  wake: () => void = () => {}
  readonly #clock: Clock

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Resolves after so many milliseconds, or when woken. */
  for(ms: number): Promise<void> {
    return new Promise(resolve => {
      const cancel = this.#clock.after(ms, resolve)
      this.wake = () => {
        cancel()
        resolve()
      }
    })
  }
}

export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise(resolve => void clock.after(ms, resolve))
}
