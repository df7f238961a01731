// A .properties file by the rules of java.util.Properties, in UTF-8: comments, three separators, continued lines, escapes.
//
// It yields entries as they stand, with their lines; whether a key is known or there twice is looked at by the caller.

export interface PropertyEntry {
  key: string
  value: string
  /** From 1. */
  line: number
}

export function readProperties(text: string): PropertyEntry[] {
  const entries: PropertyEntry[] = []
  const lines = text.split(/\r\n|\n|\r/)
  for (let at = 0; at < lines.length; at++) {
    const line = at + 1
    let logical = lines[at]!.trimStart()
    if (logical === '' || logical.startsWith('#') || logical.startsWith('!')) continue
    while (endsInEscape(logical) && at + 1 < lines.length) logical = logical.slice(0, -1) + lines[++at]!.trimStart()
    const [key, value] = split(logical)
    entries.push({ key: unescaped(key), value: unescaped(value), line })
  }
  return entries
}

/** An odd number of backslashes at the end continues the line. */
function endsInEscape(text: string): boolean {
  return (/\\*$/.exec(text)![0].length & 1) === 1
}

/** The key ends at the first space, `=` or `:` that is not escaped. */
function split(text: string): [string, string] {
  const match = /^((?:\\.|[^\s=:\\])*)\s*[=:]?\s*(.*)$/s.exec(text)
  return match === null ? [text, ''] : [match[1]!, match[2]!]
}

function unescaped(text: string): string {
  return text.replace(/\\(u[0-9a-fA-F]{4}|.)/gs, (_, code: string) => {
    if (code.length === 5) return String.fromCharCode(Number.parseInt(code.slice(1), 16))
    return { t: '\t', n: '\n', r: '\r', f: '\f' }[code] ?? code
  })
}
