// A broker of the source from the ack to the lanes: what is on the disk when, and what a restart makes of it.

import test from 'ava'
import { Cursor, type Slot } from '../../replay/cursor.ts'
import { EPOCH_RECORD_BYTES, PLACE_BYTES, topicRecordBytes } from '../../replay/place.ts'
import { SEGMENT_HEADER_BYTES } from '../../replay/segment.ts'
import type { FakeEnvironment } from '../support/fake-environment.ts'
import { Held } from './journal-lab.ts'
import { Scene, type Sending, slotFolder, TOPIC, texts } from './scene.ts'

const segments = ({ fileSystem }: FakeEnvironment) => fileSystem.find(/^places-/)

async function slot({ fileSystem }: FakeEnvironment): Promise<Slot> {
  const slot = await new Cursor(fileSystem, slotFolder()).read()
  if (typeof slot === 'string') throw new Error(`the cursor is ${slot}`)
  return slot
}

test('an ack is relayed when its place is on the disk, and not before', async t => {
  const scene = await Scene.open()
  const send = scene.forward().store('m0')
  let atRelay = 0
  scene.onRelay = () => {
    atRelay = scene.environment.fileSystem.bytes(segments(scene.environment)[0]!).length
  }
  send.ack()
  t.deepEqual(scene.relayed, [])
  await scene.environment.settled()
  t.deepEqual(scene.relayed, ['m0'])
  // The epoch is named at the file's beginning, and where it began.
  t.is(atRelay, SEGMENT_HEADER_BYTES + 2 * EPOCH_RECORD_BYTES + topicRecordBytes(Buffer.from(TOPIC)) + PLACE_BYTES)
})

test('a message goes to the remote only after the append of its place', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  // Now the lane has all that it needs to send at once.
  await scene.allDone()
  const seen: string[] = []
  scene.environment.fileSystem.fault = operation => {
    if (operation === 'append') seen.push(operation)
    return undefined
  }
  scene.environment.network.onWrite = address => seen.push(`to ${address}`)
  scene.send(['m1'])
  await scene.allDone()
  t.deepEqual(seen, ['append', `to ${scene.remote.broker.address}`])
})

test('a disk that fails stops neither the acks nor the remote', async t => {
  const scene = await Scene.open()
  scene.environment.fileSystem.fault = operation => (operation === 'append' ? new Error('no space') : undefined)
  scene.send(['m0', 'm1'])
  await scene.allDone()
  t.deepEqual(scene.relayed, ['m0', 'm1'])
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
  t.true(scene.broker.journal.failed)
})

test('acks that come in another order than offsets arrive in the order of offsets', async t => {
  const scene = await Scene.open()
  const sends = texts(0, 6).map(text => scene.forward().store(text))
  for (const index of [3, 1, 5, 0, 2]) {
    sends[index]!.ack()
    await scene.environment.settled()
  }
  await scene.environment.pass(3_000)
  t.deepEqual(scene.arrived(), [])
  sends[4]!.ack()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 6))
})

test('a send that is not answered holds back later ones for 10 s, then is given up', async t => {
  const scene = await Scene.open()
  const silent = scene.forward().store('m0')
  scene.forward().store('m1').ack()
  await scene.environment.pass(9_999)
  t.deepEqual(scene.arrived(), [])
  t.false(silent.givenUp)
  await scene.environment.pass(2_000)
  t.true(silent.givenUp)
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m1'])
  t.is(scene.account.acked, 1)
})

test('a send of whose outcome nobody will be told is counted', async t => {
  const scene = await Scene.open()
  scene.broker.unresolved()
  t.is(scene.account.totals.unresolved, 1)
  t.is(scene.account.acked, 0)
})

test('a send that the source refused holds back nothing', async t => {
  const scene = await Scene.open()
  const refused = scene.forward()
  scene.forward(-1).store('m0').ack()
  await scene.environment.pass(3_000)
  t.deepEqual(scene.arrived(), [])
  refused.refuse()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0'])
})

test('after a restart in good order nothing is sent again, and what waited is sent', async t => {
  const scene = await Scene.open()
  scene.send(texts(0, 5))
  await scene.allDone()
  scene.refuseSends(2)
  scene.send(texts(5, 8))
  await scene.environment.pass(2_000)
  await scene.restart()
  t.is(scene.account.inGap, 3)
  t.is(scene.account.acked, 8)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 8))
  t.is(scene.account.totals.replicated, 8)
})

