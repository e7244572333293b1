/** An agent's home: tables that stand where its memory stands, whatever happens in between. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import Database from 'better-sqlite3'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { applyPrograms, crashCopy, openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const KEEPER = { name: 'keeper', file: programFile('keeper.ts'), now: [] }

type Step = { sql: string; args?: unknown[]; how?: string; take?: number; big?: boolean }
type Said = { ok?: unknown; error?: { name: string; message: string; code?: string; errcode?: number } }

let t: TestKernel

async function ask(who: string, method: string, args?: unknown): Promise<unknown> {
  const reply = await t.call(`acme/keeper/${who}`, method, args)
  if (!reply.ok) throw Object.assign(new Error(reply.error.message), reply.error)
  return reply.value
}

async function act(who: string, ...steps: Step[]): Promise<Said[]> {
  return (await ask(who, 'do', { steps })) as Said[]
}

const rows = (sql: string, ...args: unknown[]): Step => ({ sql, args, how: 'all' })

describe('a home', () => {
  beforeAll(async () => {
    t = await openTestKernel([KEEPER], { limits: { sql: 5_000_000 } })
  })
  afterAll(() => t.close())

  it('keeps tables over calls, suspensions and a restart', async () => {
    const said = await act(
      'ann',
      { sql: 'create table paid(id integer primary key, amount text)' },
      { sql: 'insert into paid(amount) values (?), (?)', args: ['1.50', '2.25'], how: 'run' },
      rows('select * from paid'),
    )
    expect(said).toEqual([
      { ok: null },
      { ok: { changes: 2, lastInsertRowid: 2 } },
      {
        ok: [
          { id: 1, amount: '1.50' },
          { id: 2, amount: '2.25' },
        ],
      },
    ])
    expect(await t.kernel.suspend('acme/keeper/ann')).toBe(true)
    expect(await act('ann', rows('select count(*) n from paid'))).toEqual([{ ok: [{ n: 2 }] }])
    expect(await ask('ann', 'memory')).toBe(2)
    t = await t.reopen()
    expect(await act('ann', rows('select count(*) n from paid'))).toEqual([{ ok: [{ n: 2 }] }])
    expect(await t.kernel.replay('acme/keeper/ann')).toMatchObject({ turns: 4 })
  })

  it('is undone with its turn', async () => {
    await act('bob', { sql: 'create table t(a unique)' }, { sql: 'insert into t values (1)' })
    await expect(
      act('bob', { sql: 'insert into t values (2)' }, { sql: 'insert or rollback into t values (1)' }),
    ).rejects.toMatchObject({ code: 'TransactionLost' })
    expect(await act('bob', rows('select a from t'))).toEqual([{ ok: [{ a: 1 }] }])
    expect(await ask('bob', 'memory')).toBe(2)
  })

  it('tells whoever had a transaction open at an await that it is gone, and nothing of it stays', async () => {
    await act('cid', { sql: 'create table t(a)' })
    const pause = (before: Step[], after: Step[]) => ask('cid', 'pause', { before, after })
    const lost = { error: { errcode: 516, message: expect.stringMatching(/open at an await/) } }
    expect(
      await pause(
        [{ sql: 'begin' }, { sql: 'insert into t values (1)' }],
        [{ sql: 'insert into t values (2)' }, { sql: 'commit' }, { sql: 'insert into t values (3)' }],
      ),
    ).toMatchObject([{ ok: null }, { ok: null }, lost, lost, { ok: null }])
    expect(await act('cid', rows('select a from t'))).toEqual([{ ok: [{ a: 3 }] }])
    // The twin closes it before it waits.
    expect(
      await pause(
        [{ sql: 'begin' }, { sql: 'insert into t values (4)' }, { sql: 'commit' }],
        [{ sql: 'insert into t values (5)' }],
      ),
    ).toEqual([{ ok: null }, { ok: null }, { ok: null }, { ok: null }])
    expect(await act('cid', rows('select a from t'))).toEqual([{ ok: [{ a: 3 }, { a: 4 }, { a: 5 }] }])
  })

  it('ends iterators with their turn, and says so', async () => {
    expect(await ask('dora', 'iterator')).toMatchObject({
      seen: 64,
      error: expect.stringMatching(/open at an await/),
    })
  })

  it('stops a statement without end at a row that a replay stops at too', async () => {
    const endless = 'with recursive n(i) as (select 1 union all select i + 1 from n) select i from n'
    const [few, all] = await act(
      'eve',
      { sql: endless, how: 'iterate', take: 3 },
      { sql: `${endless.replace('select i from n', 'select max(i) from n')}`, how: 'all' },
    )
    expect(few).toEqual({ ok: [{ i: 1 }, { i: 2 }, { i: 3 }] })
    expect(all).toMatchObject({ error: { errcode: 9, message: expect.stringMatching(/^interrupted/) } })
    await expect(act('eve', { sql: `create table n as ${endless}` })).rejects.toMatchObject({
      code: 'SqlSteps',
    })
    expect(await act('eve', rows('select count(*) n from sqlite_schema'))).toEqual([{ ok: [{ n: 0 }] }])
    expect(await t.kernel.replay('acme/keeper/eve')).toMatchObject({ turns: 2 })
  })

  it('counts nothing of a statement that was undone, whatever runs after it', async () => {
    const insert = { sql: 'insert into child values (1)' }
    const tables = 'create table parent(a primary key); create table t(a, b)'
    const child = 'create table child(b references parent(a) deferrable initially deferred)'
    await act('ida', { sql: `${tables}; ${child}`, how: 'exec' })
    const after = async (...before: Step[]) =>
      (
        (await act(
          'ida',
          ...before,
          { sql: 'alter table t rename b to c', how: 'exec' },
          rows('select changes() n'),
        )) as Said[]
      ).at(-1)
    expect(await after(insert)).toEqual({ ok: [{ n: 0 }] })
    await act('ida', { sql: 'alter table t rename c to b', how: 'exec' })
    expect(await after({ sql: 'insert into parent values (1)' }, insert)).toEqual({ ok: [{ n: 1 }] })
  })

  it('holds what its card grants, and takes no more than that', async () => {
    const fill = (n: number): Step => ({ sql: 'insert into t values (zeroblob(?))', args: [n], how: 'run' })
    await applyPrograms(t.kernel, [{ ...KEEPER, name: 'small', limits: '{ homeBytes: 1MiB }' }])
    const small = async (...steps: Step[]) => {
      const reply = await t.call('acme/small/x', 'do', { steps })
      return reply.ok ? (reply.value as Said[]) : reply.error.code
    }
    const said = await small({ sql: 'create table t(a)' }, fill(600_000), fill(600_000), fill(200_000))
    expect(said).toMatchObject([{}, { ok: {} }, { error: { errcode: 13 } }, { ok: {} }])
    expect((said as Said[])[2]?.error?.message).toMatch(/1048576 bytes \(`homeBytes`/)
    expect(await small(fill(7_000_000))).toBe('HomeFull')
    expect(await small({ sql: 'delete from t' }, fill(600_000))).toMatchObject([{ ok: null }, { ok: {} }])
    const shown = async (agent: string) =>
      (await t.kernel.limitsOf(agent)).find(({ limit }) => limit === 'home')
    expect(await shown('acme/small/x')).toMatchObject({
      shown: '1MiB',
      setFor: expect.stringMatching(/^the bearer of card `\S+`$/),
    })
    await act('eve', { sql: 'select 1' })
    expect(await shown('acme/keeper/eve')).toMatchObject({ shown: '64MiB', setFor: 'the node' })
    expect((await t.kernel.replay('acme/small/x')).turns).toBe(2)
    // The default is larger.
    expect(await act('fay', { sql: 'create table t(a)' }, fill(7_000_000))).toMatchObject([{}, { ok: {} }])
  })

  it('stops a statement that wants more memory than a call may have, however many steps are left', async () => {
    t = await t.reopen({ limits: { sql: 1e12 } })
    const sorted = (n: number): Step =>
      rows(
        `with recursive n(i) as (select 1 union all select i + 1 from n limit ${n}) select length(z) l from (select zeroblob(8000000) z, i from n order by z, i) limit 1`,
      )
    expect(await act('gus', sorted(10), sorted(100), { sql: 'create table t(a)' })).toMatchObject([
      { ok: [{ l: 8_000_000 }] },
      { error: { errcode: 9 } },
      { ok: null },
    ])
    expect(await t.kernel.replay('acme/keeper/gus')).toMatchObject({ turns: 1 })
    t = await t.reopen({ limits: { sql: 5_000_000 } })
  })

  it('draws no rowid where a trigger that came later fills a full table', async () => {
    const full = { error: expect.objectContaining({ errcode: 13 }) }
    const said = await act(
      'gia',
      { sql: 'create table a(x); create table full(y)' },
      { sql: 'insert into full(rowid, y) values (9223372036854775807, 1)' },
      { sql: 'insert into a values (1)', how: 'run' },
      { sql: 'create trigger late after insert on a begin insert into full(y) values (new.x); end' },
      { sql: 'insert into a values (1)', how: 'run' },
      { sql: 'drop trigger late' },
      { sql: 'insert into a values (1)', how: 'run' },
    )
    expect(said.map((s) => s.error ?? null)).toEqual([null, null, null, null, full.error, null, null])
  })

  it('moves a long log into its file once its agent sleeps', async () => {
    await act('guy', { sql: 'create table t(a)' }, { sql: 'insert into t values (randomblob(2000000))' })
    expect(await t.kernel.suspend('acme/keeper/guy')).toBe(true)
    const size = async () =>
      ((await t.kernel.view.agent('acme/keeper/guy')) as { home: { bytes: number; walBytes: number } }).home
    await expect.poll(size).toMatchObject({ walBytes: 0 })
    expect((await size()).bytes).toBeGreaterThan(2_000_000)
    expect(await act('guy', rows('select length(a) l from t'))).toEqual([{ ok: [{ l: 2_000_000 }] }])
  })

  it('draws and tells time by the turn, so that a replay sees the same', async () => {
    const said = await act(
      'gil',
      rows(
        "select hex(randomblob(8)) b, abs(random()) % 1000 r, datetime('now') t, datetime('now', 'localtime') l",
      ),
      rows('select hex(randomblob(8)) b'),
    )
    const [[first], [second]] = said.map((s) => s.ok) as [[Record<string, string>], [Record<string, string>]]
    expect(first.b).toMatch(/^[0-9A-F]{16}$/)
    expect(first.b).not.toBe(second.b)
    expect(first.t).toBe(first.l)
    await t.kernel.replay('acme/keeper/gil')
  })

  it('finds the nearest of vectors in rows', async () => {
    const said = await act(
      'hal',
      { sql: 'create table v(id integer primary key, at blob)' },
      { sql: "insert into v(at) values (vec_f32('[1,0]')), (vec_f32('[0,1]')), (vec_f32('[0.8,0.6]'))" },
      rows("select id, round(vec_distance_cosine(at, '[1,0.1]'), 4) d from v order by d limit 2"),
      rows("select vec_distance_l2('[0,0]', '[3,4]') l, vec_to_json(vec_f32('[1,2.5]')) j"),
      rows("select vec_distance_l2('[0,0]', '[3]') l"),
    )
    expect(said.slice(2)).toEqual([
      {
        ok: [
          { id: 1, d: 0.005 },
          { id: 3, d: 0.1443 },
        ],
      },
      { ok: [{ l: 5, j: '[1,2.5]' }] },
      { error: expect.objectContaining({ message: 'vectors of 2 and 1 elements have no distance' }) },
    ])
  })

  it('is gone with the agent’s key when it is erased, and begins empty after a wipe', async () => {
    await act('ida', { sql: 'create table secret(a)' }, { sql: "insert into secret values ('canary-7d1f')" })
    await act('ivo', { sql: 'create table secret(a)' }, { sql: "insert into secret values ('canary-7d1f')" })
    for (const who of ['ida', 'ivo']) await t.kernel.suspend(`acme/keeper/${who}`)
    const found = () => filesWith(t.data, 'canary-7d1f')
    expect(found()).toHaveLength(2)
    await t.kernel.wipe('acme/keeper/ivo', 'operator')
    expect(found()).toHaveLength(1)
    expect(await act('ivo', rows('select count(*) n from sqlite_schema'))).toEqual([{ ok: [{ n: 0 }] }])
    await t.kernel.erase('acme/keeper/ida')
    expect(found()).toEqual([])
    await t.kernel.replay('acme/keeper/ivo')
  })
})

/** Files below a folder in which a text stands. */
function filesWith(folder: string, text: string): string[] {
  const names = fs.readdirSync(folder, { recursive: true, encoding: 'utf8' })
  const files = names.map((name) => path.join(folder, name)).filter((name) => fs.statSync(name).isFile())
  return files.filter((file) => fs.readFileSync(file).includes(text))
}

