// The hot path of a broker that keeps nothing: sends are answered at once, with rising offsets, so that a benchmark
// measures what stands before it.
//
// Heads are read in place and bodies skipped; all answers to a chunk go out in one buffer, made from one text in which
// only numbers of a fixed width change. Everything that is not a single send is handed to the broker as a frame.

import {
  ExtFields,
  FLAG_RESPONSE,
  type Frame,
  type FrameHead,
  FrameScanner,
  frameOf,
  isSend,
  OWN_VERSION,
  RequestCode,
} from '../../codec/index.ts'

const OPAQUE_DIGITS = 11
const QUEUE_DIGITS = 5
const OFFSET_DIGITS = 16
const HEX = Buffer.from('0123456789ABCDEF')
const SPACE = 0x20
const ZERO = 0x30
const MINUS = 0x2d

/** An answer as a pattern: JSON lets numbers stand behind spaces, and Java reads leading zeros. */
function patternOf(host: Buffer): {
  bytes: Buffer
  opaque: number
  queueId: number
  queueOffset: number
  msgId: number
} {
  const id = `${host.toString('hex').toUpperCase()}${'0'.repeat(16)}`
  const text = `{"code":0,"extFields":{"queueId":"${'Q'.repeat(QUEUE_DIGITS)}","TRACE_ON":"true","MSG_REGION":"DefaultRegion","msgId":"${id}","queueOffset":"${'F'.repeat(OFFSET_DIGITS)}"},"flag":${FLAG_RESPONSE},"language":"JAVA","opaque":${'P'.repeat(OPAQUE_DIGITS)},"serializeTypeCurrentRPC":"JSON","version":${OWN_VERSION}}`
  const bytes = Buffer.alloc(8 + text.length)
  bytes.writeInt32BE(4 + text.length)
  bytes.writeInt32BE(text.length, 4)
  bytes.write(text, 8)
  return {
    bytes,
    opaque: bytes.indexOf('P'.repeat(OPAQUE_DIGITS)),
    queueId: bytes.indexOf('Q'.repeat(QUEUE_DIGITS)),
    queueOffset: bytes.indexOf('F'.repeat(OFFSET_DIGITS)),
    msgId: bytes.indexOf(id) + id.length - 16,
  }
}

/** Counts what a null broker has taken. */
export class NullOffsets {
  sends = 0
  readonly queues: number[] = []
  commitLog = 0
}

/** Reads the chunks of one connection: answers single sends by `write`, and gives the other frames to `other`. */
export function nullSends(
  host: Buffer,
  offsets: NullOffsets,
  write: (answers: Buffer) => void,
  other: (frame: Frame) => void,
): (chunk: Buffer) => void {
  const pattern = patternOf(host)
  const size = pattern.bytes.length
  let answers = Buffer.allocUnsafe(size * 256)
  let filled = 0
  let collected: Buffer[] = []

  const scanner: FrameScanner = new FrameScanner({
    head(head: FrameHead) {
      if (head.isResponse) return null
      const queueId = isSend(head.code) ? queueOfSingle(head) : -1
      if (queueId < 0) {
        collected = [Buffer.from(head.bytes.subarray(head.start, head.end))]
        scanner.collect()
      } else {
        offsets.sends++
        const queueOffset = offsets.queues[queueId] ?? 0
        offsets.queues[queueId] = queueOffset + 1
        const logOffset = offsets.commitLog
        offsets.commitLog += head.bodyBytes + 256
        if (!head.isOneway) answer(head.opaque, queueId, queueOffset, logOffset)
      }
      return null
    },
    body(chunk: Buffer, start: number, end: number, last: boolean) {
      collected.push(chunk.subarray(start, end))
      if (!last) return
      flush()
      other(frameOf(Buffer.concat(collected)))
    },
  })

  function answer(opaque: number, queueId: number, queueOffset: number, logOffset: number): void {
    if (filled + size > answers.length) flush()
    pattern.bytes.copy(answers, filled)
    digits(answers, filled + pattern.queueId, QUEUE_DIGITS, queueId)
    digits(answers, filled + pattern.queueOffset, OFFSET_DIGITS, queueOffset)
    hexDigits(answers, filled + pattern.msgId, logOffset)
    spaced(answers, filled + pattern.opaque, opaque)
    filled += size
  }

  function flush(): void {
    if (filled === 0) return
    write(answers.subarray(0, filled))
    // What was written belongs to the socket now; the rest of the buffer is still ours.
    answers = answers.subarray(filled)
    if (answers.length < size) answers = Buffer.allocUnsafe(size * 256)
    filled = 0
  }

  const nowhere: Buffer[] = []
  return chunk => {
    scanner.push(chunk, nowhere)
    flush()
  }
}

/** The queue of a single send; -1 for a batch, and where the broker is to choose. */
function queueOfSingle(head: FrameHead): number {
  // The field batch of v1 and v2: a batch is answered with an id for each message.
  const v1 = head.code === RequestCode.SEND_MESSAGE
  if (head.code === RequestCode.SEND_BATCH_MESSAGE) return -1
  const fields = new ExtFields(head)
  let queueId = -1
  while (fields.next()) {
    const length = fields.nameEnd - fields.nameStart
    const first = head.bytes[fields.nameStart]
    if (v1) {
      if (length === 7 && fields.name === 'queueId') queueId = fields.integer()
      else if (length === 5 && fields.name === 'batch' && fields.value === 'true') return -1
    } else if (length === 1) {
      if (first === 0x65) queueId = fields.integer()
      else if (first === 0x6d && head.bytes[fields.valueStart] === 0x74) return -1
    }
  }
  return queueId
}

function digits(out: Buffer, at: number, count: number, value: number): void {
  for (let i = at + count - 1; i >= at; i--) {
    const rest = Math.floor(value / 10)
    out[i] = ZERO + (value - rest * 10)
    value = rest
  }
}

function hexDigits(out: Buffer, at: number, value: number): void {
  for (let i = at + 15; i >= at; i--) {
    const rest = Math.floor(value / 16)
    out[i] = HEX[value - rest * 16]!
    value = rest
  }
}

function spaced(out: Buffer, at: number, value: number): void {
  let left = Math.abs(value)
  let i = at + OPAQUE_DIGITS - 1
  do {
    const rest = Math.floor(left / 10)
    out[i--] = ZERO + (left - rest * 10)
    left = rest
  } while (left > 0)
  if (value < 0) out[i--] = MINUS
  while (i >= at) out[i--] = SPACE
}
