// TCP connections as the kernel has them: who waits to be read, and resetting them under the processes that use them.
//
// With `ss` of iproute2: `ss -K` ends a socket with a reset to its peer, and its owner is told that it was aborted.

import { spawnSync } from 'node:child_process'
import { parseAddress } from '../../replay/index.ts'

/** Why connections cannot be reset here; undefined where they can. */
export function missingSs(): string | undefined {
  if (spawnSync('ss', ['-V'], { stdio: 'ignore' }).status !== 0)
    return 'resetting connections needs ss, which is not here'
  return process.getuid?.() === 0 ? undefined : 'resetting connections needs root'
}

/** Resets all connections to an address, at the end that dialled or at the other. Returns how many. */
export function resetConnections(to: string, end: 'near' | 'far'): number {
  return sockets(['-K'], to, end).length
}

/** Bytes that have come to an address and that its process has not read. */
export function unreadBytes(to: string): number {
  return sockets([], to, 'far').reduce((sum, line) => sum + Number(line.split(/\s+/)[0]), 0)
}

function sockets(options: string[], to: string, end: 'near' | 'far'): string[] {
  const { host, port } = parseAddress(to)
  const filter = end === 'near' ? ['dst', host, 'dport', '=', `${port}`] : ['src', host, 'sport', '=', `${port}`]
  const { status, stdout, stderr } = spawnSync('ss', [...options, '-tnH', 'state', 'established', ...filter], {
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`ss ${options.join(' ')} ${filter.join(' ')} ended with ${status}: ${stderr}`)
  return stdout.split('\n').filter(line => line.trim() !== '')
}
