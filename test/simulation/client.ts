// A model producer behind the gateway: it sends, takes down what it was told, connects again, and now and then sends again
// what it was told nothing of.

import {
  encodeFrame,
  encodeMember,
  Framer,
  type HeaderType,
  memberBytes,
  RequestCode,
  saysStored,
} from '../../codec/index.ts'
import type { FakeClock } from '../support/fake-environment.ts'
import type { Random } from '../support/random.ts'
import type { Message } from './ledger.ts'
import type { End, Host, Network } from './network.ts'

const ANSWER_TIMEOUT = 3_000
const RECONNECT = 300

interface Sending {
  messages: Message[]
  queueId: number
  oneway: boolean
  isOver: boolean
  isToRepeat: boolean
}

export class ModelClient implements Host {
  readonly name: string
  readonly broker: string
  /** Where the gateway stands for its broker now. */
  readonly #address: () => string
  readonly #network: Network
  readonly #clock: FakeClock
  readonly #chance: Random
  readonly #say: (who: string, what: string) => void
  #end: End | undefined
  #isUp = false
  #opaque = 1
  readonly #out = new Map<number, Sending>()
  #unsent: Sending[] = []
  #isOver = false
  /** It uses one opaque for all. */
  repeatsOpaque = false

  constructor(
    name: string,
    broker: string,
    address: () => string,
    network: Network,
    chance: Random,
    say: (who: string, what: string) => void,
  ) {
    this.name = name
    this.broker = broker
    this.#address = address
    this.#network = network
    this.#clock = network.clock
    this.#chance = chance
    this.#say = say
  }

  now(): number {
    return this.#clock.now()
  }

  deliver(call: () => void): void {
    call()
  }

