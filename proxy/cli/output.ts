// Standard output of a command that may print more than memory holds: it waits for who reads, and ends quietly when that
// has seen enough.

import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { ExitCode } from '../exit-code.ts'

/** Characters that are gathered for one write. */
const GATHERED = 64 * 1024

export class Output {
  readonly #stream: Writable
  #text = ''

  constructor(stream: Writable) {
    this.#stream = stream
    stream.on('error', error => {
      if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error
      process.exit(ExitCode.ok)
    })
  }

  async write(text: string): Promise<void> {
    this.#text += text
    if (this.#text.length >= GATHERED) await this.flush()
  }

  async flush(): Promise<void> {
    const text = this.#text
    this.#text = ''
    if (text !== '' && !this.#stream.write(text)) await once(this.#stream, 'drain')
  }
}
