// An inspection of a data directory as text for a person. It adds nothing and leaves out little: names of what is whole.

import type { BrokerInspection, Damage, FileInspection, RemoteInspection } from '../../replay/index.ts'

export interface Inspection {
  dataDir: string
  gatewayId: string | null
  remotesDamaged: boolean
  isDamaged: boolean
  brokers: BrokerInspection[]
}

/** Damaged ranges that are named; `--json` names more. */
const DAMAGE_SHOWN = 20

const LOST: Record<string, string> = {
  expired: 'the source no longer retains them',
  source: 'the source lost them: another message stands there, or none',
  remote: 'the remote lost its tail, and no more is known of them',
  journal: 'their places were missing from the journal, or damaged',
  full: 'they had to be kept here, and there was no room',
}

const DAMAGE: Record<Damage['kind'], string> = {
  header: 'the header of the file; what is behind it is read all the same',
  records: 'places, of which the records are damaged',
  blocks: 'a stretch without a block',
  places: 'places of a block',
  bodies: 'bodies of a block; they are read back from the source',
  unreadable: 'the disk does not give it',
}

export function inspectionText({ dataDir, gatewayId, remotesDamaged, brokers, isDamaged }: Inspection): string {
  const lines = [`data directory ${dataDir}, gateway ${gatewayId ?? 'unknown'}`]
  if (remotesDamaged) lines.push('remotes.json is damaged: what is skipped for which remote is not known')
  if (brokers.length === 0) lines.push('no broker of the source has a journal here')
  for (const broker of brokers) lines.push('', ...brokerLines(broker))
  lines.push('', isDamaged ? 'damage was found' : 'no damage was found')
  return `${lines.join('\n')}\n`
}

function brokerLines(broker: BrokerInspection): string[] {
  const lines = [`broker ${broker.broker}`]
  const { segments, blockFiles, keptFiles, otherFiles, remotes, queues } = broker
  lines.push(
    ...table('segments of places', [
      ['file', 'bytes', 'records', 'places', 'sequences', 'epochs', 'topics', 'torn', 'damaged'],
      ...segments.map(segment => [
        segment.name,
        size(segment.bytes),
        `${segment.records}`,
        `${segment.places}`,
        segment.sequences === null ? (segment.header === 'empty' ? 'unused' : '') : range(...segment.sequences),
        epochs(segment.epochs),
        `${segment.topics}`,
        ...damageCells(segment),
      ]),
    ]),
    ...table('files of bodies', [
      ['file', 'bytes', 'blocks', 'compressed', 'messages', 'with body', 'epochs', 'torn', 'damaged'],
      ...blockFiles.map(file => [
        file.name,
        size(file.bytes),
        `${file.blocks}`,
        `${file.compressedBlocks}`,
        `${file.messages}`,
        `${file.withBody}`,
        epochs(file.epochs),
        ...damageCells(file),
      ]),
    ]),
  )
  if (keptFiles.length > 0)
    lines.push(
      ...table('kept, with nothing left to do', [
        ['file', 'bytes', 'since'],
        ...keptFiles.map(({ name, bytes, since }) => [name, size(bytes), new Date(since).toISOString()]),
      ]),
    )
  if (otherFiles.length > 0) lines.push(`  other files: ${otherFiles.join(', ')}`)
  for (const remote of remotes) lines.push(...remoteLines(remote))
  lines.push(
    ...table('queues', [
      ['topic', 'queue', 'epoch', 'places', 'with body', ...remotes.map(({ label }) => `${label}: waiting`)],
      ...queues.map(queue => [
        queue.topic ?? '(name lost)',
        `${queue.queueId}`,
        `${queue.epoch}`,
        `${queue.places}`,
        `${queue.withBody}`,
        ...remotes.map(({ label }) => `${queue.waiting[label] ?? 0}`),
      ]),
    ]),
    ...damageLines(broker),
  )
  if (broker.wentOn) lines.push('  the gateway went on while this was read: whether anything is missing cannot be told')
  return lines
}

