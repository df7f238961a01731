// Bits that change on the gateway's disk between a kill and the next start, and what has to come of it.
//
// Of places it is worked out which no start can find any more, and how many of them one has to count as lost: those that a
// cursor knows to wait, and those behind it whose number is below another that is found. What is behind all that is found
// nobody can tell. Of a slot nothing may come, as long as the other one is whole.

import { basename, dirname } from 'node:path'
import type { Totals } from '../../replay/account.ts'
import { decodeBlockHeader, decodeBlockPlaces } from '../../replay/block.ts'
import { parseBlockFileName } from '../../replay/block-file.ts'
import { decodeSlot, SLOT_FILES, type Slot } from '../../replay/cursor.ts'
import type { Place } from '../../replay/place.ts'
import { parseSegmentName, readSegment, SEGMENT_HEADER_BYTES } from '../../replay/segment.ts'
import { SlotMarks } from '../../replay/slot-marks.ts'
import type { FakeDisk } from '../support/fake-disk.ts'
import type { Remote } from './remote.ts'
import type { World } from './world.ts'

export type Damaged = 'blocks' | 'places' | 'slot' | 'cursor'

/** Which bit it is: this far into all that there is of the kind. */
export function damage(world: World, of: Damaged, share: number): void {
  if (of === 'blocks' || of === 'places') damageFile(world, of, share)
  else damageCursor(world, of, share)
}

function damageFile(world: World, of: 'blocks' | 'places', share: number): void {
  const { disk } = world
  const name = of === 'blocks' ? /^bodies-/ : /^places-/
  const files = disk.find(name).filter(path => disk.bytes(path).length > SEGMENT_HEADER_BYTES)
  const path = files[Math.floor(share * files.length)]
  if (path === undefined) return
  const length = disk.bytes(path).length - SEGMENT_HEADER_BYTES
  const at = SEGMENT_HEADER_BYTES + Math.floor(((share * files.length) % 1) * length)
  const folder = dirname(path)
  const before = found(disk, folder)
  flip(world, path, at)
  world.did('damage')
  if (of === 'blocks') world.did('damaged blocks')
  for (const remote of world.remotes) {
    const lost = expect(world, remote, folder, before)
    // A second one before the start is in the same journal, and is counted with the first.
    remote.lostOfNow += lost
    // What a block has of places may be found later to be lost; only of segments the next start knows.
    if (of === 'places') remote.lostAtStart = (remote.lostAtStart ?? journalLosses(disk, remote)) + lost
  }
}

function damageCursor(world: World, of: 'slot' | 'cursor', share: number): void {
  const { disk } = world
  const folders = [...new Set(disk.find(/^cursor-/).map(dirname))]
  const folder = folders[Math.floor(share * folders.length)]
  if (folder === undefined) return
  const slots = SLOT_FILES.map(file => `${folder}/${file}`)
  // With one that is torn the other is all that there is.
  if (slots.some(path => !disk.files.has(path) || decodeSlot(disk.bytes(path), path) === undefined)) return
  const remote = world.remotes.find(({ label }) => label === basename(folder))!
  // By the older slot more is behind it, and not known to be done.
  remote.lostAtStart = undefined
  const within = (share * folders.length) % 1
  if (of === 'slot') {
    const path = slots[within < 0.5 ? 0 : 1]!
    return flip(world, path, Math.floor(((within * 2) % 1) * slotLength(disk.bytes(path))))
  }
  remote.lostBefore += slotOf(disk, folder)?.totals.lost.journal ?? 0
  // Without it nobody can tell what was damaged before this start.
  remote.untold += remote.lostOfNow
  remote.isCursorLost = true
  world.did('cursor lost')
  if (within < 0.5) for (const path of slots) flip(world, path, slotLength(disk.bytes(path)) >> 1)
  else {
    for (const path of slots) disk.files.delete(path)
    world.history.say('disk', `loses both slots in ${folder}`)
  }
}

/** Behind it are zeros. */
function slotLength(bytes: Buffer): number {
  return bytes.findLastIndex(byte => byte !== 0) + 1
}

/** Of the first remote and source broker. */
export function damageNewerSlot(world: World): void {
  const folder = dirname(world.disk.find(/^cursor-/)[0]!)
  const generation = slotOf(world.disk, folder)!.generation
  flip(world, `${folder}/${SLOT_FILES[generation % 2]}`, 100)
}

