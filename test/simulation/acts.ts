// What is done to the world from outside: acts of a schedule, one after the other.

import { encodeProperties } from '../../codec/index.ts'
import { damage } from './damage.ts'
import type { Act, Side } from './step.ts'
import type { World } from './world.ts'

export function perform(world: World, act: Act): void {
  // As it is in a history that is made smaller.
  if ('side' in act && act.side !== 'clients' && !world.has(act.side)) return
  switch (act.do) {
    case 'send':
      return void world.send(act)
    case 'client closes':
      return world.clients[act.client % world.clients.length]!.close(act.how)
    case 'arm':
      return void world.broker(act.side, act.broker).armed.push(...act.faults)
    case 'refuse': {
      const { refuses } = world.broker(act.side, act.broker)
      if (act.code === 11) world.did(`${act.side} refuses reading`)
      refuses.set(act.code, { code: 16, remark: 'no permission' })
      return void world.clock.after(act.forMs, () => refuses.delete(act.code))
    }
    case 'stall':
      return world.broker(act.side, act.broker).stall(act.forMs)
    case 'broker restarts':
      return restartBroker(world, act)
    case 'broker moves':
      return move(world, act)
    case 'expire': {
      const { log, name } = world.broker(act.side, act.broker)
      const position = log.records.at(-act.keeps)?.commitLogOffset
      if (position === undefined) return
      log.expire(position)
      world.did(`${act.side} expired`)
      return world.history.say(name, `expires what is before ${position}`)
    }
    case 'stranger': {
      const broker = world.broker(act.side, act.broker)
      const queues = broker.log.topics.get(world.topic(act.topic))?.length ?? 0
      if (!broker.isUp || queues === 0) return
      if (act.side !== 'source') world.remote(act.side).hasStrangers = true
      const properties = encodeProperties([['UNIQ_KEY', `STRANGER${world.history.length}`]])
      return broker.storeStranger(world.topic(act.topic), act.queueId % queues, Buffer.from('stranger'), properties)
    }
    case 'topic made anew':
      world.did(`${act.side} lost its tail`)
      world.did(`${act.side} is another`)
      return makeAnew(world, act)
    case 'partition':
      world.did('partition')
      return partition(world, act.side, act.forMs)
    case 'cut':
      for (const host of hosts(world, act.side)) world.network.cut('gateway', host)
      return
    case 'name server away': {
      const cluster = world.cluster(act.side)
      cluster.isUp = false
      world.network.ended(cluster, false)
      return void world.clock.after(act.forMs, () => cluster.serve())
    }
    case 'away': {
      const cluster = world.cluster(act.side)
      cluster.isUp = false
      world.network.ended(cluster, false)
      for (const broker of cluster.brokers.values()) broker.stop()
      return
    }
    case 'kill':
      return world.gatewayDies(false, act.downMs)
    case 'power cut':
      return world.gatewayDies(
        true,
        act.downMs,
        act.with.filter(side => world.has(side)),
      )
    case 'die at disk operation':
      world.gateway.dies = () => world.gatewayDies(act.powerCut, act.downMs)
      world.gateway.diesAtOperation = act.operations
      world.gateway.diesAtOnly = act.only
      return
    case 'restart':
      return world.restartGateway()
    case 'disk fault':
    case 'disk full':
      return breakDisk(world, act)
    case 'damage':
      world.gatewayDies(false, 300)
      return damage(world, act.of ?? 'blocks', act.share)
    case 'disk stall':
      world.did('disk stall')
      world.gateway.diskStall = act.ms
  }
}

function makeAnew(world: World, { side, broker, topic, queues }: Act & { do: 'topic made anew' }): void {
  const { log } = world.broker(side, broker)
  const name = world.topic(topic)
  // What stood in a queue that is no more is read by nobody; its lane goes elsewhere. And where others write, too, before a
  // lane's next message comes behind its last, it does not see that the queue began anew.
  if (side === 'source') return void log.makeTopic(name, queues)
  const { sourceBrokers, topics } = world.setup
  const { wentTo, hasStrangers, goneWithQueues } = world.remote(side)
  const fewest = Math.min(queues, log.topics.get(name)?.length ?? 0)
  const isShared = sourceBrokers > 1 || topics[topic % topics.length]!.sourceQueues > fewest || hasStrangers
  for (const [message, queueId] of wentTo)
    if (message.topic === name && (queueId >= queues || isShared)) goneWithQueues.add(message.number)
  log.makeTopic(name, queues)
}

function restartBroker(world: World, act: Act & { do: 'broker restarts' }): void {
  const broker = world.broker(act.side, act.broker)
  if (!broker.isUp) return
  const from = broker.log.records.at(-act.losesRecords)?.commitLogOffset
  const lost = broker.stop(act.losesRecords > 0 ? from : undefined)
  if (lost > 0) world.did(`${act.side} lost its tail`)
  if (act.isAway) world.cluster(act.side).away.add(broker.options.name)
  world.history.say(broker.name, `stops${lost > 0 ? ` and loses ${lost} records` : ''}`)
  world.clock.after(act.downMs, () => world.startBroker(broker))
}

function move(
  world: World,
  { side, broker, lacksRecords, oldGoesOn, learntAfterMs }: Act & { do: 'broker moves' },
): void {
  const old = world.broker(side, broker)
  const { records, end } = old.log
  const upTo = lacksRecords === 0 ? end : (records.at(-lacksRecords)?.commitLogOffset ?? end)
  const { name } = old.options
  const lacks = world.cluster(side).move(name, upTo, oldGoesOn)
  if (lacks > 0 || oldGoesOn) world.did(`${side} lost its tail`)
  if (oldGoesOn) world.did(`${side} is another`)
  const { address } = world.cluster(side).brokers.get(name)!
  world.history.say(name, `moves to ${address}, lacking ${lacks} records${oldGoesOn ? '; the old one goes on' : ''}`)
  // It learns where the name stands then: it may have moved on.
  const learn = () => world.gateway.learn(name, world.source.brokers.get(name)!.address).catch(() => {})
  if (side === 'source') world.clock.after(learntAfterMs, () => world.gateway.deliver(learn))
}

function hosts(world: World, side: Side | 'clients'): string[] {
  if (side === 'clients') return world.clients.map(({ name }) => name)
  const cluster = world.cluster(side)
  return [cluster.name, ...cluster.all.map(({ name }) => name)]
}

function partition(world: World, side: Side | 'clients', forMs: number): void {
  const others = hosts(world, side)
  for (const host of others) world.network.partition('gateway', host)
  world.clock.after(forMs, () => {
    for (const host of others) world.network.heal('gateway', host)
    world.history.say('network', `between gateway and ${side} heals`)
  })
}

function breakDisk(world: World, act: Act & { do: 'disk fault' | 'disk full' }): void {
  world.did('disk')
  const { disk, gateway } = world
  if (act.do === 'disk full') disk.capacity = disk.used + act.roomBytes
  else gateway.diskFault = act
  world.clock.after(act.forMs, () => {
    gateway.diskFault = undefined
    disk.capacity = world.disk.capacity = Number.POSITIVE_INFINITY
    world.history.say('disk', 'works again')
  })
}
