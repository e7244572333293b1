/** Modules that programs import to reach a database, and packages of others over them, unchanged. */
import RealDatabase from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const ORM = { name: 'orm', file: programFile('orm.ts'), now: [], limits: '{ homeBytes: 64MiB }' }
let t: TestKernel

async function ask(method: string, args?: unknown): Promise<unknown> {
  const reply = await t.call('acme/orm/ann', method, args)
  if (!reply.ok) throw Object.assign(new Error(reply.error.message), reply.error)
  return reply.value
}

describe('a program', () => {
  beforeAll(async () => {
    t = await openTestKernel([ORM])
  })
  afterAll(() => t.close())

  it('uses Kysely', async () => {
    expect(await ask('kysely')).toEqual({
      undone: 'SQLITE_CONSTRAINT_FOREIGNKEY',
      pets: [
        { pet: 'Byron', owner: 'Ada' },
        { pet: 'Puff', owner: 'Ada' },
      ],
      updated: '1',
      tables: ['person', 'pet'],
    })
  })

  it('uses Drizzle', async () => {
    expect(await ask('drizzle')).toEqual({
      big: [{ id: 3, payee: 'a', cents: 300 }],
      sums: [
        { payee: 'a', sum: 400 },
        { payee: 'b', sum: 99 },
      ],
    })
  })

  it('writes, reads and queries 100,000 rows, and has them after a restart', async () => {
    expect(await ask('rows', { count: 100_000 })).toEqual({
      sum: 71_421_429,
      seen: 1031,
      top: [
        { who: 'user-0', n: 1031, v: 7136.429 },
        { who: 'user-1', n: 1031, v: 7136.571 },
      ],
    })
    t = await t.reopen()
    expect((await t.kernel.sql('acme/orm/ann', 'select count(*) n from many', 'operator')).rows).toEqual([
      [100_000],
    ])
    await t.kernel.replay('acme/orm/ann')
  }, 60_000)

  it('meets the shapes and errors of better-sqlite3', async () => {
    const real = new RealDatabase(':memory:')
    real.exec('create table s(a unique, b)')
    expect(await ask('shape')).toEqual({
      errors: [
        'SqliteError: UNIQUE constraint failed: s.a',
        'RangeError: Missing named parameter "b"',
        ...errorsOf(real),
        expect.stringMatching(/no database in memory only/),
        expect.stringMatching(/one database, and this program opened it as "home.db"/),
        expect.stringMatching(/not there in an agent/),
      ],
      row: { a: 1, b: 'x' },
      raw: [[1, 'x']],
      pluck: [1],
      columns: ['a', 'b'],
      simple: 1,
    })
    real.close()
  })
})

/** What the real one says to the same mistakes. */
function errorsOf(real: RealDatabase.Database): string[] {
  const insert = real.prepare('insert into s values (@a, $b)')
  const mistakes = [
    () => insert.run(1, 2),
    () => real.prepare('select 1').run(),
    () => real.prepare('delete from s').all(),
    () => real.prepare('select 1; select 2'),
    () => real.prepare(''),
    () => real.prepare('select ?').get(),
    () => real.prepare('select ?').get(1, 2),
  ]
  return mistakes.map((act) => {
    try {
      act()
      return 'none'
    } catch (error) {
      return `${(error as Error).name}: ${(error as Error).message}`
    }
  })
}
