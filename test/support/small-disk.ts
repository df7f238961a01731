// A disk of a few MiB, for what happens when it is full: a tmpfs, mounted for a test and unmounted after it.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'

/** Why none can be mounted here; undefined where one can. */
export function missingMount(): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'rocketmq-tee-disk-'))
  try {
    const problem = mount(folder, 1)
    if (problem === undefined) unmount(folder)
    return problem === undefined ? undefined : `a small disk needs mount, which fails here: ${problem}`
  } finally {
    rmdirSync(folder)
  }
}

/** Its folder. To be asked for before what writes to it: what is asked for last ends first. */
export function smallDisk(t: ExecutionContext, megabytes: number): string {
  const folder = mkdtempSync(join(tmpdir(), 'rocketmq-tee-disk-'))
  const problem = mount(folder, megabytes)
  if (problem !== undefined) throw new Error(`cannot mount a disk of ${megabytes} MiB at ${folder}: ${problem}`)
  t.teardown(() => {
    unmount(folder)
    rmdirSync(folder)
  })
  return folder
}

function mount(folder: string, megabytes: number): string | undefined {
  const { status, stderr, error } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', folder], {
    encoding: 'utf8',
  })
  return status === 0 ? undefined : (error?.message ?? stderr.trim())
}

function unmount(folder: string): void {
  const { status, stderr } = spawnSync('umount', [folder], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`cannot unmount ${folder}: ${stderr.trim()}`)
}
