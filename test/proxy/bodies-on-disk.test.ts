// What of the payloads of producers is written to disk.

import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { acked, type GatewayHere, keyed, withLab } from '../support/gateway-lab.ts'

const MESSAGES = 4_000
const body = Buffer.alloc(1_024, 'x')

async function bodiesFiles({ dataDir }: GatewayHere): Promise<string[]> {
  const names = await readdir(dataDir, { recursive: true })
  return names.filter(name => /(^|\/)bodies-/.test(name))
}

/** Files with a stretch of a payload in them, in whatever record. */
async function filesWithPayload({ dataDir }: GatewayHere): Promise<string[]> {
  const found: string[] = []
  for (const name of await readdir(dataDir, { recursive: true })) {
    const path = join(dataDir, name)
    if ((await stat(path)).isFile() && (await readFile(path)).includes(body.subarray(0, 64))) found.push(name)
  }
  return found
}

test(
  'while the remote is up and near, thousands of messages of 1 KiB are teed and no body is written to disk; while it is down, bodies are',
  withLab(async (t, { here, remoteBroker, connect }) => {
    const client = await connect()
    const send = async (from: number, to: number) => {
      for (let at = from; at < to; at += 50)
        await Promise.all(
          Array.from({ length: 50 }, (_, index) => acked(t, client, { ...keyed(`${at + index}`), body, queueId: 1 })),
        )
    }
    // The first connection to the remote is not what is meant.
    await acked(t, client, keyed('first'))
    await here.done(1)
    await send(0, MESSAGES)
    await here.done(1 + MESSAGES)
    t.is(here.metric('spilled_messages_total'), 0)
    t.deepEqual(await bodiesFiles(here), [])
    t.deepEqual(await filesWithPayload(here), [])
    // A place has 72 bytes.
    t.true(here.metric('journal_bytes') < MESSAGES * 100, `${here.metric('journal_bytes')} bytes`)

    await remoteBroker.stop()
    await send(MESSAGES, 2 * MESSAGES)
    await remoteBroker.start()
    await here.done(1 + 2 * MESSAGES, 60_000)
    t.true(here.metric('spilled_messages_total') > 0)
    t.not((await bodiesFiles(here)).length, 0)
    t.not((await filesWithPayload(here)).length, 0)
  }),
)
