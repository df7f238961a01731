// Histories of rules that the code does not keep yet: each fails until its rule is kept, and is then moved to the others.

import { arrived, type NamedHistory, send, startsAgain, told, until, warm } from './named-history.ts'

export const historiesToCome: NamedHistory[] = [
  {
    name: 'bytes of a killed process that its kernel still has do not arrive after the reading',
    waitsFor: 'settling 1: a producer group for each link, and 204 until no earlier one is listed',
    rules: [],
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
    waitsFor: 'settling 2 and 3: a marker goes through the same queue',
    rules: [],
    async play(world) {
      await warm(world)
      world.broker('remote', 0).executionLag = 100
      world.act({ do: 'stall', side: 'remote', broker: 0, forMs: 4_000 })
      await told(world, send(world))
      await world.pass(500)
      world.act({ do: 'kill', downMs: 500 })
      await startsAgain(world)
    },
  },
  {
    name: 'what the remote lost with its tail is sent again',
    waitsFor: 'settling 4: known ends',
    rules: [],
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
    waitsFor: 'settling 4, and a remote that changes shape',
    rules: [],
    async play(world) {
      await warm(world)
      world.act({ do: 'topic made anew', broker: 0, topic: 0, queues: 1 })
      await arrived(world, send(world))
    },
  },
  {
    name: 'what a remote slave lacks that took over is sent again',
    waitsFor: 'settling 4: known ends',
    rules: [],
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
    name: 'a source that takes offsets back while the gateway runs begins an epoch',
    waitsFor: 'epochs: an ack at or below one that had come before its send was forwarded',
    rules: [],
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      await world.pass(1_500)
      world.act({ do: 'broker restarts', side: 'source', broker: 0, downMs: 200, losesRecords: 1 })
      await world.pass(1_000)
      world.act({ do: 'arm', side: 'remote', broker: 0, faults: [{ kind: 'broken', stores: false }] })
      await told(world, send(world))
      await told(world, send(world))
    },
  },
  {
    name: 'the first acks after a failover of the source are not sorted into the old epoch',
    waitsFor: 'epochs: a source connection belongs to the epoch confirmed after it was up',
    rules: [],
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      await world.pass(1_500)
      world.act({
        do: 'broker moves',
        side: 'source',
        broker: 0,
        lacksRecords: 1,
        oldGoesOn: false,
        learntAfterMs: 50,
      })
      await world.pass(1_000)
      await told(world, send(world))
    },
  },
  {
    name: 'a message that the source lost is lost though nothing comes after it',
    waitsFor: "lost on proof: the source's log ends at or below it for 5 s",
    rules: [],
    setup: { sourceStaysShort: true },
    async play(world) {
      await warm(world)
      const { log } = world.broker('source', 0)
      const { end } = log
      world.act({ do: 'partition', side: 'remote', forMs: 5_000 })
      await told(world, send(world))
      await world.pass(2_500)
      log.flushed = end
      world.act({ do: 'power cut', downMs: 100, with: ['source'] })
      await startsAgain(world)
      await until(world, 'its lane goes on', () => world.gateway.brokers.length > 0)
    },
  },
]
