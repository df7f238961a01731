// The logger that replay/ is handed: pino's own shape, without pino.

type Write = (fields: object, message: string) => void

export interface Log {
  debug: Write
  info: Write
  warn: Write
  error: Write
}
