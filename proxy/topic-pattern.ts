// Patterns of topic names. They know `*` only; of all that match, the longest wins, and of equal ones the exclusion.

interface Pattern {
  length: number
  matches: RegExp
}

export function topicFilter(topics: string, topicsExclude: string): (topic: string) => boolean {
  const included = patterns(topics)
  const excluded = patterns(topicsExclude)
  return topic => longest(included, topic) > longest(excluded, topic)
}

function patterns(list: string): Pattern[] {
  return list
    .split(',')
    .map(text => text.trim())
    .filter(text => text !== '')
    .map(text => ({
      length: text.length,
      matches: new RegExp(
        `^${text
          .split('*')
          .map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
          .join('.*')}$`,
        's',
      ),
    }))
}

function longest(list: readonly Pattern[], topic: string): number {
  let length = -1
  for (const pattern of list) if (pattern.length > length && pattern.matches.test(topic)) length = pattern.length
  return length
}
