// All named histories.

import { crashHistories } from './crash.ts'
import type { NamedHistory } from './named-history.ts'
import { orderHistories } from './order.ts'
import { settleHistories } from './settle.ts'
import { historiesToCome } from './to-come.ts'

export { run } from './named-history.ts'

export const histories: NamedHistory[] = [...orderHistories, ...crashHistories, ...settleHistories, ...historiesToCome]