test('after a crash, what arrived and no cursor knew of is found, and only the rest is sent', async t => {
  const scene = await Scene.open()
  scene.send(texts(0, 3))
  await scene.until('they arrived', () => scene.arrived().length === 3)
  const { account } = scene
  t.is(account.totals.replicated, 3)
  const held = scene.holdSends()
  scene.send(texts(3, 6))
  await scene.until('the next are out', () => held.length > 0)
  held[0]!.store()
  scene.takeSends()
  await scene.crash()
  t.is(scene.account.inGap, 6)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 6))
  t.is(scene.account.acked, 6)
})

/** The first message of a lane is stored, a crash comes before its answer, and the next start goes on to the end. */
async function crashWhileOut(scene: Scene): Promise<void> {
  let stored = false
  scene.remote.broker.onSend = send => {
    send.store()
    stored = true
  }
  scene.send(['m0'])
  await scene.until('it is stored', () => stored)
  scene.takeSends()
  await scene.crash()
  await scene.allDone()
}

test('a crash while the first message of a lane is out does not double it', async t => {
  const scene = await Scene.open()
  await crashWhileOut(scene)
  t.deepEqual(scene.arrived(), ['m0'])
})

test('what lies in the remote queue from before the lane is not read through', async t => {
  const scene = await Scene.open()
  for (let offset = 0; offset < 500; offset++) scene.remote.broker.store(TOPIC, 0, { body: Buffer.from('older') })
  await crashWhileOut(scene)
  t.true(scene.remote.broker.pulls < 5, `${scene.remote.broker.pulls} pulls`)
  t.is(scene.arrived().length, 501)
})

/** m0 and m2 are done; m1 was given up, and its ack comes late. */
async function withGivenUp(): Promise<{ scene: Scene; late: Sending }> {
  const scene = await Scene.open()
  const first = scene.forward().store('m0')
  const late = scene.forward().store('m1')
  scene.forward().store('m2').ack()
  first.ack()
  await scene.until('the others arrived', () => scene.arrived().join() === 'm0,m2')
  return { scene, late }
}

test('an ack that comes late is sent late, and counted as reordered', async t => {
  const { scene, late } = await withGivenUp()
  late.ack()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm2', 'm1'])
  t.is(scene.account.totals.reordered, 1)
})

test('an ack that comes after its send was given up, in one turn with a higher one, goes before it', async t => {
  const scene = await Scene.open()
  const slow = scene.forward().store('m0')
  const higher = scene.forward().store('m1')
  await scene.environment.pass(11_000)
  t.true(slow.givenUp)
  higher.ack()
  slow.ack()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
  t.is(scene.account.totals.reordered, 0)
})

test('what is acked while the gateway stops goes before what it had held up, and is not counted as reordered', async t => {
  const scene = await Scene.open()
  const slow = scene.forward().store('m0')
  scene.forward().store('m1').ack()
  await scene.environment.settled()
  // Its place is being written when the gateway begins to stop.
  const writing = new Held()
  scene.environment.fileSystem.step = async operation => (operation === 'append' ? writing.hold() : undefined)
  slow.ack()
  await scene.environment.settled()
  const closing = scene.replay.close()
  await scene.environment.settled()
  scene.environment.fileSystem.step = async () => {}
  writing.release()
  await closing
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
  t.is(scene.account.totals.reordered, 0)
})

test('a late place that waits in its lane is not covered by the mark above it', async t => {
  const { scene, late } = await withGivenUp()
  scene.refuseSends(2)
  late.ack()
  await scene.environment.pass(3_000)
  t.deepEqual((await slot(scene.environment)).queues[0]!.marks, [{ epoch: 1, mark: 3, late: [1], done: [] }])
  scene.takeSends()
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm2', 'm1'])
  t.is(scene.account.acked, 3)
})

test('nor, over two restarts, are those above it taken for not done', async t => {
  const { scene, late } = await withGivenUp()
  scene.refuseSends(2)
  late.ack()
  await scene.environment.pass(3_000)
  for (let restart = 0; restart < 2; restart++) {
    await scene.restart()
    await scene.environment.pass(3_000)
  }
  t.is(scene.account.acked, 3)
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm2', 'm1'])
  t.is(scene.account.totals.replicated, 3)
})

