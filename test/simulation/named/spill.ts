// Histories of what has to wait, and goes to disk.

import type { Message } from '../ledger.ts'
import type { World } from '../world.ts'
import {
  arrived,
  crash,
  isAtRemote,
  type NamedHistory,
  powerCut,
  send,
  startsAgain,
  told,
  until,
  warm,
} from './named-history.ts'

/** More than memory likes. */
function sendLarge(world: World, client = 0): Message {
  return world.send({ do: 'send', client, topic: 0, queueId: 0, messages: 1, size: 2_000 })[0]!
}

export const spillHistories: NamedHistory[] = [
  {
    name: 'a place goes from the journal only when its block is synced',
    rules: ['a place goes when its block is synced'],
    setup: { bodyMemory: 3_000, harshPowerCut: true },
    async play(world) {
      await warm(world)
      world.act({ do: 'partition', side: 'remote', forMs: 20_000 })
      await told(world, send(world))
      await world.pass(1_500)
      await crash(world)
      await told(world, sendLarge(world))
      await told(world, sendLarge(world))
      await world.pass(4_000)
      await powerCut(world)
    },
  },
  {
    name: 'on a full disk what only a dead remote needs makes room for what the other waits for',
    rules: ['who lags gives way'],
    setup: { remotes: 2, bodyMemory: 20_000, journal: { maxBytes: 60_000 } },
    async play(world) {
      await warm(world)
      world.act({ do: 'partition', side: 'remote2', forMs: 60_000 })
      for (let count = 0; count < 20; count++) {
        await arrived(world, sendLarge(world))
        await world.pass(300)
      }
      world.act({ do: 'partition', side: 'remote', forMs: 6_000 })
      const waiting: Message[] = []
      for (let count = 0; count < 4; count++) {
        waiting.push(sendLarge(world))
        await told(world, waiting.at(-1)!)
        await world.pass(300)
      }
      await world.pass(1_000)
      // The source has them no more.
      world.act({ do: 'stranger', side: 'source', broker: 0, topic: 0, queueId: 0 })
      world.act({ do: 'expire', side: 'source', broker: 0, keeps: 1 })
      for (const message of waiting) await arrived(world, message)
    },
  },
  {
    name: 'what was found at the remote is not lost with what was not, on a page that is read from the disk meanwhile',
    rules: ['what was found is no gap'],
    setup: { bodyMemory: 0, journal: { maxBytes: 2_000 } },
    async play(world) {
      await warm(world)
      world.act({ do: 'partition', side: 'remote', forMs: 20_000 })
      await told(world, sendLarge(world))
      const illegal = {
        do: 'send',
        client: 0,
        topic: 0,
        queueId: 0,
        messages: 1,
        size: 2_000,
        kind: 'illegal',
      } as const
      await told(world, world.send(illegal)[0]!)
      let last: Message | undefined
      for (let count = 0; count < 40; count++) {
        last = sendLarge(world)
        await told(world, last)
        await world.pass(300)
      }
      await arrived(world, last!)
      world.act({ do: 'kill', downMs: 100 })
      // The dead letter is not in a slot yet, and the source has nothing of all that any more.
      world.act({ do: 'stranger', side: 'source', broker: 0, topic: 0, queueId: 0 })
      world.act({ do: 'expire', side: 'source', broker: 0, keeps: 1 })
      await startsAgain(world)
    },
  },
  {
    name: 'a late message is not taken for done after two crashes, though its place is in a block',
    rules: ['late behind higher offsets'],
    setup: { sendGiveUpTimeout: 2_000, bodyMemory: 3_000 },
    async play(world) {
      world.act({ do: 'arm', side: 'source', broker: 0, faults: [{ kind: 'slow', ms: 6_000 }] })
      const late = sendLarge(world, 0)
      await until(world, 'the late one is stored', () => late.atSource.length > 0)
      const next = send(world, 1)
      await until(world, 'the next is at the remote', () => isAtRemote(world, next))
      await world.pass(100)
      world.act({ do: 'partition', side: 'remote', forMs: 20_000 })
      await told(world, late)
      await world.pass(2_500)
      await crash(world)
      await world.pass(2_500)
      await crash(world)
    },
  },
]
