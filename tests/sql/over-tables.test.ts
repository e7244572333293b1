/**
 * Statements that go over all tables do so in one order, whether a connection has made the tables or has
 * read them from the file.
 */
import { afterEach, expect, it } from 'vitest'
import { openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'
import type { Step } from './corpus.ts'
import { KEEPER } from './keeper.ts'

const open: TestKernel[] = []
afterEach(async () => {
  for (const t of open.splice(0)) await t.close()
})

/** Enough tables for the table of tables to grow. */
const tables = Array.from({ length: 40 }, (_, i) => `n${(i * 7) % 40}`)
const make = (table: string): Step => ({
  sql: `create table ${table}(a, b references gone(a)); insert into ${table} values (1, null)`,
})
const analyze: Step = { sql: 'analyze' }
const analyzed: Step = { sql: "select tbl from sqlite_stat1 where tbl like 'n%'", how: 'all' }
/** Keys that are violated until the transaction is rolled back. */
const violate = (...violated: string[]): Step[] => [
  {
    sql: `begin; pragma defer_foreign_keys = on; ${violated.map((n) => `update ${n} set b = 7`).join(';')}`,
  },
  { sql: 'pragma foreign_key_check', how: 'all' },
  { sql: 'select "table" from pragma_foreign_key_check', how: 'all' },
  { sql: 'rollback' },
]

const SCRIPT: Step[][] = [
  [
    { sql: 'create table gone(a primary key)' },
    { sql: 'create virtual table f using fts5(a)' },
    ...tables.map(make),
  ],
  ['n3', 'n9', 'n11', 'n30'].map((table) => ({ sql: `drop table ${table}` })),
  // Rows that a full-text index still holds back while the tables are read anew.
  [{ sql: "insert into f values ('held back')" }, analyze],
  [analyzed, { sql: "select a from f('held')", how: 'all' }, ...violate('n1', 'n2', 'n4', 'n5', 'n8')],
  [make('n41'), analyze, analyzed],
  [make('n3'), ...violate('n3', 'n4'), analyze, analyzed],
]

type Said = { ok?: unknown[]; error?: { message: string } }

/** What the script is answered, by a node that is started anew before every turn or never. */
async function answers(restarts: boolean): Promise<Said[][]> {
  let t = await openTestKernel([KEEPER])
  open.push(t)
  const said: Said[][] = []
  for (const steps of SCRIPT) {
    const reply = await t.call('keeper/ann', 'do', { steps })
    if (!reply.ok) throw new Error(JSON.stringify(reply.error))
    said.push(reply.value as Said[])
    if (!restarts) continue
    await t.kernel.close()
    t = await openTestKernel([], {}, t.data)
    open.splice(0, 1, t)
  }
  return said
}

it('answers the same', async () => {
  const [once, often] = [await answers(false), await answers(true)]
  expect(often).toEqual(once)
  expect(once.flat().filter((said) => said.error)).toEqual([])
  expect(once[3]?.[0]?.ok).toHaveLength(36)
  expect(once[3]?.[1]?.ok).toHaveLength(1)
  expect(once[3]?.[3]?.ok).toHaveLength(5)
  expect(once[3]?.[4]?.ok).toHaveLength(5)
})

it('waits for no iterator that is open, and a text that only names them is no such statement', async () => {
  const t = await openTestKernel([{ name: 'iterating', file: programFile('iterating.ts'), now: [] }])
  open.push(t)
  const midway = async (sql: string) => {
    const reply = await t.call('iterating/ann', 'midway', { sql })
    return reply.ok ? reply.value : reply.error
  }
  for (const sql of ['analyze', 'pragma foreign_key_check', 'select * from pragma_foreign_key_check'])
    expect(await midway(sql), sql).toEqual({ seen: 1, error: expect.stringContaining('an iterator is open') })
  for (const sql of ["select 'analyze'", 'pragma foreign_key_check(t)', "select 'pragma foreign_key_check'"])
    expect(await midway(sql), sql).toEqual({ seen: 3000 })
})
