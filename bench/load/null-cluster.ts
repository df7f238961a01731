// An embedded cluster that keeps nothing, in a process of its own.
//
// usage: node null-cluster.js NAME      prints `ready nameServer=HOST:PORT`

import { startEmbeddedCluster } from '../../proxy/demo/embedded-cluster.ts'

const cluster = await startEmbeddedCluster({ name: process.argv[2]!, nullBroker: true })
process.stdout.write(`ready nameServer=${cluster.nameServer}\n`)
