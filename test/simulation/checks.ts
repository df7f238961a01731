// What must hold at the end of a history, judged from outside: by what clients were told, what the source stored and what is
// at the remote. It reads the gateway's account and its log only to know what it says was lost.

import { decodeProperties, decodeStamp, findProperty, STAMP_PROPERTY } from '../../codec/index.ts'
import { isTorn } from '../../replay/settle.ts'
import type { CommitLog, LogRecord } from './commit-log.ts'
import { type Message, placeText } from './ledger.ts'
import type { Remote } from './remote.ts'
import type { World } from './world.ts'

/** From the ack to the sync of its place, beside what the disk takes: this is what a power cut may take. */
const SYNC_DELAY = 100

/** Milliseconds within which a stall has been over, and synced, for sure. */
const STALL_MOST = 20_000

interface RemoteCopy {
  record: LogRecord
  queue: string
}

export function judge(world: World): void {
  for (const remote of world.remotes)
    judgeRemote({ world, remote, problem: what => world.problem(`${what}${world.whichOf(remote)}`) })
}

/** One remote of a world. */
interface Judged {
  world: World
  remote: Remote
  problem(what: string): void
}

function judgeRemote(judged: Judged): void {
  const copies = copiesAtRemote(judged)
  if (judged.world.happened.has(`${judged.remote.side} is another`)) noteUnseen(judged.remote, copies)
  const lost = saidLost(judged)
  const letters = deadLetters(judged)
  for (const message of judged.world.ledger.messages) {
    const there = copies.get(message.number) ?? []
    judgeCount(judged, message, there, lost, letters)
    for (const { record } of there) judgeContent(judged, message, record)
  }
  judgeOrder(judged, copies)
  judgeAccount(judged, copies, lost)
}

function copiesAtRemote({ world, remote, problem }: Judged): Map<number, RemoteCopy[]> {
  const copies = new Map<number, RemoteCopy[]>()
  for (const { log, options } of remote.cluster.brokers.values())
    for (const record of [...log.expired, ...inQueues(log)]) {
      const { topic, queueId, queueOffset } = record
      // Its broker ended while it stored it; nobody was told that it is there.
      if (isTorn(record)) continue
      const message = world.ledger.of(record.body)
      if (message === undefined) {
        if (findProperty(record.properties, STAMP_PROPERTY) !== undefined)
          problem(`INVENTED: ${topic} q${queueId}:${queueOffset} is a stranger's, with our stamp`)
        continue
      }
      if (message.topic !== topic) problem(`m${message.number} is in ${topic}, not in ${message.topic}`)
      const list = copies.get(message.number) ?? []
      list.push({ record, queue: `${options.name} ${topic} q${queueId}` })
      copies.set(message.number, list)
    }
  return copies
}

/** That a queue began anew is seen when the next message comes there. Where none has (its source has lost it) all that went there is gone. */
function noteUnseen({ wentTo, goneWithQueues }: Remote, copies: ReadonlyMap<number, readonly RemoteCopy[]>): void {
  const queueOf = (topic: string, queueId: number) => `${topic} q${queueId}`
  const used = new Set([...copies.values()].flat().map(({ record }) => queueOf(record.topic, record.queueId)))
  for (const [{ topic, number }, queueId] of wentTo) if (!used.has(queueOf(topic, queueId))) goneWithQueues.add(number)
}

/** What its queues have: a topic that was made anew has nothing of the old one. */
function inQueues({ topics }: CommitLog): LogRecord[] {
  return [...topics.values()].flatMap(queues => queues.flatMap(({ records }) => records))
}

