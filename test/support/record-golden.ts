// Records frames between real clients and a real cluster into test/golden. Run by hand: node dist/test/support/record-golden.js
//
// A recorder stands before the name server and the broker, keeps every whole frame, and changes one thing: in the name
// server's answers the broker's port becomes the recorder's, which has as many digits. What the frames say is told by
// RocketMQ's own decoder (test/java/Decode.java), not by this project's codec, as that is what they are to test.

import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { projectFolder } from '../../proxy/demo/maven.ts'
import { startRealCluster } from '../../proxy/demo/real-cluster.ts'
import type { ProducerOptions, RunningProducer, SendMode } from './client-process.ts'
import { runGoProducer } from './go-client.ts'
import { javaCommand, runConsumer, runProducer, type Serialize } from './java-client.ts'

interface Frame {
  connection: number
  direction: 'request' | 'response'
  bytes: Buffer
}

/** As Decode.java prints it. */
interface Decoded {
  file?: string
  direction: string
  code: number
  opaque: number
  ext: Record<string, string>
}

interface Recording {
  folder: string
  clusterVersion: string
  produce: (options: ProducerOptions) => Promise<RunningProducer>
  consume?: { version: string; serialize: Serialize }
}

const modes: SendMode[] = ['sync', 'batch', 'oneway']
const frameBytesMax = 8192
const framesOfAKind = 3
const onProgress = (line: string) => process.stderr.write(`${line}\n`)

const recordings: Recording[] = [
  ...(['4.9.7', '5.3.3'] as const).flatMap(version =>
    (['JSON', 'ROCKETMQ'] as const).map(serialize => ({
      folder: `java-${version}-${serialize}`,
      clusterVersion: version,
      produce: (options: ProducerOptions) => runProducer({ ...options, version, serialize, onProgress }),
      consume: { version, serialize },
    })),
  ),
  {
    folder: 'go-2.1.2-JSON',
    clusterVersion: '5.5.0',
    produce: runGoProducer,
  },
]