describe('an operator', () => {
  beforeAll(async () => {
    t = await openTestKernel([KEEPER], { limits: { sql: 5_000_000 } })
  })
  afterAll(() => t.close())

  it('reads a home, asleep or awake, by statements that cannot write, and it is on record', async () => {
    await act(
      'ann',
      { sql: 'create table t(a, b)' },
      { sql: "insert into t values (9007199254740993, x'00ff'), (0.5, null)" },
    )
    const read = (sql: string) => t.kernel.sql('acme/keeper/ann', sql, 'operator')
    expect(await t.kernel.suspend('acme/keeper/ann')).toBe(true)
    expect(await read('select * from t')).toEqual({
      columns: ['a', 'b'],
      rows: [
        ['9007199254740993', { hex: '00ff' }],
        [0.5, null],
      ],
      more: false,
    })
    for (const sql of [
      'delete from t',
      'create table u(a)',
      'select 1; delete from t',
      'begin',
      'select * from _cardinal_pair',
      "attach 'x' as y",
      'explain select 1',
      'pragma user_version = 5',
      'not SQL',
      '',
    ])
      await expect(read(sql), sql).rejects.toMatchObject({ class: 'Malformed', code: 'BadSql' })
    expect((await read('select count(*) n from t; -- all of it')).rows).toEqual([[2]])
    // What is set is set for this read alone.
    await read('pragma defer_foreign_keys = on')
    expect((await read('pragma defer_foreign_keys')).rows).toEqual([[0]])
    expect((await read('select count(*) n from t')).rows).toEqual([[2]])
    const history = await t.kernel.view.history('acme/keeper/ann')
    expect(history.at(-1)).toMatchObject({ kind: 'looked', detail: 'select count(*) n from t' })
    expect(await t.kernel.checkHome('acme/keeper/ann')).toMatchObject({ problems: [] })
    await t.kernel.replay('acme/keeper/ann')
    expect((await t.kernel.audit()).mismatches).toEqual([])
  })

  it('is stopped where a statement has no end, and the agent goes on', async () => {
    const endless = 'with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n'
    await expect(t.kernel.sql('acme/keeper/ann', endless, 'operator')).rejects.toMatchObject({
      code: 'BadSql',
    })
    expect(await act('ann', rows('select count(*) n from t'))).toEqual([{ ok: [{ n: 2 }] }])
    const some = await t.kernel.sql('acme/keeper/ann', endless.replace('max(i)', 'i'), 'operator', 5)
    expect(some).toEqual({ columns: ['i'], rows: [[1], [2], [3], [4], [5]], more: true })
  })

  it('is told of an agent that has stored nothing, and of one that was never born', async () => {
    await ask('bob', 'memory')
    await expect(t.kernel.sql('acme/keeper/bob', 'select 1', 'operator')).rejects.toMatchObject({
      message: 'the agent has stored nothing yet',
    })
    await expect(t.kernel.sql('acme/keeper/nobody', 'select 1', 'operator')).rejects.toMatchObject({
      code: 'NoSuchAgent',
    })
  })
})

