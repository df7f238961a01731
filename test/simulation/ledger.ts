// What was sent, what its sender was told, and where the source put it: against this the remote is judged at the end.
//
// A message is known by its body, which begins with its number. A client that was not told what became of it may send it
// again, as real ones do: each attempt is one more copy that may be there.

import type { LogRecord } from './commit-log.ts'

export interface Message {
  number: number
  topic: string
  broker: string
  body: Buffer
  properties: Buffer
  flag: number
  /** The remote never takes it. */
  illegal: boolean
  /** It is not for the remote. */
  delayed: boolean
  /** Attempts that were answered as stored, and those of which nobody knows. */
  told: number
  unknown: number
  /** When its sender was told, milliseconds. */
  toldAt: number[]
  /** Born timestamps of its attempts. */
  born: number[]
  atSource: SourceCopy[]
}

export interface SourceCopy {
  /** The machine, for a broker's name may move. */
  host: string
  queueId: number
  offset: number
  position: number
  /** Number among all that the sources have stored. */
  order: number
}

export class Ledger {
  readonly messages: Message[] = []
  readonly #places = new Map<string, number>()
  #stored = 0

  add(message: Omit<Message, 'number' | 'body' | 'told' | 'unknown' | 'toldAt' | 'born' | 'atSource'>, size: number) {
    const number = this.messages.length
    const body = Buffer.from(`m${number} ${illegalMark(message.illegal)}${'.'.repeat(size)}`)
    const added: Message = { ...message, number, body, told: 0, unknown: 0, toldAt: [], born: [], atSource: [] }
    this.messages.push(added)
    return added
  }

  of(body: Buffer): Message | undefined {
    const match = /^m(\d+) /.exec(body.toString('latin1', 0, 12))
    return match === null ? undefined : this.messages[Number(match[1])]
  }

  storedAtSource(host: string, records: readonly LogRecord[]): void {
    for (const { body, queueId, queueOffset: offset, commitLogOffset: position } of records) {
      const message = this.of(body)
      if (message === undefined) continue
      const copy = { host, queueId, offset, position, order: this.#stored++ }
      message.atSource.push(copy)
      const place = placeText(message, copy)
      this.#places.set(place, this.at(place) + 1)
    }
  }

  /** How many messages the source has had at a place, one after the other, or on two brokers. */
  at(place: string): number {
    return this.#places.get(place) ?? 0
  }
}

export function placeText({ topic }: Message, { queueId, offset }: SourceCopy): string {
  return `${topic} q${queueId}:${offset}`
}

function illegalMark(illegal: boolean): string {
  return illegal ? 'illegal ' : ''
}

export function isIllegal(body: Buffer): boolean {
  return / illegal /.test(body.toString('latin1', 0, 24))
}
