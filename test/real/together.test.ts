// The tests of all files that need a pair of clusters and not much else, in one process: a pair takes as long to start as a test.
// Each of them can be run by itself as well. The clients are the last: their gateway runs to the end.

import './bad-input.test.ts'
import './outage.test.ts'
import './small-journal.test.ts'
import './connections.test.ts'
import './kill-gateway.test.ts'
import './long-outage.test.ts'
import './remotes.test.ts'
import './two-brokers.test.ts'
import './clients.test.ts'