function remoteLines(remote: RemoteInspection): string[] {
  const { label, cursor, slots, slot, found, missing, deadLetters, isBehindOthers } = remote
  const slotTexts = slots.map(({ file, state, generation, sequence }) =>
    state === 'whole' ? `${file} generation ${generation}, sequence ${sequence}` : `${file} ${state}`,
  )
  const lines = [`  remote ${label}`, `    cursor: ${slotTexts.join('; ')}`]
  if (cursor === 'none') lines.push('    no cursor: what the journal holds is looked for at the remote')
  if (cursor === 'damaged') lines.push('    no whole cursor: all that the journal holds is looked for at the remote')
  if (slot !== null) {
    const { replicated, deadLettered, skipped, lost, unresolved, reordered, unstamped, sent, sentAgain } = slot.totals
    lines.push(
      `    as of the cursor, to cluster ${slot.remoteCluster || '(not known yet)'}:`,
      `      acked ${slot.acked} = replicated ${replicated} + waiting ${slot.waiting} + dead-lettered ${deadLettered} + ` +
        `skipped ${counts(skipped)} + lost ${counts(lost)}`,
      `      unresolved ${unresolved}, reordered ${reordered}, unstamped ${unstamped}, sent ${sent}, again ${sentAgain}`,
      `      ${slot.queues} queues, ${slot.knownEnds} known ends, ${slot.unclearAgain} messages unclear since a tail was lost`,
    )
    for (const { broker, groups, lastAnswerAt } of slot.links) {
      const answer = lastAnswerAt === null ? 'no answer yet' : `last answer ${new Date(lastAnswerAt).toISOString()}`
      lines.push(`      link to ${broker}: ${groups} groups, ${answer}`)
    }
    for (const [cause, count] of Object.entries(lost))
      if (count > 0) lines.push(`      ${count} lost, cause ${cause}: ${LOST[cause] ?? 'unknown'}`)
  }
  lines.push(
    `    on the disk: ${found.waiting} wait, ${found.withoutBody} of them without body, ` +
      `${found.behindCursor} acked after the cursor was written`,
  )
  if (isBehindOthers)
    lines.push('    its cursor is older than that of another remote: it may not be configured any more')
  if (missing !== null && missing.places > 0)
    lines.push(`    missing: ${missing.places} messages wait by the cursor, and no place of them is left`)
  if (missing !== null && missing.records > 0)
    lines.push(`    missing: ${missing.records} records behind the cursor, with later ones behind them`)
  for (const { name, lines: count, bytes, tornBytes } of deadLetters)
    lines.push(
      `    dead letters: ${name}, ${count} messages, ${size(bytes)}${tornBytes > 0 ? ', the last line is cut' : ''}`,
    )
  return lines
}

function damageLines({ damage, damagedRanges }: BrokerInspection): string[] {
  if (damagedRanges === 0) return []
  const lines = damage.slice(0, DAMAGE_SHOWN).map(({ file, at, bytes, kind, block }) => {
    const whose =
      block === undefined
        ? ''
        : `: ${block.topic} queue ${block.queueId} epoch ${block.epoch}, ${block.messages} messages of offsets ` +
          range(block.minOffset, block.maxOffset)
    return `    ${file} at ${at}, ${bytes} bytes: ${DAMAGE[kind]}${whose}`
  })
  if (damagedRanges > lines.length) lines.push(`    and ${damagedRanges - lines.length} more`)
  return ['  damaged', ...lines]
}

function damageCells({ tornBytes, damagedRanges, damagedBytes }: FileInspection): string[] {
  return [tornBytes === 0 ? '' : size(tornBytes), damagedRanges === 0 ? '' : `${damagedRanges} (${size(damagedBytes)})`]
}

/** The first column to the left, the others to the right; none where it has no rows. */
function table(title: string, [head, ...rows]: [string[], ...string[][]]): string[] {
  if (rows.length === 0) return [`  ${title}: none`]
  const widths = head.map((name, column) => Math.max(name.length, ...rows.map(row => row[column]!.length)))
  const line = (cells: string[]) =>
    cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  ')
  return [`  ${title}`, ...[head, ...rows].map(cells => `    ${line(cells).trimEnd()}`)]
}

function counts(byName: Record<string, number>): string {
  const named = Object.entries(byName).filter(([, count]) => count > 0)
  const sum = named.reduce((all, [, count]) => all + count, 0)
  return named.length === 0 ? `${sum}` : `${sum} (${named.map(([name, count]) => `${name} ${count}`).join(', ')})`
}

function epochs(ordinals: readonly number[]): string {
  return ordinals.length === 0 ? '' : range(ordinals[0]!, ordinals.at(-1)!)
}

function range(first: number, last: number): string {
  return first === last ? `${first}` : `${first}-${last}`
}

function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  let value = bytes
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}
