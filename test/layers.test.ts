// Holds the layers to what they promise, on their text: who imports whom, and what the codec keeps away from.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import test from 'ava'
import { projectRoot as root } from './codec/project.ts'

const layers = ['codec', 'replay', 'proxy'] as const
type Layer = (typeof layers)[number]

interface Source {
  path: string
  text: string
  /** Without comments. */
  code: string
  imports: { from: string; typeOnly: boolean }[]
}

function sourcesIn(folder: string): Source[] {
  if (!existsSync(join(root, folder))) return []
  const names = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
  return names
    .filter(name => name.endsWith('.ts'))
    .map(name => {
      const path = join(folder, name)
      const text = readFileSync(join(root, path), 'utf8')
      const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')
      const found = code.matchAll(/\b(import|export)\s+(type\s)?[^'";]*?\bfrom\s+'([^']+)'|\bimport\s*\(?\s*'([^']+)'/g)
      const imports = [...found].map(match => ({ from: match[3] ?? match[4]!, typeOnly: match[2] !== undefined }))
      return { path, text, code, imports }
    })
}

const sources = Object.fromEntries(layers.map(layer => [layer, sourcesIn(layer)])) as Record<Layer, Source[]>
const tests = sourcesIn('test')

test('there is something to hold to it', t => {
  t.true(sources.codec.length > 10)
  t.true(sources.codec.some(({ imports }) => imports.length > 2))
  t.true(tests.length > 5)
})

for (const [rank, layer] of layers.entries()) {
  test(`${layer} imports of the layers below it only their index.ts, and nothing of those above`, t => {
    for (const { path, imports } of sources[layer])
      for (const { from } of imports.filter(({ from }) => from.startsWith('.'))) {
        const target = relative(root, resolve(root, dirname(path), from))
        const [top] = target.split('/')
        const below = layers.slice(0, rank).some(lower => target === `${lower}/index.ts`)
        t.true(top === layer || below, `${path} imports ${target}`)
      }
    t.pass()
  })

  test(`${layer} needs nothing at run time but Node, pino and lz4-napi`, t => {
    for (const { path, imports } of sources[layer])
      for (const { from, typeOnly } of imports.filter(({ from }) => !from.startsWith('.')))
        t.true(
          typeOnly || from.startsWith('node:') || from === 'pino' || from === 'lz4-napi',
          `${path} imports ${from}`,
        )
    t.pass()
  })
}

test('codec knows bytes: no socket, file, clock, timer or logger', t => {
  const allowed = ['node:buffer', 'node:zlib', 'lz4-napi']
  const forbidden =
    /\b(?:Date\s*\.\s*now|new\s+Date|performance\s*\.|hrtime|setTimeout|setInterval|setImmediate|queueMicrotask|nextTick|console\s*\.|fetch\s*\(|process\s*\.|require\s*\(|async\s|await\s|Promise\b|Math\s*\.\s*random)/
  for (const { path, code, imports } of sources.codec) {
    for (const { from } of imports) t.true(from.startsWith('./') || allowed.includes(from), `${path} imports ${from}`)
    t.is(forbidden.exec(code)?.[0], undefined, path)
  }
  const zlib = sources.codec.filter(({ imports }) => imports.some(({ from }) => from === 'node:zlib'))
  for (const { path, code } of zlib) t.regex(code, /import \{ crc32 \} from 'node:zlib'/, path)
})

test('no test runs alone, and nothing is left for later', t => {
  for (const { path, text } of [...layers.flatMap(layer => sources[layer]), ...tests]) {
    // In two parts, so that this file does not find itself.
    t.false(text.includes(`.${'only('}`), `${path} runs a test alone`)
    t.notRegex(text, new RegExp(`\\b(?:${'FIX'}ME|${'TO'}DO)\\b`), path)
  }
})
