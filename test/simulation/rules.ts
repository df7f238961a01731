// The rules that the code keeps, each with how it is switched off: a change of a line of the built module that keeps it.
//
// There is no switch in the code. A history is run once with the modules as they are, and once for each of its rules with modules of
// its own in which that rule's line is another (modules.ts); then it has to fail. A line that is not found once, and only once, is an
// error: whoever changes it says here how the rule is switched off now.

export interface Rule {
  /** Its number in docs/replication.md, and what it says. */
  rule: string
  /** Of dist/. */
  module: string
  /** Texts, each on one line, and what stands in their place. */
  without: readonly (readonly [string, string])[]
  /** What the judge says then, beside whatever else comes of it. */
  breaks: RegExp
}

const missing = /^MISSING: m\d+ /
const duplicate = /^DUPLICATE: m\d+ /
const outOfOrder = /^ORDER: \d+ messages are out of order, 0 are counted so/
const stuck = /^STUCK: messages wait though all faults have ended/

export const rules = {
  'append before ack': {
    rule: '1: a place is appended to the journal before its ack is relayed',
    module: 'proxy/session.js',
    without: [['this.#context.broker.whenWritten(this.#passHeld)', 'this.#pass()']],
    breaks: missing,
  },
  'append before send': {
    rule: '2: a message goes to the remote only after that append has returned',
    module: 'replay/source-broker.js',
    without: [
      [
        'this.#batches.open.messages.push(message)',
        'this.#count(message); this.#release.acked(topic, queueId, message)',
      ],
    ],
    breaks: duplicate,
  },
  'release waits': {
    rule: '3: released when every send to its queue that was forwarded before its ack came is answered',
    module: 'replay/release.js',
    without: [['first.before <= oldest', 'true']],
    breaks: outOfOrder,
  },
  'with it all below': {
    rule: '3: with it go all acked messages below it',
    module: 'replay/release.js',
    without: [
      [
        'message.released = true',
        'if (!message.released && queueOffset !== queue.releasedEnd) continue; message.gone = true',
      ],
      [
        'queue.byOffset.splice(0, count)',
        'queue.byOffset.splice(0, Infinity, ...queue.byOffset.filter(one => !one.gone))',
      ],
      ['if (!late)', 'if (!late && (message.released || queueOffset === queue.releasedEnd))'],
    ],
    breaks: outOfOrder,
  },
  'give up': {
    rule: '4: a send without an answer holds back its queue for sendGiveUpTimeout, and no longer',
    module: 'replay/source-broker.js',
    without: [['if (kept.length > looks)', 'if (false)']],
    breaks: stuck,
  },
  'client leaves its sends': {
    rule: '5: a client that closes leaves its sends behind, not its source connection',
    module: 'proxy/session.js',
    without: [['if (this.#closed || this.#pendingBytes > 0 || this.#held.length > 0)', 'if (this.#closed)']],
    breaks: missing,
  },
  'durable target': {
    rule: '7: the remote queue of a lane, and its end, are durable before its first send',
    module: 'replay/lane.js',
    without: [['await this.#context.checkpoint()', '']],
    breaks: duplicate,
  },
  'find out': {
    rule: '8: what is unclear is found out before anything is sent again',
    module: 'replay/lane.js',
    without: [['if (error instanceof LinkError && error.unclear)', 'if (false)']],
    breaks: duplicate,
  },
  'the set': {
    rule: '8: the set of stamps says what arrived, not the highest',
    module: 'replay/lost-tail.js',
    without: [
      [
        'const stampedAt = places.get(placeKey(epochId, queueOffset))',
        "const stampedAt = [...places].find(([key]) => Number(key.split(':')[1]) >= queueOffset)?.[1]",
      ],
    ],
    breaks: missing,
  },
  'no earlier link': {
    rule: '8: no earlier link is listed at the remote broker any more',
    module: 'replay/remote-broker.js',
    without: [['await this.#earlierGone(link)', '']],
    breaks: duplicate,
  },
  'wait until executed': {
    rule: '8: what had arrived is executed or dropped by then',
    module: 'replay/remote-broker.js',
    without: [['await link.pause(ms)', '']],
    breaks: duplicate,
  },
  'answered soon': {
    rule: '8: a broker that answers a marker late is asked again',
    module: 'replay/remote-broker.js',
    without: [["if (first === 'late')", 'if (false)']],
    breaks: duplicate,
  },
  'wait until readable': {
    rule: '8: and what the broker had stored can be read',
    module: 'replay/remote-broker.js',
    without: [['if (await isReadable(link, link.address, marker, offset))', 'if (true)']],
    breaks: duplicate,
  },
  'known ends': {
    rule: '8: what is known to be there may be gone: what is not is sent again',
    module: 'replay/remote-tail.js',
    without: [['await this.#lookAfterTail(settled.address, target)', 'void 0']],
    breaks: missing,
  },
  'expired is not gone': {
    rule: '8: what has expired at the remote is not lost there',
    module: 'replay/settle.js',
    without: [
      ['if (end.remoteOffset < minOffset)', 'if (false)'],
      ['return there === undefined || isThatOf(end, there, origin)', 'return !!there && isThatOf(end, there, origin)'],
    ],
    breaks: duplicate,
  },
  'found and not passed': {
    rule: '8: as long as what was found there is not passed, the next reading begins where that one did',
    module: 'replay/remote-tail.js',
    without: [['this.#readFrom = target.end', 'this.#readFrom = Number.POSITIVE_INFINITY']],
    breaks: duplicate,
  },
  'known to be gone': {
    rule: '8: that the remote queue was cut off is durable before anything is sent again',
    module: 'replay/remote-tail.js',
    without: [['if (this.#isToBeWritten)', 'if (false)']],
    breaks: duplicate,
  },
  'queues that were left': {
    rule: '18: what stands in a queue that its lane has left is looked after',
    module: 'replay/former-queues.js',
    without: [['if (!ends.hasDone)', 'if (true)']],
    breaks: missing,
  },
  'how high it stands': {
    rule: '8: what is found below what the lane has sent since counts as reordered, over a start, too',
    module: 'replay/remote-tail.js',
    without: [['this.#highest = encoded.highest ?? -1', 'this.#highest = -1']],
    breaks: outOfOrder,
  },
  'stored below a known end': {
    rule: '8: stored where something of ours stood: its tail is gone',
    module: 'replay/lane.js',
    without: [['if (first === undefined || first < target.end)', 'if (false)']],
    breaks: missing,
  },
  'late places are named': {
    rule: '9: the cursor names late places below the mark',
    module: 'replay/reader.js',
    without: [['late: [...(this.#late.get(epoch) ?? [])]', 'late: []']],
    breaks: missing,
  },
  'slot before segment': {
    rule: '10: a segment is deleted only after the slot that makes it needless is synced',
    module: 'replay/journal.js',
    without: [
      [
        'await writeCursors(needless.length > 0)',
        'for (const { paths } of needless) await this.#environment.fileSystem.remove(paths[0]); await writeCursors(false)',
      ],
    ],
    // A segment goes when all that it has is at the remote: without the slot that says so the account is wrong, and no message is missing.
    breaks: /^1 messages count as lost, cause journal, and that did not happen/,
  },
  'both slots': {
    rule: '10: what something rests on is in both slots of the cursor',
    module: 'replay/feed.js',
    without: [['(needsBoth && this.#lastSlots[0] !== text)', 'false']],
    breaks: duplicate,
  },
  'lost cursor': {
    rule: '10: without any slot what may be at the remote is looked for',
    module: 'replay/lane.js',
    without: [['if (this.sentSince !== undefined)', 'if (false)']],
    breaks: duplicate,
  },
  'check what is read back': {
    rule: '11: an offset alone proves nothing',
    module: 'replay/check.js',
    without: [['stored.bornTimestamp !== place.bornTimestamp)', 'false) return false; return true; if (false)']],
    breaks: /^INVENTED: /,
  },
  'age of known ends': {
    rule: '17: how old a known end is counts to the last answer of a broker that is settled',
    module: 'replay/remote-broker.js',
    without: [['this.#settled !== undefined || this.#outageSince === undefined', 'true']],
    breaks: missing,
  },
  'torn is not ours': {
    rule: '17: what a remote broker tore as it ended is never ours',
    module: 'replay/settle.js',
    without: [['if (isTorn(message)) {', 'if (false) {']],
    breaks: missing,
  },
  'proof behind what is read': {
    rule: '11: of what is folded the proof is read again behind what is read back',
    module: 'replay/gap-filler.js',
    without: [['return fold && proofs.get(fold)', "return 'fits'"]],
    breaks: missing,
  },
  'lost on proof': {
    rule: '12: lost only on proof',
    module: 'replay/gap-filler.js',
    without: [['if (offset < minOffset)', 'if (true)']],
    // It stands at the source, and is not sent.
    breaks: /is said to be lost, cause expired$/,
  },
  'one opaque': {
    rule: '14: two requests under one opaque end their connection',
    module: 'proxy/session.js',
    without: [['if (this.#pending.has(head.opaque) && !head.isOneway)', 'if (false)']],
    breaks: /^ALTERED: m\d+ is stamped /,
  },
  'space set aside': {
    rule: 'a disk that is full takes the places of what is acked meanwhile: space was set aside for them',
    module: 'replay/journal.js',
    without: [['Math.min(this.#options.segmentBytes, Math.floor(free / 8))', '0']],
    breaks: missing,
  },
  'sync before reading': {
    rule: 'a segment of another process is synced before it is read',
    module: 'replay/recovery.js',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it stands so in the module
    without: [['await this.#environment.fileSystem.sync(`${this.#folder}/${name}`)', '']],
    breaks: missing,
  },
  epochs: {
    rule: 'a source that lost its tail, or answers from another address, has another epoch from then on',
    module: 'replay/epoch.js',
    without: [
      ['if (connection.address !== this.#newest.address)', 'if (false)'],
      ['if (this.#newest.address !== address)', 'if (false)'],
      ['unclear = epoch.hasAcks', 'unclear = false'],
      ['if (!isLeft && goesBack(send, queueId, place))', 'if (false)'],
      ['while (epoch.acked(send.topic, queueId)?.has(place.queueOffset))', 'while (false)'],
      ['while (place.commitLogOffset >= 0 && place.commitLogOffset === epoch.last.commitLogOffset)', 'while (false)'],
    ],
    breaks: missing,
  },
  'offsets taken back': {
    rule: 'an ack at or below one that had come before its send was forwarded begins an epoch',
    module: 'replay/epoch.js',
    without: [
      ['if (!isLeft && goesBack(send, queueId, place))', 'if (false)'],
      ['while (epoch.acked(send.topic, queueId)?.has(place.queueOffset))', 'while (false)'],
    ],
    breaks: duplicate,
  },
  'only before it was forwarded': {
    rule: 'an ack below another is no new epoch where both sends were out together',
    module: 'replay/epoch.js',
    without: [
      [
        'if (!isLeft && goesBack(send, queueId, place))',
        'if (!isLeft && place.commitLogOffset <= forwardedIn.last.commitLogOffset)',
      ],
    ],
    breaks: outOfOrder,
  },
  'an epoch at every start': {
    rule: 'each start of the gateway is an epoch of its own',
    module: 'replay/source-broker.js',
    without: [
      [
        '{ ordinal: last + 1, id: randomId(6) }',
        '{ ordinal: Math.max(1, last), id: this.journal.epochIds.get(last) ?? randomId(6) }',
      ],
    ],
    breaks: missing,
  },
  'confirmed after it was up': {
    rule: 'a source connection belongs to the epoch that was confirmed after it was up',
    module: 'replay/epoch.js',
    without: [['unclear = epoch.hasAcks', 'unclear = false']],
    breaks: /^INVENTED: /,
  },
  'reordered only behind what is there': {
    rule: '3: what comes behind messages that the source has lost does not count as reordered',
    module: 'replay/source-broker.js',
    without: [['if (!message.isOverdue && !message.backlog.isOfOlderEra(message.epoch))', 'if (false)']],
    // The rule is about what counts: no message goes another way.
    breaks: /^ORDER: 1 messages are counted as reordered/,
  },
  'behind what is newer': {
    rule: '19: what stands behind something of a newer epoch is of it',
    module: 'replay/epoch.js',
    without: [['while (epoch.successor?.hasAcks && isBehind(epoch.successor, place))', 'while (false)']],
    breaks: outOfOrder,
  },
  'before what is found': {
    rule: '20: what stands before a found message is in the order of that, whichever epoch it is of',
    module: 'replay/epoch.js',
    without: [['if (behind !== undefined)', 'if (false)']],
    breaks: outOfOrder,
  },
  'looked for at the source': {
    rule: '5: a send whose answer does not come is looked for at the source',
    module: 'replay/source-broker.js',
    without: [['this.#unresolved.add(send, from)', 'this.refused(send)']],
    breaks: missing,
  },
  'lost though nothing follows': {
    rule: '12: lost where the log ends at or below it for 5 s',
    module: 'replay/inquiry.js',
    without: [
      [
        'if (log !== undefined && commitLogOffset >= log.end)',
        "if (log !== undefined && commitLogOffset >= log.end) return 'wait'; if (false)",
      ],
    ],
    breaks: stuck,
  },
  'one era': {
    rule: '3: epochs that may be of one log have one order',
    module: 'replay/epoch.js',
    without: [['isInDoubt ? new SourceEpoch(epoch.address, epoch.era)', 'false ? undefined']],
    breaks: outOfOrder,
  },
  'one era after a crash': {
    rule: '3: epochs that may be of one log have one order, also after a crash',
    module: 'replay/recovery.js',
    without: [
      ['=> inOrder(a.place, b.place)', '=> a.place.epoch - b.place.epoch || a.place.queueOffset - b.place.queueOffset'],
    ],
    breaks: outOfOrder,
  },
  'lost on both sides': {
    rule: '12: what the remote lost, and the source has lost, too, is lost where none stands there for 5 s',
    module: 'replay/remote-tail.js',
    without: [['if (isLost)', 'if (false)']],
    breaks: stuck,
  },
  'a place goes when its block is synced': {
    rule: 'a place leaves the journal only when its block is synced',
    module: 'replay/spill.js',
    without: [["await this.#watched('sync', file.file.sync())", '']],
    breaks: missing,
  },
  'who lags gives way': {
    rule: '29: bodies that only those need who lag make room for what others wait for',
    module: 'replay/compaction.js',
    without: [['while (front !== undefined && !this.#options.hasRoom(bytes))', 'while (false)']],
    breaks: missing,
  },
  'late behind higher offsets': {
    rule: '9: a page that is restored behind higher offsets names its messages as late',
    module: 'replay/recovery.js',
    without: [
      ['const isLate = header.late || backlog.isLate(epoch, header.minOffset)', 'const isLate = false'],
      ['this.#isLate(feed, topic, queueId, place, late[at])', 'false'],
    ],
    breaks: missing,
  },
  'what was found is no gap': {
    rule: '12: what was found at the remote does not count as lost, whenever its page comes into memory',
    module: 'replay/lane.js',
    without: [['passArrived: () => this.#fewerInParts(this.tail.passArrived())', 'passArrived: () => {}']],
    breaks: /counts as lost, and is at the remote/,
  },
  'journaled bodies are kept': {
    rule: '25: a file with bodies that may not be had from the source again is kept when nothing in it is left to do',
    module: 'replay/journal.js',
    without: [['const isKept = segment.hasBodies && segment.isDoneHere', 'const isKept = false']],
    breaks: missing,
  },
  'kept until it has no room': {
    rule: '25: what is kept gives way where there is no room',
    module: 'replay/kept-bodies.js',
    without: [['if (excess() <= 0)', 'if (true)']],
    // What may give way counts as room for what waits: no message is missing as long as the disk takes more than its limit.
    breaks: /bytes are used of 100,000$/,
  },
  'acks of different turns': {
    rule: '1: an ack waits for its own place, not for that of an ack before it',
    module: 'proxy/session.js',
    without: [['if (this.#hasAcks)', 'if (this.#hasAcks && this.#held.length === 0)']],
    breaks: missing,
  },
} satisfies Record<string, Rule>

export type RuleName = keyof typeof rules

export const ruleNames = Object.keys(rules) as RuleName[]

/** A module's text with the rule switched off. Throws where it is not where it was. */
export function withoutRule(name: RuleName, module: string, text: string): string {
  const rule: Rule = rules[name]
  if (module !== rule.module) return text
  let changed = text
  for (const [line, instead] of rule.without) {
    if (changed.split(line).length !== 2)
      throw new Error(
        `rule '${name}': '${line}' stands ${changed.split(line).length - 1} times in ${module}; say in rules.ts how it is switched off now`,
      )
    changed = changed.replace(line, () => instead)
  }
  return changed
}
