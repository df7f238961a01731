// Epochs of a source broker: stretches of time in which its offsets name the same messages.
//
// An epoch is an ordinal (for order) and a random id (for identity); both stand in the journal before the first place of
// it. In doubt a new one is always safe. A new one begins:
//
// - at every start of the gateway;
// - when the broker's name answers from another address;
// - when an ack names a commit-log offset (of its broker) or a queue offset (of its queue) at or below one whose ack had
//   come before this send was forwarded, or a place that was acked already: the source has taken offsets back;
// - when the record that was acked at the highest commit-log offset is not to be read back once a new connection is up.
//
// A source connection has the epoch that was confirmed after it was up, from its first send on, and its sends keep it,
// whenever their acks come: an ack on an older connection goes to the older epoch also when a newer one has begun.
// (Without: the last acks of a master that is gone are sorted into its successor's offsets.)
// Where the source took offsets back under connections that live (a topic deleted and made anew), all that have this epoch go
// over to the next with what they forward from then on, and sends that are out go to the older or the newer by their own offsets.
//
// A send that was out then, and stands behind something of the newer one, is of it. One that was found at the source, and may be of
// the older epoch or of the newer, is in the order of the older one (of its era, place.ts); so is what was out then and turns out to stand before it.
// (Without either: it goes before what the source has before it.)
//
// What 'before' was is three fields of a send, set when it is forwarded: no list of acks is kept, however long a send is out.
// An epoch is numbered at its first ack; one that never has any costs nothing.
//
// Pure: no clock, no socket; who reads back is in confirmation.ts.

import { AckedOffsets } from './acked-offsets.ts'
import { EPOCHS_IN_ORDER, ERA_EPOCHS_MAX, eraOf, type Place } from './place.ts'

export interface Epoch {
  readonly ordinal: number
  /** Identity: 12 hex digits. */
  readonly id: string
}

/** An acked message at an end of its epoch: at the lowest or the highest commit-log offset. */
export interface EndOfEpoch extends Place {
  topic: string
  queueId: number
}

/** A send, as far as epochs go. */
export interface Traced {
  topic: string
  queueId: number
  /** Its number among all that were forwarded. */
  forwarded: number
  /** Set here when it is forwarded: its connection, and the epoch that this had. */
  connection: SourceConnection | undefined
  forwardedIn: SourceEpoch | undefined
  /** The highest commit-log offset, and offset in its queue, that were acked in that epoch then; -1: none. */
  logBefore: number
  queueBefore: number
  /** The same for all queues of its topic, where the broker chooses. */
  queuesBefore: ReadonlyMap<number, number> | undefined
  /** Set here at its ack: the epoch of its messages. Kept where it is set before. */
  ackedIn: SourceEpoch | undefined
}

const RECENT_MOST = 8
const NO_QUEUES: ReadonlyMap<number, AckedOffsets> = new Map()

/** Epochs of which nobody could tell in time whether their offsets go on (place.ts). */
class Era {
  /** Of its first epoch; 0 until that has an ack. */
  ordinal = 0
  /** How many have a number beside the first. */
  continued = 0
  /** What stands in its order, and may be of a later one. */
  doubtful: SourceEpoch | undefined = undefined
}

/** A place in the order of an era that may be of a later one. */
interface Doubtful {
  era: Era
  topic: string
  queueId: number
  queueOffset: number
  /** Sends with a smaller number were forwarded before it was found. */
  before: number
}

export class SourceEpoch implements Epoch {
  /** 0 and empty until its first ack. */
  ordinal = 0
  id = ''
  readonly address: string
  era: Era
  /** What began when the source took offsets of this one back. */
  successor: SourceEpoch | undefined = undefined
  /** What was acked first and last, by the source's log; at a commit-log offset of -1 where no ack had any. */
  readonly first = noMessage()
  readonly last = noMessage()
  readonly #topics = new Map<string, Map<number, AckedOffsets>>()
  /** Clients send to few topics: the last one is not looked up again. */
  #lastTopic = ''
  #lastQueues = NO_QUEUES

