// A link: answers find who waits for them, and who waits learns whether the request may have arrived.

import test from 'ava'
import { encodeFrame } from '../../codec/index.ts'
import type { ConnectionEvents } from '../../replay/dial.ts'
import { Link, LinkError } from '../../replay/link.ts'
import { FakeEnvironment, type FakeRequest } from '../support/fake-environment.ts'

const ADDRESS = 'rome:10911'

function linked(serve?: (request: FakeRequest) => void) {
  const environment = new FakeEnvironment()
  if (serve !== undefined) environment.network.serve(ADDRESS, serve)
  const link = new Link(environment, { host: 'rome', port: 10_911 })
  const ask = (code: number, timeoutMs = 1_000) =>
    link
      .request(opaque => encodeFrame({ code, opaque }), timeoutMs)
      .then(
        ({ head }) => `answer ${head.code}`,
        (error: LinkError) => (error.unclear ? 'unclear' : 'unsent'),
      )
  return { environment, link, ask }
}

test('answers find their requests, in whatever order they come', async t => {
  const requests: FakeRequest[] = []
  const { environment, link, ask } = linked(request => requests.push(request))
  const answers = Promise.all([ask(1), ask(2), ask(3)])
  await environment.settled()
  t.true(link.isUp)
  t.is(environment.network.connections(ADDRESS), 1)
  for (const request of requests.toReversed()) request.answer({ code: request.head.code * 10 })
  await environment.settled()
  t.deepEqual(await answers, ['answer 10', 'answer 20', 'answer 30'])
  t.is(environment.clock.timers, 0)
})

test('where nobody listens the request is unsent', async t => {
  const { environment, link, ask } = linked()
  const answer = ask(1)
  await environment.settled()
  t.is(await answer, 'unsent')
  t.false(link.isUp)
  t.is(environment.clock.timers, 0)
})

test('where the connection breaks what is out is unclear, and the next request dials anew', async t => {
  const { environment, ask } = linked(request =>
    request.head.code === 1 ? request.breakOff() : request.answer({ code: 0 }),
  )
  const answer = ask(1)
  await environment.settled()
  t.is(await answer, 'unclear')
  const next = ask(2)
  await environment.settled()
  t.is(await next, 'answer 0')
})

test('a request that is not answered in time ends the connection: nothing is known of what it holds', async t => {
  const { environment, link, ask } = linked(() => {})
  const slow = ask(1, 5_000)
  const slower = ask(2, 9_000)
  await environment.pass(4_999)
  t.true(link.isUp)
  await environment.pass(1)
  t.deepEqual(await Promise.all([slow, slower]), ['unclear', 'unclear'])
  t.false(link.isUp)
  t.is(environment.network.connections(ADDRESS), 0)
  t.is(environment.clock.timers, 0)
})

test('a deadline that may be put off counts from what arrived last, up to a limit', async t => {
  const requests: FakeRequest[] = []
  const { environment, link } = linked(request => requests.push(request))
  const request = (code: number) =>
    link
      .request(opaque => encodeFrame({ code, opaque }), 1_000, 3_000)
      .then(
        () => 'answered',
        () => 'given up',
      )
  const outcomes: Promise<string>[] = []
  for (let code = 1; code <= 5; code++) outcomes.push(request(code))
  await environment.pass(900)
  requests[0]!.answer({ code: 0 })
  await environment.pass(900)
  requests[1]!.answer({ code: 0 })
  await environment.pass(900)
  requests[2]!.answer({ code: 0 })
  await environment.pass(299)
  t.true(link.isUp)
  await environment.pass(1)
  t.false(link.isUp)
  t.deepEqual(await Promise.all(outcomes), ['answered', 'answered', 'answered', 'given up', 'given up'])
  const silent = request(6)
  await environment.pass(1_000)
  t.is(await silent, 'given up')
  t.is(environment.clock.timers, 0)
})

for (const hours of [-1, 1])
  test(`a deadline that may be put off is where it was when the wall clock is set ${hours < 0 ? 'back' : 'forward'}`, async t => {
    const requests: FakeRequest[] = []
    const { environment, link } = linked(request => requests.push(request))
    const asked = [1, 2].map(code => link.request(opaque => encodeFrame({ code, opaque }), 1_000, 3_000))
    asked[1]!.catch(() => {})
    await environment.pass(900)
    requests[0]!.answer({ code: 0 })
    await environment.settled()
    environment.clock.set(hours * 3_600_000)
    await environment.pass(990)
    t.true(link.isUp)
    await environment.pass(10)
    t.false(link.isUp)
    await t.throwsAsync(asked[1]!, { message: /within 1900 ms/ })
  })

test("what still comes from a connection that was ended is nobody's", async t => {
  const { environment, link, ask } = linked(() => {})
  const dialled: ConnectionEvents[] = []
  const dial = environment.network.dial.bind(environment.network)
  environment.network.dial = (address, events) => {
    dialled.push(events)
    return dial(address, events)
  }
  const first = ask(1)
  await environment.settled()
  link.end('enough')
  t.is(await first, 'unclear')
  const second = ask(2)
  await environment.settled()
  // The second request's opaque, on the first connection.
  dialled[0]!.data(encodeFrame({ code: 99, opaque: 1, flag: 1 }))
  dialled[0]!.closed('at last')
  await environment.settled()
  t.true(link.isUp)
  dialled[1]!.data(encodeFrame({ code: 0, opaque: 1, flag: 1 }))
  t.is(await second, 'answer 0')
})

test('an answer that is no frame ends the connection', async t => {
  const { environment, link } = linked(request => request.answer({ code: 0 }))
  const raw = environment.network.dial.bind(environment.network)
  environment.network.dial = (address, events) =>
    raw(address, { ...events, data: () => events.data(Buffer.from('GET / HTTP/1.1\r\n\r\n')) })
  const answer = t.throwsAsync(
    link.request(opaque => encodeFrame({ code: 1, opaque }), 1_000),
    { instanceOf: LinkError },
  )
  await environment.settled()
  t.true((await answer)?.unclear)
  t.false(link.isUp)
})
