// Exit codes, after sysexits.h, and the error that carries one to the command line.

export const ExitCode = {
  ok: 0,
  failed: 1,
  usage: 64,
  portInUse: 69,
  dataDirectory: 73,
  storage: 74,
  locked: 75,
  config: 78,
} as const

/** What ends the process: its message is the one line that the operator reads. */
export class FatalError extends Error {
  readonly exitCode: number

  constructor(exitCode: number, message: string) {
    super(message)
    this.name = 'FatalError'
    this.exitCode = exitCode
  }
}