  constructor(address: string, era = new Era()) {
    this.address = address
    this.era = era
  }

  get hasAcks(): boolean {
    return this.ordinal > 0 && this.#topics.size > 0
  }

  /** The epoch that its connections have now. */
  get present(): SourceEpoch {
    let epoch: SourceEpoch = this
    while (epoch.successor !== undefined) epoch = epoch.successor
    return epoch
  }

  /** What was acked of a queue. */
  acked(topic: string, queueId: number): AckedOffsets | undefined {
    return this.#queues(topic).get(queueId)
  }

  highests(topic: string): ReadonlyMap<number, number> {
    const highests = new Map<number, number>()
    for (const [queueId, { highest }] of this.#queues(topic)) highests.set(queueId, highest)
    return highests
  }

  add(topic: string, queueId: number, place: Place): void {
    let queue = this.acked(topic, queueId)
    if (queue === undefined) {
      queue = new AckedOffsets()
      const queues = this.#topics.get(topic) ?? new Map<number, AckedOffsets>()
      this.#topics.set(topic, queues.set(queueId, queue))
      this.#lastTopic = topic
      this.#lastQueues = queues
    }
    queue.add(place.queueOffset)
    const { commitLogOffset } = place
    if (commitLogOffset > this.last.commitLogOffset) set(this.last, topic, queueId, place)
    if (commitLogOffset >= 0 && (this.first.commitLogOffset < 0 || commitLogOffset < this.first.commitLogOffset))
      set(this.first, topic, queueId, place)
  }

  #queues(topic: string): ReadonlyMap<number, AckedOffsets> {
    if (topic === this.#lastTopic) return this.#lastQueues
    const queues = this.#topics.get(topic)
    if (queues === undefined) return NO_QUEUES
    this.#lastTopic = topic
    this.#lastQueues = queues
    return queues
  }
}

function noMessage(): EndOfEpoch {
  return {
    topic: '',
    queueId: 0,
    epoch: 0,
    sequence: 0,
    queueOffset: -1,
    commitLogOffset: -1,
    bornTimestamp: 0,
    ackedAt: 0,
    hash: 0,
    placeFlags: 0,
    skipReason: 0,
    skipMask: 0,
  }
}

function set(end: EndOfEpoch, topic: string, queueId: number, place: Place): void {
  end.topic = topic
  end.queueId = queueId
  end.queueOffset = place.queueOffset
  end.commitLogOffset = place.commitLogOffset
  end.bornTimestamp = place.bornTimestamp
  end.hash = place.hash
  end.placeFlags = place.placeFlags
}

/** A connection to the source that is up. */
export class SourceConnection {
  readonly address: string
  /** From its first send on; not sure before it is confirmed. */
  epoch: SourceEpoch | undefined = undefined
  /** What turned out not to be its epoch. */
  disproved: SourceEpoch | undefined = undefined
  isConfirmed = false
  /** Its epoch has become sure: acks on it can be taken. */
  onConfirmed: () => void = () => {}

  constructor(address: string) {
    this.address = address
  }

  /** Its acks have to wait. */
  get isUnclear(): boolean {
    return this.epoch !== undefined && !this.isConfirmed
  }
}

export class Epochs {
  readonly #draw: () => string
  readonly #began: (epoch: Epoch) => void
  #ordinal: number
  #newest: SourceEpoch
  /** The last one of another address than the newest has. */
  #other: SourceEpoch | undefined
  /** Those that were numbered last, the oldest first. */
  #recent: SourceEpoch[] = []
  #doubtful: Doubtful[] = []
  #forwarded = 0

