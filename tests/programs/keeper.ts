/** Keeps what it is told in its home: each call is a list of things to do with SQL, and says what came of each. */

import { DatabaseSync } from 'node:sqlite'
import { Agent, sleep } from '@cardinal/sdk'

type Step = {
  sql: string
  args?: unknown[]
  how?: 'exec' | 'run' | 'get' | 'all' | 'iterate' | 'columns'
  take?: number
  big?: boolean
}

const db = new DatabaseSync('home.db')
const open = new Map<string, Iterator<unknown>>()

export default class Keeper extends Agent {
  static methods = {
    do: {},
    memory: {},
    pause: {},
    iterator: {},
    copies: {},
  }
  turns = 0

  do({ steps }: { steps: Step[] }) {
    this.turns++
    return steps.map(act)
  }

  memory() {
    return this.turns
  }

  /** Does some, waits, does the rest. */
  async pause({ before, after }: { before: Step[]; after: Step[] }) {
    const first = before.map(act)
    await sleep('1ms')
    return [...first, ...after.map(act)]
  }

  /** An iterator that is open over an await. */
  async iterator() {
    const rows = db
      .prepare('with recursive n(i) as (select 1 union all select i + 1 from n limit 1000) select i from n')
      .iterate()
    open.set('it', rows)
    const seen: unknown[] = [rows.next().value]
    await sleep('1ms')
    try {
      for (;;) {
        const { value, done } = rows.next()
        if (done) break
        seen.push(value)
      }
      return seen.length
    } catch (error) {
      return { seen: seen.length, error: (error as Error).message }
    }
  }

  copies() {
    return this.turns
  }
}

function act({ sql, args = [], how = 'exec', take = 1000, big = false }: Step): unknown {
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
    for (const row of statement.iterate(...values)) {
      if (seen.length === take) break
      seen.push(row)
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
