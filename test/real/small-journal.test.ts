// A journal of 8 MiB and an outage that brings 200 MiB, while somebody else writes to the same queues without the gateway.

import { Producer } from '../../proxy/demo/producer.ts'
import { environment, Load } from '../support/load.ts'
import { folderBytes, peakOf } from '../support/peak.ts'
import { missingRocketMQ, pair, realTest } from '../support/real.ts'
import { missingMount, smallDisk } from '../support/small-disk.ts'

const MiB = 2 ** 20
const BYTES = 8_192
const OUTAGE = 200 * MiB

for (const [title, topic, gateway, megabytes] of [
  ['by journalMaxBytes', 'Limited', ['--journalMaxBytes=8MiB'], undefined],
  ['on a disk of 8 MiB', 'SmallDisk', ['--journalMaxBytes=8MiB', '--journalMinFreeBytes=512KiB'], 8],
] as const)
  realTest(
    `a journal of 8 MiB ${title}, an outage that brings 200 MiB, and another producer at the same queues`,
    async t => {
      const { source, remote } = await pair()
      const dataDir = megabytes === undefined ? {} : { dataDir: smallDisk(t, megabytes) }
      const load = await Load.start(t, {
        source,
        remote,
        topic,
        rate: 2_000,
        bytes: BYTES,
        gateway: [...gateway],
        ...dataDir,
      })
      const other = new Producer(environment, source.nameServer, topic, BYTES)
      t.teardown(() => other.end())
      await other.connect()
      other.start(2_000)

      await remote.brokers[0]!.kill()
      const outage = async () => {
        await load.more(OUTAGE / BYTES, 120_000)
        load.producer.start(100)
        await other.stop()
        await remote.brokers[0]!.start()
        await load.caughtUp()
      }
      const disk = await peakOf(() => folderBytes(load.gateway.dataDir), outage())
      await load.whole(other.acked)
      t.true(other.acked.size * BYTES > OUTAGE / 2, 'the other producer wrote as well')
      // Besides the journal: who the gateway is, its listeners, and the folders themselves.
      t.true(disk <= 8 * MiB + 64 * 1024, `the data directory had ${disk} bytes`)
      t.true(load.gateway.peakMemory() < 256 * MiB, `peak memory ${load.gateway.peakMemory()}`)
    },
    missingRocketMQ ?? (megabytes === undefined ? undefined : missingMount()),
  )