function judgeCount(
  { world, remote, problem }: Judged,
  message: Message,
  there: readonly RemoteCopy[],
  lost: ReadonlyMap<string, string>,
  letters: ReadonlySet<number>,
): void {
  const { number, told, unknown, atSource } = message
  const name = `m${number}`
  const where = there.map(({ record, queue }) => `${queue}:${record.queueOffset}`).join(', ')
  if (message.delayed) {
    if (there.length > 0) problem(`${name} is delayed, and at the remote: ${where}`)
    return
  }
  // Which queue its lane had chosen is not known without a cursor: where the topic has others since, it is looked for in another.
  const isElsewhere = remote.isCursorLost && new Set(there.map(({ queue }) => queue)).size > 1
  // That the remote was cut off could not be written down before what was there was sent again, and the gateway died.
  const isForgotten =
    world.happened.has(`${remote.side} lost its tail`) &&
    world.logs.some(log => log.said('a cursor could not be written').length > 0)
  if ((there.length > told + unknown || there.length > atSource.length) && !isElsewhere && !isForgotten)
    return problem(
      `DUPLICATE: ${name} was stored ${atSource.length} times at the source and is ${there.length} times at the remote: ${where}`,
    )
  const losses = atSource.flatMap(copy => lost.get(placeText(message, copy)) ?? [])
  // A message that lost its offset to this one may be meant.
  const shared = atSource.some(copy => world.ledger.at(placeText(message, copy)) > 1)
  // A start without a cursor does not know what counted as lost, and looks for it anew.
  if (!shared && !remote.isCursorLost && there.length + losses.length > told + unknown)
    problem(`${name} counts as lost, and is at the remote: ${where}`)
  if (there.length + losses.length >= told || remote.goneWithQueues.has(number)) return
  if (letters.has(number)) {
    if (!message.illegal) problem(`${name} is a dead letter, and nothing is wrong with it`)
    return
  }
  if (isExcused(world, message)) return
  // What was known to be there is known no more: that the remote has lost it is not seen.
  if (remote.isCursorLost && world.happened.has(`${remote.side} lost its tail`)) return
  if (world.happened.has('damage')) return void remote.missing.add(number)
  problem(
    `MISSING: ${name} was told to be stored ${told} times (source: ${atSource.map(copy => placeText(message, copy)).join(', ')}) and is ${there.length} times at the remote`,
  )
}

/** A power cut takes what was acked just before; a disk that fails, and says so, what was acked meanwhile. */
function isExcused(world: World, message: Message): boolean {
  if (message.atSource.some(copy => world.unsaved.has(placeText(message, copy)))) return true
  if (world.setup.journal?.ack === 'fsync' && !world.happened.has('disk')) return false
  const window = SYNC_DELAY + 6 * world.setup.diskMost + world.setup.latency * 4 + 50
  // What the process had passed on may be on its way to the client when it dies.
  const onItsWay = world.setup.latency * 4
  const cuts = world.happened.get('power cut') ?? []
  const failures = world.happened.get('disk') ?? []
  // What was written just before a process was killed is synced by the next one, before it serves.
  const served = world.happened.get('served') ?? []
  const ends = (world.happened.get('death') ?? []).filter(death =>
    cuts.some(cut => death <= cut && !served.some(at => death < at && at <= cut)),
  )
  if (message.toldAt.some(at => ends.some(death => at <= death + onItsWay && death - at < window))) return true
  // A write that stalls keeps the sync waiting, too.
  const stalls = world.happened.get('disk stall') ?? []
  return message.toldAt.some(at =>
    cuts.some(
      cut =>
        at <= cut + onItsWay &&
        (cut - at < window ||
          failures.some(failure => failure <= cut) ||
          stalls.some(stall => stall <= cut && cut - stall < STALL_MOST)),
    ),
  )
}

function judgeContent({ world, problem }: Judged, message: Message, record: LogRecord): void {
  const name = `m${message.number}`
  if (!record.body.equals(message.body)) problem(`ALTERED: the body of ${name}`)
  if (record.flag !== message.flag) problem(`ALTERED: the flag of ${name} is ${record.flag}`)
  const properties = decodeProperties(record.properties)
  const text = properties.get(STAMP_PROPERTY)
  for (const added of [STAMP_PROPERTY, 'MSG_REGION', 'TRACE_ON']) properties.delete(added)
  const wanted = decodeProperties(message.properties)
  if (!same([...properties], [...wanted]))
    problem(`ALTERED: ${name} has ${[...properties]} and should have ${[...wanted]}`.slice(0, 300))
  if (findProperty(message.properties, 'long') !== undefined) return
  const stamp = text === undefined ? undefined : decodeStamp(text)
  if (stamp === undefined) return problem(`${name} has no stamp`)
  if (!message.born.includes(stamp.bornTimestamp)) problem(`ALTERED: ${name} was born at ${stamp.bornTimestamp}`)
  if (!message.atSource.some(({ queueId, offset }) => queueId === stamp.queueId && offset === stamp.queueOffset))
    problem(`ALTERED: ${name} is stamped q${stamp.queueId}:${stamp.queueOffset}, and was never there at the source`)
  const { bornTimestampTolerance } = world.setup
  if (!message.born.some(born => Math.abs(born - record.bornTimestamp) <= bornTimestampTolerance))
    problem(`ALTERED: ${name} was born at ${message.born}, and at the remote at ${record.bornTimestamp}`)
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}

