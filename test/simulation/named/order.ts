// Histories of rules 3 to 6 and 14: order, and sends without an answer.

import {
  answeredLate,
  arrived,
  isAtRemote,
  type NamedHistory,
  powerCut,
  send,
  told,
  until,
  warm,
} from './named-history.ts'

export const orderHistories: NamedHistory[] = [
  {
    name: 'what is acked first waits for a send that was forwarded before',
    rules: ['release waits'],
    async play(world) {
      await answeredLate(world, 500)
      await told(world, send(world, 1))
    },
  },
  {
    name: 'with a message that may go, go all acked ones below it',
    rules: ['with it all below'],
    async play(world) {
      await warm(world)
      const below = await answeredLate(world, 200)
      await told(world, send(world, 1))
      world.act({ do: 'arm', side: 'source', broker: 0, faults: [{ kind: 'slow', ms: 900 }] })
      const later = send(world, 2)
      await told(world, below)
      await told(world, later)
    },
  },
  {
    name: 'a send that is never answered does not stop its queue',
    rules: ['give up'],
    async play(world) {
      const source = world.broker('source', 0)
      source.armed.push({ kind: 'silent', stores: false })
      send(world, 0)
      await until(world, 'the first has come to the source', () => source.armed.length === 0)
      await told(world, send(world, 1))
      await world.pass(30_000)
      if (world.gateway.waiting > 0) world.problem('what came behind it waits for ever')
    },
  },
  {
    name: 'an answer that comes after its send was given up is taken all the same',
    rules: [],
    setup: { sendGiveUpTimeout: 2_000 },
    async play(world) {
      const late = await answeredLate(world, 5_000)
      const next = send(world, 1)
      await arrived(world, next)
      if (isAtRemote(world, late)) world.problem('the late one was not late')
      await told(world, late)
    },
  },
  {
    name: 'what a client sent before it closed is replicated',
    rules: ['client leaves its sends'],
    async play(world) {
      const message = await answeredLate(world, 500)
      // Nor is it found there.
      world.act({ do: 'refuse', side: 'source', broker: 0, code: 11, forMs: 60_000 })
      world.act({ do: 'client closes', client: 0, how: 'destroy' })
      await arrived(world, message)
    },
  },
  {
    name: 'what a source stored before its connection broke is found there',
    rules: ['looked for at the source'],
    async play(world) {
      await warm(world)
      world.act({ do: 'arm', side: 'source', broker: 0, faults: [{ kind: 'broken', stores: true }] })
      const message = send(world)
      await until(world, 'it is stored', () => message.atSource.length > 0)
      await arrived(world, message)
    },
  },
  {
    name: 'an ack waits for its own place, not for that of an ack before it',
    rules: ['acks of different turns'],
    setup: { journal: { ack: 'fsync' }, harshPowerCut: true, diskMost: 0 },
    async play(world) {
      await warm(world)
      world.gateway.syncTakes = 300
      const first = send(world)
      await until(world, 'it is stored', () => first.atSource.length > 0)
      await world.pass(50)
      send(world)
      await told(world, first)
      await world.pass(5)
      await powerCut(world)
    },
  },
  {
    name: 'two sends under one opaque are not taken for each other',
    rules: ['one opaque'],
    async play(world) {
      world.clients[0]!.repeatsOpaque = true
      world.act({
        do: 'arm',
        side: 'source',
        broker: 0,
        faults: [
          { kind: 'slow', ms: 100 },
          { kind: 'slow', ms: 500 },
        ],
      })
      send(world)
      await world.pass(50)
      send(world)
      await world.pass(2_000)
    },
  },
]
