// One process for each data directory, on a real folder: the kernel's part cannot be played.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { LockedError, lockDirectory } from '../../replay/directory-lock.ts'

function folderFor(t: { teardown(call: () => void): void }): string {
  const folder = mkdtempSync(join(tmpdir(), 'rocketmq-tee-lock-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  return folder
}

test('a folder that is locked cannot be locked again, until it is given back', async t => {
  const folder = folderFor(t)
  const unlock = await lockDirectory(folder)
  t.is(readFileSync(join(folder, 'lock'), 'utf8'), `${process.pid}\n`)
  const error = await t.throwsAsync(lockDirectory(folder), { instanceOf: LockedError })
  t.true(error?.message.includes(folder))
  await unlock()
  const again = await lockDirectory(folder)
  await again()
})

test('two folders do not get in the way of each other, and one folder by two names does', async t => {
  const [one, two] = [folderFor(t), folderFor(t)]
  const unlock = await lockDirectory(one)
  const other = await lockDirectory(two)
  await t.throwsAsync(lockDirectory(`${two}/../${one.split('/').at(-1)}`), { instanceOf: LockedError })
  await unlock()
  await other()
})

test('a process that is killed lets go of its folder', async t => {
  const folder = folderFor(t)
  const module = new URL('../../replay/directory-lock.js', import.meta.url).href
  const script = `import { lockDirectory } from ${JSON.stringify(module)}
    await lockDirectory(${JSON.stringify(folder)})
    process.stdout.write('locked')
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const exit = once(child, 'exit')
  await Promise.race([once(child.stdout, 'data'), exit])
  await t.throwsAsync(lockDirectory(folder), { instanceOf: LockedError })
  t.is(readFileSync(join(folder, 'lock'), 'utf8'), `${child.pid}\n`)
  child.kill('SIGKILL')
  await exit
  const unlock = await lockDirectory(folder)
  await unlock()
})
