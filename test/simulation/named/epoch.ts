// Histories of epochs: offsets of the source that name other messages than they did.

import type { World } from '../world.ts'
import {
  answeredLate,
  arrived,
  crash,
  type NamedHistory,
  powerCutTakes,
  send,
  sourceLoses,
  told,
  warm,
} from './named-history.ts'

export const epochHistories: NamedHistory[] = [
  {
    name: 'a source that takes offsets back while the gateway runs begins an epoch',
    rules: ['epochs'],
    async play(world) {
      await warm(world)
      await storedUnanswered(world)
      await sourceLoses(world, 1)
      await told(world, send(world))
    },
  },
  {
    name: 'the first acks after a failover of the source are not sorted into the old epoch',
    rules: ['epochs'],
    async play(world) {
      await warm(world)
      await storedUnanswered(world)
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
    name: 'a topic of the source that is made anew under its connections begins an epoch',
    rules: ['offsets taken back'],
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      world.act({ do: 'partition', side: 'remote', forMs: 6_000 })
      world.act({ do: 'topic made anew', side: 'source', broker: 0, topic: 0, queues: 1 })
      await told(world, send(world))
      await world.pass(2_500)
      await crash(world)
    },
  },
  {
    name: 'acks out of the order of their offsets are of one epoch',
    rules: ['only before it was forwarded'],
    async play(world) {
      await warm(world)
      const first = await answeredLate(world, 500)
      await told(world, send(world, 1))
      await told(world, first)
    },
  },
  {
    name: 'what the remote has of a tail that gateway and source lost does not stand for what comes in its place',
    rules: ['an epoch at every start'],
    setup: { harshPowerCut: true },
    async play(world) {
      await warm(world)
      const { end } = world.broker('source', 0).log
      await arrived(world, send(world))
      await powerCutTakes(world, end)
      await world.pass(2_500)
      world.act({ do: 'arm', side: 'remote', broker: 0, faults: [{ kind: 'broken', stores: false }] })
      await arrived(world, send(world, 1))
    },
  },
  {
    name: 'an offset is late within its epoch only',
    rules: [],
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      await arrived(world, send(world))
      await sourceLoses(world, 2)
      await arrived(world, send(world))
    },
  },
  {
    name: 'what stands in the place of a message that the source lost is not sent again as that message',
    rules: ['confirmed after it was up'],
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      await sourceLoses(world, 1)
      world.act({ do: 'stranger', side: 'source', broker: 0, topic: 0, queueId: 0 })
      await arrived(world, send(world))
      await world.pass(2_500)
      world.act({ do: 'broker restarts', side: 'remote', broker: 0, downMs: 200, losesRecords: 2 })
      await world.pass(5_000)
    },
  },
  {
    name: 'a source that stalls while a client connects keeps its order',
    rules: ['one era'],
    async play(world) {
      await warm(world)
      await stallWhileOneConnects(world)
    },
  },
  {
    name: 'a source that lost its tail and then stalled takes offsets back, and nothing counts as late',
    rules: ['reordered only behind what is there'],
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      await arrived(world, send(world))
      await sourceLoses(world, 3)
      world.act({ do: 'stall', side: 'source', broker: 0, forMs: 1_500 })
      await arrived(world, send(world))
    },
  },
  {
    name: 'what stands behind a message of a newer epoch is not of the older one',
    rules: ['behind what is newer'],
    async play(world) {
      await warm(world)
      world.act({ do: 'topic made anew', side: 'source', broker: 0, topic: 0, queues: 1 })
      const [first, second] = [send(world), send(world)]
      await told(world, first)
      await told(world, second)
    },
  },
  {
    name: 'what stands before a found message goes before it, whichever epoch the found one is of',
    rules: ['before what is found'],
    setup: { topics: [{ sourceQueues: 2, remoteQueues: 2 }] },
    async play(world) {
      await warm(world)
      await arrived(world, send(world, 0, 1))
      await sourceLoses(world, 1)
      const before = await answeredLate(world, 4_000, 1)
      world.act({ do: 'arm', side: 'source', broker: 0, faults: [{ kind: 'broken', stores: true }] })
      const found = send(world, 2)
      await told(world, before)
      await arrived(world, found)
    },
  },
  {
    name: 'what is found in the place of a message that the source lost does not count as reordered',
    rules: ['reordered only behind what is there'],
    async play(world) {
      await warm(world)
      await arrived(world, send(world))
      await sourceLoses(world, 1)
      world.act({ do: 'arm', side: 'source', broker: 0, faults: [{ kind: 'broken', stores: true }] })
      await arrived(world, send(world))
    },
  },
  {
    name: 'a source that stalled while a client connected keeps its order over a crash',
    rules: ['one era after a crash'],
    async play(world) {
      await warm(world)
      world.act({ do: 'partition', side: 'remote', forMs: 6_000 })
      await stallWhileOneConnects(world)
      await crash(world)
    },
  },
]

/** Client 0 has a connection; of what it sends the source does first what comes later, over a new one. */
async function stallWhileOneConnects(world: World): Promise<void> {
  world.act({ do: 'arm', side: 'source', broker: 0, faults: [{ kind: 'late', ms: 50 }] })
  world.act({ do: 'stall', side: 'source', broker: 0, forMs: 1_500 })
  const first = send(world, 0)
  await world.pass(10)
  const second = send(world, 1)
  await told(world, second)
  await told(world, first)
}

/** The remote has a message, and its lane does not know it. */
async function storedUnanswered(world: World): Promise<void> {
  world.act({ do: 'arm', side: 'remote', broker: 0, faults: [{ kind: 'silent', stores: true }] })
  await arrived(world, send(world))
}
