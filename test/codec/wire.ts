// Frames written by hand for the codec's tests: a writer of its own, so that a mistake of the encoder under test
// cannot hide in what it reads back.

import { FrameHead, headBytes } from '../../codec/index.ts'

export function int(value: number, bytes: number): Buffer {
  const out = Buffer.alloc(bytes)
  for (let i = bytes - 1, rest = BigInt.asUintN(8 * bytes, BigInt(value)); i >= 0; i--, rest >>= 8n)
    out[i] = Number(rest & 0xffn)
  return out
}

export function long(value: bigint): Buffer {
  return Buffer.from(BigInt.asUintN(64, value).toString(16).padStart(16, '0'), 'hex')
}

export function frameBytes(type: number, header: Buffer, body: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([int(4 + header.length + body.length, 4), int(type, 1), int(header.length, 3), header, body])
}

/** A frame with this text as its JSON header. */
export function jsonFrame(text: string | Buffer, body?: Buffer): Buffer {
  return frameBytes(0, Buffer.from(text as string), body)
}

export interface BinaryHeader {
  code: number
  opaque: number
  flag?: number
  language?: number
  version?: number
  remark?: string
  ext?: readonly (readonly [string, string | Buffer])[]
}

export function binaryHeader({
  code,
  opaque,
  flag = 0,
  language = 0,
  version = 479,
  remark = '',
  ext = [],
}: BinaryHeader) {
  const entries = ext.flatMap(([name, value]) => {
    const key = Buffer.from(name)
    const text = Buffer.from(value as string)
    return [int(key.length, 2), key, int(text.length, 4), text]
  })
  const map = Buffer.concat(entries)
  const words = Buffer.from(remark)
  const fixed = [int(code, 2), int(language, 1), int(version, 2), int(opaque, 4), int(flag, 4)]
  return Buffer.concat([...fixed, int(words.length, 4), words, int(map.length, 4), map])
}

export function binaryFrame(header: BinaryHeader, body?: Buffer): Buffer {
  return frameBytes(1, binaryHeader(header), body)
}

/** The head of a whole frame. */
export function headOf(frame: Buffer): FrameHead {
  const head = new FrameHead()
  head.read(frame, 0, headBytes(frame, 0))
  return head
}

/** What fastjson writes for a send (RemotingCommand, members in alphabetical order). */
export function javaSend(ext: Record<string, string>, opaque = 7, code = 310, flag = 0): string {
  const fields = JSON.stringify(ext)
  return `{"code":${code},"extFields":${fields},"flag":${flag},"language":"JAVA","opaque":${opaque},"serializeTypeCurrentRPC":"JSON","version":479}`
}

export const SEND_V2 = {
  a: 'group',
  b: 'orders',
  c: 'TBW102',
  d: '4',
  e: '2',
  f: '1',
  g: '1763928347123',
  h: '9',
  i: 'UNIQ_KEY\u0001AC12\u0002TAGS\u0001A\u0002',
  j: '0',
  k: 'false',
  m: 'false',
}

export const SEND_V1 = {
  producerGroup: 'group',
  topic: 'orders',
  defaultTopic: 'TBW102',
  defaultTopicQueueNums: '4',
  queueId: '2',
  sysFlag: '1',
  bornTimestamp: '1763928347123',
  flag: '9',
  properties: 'UNIQ_KEY\u0001AC12\u0002TAGS\u0001A\u0002',
  reconsumeTimes: '0',
  unitMode: 'false',
  maxReconsumeTimes: '0',
  batch: 'false',
}

/** A run of frames such as a connection carries: both header types, with and without bodies, and an empty ext. */
export function runOfFrames(): Buffer[] {
  return [
    jsonFrame(javaSend(SEND_V2), Buffer.from('first body')),
    binaryFrame({ code: 310, opaque: 8, ext: Object.entries(SEND_V2) }, Buffer.alloc(40, 0x42)),
    jsonFrame('{"code":34,"flag":0,"language":"GO","opaque":9,"version":317}\n', Buffer.from('{"clientID":"x"}')),
    jsonFrame('{"code":0,"flag":1,"language":"JAVA","opaque":10,"version":479}'),
    binaryFrame({ code: 0, opaque: 11, flag: 1 }),
    binaryFrame({ code: 1, opaque: -12, flag: 1, remark: 'nö' }, Buffer.from([0, 1, 2])),
    jsonFrame(javaSend(SEND_V1, 13, 10, 2), Buffer.from('one way')),
  ]
}

/** Cuts bytes at these positions; each piece is a chunk with memory of its own, as from a socket. */
export function cutAt(bytes: Buffer, positions: readonly number[]): Buffer[] {
  const cuts = [0, ...[...positions].sort((a, b) => a - b), bytes.length]
  return cuts.slice(1).map((end, i) => Buffer.from(new Uint8Array(bytes.subarray(cuts[i], end)).buffer))
}