test('nor is one that is not yet released', async t => {
  const { scene, late } = await withGivenUp()
  scene.forward()
  late.ack()
  await scene.environment.pass(3_000)
  t.deepEqual(scene.arrived(), ['m0', 'm2'])
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm2', 'm1'])
})

test('nor is one that was acked after the cursor was written', async t => {
  const { scene, late } = await withGivenUp()
  await scene.environment.pass(3_000)
  t.deepEqual((await slot(scene.environment)).queues[0]!.marks, [{ epoch: 1, mark: 3, late: [], done: [] }])
  scene.refuseSends(2)
  late.ack()
  await scene.environment.settled()
  t.is(scene.relayed.length, 3)
  scene.takeSends()
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m0', 'm2', 'm1'])
})

test('what was found in the middle is done after crashes and restarts, though earlier ones were not there', async t => {
  const scene = await Scene.open()
  scene.remote.disconnect(scene.environment.network)
  scene.send(texts(0, 4))
  await scene.environment.settled()
  scene.remote.broker.onSend = send => {
    send.store([1, 2])
    send.request.breakOff()
    scene.refuseSends(2)
  }
  scene.remote.connect(scene.environment.network)
  await scene.until('two of them were found', () => scene.account.totals.replicated === 2)
  for (const restart of ['crash', 'restart', 'restart', 'crash'] as const) {
    await scene.environment.pass(3_000)
    const { waiting, queues } = await slot(scene.environment)
    t.is(waiting, 2)
    t.deepEqual(queues[0]!.marks, [{ epoch: 1, mark: 0, late: [], done: [[1, 2]] }])
    await scene[restart]()
    t.is(scene.account.acked, 4)
  }
  scene.takeSends()
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['m1', 'm2', 'm0', 'm3'])
  t.is(scene.account.totals.replicated, 4)
})

test('a cursor that is taken in the turn of a late ack does not cover it', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  await scene.allDone()
  scene.refuseSends(2)
  const late = scene.forward().store('m1')
  await scene.environment.pass(5_000)
  const other = scene.forward()
  // It waits for both.
  scene.forward().store('m2').ack()
  await scene.environment.pass(6_500)
  t.true(late.givenUp)
  t.false(other.givenUp)
  late.ack()
  other.refuse()
  let written = false
  void scene.broker.checkpoint().then(() => {
    written = true
  })
  await scene.environment.settled()
  t.true(written)
  scene.takeSends()
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.arrived().sort(), ['m0', 'm1', 'm2'])
})

test('what stands at the remote from another gateway, broker, queue or epoch is not taken for ours', async t => {
  const scene = await Scene.open({ remoteQueues: 1 })
  scene.send(['n0'], 1)
  await scene.allDone()
  scene.remote.broker.onSend = send => {
    send.request.breakOff()
    scene.takeSends()
  }
  // The same offset of another queue stands in the same remote queue.
  scene.send(['m0'])
  await scene.allDone()
  t.deepEqual(scene.arrived(), ['n0', 'm0'])
})

test('a segment goes when nothing in it is left to do and the cursor says so', async t => {
  const scene = await Scene.open({ spillAfter: 1_000_000 })
  scene.refuseSends(2)
  scene.send(texts(0, 3))
  await scene.environment.pass(3_000)
  const [old] = segments(scene.environment)
  await scene.crash()
  scene.send(texts(3, 4))
  await scene.environment.pass(3_000)
  t.true(scene.environment.fileSystem.files.has(old!))
  scene.takeSends()
  await scene.allDone()
  await scene.environment.pass(3_000)
  t.false(scene.environment.fileSystem.files.has(old!))
  t.is((await slot(scene.environment)).waiting, 0)
  const before = segments(scene.environment)
  await scene.restart()
  await scene.environment.pass(3_000)
  t.false(before.some(path => scene.environment.fileSystem.files.has(path)))
  t.deepEqual(scene.arrived(), texts(0, 4))
})

