// One process for each data directory.
//
// An abstract Unix socket named after the folder's device and inode: the kernel holds it as long as the process lives
// and lets go of it however that ends. It reaches as far as the network namespace, so a `lock` file with the owner's
// process id stands beside it, for people.

import { stat, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'

export class LockedError extends Error {}

/** Takes the lock; the returned function gives it back. Throws LockedError where another process has it. */
export async function lockDirectory(folder: string): Promise<() => Promise<void>> {
  const { dev, ino } = await stat(folder)
  const server = createServer()
  await listen(server, `\0rocketmq-tee:${dev}:${ino}`, folder)
  server.unref()
  await writeFile(`${folder}/lock`, `${process.pid}\n`, { mode: 0o600 })
  return () => new Promise(resolve => server.close(() => resolve()))
}

function listen(server: Server, path: string, folder: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', error => {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') return reject(error)
      reject(new LockedError(`dataDir ${folder} is used by another process; see ${folder}/lock for its id`))
    })
    server.listen({ path }, resolve)
  })
}
