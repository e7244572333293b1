/** Attacks 51 to 57 and 72: SQL of a guest that looks for a way out of its home. Each has a twin that is allowed. */
import fs from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openTestKernel, programFile, type TestKernel } from '../support/kernel.ts'

const KEEPER = { name: 'keeper', file: programFile('keeper.ts'), now: [] }
type Said = { ok?: unknown; error?: { message: string; errcode?: number } }

let t: TestKernel
const other = () => path.join(t.data, 'other.db')

/** Each statement as a turn of its own: one that fails its turn says so by its code. */
async function say(sql: string, how: 'exec' | 'all' = 'exec', who = 'mallory'): Promise<Said | string> {
  const reply = await t.call(`acme/keeper/${who}`, 'do', { steps: [{ sql, how }] })
  return reply.ok ? ((reply.value as Said[])[0] as Said) : reply.error.code
}

const DENIED = { error: expect.objectContaining({ code: 'ERR_SQLITE_ERROR' }) }

/** Everything below the data folder but the log, keys and homes themselves: nothing may appear there. */
function strangers(): string[] {
  return fs
    .readdirSync(t.data, { recursive: true, encoding: 'utf8' })
    .filter((name) => fs.statSync(path.join(t.data, name)).isFile())
    .filter(
      (name) =>
        !/^(log|keys|images|cache|homes\/[0-9a-f]{2})\/|^(derived\.db|saves\.db|lock|token|head)/.test(name),
    )
}

