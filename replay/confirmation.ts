// Confirms the epoch of new source connections: is what was acked last still what it was?
//
// The record at the highest commit-log offset acked so far is read back by its offset, once for all connections that wait
// when the reading begins. In time: they keep the epoch. No answer within 500 ms, refused, expired, or something else there: they
// begin a new one, together. It goes on beside the sends; only acks wait for it.

import { isTheAcked, unpacked } from './check.ts'
import type { Clock } from './clock.ts'
import type { Cluster } from './cluster.ts'
import type { EndOfEpoch, Epochs, SourceConnection } from './epoch.ts'
import { LinkError } from './link.ts'
import type { Log } from './log.ts'
import { logEnd, view } from './reading.ts'

/** Milliseconds that acks on a new connection wait, at most. */
const CONFIRM_MOST = 500
const RETRY_PAUSE = 50

const NOTHING = 'nothing stands there'
const ANOTHER = 'another message stands there'
const EXPIRED = 'it has expired'

interface Trouble {
  reason: string
  /** The source may well be as it was: it is slow, does not let us read, or has it no more. */
  isDoubt: boolean
}

export class Confirmation {
  readonly #clock: Clock
  readonly #log: Log
  readonly #cluster: Cluster
  readonly #epochs: Epochs
  #waiting: SourceConnection[] = []
  #waitingSince = 0
  #reading = false
  #cancel: () => void = () => {}
  #closed = false

  constructor(clock: Clock, log: Log, cluster: Cluster, epochs: Epochs) {
    this.#clock = clock
    this.#log = log
    this.#cluster = cluster
    this.#epochs = epochs
  }

  confirm(connection: SourceConnection): void {
    if (this.#waiting.push(connection) === 1) this.#waitingSince = this.#clock.uptime()
    if (!this.#reading) void this.#run()
  }

  close(): void {
    this.#closed = true
    this.#cancel()
  }

  async #run(): Promise<void> {
    this.#reading = true
    while (this.#waiting.length > 0 && !this.#closed) {
      const deadline = this.#waitingSince + CONFIRM_MOST
      // Not the one that they found: it may have been left since.
      const epoch = this.#epochs.newest
      const { address, last } = epoch
      const connections = this.#waiting.filter(connection => connection.address === address)
      for (const other of this.#waiting)
        if (other.address !== address) this.#epochs.confirmed([other], this.#epochs.elsewhere(other.address))
      this.#waiting = []
      const trouble = epoch.hasAcks ? await this.#trouble(address, last, deadline) : undefined
      if (this.#closed) return
      if (trouble === undefined) {
        this.#epochs.confirmed(connections, epoch)
        continue
      }
      this.#epochs.disproved(connections, epoch, trouble.isDoubt)
      this.#log.warn(
        { address, epoch: epoch.ordinal, commitLogOffset: last.commitLogOffset, reason: trouble.reason },
        'what the source acked last was not read back over a new connection: a new epoch begins with it',
      )
    }
    this.#reading = false
  }

  /** Why it is not confirmed. */
  #trouble(address: string, last: EndOfEpoch, deadline: number): Promise<Trouble | undefined> {
    if (last.commitLogOffset < 0)
      return Promise.resolve({ reason: 'no ack said where in its log the source has a message', isDoubt: true })
    const expected = { ...last }
    return new Promise(resolve => {
      let isOver = false
      const end = (trouble: Trouble | undefined) => {
        isOver = true
        this.#cancel()
        resolve(trouble)
      }
      const cancelDeadline = this.#clock.after(Math.max(0, deadline - this.#clock.uptime()), () =>
        end({ reason: `no answer within ${CONFIRM_MOST} ms`, isDoubt: true }),
      )
      let cancelRetry = () => {}
      this.#cancel = () => {
        cancelDeadline()
        cancelRetry()
      }
      const read = (): void =>
        void this.#confirm(address, expected).then(
          trouble => end(trouble),
          error => {
            // The link for questions broke: a connection to the source is up, so that it can be asked again.
            if (isOver) return
            if (error instanceof LinkError) cancelRetry = this.#clock.after(RETRY_PAUSE, read)
            else end({ reason: (error as Error).message, isDoubt: true })
          },
        )
      read()
    })
  }

  /** Throws LinkError, RefusedError. */
  async #confirm(address: string, expected: EndOfEpoch): Promise<Trouble | undefined> {
    const reason = await this.#read(address, expected)
    if (reason === undefined) return undefined
    const isExpired = reason === NOTHING && expected.commitLogOffset < (await logEnd(this.#cluster, address)).start
    return isExpired ? { reason: EXPIRED, isDoubt: true } : { reason, isDoubt: false }
  }

  /** Whether the log of this address has what was acked first, or last, in an epoch. Throws LinkError, RefusedError. */
  async has(message: EndOfEpoch, address: string): Promise<boolean> {
    return message.commitLogOffset >= 0 && (await this.#read(address, { ...message })) === undefined
  }

  /** Why it is not there. */
  async #read(address: string, expected: EndOfEpoch): Promise<string | undefined> {
    const record = await view(this.#cluster, address, expected.commitLogOffset)
    if (record === undefined) return NOTHING
    const isIt =
      record.topic === expected.topic &&
      record.queueId === expected.queueId &&
      unpacked(record).some(stored => isTheAcked(expected, stored))
    return isIt ? undefined : ANOTHER
  }
}
