// Histories of rules 8, 11 and 12: what is found out, and what is lost.

import type { Message } from '../ledger.ts'
import type { World } from '../world.ts'
import {
  answeredLate,
  arrived,
  crash,
  isAtRemote,
  type NamedHistory,
  powerCutTakes,
  send,
  sourceLoses,
  startsAgain,
  told,
  until,
  warm,
} from './named-history.ts'

/** The first broker of the remote is away until a lane has gone to the second, and comes back without so many records. */
async function leavesItsBroker(world: World, losesRecords: number): Promise<void> {
  const down = { do: 'broker restarts', side: 'remote', broker: 0, downMs: 90_000, losesRecords } as const
  world.act({ ...down, isAway: true })
  await world.pass(1_000)
  const message = send(world)
  const { log } = world.broker('remote', 1)
  await until(world, 'the lane is elsewhere', () => log.records.some(({ body }) => body.equals(message.body)))
  await until(world, 'the first is there again', () => world.broker('remote', 0).isUp)
}

function sendOf(world: World, size: number): Message {
  return world.send({ do: 'send', client: 0, topic: 0, queueId: 0, messages: 1, size })[0]!
}

export const settleHistories: NamedHistory[] = [
  {
    name: 'what was stored before the connection broke is not sent again',
    rules: ['find out'],
    async play(world) {
      world.act({ do: 'arm', side: 'remote', broker: 0, faults: [{ kind: 'broken', stores: true }] })
      await arrived(world, send(world))
    },
  },
  {
    name: 'a late message is not taken for arrived because a higher one is',
    rules: ['the set'],
    setup: { sendGiveUpTimeout: 2_000 },
    async play(world) {
      await warm(world)
      const late = await answeredLate(world, 6_000)
      world.act({ do: 'arm', side: 'remote', broker: 0, faults: [{ kind: 'silent', stores: true }] })
      await arrived(world, send(world, 1))
      await told(world, late)
      await crash(world)
    },
  },
  {
    name: 'what a broker that its lanes have left comes back without is sent to the other',
    rules: ['queues that were left'],
    setup: { remoteBrokers: 2, reroutes: true },
    async play(world) {
      await warm(world)
      await leavesItsBroker(world, 1)
      await world.pass(5_000)
    },
  },
  {
    name: 'what it has lost is in the slot before it is sent again',
    rules: ['known to be gone'],
    setup: { remoteBrokers: 2, reroutes: true, diskMost: 0.1 },
    async play(world) {
      const first = await warm(world)
      await leavesItsBroker(world, 1)
      const { log } = world.broker('remote', 1)
      await until(world, 'it is sent again', () => log.records.some(({ body }) => body.equals(first.body)))
      await crash(world)
    },
  },
  {
    name: 'what the remote had received is executed before it is looked for',
    rules: ['wait until executed'],
    async play(world) {
      await warm(world)
      const remote = world.broker('remote', 0)
      remote.armed.push({ kind: 'late', ms: 500 })
      send(world)
      await until(world, 'the remote has received it', () => remote.armed.length === 0)
      world.act({ do: 'cut', side: 'remote' })
    },
  },
  {
    name: 'what is stored and not yet readable is waited for',
    rules: ['wait until readable'],
    async play(world) {
      world.broker('remote', 0).dispatchLag = 3_000
      await warm(world)
      world.act({ do: 'arm', side: 'remote', broker: 0, faults: [{ kind: 'broken', stores: true }] })
      await arrived(world, send(world))
    },
  },
  {
    name: "a stranger at a lost message's offset is not sent in its place",
    rules: ['check what is read back'],
    async play(world) {
      await warm(world)
      const { end } = world.broker('source', 0).log
      world.act({ do: 'partition', side: 'remote', forMs: 5_000 })
      await told(world, send(world))
      await world.pass(2_500)
      await powerCutTakes(world, end)
      world.act({ do: 'stranger', side: 'source', broker: 0, topic: 0, queueId: 0 })
    },
  },
  {
    name: 'what cannot be read yet is not lost',
    rules: ['lost on proof'],
    setup: { bodyMemory: 0 },
    async play(world) {
      await warm(world)
      world.broker('source', 0).dispatchLag = 500
      await told(world, send(world))
    },
  },
  {
    name: 'an idle lane whose last message expired at the remote sends nothing again',
    rules: ['expired is not gone'],
    async play(world) {
      await warm(world)
      world.act({ do: 'stranger', side: 'remote', broker: 0, topic: 0, queueId: 0 })
      await world.pass(100)
      world.act({ do: 'expire', side: 'remote', broker: 0, keeps: 1 })
      world.act({ do: 'arm', side: 'remote', broker: 0, faults: [{ kind: 'broken', stores: true }] })
      await arrived(world, send(world))
      await world.pass(5_000)
    },
  },
  {
    name: 'bytes of a killed process that its kernel still has do not arrive after the reading',
    rules: ['no earlier link'],
    setup: { lateBytes: true },
    async play(world) {
      await warm(world)
      world.network.retransmission = 2_500
      world.act({ do: 'partition', side: 'remote', forMs: 1_000 })
      await told(world, send(world))
      await world.pass(100)
      world.act({ do: 'kill', downMs: 1_200 })
      await startsAgain(world)
    },
  },
  {
    name: 'what a frozen remote had received is executed before it is looked for',
    rules: ['answered soon'],
    async play(world) {
      await warm(world)
      const remote = world.broker('remote', 0)
      remote.armed.push({ kind: 'late', ms: 4_900 })
      send(world)
      await until(world, 'the remote has received it', () => remote.armed.length === 0)
      world.act({ do: 'cut', side: 'remote' })
      await world.pass(500)
      world.act({ do: 'stall', side: 'remote', broker: 0, forMs: 4_000 })
      await world.pass(6_000)
    },
  },
  {
    name: 'what the remote lost with its tail is sent again',
    rules: ['known ends'],
    async play(world) {
      await warm(world)
      for (let count = 0; count < 3; count++) await arrived(world, send(world))
      await world.pass(2_500)
      world.act({ do: 'broker restarts', side: 'remote', broker: 0, downMs: 500, losesRecords: 2 })
      await world.pass(1_000)
      await arrived(world, send(world))
    },
  },
  {
    name: 'what a topic that was made anew at the remote has lost is sent again',
    rules: ['stored below a known end'],
    async play(world) {
      await warm(world)
      world.act({ do: 'topic made anew', side: 'remote', broker: 0, topic: 0, queues: 1 })
      await arrived(world, send(world))
    },
  },
  {
    name: 'what was found at the remote and is not passed yet is found again after a crash',
    rules: ['found and not passed'],
    setup: { bornTimestampTolerance: 0 },
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      world.act({ do: 'topic made anew', side: 'remote', broker: 0, topic: 0, queues: 1 })
      const found = send(world)
      world.broker('remote', 0).executionLag = 100
      const { log } = world.broker('remote', 0)
      const isAgain = () => log.queue('topic0', 0)!.records.length === 2
      await until(world, 'it stands there, and the first is sent again', isAgain)
      await world.pass(50)
      world.act({ do: 'stall', side: 'remote', broker: 0, forMs: 2_000 })
      await world.pass(1_500)
      await crash(world)
      if (!isAtRemote(world, found)) world.problem('it is not there')
    },
  },
  {
    name: 'what is sent again to just where it stood does not hide that it was gone, over a crash before the next slot',
    rules: ['known to be gone'],
    async play(world) {
      const remote = world.broker('remote', 0)
      remote.storeStranger('topic0', 0, Buffer.from('stranger'), Buffer.alloc(0))
      await warm(world)
      world.act({ do: 'topic made anew', side: 'remote', broker: 0, topic: 0, queues: 1 })
      send(world)
      const isAgain = () => remote.log.queue('topic0', 0)!.records.length === 2
      await until(world, 'it stands there, and the first is sent again', isAgain)
      await crash(world)
    },
  },
  {
    name: 'what is found above the others is counted as out of order, though the gateway was stopped before it was passed',
    rules: ['how high it stands'],
    setup: { latency: 50 },
    async play(world) {
      await warm(world)
      world.act({ do: 'topic made anew', side: 'remote', broker: 0, topic: 0, queues: 1 })
      send(world)
      const remote = world.broker('remote', 0)
      await until(world, 'it stands there', () => remote.log.queue('topic0', 0)!.records.length === 1)
      // The answer to the first one comes to a lane that stops.
      remote.executionLag = 200
      const [account] = world.gateway.accountsOf('default')
      await until(world, 'the first one is out again', () => account!.totals.sent === 3)
      world.act({ do: 'restart' })
      await startsAgain(world)
    },
  },
  {
    name: 'what a remote slave lacks that took over is sent again',
    rules: ['known ends'],
    async play(world) {
      await warm(world)
      for (let count = 0; count < 3; count++) await arrived(world, send(world))
      world.act({
        do: 'broker moves',
        side: 'remote',
        broker: 0,
        lacksRecords: 2,
        oldGoesOn: false,
        learntAfterMs: 0,
      })
      await arrived(world, send(world))
    },
  },
  {
    name: 'what the remote lost with its tail in an outage longer than that is kept is sent again',
    rules: ['age of known ends'],
    async play(world) {
      await warm(world)
      for (let count = 0; count < 10; count++) {
        await arrived(world, send(world))
        await world.pass(30_000)
      }
      world.act({ do: 'broker restarts', side: 'remote', broker: 0, downMs: 900_000, losesRecords: 6 })
      await world.pass(900_010)
      for (let count = 0; count < 6; count++)
        world.act({ do: 'stranger', side: 'remote', broker: 0, topic: 0, queueId: 0 })
      await world.pass(60_000)
    },
  },
  {
    name: 'a message without room for a stamp that the remote tore as it ended is sent again, whole',
    rules: ['torn is not ours'],
    async play(world) {
      await warm(world)
      const remote = world.broker('remote', 0)
      remote.executionLag = 3_000
      remote.leavesShare = 0.5
      world.send({ do: 'send', client: 0, topic: 0, queueId: 0, messages: 1, size: 0, kind: 'long' })
      await world.pass(1_000)
      world.act({ do: 'broker restarts', side: 'remote', broker: 0, downMs: 200, losesRecords: 0 })
      remote.executionLag = undefined
    },
  },
  {
    name: "what the source has at a lost message's offset since it was proven is not sent in its place",
    rules: ['proof behind what is read'],
    setup: { sourceStaysShort: true },
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      world.act({ do: 'topic made anew', side: 'remote', broker: 0, topic: 0, queues: 1 })
      send(world)
      const isProven = () => world.logs.some(log => log.said('found out what had arrived').length > 0)
      await until(world, 'it is proven', isProven)
      // The first was journaled, for nobody knew yet whether the source may be read.
      await sourceLoses(world, 2)
      await told(world, send(world))
    },
  },
  {
    name: 'what the source does not let be read, and the remote loses, comes from the journal',
    rules: ['journaled bodies are kept'],
    setup: { sourceIsClosed: true, journal: { bodies: 'always', maxBytes: 200_000 } },
    async play(world) {
      const sent = [await warm(world)]
      for (let count = 0; count < 30; count++) {
        sent.push(sendOf(world, 2_000))
        await arrived(world, sent.at(-1)!)
        await world.pass(300)
      }
      world.act({ do: 'broker restarts', side: 'remote', broker: 0, downMs: 200, losesRecords: 25 })
      await crash(world)
      for (const message of sent) await arrived(world, message)
    },
  },
  {
    name: 'what is kept goes before what waits is refused, and its files do not stay',
    rules: ['kept until it has no room'],
    setup: { sourceIsClosed: true, bodyMemory: 10_000, journal: { bodies: 'always', maxBytes: 100_000 } },
    async play(world) {
      await warm(world)
      for (let count = 0; count < 60; count++) {
        await arrived(world, sendOf(world, 2_000))
        await world.pass(300)
      }
      const used = world.disk
        .find(/^(places|bodies|kept)-/)
        .reduce((sum, path) => sum + world.disk.bytes(path).length, 0)
      if (used > 100_000) world.problem(`${used} bytes are used of 100,000`)
      if (world.disk.find(/^kept-/).length === 0) world.problem('nothing is kept')
    },
  },
  {
    name: 'a message that the source lost is lost though nothing comes after it',
    rules: ['lost though nothing follows'],
    setup: { sourceStaysShort: true },
    async play(world) {
      await warm(world)
      const { end } = world.broker('source', 0).log
      world.act({ do: 'partition', side: 'remote', forMs: 5_000 })
      await told(world, send(world))
      await world.pass(2_500)
      await powerCutTakes(world, end)
      await until(world, 'its lane goes on', () => world.gateway.brokers.length > 0)
    },
  },
  {
    name: 'what source and remote have both lost is lost, and does not stop its lane',
    rules: ['lost on both sides'],
    setup: { sourceStaysShort: true },
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      await arrived(world, send(world))
      await world.pass(2_500)
      world.act({ do: 'broker restarts', side: 'source', broker: 0, downMs: 200, losesRecords: 2 })
      world.act({ do: 'broker restarts', side: 'remote', broker: 0, downMs: 200, losesRecords: 2 })
      await world.pass(1_000)
    },
  },
]