  /** `first` is drawn already; `began` is told of each epoch before its first place. */
  constructor(address: string, first: Epoch, draw: () => string, began: (epoch: Epoch) => void) {
    this.#draw = draw
    this.#began = began
    this.#ordinal = first.ordinal
    this.#newest = new SourceEpoch(address)
    this.#newest.ordinal = this.#newest.era.ordinal = first.ordinal
    this.#newest.id = first.id
    this.#recent.push(this.#newest)
  }

  /** What a connection that comes up now is held against. */
  get newest(): SourceEpoch {
    return this.#newest
  }

  /** The highest ordinal that was drawn. */
  get ordinal(): number {
    return this.#ordinal
  }

  /** The broker's name stands for this address now. */
  moved(address: string): void {
    if (this.#newest.address !== address) this.#newest = this.elsewhere(address)
  }

  /**
   * A former master, or one to come: nothing is known of its log. All that come up before anything of it is acked are of one epoch.
   */
  elsewhere(address: string): SourceEpoch {
    if (this.#other?.address !== address || this.#other.hasAcks) this.#other = new SourceEpoch(address)
    return this.#other
  }

  /** A send is about to be forwarded. True where its connection has to be confirmed: `confirmed` or `disproved` has to follow. */
  forwarded(send: Traced, connection: SourceConnection): boolean {
    let { epoch } = connection
    let unclear = false
    if (epoch === undefined) {
      if (connection.address !== this.#newest.address) epoch = this.elsewhere(connection.address)
      else epoch = this.#newest
      connection.epoch = epoch
      unclear = epoch.hasAcks
      connection.isConfirmed = !unclear
    } else if (epoch.successor !== undefined && connection.isConfirmed) connection.epoch = epoch = epoch.present
    this.#forwarded = send.forwarded + 1
    send.connection = connection
    send.forwardedIn = epoch
    send.logBefore = epoch.last.commitLogOffset
    if (send.queueId < 0) send.queuesBefore = epoch.highests(send.topic)
    else send.queueBefore = epoch.acked(send.topic, send.queueId)?.highest ?? -1
    return unclear
  }

  /** What was acked last in this epoch was seen after these connections were up: they have it. */
  confirmed(connections: readonly SourceConnection[], epoch: SourceEpoch): void {
    // Offsets were taken back meanwhile: of what came after that nothing was seen.
    const theirs = epoch.successor === undefined ? epoch : new SourceEpoch(epoch.address)
    for (const connection of connections) {
      if (connection.epoch !== theirs) connection.disproved = connection.epoch
      connection.epoch = theirs
      connection.isConfirmed = true
      connection.onConfirmed()
    }
  }

  /** It was not, or (`isInDoubt`) nobody knows: they begin a new one, together. */
  disproved(connections: readonly SourceConnection[], epoch: SourceEpoch, isInDoubt: boolean): void {
    const next = isInDoubt ? new SourceEpoch(epoch.address, epoch.era) : new SourceEpoch(epoch.address)
    if (this.#newest === epoch) this.#newest = next
    this.confirmed(connections, next)
  }

  /** The epoch of a message of an acked send; most often all messages of a send have one. */
  acked(send: Traced, queueId: number, place: Place): SourceEpoch {
    let epoch = send.ackedIn ?? this.#epochOf(send, queueId, place)
    const behind = this.#doubtful.find(
      one =>
        one.topic === send.topic &&
        one.queueId === queueId &&
        one.queueOffset > place.queueOffset &&
        one.before > send.forwarded &&
        isOlder(one.era, epoch),
    )
    if (behind !== undefined) epoch = behind.era.doubtful!
    // A place has one message: where it is acked already, this is another one.
    while (epoch.acked(send.topic, queueId)?.has(place.queueOffset)) {
      const { era, address } = epoch
      if (epoch === era.doubtful) epoch = era.doubtful = new SourceEpoch(address, era)
      else epoch = this.#next(epoch)
    }
    send.ackedIn = epoch
    if (epoch.ordinal === 0) this.#number(epoch)
    epoch.add(send.topic, queueId, place)
    return epoch
  }

  /** Epochs that something was acked in, from this one on, the newest first. */
  since(epoch: SourceEpoch): SourceEpoch[] {
    const era = ({ ordinal }: SourceEpoch) => eraOf(ordinal)
    const since = this.#recent.filter(one => one !== epoch && one.hasAcks && era(one) > era(epoch))
    return [...since.sort((one, other) => era(other) - era(one)), epoch]
  }

  /**
   * For a message that was found, of a send whose connection never was sure of its epoch: in the order of this one. What is forwarded
   * already and turns out to stand before it is, too.
   */
  doubtful({ era, address }: SourceEpoch, topic: string, queueId: number, queueOffset: number): SourceEpoch {
    era.doubtful ??= new SourceEpoch(address, era)
    const added = { era, topic, queueId, queueOffset, before: this.#forwarded }
    // What stands before one that was found earlier, and below, stands before this one, too.
    const isWithin = (one: Doubtful) =>
      one.era === era && one.topic === topic && one.queueId === queueId && one.queueOffset <= queueOffset
    this.#doubtful = [...this.#doubtful.filter(one => !isWithin(one)), added]
    return era.doubtful
  }

  /** Sends with a smaller number are answered or given up. */
  settled(before: number): void {
    if (this.#doubtful.length > 0) this.#doubtful = this.#doubtful.filter(one => one.before > before)
  }

  #epochOf(send: Traced, queueId: number, place: Place): SourceEpoch {
    const { connection, forwardedIn } = send as { connection: SourceConnection; forwardedIn: SourceEpoch }
    const isLeft = forwardedIn === connection.disproved
    let epoch = isLeft ? connection.epoch!.present : forwardedIn
    if (!isLeft && goesBack(send, queueId, place)) epoch = this.#next(epoch)
    // What was out when offsets were taken back: it stands behind something of the newer epoch, or it is of the older one.
    while (epoch.successor?.hasAcks && isBehind(epoch.successor, place)) epoch = epoch.successor
    while (place.commitLogOffset >= 0 && place.commitLogOffset === epoch.last.commitLogOffset) epoch = this.#next(epoch)
    return epoch
  }

  #next(epoch: SourceEpoch): SourceEpoch {
    if (epoch.successor === undefined) {
      epoch.successor = new SourceEpoch(epoch.address)
      if (this.#newest === epoch) this.#newest = epoch.successor
    }
    return epoch.present
  }

  #number(epoch: SourceEpoch): void {
    if (epoch.era.continued === ERA_EPOCHS_MAX) epoch.era = new Era()
    const { era } = epoch
    if (era.ordinal === 0) epoch.ordinal = era.ordinal = ++this.#ordinal
    else epoch.ordinal = era.ordinal + ++era.continued * EPOCHS_IN_ORDER
    epoch.id = this.#draw()
    this.#recent = [...this.#recent.slice(-RECENT_MOST + 1), epoch]
    // The name answers from there now.
    if (epoch.address !== this.#newest.address && epoch !== epoch.era.doubtful) this.#newest = epoch
    this.#began(epoch)
  }
}

function isBehind({ first }: SourceEpoch, { commitLogOffset }: Place): boolean {
  return first.commitLogOffset >= 0 && first.commitLogOffset < commitLogOffset
}

function isOlder({ ordinal }: Era, { era }: SourceEpoch): boolean {
  return ordinal > 0 && (era.ordinal === 0 || ordinal < era.ordinal)
}

/** Whether it stands at or below what had been acked before it was forwarded. */
export function goesBack(
  send: Traced,
  queueId: number,
  { queueOffset, commitLogOffset }: Pick<Place, 'queueOffset' | 'commitLogOffset'>,
): boolean {
  if (commitLogOffset >= 0 && commitLogOffset <= send.logBefore) return true
  if (send.queuesBefore !== undefined) return queueOffset <= (send.queuesBefore.get(queueId) ?? -1)
  return queueId === send.queueId && queueOffset <= send.queueBefore
}