function flip(world: World, path: string, at: number): void {
  const bytes = Buffer.from(world.disk.bytes(path))
  bytes[at]! ^= 1
  world.disk.put(path, bytes)
  world.history.say('disk', `damages byte ${at} of ${bytes.length} of ${path}`)
}

/** The newest that is whole. */
function slotOf(disk: FakeDisk, folder: string): Slot | undefined {
  let newest: Slot | undefined
  for (const file of SLOT_FILES) {
    const bytes = disk.files.get(`${folder}/${file}`)?.bytes
    const slot = bytes && decodeSlot(bytes, file)
    if (slot !== undefined && slot.generation > (newest?.generation ?? 0)) newest = slot
  }
  return newest
}

interface Found {
  /** By sequence; `name`: of its topic, undefined where that, or the epoch, is not known. */
  places: Map<number, { place: Place; queueId: number; name: string | undefined }>
  end: number
}

/** What a folder has of places, be it in segments or in blocks. */
function found(disk: FakeDisk, folder: string): Found {
  const topics = new Map<number, string>()
  const epochs = new Set<number>()
  for (const path of disk.find(/^cursor-/).filter(path => path.startsWith(`${folder}/`))) {
    const slot = decodeSlot(disk.bytes(path), path)
    for (const [number, name] of slot?.topics ?? []) topics.set(number, name)
    for (const [ordinal] of slot?.epochIds ?? []) epochs.add(ordinal)
  }
  const places: Found['places'] = new Map()
  let end = 0
  const inFolder = (name: RegExp) => disk.find(name).filter(path => dirname(path) === folder)
  for (const path of inFolder(/^bodies-/)) {
    const bytes = disk.bytes(path)
    const { salt } = parseBlockFileName(basename(path))!
    for (let at = SEGMENT_HEADER_BYTES; at < bytes.length; at += 8) {
      const block = bytes.subarray(at)
      const header = decodeBlockHeader(block, salt)
      if (header === undefined) continue
      epochs.add(header.epoch)
      end = Math.max(end, header.maxSequence + 1)
      for (const place of decodeBlockPlaces(block, header, salt)?.places ?? [])
        places.set(place.sequence, { place, queueId: header.queueId, name: header.topic })
      at += header.bytes - 8
    }
  }
  const inSegments: { topicNumber: number; queueId: number; place: Place }[] = []
  for (const path of inFolder(/^places-/))
    readSegment(disk.bytes(path), parseSegmentName(basename(path))!.salt, {
      topic: (number, name) => void topics.set(number, name),
      epoch: ordinal => void epochs.add(ordinal),
      place: (topicNumber, queueId, place) => void inSegments.push({ topicNumber, queueId, place }),
    })
  for (const { topicNumber, queueId, place } of inSegments) {
    end = Math.max(end, place.sequence + 1)
    const name = epochs.has(place.epoch) ? topics.get(topicNumber) : undefined
    if (!places.has(place.sequence)) places.set(place.sequence, { place, queueId, name })
  }
  return { places, end }
}

/** Returns how many a start has to count as lost for a remote now; notes those of which nobody can tell. */
function expect(world: World, remote: Remote, folder: string, before: Found): number {
  const after = found(world.disk, folder)
  const slot = slotOf(world.disk, `${folder}/remotes/${remote.label}`)
  const marks = slot && new SlotMarks(slot)
  let lost = 0
  for (const [sequence, { place, queueId, name }] of before.places) {
    const left = after.places.get(sequence)
    if (name === undefined || left?.name !== undefined) continue
    const isSkipped = (place.skipMask & remote.bit) !== 0
    if (marks?.covers(sequence)) {
      if (!isSkipped && !marks.isDone(name, queueId, place)) lost++
    } else if (left !== undefined) {
      if (!isSkipped) lost++
    } else if (slot !== undefined && sequence < after.end) lost++
    else remote.untold++
  }
  return lost
}

function journalLosses(disk: FakeDisk, remote: Remote): number {
  return inSlots(disk, remote, ({ lost }) => lost.journal ?? 0)
}

/** Of a remote, as its cursors of all source brokers say it. */
export function inSlots(disk: FakeDisk, { label }: Remote, count: (totals: Totals) => number): number {
  const folders = new Set(disk.find(/^cursor-/).map(dirname))
  let sum = 0
  for (const folder of folders) {
    const slot = basename(folder) === label ? slotOf(disk, folder) : undefined
    if (slot !== undefined) sum += count(slot.totals)
  }
  return sum
}
