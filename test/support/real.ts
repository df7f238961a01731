// Tests that need real RocketMQ: skipped where its tools are missing, but failing under CI, which has to have them.

import test, { type ExecutionContext } from 'ava'
import { missingTools } from '../../proxy/demo/real-cluster.ts'

export function realTest(title: string, body: (t: ExecutionContext) => Promise<void>, missing = missingTools()): void {
  if (missing === undefined) test.serial(title, body)
  else if (process.env.CI === 'true') test.serial(title, t => t.fail(`cannot run: ${missing}`))
  else test.serial.skip(`${title} (${missing})`, body)
}
