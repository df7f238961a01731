// The bodies of GET_ROUTEINFO_BY_TOPIC (105) and GET_BROKER_CLUSTER_INFO (106): where a topic's queues and the brokers'
// addresses are read, and where addresses are replaced in place.
//
//   105 {"brokerDatas":[{"brokerAddrs":{0:"ip:port"},"brokerName":"a","cluster":"c",…}],"queueDatas":[{"brokerName":"a","perm":6,
//        "readQueueNums":4,"writeQueueNums":4,"topicSysFlag":0}],"filterServerTable":{"ip:port":[…]},…}
//   106 {"brokerAddrTable":{"a":{"brokerAddrs":{0:"ip:port"},"brokerName":"a","cluster":"c"}},"clusterAddrTable":{"c":["a"]}}
//
// The text is fastjson's: member names may be unquoted integers, numbers have 64 bits. It is therefore read by a reader
// of its own that keeps positions, and edited as text, one character for each byte (latin1): everything but the
// addresses stays byte for byte.
// Source: TopicRouteData.java, ClusterInfo.java, BrokerData.java, QueueData.java.

import { CodecError } from './codec-error.ts'

export interface BrokerAddress {
  broker: string
  cluster: string
  brokerId: number
  address: string
}

export interface QueueData {
  broker: string
  readQueues: number
  writeQueues: number
  perm: number
}

export interface Route {
  addresses: BrokerAddress[]
  queues: QueueData[]
}

/** perm bits of a queue (PermName.java). */
export const PERM_WRITE = 2

/** A string or a bare word: where it stands without its quotes, and what it says. */
interface Text {
  start: number
  end: number
  value: string
}
type Value =
  | { kind: 'text'; text: Text }
  | { kind: 'other'; text: Text }
  | { kind: 'list'; items: Value[] }
  | { kind: 'object'; members: [Text, Value][] }

/** Reads a body of 105 or 106. Throws CodecError. */
export function readRoute(body: Buffer): Route {
  const root = parse(body.toString('latin1'))
  const route: Route = { addresses: [], queues: [] }
  walk(root, object => {
    for (const { broker, cluster, brokerId, text } of addressesOf(object))
      route.addresses.push({ broker, cluster, brokerId, address: text.value })
    if (member(object, 'writeQueueNums') === undefined) return
    route.queues.push({
      broker: plain(member(object, 'brokerName')) ?? '',
      readQueues: Number(plain(member(object, 'readQueueNums')) ?? 0),
      writeQueues: Number(plain(member(object, 'writeQueueNums')) ?? 0),
      perm: Number(plain(member(object, 'perm')) ?? 0),
    })
  })
  return route
}

/** The body with each broker address replaced; what is not an address stays as it is. Throws CodecError. */
export function rewriteRoute(body: Buffer, replace: (address: BrokerAddress) => string): Buffer {
  const source = body.toString('latin1')
  const edits: { text: Text; by: string }[] = []
  const known = new Map<string, string>()
  const root = parse(source)
  walk(root, object => {
    for (const { broker, cluster, brokerId, text } of addressesOf(object)) {
      const by = replace({ broker, cluster, brokerId, address: text.value })
      known.set(text.value, by)
      edits.push({ text, by })
    }
  })
  walk(root, object => {
    const filters = member(object, 'filterServerTable')
    if (filters?.kind === 'object')
      for (const [name] of filters.members) edits.push({ text: name, by: known.get(name.value) ?? name.value })
  })
  edits.sort((a, b) => a.text.start - b.text.start)
  let out = ''
  let from = 0
  for (const { text, by } of edits) {
    if (by === text.value) continue
    out += source.slice(from, text.start) + Buffer.from(JSON.stringify(by).slice(1, -1)).toString('latin1')
    from = text.end
  }
  return from === 0 ? body : Buffer.from(out + source.slice(from), 'latin1')
}

function* addressesOf(
  object: [Text, Value][],
): Generator<{ broker: string; cluster: string; brokerId: number; text: Text }> {
  const addresses = member(object, 'brokerAddrs')
  if (addresses?.kind !== 'object') return
  const broker = plain(member(object, 'brokerName')) ?? ''
  const cluster = plain(member(object, 'cluster')) ?? ''
  for (const [id, address] of addresses.members) {
    if (address.kind === 'text') yield { broker, cluster, brokerId: Number(id.value), text: address.text }
  }
}

function member(object: [Text, Value][], name: string): Value | undefined {
  return object.find(([text]) => text.value === name)?.[1]
}

function plain(value: Value | undefined): string | undefined {
  return value?.kind === 'text' || value?.kind === 'other' ? value.text.value : undefined
}

function walk(value: Value, visit: (object: [Text, Value][]) => void): void {
  if (value.kind === 'list') for (const item of value.items) walk(item, visit)
  if (value.kind !== 'object') return
  visit(value.members)
  for (const [, item] of value.members) walk(item, visit)
}

const DEPTH_MAX = 32

function isSpace(c: number): boolean {
  return c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09
}

/** Space, or one of , : { } [ ] " */
function endsWord(c: number): boolean {
  return isSpace(c) || c === 0x2c || c === 0x3a || c === 0x7b || c === 0x7d || c === 0x5b || c === 0x5d || c === 0x22
}

/** Reads fastjson's text into values that know where they stand. */
function parse(source: string): Value {
  let at = 0
  const space = () => {
    while (at < source.length && isSpace(source.charCodeAt(at))) at++
  }
  const fail = (what: string) => new CodecError('route', `route body: ${what} at character ${at}`)

  const text = (): Text => {
    const start = ++at
    while (at < source.length && source[at] !== '"') at += source[at] === '\\' ? 2 : 1
    if (at >= source.length) throw fail('a string without end')
    const raw = source.slice(start, at++)
    return { start, end: at - 1, value: textOf(raw) }
  }
  const textOf = (raw: string): string => {
    const utf8 = Buffer.from(raw, 'latin1').toString()
    if (!utf8.includes('\\')) return utf8
    try {
      return JSON.parse(`"${utf8}"`) as string
    } catch {
      throw fail('an unknown escape')
    }
  }
  const bare = (): Text => {
    const start = at
    while (at < source.length && !endsWord(source.charCodeAt(at))) at++
    if (at === start) throw fail('nothing where a value must be')
    return { start, end: at, value: source.slice(start, at) }
  }
  const value = (depth: number): Value => {
    if (depth > DEPTH_MAX) throw fail('too deep a nesting')
    space()
    if (source[at] === '"') return { kind: 'text', text: text() }
    if (source[at] === '[') {
      const items: Value[] = []
      list(']', () => items.push(value(depth + 1)))
      return { kind: 'list', items }
    }
    if (source[at] === '{') {
      const members: [Text, Value][] = []
      list('}', () => {
        const name = source[at] === '"' ? text() : bare()
        space()
        if (source[at++] !== ':') throw fail('no colon')
        members.push([name, value(depth + 1)])
      })
      return { kind: 'object', members }
    }
    return { kind: 'other', text: bare() }
  }
  const list = (close: string, item: () => void) => {
    at++
    space()
    if (source[at] === close) {
      at++
      return
    }
    for (;;) {
      space()
      item()
      space()
      const c = source[at++]
      if (c === close) return
      if (c !== ',') throw fail(`neither a comma nor ${close}`)
    }
  }
  const root = value(0)
  space()
  if (at < source.length) throw fail('something behind the end')
  return root
}
