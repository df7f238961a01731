// A port of ours and the sockets that come to it.
//
// It accepts, counts, and hands over; it does not read. `closeAccepting` ends the port and leaves the sockets.

import { createServer, type Server, type Socket } from 'node:net'

export class Listener {
  readonly #server: Server
  readonly sockets = new Set<Socket>()

  constructor(onSocket: (socket: Socket) => void) {
    // Half-open: the end of one direction is passed on, and the other goes on until its own end.
    this.#server = createServer(
      { allowHalfOpen: true, pauseOnConnect: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000 },
      socket => {
        this.sockets.add(socket)
        socket.once('close', () => this.sockets.delete(socket))
        onSocket(socket)
      },
    )
  }

  /** Rejects with the system's error, such as EADDRINUSE. Port 0 takes a free one. */
  listen(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen({ host, port, backlog: 1024 }, () => {
        this.#server.off('error', reject)
        resolve()
      })
    })
  }

  get port(): number {
    const address = this.#server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  closeAccepting(): void {
    this.#server.close()
  }

  destroySockets(): void {
    for (const socket of this.sockets) socket.destroy()
  }
}
