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
}

export const rules = {
  'append before ack': {
    rule: '1: a place is appended to the journal before its ack is relayed',
    module: 'proxy/session.js',
    without: [['broker.whenWritten(this.#passHeld)', '(this.#pass(), (this.#holdingSince = 0))']],
  },
  'append before send': {
    rule: '2: a message goes to the remote only after that append has returned',
    module: 'replay/source-broker.js',
    without: [['this.#unwritten.push(message)', 'this.#release.acked(topic, queueId, message)']],
  },
  'release waits': {
    rule: '3: released when every send to its queue that was forwarded before its ack came is answered',
    module: 'replay/release.js',
    without: [['first.before <= oldest', 'true']],
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
  },
  'give up': {
    rule: '4: a send without an answer holds back its queue for sendGiveUpTimeout, and no longer',
    module: 'replay/source-broker.js',
    without: [['if (kept.length > looks)', 'if (false)']],
  },
  'client leaves its sends': {
    rule: '5: a client that closes leaves its sends behind, not its source connection',
    module: 'proxy/session.js',
    without: [['if (this.#closed || this.#pendingBytes > 0 || this.#holdingSince > 0)', 'if (this.#closed)']],
  },
  'durable target': {
    rule: '7: the remote queue of a lane, and its end, are durable before its first send',
    module: 'replay/lane.js',
    without: [['await this.#context.checkpoint()', '']],
  },
  'find out': {
    rule: '8: what is unclear is found out before anything is sent again',
    module: 'replay/lane.js',
    without: [['if (error instanceof LinkError && error.unclear)', 'if (false)']],
  },
  'the set': {
    rule: '8: the set of stamps says what arrived, not the highest',
    module: 'replay/lane.js',
    without: [
      [
        'if (!places.has(placeKey(stamper.epochId(epoch), queueOffset)))',
        "if (![...places].some(key => Number(key.split(':')[1]) >= queueOffset))",
      ],
    ],
  },
  'wait until executed': {
    rule: '8: first it is waited 1 s',
    module: 'replay/settle.js',
    without: [['await sleep(clock, EXECUTION_PAUSE)', '']],
  },
  'wait until readable': {
    rule: '8: and until what the broker had stored can be read',
    module: 'replay/settle.js',
    without: [['while (!isStopped() &&', 'while (false &&']],
  },
  'late places are named': {
    rule: '9: the cursor names late places below the mark',
    module: 'replay/lane.js',
    without: [['const late = [...(this.#late.get(epoch) ?? [])]', 'const late = []']],
  },
  'slot before segment': {
    rule: '10: a segment is deleted only after the slot that makes it needless is synced',
    module: 'replay/journal.js',
    without: [
      [
        'await writeCursor()',
        'for (const { path } of needless) await this.#environment.fileSystem.remove(path); await writeCursor()',
      ],
    ],
  },
  'check what is read back': {
    rule: '11: an offset alone proves nothing',
    module: 'replay/check.js',
    without: [['stored.bornTimestamp !== place.bornTimestamp)', 'false) return false; return true; if (false)']],
  },
  'lost on proof': {
    rule: '12: lost only on proof',
    module: 'replay/gap-filler.js',
    without: [['if (offset >= minOffset)', 'if (false)']],
  },
  'one opaque': {
    rule: '14: two requests under one opaque end their connection',
    module: 'proxy/session.js',
    without: [['if (this.#pending.has(head.opaque) && !head.isOneway)', 'if (false)']],
  },
  'sync before reading': {
    rule: 'a segment of another process is synced before it is read',
    module: 'replay/journal.js',
    without: [['await fileSystem.sync(path)', '']],
  },
  'late within its epoch': {
    rule: 'an offset is late within its epoch only',
    module: 'replay/lane.js',
    without: [['if (isLate)', 'this.releasedEnd = Math.max(this.releasedEnd, place.queueOffset + 1); if (isLate)']],
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
