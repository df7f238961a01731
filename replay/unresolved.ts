// What became of it? Sends whose connection ended unanswered, or that were answered so that nobody knows: looked for at the
// source, in the queue that they went to.
//
//   when    after the pause in which a broker still executes what it has received, and when all that is stored can be read
//   where   from behind the highest offset whose ack had come before the send was forwarded; where there was none, or the
//           queue does not reach so far any more, from what was stored a minute before
//   what    the same UNIQ_KEY, born timestamp and payload; of several that fit, the one that came over our socket, and none
//           that was acked to another send
//
// Found: it is taken like an ack, in its place in order while it still holds back its queue. Where its connection was not confirmed while it
// lived, it is in the order of the newest epoch of which anything stands before it in the log, from that on in which it was forwarded. (Without: it
// comes, in a newer epoch, behind a message that was stored after it.) It may be of a later one all the same: what turns out to stand before it follows (epoch.ts).
// Not found: it is not there, and holds back nothing. What cannot be found out is counted. A batch is found as a whole: its members stand in a row.
// What was found may be of the client's next try, for it has sent the same again, and the broker answers that later: the message
// is acked at a place where it was taken, and does not go once more.
//
// The sends are kept for that as they came, all together up to a limit, beyond which the oldest are given up.

import { decodeBatch, type SendAnswer, type StoredMessage } from '../codec/index.ts'
import { BodyMemory, payloadOf } from './body.ts'
import { firstValue, unpacked } from './check.ts'
import { type Clock, Sleep } from './clock.ts'
import { type Cluster, RefusedError } from './cluster.ts'
import { type EndOfEpoch, type Epochs, goesBack, type SourceEpoch } from './epoch.ts'
import { executionPause } from './execution-pause.ts'
import type { Log } from './log.ts'
import { type Place, PlaceFlag } from './place.ts'
import { logEnd, offsetAt, pull } from './reading.ts'
import type { Send } from './send.ts'
import type { Turns } from './turns.ts'

/** Bytes of all sends that wait to be found out. */
const MEMORY_MOST = 64 * 1024 * 1024
/** Milliseconds after which it is given up: a broker that starts again has read its log by then. */
const FIND_MOST = 120_000
/** Where no ack had come before: so much is read back. */
const LOOK_BACK = 60_000
/** Places of messages that were found, and milliseconds for which they are kept: the answer to another try may come yet. */
const FOUND_MOST = 10_000
const FOUND_KEPT = 120_000
const RETRY_PAUSE = 500
const DISPATCH_POLL = 20
/** Where the broker does not tell how far it can be read. */
const UNTOLD_PAUSE = 5_000

/** Sends of one connection. */
export interface Unanswered {
  /** Our socket's address as a record has it, where it is known. */
  bornHost: Buffer | undefined
  /** Takes over a send that was found. */
  accept(send: Send, answer: SendAnswer): void
}

export interface UnresolvedContext {
  clock: Clock
  log: Log
  source: Cluster
  broker: string
  address(): string
  turns: Turns
  sendGiveUpTimeout: number
  epochs(): Pick<Epochs, 'since' | 'doubtful'>
  /** Whether a message at an end of an epoch is still there. Throws LinkError, RefusedError. */
  has(message: EndOfEpoch): Promise<boolean>
  /** A send is not there, or nobody knows: it holds back nothing. */
  settled(send: Send): void
  /** Nobody will know. */
  unresolved(count: number): void
  memoryMost?: number
}

interface Suspect extends Unanswered {
  send: Send
  /** Uptime and wall clock when it came. */
  since: number
  at: number
  /** Its connection's epoch was confirmed while that lived. */
  sure: boolean
}

/** Where a send may stand: all of its messages, one behind the other. */
interface Candidate {
  queueId: number
  first: number
  /** By message; undefined where it has not been seen. */
  records: (StoredMessage | undefined)[]
}

interface Member {
  uniqKey: Buffer | undefined
  payload: Buffer
}