test('places that the cursor counted and the journal no longer has are said to be lost', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 3))
  await scene.environment.pass(3_000)
  const [path] = segments(scene.environment)
  const bytes = scene.environment.fileSystem.bytes(path!)
  scene.environment.fileSystem.put(path!, bytes.subarray(0, -64))
  scene.takeSends()
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.account.totals.lost, { journal: 1 })
  t.is(scene.account.acked, 3)
  t.is(scene.environment.log.said('places are missing').length, 1)
})

test('places that were in memory only when it crashed are said to be lost', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.environment.fileSystem.fault = operation => (operation === 'append' ? new Error('no space') : undefined)
  scene.send(['m0', 'm1'])
  await scene.environment.pass(3_000)
  t.deepEqual(scene.relayed, ['m0', 'm1'])
  await scene.crash()
  await scene.allDone()
  t.deepEqual(scene.account.totals.lost, { journal: 2 })
  t.is(scene.account.acked, 2)
})

test('a power cut takes at most what was acked less than 100 ms before it', async t => {
  const scene = await Scene.open()
  scene.refuseSends(2)
  scene.send(texts(0, 3))
  await scene.environment.pass(100)
  scene.send(texts(3, 5))
  await scene.environment.settled()
  scene.takeSends()
  await scene.crash(true)
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 3))
})

test('with nothing to do the cursor is not written again', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  await scene.allDone()
  await scene.environment.pass(2_000)
  let writes = 0
  scene.environment.fileSystem.fault = operation => {
    if (operation === 'overwrite') writes++
    return undefined
  }
  await scene.environment.pass(60_000)
  t.is(writes, 0)
})

test('a cursor that cannot be written is said, and written when it can be', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  await scene.allDone()
  scene.environment.fileSystem.fault = operation => (operation === 'overwrite' ? new Error('no space') : undefined)
  scene.send(['m1'])
  await scene.environment.pass(3_000)
  t.true(scene.environment.log.said('a cursor could not be written').length > 0)
  t.deepEqual(scene.arrived(), ['m0', 'm1'])
  scene.environment.fileSystem.fault = () => undefined
  await scene.environment.pass(2_000)
  t.is((await slot(scene.environment)).totals.replicated, 2)
})

test('closing gives up what is waited for, leaves a cursor that knows all, and no timer', async t => {
  const scene = await Scene.open()
  scene.forward()
  scene.send(['m0'])
  await scene.environment.settled()
  t.deepEqual(scene.arrived(), [])
  await scene.close()
  t.is(scene.environment.clock.timers, 0)
  const left = await slot(scene.environment)
  t.is(left.waiting + left.totals.replicated, 1)
})

test('closing while the cursor is being written leaves no timer either', async t => {
  const scene = await Scene.open()
  scene.send(['m0'])
  await scene.allDone()
  let closing: Promise<void> | undefined
  scene.environment.fileSystem.fault = operation => {
    if (operation === 'overwrite') closing ??= scene.replay.close()
    return undefined
  }
  await scene.until('it closes', () => closing !== undefined)
  await closing
  await scene.environment.settled()
  t.is(scene.environment.clock.timers, 0)
})

test('with journalAck=fsync acks are relayed in their order, though a later file is synced first', async t => {
  const scene = await Scene.open({ journalAck: 'fsync', maxBytes: 16_000 })
  scene.refuseSends(2)
  scene.send(['m0'])
  await scene.environment.pass(2_000)
  const [first] = segments(scene.environment)
  const syncs = new Held()
  scene.environment.fileSystem.step = async (operation, path) =>
    operation === 'sync' && path === first ? syncs.hold() : undefined
  scene.send(texts(1, 40))
  await scene.environment.settled()
  scene.send(texts(40, 45))
  await scene.environment.settled()
  t.deepEqual(scene.relayed, ['m0'])
  // What a cursor says is of one moment.
  const checkpoint = scene.broker.checkpoint()
  await scene.environment.settled()
  syncs.release()
  await scene.environment.settled()
  syncs.release()
  await checkpoint
  await scene.environment.settled()
  t.deepEqual(scene.relayed, texts(0, 45))
  scene.takeSends()
  await scene.crash()
  t.deepEqual(scene.account.totals.lost, {})
  await scene.allDone()
  t.deepEqual(scene.arrived(), texts(0, 45))
  t.is(scene.account.acked, 45)
})
