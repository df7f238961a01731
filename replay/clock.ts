// Time, as it is handed to everything in replay/, so that a simulator can play it.

export interface Clock {
  /** Wall clock, milliseconds. */
  now(): number
  /** Milliseconds since any moment, with fractions; it never goes back. For how long something took. */
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

export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise(resolve => void clock.after(ms, resolve))
}
