// LZ4 for our own blocks on disk, where the size before compression is known and the bytes have been checked.
//
// Bodies of messages are never decompressed. The binding's block format (lz4-napi) is 4 bytes of the size, little-endian, and a
// raw block. By itself it takes any size that stands there: it is compared before anything is allocated.

import { compressSync, uncompressSync } from 'lz4-napi'
import { CodecError } from './codec-error.ts'

export function compressBlock(bytes: Buffer): Buffer {
  return compressSync(bytes)
}

/** Throws CodecError where that is not exactly `plainBytes`. */
export function decompressBlock(bytes: Buffer, plainBytes: number): Buffer {
  const says = bytes.length < 4 ? -1 : bytes.readUInt32LE(0)
  if (says !== plainBytes) throw new CodecError('lz4', `block says that it has ${says} bytes, not ${plainBytes}`)
  let plain: Buffer
  try {
    plain = uncompressSync(bytes)
  } catch (error) {
    throw new CodecError('lz4', `block of ${bytes.length} bytes cannot be decompressed: ${(error as Error).message}`)
  }
  if (plain.length !== plainBytes) throw new CodecError('lz4', `block has ${plain.length} bytes, not ${plainBytes}`)
  return plain
}
