// Modules with a rule switched off: hooks of Node's module loader.
//
// A module that is imported with `?without=rule`, and all that it imports of ours, is another instance; one of them has the
// rule's line changed. It runs on the loader's own thread.

import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { type RuleName, withoutRule } from './rules.ts'

const root = new URL('../../', import.meta.url).href

interface Context {
  parentURL?: string
}

export async function resolve<C extends Context>(
  specifier: string,
  context: C,
  next: (specifier: string, context: C) => Promise<{ url: string }>,
): Promise<{ url: string }> {
  const resolved = await next(specifier, context)
  const name = context.parentURL === undefined ? null : new URL(context.parentURL).searchParams.get('without')
  const url = new URL(resolved.url)
  if (name === null || !url.href.startsWith(root) || url.href.includes('/node_modules/')) return resolved
  url.searchParams.set('without', name)
  return { ...resolved, url: url.href }
}

export async function load<C>(url: string, context: C, next: (url: string, context: C) => Promise<object>) {
  const { searchParams, href } = new URL(url)
  const name = searchParams.get('without')
  if (name === null) return next(url, context)
  const path = fileURLToPath(url)
  const text = await readFile(path, 'utf8')
  const source = withoutRule(name as RuleName, href.slice(root.length).split('?')[0]!, text)
  return { format: 'module', source, shortCircuit: true }
}