export class Unresolved {
  readonly #context: UnresolvedContext
  readonly #memory: BodyMemory
  /** In the order in which they came. */
  readonly #suspects = new Set<Suspect>()
  /** By place: what stands there. */
  readonly #found = new Map<string, string>()
  #foundLast = 0
  #running = false
  #closed = false
  readonly #sleep: Sleep

  constructor(context: UnresolvedContext) {
    this.#context = context
    this.#memory = new BodyMemory(context.memoryMost ?? MEMORY_MOST)
    this.#sleep = new Sleep(context.clock)
  }

  get count(): number {
    return this.#suspects.size
  }

  add(send: Send, from: Unanswered): void {
    if (this.#closed) {
      this.#context.unresolved(1)
      this.#context.settled(send)
      return
    }
    // Before it is counted: it may give it bytes of its own.
    send.unescape()
    this.#memory.keepAnyway(send)
    const { bornHost, accept } = from
    const { connection, forwardedIn } = send
    const sure = connection === undefined || (connection.isConfirmed && forwardedIn !== connection.disproved)
    const { clock } = this.#context
    this.#suspects.add({ send, bornHost, accept, sure, since: clock.uptime(), at: clock.now() })
    let dropped = 0
    for (const oldest of this.#suspects) {
      if (!this.#memory.isFull) break
      dropped++
      this.#giveUp(oldest)
    }
    if (dropped > 0)
      this.#context.log.warn(
        { broker: this.#context.broker, sends: dropped, limit: this.#memory.limit },
        'more sends without an answer than are kept to be found out: the oldest are counted as unresolved',
      )
    if (!this.#running) void this.#run()
  }

  /** Takes a place for a message that is acked, or found, there. False where it was found, and taken, as another send. */
  take(send: Send, queueId: number, place: Place): boolean {
    if (this.#found.size === 0 && !send.isFound) return true
    const now = this.#context.clock.uptime()
    if (now - this.#foundLast > FOUND_KEPT) this.#found.clear()
    const { queueOffset, commitLogOffset, bornTimestamp, hash, placeFlags } = place
    const at = `${send.topic}\n${queueId}\n${queueOffset}`
    // Of equal messages without a key the log tells which one it is.
    const isKeyless = (placeFlags & PlaceFlag.PAYLOAD_HASH) !== 0
    const what = `${bornTimestamp} ${hash} ${isKeyless ? commitLogOffset : ''}`
    if (this.#found.get(at) === what) return false
    if (!send.isFound) return true
    this.#foundLast = now
    this.#found.set(at, what)
    const [oldest] = this.#found.keys()
    if (this.#found.size > FOUND_MOST) this.#found.delete(oldest!)
    return true
  }

  /** All that are left are given up. */
  close(): void {
    this.#closed = true
    this.#sleep.wake()
    for (const suspect of this.#suspects) this.#giveUp(suspect)
  }

  async #run(): Promise<void> {
    this.#running = true
    while (this.#suspects.size > 0 && !this.#closed) {
      try {
        await this.#round()
      } catch (error) {
        if (this.#closed) break
        const refused = error instanceof RefusedError
        const { clock, log, broker } = this.#context
        const old = [...this.#suspects].filter(({ since }) => refused || clock.uptime() - since >= FIND_MOST)
        for (const suspect of old) this.#giveUp(suspect)
        if (old.length > 0)
          log.warn(
            { broker, sends: old.length, reason: (error as Error).message },
            'what became of sends without an answer cannot be found out: they are counted as unresolved',
          )
        else await this.#sleep.for(RETRY_PAUSE)
      }
    }
    this.#running = false
  }

  /** Looks for those whose pause is over. Throws LinkError, RefusedError. */
  async #round(): Promise<void> {
    const { clock, source, address } = this.#context
    const pause = await executionPause(source, address())
    const [oldest] = this.#suspects
    if (oldest === undefined) return
    const left = oldest.since + pause - clock.uptime()
    if (left > 0) return this.#sleep.for(left)
    const due = [...this.#suspects].filter(({ since }) => since + pause <= clock.uptime())
    const sure = await this.#allReadable(oldest)
    const byTopic = new Map<string, Suspect[]>()
    for (const suspect of due) byTopic.set(suspect.send.topic, [...(byTopic.get(suspect.send.topic) ?? []), suspect])
    for (const [topic, suspects] of byTopic) {
      try {
        await this.#findOut(topic, suspects, sure)
      } catch (error) {
        // Another topic may well be read.
        if (!(error instanceof RefusedError)) throw error
        for (const suspect of suspects) this.#giveUp(suspect)
        this.#context.log.warn(
          { topic, sends: suspects.length, reason: error.message },
          'what became of sends without an answer cannot be found out: they are counted as unresolved',
        )
      }
      if (this.#closed) return
    }
  }

  /** Waits until what is stored now can be read by queue; false where the broker does not tell. */
  async #allReadable({ since }: Suspect): Promise<boolean> {
    const { clock, source, address } = this.#context
    try {
      const { end } = await logEnd(source, address())
      while (!this.#closed && (await logEnd(source, address())).readable < end) {
        if (clock.uptime() - since >= FIND_MOST) throw new Error('the source cannot read what it has stored')
        await this.#sleep.for(DISPATCH_POLL)
      }
      return true
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      await this.#sleep.for(UNTOLD_PAUSE)
      return false
    }
  }

  /** `sure`: what is not there now will not be there later. */
  async #findOut(topic: string, suspects: readonly Suspect[], sure: boolean): Promise<void> {
    const searches = suspects.map(suspect => new Search(suspect, this.#later(suspect.send)))
    const queueIds = new Set<number>()
    for (const { send } of suspects) if (send.queueId >= 0) queueIds.add(send.queueId)
    if (suspects.some(({ send }) => send.queueId < 0)) for (const id of await this.#queues(topic)) queueIds.add(id)
    await Promise.all(
      [...queueIds].map(async queueId => {
        const here = searches.filter(({ suspect: { send } }) => send.queueId < 0 || send.queueId === queueId)
        await this.#read(topic, queueId, here)
      }),
    )
    // What two of them could be is that of the one that was forwarded first.
    searches.sort((a, b) => a.suspect.send.forwarded - b.suspect.send.forwarded)
    const isSure = ({ suspect }: Search) => suspect.sure
    for (const search of searches.filter(isSure)) this.#end(search, sure)
    // What is sure, and what stands before, tells of what stands behind.
    const unsure = searches.filter(search => !isSure(search)).map(search => ({ search, position: search.position }))
    for (const { search } of unsure.sort((a, b) => a.position - b.position)) {
      await this.#setOrder(search)
      if (this.#closed) return
      this.#end(search, sure)
    }
  }

  #end(search: Search, sure: boolean): void {
    const { suspect } = search
    if (!this.#suspects.has(suspect)) return
    const { send } = suspect
    const outcome = search.outcome()
    if (outcome === 'nobody knows' || (outcome === 'not there' && !sure)) {
      this.#giveUp(suspect)
      const { topic, queueId } = send
      return this.#context.log.warn({ topic, queueId }, 'what became of a send without an answer is not sure')
    }
    this.#suspects.delete(suspect)
    if (outcome === 'not there') {
      this.#memory.letGo(send)
      return this.#context.settled(send)
    }
    this.#memory.forget(send)
    send.isFound = true
    if (search.its !== undefined)
      send.ackedIn = this.#context.epochs().doubtful(search.its, send.topic, outcome.queueId, outcome.first)
    suspect.accept(send, {
      queueId: outcome.queueId,
      queueOffset: outcome.first,
      commitLogOffsets: outcome.records.map(record => record!.commitLogOffset),
    })
  }

  /** Of a send whose connection's epoch was not sure. */
  async #setOrder(search: Search): Promise<void> {
    const found = search.outcome()
    const { forwardedIn } = search.suspect.send
    if (typeof found === 'string' || forwardedIn === undefined || !forwardedIn.hasAcks) return
    const { has, epochs } = this.#context
    const { commitLogOffset } = found.records[0]!
    for (const epoch of epochs().since(forwardedIn)) {
      const { first } = epoch
      if (epoch !== forwardedIn && (first.commitLogOffset > commitLogOffset || !(await has(first)))) continue
      search.its = epoch
      return
    }
  }

  async #queues(topic: string): Promise<number[]> {
    const { source, broker } = this.#context
    const route = await source.route(topic)
    const queues = route?.queues.find(queue => queue.broker === broker)
    if (queues === undefined) throw new RefusedError(17, `looking for sends to ${topic}`, 'the topic is not there')
    return Array.from({ length: Math.max(queues.readQueues, queues.writeQueues) }, (_, queueId) => queueId)
  }

  /** Epochs that came after the one that a send was forwarded in: what stands at a place now may be of those. */
  #later({ forwardedIn }: Send): SourceEpoch[] {
    return forwardedIn === undefined ? [] : this.#context.epochs().since(forwardedIn)
  }

  /** Shows the searches what the queue has from the lowest offset on at which one of them may stand. */
  async #read(topic: string, queueId: number, here: readonly Search[]): Promise<void> {
    const { clock, source, address, turns, sendGiveUpTimeout } = this.#context
    const times = here.map(({ suspect }) => suspect.at)
    const aMinuteBefore = () =>
      offsetAt(source, address(), topic, queueId, Math.min(...times, clock.now()) - sendGiveUpTimeout - LOOK_BACK)
    const befores = here.map(({ suspect }) => ackedBefore(suspect.send, queueId))
    let from = befores.includes(-1) ? await aMinuteBefore() : Math.min(...befores) + 1
    let end: number | undefined
    for (;;) {
      const { messages, nextOffset, maxOffset } = await turns.take(() => pull(source, address(), topic, queueId, from))
      if (this.#closed) return
      if (end === undefined) {
        if (maxOffset < from) {
          // The source has taken offsets back.
          end = maxOffset
          for (const search of here) search.anywhere = true
          from = await aMinuteBefore()
          if (from < end) continue
          return
        }
        end = maxOffset
      }
      for (const message of messages.flatMap(unpacked)) for (const search of here) search.show(queueId, message)
      const next = Math.max(nextOffset, (messages.at(-1)?.queueOffset ?? -1) + 1)
      if (next <= from || next >= end) return
      from = next
    }
  }

  #giveUp(suspect: Suspect): void {
    if (!this.#suspects.delete(suspect)) return
    this.#memory.letGo(suspect.send)
    this.#context.unresolved(1)
    this.#context.settled(suspect.send)
  }
}

/** The highest offset whose ack had come before the send was forwarded; -1 where none had, or offsets were taken back since. */
function ackedBefore(send: Send, queueId: number): number {
  const { connection, forwardedIn } = send
  if (forwardedIn === connection?.disproved || forwardedIn?.successor !== undefined) return -1
  return send.queuesBefore?.get(queueId) ?? (queueId === send.queueId ? send.queueBefore : -1)
}

/** One send, and what was seen that it could be. */
class Search {
  readonly suspect: Suspect
  /** Also below what had been acked before. */
  anywhere = false
  /** In whose order it is, where its connection was not sure of its epoch. */
  its: SourceEpoch | undefined
  readonly #members: Member[]
  readonly #later: readonly SourceEpoch[]
  readonly #candidates = new Map<string, Candidate>()

  constructor(suspect: Suspect, later: readonly SourceEpoch[]) {
    const { send } = suspect
    this.suspect = suspect
    this.#later = later
    const payload = Buffer.concat(payloadOf(send))
    this.#members = send.batch
      ? decodeBatch(payload).map(({ body, properties }) => ({
          uniqKey: firstValue(properties, 'UNIQ_KEY'),
          payload: body,
        }))
      : [{ uniqKey: firstValue(send.properties, 'UNIQ_KEY'), payload }]
  }

  show(queueId: number, record: StoredMessage): void {
    const { send } = this.suspect
    if (record.bornTimestamp !== send.bornTimestamp) return
    if (!this.anywhere && record.queueOffset <= ackedBefore(send, queueId)) return
    this.#members.forEach((member, index) => {
      if (!fits(member, record)) return
      const first = record.queueOffset - index
      const key = `${queueId} ${first}`
      const candidate = this.#candidates.get(key) ?? { queueId, first, records: Array(this.#members.length) }
      candidate.records[index] = record
      this.#candidates.set(key, candidate)
    })
  }

  /** Where in the log it was found. */
  get position(): number {
    const found = this.outcome()
    return typeof found === 'string' ? -1 : found.records[0]!.commitLogOffset
  }

  outcome(): Candidate | 'not there' | 'nobody knows' {
    const { bornHost, send } = this.suspect
    const { topic } = send
    const all = [...this.#candidates.values()]
    const whole = all.filter(({ records }) => !records.includes(undefined))
    // A part of a batch is none of what its client meant; a run of equal members looks like parts of itself.
    if (whole.length === 0) return all.length === 0 ? 'not there' : 'nobody knows'
    const keyless = this.#members.some(({ uniqKey }) => uniqKey === undefined)
    const isOurs = ({ records }: Candidate) => bornHost !== undefined && records[0]!.bornHost?.equals(bornHost) === true
    let free = whole.filter(one => !this.#isTaken(one))
    // With a key, and over our socket, it is this message: the source has lost what was acked there.
    if (free.length === 0 && !keyless) free = whole.filter(isOurs)
    // With a key it is this message, whatever stands between us and the broker; without one it may be another like it.
    const possible = keyless ? free.filter(({ records }) => !isOfAnother(records[0]!.bornHost, bornHost)) : free
    const forgottenBelow = ({ queueId }: Candidate) =>
      Math.max(0, ...this.#epochs.map(epoch => epoch.acked(topic, queueId)?.forgottenBelow ?? 0))
    const forgotten = (one: Candidate) => keyless && one.first < forgottenBelow(one)
    const ours = possible.filter(isOurs)
    const one = ours[0] ?? (possible.length === 1 ? possible[0] : undefined)
    if (one !== undefined) return forgotten(one) ? 'nobody knows' : one
    return possible.length === 0 ? 'not there' : 'nobody knows'
  }

  /** Another send was acked, or found, at its place; but what was acked there before this one was forwarded is lost. */
  #isTaken({ queueId, first, records }: Candidate): boolean {
    const { send } = this.suspect
    const isLost = goesBack(send, queueId, records[0]!)
    return this.#epochs.some(
      epoch => epoch.acked(send.topic, queueId)?.has(first) && !(isLost && epoch === send.forwardedIn),
    )
  }

  /** In which other sends may have been acked, or found, at its place. */
  get #epochs(): SourceEpoch[] {
    const { connection, forwardedIn } = this.suspect.send
    const own = forwardedIn === connection?.disproved ? connection?.epoch : forwardedIn
    const known = [own, this.its, own?.era.doubtful, this.its?.era.doubtful, ...this.#later]
    return known.filter(epoch => epoch !== undefined)
  }
}

function fits({ uniqKey, payload }: Member, record: StoredMessage): boolean {
  if (!payload.equals(record.body)) return false
  return uniqKey === undefined || (firstValue(record.properties, 'UNIQ_KEY')?.equals(uniqKey) ?? false)
}

/** The same machine, and another of its sockets. Where a machine is not the same, addresses may have been translated. */
function isOfAnother(host: Buffer | undefined, ours: Buffer | undefined): boolean {
  if (host === undefined || ours === undefined || host.length !== ours.length || host.equals(ours)) return false
  return host.subarray(0, -4).equals(ours.subarray(0, -4))
}
