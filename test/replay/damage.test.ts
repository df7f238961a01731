// Every byte-wise truncation and every single-bit flip of the files of a journal, a small one with segments of places and files
// of bodies: what a start makes of it is compared with the remote message by message, and with the account.
//
// What is expected is worked out from the undamaged files: a message arrives where a whole copy of its place is left, in a block
// or in a segment; every other one that the start can know of is lost. Each costs a start, some 4 ms: it is cut everywhere, and of
// each byte one bit is flipped, so that no field is left out; SOAK=true takes all bits.

import { basename } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { StoredMessage } from '../../codec/index.ts'
import { decodeBlockHeader, decodeBlockPlaces } from '../../replay/block.ts'
import { parseBlockFileName } from '../../replay/block-file.ts'
import { Cursor, type Slot } from '../../replay/cursor.ts'
import { decodeRecord } from '../../replay/place.ts'
import { parseSegmentName, SEGMENT_HEADER_BYTES } from '../../replay/segment.ts'
import type { FakeDisk } from '../support/fake-environment.ts'
import { type Random, seededRandom } from '../support/random.ts'
import { isSoak } from '../support/rounds.ts'
import { FakeCluster } from './fake-cluster.ts'
import { propertiesWith } from './sample.ts'
import { Scene, slotFolder, TOPIC, texts } from './scene.ts'

/** Stretches of each file that are overwritten, in the normal run. */
const SAMPLE = 400

/** Where a place stands: a message may have one in a block and in a segment. */
interface Copy {
  path: string
  start: number
  end: number
}

interface Acked {
  queueId: number
  stored: StoredMessage
  /** It was at the remote before, or is for none. */
  over: boolean
}

/** What a gateway has left that was killed. */
interface Image {
  disk: FakeDisk
  source: FakeCluster
  remote: FakeCluster
  slot: Slot
  /** By sequence. */
  acked: Acked[]
  copies: Copy[][]
  files: string[]
}

/** Some are at the remote, some only in blocks, some in blocks and a segment, some only in the segment, some behind the cursor. */
async function journal(random: Random): Promise<Image> {
  const scene = await Scene.open({ compress: true })
  const acked: Acked[] = []
  const ack = (queueId: number, texts: readonly string[], more: Partial<StoredMessage> = {}, skipped = false) => {
    const sending = scene.forward(queueId)
    for (const text of texts) sending.store(text, more)
    sending.ack(skipped ? { reason: 'delayed', labels: 'all' } : undefined)
    for (const stored of sending.stored) acked.push({ queueId, stored, over: skipped || acked.length < 3 })
  }
  ack(0, ['there 0'])
  ack(0, ['there 1'])
  ack(1, ['there 2'])
  await scene.allDone()
  scene.refuseSends(2)
  const late = scene.forward(0).store('late')
  await scene.environment.pass(12_000)
  ack(0, ['noise 0', 'noise 1'], { body: random.bytes(12) })
  for (let index = 2; index < 4; index++)
    ack(1, [`noise ${index}`], { body: random.bytes(20), sysFlag: 1, flag: -index })
  late.ack()
  acked.push({ queueId: 0, stored: late.stored[0]!, over: false })
  ack(1, ['without a key'], { properties: Buffer.alloc(0) })
  ack(1, ['delayed 0'], {}, true)
  await scene.spillAll()
  await scene.environment.pass(2_000)
  await scene.crash()
  for (let index = 0; index < 2; index++)
    for (const queueId of [0, 1])
      ack(queueId, [`order ${queueId} ${index} ${'of paris '.repeat(5)}`], {
        properties: propertiesWith(`O${index}`, [['TAGS', 'a']]),
      })
  ack(0, ['in a batch 0', 'in a batch 1'])
  await scene.spillAll()
  ack(0, ['later 0'])
  ack(1, ['delayed 1'], {}, true)
  ack(1, ['later 1', 'later 2'])
  ack(0, ['later 3'])
  await scene.environment.pass(2_000)
  ack(0, ['last 0'])
  ack(1, ['delayed 2'], {}, true)
  for (const [index, text] of texts(0, 3).entries()) ack(index % 2, [text])
  await scene.environment.settled()
  const disk = scene.environment.fileSystem.afterCrash(false)
  const slot = await new Cursor(disk, slotFolder()).read()
  if (typeof slot === 'string') throw new Error(`the cursor is ${slot}`)
  const files = disk.find(/^(places|bodies)-/).filter(path => disk.bytes(path).length > 0)
  return { disk, source: scene.source, remote: scene.remote, slot, acked, copies: copiesIn(disk, files), files }
}

