// The places of a data directory as lines of JSON, one for each; a damaged range is a line of its own.

import {
  ALL_REMOTES,
  type DataDirectory,
  type JournalPlace,
  JournalReading,
  payloadOf,
  propertiesOf,
  type RemoteReading,
  realClock,
  realFileSystem,
  SKIP_REASONS,
} from '../../replay/index.ts'
import type { JournalOptions } from './journal.ts'
import type { Output } from './output.ts'

/** Whether damage was found. Throws SegmentVersionError, SlotVersionError. */
export async function dumpJournal(
  { brokers, remotesDamaged }: DataDirectory,
  { broker, topic, waiting, bodies }: JournalOptions,
  output: Output,
): Promise<boolean> {
  let isDamaged = remotesDamaged
  for (const { name, folder, remotes } of brokers) {
    if (broker !== undefined && name !== broker) continue
    const reading = new JournalReading({ fileSystem: realFileSystem, clock: realClock }, folder, remotes)
    const isWanted = (one: JournalPlace) =>
      (topic === undefined || one.topic === topic) &&
      (!waiting || reading.remotes.some(remote => remote.isWaiting(one.topic, one.queueId, one.place)))
    await reading.read(
      async ({ places, damage }) => {
        for (const damaged of damage) {
          isDamaged = true
          await output.write(`${JSON.stringify({ broker: name, damaged })}\n`)
        }
        for (const one of places)
          if (isWanted(one)) await output.write(`${JSON.stringify(lineOf(name, one, reading.remotes, bodies))}\n`)
      },
      { bodies },
    )
    isDamaged ||= reading.remotes.some(({ slots }) => slots.some(({ state }) => state === 'damaged'))
  }
  return isDamaged
}

function lineOf(broker: string, found: JournalPlace, remotes: readonly RemoteReading[], bodies: boolean) {
  const { topic = null, queueId, epochId = null, place, where, hasBody } = found
  const { sequence, epoch, queueOffset, commitLogOffset, bornTimestamp, ackedAt } = place
  return {
    broker,
    topic,
    queueId,
    epoch,
    epochId,
    queueOffset,
    commitLogOffset,
    bornTimestamp,
    ackedAt,
    sequence,
    skipped: skippedOf(found, remotes),
    where,
    hasBody,
    done: doneOf(found, remotes),
    ...(bodies ? bodyOf(found) : {}),
  }
}

/** Null where it goes to every remote. */
function skippedOf({ place }: JournalPlace, remotes: readonly RemoteReading[]) {
  const { skipMask, skipReason } = place
  if (skipMask === 0) return null
  const reason = SKIP_REASONS[skipReason] ?? `${skipReason}`
  if (skipMask === ALL_REMOTES) return { reason, remotes: 'all' }
  return { reason, remotes: remotes.filter(remote => remote.isSkipped(place)).map(({ label }) => label) }
}

/** By remote: of those that have to do it, and whose cursor tells of it. */
function doneOf({ topic, queueId, place }: JournalPlace, remotes: readonly RemoteReading[]): Record<string, boolean> {
  const done: Record<string, boolean> = {}
  for (const remote of remotes)
    if (topic !== undefined && !remote.isSkipped(place) && remote.covers(place.sequence))
      done[remote.label] = !remote.isWaiting(topic, queueId, place)
  return done
}

function bodyOf({ body }: JournalPlace) {
  if (body === undefined) return { flag: null, sysFlag: null, properties: null, payload: null }
  return {
    flag: body.flag,
    sysFlag: body.sysFlag,
    properties: propertiesOf(body).toString('base64'),
    payload: Buffer.concat(payloadOf(body)).toString('base64'),
  }
}
