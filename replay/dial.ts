// Connections of our own, as they are handed to links, so that a simulator can play them.

import { connect } from 'node:net'

export interface Address {
  host: string
  port: number
}

export interface ConnectionEvents {
  connected(): void
  data(chunk: Buffer): void
  /** Called once, whoever ended it. */
  closed(reason: string): void
}

export interface Connection {
  write(bytes: Buffer): void
  /** Ends it at once. The kernel keeps none of its bytes: what it held of them would arrive behind a new connection's. */
  reset(): void
}

export type Dial = (address: Address, events: ConnectionEvents) => Connection

/** How long a connection may take to come up, in milliseconds; RocketMQ's clients wait as long. */
const CONNECT_TIMEOUT = 3_000

export const dialTcp: Dial = ({ host, port }, events) => {
  const socket = connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 })
  let reason = 'closed by the other side'
  const timer = setTimeout(() => {
    reason = `no connection within ${CONNECT_TIMEOUT} ms`
    socket.destroy()
  }, CONNECT_TIMEOUT)
  socket.on('connect', () => {
    clearTimeout(timer)
    events.connected()
  })
  socket.on('data', chunk => events.data(chunk))
  socket.on('error', error => {
    reason = error.message
  })
  socket.on('close', () => {
    clearTimeout(timer)
    events.closed(reason)
  })
  return {
    write: bytes => void socket.write(bytes),
    reset: () => {
      reason = 'ended by us'
      socket.resetAndDestroy()
    },
  }
}

export function parseAddress(text: string): Address {
  const colon = text.lastIndexOf(':')
  return { host: text.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(text.slice(colon + 1)) }
}
