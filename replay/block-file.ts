// A file of blocks as it was left: its name, its header, and the blocks in it, found by their headers.
//
//   0 8 magic "TEEBODYS"   8 4 version   12 4 salt   16 8 file id   24 36 zero   60 4 crc32    then blocks (block.ts)
//
// It only reads; who writes them is spill.ts.

import { basename } from 'node:path'
import {
  BLOCK_HEADER_BYTES_MAX,
  type BlockHeader,
  type BlockPlaces,
  decodeBlockBodies,
  decodeBlockHeader,
  decodeBlockPlaces,
} from './block.ts'
import type { FileSystem } from './file-system.ts'
import type { BlockLocation, PageSummary } from './page.ts'
import {
  type DamagedRange,
  encodeHeader,
  isWholeHeader,
  nameOf,
  parseName,
  SEGMENT_HEADER_BYTES,
  type SegmentName,
} from './segment.ts'

const MAGIC = 'TEEBODYS'
const VERSION = 1
/** Bytes that are looked through at once for the next header. */
const LOOK_BYTES = 1024 * 1024

export function blockFileName(id: number, salt: number): string {
  return nameOf('bodies', { id, salt })
}

export function parseBlockFileName(name: string): SegmentName | undefined {
  return parseName('bodies', name)
}

export function encodeBlockFileHeader(id: number, salt: number): Buffer {
  return encodeHeader(MAGIC, VERSION, id, salt)
}

/** A block of a file, without its bodies. */
export interface ScannedBlock {
  header: BlockHeader
  location: BlockLocation
  salt: number
  /** The file ends before it does. */
  isCut: boolean
}

export interface ScannedFile {
  /** As long as it was when this began. */
  bytes: number
  headerWhole: boolean
  /** What is no block, with blocks behind it. */
  damaged: DamagedRange[]
  /** Bytes at its end that are no block: a torn tail. */
  tornBytes: number
}

type Readable = Pick<FileSystem, 'size' | 'readAt'>

/**
 * Finds the blocks of a file by their headers, from a position on. What is no block is skipped, up to the next header that
 * is whole. Throws SegmentVersionError.
 */
export async function scanBlockFile(
  fileSystem: Readable,
  path: string,
  salt: number,
  visit: (block: ScannedBlock) => void | Promise<void>,
  from = SEGMENT_HEADER_BYTES,
): Promise<ScannedFile> {
  const bytes = await fileSystem.size(path)
  const headerWhole = isWholeHeader(await fileSystem.readAt(path, 0, SEGMENT_HEADER_BYTES), MAGIC, VERSION)
  const damaged: DamagedRange[] = []
  let tornBytes = 0
  for (let at = from; at < bytes; ) {
    const head = await fileSystem.readAt(path, at, BLOCK_HEADER_BYTES_MAX)
    const header = decodeBlockHeader(head, salt)
    if (header === undefined) {
      const next = await nextHeader(fileSystem, path, at + 8, bytes, salt)
      if (next < bytes) damaged.push({ at, bytes: next - at })
      else tornBytes = bytes - at
      at = next
      continue
    }
    const headBytes = header.headerBytes + header.placesBytes
    const location = { path, at, bytes: header.bytes, headBytes }
    await visit({ header, location, salt, isCut: at + header.bytes > bytes })
    at += header.bytes
  }
  return { bytes, headerWhole, damaged, tornBytes }
}

/** Places of a block, read without its bodies; undefined where they are damaged or cut off. */
export async function readBlockPlaces(
  fileSystem: Readable,
  { header, location, salt }: ScannedBlock,
): Promise<BlockPlaces | undefined> {
  const bytes = await fileSystem.readAt(location.path, location.at, header.headerBytes + header.placesBytes)
  return decodeBlockPlaces(bytes, header, salt)
}

/** Header and places of a page's block; undefined where they are damaged, or another's stands there. */
export function decodeBlockOf(
  { minSequence, maxSequence }: PageSummary,
  path: string,
  bytes: Buffer,
): { header: BlockHeader | undefined; places: BlockPlaces | undefined; salt: number } {
  const { salt } = parseBlockFileName(basename(path))!
  const header = decodeBlockHeader(bytes, salt)
  const isItsOwn = header?.minSequence === minSequence && header.maxSequence === maxSequence
  return { header, places: header && isItsOwn ? decodeBlockPlaces(bytes, header, salt) : undefined, salt }
}

/** Whether it got to the disk, with its bodies. */
export async function isWholeBlock(fileSystem: Readable, { header, location, salt }: ScannedBlock): Promise<boolean> {
  const bytes = await fileSystem.readAt(location.path, location.at, location.bytes)
  const places = decodeBlockPlaces(bytes, header, salt)
  return places !== undefined && decodeBlockBodies(bytes, header, places, salt) !== undefined
}

/** Where the next whole header stands; the file's end where there is none. */
async function nextHeader(
  fileSystem: Readable,
  path: string,
  from: number,
  size: number,
  salt: number,
): Promise<number> {
  for (let at = from; at < size; at += LOOK_BYTES) {
    const bytes = await fileSystem.readAt(path, at, LOOK_BYTES + BLOCK_HEADER_BYTES_MAX)
    for (let offset = 0; offset < Math.min(bytes.length, LOOK_BYTES); offset += 8)
      if (decodeBlockHeader(bytes.subarray(offset), salt) !== undefined) return at + offset
  }
  return size
}
