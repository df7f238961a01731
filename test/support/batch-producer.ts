// A producer of numbered messages in batches, as fast as they are taken: for outages of millions.

import { randomBytes } from 'node:crypto'
import { encodeFrame, encodeMember, encodeProperties, memberBytes, RequestCode, saysStored } from '../../codec/index.ts'
import { sendFields } from '../../proxy/demo/producer.ts'
import { Cluster, parseAddress } from '../../replay/index.ts'
import { environment } from './load.ts'

const BATCH = 128
const QUEUES = 4
/** Batches of a queue that are out at a time. */
const OUT = 2
const TIMEOUT = 10_000

/** Sends so many messages to four queues of a topic; throws where one is not taken. */
export async function sendInBatches(
  nameServer: string,
  topic: string,
  count: number,
  bodyBytes: number,
  onSent: (count: number) => void = () => {},
): Promise<void> {
  const cluster = new Cluster(environment, [parseAddress(nameServer)])
  const run = randomBytes(4).toString('hex').toUpperCase()
  let next = 0
  try {
    const { addresses } = await cluster.brokers()
    const { address } = addresses[0]!
    const worker = async (queueId: number) => {
      while (next < count) {
        const first = next
        next = Math.min(count, first + BATCH)
        const body = batchBody(run, first, next - first, bodyBytes)
        const ext = sendFields('tee_batches', topic, queueId, Buffer.alloc(0))
        const fields = ext.map(([name, value]) => [name, name === 'm' ? true : value] as const)
        const { code } = (
          await cluster
            .link(address)
            .request(
              opaque => encodeFrame({ code: RequestCode.SEND_BATCH_MESSAGE, opaque, ext: fields }, body),
              TIMEOUT,
            )
        ).head
        if (!saysStored(code)) throw new Error(`a batch was answered with code ${code}`)
        onSent(next)
      }
    }
    await Promise.all(Array.from({ length: QUEUES * OUT }, (_, i) => worker(i % QUEUES)))
  } finally {
    cluster.end()
  }
}

function batchBody(run: string, first: number, count: number, bodyBytes: number): Buffer {
  const payload = randomBytes(bodyBytes)
  const properties = Array.from({ length: count }, (_, i) =>
    encodeProperties([['UNIQ_KEY', `${run}${(first + i).toString(16).toUpperCase().padStart(24, '0')}`]]),
  )
  const size = properties.reduce((sum, { length }) => sum + memberBytes(bodyBytes, length), 0)
  const out = Buffer.allocUnsafe(size)
  let at = 0
  for (const own of properties) at = encodeMember(out, at, 0, [payload], bodyBytes, own)
  return out
}