describe('SQL of a guest', () => {
  beforeAll(async () => {
    t = await openTestKernel([KEEPER], { limits: { sql: 5_000_000 } })
    await say('create table t(a); insert into t values (1), (2)')
    await say("create table t(a); insert into t values ('private')", 'exec', 'victim')
    await t.kernel.suspend('acme/keeper/victim')
  })
  afterAll(() => t.close())

  it('51: attaches no other file, nor another agent’s', async () => {
    const homes = fs.readdirSync(path.join(t.data, 'homes'), { recursive: true, encoding: 'utf8' })
    const victim = path.join(t.data, 'homes', homes.find((name) => name.endsWith('.db')) as string)
    for (const sql of [
      `attach '${victim}' as v`,
      `attach '${other()}' as v`,
      "attach ':memory:' as v",
      "attach '' as v",
      `attach 'file:${victim}?mode=ro' as v`,
      'detach main',
    ])
      expect(await say(sql), sql).toEqual(DENIED)
    expect(await say('select count(*) n from t', 'all')).toEqual({ ok: [{ n: 2 }] })
  })

  it('52: vacuums into no path', async () => {
    for (const sql of [`vacuum into '${other()}'`, `vacuum main into '${other()}'`, 'vacuum'])
      expect(await say(sql), sql).toEqual(DENIED)
    expect(strangers()).toEqual([])
  })

  it('53: loads no extension', async () => {
    for (const sql of [
      "select load_extension('x')",
      "select load_extension('x', 'y')",
      "select fts3_tokenizer('simple')",
    ])
      expect(await say(sql, 'all'), sql).toEqual(DENIED)
    expect(await say("select upper('x') u", 'all')).toEqual({ ok: [{ u: 'X' }] })
  })

  it('54: changes no setting of the connection or of pages', async () => {
    for (const pragma of [
      'writable_schema = on',
      'journal_mode = delete',
      'journal_mode = off',
      'synchronous = off',
      "temp_store_directory = '/tmp'",
      "data_store_directory = '/tmp'",
      'trusted_schema = on',
      'mmap_size = 1000000',
      'locking_mode = normal',
      'page_size = 512',
      'page_count',
      'max_page_count = 1000000',
      'wal_checkpoint',
      'foreign_keys = off',
      'recursive_triggers = on',
      'cache_size = 1',
      'secure_delete = off',
      'database_list',
      'table_list',
      'compile_options',
      'integrity_check',
      'incremental_vacuum',
      "key = 'x'",
      'schema_version = 1',
      'legacy_file_format',
      'data_version',
    ])
      expect(await say(`pragma ${pragma}`), pragma).toEqual(DENIED)
    expect(await say('select * from pragma_database_list', 'all')).toEqual(DENIED)
    expect(await say('pragma journal_mode = wal', 'all')).toEqual({ ok: [{ journal_mode: 'wal' }] })
    expect(await say('pragma foreign_keys', 'all')).toEqual({ ok: [{ foreign_keys: 1 }] })
    expect(await say('pragma table_info(t)', 'all')).toMatchObject({ ok: [{ name: 'a' }] })
  })

  it('55: takes no more processor, memory or depth than it may, and the process lives', async () => {
    const endless = 'with recursive n(i) as (select 1 union all select i + 1 from n)'
    expect(await say(`${endless} select count(*) from n`, 'all')).toMatchObject({ error: { errcode: 9 } })
    expect(await say(`${endless} insert into t select i from n`)).toBe('SqlSteps')
    expect(await say('select zeroblob(1000000000)', 'all')).toMatchObject({ error: { errcode: 18 } })
    expect(await say(`select ${'('.repeat(5000)}1${')'.repeat(5000)}`, 'all')).toEqual(DENIED)
    expect(await say(`select 'x' like '${'%a'.repeat(5000)}'`, 'all')).toEqual(DENIED)
    expect(await say(`select 1 ${'union select 1 '.repeat(500)}`, 'all')).toEqual(DENIED)
    const long = "replace(hex(zeroblob(1000000)), '0', 'ab')"
    // Quadratic in plain SQLite: 16 million million comparisons.
    expect(await say(`select instr(${long}, substr(${long}, 1, 2000001) || 'c') i`, 'all')).toEqual({
      ok: [{ i: 0 }],
    })
    expect(await say("select unhex('00', ' ')", 'all')).toEqual(DENIED)
    expect(await say("select hex(unhex('00ff')) h", 'all')).toEqual({ ok: [{ h: '00FF' }] })
    const sorted = `${endless} select randomblob(100000) b from n order by b limit 1`
    expect(await say(sorted, 'all')).toMatchObject({ error: { errcode: 9 } })
    expect(await say('select count(*) n from t', 'all')).toEqual({ ok: [{ n: 2 }] })
    expect(await say('select a from t', 'all', 'victim')).toEqual({ ok: [{ a: 'private' }] })
    await t.kernel.replay('acme/keeper/mallory')
  })

  it('56: plants no view or trigger on what is the kernel’s, and edits no schema', async () => {
    for (const sql of [
      'select * from _cardinal_pair',
      'select * from _CARDINAL_PAIR',
      'select * from "_cardinal_pair"',
      'create view v as select * from _cardinal_pair',
      'create trigger x after insert on _cardinal_pair begin select 1; end',
      'create table x(a references _cardinal_pair(id) on delete cascade)',
      'create table _cardinal_x(a)',
      'alter table t rename to _cardinal_t',
      'alter table _cardinal_pair rename to mine',
      'drop table _cardinal_pair',
      'drop view _cardinal_schema',
      "create virtual table x using fts5(a, content='_cardinal_pair')",
      'create temp trigger x after insert on t begin select 1; end',
      'create temp view x as select 1',
      'create temp table x(a)',
      "insert into sqlite_master(type) values ('table')",
      'update sqlite_schema set sql = null',
      'delete from sqlite_master',
      "select * from pragma_table_info('_card' || 'inal_pair')",
      "select * from pragma_index_list('_cardinal_pair')",
      'select * from sqlite_temp_master',
      'select * from dbstat',
      'select * from sqlite_dbpage',
      'create virtual table x using sqlite_dbpage',
      'reindex _cardinal_pair',
      'savepoint _cardinal_call',
      'release _cardinal_call',
      'rollback to _cardinal_transaction',
    ])
      expect(await say(sql), sql).toEqual(DENIED)
    expect(await say('select name, rootpage from sqlite_schema', 'all')).toEqual({
      ok: [{ name: 't', rootpage: 0 }],
    })
    expect(await say('create view v as select a from t; drop view v')).toEqual({ ok: null })
    // A view of an innocent name, made before and swapped for another afterwards, is decided again.
    expect(await say("select '_card' || 'inal' x", 'all')).toMatchObject({ ok: [{ x: '_cardinal' }] })
  })

  it('57: hides nothing in comments or behind a second statement', async () => {
    for (const sql of [
      `/**/attach/**/'${other()}'/**/as v`,
      `select 1; attach '${other()}' as v`,
      `-- harmless\nattach '${other()}' as v`,
      'select 1; pragma writable_schema = on',
      'explain select 1',
      "explain attach 'x' as y",
    ])
      expect(await say(sql), sql).toEqual(DENIED)
    expect(await say('select 1; /* ; */ select 2 -- ;')).toEqual({ ok: null })
    expect(strangers()).toEqual([])
  })

  it('ends no more than itself: what would end the kernel’s transaction fails the turn', async () => {
    await say('create table u(a unique); insert into u values (1)')
    expect(await say('insert or rollback into u values (1)')).toBe('TransactionLost')
    await say("create trigger x before insert on u when new.a = 7 begin select raise(rollback, 'no'); end")
    expect(await say('insert into u values (7)')).toBe('TransactionLost')
    expect(await say('insert or abort into u values (1)')).toMatchObject({ error: { errcode: 2067 } })
    expect(await say('select a from u', 'all')).toEqual({ ok: [{ a: 1 }] })
  })
})
