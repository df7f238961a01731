// The sends of one link that are not answered: how many bytes they are, and how long each has had to be answered.
//
// A send's time counts from when its bytes have surely left: when it is the oldest of its link without an answer, or when a
// later one was answered. So a thin link, on which much is on its way, is not taken for one whose answers are lost. Bytes
// are counted for the memory that they hold, here and in the kernel. Pure: time comes in with each call.

export interface Sent {
  readonly bytes: number
  /** When its time began; undefined while bytes before its own may still be on their way. */
  since: number | undefined
}

export class InFlight {
  /** In the order in which they were written. */
  readonly #sends = new Set<Sent>()
  bytes = 0

  get count(): number {
    return this.#sends.size
  }

  add(bytes: number, now: number): Sent {
    const sent: Sent = { bytes, since: this.#sends.size === 0 ? now : undefined }
    this.#sends.add(sent)
    this.bytes += bytes
    return sent
  }

  has(sent: Sent): boolean {
    return this.#sends.has(sent)
  }

  answered(sent: Sent, now: number): void {
    if (!this.#sends.has(sent)) return
    for (const before of this.#sends) {
      if (before === sent) break
      before.since ??= now
    }
    this.#sends.delete(sent)
    this.bytes -= sent.bytes
    const [oldest] = this.#sends
    if (oldest !== undefined) oldest.since ??= now
  }

  /** The one whose time began first. */
  get longest(): (Sent & { since: number }) | undefined {
    let longest: Sent | undefined
    for (const sent of this.#sends) {
      // None behind one whose time has not begun is due before the oldest of all.
      if (sent.since === undefined) break
      if (longest === undefined || sent.since < longest.since!) longest = sent
    }
    return longest as (Sent & { since: number }) | undefined
  }

  clear(): void {
    this.#sends.clear()
    this.bytes = 0
  }
}
