// A model broker, of the source or of the remote: it does what real ones were seen to do (README.md says where).
//
// A send is executed by one of several threads, so that two may change places, also when its connection has gone; it is
// readable by queue when dispatch has passed it. It stops, starts, stalls, and loses the tail of its log. What becomes of
// single sends is armed from outside: the next send takes the first of `armed`.

import {
  type BatchMember,
  decodeBatch,
  decodeHeader,
  type ExtValue,
  encodeFrame,
  type Frame,
  Framer,
  findProperty,
  RequestCode,
  ResponseCode,
  readSendRequest,
  type SendRequest,
} from '../../codec/index.ts'
import type { Random } from '../support/random.ts'
import type { CommitLog, LogRecord } from './commit-log.ts'
import type { End, Host, Network } from './network.ts'
import { Producers } from './producers.ts'

export type SendFault =
  /** Answered, and not stored. */
  | { kind: 'refused'; code: number; remark: string }
  /** Stored, and answered so. */
  | { kind: 'stored'; code: number; remark: string }
  /** Stored or not, and never answered; its connection lives. */
  | { kind: 'silent'; stores: boolean }
  /** The connection is gone, before it is stored or instead of its answer. */
  | { kind: 'broken'; stores: boolean }
  /** Stored at once, as ever, and answered only then: its flush, or its slave, is late. */
  | { kind: 'slow'; ms: number }
  /** Executed only then. */
  | { kind: 'late'; ms: number }

export interface BrokerOptions {
  name: string
  cluster: string
  host: string
  port: number
  /** Milliseconds until a send is executed, at most. */
  executionMost: number
  /** Milliseconds until what is stored is readable, at most. */
  dispatchMost: number
  /** Milliseconds until what is stored survives a power cut, at most. */
  flushMost: number
  /** What a broker of 5.x adds to the properties of what it is sent. */
  addsProperties: boolean
  /** A broker of 4.9.0 to 5.3.3 puts the batch's properties behind each member's. */
  batchKeyBehind: boolean
  /** Whether nothing is left of the properties of what it tears as it ends, so that nobody knows it again. */
  tearsAll: boolean
  /** Whether nobody may read its queues. */
  isClosed: boolean
  /** Tells what it never takes. */
  isIllegal(body: Buffer): boolean
  stored(broker: ModelBroker, records: readonly LogRecord[], from: string): void
  say(who: string, what: string): void
}

interface Answer {
  code?: number
  remark?: string
  ext?: Iterable<readonly [string, ExtValue]>
  body?: Buffer
}

export class ModelBroker implements Host {
  readonly options: BrokerOptions
  log: CommitLog
  readonly producers = new Producers()
  armed: SendFault[] = []
  /** Requests that are refused, by code. */
  readonly refuses = new Map<number, Answer>()
  isUp = false
  /** Milliseconds until what is stored is readable, where it is to be exact. */
  dispatchLag: number | undefined
  /** The same until a send is executed. */
  executionLag: number | undefined
  /** How much of a message's properties is left where it ends in the middle of a send, where it is to do that for sure. */
  leavesShare: number | undefined
  readonly #network: Network
  readonly #chance: Random
  #stalledUntil = 0
  #waiting: (() => void)[] = []
  /** What a process that ended had not done yet is never done. */
  #life = 0
  /** Sends that wait for their thread: each may be appended to a point, when the process ends. */
  readonly #executing = new Set<() => void>()

  constructor(network: Network, chance: Random, options: BrokerOptions, log: CommitLog) {
    this.#network = network
    this.#chance = chance
    this.options = options
    this.log = log
  }

  get name(): string {
    return this.options.host
  }

  get address(): string {
    return `${this.options.host}:${this.options.port}`
  }

