/** One step of a corpus, by `node:sqlite`: the same lines run inside an agent and beside it. */
import type { DatabaseSync } from 'node:sqlite'
import type { Step } from './corpus.ts'

export function act(
  db: DatabaseSync,
  { sql, args = [], how = 'exec', take = 1000, big = false }: Step,
): unknown {
  try {
    if (how === 'exec') return { ok: db.exec(sql) ?? null }
    const statement = db.prepare(sql)
    if (big) statement.setReadBigInts(true)
    const values = args.map(decode)
    if (how === 'columns') return { ok: statement.columns() }
    if (how === 'run') return { ok: encode(statement.run(...values)) }
    if (how === 'get') return { ok: encode(statement.get(...values) ?? null) }
    if (how === 'all') return { ok: encode(statement.all(...values)) }
    const seen: unknown[] = []
    const rows = statement.iterate(...values)
    try {
      for (const row of rows) {
        if (seen.length === take) break
        seen.push(row)
      }
    } finally {
      // Node leaves one open that ended with an error, and its tables locked.
      rows.return?.()
    }
    return { ok: encode(seen) }
  } catch (error) {
    const { name, message, code, errcode } = error as Error & { code?: string; errcode?: number }
    return { error: { name, message, code, errcode } }
  }
}

type Tagged = { $b: number[] } | { $i: string }

function decode(value: unknown): never {
  if (typeof value === 'object' && value !== null) {
    if ('$b' in value) return new Uint8Array((value as { $b: number[] }).$b) as never
    if ('$i' in value) return BigInt((value as { $i: string }).$i) as never
  }
  return value as never
}

function encode(value: unknown): unknown {
  if (typeof value === 'bigint') return { $i: String(value) } satisfies Tagged
  if (typeof value === 'number' && !Number.isFinite(value)) return { $n: String(value) }
  if (Object.is(value, -0)) return { $n: '-0' }
  if (value instanceof Uint8Array) return { $b: [...value] } satisfies Tagged
  if (Array.isArray(value)) return value.map(encode)
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, encode(item)]))
  return value
}
