// Frames that real clients, name servers and brokers wrote, recorded in test/golden/<client>/: the codec must read of
// them what whoever recorded them knew.

import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import {
  ANSWER_HEADER_BYTES_MAX,
  asTwoWay,
  decodeHeader,
  FRAME_BYTES_MAX,
  Framer,
  FrameScanner,
  frameOf,
  isSend,
  readSendRequest,
} from '../../codec/index.ts'
import { projectRoot } from './project.ts'

interface Expected {
  direction: string
  code: number
  opaque: number
  flag: number
  version: number
  remark?: string | null
  ext?: Record<string, string> | null
  bodyBytes: number
  bodySha1: string
}

const golden = join(projectRoot, 'test/golden')
const clients = existsSync(golden)
  ? readdirSync(golden, { withFileTypes: true }).filter(entry => entry.isDirectory())
  : []
const recordings = clients.map(({ name }) => {
  const files: Record<string, Expected> = JSON.parse(readFileSync(join(golden, name, 'expected.json'), 'utf8'))
  const frames = Object.entries(files).map(([file, expected]) => {
    return { file, expected, bytes: readFileSync(join(golden, name, file)) }
  })
  return { name, frames }
})

test('there are recordings, and every frame in them is described', t => {
  t.true(recordings.length > 0, `no recordings in ${golden}`)
  for (const { name, frames } of recordings) {
    const files = readdirSync(join(golden, name)).filter(file => file.endsWith('.bin'))
    t.true(files.length > 0, `no frames in ${name}`)
    t.deepEqual(frames.map(({ file }) => file).sort(), files.sort(), name)
  }
})

for (const { name, frames } of recordings) {
  for (const { file, expected, bytes } of frames) {
    test(`${name}: ${file} is read as it was recorded`, t => {
      const { head, body } = frameOf(bytes)
      const { ext, remark, ...rest } = decodeHeader(head)
      const { code, opaque, flag, version } = expected
      t.deepEqual(rest, { code, opaque, flag, version })
      t.is(remark ?? '', expected.remark ?? '')
      t.deepEqual([...ext].sort(), Object.entries(expected.ext ?? {}).sort())
      t.is(body.length, expected.bodyBytes)
      t.is(createHash('sha1').update(body).digest('hex'), expected.bodySha1)
    })

    test(`${name}: ${file} goes through the scanner unchanged wherever it is split`, t => {
      let heads = 0
      const out: Buffer[] = []
      const sink = {
        head: () => {
          heads++
          return undefined
        },
        body: () => {},
      }
      const scanner = new FrameScanner(sink, FRAME_BYTES_MAX, ANSWER_HEADER_BYTES_MAX)
      // Every position of the head, and some hundred of a long body.
      const headEnd = 8 + bytes.readUIntBE(5, 3)
      const step = Math.max(1, Math.floor((bytes.length - headEnd) / 300))
      let splits = 0
      for (let at = 0; at <= bytes.length; at += at <= headEnd ? 1 : step) {
        splits++
        out.length = 0
        scanner.push(bytes.subarray(0, at), out)
        scanner.push(bytes.subarray(at), out)
        if (!Buffer.concat(out).equals(bytes) || !scanner.atBoundary) t.fail(`split at ${at}`)
      }
      t.is(heads, splits)
    })
  }

  test(`${name}: its frames come out of a framer one by one, in chunks of any size`, t => {
    const stream = Buffer.concat(frames.map(({ bytes }) => bytes))
    for (const size of [1, 7, 64, 1_460, 65_536]) {
      const framer = new Framer(FRAME_BYTES_MAX, ANSWER_HEADER_BYTES_MAX)
      const found: Buffer[] = []
      for (let at = 0; at < stream.length; at += size)
        for (const frame of framer.push(stream.subarray(at, at + size))) found.push(frame.bytes)
      t.is(found.length, frames.length)
      t.true(found.every((bytes, i) => bytes.equals(frames[i]!.bytes)))
    }
  })

  test(`${name}: its sends are read, and can be asked to be answered`, t => {
    for (const { file, expected, bytes } of frames) {
      const { head, body } = frameOf(bytes)
      if (head.isResponse || !isSend(expected.code)) continue
      const ext = new Map(Object.entries(expected.ext ?? {}))
      const send = readSendRequest(head)
      t.is(send.topic, ext.get('b') ?? ext.get('topic')!, file)
      t.is(String(send.queueId), ext.get('e') ?? ext.get('queueId')!, file)
      t.is(send.properties.toString(), ext.get('i') ?? ext.get('properties') ?? '', file)

      const again = decodeHeader(frameOf(Buffer.concat([asTwoWay(head, -99), body])).head)
      t.deepEqual(again, { ...decodeHeader(head), opaque: -99, flag: expected.flag & ~2 }, file)
    }
    t.pass()
  })
}