/** The messages of one source queue are in one remote queue, in its order, but for those that are counted as reordered. */
function judgeOrder({ world, remote, problem }: Judged, copies: ReadonlyMap<number, readonly RemoteCopy[]>): void {
  const isTailLost = world.happened.has(`${remote.side} lost its tail`)
  const queues = new Map<string, { arrived: number; stored: number; number: number; queue: string }[]>()
  for (const message of world.ledger.messages) {
    const there = copies.get(message.number)
    const [source] = message.atSource
    if (there?.length !== 1 || message.atSource.length !== 1) continue
    // What the source has lost has no order there any more.
    if (isGoneAtSource(world, message)) continue
    // It stands where it was, and what is sent again comes behind it; the gateway that knew of it is dead, and its disk did not have it.
    if (isTailLost && (message.toldAt.length === 0 || isExcused(world, message))) continue
    const [{ record, queue }] = there as [RemoteCopy]
    // A lane that goes to another queue leaves there what it had sent.
    const key = `${source!.host} ${message.topic} q${source!.queueId}${world.setup.reroutes ? ` in ${queue}` : ''}`
    const list = queues.get(key) ?? []
    list.push({ arrived: record.queueOffset, stored: source!.order, number: message.number, queue })
    queues.set(key, list)
  }
  let moved = 0
  const examples: string[] = []
  for (const [key, list] of queues) {
    const places = new Set(list.map(({ queue }) => queue))
    if (places.size > 1 && !remote.isCursorLost)
      problem(`the messages of ${key} are in several remote queues: ${[...places].join(', ')}`)
    list.sort((one, other) => one.arrived - other.arrived)
    const out = list.length - longestRise(list.map(({ stored }) => stored))
    moved += out
    if (out > 0) examples.push(`${key}: ${list.map(({ number }) => `m${number}`).join(' ')}`)
  }
  const isShifted = isTailLost || world.happened.has('source is another')
  // What counted as lost, and a later start found, comes when it is found, and may be seen to come late.
  if (remote.reordered > remote.foundAgain && world.givenUp === 0 && !isShifted)
    problem(`ORDER: ${remote.reordered} messages are counted as reordered, and no send was given up`)
  // Of what was damaged nobody knows where it stands.
  const unknown = world.happened.has('damage') ? lostFromJournal(world, remote) + remote.untold : 0
  // Nor is it known without a cursor what goes behind higher ones.
  if (moved > remote.reordered + remote.foundAgain + unknown && !remote.isCursorLost)
    problem(`ORDER: ${moved} messages are out of order, ${remote.reordered} are counted so: ${examples.join('; ')}`)
}

function isGoneAtSource(world: World, { broker, number, atSource }: Message): boolean {
  const { log } = world.source.brokers.get(broker)!
  if (atSource.some(({ position }) => position < log.min)) return false
  return !log.records.some(({ body }) => world.ledger.of(body)?.number === number)
}

/** Length of the longest rising part. */
function longestRise(numbers: readonly number[]): number {
  const tails: number[] = []
  for (const number of numbers) {
    const at = tails.findIndex(tail => tail >= number)
    if (at < 0) tails.push(number)
    else tails[at] = number
  }
  return tails.length
}

