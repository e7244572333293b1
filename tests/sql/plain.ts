/** The same steps in plain SQLite, by Node's own binding: what a home should answer. */
import { DatabaseSync } from 'node:sqlite'
import type { Step } from './corpus.ts'

export class Plain {
  readonly #db = new DatabaseSync(':memory:')

  constructor() {
    this.#db.exec('create temp table zero(a)')
  }

  /** Counters of a connection begin anew with each turn of an agent, and transactions end with it. */
  turn(): void {
    if (this.#db.isTransaction) this.#db.exec('rollback')
    this.#db.exec('insert or replace into zero(rowid) values (0); delete from zero where 0')
  }

  act({ sql, args = [], how, take = 1000, big = false }: Step): unknown {
    try {
      if (how === 'exec') return { ok: this.#db.exec(sql) ?? null }
      const statement = this.#db.prepare(sql)
      if (big) statement.setReadBigInts(true)
      const values = args.map(decode)
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
        // One that ended with an error is still open, and would lock its tables.
        rows.return?.()
      }
      return { ok: encode(seen) }
    } catch (error) {
      const { name, message, code, errcode } = error as Error & { code?: string; errcode?: number }
      return { error: { name, message, code, errcode } }
    }
  }

  close(): void {
    this.#db.close()
  }
}

function decode(value: unknown): never {
  if (typeof value === 'object' && value !== null) {
    if ('$b' in value) return new Uint8Array((value as { $b: number[] }).$b) as never
    if ('$i' in value) return BigInt((value as { $i: string }).$i) as never
  }
  return value as never
}

function encode(value: unknown): unknown {
  if (typeof value === 'bigint') return { $i: String(value) }
  if (typeof value === 'number' && !Number.isFinite(value)) return { $n: String(value) }
  if (Object.is(value, -0)) return { $n: '-0' }
  if (value instanceof Uint8Array) return { $b: [...value] }
  if (Array.isArray(value)) return value.map(encode)
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, encode(item)]))
  return value
}
