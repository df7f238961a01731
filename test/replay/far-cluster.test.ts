// A cluster behind a thin link: however many lanes read from it at once, each is answered, and one lost answer holds up none.

import test from 'ava'
import { RequestCode } from '../../codec/index.ts'
import { FAR_ASK_MOST, FAR_PULLS_MOST, FarCluster } from '../../replay/far-cluster.ts'
import type { LinkError } from '../../replay/link.ts'
import { FakeEnvironment, type FakeRequest } from '../support/fake-environment.ts'

const ROME = 'rome:10911'
/** Bytes a millisecond. */
const RATE = 500
const ANSWER = Buffer.alloc(200_000)
const { PULL_MESSAGE, GET_MAX_OFFSET } = RequestCode

function lab() {
  const environment = new FakeEnvironment()
  const { clock, network } = environment
  const out = { now: 0, most: 0, ended: 0 }
  let freeAt = 0
  /** Answers come one behind the other, as fast as the link is. */
  const answerThinly = (request: FakeRequest) => {
    out.most = Math.max(out.most, ++out.now)
    const bytes = request.head.code === PULL_MESSAGE ? ANSWER : Buffer.alloc(0)
    freeAt = Math.max(freeAt, clock.now()) + bytes.length / RATE
    clock.after(freeAt - clock.now(), () => {
      out.now--
      if (!request.connection.isOpen) out.ended++
      request.answer({ code: 0, body: bytes })
    })
  }
  network.serve(ROME, answerThinly)
  const cluster = new FarCluster(environment, [{ host: 'rome', port: 9876 }])
  const answered: number[] = []
  const failed: string[] = []
  const ask = (code: number, address = ROME) =>
    cluster.ask(address, code).then(
      ({ header }) => answered.push(header.code),
      (error: LinkError) => failed.push(error.message),
    )
  return { environment, clock, network, cluster, out, ask, answered, failed, answerThinly }
}

test('lanes that all read at once are answered one after the other, none of them late', async t => {
  const { environment, out, ask, answered, failed } = lab()
  const lanes = 300
  for (let lane = 0; lane < lanes; lane++) void ask(PULL_MESSAGE)
  await environment.until('all are answered', () => answered.length + failed.length === lanes)
  t.deepEqual([answered.length, failed, out.ended], [lanes, [], 0])
  t.is(out.most, FAR_PULLS_MOST)
  t.is(environment.clock.timers, 0)
})

test('what brings little does not wait for its turn, and is not late behind what brings much', async t => {
  const { environment, ask, answered, failed, network } = lab()
  const written: string[] = []
  network.onWrite = address => written.push(address)
  for (let lane = 0; lane < 3 * FAR_PULLS_MOST; lane++) void ask(PULL_MESSAGE)
  await environment.pass(100)
  const asked = written.length
  // What is out takes 6.4 s, and a question alone has 5 s.
  for (let more = 0; more < 20; more++) void ask(GET_MAX_OFFSET)
  await environment.settled()
  t.is(written.length, asked + 20)
  await environment.until('all are answered', () => answered.length + failed.length === 3 * FAR_PULLS_MOST + 20)
  t.deepEqual(failed, [])
})

test('a broker that is silent holds up no reading from another', async t => {
  const { environment, network, ask, answered } = lab()
  network.serve('rome:10921', () => {})
  for (let lane = 0; lane < 2 * FAR_PULLS_MOST; lane++) void ask(PULL_MESSAGE, 'rome:10921')
  void ask(PULL_MESSAGE)
  await environment.pass(1_000)
  t.deepEqual(answered, [0])
})

test('an answer that is lost while others come ends the link after a minute; then fewer are read at a time', async t => {
  const { environment, network, ask, answered, failed, out, answerThinly } = lab()
  let lost = 0
  network.serve(ROME, request => {
    if (lost++ > 0) answerThinly(request)
  })
  const began = environment.clock.now()
  void ask(PULL_MESSAGE)
  const others = () => {
    void ask(GET_MAX_OFFSET)
    if (failed.length === 0) environment.clock.after(1_000, others)
  }
  others()
  await environment.until('it is given up', () => failed.length > 0)
  t.is(environment.clock.now() - began, FAR_ASK_MOST)
  t.regex(failed[0]!, /no answer from rome:10911 within 60000 ms/)
  t.true(answered.length >= 60)
  await environment.pass(10_000)
  out.most = 0
  for (let lane = 0; lane < 2 * FAR_PULLS_MOST; lane++) void ask(PULL_MESSAGE)
  await environment.settled()
  t.is(out.most, FAR_PULLS_MOST >> 1)
  const before = answered.length
  await environment.until('all are answered', () => answered.length === before + 2 * FAR_PULLS_MOST)
  t.is(out.most, FAR_PULLS_MOST)
})
