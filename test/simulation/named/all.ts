// All named histories.

import { crashHistories } from './crash.ts'
import { epochHistories } from './epoch.ts'
import type { NamedHistory } from './named-history.ts'
import { orderHistories } from './order.ts'
import { settleHistories } from './settle.ts'
import { spillHistories } from './spill.ts'

export { run } from './named-history.ts'

export const histories: NamedHistory[] = [
  ...orderHistories,
  ...crashHistories,
  ...settleHistories,
  ...epochHistories,
  ...spillHistories,
]