/** By sequence. */
function copiesIn(disk: FakeDisk, files: readonly string[]): Copy[][] {
  const copies: Copy[][] = []
  const add = (sequence: number, copy: Copy) => {
    copies[sequence] ??= []
    copies[sequence].push(copy)
  }
  for (const path of files) {
    const bytes = disk.bytes(path)
    const segment = parseSegmentName(basename(path))
    const { salt } = segment ?? parseBlockFileName(basename(path))!
    for (let at = SEGMENT_HEADER_BYTES; at < bytes.length; )
      if (segment !== undefined) {
        const { record, end } = decodeRecord(bytes, at, salt)!
        if (record.kind === 'place') add(record.place.sequence, { path, start: at, end })
        at = end
      } else {
        const block = bytes.subarray(at)
        const header = decodeBlockHeader(block, salt)!
        const end = at + header.headerBytes + header.placesBytes
        for (const { sequence } of decodeBlockPlaces(block, header, salt)!.places)
          add(sequence, { path, start: at, end })
        at += header.bytes
      }
  }
  return copies
}

function remoteAsItWas({ remote }: Image): FakeCluster {
  const copy = new FakeCluster(remote.name)
  copy.makeTopic(TOPIC, 2)
  for (const queueId of [0, 1])
    copy.broker.queue(TOPIC, queueId).messages.push(...remote.broker.queue(TOPIC, queueId).messages)
  return copy
}

/** Opens what is left, lets it send all that it has, and compares. `isWhole`: whether bytes of a file are as they were. */
async function check(
  t: ExecutionContext,
  image: Image,
  path: string,
  bytes: Buffer,
  isWhole: (copy: Copy) => boolean,
  what: string,
): Promise<void> {
  const disk = image.disk.afterCrash(false)
  disk.put(path, bytes)
  const remote = remoteAsItWas(image)
  const before = [0, 1].map(queueId => remote.broker.queue(TOPIC, queueId).messages.length)
  const scene = await Scene.open({ disk, source: image.source, clusters: new Map([['default', remote]]) })
  await scene.allDone()

  const isLeft = image.copies.map(copies => copies.some(copy => copy.path !== path || isWhole(copy)))
  const known = Math.max(image.slot.sequence, isLeft.lastIndexOf(true) + 1)
  let lost = 0
  const expected = new Set<StoredMessage>()
  for (const [sequence, { over, stored }] of image.acked.entries())
    if (isLeft[sequence]) over || expected.add(stored)
    else if (sequence < known && (sequence >= image.slot.sequence || !over)) lost++
  const arrived = [0, 1].flatMap(queueId =>
    remote.broker
      .queue(TOPIC, queueId)
      .messages.slice(before[queueId])
      .map(message => sourceOf(image, message, queueId)),
  )
  const { account } = scene
  const problems: string[] = []
  if (arrived.includes(undefined)) problems.push('something else than was acked is at the remote')
  if (new Set(arrived).size !== arrived.length) problems.push('a message is there twice')
  const missing = [...expected].filter(stored => !arrived.includes(stored))
  const tooMany = arrived.filter(stored => stored !== undefined && !expected.has(stored))
  if (missing.length > 0) problems.push(`missing: ${missing.map(shown).join()}`)
  if (tooMany.length > 0) problems.push(`not expected: ${tooMany.map(stored => shown(stored!)).join()}`)
  if ((account.totals.lost.journal ?? 0) !== lost || Object.keys(account.totals.lost).length > 1)
    problems.push(`lost is ${JSON.stringify(account.totals.lost)}, and ${lost} are`)
  if (account.acked !== known) problems.push(`acked is ${account.acked}, and ${known} were`)
  if (account.queued !== 0 || account.inGap !== 0) problems.push(`queued ${account.queued}, in gap ${account.inGap}`)
  for (const queueId of [0, 1]) {
    const offsets = arrived.flatMap(stored =>
      stored?.queueId === queueId && stored.body.toString() !== 'late' ? [stored.queueOffset] : [],
    )
    if (offsets.some((offset, at) => at > 0 && offset < offsets[at - 1]!)) problems.push(`order: ${offsets.join()}`)
  }
  if (problems.length > 0) t.fail(`${what} of ${basename(path)}: ${problems.join('; ')}`)
}

