/**
 * No statement over derived state walks all agents, cards or invocations: what one call costs does not depend on how
 * many sleep. Those that walk a table say here why they may.
 */
import fs from 'node:fs'
import path from 'node:path'
import Database from 'better-sqlite3'
import { expect, it } from 'vitest'
import { openTestKernel } from '../support/kernel.ts'

const KERNEL = path.join(import.meta.dirname, '../../packages/kernel/src')

/** The table that is walked, and the statement by its first words. */
const ALLOWED: Readonly<Record<string, string>> = {
  'select id, parent from cards where': 'a table of the batch, in memory',
  'select pos, hash from node_entries': 'what the node wrote of itself, at its start',
  'select r.pos, r.card': 'revocations, when an operator lists them',
  'select c.*, a.address caller from calls': 'calls that are open, at a start',
  'select k.*, a.address from asks': 'approvals, when an operator lists them',
  'select k.name card, c.name': 'counters, when an audit compares them',
  'select * from agents where quarantined = 0 and erased = 0 and id in (select c.agent from calls':
    'calls that are open, at a start',
  'select * from agents where id in (select id from agents where tenant':
    'asks that are open, by their index',
  'select due from timers order by due': 'the first of an index',
  'select a.address, d.effect': 'effects in doubt, when an operator lists them',
}

interface Found {
  readonly file: string
  readonly sql: string
  readonly walks: readonly string[]
}

/** Statements in sources that walk a table, as SQLite plans them. */
function walksOf(db: Database.Database, file: string, source: string): Found[] {
  return [
    ...source.matchAll(
      /(['"`])((?:select|update|delete|with recursive)\s(?:(?!\1)[^;])*?\s(?:from|where|set)\s[\s\S]*?)\1/g,
    ),
  ].flatMap(([, , text = '']) => {
    const sql = text.replace(/\$\{[^}]*\}/g, '1').replace(/\s+/g, ' ')
    const names = Object.fromEntries([...sql.matchAll(/@(\w+)/g)].map(([, name]) => [name, 1]))
    const values = sql.includes('@') ? [names] : Array(sql.split('?').length - 1).fill(1)
    let plan: { detail: string }[]
    try {
      plan = db.prepare(`explain query plan ${sql}`).all(...values) as { detail: string }[]
    } catch {
      // Of another database, or several statements at once.
      return []
    }
    const own = new Set([...sql.matchAll(/(\w+)\([^()]*\) as \(/g)].map(([, name]) => name))
    const aliases = new Map(
      [...sql.matchAll(/(?:from|join) (\w+)(?: (\w))?\b/g)].map(([, t, a]) => [a ?? t, t]),
    )
    const walks = plan.flatMap(({ detail }) => {
      const [, name = ''] = /^SCAN (\w+)(?! VIRTUAL)/.exec(detail) ?? []
      const table = aliases.get(name) ?? name
      const isTable = db.prepare("select 1 from sqlite_schema where type = 'table' and name = ?").get(table)
      return isTable && !own.has(table) ? [detail] : []
    })
    return walks.length > 0 ? [{ file, sql, walks }] : []
  })
}

async function withRows<T>(act: (db: Database.Database) => T): Promise<T> {
  const t = await openTestKernel([])
  const db = new Database(path.join(t.data, 'derived.db'), { readonly: true })
  try {
    return act(db)
  } finally {
    db.close()
    await t.close()
  }
}

it('no statement walks a table but those that say why', async () => {
  const found = await withRows((db) =>
    fs
      .readdirSync(KERNEL)
      .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
      .flatMap((name) => walksOf(db, name, fs.readFileSync(path.join(KERNEL, name), 'utf8'))),
  )
  const allowed = (sql: string) => Object.keys(ALLOWED).some((begins) => sql.startsWith(begins))
  expect(found.filter(({ sql }) => !allowed(sql))).toEqual([])
  // What is not there any more is allowed no longer.
  const missing = Object.keys(ALLOWED).filter((begins) => !found.some(({ sql }) => sql.startsWith(begins)))
  expect(missing).toEqual([])
})

it('finds one that does', async () => {
  const found = await withRows((db) => [
    ...walksOf(db, 'a.ts', "x = 'select id from agents where tenant = ? and slot = 7'"),
    ...walksOf(db, 'b.ts', "x = 'select id from agents where id = ? and slot = 7'"),
  ])
  expect(found.map(({ file }) => file)).toEqual(['a.ts'])
})
