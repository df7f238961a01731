// The load generator: sends of 1 KiB over raw sockets, so many outstanding on each connection, as fast as answers come.
//
// A frame is built once for each outstanding send of a connection, with a binary header of version 2; only its opaque and
// the end of its UNIQ_KEY are patched when it goes out again. That is safe: its answer says that its bytes have left.
// Answers come in any order; the slot that one frees is the opaque's remainder.

import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { encodeFrame, encodeProperties, FrameScanner, RequestCode, saysStored } from '../../codec/index.ts'
import { sendFields } from '../../proxy/demo/producer.ts'

const BODY_BYTES = 1024
const QUEUES = 4
const KEY_DIGITS = 8

export interface Load {
  address: string
  topic: string
  connections: number
  /** Sends that are out on each connection. */
  outstanding: number
  seconds: number
}

export interface Throughput {
  messages: number
  refused: number
  seconds: number
}

/** Keeps so many sends out for so long, and waits for the last answers. Rejects where a connection ends. */
export async function throughput(load: Load): Promise<Throughput> {
  const lines = await Promise.all(Array.from({ length: load.connections }, () => Line.open(load)))
  const started = performance.now()
  const until = started + load.seconds * 1000
  // What is answered after the end is not counted, nor is the time it takes.
  let messages = 0
  const ended = lines.map(line =>
    line.run(now => {
      if (now < until) messages++
      return now < until
    }),
  )
  await Promise.all(ended)
  const refused = lines.reduce((sum, line) => sum + line.refused, 0)
  for (const line of lines) line.close()
  return { messages, refused, seconds: load.seconds }
}

/** One send after the other on one connection: microseconds of each, sorted. */
export async function latency(load: Omit<Load, 'connections' | 'outstanding'>): Promise<Float64Array> {
  const line = await Line.open({ ...load, connections: 1, outstanding: 1 })
  const until = performance.now() + load.seconds * 1000
  const took: number[] = []
  let before = performance.now()
  await line.run(now => {
    took.push((now - before) * 1000)
    before = performance.now()
    return now < until
  })
  line.close()
  return Float64Array.from(took).sort()
}

interface Slot {
  frame: Buffer
  opaqueAt: number
  keyAt: number
  opaque: number
}

class Line {
  refused = 0
  readonly #socket: Socket
  readonly #slots: Slot[]
  #out = 0
  #answered: (now: number) => boolean = () => false
  #end: (error?: Error) => void = () => {}
  /** The time of the chunk that is being read. */
  #now = 0

  private constructor(socket: Socket, load: Load) {
    this.#socket = socket
    this.#slots = Array.from({ length: load.outstanding }, (_, index) => slotOf(load.topic, index))
    const scanner = new FrameScanner({
      head: head => {
        if (head.isResponse) {
          this.#out--
          if (!saysStored(head.code)) this.refused++
          if (this.#answered(this.#now)) this.#send(head.opaque % this.#slots.length)
          else if (this.#out === 0) this.#end()
        }
        return null
      },
      body: () => {},
    })
    const nowhere: Buffer[] = []
    socket.on('data', chunk => {
      this.#now = performance.now()
      socket.cork()
      scanner.push(chunk, nowhere)
      socket.uncork()
    })
    socket.on('error', error => this.#end(error))
    socket.on('close', () => this.#end(new Error('the connection under load was closed')))
  }

  static open(load: Load): Promise<Line> {
    const at = load.address.lastIndexOf(':')
    return new Promise((resolve, reject) => {
      const socket = connect({
        host: load.address.slice(0, at),
        port: Number(load.address.slice(at + 1)),
        noDelay: true,
      })
      socket.once('error', reject)
      socket.once('connect', () => {
        socket.off('error', reject)
        resolve(new Line(socket, load))
      })
    })
  }

  /** Sends on each slot, and again on each answer for which `answered` says so; resolves with the last answer. */
  run(answered: (now: number) => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#answered = answered
      this.#end = error => (error === undefined ? resolve() : reject(error))
      this.#socket.cork()
      for (let index = 0; index < this.#slots.length; index++) this.#send(index)
      this.#socket.uncork()
    })
  }

  close(): void {
    this.#socket.destroy()
  }

  #send(index: number): void {
    const slot = this.#slots[index]!
    slot.opaque += this.#slots.length
    slot.frame.writeInt32BE(slot.opaque, slot.opaqueAt)
    slot.frame.write(slot.opaque.toString(16).padStart(KEY_DIGITS, '0'), slot.keyAt, 'latin1')
    this.#out++
    this.#socket.write(slot.frame)
  }
}

function slotOf(topic: string, index: number): Slot {
  const key = `${randomBytes(12).toString('hex').toUpperCase()}${'0'.repeat(KEY_DIGITS)}`
  const properties = encodeProperties([
    ['UNIQ_KEY', key],
    ['WAIT', 'true'],
    ['TAGS', 'load'],
  ])
  const ext = sendFields('tee_load', topic, index % QUEUES, properties)
  const frame = encodeFrame({ code: RequestCode.SEND_MESSAGE_V2, opaque: 0, ext }, randomBytes(BODY_BYTES))
  // Binary header: the opaque stands behind the prefix (8), code (2), language (1) and version (2).
  return { frame, opaqueAt: 13, keyAt: frame.indexOf(key) + key.length - KEY_DIGITS, opaque: index }
}
