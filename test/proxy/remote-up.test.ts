// What is said of a remote: whether it can be sent to.

import test from 'ava'
import { acked, keyed, withLab } from '../support/gateway-lab.ts'
import { until } from '../support/raw-client.ts'

test(
  'a remote whose broker is down is down, though its name server answers, and up again with it',
  withLab(async (t, { here, remoteBroker, connect }) => {
    const client = await connect()
    await acked(t, client, keyed('first'))
    await here.done(1)
    const isUp = () => here.metrics().get('remote_up{remote="default"}')
    t.is(isUp(), 1)
    await remoteBroker.stop()
    await until('it is down', () => isUp() === 0)
    t.like((await here.readyz()).state, { remotes: [{ label: 'default', up: false }] })
    await acked(t, client, keyed('second'))
    t.is(isUp(), 0)
    await remoteBroker.start()
    await here.done(2, 60_000)
    t.is(isUp(), 1)
  }),
)