describe('a home that is not as it was left', () => {
  const SQL = [{ sql: 'create table t(a)' }, { sql: 'insert into t values (1)' }]
  const count = rows('select count(*) n from t')
  const fileOf = (data: string) =>
    fs
      .readdirSync(path.join(data, 'homes'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.db'))
      .map((name) => path.join(data, 'homes', name))[0] as string

  /** An agent with a saved home, asleep, after `turns` more rows; the node is closed. */
  async function saved(turns: number, meddle: (file: string) => void): Promise<void> {
    t = await openTestKernel([KEEPER], { idleMs: 0 })
    await act('ann', ...SQL)
    for (let i = 0; i < turns; i++) await act('ann', { sql: 'insert into t values (2)' })
    await t.kernel.close()
    meddle(fileOf(t.data))
    t = await openTestKernel([], { idleMs: 0 }, t.data)
  }
  const check = async (n: number) => {
    expect(await act('ann', count)).toEqual([{ ok: [{ n }] }])
    expect(await ask('ann', 'memory')).toBe(n + 1)
    await t.kernel.replay('acme/keeper/ann')
    await t.close()
  }

  it('is made anew from the log without its write-ahead log, without its file, cut off, or full of noise', async () => {
    for (const meddle of [
      (file: string) => fs.rmSync(`${file}-wal`),
      (file: string) => fs.rmSync(file),
      (file: string) => {
        fs.rmSync(file)
        fs.rmSync(`${file}-wal`)
      },
      (file: string) => fs.truncateSync(file, 1000),
      (file: string) => fs.writeFileSync(file, Buffer.alloc(20_000, 7)),
      (file: string) => fs.writeFileSync(`${file}-wal`, Buffer.alloc(20_000, 7)),
    ]) {
      await saved(3, meddle)
      await check(4)
    }
  })

  it('is left alone while somebody else has it open, and the node goes on', async () => {
    await saved(1, () => {})
    const hold = `const db = new (require(process.argv[1]))(process.argv[2]); db.exec('begin exclusive'); console.log('held'); setTimeout(() => {}, 60_000)`
    const child = spawn(process.execPath, [
      '-e',
      hold,
      createRequire(import.meta.url).resolve('better-sqlite3'),
      fileOf(t.data),
    ])
    await once(child.stdout, 'data')
    await expect(act('ann', count)).rejects.toMatchObject({ class: 'Unavailable', code: 'HomeUnavailable' })
    expect(await act('bob', ...SQL)).toEqual([{ ok: null }, { ok: null }])
    child.kill('SIGKILL')
    await once(child, 'exit')
    await check(2)
  })

  it('75: is caught up from the log where an older one was put back', async () => {
    let older: Buffer[] = []
    await saved(1, (file) => {
      older = [file, `${file}-wal`].map((name) => fs.readFileSync(name))
    })
    for (let i = 0; i < 3; i++) await act('ann', { sql: 'insert into t values (3)' })
    await t.kernel.close()
    const file = fileOf(t.data)
    for (const [i, name] of [file, `${file}-wal`].entries()) fs.writeFileSync(name, older[i] as Buffer)
    t = await openTestKernel([], { idleMs: 0 }, t.data)
    await check(5)
  })

  it('75: is found out where it is of one moment and its memory of another', async () => {
    await saved(2, (file) => {
      // Rows that no turn has written, beside a pair that is right.
      const db = new Database(file)
      db.exec('insert into t values (4711)')
      db.close()
      // Whoever opens a home with another SQLite takes its log away.
      if (!fs.existsSync(`${file}-wal`)) fs.writeFileSync(`${file}-wal`, '')
    })
    // Nothing can tell until a turn of the record is repeated over it: it is not one of ours any more.
    const reply = await act('ann', count)
    expect(reply).toEqual([{ ok: [{ n: 4 }] }])
    await expect(t.kernel.replay('acme/keeper/ann')).rejects.toMatchObject({ class: 'Diverged' })
    await t.close()
  })

  it('is refused by name by a kernel with another SQLite, while there are turns to repeat, and taken once it was saved', async () => {
    t = await openTestKernel([KEEPER])
    await act('ann', ...SQL)
    await act('bob', ...SQL)
    expect(await t.kernel.suspend('acme/keeper/bob')).toBe(true)
    const crashed = await crashCopy(t, { runsOn: { sqlite: '9.99.9' } })
    const asked = crashed.call('acme/keeper/ann', 'do', { steps: [count] })
    await expect(asked).rejects.toMatchObject({
      code: 'OtherSqlite',
      message: expect.stringMatching(
        /ran on SQLite 3\..*; this is 9\.99\.9\. Start the kernel that wrote them/,
      ),
    })
    // The twin slept: its pair says everything, and nothing is repeated.
    expect(await crashed.call('acme/keeper/bob', 'do', { steps: [count] })).toMatchObject({ ok: true })
    await crashed.close()
    // Stopped in order, the first one has saved all.
    const after = await t.reopen({ runsOn: { sqlite: '9.99.9' } })
    expect(await after.call('acme/keeper/ann', 'do', { steps: [count] })).toEqual({
      ok: true,
      value: [{ ok: [{ n: 1 }] }],
    })
    await expect(after.kernel.replay('acme/keeper/ann')).rejects.toMatchObject({ code: 'OtherSqlite' })
    await after.close()
  })
})