  now(): number {
    return Math.max(this.#network.clock.now(), this.#stalledUntil)
  }

  deliver(call: () => void): void {
    if (!this.isUp) return
    if (this.#network.clock.now() < this.#stalledUntil || this.#waiting.length > 0) this.#waiting.push(call)
    else call()
  }

  start(): void {
    this.isUp = true
    this.#network.listen(this.address, this, end => this.#accept(end))
    const life = this.#life
    const scan = () => {
      if (life !== this.#life) return
      this.producers.scan(this.#network.clock.now())
      this.#network.clock.after(10_000, scan)
    }
    this.#network.clock.after(10_000, scan)
  }

  /** Its process ends; with a tail that is lost, if so many bytes are to be. Returns how many records were. */
  stop(lostFrom?: number): number {
    this.isUp = false
    this.#life++
    this.#stalledUntil = 0
    this.#waiting = []
    this.producers.clear()
    this.#network.ended(this, false)
    const lost = lostFrom === undefined ? 0 : this.log.truncate(lostFrom)
    const executing = [...this.#executing]
    this.#executing.clear()
    if (executing.length > 0 && lost === 0 && (this.leavesShare !== undefined || this.#chance.chance(TORN)))
      this.#chance.pick(executing)()
    // A recovery dispatches what the index lacks before it serves.
    this.log.dispatch()
    this.log.flushed = this.log.end
    return lost
  }

  /** It does nothing for a while, and then all that has come meanwhile. */
  stall(ms: number): void {
    this.#stalledUntil = Math.max(this.#stalledUntil, this.#network.clock.now() + ms)
    const life = this.#life
    this.#network.clock.after(ms, () => life === this.#life && this.#goOn())
  }

  /** It stalls no more. */
  goOn(): void {
    this.#stalledUntil = this.#network.clock.now()
    this.#goOn()
  }

  #goOn(): void {
    if (this.#network.clock.now() < this.#stalledUntil) return
    const waiting = this.#waiting
    this.#waiting = []
    for (const call of waiting) call()
  }

  #accept(end: End): void {
    const framer = new Framer()
    const gone = () => this.producers.gone(end)
    end.events = {
      data: bytes => {
        try {
          for (const frame of framer.push(bytes)) this.#request(end, frame)
        } catch (error) {
          this.options.say(this.name, `closes a connection: ${(error as Error).message}`)
          end.destroy()
          gone()
        }
      },
      ended: () => {
        end.destroy()
        gone()
      },
      closed: gone,
    }
  }

  #later(ms: number, call: () => void): void {
    const life = this.#life
    this.#network.clock.after(ms, () => {
      if (life === this.#life) this.deliver(call)
    })
  }

  #request(end: End, { head, body }: Frame): void {
    const answer = (answer: Answer) => {
      const { code = 0, remark, ext, body } = answer
      const frame = { code, opaque: head.opaque, flag: 1, ...(remark && { remark }), ...(ext && { ext }) }
      end.write(encodeFrame(frame, body))
    }
    const isClosed = this.options.isClosed && head.code === RequestCode.PULL_MESSAGE
    const refusal = isClosed ? { code: 16, remark: 'no permission' } : this.refuses.get(head.code)
    if (refusal !== undefined) return answer(refusal)
    switch (head.code) {
      case RequestCode.SEND_MESSAGE:
      case RequestCode.SEND_MESSAGE_V2:
      case RequestCode.SEND_BATCH_MESSAGE:
        return this.#send(end, { head, body } as Frame, answer)
      case RequestCode.HEART_BEAT:
        this.producers.beat(end, JSON.parse(body.toString()), this.#network.clock.now())
        return answer({})
    }
    const { ext } = decodeHeader(head)
    this.#later(this.#chance.next(), () => answer(this.#answerTo(head.code, ext)))
  }

  #send(end: End, frame: Frame, answer: (answer: Answer) => void): void {
    const request = readSendRequest(frame.head)
    const { topic, queueId, batch, sysFlag, flag, bornTimestamp, properties } = request
    const oneway = frame.head.isOneway
    const fault = this.armed.shift()
    const { executionMost, isIllegal, say } = this.options
    let wait = this.executionLag ?? this.#chance.next() ** 3 * executionMost
    const members: BatchMember[] = batch ? decodeBatch(frame.body) : [{ flag, properties, body: frame.body }]
    const what = `${topic} q${queueId} ${members.map(({ body }) => body.toString('latin1', 0, 24)).join(' ')}`
    if (fault?.kind === 'late') wait += fault.ms
    const tear = () => this.#tear(request, members, end)
    if (fault === undefined) this.#executing.add(tear)
    this.#later(wait, () => {
      this.#executing.delete(tear)
      if (fault?.kind === 'refused') {
        say(this.name, `refuses ${what}: code ${fault.code} ${fault.remark}`)
        return answer(fault)
      }
      if (fault?.kind === 'broken' && !fault.stores) {
        say(this.name, `breaks the connection before ${what}`)
        return this.#break(end)
      }
      if (fault?.kind === 'silent' && !fault.stores) return say(this.name, `never answers ${what}, not stored`)
      const queues = this.log.topics.get(topic)
      if (queues === undefined)
        return answer({ code: ResponseCode.TOPIC_NOT_EXIST, remark: `topic[${topic}] not exist` })
      if (queueId >= queues.length) return answer({ code: 1, remark: `request queueId[${queueId}] is illegal` })
      if (members.some(({ body }) => isIllegal(body))) {
        say(this.name, `finds illegal: ${what}`)
        return answer({ code: ResponseCode.MESSAGE_ILLEGAL, remark: 'the message is illegal' })
      }
      if (!batch && Number(findProperty(properties, 'DELAY') ?? 0) > 0) return this.#delay(request, frame.body, answer)
      const id = queueId < 0 ? this.#chance.integer(0, queues.length - 1) : queueId
      const common = { topic, queueId: id, sysFlag, bornTimestamp }
      const records = members.map(member =>
        this.log.append(
          { ...common, ...member, properties: this.#stored(member.properties, batch ? properties : undefined) },
          Math.floor(this.#network.clock.now()),
        ),
      )
      const [first] = records as [LogRecord]
      const last = records.at(-1)!
      this.#dispatchLater(last.end)
      say(
        this.name,
        `stores ${what} at q${id}:${first.queueOffset}${batch ? ` to ${last.queueOffset}` : ''} (log ${first.commitLogOffset})${end.isClosed ? ', its connection gone' : ''}`,
      )
      this.options.stored(this, records, end.to)
      if (fault?.kind === 'silent') return say(this.name, `does not answer ${what}`)
      if (fault?.kind === 'broken') {
        say(this.name, `breaks the connection instead of answering ${what}`)
        return this.#break(end)
      }
      if (oneway) return
      const code = fault?.kind === 'stored' ? fault.code : 0
      if (code !== 0) say(this.name, `answers code ${code} to ${what}, which is stored`)
      const delay = fault?.kind === 'slow' ? fault.ms : 0
      if (delay > 0) say(this.name, `answers ${what} ${delay} ms later`)
      const reply = {
        code,
        ...(fault?.kind === 'stored' && { remark: fault.remark }),
        ext: [
          ['msgId', records.map(record => msgId(record.commitLogOffset)).join(',')],
          ['queueId', id],
          ['queueOffset', first.queueOffset],
        ] as const,
      }
      if (delay > 0) this.#later(delay, () => answer(reply))
      else answer(reply)
    })
  }

  /**
   * The process ends while it copies a send into its log: members are there up to one that has its properties to a point only, and zeros
   * behind it. A recovery keeps that one, too, for it checks the payload alone.
   */
  #tear({ topic, queueId, batch, sysFlag, bornTimestamp, properties }: SendRequest, members: BatchMember[], end: End) {
    const queues = this.log.topics.get(topic)
    const common = { topic, queueId, sysFlag, bornTimestamp }
    if (queues === undefined || queueId < 0 || queueId >= queues.length) return
    if (members.some(({ body }) => this.options.isIllegal(body)) || findProperty(properties, 'DELAY')) return
    // Without a key it is known by its payload all the same.
    const isKeyless = members.some(member => findProperty(member.properties, 'UNIQ_KEY') === undefined)
    if (this.options.tearsAll && isKeyless) return
    const now = Math.floor(this.#network.clock.now())
    const torn = this.#chance.integer(0, members.length - 1)
    const at = (member: BatchMember) => this.#stored(member.properties, batch ? properties : undefined)
    const whole = members
      .slice(0, torn)
      .map(member => this.log.append({ ...common, ...member, properties: at(member) }, now))
    const member = members[torn]!
    const left = Buffer.from(at(member))
    const share = this.options.tearsAll ? 0 : (this.leavesShare ?? this.#chance.next())
    left.fill(0, Math.floor(share * left.length))
    const record = this.log.append({ ...common, ...member, properties: left }, now)
    this.options.say(
      this.name,
      `ends while it stores ${whole.length} of ${members.length} and tears the next: ${topic} q${queueId}:${record.queueOffset}`,
    )
    if (whole.length > 0) this.options.stored(this, whole, end.to)
  }

  /** A delayed message is in a topic of the broker's own until it is due; it is never due here. */
  #delay(
    { queueId, sysFlag, flag, bornTimestamp, properties }: SendRequest,
    body: Buffer,
    answer: (answer: Answer) => void,
  ) {
    if (!this.log.topics.has(DELAYS)) this.log.makeTopic(DELAYS, 18)
    const now = Math.floor(this.#network.clock.now())
    const message = { topic: DELAYS, queueId: 2, sysFlag, flag, bornTimestamp, properties, body }
    const record = this.log.append(message, now)
    this.#dispatchLater(record.end)
    this.options.say(this.name, `delays ${body.toString('latin1', 0, 12)}`)
    answer({
      ext: [
        ['msgId', msgId(record.commitLogOffset)],
        ['queueId', Math.max(0, queueId)],
        ['queueOffset', record.queueOffset],
      ],
    })
  }

  #break(end: End): void {
    end.reset()
    this.producers.gone(end)
  }

  /** The properties as they are stored; `batch`: the batch header's. */
  #stored(properties: Buffer, batch: Buffer | undefined): Buffer {
    const parts = [properties]
    const add = (bytes: Buffer) => {
      if (bytes.length === 0) return
      const end = parts.at(-1)!
      if (end.length > 0 && end[end.length - 1] !== 2) parts.push(Buffer.from([2]))
      parts.push(bytes)
    }
    if (batch !== undefined && this.options.batchKeyBehind) add(batch)
    if (this.options.addsProperties) add(ADDED)
    const out = Buffer.concat(parts)
    return out.length > 32_767 ? properties : out
  }

  #dispatchLater(end: number): void {
    const { dispatchMost, flushMost } = this.options
    this.#later(this.dispatchLag ?? this.#chance.next() ** 3 * dispatchMost, () => {
      this.log.dispatched = Math.max(this.log.dispatched, Math.min(end, this.log.end))
    })
    this.#later(this.#chance.next() * flushMost, () => {
      this.log.flushed = Math.max(this.log.flushed, Math.min(end, this.log.end))
    })
  }

  /** A message of somebody else. */
  storeStranger(topic: string, queueId: number, body: Buffer, properties: Buffer): void {
    const record = this.log.append(
      { topic, queueId, sysFlag: 0, flag: 0, bornTimestamp: Math.floor(this.#network.clock.now()), body, properties },
      Math.floor(this.#network.clock.now()),
    )
    this.options.say(this.name, `stores a stranger at ${topic} q${queueId}:${record.queueOffset}`)
    this.#dispatchLater(record.end)
  }

  #answerTo(code: number, ext: Map<string, string>): Answer {
    const topic = ext.get('topic') ?? ''
    const queue = this.log.queue(topic, Number(ext.get('queueId')))
    switch (code) {
      case RequestCode.PULL_MESSAGE:
        return this.#pull(topic, queue, Number(ext.get('queueOffset')), Number(ext.get('maxMsgNums')))
      case RequestCode.GET_MAX_OFFSET:
        return { ext: [['offset', queue === undefined ? 0 : this.log.readableEnd(queue)]] }
      case RequestCode.GET_MIN_OFFSET:
        return { ext: [['offset', queue?.minOffset ?? 0]] }
      case RequestCode.SEARCH_OFFSET_BY_TIMESTAMP: {
        // What is not readable yet is not found; where all is younger, it is where the queue's file begins, also what expired.
        const from = Number(ext.get('timestamp'))
        const end = queue === undefined ? 0 : this.log.readableEnd(queue)
        const found = queue?.records.find(record => record.queueOffset < end && record.storeTimestamp >= from)
        if (found === undefined) return { ext: [['offset', end]] }
        return { ext: [['offset', found === queue?.records[0] && found.storeTimestamp > from ? 0 : found.queueOffset]] }
      }
      case RequestCode.GET_BROKER_RUNTIME_INFO: {
        const { min, end, dispatched } = this.log
        const table = {
          commitLogMinOffset: `${min}`,
          commitLogMaxOffset: `${end}`,
          dispatchBehindBytes: `${end - dispatched}`,
        }
        return { body: Buffer.from(JSON.stringify({ table })) }
      }
      case RequestCode.GET_BROKER_CONFIG:
        return { body: Buffer.from('waitTimeMillsInSendQueue=200\nbrokerFastFailureEnable=true\n') }
      case RequestCode.VIEW_MESSAGE_BY_ID: {
        const record = this.log.at(Number(ext.get('offset')))
        if (record === undefined) return { code: 1, remark: `can not find message by the offset, ${ext.get('offset')}` }
        return { body: record.encoded }
      }
      case RequestCode.GET_PRODUCER_CONNECTION_LIST:
        return this.producers.list(ext.get('producerGroup') ?? '')
      case RequestCode.GET_TOPIC_CONFIG:
        return { body: Buffer.from('{"attributes":{}}') }
      case RequestCode.GET_TOPIC_STATS_INFO:
        return { code: this.log.topics.has(topic) ? ResponseCode.SUCCESS : ResponseCode.TOPIC_NOT_EXIST }
      case RequestCode.UPDATE_AND_CREATE_TOPIC:
        this.options.say(this.name, `makes topic ${topic} with ${ext.get('writeQueueNums')} queues`)
        if (!this.log.topics.has(topic)) this.log.makeTopic(topic, Number(ext.get('writeQueueNums')))
        return {}
      default:
        return { code: ResponseCode.REQUEST_CODE_NOT_SUPPORTED, remark: `request type ${code} not supported` }
    }
  }

  #pull(topic: string, queue: ReturnType<CommitLog['queue']>, offset: number, most: number): Answer {
    if (!this.log.topics.has(topic)) return { code: ResponseCode.TOPIC_NOT_EXIST, remark: `topic[${topic}] not exist` }
    if (queue === undefined) return { code: 1, remark: 'queueId is illegal' }
    const end = this.log.readableEnd(queue)
    const { minOffset } = queue
    const answer = (code: number, nextOffset: number, records: readonly LogRecord[] = []): Answer => ({
      code,
      ext: [
        ['nextBeginOffset', nextOffset],
        ['minOffset', minOffset],
        ['maxOffset', end],
        ['suggestWhichBrokerId', 0],
      ],
      body: Buffer.concat(records.map(({ encoded }) => encoded)),
    })
    if (end === 0 && offset > 0) return answer(ResponseCode.PULL_OFFSET_MOVED, 0)
    if (offset < minOffset) return answer(ResponseCode.PULL_OFFSET_MOVED, minOffset)
    if (offset > end) return answer(ResponseCode.PULL_OFFSET_MOVED, minOffset === 0 ? 0 : end)
    if (offset === end) return answer(ResponseCode.PULL_NOT_FOUND, offset)
    const atMost = Math.min(most, this.#chance.chance(0.1) ? 8 : 32)
    const from = queue.records.findIndex(({ queueOffset }) => queueOffset >= offset)
    const records = atMostBytes(queue.records.slice(from, from + Math.min(atMost, end - offset)))
    if (records.length === 0) return answer(ResponseCode.PULL_RETRY_IMMEDIATELY, end)
    return answer(ResponseCode.SUCCESS, records.at(-1)!.queueOffset + 1, records)
  }
}

/** How often a process that ends has been in the middle of a send. */
const TORN = 0.5

const DELAYS = 'SCHEDULE_TOPIC_XXXX'

/** MSG_REGION and TRACE_ON, as SendMessageProcessor adds them. */
const ADDED = Buffer.from('MSG_REGION\u0001DefaultRegion\u0002TRACE_ON\u0001true\u0002')

/** maxTransferBytesOnMessageInMemory of a broker. */
const PULL_BYTES_MOST = 256 * 1024

function atMostBytes(records: readonly LogRecord[]): LogRecord[] {
  let bytes = 0
  return records.filter(({ encoded }, index) => {
    bytes += encoded.length
    return index === 0 || bytes <= PULL_BYTES_MOST
  })
}

function msgId(position: number): string {
  return `7F00000100002A9F${position.toString(16).toUpperCase().padStart(16, '0')}`
}
