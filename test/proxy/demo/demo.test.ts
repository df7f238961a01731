// The demo with the embedded cluster, as somebody without Java runs it.

import test from 'ava'
import { DemoProcess } from '../../support/demo-process.ts'
import { RawClient } from '../../support/raw-client.ts'

const SERVES = /^gateway serves: nameServer=(\S+) admin=(\S+)$/

test('it shows an outage and how the queue drains, ends with a proof that holds, and leaves nothing', async t => {
  const demo = DemoProcess.start(t, ['--embedded', '--seconds=3'])
  await demo.proves(t)
  demo.leftNothing(t)
  t.is(demo.lines[0], 'demo: embedded')
})

test('without java on the PATH it says so and is embedded; Ctrl-C ends it with 130 and leaves nothing', async t => {
  const demo = DemoProcess.start(t, [], { PATH: '' })
  const [, nameServer, admin] = SERVES.exec(await demo.line(SERVES))!
  t.is(demo.lines[0], 'demo: embedded')
  t.regex(demo.lines[1]!, /needs java, which is not here: the embedded cluster stands in/)
  await demo.line(/^remote down /)
  demo.signal('SIGINT')
  t.is(await demo.ended, 130, demo.stderr)
  t.is(demo.lines.at(-1), 'interrupted: ending what was started')
  demo.leftNothing(t)
  for (const address of [nameServer!, admin!]) await t.throwsAsync(RawClient.connect(address), { code: 'ECONNREFUSED' })
})

test('what it does not know it refuses with 64', async t => {
  const demo = DemoProcess.start(t, ['--embeded'])
  t.is(await demo.ended, 64)
  t.regex(demo.stderr, /demo does not know --embeded/)
})