  get waiting(): number {
    let count = this.#unsent.length
    for (const { isOver } of this.#out.values()) if (!isOver) count++
    return count
  }

  send(messages: Message[], queueId: number, oneway: boolean, isToRepeat: boolean): void {
    this.#unsent.push({ messages, queueId, oneway, isOver: false, isToRepeat })
    this.#flush()
  }

  /** Ends its connection: in good order, or not. */
  close(how: 'end' | 'destroy' | 'reset'): void {
    this.#say(this.name, `closes its connection: ${how}`)
    const end = this.#end
    if (end === undefined) return
    if (how === 'end') return end.end()
    end[how]()
    this.#gone('its own')
  }

  /** It sends no more, and waits for nothing more. */
  stop(): void {
    this.#isOver = true
    this.#unsent = []
    this.#end?.destroy()
    this.#end = undefined
  }

  #flush(): void {
    if (this.#unsent.length === 0 || this.#isOver) return
    if (this.#end === undefined) return this.#connect()
    if (!this.#isUp) return
    const unsent = this.#unsent
    this.#unsent = []
    for (const sending of unsent) this.#write(this.#end, sending)
  }

  #connect(): void {
    const framer = new Framer()
    const end: End = this.#network.connect(this, this.#address(), {
      connected: () => {
        this.#isUp = true
        this.#flush()
      },
      data: bytes => {
        for (const { head } of framer.push(bytes)) this.#answered(head.opaque, head.code)
      },
      ended: () => {
        end.destroy()
        if (this.#end === end) this.#gone('ended by the gateway')
      },
      closed: reason => {
        if (this.#end === end) this.#gone(reason)
      },
    })
    this.#end = end
  }

  #gone(reason: string): void {
    const wasUp = this.#isUp
    this.#end = undefined
    this.#isUp = false
    const out = [...this.#out.values()]
    this.#out.clear()
    if (out.length > 0)
      this.#say(this.name, `${reason}: is told nothing of ${out.map(({ messages }) => names(messages)).join(', ')}`)
    for (const sending of out) this.#untold(sending)
    if (this.#unsent.length > 0) this.#clock.after(wasUp ? 1 : RECONNECT, () => this.#flush())
  }

  #untold(sending: Sending): void {
    if (sending.isOver) return
    sending.isOver = true
    if (!sending.isToRepeat || this.#isOver) return
    this.#say(this.name, `sends ${names(sending.messages)} again`)
    this.send(sending.messages, sending.queueId, false, false)
  }

  #write(end: End, sending: Sending): void {
    const opaque = this.repeatsOpaque ? 7 : this.#opaque++
    const { messages, queueId, oneway } = sending
    const born = Math.floor(this.#clock.now())
    // Unknown until it is told.
    for (const message of messages) {
      message.unknown++
      message.born.push(born)
    }
    if (!oneway) this.#out.set(opaque, sending)
    this.#say(this.name, `sends ${names(messages)} to ${messages[0]!.topic} q${queueId}${oneway ? ' oneway' : ''}`)
    end.write(encode(messages, queueId, opaque, oneway, born, this.#chance))
    if (oneway) return
    this.#clock.after(ANSWER_TIMEOUT, () => {
      // Its answer counts all the same, if it comes.
      if (this.#out.has(opaque)) this.#untold(sending)
    })
  }

  #answered(opaque: number, code: number): void {
    const sending = this.#out.get(opaque)
    if (sending === undefined) return
    this.#out.delete(opaque)
    sending.isOver = true
    const stored = saysStored(code)
    this.#say(this.name, `is told ${code} of ${names(sending.messages)}`)
    // An answer of 1 says nothing.
    if (!stored && code === 1) return
    for (const message of sending.messages) {
      message.unknown--
      if (!stored) continue
      message.told++
      message.toldAt.push(this.#clock.now())
    }
  }
}

export function names(messages: readonly Message[]): string {
  const [first] = messages as [Message]
  return messages.length === 1 ? `m${first.number}` : `m${first.number} to m${messages.at(-1)!.number}`
}

function encode(
  messages: readonly Message[],
  queueId: number,
  opaque: number,
  oneway: boolean,
  born: number,
  chance: Random,
): Buffer {
  const [first] = messages as [Message]
  const batch = messages.length > 1
  const v1 = !batch && chance.chance(0.2)
  const type = (chance.chance(0.5) ? 0 : 1) as HeaderType
  const header = batch ? Buffer.from(`UNIQ_KEY\u0001BATCH${first.number}\u0002WAIT\u0001true\u0002`) : first.properties
  const fields: [string, string | number | boolean | Buffer][] = [
    [v1 ? 'producerGroup' : 'a', 'group'],
    [v1 ? 'topic' : 'b', first.topic],
    [v1 ? 'defaultTopic' : 'c', 'TBW102'],
    [v1 ? 'defaultTopicQueueNums' : 'd', 4],
    [v1 ? 'queueId' : 'e', queueId],
    [v1 ? 'sysFlag' : 'f', 0],
    [v1 ? 'bornTimestamp' : 'g', born],
    [v1 ? 'flag' : 'h', batch ? 0 : first.flag],
    [v1 ? 'properties' : 'i', header],
    [v1 ? 'reconsumeTimes' : 'j', 0],
    [v1 ? 'unitMode' : 'k', false],
    [v1 ? 'batch' : 'm', batch],
  ]
  const code = v1
    ? RequestCode.SEND_MESSAGE
    : batch && chance.chance(0.8)
      ? RequestCode.SEND_BATCH_MESSAGE
      : RequestCode.SEND_MESSAGE_V2
  let body = first.body
  if (batch) {
    body = Buffer.alloc(messages.reduce((sum, m) => sum + memberBytes(m.body.length, m.properties.length), 0))
    let at = 0
    for (const message of messages)
      at = encodeMember(body, at, message.flag, [message.body], message.body.length, message.properties)
  }
  return encodeFrame({ code, opaque, flag: oneway ? 2 : 0, ext: fields }, body, type)
}
