// What the codec costs by itself: frames found in chunks, heads peeked at, sends read, batches cut.
//
// usage: node dist/bench/micro/codec.js. JSON.parse of the same header stands beside it, as what it is written instead of.

import benny from 'benny'
import {
  decodeBatch,
  encodeFrame,
  encodeMember,
  encodeProperties,
  FrameHead,
  FrameScanner,
  headBytes,
  memberBytes,
  RequestCode,
  readSendRequest,
} from '../../codec/index.ts'

const CHUNK_BYTES = 64 * 1024
const JSON_TYPE = 0
const BINARY_TYPE = 1

const properties = encodeProperties([
  ['UNIQ_KEY', '7F000001000018B4AAC2000000000001'],
  ['KEYS', 'order-4711'],
  ['WAIT', 'true'],
  ['TAGS', 'paid'],
])
const ext = [
  ['a', 'orders_producer'],
  ['b', 'orders'],
  ['c', 'TBW102'],
  ['d', 4],
  ['e', 3],
  ['f', 0],
  ['g', 1_700_000_000_000],
  ['h', 0],
  ['i', properties],
  ['j', 0],
  ['k', false],
  ['m', false],
] as const

function send(type: 0 | 1, bytes: number): Buffer {
  const empty = encodeFrame({ code: RequestCode.SEND_MESSAGE_V2, opaque: 4711, ext }, undefined, type)
  const body = Buffer.alloc(Math.max(0, bytes - empty.length))
  return encodeFrame({ code: RequestCode.SEND_MESSAGE_V2, opaque: 4711, ext }, body, type)
}

/** A stream of such frames in chunks as sockets give them; frames are cut by the chunks' ends. */
function chunksOf(frame: Buffer): { chunks: Buffer[]; frames: number } {
  // As many chunks as it takes until the end of a frame and of a chunk fall together would be too many.
  const frames = Math.ceil((16 * CHUNK_BYTES) / frame.length)
  const stream = Buffer.concat(Array.from({ length: frames }, () => frame))
  const chunks: Buffer[] = []
  for (let at = 0; at < stream.length; at += CHUNK_BYTES) chunks.push(stream.subarray(at, at + CHUNK_BYTES))
  return { chunks, frames }
}

function scan(name: string, frame: Buffer) {
  const { chunks, frames } = chunksOf(frame)
  return benny.add(`FrameScanner, ${name}, ${frames} frames in 1 MiB`, () => {
    let seen = 0
    const scanner = new FrameScanner({
      head: () => {
        seen++
        return undefined
      },
      body: () => {},
    })
    return () => {
      const out: Buffer[] = []
      for (const chunk of chunks) scanner.push(chunk, out)
      return seen
    }
  })
}

function peek(name: string, frame: Buffer) {
  const head = new FrameHead()
  return benny.add(`head peek, ${name}`, () => head.read(frame, 0, headBytes(frame, 0)))
}

function read(name: string, frame: Buffer) {
  const head = new FrameHead()
  return benny.add(`head peek and readSendRequest, ${name}`, () => {
    head.read(frame, 0, headBytes(frame, 0))
    return readSendRequest(head)
  })
}

function batchOf(count: number): Buffer {
  const body = Buffer.alloc(200)
  const out = Buffer.alloc(count * memberBytes(body.length, properties.length))
  let at = 0
  for (let i = 0; i < count; i++) at = encodeMember(out, at, 0, [body], body.length, properties)
  return out
}

const json = send(JSON_TYPE, 1024)
const binary = send(BINARY_TYPE, 1024)
const headerText = json.subarray(8, headBytes(json, 0))
const batch = batchOf(32)

await benny.suite(
  'codec',
  scan('300 B, binary', send(BINARY_TYPE, 300)),
  scan('4 KiB, binary', send(BINARY_TYPE, 4096)),
  scan('4 KiB, JSON', send(JSON_TYPE, 4096)),
  peek('JSON', json),
  peek('binary', binary),
  read('JSON', json),
  read('binary', binary),
  benny.add('JSON.parse of the same header', () => JSON.parse(headerText.toString())),
  benny.add('decodeBatch, 32 members', () => decodeBatch(batch)),
  benny.cycle(),
)
