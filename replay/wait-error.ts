// Why a lane waits, where nothing is broken here: the other side has to do something first.

export class WaitError extends Error {
  /** What changes from try to try; the message is the same each time, so that it is logged once. */
  readonly detail: string

  constructor(message: string, detail = '') {
    super(message)
    this.name = 'WaitError'
    this.detail = detail
  }
}
