// The public face of replay: what the proxy, the tools and the tests of whole flows need of it.

export { Account } from './account.ts'
export { meaningOf } from './answer.ts'
export { payloadOf, propertiesOf } from './body.ts'
export { firstValue } from './check.ts'
export { type Clock, realClock, sleep } from './clock.ts'
export { Cluster, masterOf, RefusedError } from './cluster.ts'
export { SlotVersionError } from './cursor.ts'
export { type DataDirectory, readDataDirectory } from './data-directory.ts'
export { type Address, parseAddress } from './dial.ts'
export { LockedError, lockDirectory } from './directory-lock.ts'
export { type Environment, realEnvironment } from './environment.ts'
export type { SourceConnection } from './epoch.ts'
export type { Feed } from './feed.ts'
export { realFileSystem } from './file-system.ts'
export {
  type BrokerInspection,
  type FileInspection,
  inspectJournal,
  type RemoteInspection,
} from './journal-inspection.ts'
export { type Damage, type JournalPlace, JournalReading } from './journal-reading.ts'
export { LinkError } from './link.ts'
export type { Log } from './log.ts'
export { type AckedMessage, Message } from './message.ts'
export { ALL_REMOTES, hashOf, PlaceFlag, SKIP_REASONS, type SkipReason } from './place.ts'
export { maxOffset, pull } from './reading.ts'
export { OtherClusterError } from './remote.ts'
export type { RemoteReading } from './remote-reading.ts'
export { RemoteChangeError, Replay } from './replay.ts'
export { SegmentVersionError } from './segment.ts'
export { Send } from './send.ts'
export { isTorn, stampOf } from './settle.ts'
export type { SourceBroker } from './source-broker.ts'
export type { Unanswered } from './unresolved.ts'
