// What is thrown when bytes are not what the protocol says they must be.
//
// The reason is short and from a fixed list, so that it can label a metric; the message says what was wrong, where,
// the limit and the value.

export type CodecReason =
  | 'frame-length'
  | 'frame-too-long'
  | 'header-type'
  | 'header'
  | 'send-header'
  | 'opaque'
  | 'batch'
  | 'stored-message'
  | 'route'
  | 'lz4'

export class CodecError extends Error {
  readonly reason: CodecReason

  constructor(reason: CodecReason, message: string) {
    super(message)
    this.name = 'CodecError'
    this.reason = reason
  }
}
