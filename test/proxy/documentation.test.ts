// What README.md and docs/operations.md say of keys and metrics is what there is.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { configTable } from '../../proxy/config-table.ts'
import { METRICS } from '../../proxy/metrics-table.ts'
import { projectRoot } from '../codec/project.ts'

const read = (path: string) => readFileSync(join(projectRoot, path), 'utf8')

/** First two cells of each row of the table that begins behind this. */
function rows(text: string, heading: string): string[][] {
  const lines = text.slice(text.indexOf(heading)).split('\n').slice(1)
  const from = lines.findIndex(line => line.startsWith('|'))
  const end = lines.findIndex((line, at) => at > from && !line.startsWith('|'))
  return lines.slice(from + 2, end).map(line => line.split('|').map(cell => cell.trim()))
}

const named = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name!)

test('README.md names every key with its default, and no other', t => {
  const known: Record<string, { fallback: string | undefined }> = { ...configTable }
  const found = new Map<string, string>()
  for (const [, keys, fallback] of rows(read('README.md'), '### Configuration')) {
    const defaults = fallback!.split(' / ')
    for (const [at, key] of named(keys!).entries()) found.set(key, defaults[at]!.replaceAll('`', ''))
  }
  t.deepEqual([...found.keys()].sort(), Object.keys(known).sort())
  for (const [key, told] of found) {
    const { fallback } = known[key]!
    if (fallback === undefined || fallback === '') t.regex(told, /^\((required|none|found)\)$/, key)
    else t.is(told, fallback, key)
  }
})

test('docs/operations.md names no metric that is not there', t => {
  const names = new Set(METRICS.map(({ name }) => name))
  const told = rows(read('docs/operations.md'), 'Watch in `/metrics`').flatMap(([, cell]) => named(cell!))
  t.true(told.length > 10)
  for (const one of told) {
    const [, name, label] = /^(\w+)(?:\{(\w+)\})?$/.exec(one)!
    t.true(names.has(name!), one)
    if (label !== undefined) t.true(METRICS.find(entry => entry.name === name)!.labels.includes(label), one)
  }
})
