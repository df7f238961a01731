// The admin port: metrics, liveness and readiness over HTTP, GET and HEAD only.
//
// It reads and never changes anything; what it shows is handed in. It has no login and no TLS, which is why it listens
// on the loopback address unless told otherwise.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface AdminOptions {
  host: string
  /** 0: a free port. */
  port: number
  /** The text of a scrape. */
  metrics: () => string
  readiness: () => { ready: boolean } & Record<string, unknown>
}

export interface AdminServer {
  /** `ip:port` it listens on. */
  address: string
  /** Ends the port and every connection to it. */
  close(): Promise<void>
}

interface Answer {
  status: number
  type: string
  body: string
}

const PLAIN = 'text/plain; charset=utf-8'
const EXPOSITION = 'text/plain; version=0.0.4; charset=utf-8'
const JSON_TYPE = 'application/json; charset=utf-8'

const INDEX = `rocketmq-tee
/metrics  metrics for Prometheus
/livez    200 while the process answers
/readyz   200 while it serves, else 503
`

/** Starts to listen; rejects with the error of `listen` as it is (EADDRINUSE, EACCES). */
export function startAdmin({ host, port, metrics, readiness }: AdminOptions): Promise<AdminServer> {
  const pages: Record<string, () => Answer> = {
    '/': () => ({ status: 200, type: PLAIN, body: INDEX }),
    '/livez': () => ({ status: 200, type: PLAIN, body: 'ok\n' }),
    '/metrics': () => ({ status: 200, type: EXPOSITION, body: metrics() }),
    '/readyz': () => {
      const state = readiness()
      return { status: state.ready ? 200 : 503, type: JSON_TYPE, body: `${JSON.stringify(state)}\n` }
    },
  }
  const server = createServer((request, response) => reply(pages, request, response))

  return new Promise((resolve, reject) => {
    // Stays on after listening: trouble with the admin port must not end the gateway.
    server.on('error', reject)
    server.listen({ host, port }, () => {
      let closed: Promise<void> | undefined
      const close = () => {
        closed ??= new Promise(done => {
          server.close(() => done())
          // A scraper keeps its connection open between scrapes, and would hold up the end of the process.
          server.closeAllConnections()
        })
        return closed
      }
      resolve({ address: addressText(server.address() as AddressInfo), close })
    })
  })
}

function reply(pages: Record<string, () => Answer>, request: IncomingMessage, response: ServerResponse): void {
  const { status, type, body } = answerTo(pages, request)
  if (status === 405) response.setHeader('allow', 'GET, HEAD')
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  })
  // Node itself leaves the body out of an answer to HEAD.
  response.end(body)
}

function answerTo(pages: Record<string, () => Answer>, { method, url = '/' }: IncomingMessage): Answer {
  if (method !== 'GET' && method !== 'HEAD') return { status: 405, type: PLAIN, body: 'GET and HEAD only\n' }
  const path = url.split('?', 1)[0]!
  if (!Object.hasOwn(pages, path)) return { status: 404, type: PLAIN, body: 'not found\n' }
  try {
    return pages[path]!()
  } catch (error) {
    // Thrown from here, it would end the process, and the gateway with it.
    return { status: 500, type: PLAIN, body: `${error instanceof Error ? error.message : error}\n` }
  }
}

function addressText({ address, family, port }: AddressInfo): string {
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`
}
