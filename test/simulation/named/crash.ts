// Histories of rules 1, 2, 7, 9, 10, of a full disk, and of what a power cut takes.

import { damageNewerSlot } from '../damage.ts'
import {
  answeredLate,
  arrived,
  crash,
  type NamedHistory,
  powerCut,
  send,
  startsAgain,
  told,
  until,
  warm,
} from './named-history.ts'

export const crashHistories: NamedHistory[] = [
  {
    name: 'no client is told before the place is written',
    rules: ['append before ack'],
    async play(world) {
      world.act({ do: 'die at disk operation', operations: 0, downMs: 500, powerCut: false })
      send(world)
      await until(world, 'it dies', () => !world.gateway.alive)
      await startsAgain(world)
    },
  },
  {
    name: 'nothing goes to the remote before its place is written',
    rules: ['append before send'],
    setup: { journal: { stallTimeout: 60_000 } },
    async play(world) {
      await warm(world)
      world.act({ do: 'disk stall', ms: 4_000 })
      const message = send(world)
      await told(world, message)
      await crash(world)
    },
  },
  {
    name: 'after a crash right behind the first send of a lane, its queue is searched',
    rules: ['durable target'],
    setup: { topics: [{ sourceQueues: 2, remoteQueues: 2 }] },
    async play(world) {
      await warm(world)
      world.act({ do: 'arm', side: 'remote', broker: 0, faults: [{ kind: 'silent', stores: true }] })
      const message = send(world, 0, 1)
      await arrived(world, message)
      await crash(world)
    },
  },
  {
    name: 'the newer slot is damaged right behind the first send of a lane: the older one knows its queue, too',
    rules: ['both slots'],
    setup: { topics: [{ sourceQueues: 2, remoteQueues: 2 }] },
    async play(world) {
      await warm(world)
      // The timer has written since: else both say nothing of it.
      await world.pass(2_500)
      world.act({ do: 'arm', side: 'remote', broker: 0, faults: [{ kind: 'silent', stores: true }] })
      const message = send(world, 0, 1)
      await arrived(world, message)
      world.gatewayDies(false, 300)
      damageNewerSlot(world)
      await startsAgain(world)
    },
  },
  {
    name: 'both slots of the cursor are damaged, and what had arrived is not sent again',
    rules: ['lost cursor'],
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      await world.pass(2_000)
      world.act({ do: 'damage', of: 'cursor', share: 0.1 })
      await startsAgain(world)
    },
  },
  {
    name: 'a late place below the mark is not taken for done after a crash',
    rules: ['late places are named'],
    setup: { sendGiveUpTimeout: 2_000 },
    async play(world) {
      const late = await answeredLate(world, 6_000)
      await arrived(world, send(world, 1))
      await world.pass(100)
      world.act({ do: 'partition', side: 'remote', forMs: 9_000 })
      await told(world, late)
      await world.pass(2_500)
      await crash(world)
    },
  },
  {
    name: 'a segment is there as long as a slot needs it',
    rules: ['slot before segment'],
    async play(world) {
      await warm(world)
      world.act({ do: 'stall', side: 'remote', broker: 0, forMs: 3_000 })
      const message = send(world)
      await told(world, message)
      await arrived(world, message)
      await world.pass(5)
      await crash(world)
      await until(world, 'it is found to be there', () => world.gateway.waiting === 0)
      world.act({ do: 'die at disk operation', operations: 0, downMs: 100, powerCut: false, only: 'overwrite' })
      await until(world, 'it dies', () => !world.gateway.alive)
      await startsAgain(world)
    },
  },
  {
    name: 'what is acked on a full disk is in the journal, and outlives the process',
    rules: ['space set aside'],
    async play(world) {
      await warm(world)
      world.act({ do: 'partition', side: 'remote', forMs: 20_000 })
      world.act({ do: 'disk full', roomBytes: 0, forMs: 10_000 })
      for (const message of [send(world), send(world), send(world)]) await told(world, message)
      await crash(world)
      // That the journal failed meanwhile is no excuse.
      world.unsaved.clear()
    },
  },
  {
    name: 'what a killed process had not synced is synced by the next',
    rules: ['sync before reading'],
    setup: { harshPowerCut: true },
    async play(world) {
      await warm(world)
      world.act({ do: 'restart' })
      await world.pass(3_000)
      world.act({ do: 'partition', side: 'remote', forMs: 6_000 })
      const message = send(world)
      await told(world, message)
      await crash(world)
      await world.pass(2_500)
      await powerCut(world)
    },
  },
]
