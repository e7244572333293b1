/** Every code that the sources can answer with has its line in `docs/errors.md`, and no other has. */
import fs from 'node:fs'
import path from 'node:path'
import { expect, it } from 'vitest'

const root = path.join(import.meta.dirname, '../..')

function sources(): string[] {
  const folders = fs
    .readdirSync(path.join(root, 'packages'))
    .map((name) => path.join(root, 'packages', name, 'src'))
  return folders.flatMap((folder) =>
    fs
      .readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|rs)$/.test(name) && !/\.test\.ts$/.test(name))
      .map((name) => path.join(folder, name)),
  )
}

/** `new XError('Class', 'Code'`, `failed('Class', 'Code'`, `code: 'Code'`, and the engine's kinds. */
const PATTERNS = [
  /(?:Error|failed|end)\(\s*(?:[\w.]+,\s*)?'[A-Z]\w+',\s*'([A-Z][a-z]\w+)'/g,
  /(?:CardError|TokenError|BadOutput|SecretError|McpProblem|badGrant|refusal|refused|withError|\bno)\(\s*'([A-Z][a-z]\w+)'/g,
  /\bcode: '([A-Z][a-z]\w+)'/g,
  /failed\(\s*cls,\s*'([A-Z][a-z]\w+)'/g,
  /readonly code = '([A-Z][a-z]\w+)'/g,
  /\brequest,\s*'([A-Z][a-z]\w+)'/g,
  /(?:thrown\(|kind: |=> )"([A-Z][a-z]\w+)"/g,
  /\bkind: '([A-Z][a-z]\w+)', detail/g,
]

it('the page of errors names every code, and nothing else', () => {
  const found = new Set<string>()
  for (const file of sources()) {
    const text = fs.readFileSync(file, 'utf8')
    for (const pattern of PATTERNS) for (const [, code] of text.matchAll(pattern)) found.add(code as string)
  }
  const page = fs.readFileSync(path.join(root, 'docs/errors.md'), 'utf8').split('## Codes')[1] ?? ''
  const named = [...page.matchAll(/^\| `(\w+)` *\|/gm)].map(([, code]) => code as string)
  expect(found.size).toBeGreaterThan(60)
  expect(found).toContain('KeyReused')
  expect([...found].filter((code) => !named.includes(code)).sort()).toEqual([])
  expect(named.filter((code) => !found.has(code)).sort()).toEqual([])
})