function judgeAccount(
  { world, remote, problem }: Judged,
  copies: ReadonlyMap<number, readonly RemoteCopy[]>,
  said: ReadonlyMap<string, string>,
): void {
  // Those of another remote are no cause for this one.
  const hasHappened = (cause: string) =>
    world.happened.has(cause === 'remote' ? `${remote.side} lost its tail` : (happenedFor[cause] ?? ''))
  // Without a cursor it is not known what was done, and need not be kept any more.
  const isForgotten = world.setup.sourceIsClosed === true && remote.isCursorLost
  let there = 0
  for (const list of copies.values()) there += list.length
  let replicated = 0
  for (const { totals } of world.gateway.accountsOf(remote.label)) {
    const { lost } = totals
    replicated += totals.replicated
    for (const [cause, count] of Object.entries(lost))
      if (
        count > 0 &&
        !hasHappened(cause) &&
        !(cause === 'journal' && (mayLackPlaces(world) || isForgotten || count <= world.unsaved.size))
      )
        problem(`${count} messages count as lost, cause ${cause}, and that did not happen`)
  }
  const damaged = lostFromJournal(world, remote)
  if (remote.missing.size > damaged + remote.lostBefore + remote.untold)
    problem(
      `MISSING: ${[...remote.missing].map(number => `m${number}`).join(', ')}; ${damaged} count as lost, cause journal`,
    )
  // Of a body that may not be had from the source its place is known.
  const isDamaged = (world.setup.sourceIsClosed && mayLackPlaces(world)) || isForgotten
  // Nothing is older than is kept, and there is room for all.
  const isKept = !isSmall(world) && !mayLackPlaces(world) && !world.happened.has('power cut')
  for (const [place, cause] of said)
    if ((!hasHappened(cause) && !(cause === 'journal' && isDamaged)) || (cause === 'remote' && isKept))
      problem(`${place} is said to be lost, cause ${cause}`)
  if (world.happened.has('power cut') || world.happened.has('disk') || remote.isCursorLost) return
  // Those it may have found to be gone, or not.
  let gone = 0
  for (const number of remote.goneWithQueues) {
    const { atSource } = world.ledger.messages[number]!
    gone += Math.max(0, atSource.length - (copies.get(number)?.length ?? 0))
  }
  // What its journal lacks may be there as well; of the newest places nothing tells that there were any.
  const unknown = remote.untold + world.unsaved.size + (mayLackPlaces(world) ? damaged : 0)
  if (replicated < there - unknown || replicated > there + gone)
    problem(`${replicated} messages count as replicated, and ${there} are at the remote`)
}

function lostFromJournal({ gateway }: World, { label }: Remote): number {
  return gateway.accountsOf(label).reduce((sum, { totals }) => sum + (totals.lost.journal ?? 0), 0)
}

/** Whether places may be missing from the journal that were written. */
function mayLackPlaces({ happened }: World): boolean {
  return happened.has('disk') || happened.has('damage')
}

/** Whether the journal has not room for all bodies. */
function isSmall({ setup }: World): boolean {
  return (setup.journal?.maxBytes ?? Number.POSITIVE_INFINITY) < 1_000_000
}

const happenedFor: Record<string, string> = {
  expired: 'source expired',
  source: 'source lost its tail',
  journal: 'power cut',
  full: 'source refuses reading',
}

/** Places that the gateway said were lost, with the cause: for this remote, or for all. */
function saidLost({ world, remote }: Judged): Map<string, string> {
  const lost = new Map<string, string>()
  for (const log of world.logs)
    for (const { fields } of [...log.said('messages lost: they'), ...log.said('messages lost: the source')]) {
      if (fields.remote !== undefined && fields.remote !== remote.label) continue
      for (let offset = Number(fields.fromOffset); offset <= Number(fields.toOffset); offset++)
        lost.set(`${fields.topic} q${fields.queueId}:${offset}`, String(fields.cause))
    }
  return lost
}

function deadLetters({ world, remote }: Judged): Set<number> {
  const letters = new Set<number>()
  const { disk } = world.gateway
  // A line that was torn, at its end or by a sector of zeros, is written again elsewhere.
  for (const path of disk.find(/^dead-letters-/)) {
    if (!path.includes(`/remotes/${remote.label}/`)) continue
    for (const line of disk.bytes(path).toString('latin1').split('\n')) {
      if (!line.startsWith('{') || !line.endsWith('}') || line.includes('\0')) continue
      const { payload } = JSON.parse(line) as { payload: string }
      const message = world.ledger.of(Buffer.from(payload, 'base64'))
      if (message !== undefined) letters.add(message.number)
    }
  }
  return letters
}