function shown({ queueId, queueOffset }: StoredMessage): string {
  return `${queueId}:${queueOffset}`
}

/** The acked message that this one is a faithful copy of, by its stamp. */
function sourceOf({ acked }: Image, message: StoredMessage, queueId: number): StoredMessage | undefined {
  const text = message.properties.toString('latin1')
  return acked
    .map(({ stored }) => stored)
    .find(
      stored =>
        stored.queueId === queueId &&
        text.includes(`;${queueId};${stored.queueOffset};`) &&
        stored.body.equals(message.body) &&
        stored.flag === message.flag &&
        stored.sysFlag === message.sysFlag &&
        stored.bornTimestamp === message.bornTimestamp &&
        message.properties.subarray(0, stored.properties.length).equals(stored.properties),
    )
}

/** So many numbers below `count`, at equal steps from a random one on; all in the soak run. */
function sampled(random: Random, count: number): number[] {
  if (isSoak || count <= SAMPLE) return Array.from({ length: count }, (_, index) => index)
  const step = count / SAMPLE
  const first = random.next() * step
  return Array.from({ length: SAMPLE }, (_, index) => Math.floor(first + index * step))
}

test('undamaged, all of it arrives', async t => {
  const image = await journal(seededRandom(t))
  t.is(image.acked.length, image.copies.length)
  const kinds = image.copies.map(copies => copies.map(({ path }) => basename(path).slice(0, 6)).join())
  t.true(
    ['bodies', 'bodies,places', 'places'].every(kind => kinds.includes(kind)),
    kinds.join(' '),
  )
  t.true(image.slot.sequence < image.acked.length)
  const [path] = image.files as [string]
  await check(t, image, path, image.disk.bytes(path), () => true, 'nothing')
  t.pass()
})

test('cut at any byte, exactly what is whole before the cut arrives', async t => {
  const image = await journal(seededRandom(t))
  for (const path of image.files) {
    const bytes = image.disk.bytes(path)
    for (let length = 0; length < bytes.length; length++)
      await check(t, image, path, bytes.subarray(0, length), ({ end }) => end <= length, `cut to ${length}`)
  }
  t.pass()
})

test('with any bit flipped, no message is altered, and exactly what has no whole place is lost', async t => {
  const random = seededRandom(t)
  const image = await journal(random)
  for (const path of image.files) {
    const bytes = image.disk.bytes(path)
    for (let at = 0; at < bytes.length; at++)
      for (const bit of isSoak ? [0, 1, 2, 3, 4, 5, 6, 7] : [random.integer(0, 7)]) {
        const other = Buffer.from(bytes)
        other[at]! ^= 1 << bit
        await check(t, image, path, other, ({ start, end }) => at < start || at >= end, `bit ${bit} of byte ${at}`)
      }
  }
  t.pass()
})

test('with any eight bytes of zeros or of noise, too', async t => {
  const random = seededRandom(t)
  const image = await journal(random)
  for (const path of image.files) {
    const bytes = image.disk.bytes(path)
    for (const at of sampled(random, bytes.length - 8)) {
      const other = Buffer.concat([
        bytes.subarray(0, at),
        random.pick([Buffer.alloc(8), random.bytes(8)]),
        bytes.subarray(at + 8),
      ])
      const isWhole = ({ start, end }: Copy) => bytes.subarray(start, end).equals(other.subarray(start, end))
      await check(t, image, path, other, isWhole, `eight bytes at ${at}`)
    }
  }
  t.pass()
})
