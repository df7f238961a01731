// The cursor's two slots: the newest whole one counts, whatever became of the other.

import { crc32 } from 'node:zlib'
import test from 'ava'
import { Account } from '../../replay/account.ts'
import { Cursor, type Slot, SlotVersionError } from '../../replay/cursor.ts'
import { FakeDisk } from '../support/fake-environment.ts'
import { seededRandom } from '../support/random.ts'

const FOLDER = '/data'
const PATHS = [`${FOLDER}/cursor-0`, `${FOLDER}/cursor-1`] as const

function slotAt(sequence: number): Omit<Slot, 'generation'> {
  return {
    sequence,
    nextSegmentId: 3,
    nextEpoch: 2,
    remoteCluster: 'rome',
    waiting: 1,
    topics: [[7, 'bücher']],
    epochIds: [[1, '0123456789ab']],
    queues: [
      {
        topic: 'bücher',
        queueId: 1,
        marks: [{ epoch: 1, mark: sequence, late: [2], done: [[sequence + 1, 2]] }],
        remote: { broker: 'rome-a', queueId: 1, end: 7 },
        ends: { ends: [[6, 'e1', 5, '', 9, [[1, 0, 5, '1', 5, 3, 4]], 0]], earlier: 0, again: [] },
      },
    ],
    links: [{ broker: 'rome-a', groups: ['TEE_gw_1'], lastAnswerAt: 5 }],
    totals: new Account().totals,
  }
}

/** The slots after so many writes, and the path of the last. */
async function written(writes: number): Promise<{ disk: FakeDisk; newest: string; older: string }> {
  const disk = new FakeDisk()
  const cursor = new Cursor(disk, FOLDER)
  await cursor.read()
  let newest = ''
  disk.fault = (operation, path) => {
    if (operation === 'overwrite') newest = path
    return undefined
  }
  for (let sequence = 1; sequence <= writes; sequence++) await cursor.write(slotAt(sequence))
  return { disk, newest, older: PATHS.find(path => path !== newest)! }
}

/** A slot, without the zeros behind it. */
function slotIn(disk: FakeDisk, path: string): Buffer {
  const bytes = disk.bytes(path)
  return bytes.subarray(0, bytes.findLastIndex(byte => byte !== 0) + 1)
}

const read = (disk: FakeDisk) => new Cursor(disk, FOLDER).read()

/** Its sequence, or what there is instead. */
async function sequenceIn(disk: FakeDisk): Promise<number | string> {
  const slot = await read(disk)
  return typeof slot === 'string' ? slot : slot.sequence
}

test('without slots there is none', async t => {
  t.is(await read(new FakeDisk()), 'none')
})

test('the newest slot is read as it was written, and is text behind a line', async t => {
  for (let writes = 1; writes <= 5; writes++) {
    const { disk, newest } = await written(writes)
    t.deepEqual(await read(disk), { ...slotAt(writes), generation: writes })
    const text = slotIn(disk, newest).toString()
    t.regex(text, /^tee-cursor 2 \d+ [0-9a-f]+\n\{.*\}$/)
  }
})

test('a slot that is torn, at any byte, falls back to the other', async t => {
  const { disk, newest } = await written(4)
  const whole = slotIn(disk, newest)
  const before = slotIn((await written(2)).disk, newest)
  for (let length = 0; length < whole.length; length++) {
    disk.put(newest, whole.subarray(0, length))
    t.is(await sequenceIn(disk), 3, `cut to ${length}`)
    const mixed = Buffer.concat([whole.subarray(0, length), before.subarray(length)])
    if (mixed.equals(whole) || mixed.equals(before)) continue
    disk.put(newest, mixed)
    t.is(await sequenceIn(disk), 3, `the old bytes from ${length} on`)
  }
})

test('a slot with another bit is not read, be it one of its version', async t => {
  const { disk, newest } = await written(2)
  const whole = slotIn(disk, newest)
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const other = Buffer.from(whole)
    other[bit >> 3]! ^= 1 << (bit & 7)
    disk.put(newest, other)
    t.is(await sequenceIn(disk), 1, `bit ${bit}`)
  }
})

test('two slots that are both torn are damaged, which is not none', async t => {
  const { disk } = await written(2)
  for (const path of PATHS) disk.put(path, slotIn(disk, path).subarray(0, -1))
  t.is(await read(disk), 'damaged')
})

test('on a disk that is full a slot may still be twice as long, over a start too; and on one that never had room it is written', async t => {
  const { disk } = await written(2)
  disk.capacity = disk.used
  const longer = (bytes: number) => ({ ...slotAt(3), remoteCluster: 'x'.repeat(bytes) })
  const cursor = new Cursor(disk, FOLDER)
  await cursor.read()
  for (let write = 0; write < 4; write++) await cursor.write(longer(10_000))
  t.is((await read(disk)) && (await sequenceIn(disk)), 3)
  await t.throwsAsync(cursor.write(longer(20_000)), { message: /ENOSPC/ })
  t.is(((await read(disk)) as Slot).remoteCluster.length, 10_000)
  const small = new FakeDisk()
  small.capacity = 3_000
  const first = new Cursor(small, FOLDER)
  await first.read()
  for (let write = 0; write < 4; write++) await first.write(slotAt(write))
  t.is(await sequenceIn(small), 3)
})

test('a first slot of which no byte came to the disk is none', async t => {
  const disk = new FakeDisk()
  disk.put(PATHS[1], Buffer.alloc(0))
  t.is(await read(disk), 'none')
})

test('a write never touches the newest whole slot, whatever was torn and restarted before', async t => {
  const random = seededRandom(t)
  for (let round = 0; round < 50; round++) {
    const disk = new FakeDisk()
    let cursor = new Cursor(disk, FOLDER)
    await cursor.read()
    let newest = 0
    for (let sequence = 1; sequence <= 20; sequence++) {
      const tears = random.chance(0.3)
      let torn = ''
      disk.fault = (operation, path) => {
        if (operation !== 'overwrite' || !tears) return undefined
        torn = path
        return new Error('no space')
      }
      const write = cursor.write(slotAt(sequence))
      if (tears) {
        await t.throwsAsync(write)
        if (random.chance(0.7)) disk.put(torn, random.bytes(20))
      } else {
        await write
        newest = sequence
      }
      t.is(await sequenceIn(disk), newest || (disk.files.size > 0 ? 'damaged' : 'none'))
      if (random.chance(0.3)) {
        cursor = new Cursor(disk, FOLDER)
        await cursor.read()
      }
    }
  }
})

test('a whole slot of another version ends the start, also where the other slot is fine', async t => {
  const { disk, older } = await written(2)
  const text = JSON.stringify({ generation: 3 })
  const slot = (crc: number) => Buffer.from(`tee-cursor 3 ${text.length} ${crc.toString(16)}\n${text}`)
  disk.put(older, slot(crc32(text, 3)))
  await t.throwsAsync(read(disk), { instanceOf: SlotVersionError, message: /version 3/ })
  disk.put(older, slot(crc32(text, 2)))
  t.is(await sequenceIn(disk), 2)
})
