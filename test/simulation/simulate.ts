// Runs one history from its schedule to its end, and judges it: faults end, what waits arrives, what is open is closed, and
// the next process finds nothing left to do.

import { MARKER_TOPIC } from '../../replay/marker.ts'
import { judge } from './checks.ts'
import type { Schedule } from './step.ts'
import { World } from './world.ts'

/** Milliseconds of the world's time after which something that should come does not. */
const STUCK = 240_000

/** Milliseconds for which a remote's route, and a link on which nothing is sent, are taken to be right. */
const ROUTE_AGE = 31_000

export interface Outcome {
  problems: readonly string[]
  world: World
}

export async function simulate({ setup, steps }: Schedule): Promise<Outcome> {
  const world = new World(setup)
  await world.start()
  const start = world.now
  for (const step of steps) {
    await world.until(start + step.at)
    world.apply(step)
    if (world.problems.length > 0) return { problems: world.problems, world }
  }
  await finish(world)
  return { problems: world.problems, world }
}

/** From here on everything works. */
export async function finish(world: World): Promise<void> {
  const { clients } = world
  world.endFaults()
  if (!(await world.until(world.now + STUCK, () => world.isServing && clients.every(({ waiting }) => waiting === 0))))
    return world.problem('STUCK: the gateway does not serve, or clients wait')
  if (world.remotes.some(({ side }) => world.happened.has(`${side} is another`))) {
    // That is seen at the next send, with the next route.
    await world.pass(ROUTE_AGE)
    world.sendOnceMore()
    if (!(await world.until(world.now + STUCK, () => clients.every(({ waiting }) => waiting === 0))))
      return world.problem('STUCK: clients wait')
  }
  if (!world.setup.sourceStaysShort) world.growSource()
  const isDone = () => world.isServing && world.gateway.waiting === 0 && world.gateway.isSettled
  if (!(await world.until(world.now + STUCK, isDone))) return stuck(world)
  // What was given up may still be answered; a slot is written.
  await world.pass(16_000)
  // A remote that ended behind a partition ended its link unseen.
  if (world.happened.has('partition') && world.remotes.some(({ side }) => world.happened.has(`${side} lost its tail`)))
    await world.pass(ROUTE_AGE)
  if (!(await world.until(world.now + STUCK, isDone))) return stuck(world)
  world.noteReordered()
  judge(world)
  if (world.problems.length > 0) return
  await stop(world)
  if (world.problems.length > 0) return
  await startAgain(world)
}

function stuck(world: World): void {
  const troubles = world.gateway.brokers.flatMap(broker =>
    broker.feeds.flatMap(feed => feed.troubles).map(({ topic, queueId, reason }) => `${topic} q${queueId}: ${reason}`),
  )
  world.problem(`STUCK: messages wait though all faults have ended; ${troubles.join('; ') || 'no lane says why'}`)
}

async function stop(world: World): Promise<void> {
  const { gateway } = world
  for (const client of world.clients) client.stop()
  await world.pass(1_000)
  let isClosed = false
  void gateway.stop().then(
    () => {
      isClosed = true
    },
    error => world.problem(`closing failed: ${(error as Error).message}`),
  )
  gateway.touched = true
  if (!(await world.until(world.now + STUCK, () => isClosed))) return world.problem('STUCK: it does not close')
  await world.pass(1)
  const { replay, timers, disk } = gateway
  if (timers !== 0) world.problem(`${timers} timers are left after the close`)
  if (disk.open !== 0) world.problem(`${disk.open} files are open after the close`)
  if (world.network.openEnds(gateway) !== 0)
    world.problem(`${world.network.openEnds(gateway)} connections are open after the close`)
  if (replay.memory.used !== 0) world.problem(`${replay.memory.used} bytes of bodies are kept after the close`)
  const segments = disk.find(/^places-/).filter(path => disk.bytes(path).length > 0).length
  // After a failure the last is in several files.
  const failures = world.happened.get('disk')?.length ?? 0
  if (segments > 2 * world.setup.sourceBrokers + world.deaths + 3 * failures)
    world.problem(`${segments} segments are left after everything is done`)
}

/** The next process has nothing to do, and counts the same. */
async function startAgain(world: World): Promise<void> {
  const records = () =>
    world.remotes
      .flatMap(({ cluster }) => [...cluster.brokers.values()].flatMap(({ log }) => log.records))
      .filter(({ topic }) => topic !== MARKER_TOPIC).length
  const before = records()
  world.gatewayEnds()
  world.startGateway()
  if (!(await world.until(world.now + STUCK, () => world.isServing)))
    return world.problem('STUCK: it does not start again')
  await world.pass(5_000)
  // What went with a queue that others write to may be seen to be gone at this settling only.
  const gone = world.remotes.reduce((count, { goneWithQueues }) => count + goneWithQueues.size, 0)
  // Then what the source has lost, too, takes its proof.
  if (gone > 0) await world.until(world.now + STUCK, () => world.gateway.waiting === 0)
  const sent = records() - before
  if (sent < 0 || sent > gone) world.problem(`a new start sends ${sent} messages again`)
  if (world.gateway.waiting !== 0) world.problem(`after a new start ${world.gateway.waiting} messages wait`)
  world.gateway.kill(true)
}