/** Passes bytes on between clients and one server, and keeps the frames of both directions. */
class Recorder {
  readonly frames: Frame[]
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  constructor(frames: Frame[], upstream: string, change: (frame: Buffer) => Buffer) {
    this.frames = frames
    const [host, port] = upstream.split(':') as [string, string]
    this.#server = createServer(client => {
      const server = connect(Number(port), host)
      // Counts up, as sockets stay in the set.
      const connection = this.#sockets.size
      for (const [from, to, direction] of [
        [client, server, 'request'],
        [server, client, 'response'],
      ] as const) {
        this.#sockets.add(from)
        from.setNoDelay()
        let rest = Buffer.alloc(0)
        from.on('data', data => {
          rest = Buffer.concat([rest, data])
          while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE()) {
            const end = 4 + rest.readUInt32BE()
            const bytes = direction === 'response' ? change(rest.subarray(0, end)) : rest.subarray(0, end)
            frames.push({ connection, direction, bytes })
            to.write(bytes)
            rest = rest.subarray(end)
          }
        })
        from.on('error', () => to.destroy())
        from.on('end', () => to.end())
        from.on('close', () => to.destroy())
      }
    })
  }

  /** `ip:port`, with a port of five digits as a cluster's are. */
  async listen(): Promise<string> {
    for (;;) {
      this.#server.listen(0, '127.0.0.1')
      await once(this.#server, 'listening')
      const { port } = this.#server.address() as AddressInfo
      if (port >= 10_000) return `127.0.0.1:${port}`
      this.#server.close()
      await once(this.#server, 'close')
    }
  }

  async close(): Promise<void> {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await once(this.#server, 'close')
  }
}

async function record({ folder, clusterVersion, produce, consume }: Recording): Promise<void> {
  const cluster = await startRealCluster({ version: clusterVersion, name: 'golden', onProgress })
  try {
    const brokerAddress = cluster.brokers[0]!.address
    const atBroker = new Recorder([], brokerAddress, frame => frame)
    const recorderAddress = await atBroker.listen()
    const atNames = new Recorder([], cluster.nameServer, frame =>
      // Byte for byte, as the lengths in the frame stay.
      Buffer.from(frame.toString('latin1').replaceAll(brokerAddress, recorderAddress), 'latin1'),
    )
    const nameServer = await atNames.listen()
    for (const mode of modes) {
      const topic = `Golden-${mode}`
      const { acked, failed } = await (await produce({ nameServer, topic, mode, count: 40, run: 'golden', batch: 10 }))
        .result
      if (failed.length > 0) throw new Error(`${folder}: ${failed[0]!.error}`)
      if (!consume) continue
      const { consumed } = await (await runConsumer({ ...consume, nameServer, topic, count: acked.length })).result
      if (consumed.length < acked.length) throw new Error(`${folder}: ${consumed.length} of ${acked.length} consumed`)
    }
    await Promise.all([atNames.close(), atBroker.close()])
    const chosen = [...(await choose(atNames.frames)), ...(await choose(atBroker.frames))]
    write(join(projectFolder(), 'test', 'golden', folder), chosen)
  } finally {
    await cluster.stop()
  }
}

interface Chosen {
  bytes: Buffer
  /** The request's code, also of a response. */
  requestCode: number
  decoded: Decoded
}

/** The first few frames of each direction and request code, that is not those that say the same. */
async function choose(frames: Frame[]): Promise<Chosen[]> {
  const decoded = await decode(frames)
  const requestCodes = new Map<string, number>()
  const kept = new Map<string, Set<string>>()
  const chosen: Chosen[] = []
  for (const [i, { connection, direction, bytes }] of frames.entries()) {
    const said = decoded[i]!
    // A broker asks its clients too: who asked is told by the frame, not by where it went.
    const asker = (said.direction === 'request') === (direction === 'request') ? 'client' : 'broker'
    const exchange = `${connection} ${asker} ${said.opaque}`
    if (said.direction === 'request') requestCodes.set(exchange, said.code)
    const requestCode = requestCodes.get(exchange)
    if (requestCode === undefined || bytes.length > frameBytesMax) continue
    const kind = `${said.direction} ${asker} ${requestCode} ${said.code}`
    const same = `${Object.keys(said.ext).sort()} ${said.ext.topic ?? said.ext.b ?? ''} ${Math.floor(bytes.length / 1024)}`
    const ofKind = kept.get(kind) ?? new Set()
    kept.set(kind, ofKind)
    if (ofKind.size === framesOfAKind || ofKind.has(same)) continue
    ofKind.add(same)
    chosen.push({ bytes, requestCode, decoded: said })
  }
  return chosen
}

async function decode(frames: Frame[]): Promise<Decoded[]> {
  const folder = mkdtempSync(join(tmpdir(), 'rocketmq-tee-golden-'))
  try {
    const files = frames.map(({ bytes }, i) => {
      const file = join(folder, `${i}.bin`)
      writeFileSync(file, bytes)
      return file
    })
    const { command, args } = await javaCommand('Decode', { onProgress })
    const { stdout } = await promisify(execFile)(
      command,
      [...args.map(arg => arg.replaceAll('{folder}', folder)), ...files],
      { maxBuffer: 1 << 28 },
    )
    const lines: string[] = stdout.trim().split('\n')
    if (lines.length !== frames.length) throw new Error(`${lines.length} of ${frames.length} frames decoded`)
    return lines.map(line => JSON.parse(line))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function write(folder: string, chosen: Chosen[]): void {
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const expected: Record<string, unknown> = {}
  for (const [i, { bytes, requestCode, decoded }] of chosen.entries()) {
    const { file: _, ...said } = decoded
    const file = `${String(i + 1).padStart(2, '0')}-${decoded.direction}-${requestCode}.bin`
    writeFileSync(join(folder, file), bytes)
    expected[file] = said
  }
  writeFileSync(join(folder, 'expected.json'), `${JSON.stringify(expected, null, 2)}\n`)
  const total = chosen.reduce((sum, { bytes }) => sum + bytes.length, 0)
  onProgress(`${folder}: ${chosen.length} frames, ${total} bytes`)
}

for (const recording of recordings) await record(recording)
