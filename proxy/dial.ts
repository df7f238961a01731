// A connection to the source for a client of ours: a plain socket, up or not.

import { connect, type Socket } from 'node:net'
import type { Address } from '../replay/index.ts'

/** Milliseconds that a connection may take to come up; RocketMQ's clients wait as long. */
const CONNECT_TIMEOUT = 3_000

/** Undefined where it does not come up. Half-open, as the client's: the end of one direction is passed on alone. */
export function dial({ host, port }: Address): Promise<Socket | undefined> {
  return new Promise(resolve => {
    const socket = connect({
      host,
      port,
      noDelay: true,
      allowHalfOpen: true,
      keepAlive: true,
      keepAliveInitialDelay: 60_000,
    })
    const fail = () => {
      clearTimeout(timer)
      socket.destroy()
      resolve(undefined)
    }
    const timer = setTimeout(fail, CONNECT_TIMEOUT)
    socket.once('error', fail)
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.off('error', fail)
      resolve(socket)
    })
  })
}
