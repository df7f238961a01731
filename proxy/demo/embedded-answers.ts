// Answers of an embedded broker that many requests share.

import { ResponseCode } from '../../codec/index.ts'
import type { Answer, Request } from './embedded-server.ts'

export const OK: Answer = { code: ResponseCode.SUCCESS }
/** With which every answer of a broker begins: on some paths nobody takes it away. */
export const UNSET_REMARK = 'not set any response code'

export function found(offset: number): Answer {
  return { code: ResponseCode.SUCCESS, ext: { offset } }
}

export function json(value: unknown): Answer {
  return { code: ResponseCode.SUCCESS, body: [Buffer.from(JSON.stringify(value))] }
}

export function queueOf(request: Request): [topic: string, queueId: number] {
  return [request.text('topic'), request.integer('queueId')]
}
