/**
 * Random SQL as programs write it, and as those write it who look for trouble: turns of some statements
 * each, repeated by their seed.
 */
import { Random } from '../rules/random.ts'

export interface Step {
  readonly sql: string
  readonly args?: readonly unknown[]
  /** `exec` if left out. */
  readonly how?: 'exec' | 'run' | 'get' | 'all' | 'iterate' | 'columns'
  readonly take?: number
  readonly big?: boolean
}

export type Turn = readonly Step[]

/** `agreeing`: nothing in which a home differs from plain SQLite by design. */
export type Kind = 'agreeing' | 'all'

const TABLES = ['t0', 't1', 't2', 'parent', 'child'] as const
const COLUMNS = ['a', 'b', 'c'] as const

/** The tables that every corpus begins with; turns change, drop and make some again. */
export const SETUP: Turn = [
  { sql: 'create table t0(a integer primary key, b, c text)', how: 'exec' },
  { sql: 'create table t1(a int unique, b real, c blob, check (b is null or b <> 13))', how: 'exec' },
  { sql: 'create table t2(a text primary key, b int not null default 7, c) without rowid', how: 'exec' },
  { sql: 'create table parent(a integer primary key, b text unique, c)', how: 'exec' },
  {
    sql: 'create table child(a integer primary key autoincrement, b references parent(a) deferrable initially deferred, c references parent(b) on delete cascade)',
    how: 'exec',
  },
  { sql: 'create virtual table f using fts5(a, b)', how: 'exec' },
  { sql: 'create virtual table r using rtree(id, x0, x1)', how: 'exec' },
  { sql: 'create table log(a integer primary key, b, c)', how: 'exec' },
  {
    sql: "create trigger logged after insert on t0 begin insert into log(b, c) values (new.a, 'in ' || coalesce(new.c, '')); end",
    how: 'exec',
  },
  {
    sql: "create trigger refused before update on t1 when new.a = 99 begin select raise(abort, 'ninety-nine'); end",
    how: 'exec',
  },
  { sql: 'create table drawn(a, b)', how: 'exec' },
  { sql: 'create view v as select t0.a, t1.b from t0 join t1 on t0.a = t1.a', how: 'exec' },
]

export class Corpus {
  readonly #random: Random
  readonly #kind: Kind

  constructor(seed: number, kind: Kind) {
    this.#random = new Random(seed)
    this.#kind = kind
  }

  turn(): Turn {
    const steps: Step[] = []
    const count = 1 + this.#random.below(6)
    for (let i = 0; i < count; i++) steps.push(this.#step())
    const open = this.#random.chance(15)
    if (open) {
      const at = this.#random.below(steps.length)
      steps.splice(at, 0, this.#begin())
      if (this.#kind === 'agreeing' || this.#random.chance(70)) steps.push(...this.#end())
    }
    return steps
  }

  #begin(): Step {
    const sql = this.#random.pick(['begin', 'begin immediate', 'savepoint s', 'BEGIN EXCLUSIVE TRANSACTION'])
    return { sql, how: 'exec' }
  }

  /** Ends whatever is open, whichever way it was begun. */
  #end(): Step[] {
    const sql = this.#random.pick(['commit', 'rollback', 'release s', 'end'])
    return [
      { sql, how: 'exec' },
      { sql: 'rollback', how: 'exec' },
    ]
  }

  #step(): Step {
    const r = this.#random
    const roll = r.below(100)
    if (this.#kind === 'all' && roll < 8) return this.#trouble()
    if (roll < 34) return this.#insert()
    if (roll < 46) return this.#change()
    if (roll < 52) return this.#schema()
    if (roll < 58) return this.#text()
    if (roll < 61) return this.#savepoint()
    return this.#select()
  }

  #value(): unknown {
    const r = this.#random
    return r.pick<() => unknown>([
      () => null,
      () => r.below(10),
      () => r.below(10),
      () => r.below(200) - 100,
      () => r.below(1000) / 8,
      () => r.pick(['', 'x', 'alpha beta', 'Zürich', '日本', "o'clock", '12', '1e3', '🙂 ok']),
      () => ({ $b: Array.from({ length: r.below(6) }, () => r.below(256)) }),
      () => ({ $i: r.pick(['0', '9007199254740993', '-4611686018427387904', '42']) }),
    ])()
  }

  #values(count: number): unknown[] {
    return Array.from({ length: count }, () => this.#value())
  }

  #insert(): Step {
    const r = this.#random
    const table = r.pick(TABLES)
    const or = r.pick(['', '', '', ' or ignore', ' or replace', ' or fail', ' or abort'])
    const rows = 1 + r.below(3)
    const marks = Array.from({ length: rows }, () => '(?, ?, ?)').join(', ')
    const upsert =
      or === '' && r.chance(15) && table !== 'child'
        ? r.pick([' on conflict do nothing', ' on conflict(a) do update set c = excluded.c'])
        : ''
    const returning = r.chance(20) ? r.pick([' returning a', ' returning *', ' returning a + 1 as n, c']) : ''
    const sql = `insert${or} into ${table}(a, b, c) values ${marks}${upsert}${returning}`
    const args = this.#values(rows * 3)
    // Keys that are no integers are told apart by how versions of SQLite undo what came before them.
    if (table !== 't1' && table !== 't2')
      for (let i = 0; i < args.length; i += 3) args[i] = r.pick([null, r.below(12), r.below(200) - 100])
    return { sql, args, how: returning ? 'all' : 'run' }
  }

  #change(): Step {
    const r = this.#random
    const table = r.pick(TABLES)
    const column = r.pick(COLUMNS)
    return r.pick<() => Step>([
      () => ({
        sql: `update ${table} set ${column} = ? where ${r.pick(COLUMNS)} = ?`,
        args: this.#values(2),
        how: 'run',
      }),
      () => ({
        sql: `update or ignore ${table} set a = a + ? where b > ?`,
        args: [r.below(3), r.below(100)],
        how: 'run',
      }),
      () => ({ sql: `delete from ${table} where ${column} = ?`, args: this.#values(1), how: 'run' }),
      () => ({
        sql: `delete from ${table} where rowid in (select rowid from ${table} limit ${r.below(3)})`,
        how: 'run',
      }),
      () => ({ sql: `delete from ${r.pick(['log', table])}`, how: 'run' }),
      () => ({ sql: `insert into ${table} select a, b, c from ${r.pick(TABLES)}`, how: 'run' }),
      () => ({
        sql: `with recursive n(i) as (select ${r.below(50)} union all select i + 1 from n limit ${r.below(40)}) insert or ignore into ${table}(a, b, c) select i, i * 2, 'n' || i from n`,
        how: 'run',
      }),
    ])()
  }

  #schema(): Step {
    const r = this.#random
    const sql = r.pick([
      `create index if not exists i${r.below(4)} on ${r.pick(TABLES)}(${r.pick(COLUMNS)})`,
      `drop index if exists i${r.below(4)}`,
      `alter table t${r.below(3)} add column d${r.below(3)} default ${r.below(9)}`,
      `alter table t${r.below(3)} drop column d${r.below(3)}`,
      'alter table t0 rename to t9; alter table t9 rename to t0',
      'create table if not exists u(a, b); insert into u values (1, 2); drop table u',
      'analyze',
      'reindex',
      `create view if not exists w${r.below(2)} as select count(*) n from ${r.pick(TABLES)}`,
      `drop view if exists w${r.below(2)}`,
      `pragma user_version = ${r.below(100)}`,
      'create table t0(a)',
      'select * from nobody',
      'not even SQL',
    ])
    return { sql, how: 'exec' }
  }

  #text(): Step {
    const r = this.#random
    const word = () => r.pick(['red', 'green', 'blue', 'river', 'bank', 'run', 'running'])
    return r.pick<() => Step>([
      () => ({
        sql: 'insert into f(rowid, a, b) values (?, ?, ?)',
        args: [1 + r.below(40), `${word()} ${word()} ${word()}`, word()],
        how: 'run',
      }),
      () => ({
        sql: 'insert into f(a, b) values (?, ?)',
        args: [`${word()} ${word()}`, `${word()} ${word()}`],
        how: 'run',
      }),
      () => ({ sql: 'delete from f where rowid = ?', args: [1 + r.below(40)], how: 'run' }),
      () => ({ sql: 'update f set b = ? where f match ?', args: [word(), word()], how: 'run' }),
      () => ({
        sql: "select rowid, highlight(f, 0, '<', '>') h, round(bm25(f), 6) s from f where f match ? order by rank",
        args: [
          r.pick([word(), `${word()} OR ${word()}`, `"${word()} ${word()}"`, `a:${word()}`, 'run*', 'NOT']),
        ],
        how: 'all',
      }),
      () => ({ sql: "insert into f(f) values ('optimize')", how: 'run' }),
      () => ({
        sql: 'insert or replace into r values (?, ?, ?)',
        args: [r.below(30), r.below(50), 50 + r.below(50)],
        how: 'run',
      }),
      () => ({
        sql: 'select * from r where x0 > ? and x1 < ?',
        args: [r.below(40), 60 + r.below(40)],
        how: 'all',
      }),
      () => ({ sql: 'delete from r where id = ?', args: [r.below(30)], how: 'run' }),
    ])()
  }

  #savepoint(): Step {
    const sql = this.#random.pick([
      'savepoint s; insert into log(b) values (1); rollback to s; release s',
      'savepoint one; savepoint two; delete from log; release two; rollback to one; release one',
      'begin; insert into log(b) values (2); commit',
      'begin; insert into child(b) values (4711); commit',
      'rollback',
      'commit',
      'release nobody',
      'begin; begin',
      'rollback',
    ])
    return { sql, how: 'exec' }
  }

  #select(): Step {
    const r = this.#random
    const table = r.pick([...TABLES, 'log'])
    const column = r.pick(COLUMNS)
    const sql = r.pick([
      `select * from ${table}`,
      `select ${column}, typeof(${column}) t from ${table} order by ${r.pick(COLUMNS)}, rowid`,
      `select count(*) n, sum(${column}) s, avg(b) v, min(a) lo, max(c) hi, total(a) x from ${table}`,
      `select a, row_number() over (order by b, a) n, sum(a) over (partition by typeof(b)) s from ${table} order by a`,
      `select * from v order by a limit ${r.below(5)}`,
      `select p.*, c.a ca from parent p left join child c on c.b = p.a order by p.a, ca`,
      "select json_group_array(json_object('a', a, 'b', hex(b))) j from t1",
      `select * from json_each('[1,"x",null,{"y":2.5}]')`,
      `select group_concat(coalesce(c, '-'), ',') g from (select c from ${table} order by a)`,
      'with recursive n(i) as (select 1 union all select i * 2 from n where i < 5000) select i, i % 7 m from n',
      'select changes() c, last_insert_rowid() r',
      `select abs(-${r.below(99)}), round(2.5), upper('é'), printf('%.3f', ${r.below(99)} / 7.0), substr('Zürich', 2, 3) s, instr('abcabc', 'ca') i, replace('aXbX', 'X', '::') p, trim('  x ') || ltrim('xxy', 'x') l`,
      "select name, type from sqlite_master where name not like 'sqlite_%' order by name",
      `select sql from sqlite_schema where name = '${table}'`,
      `pragma table_info(${table})`,
      `pragma foreign_key_list(child)`,
      `select * from pragma_table_xinfo('${table}')`,
      'pragma user_version',
      `select a from ${table} union select b from ${r.pick(TABLES)} order by 1`,
      `select * from ${table} where ${column} = ?1 or ${column} > ?1 order by 1, 2, 3`,
      `select 9007199254740993 as n`,
      `select 1 as x, 2 as x`,
      `select sqlite_version() is not null v, coalesce(null, 5) five, iif(1, 'y', 'n') y, x'00ff' b, 1.0 one, 1e999 inf, -0.0 z`,
      'select seq from sqlite_sequence',
      'select ?',
    ])
    const marks = sql.includes('?') ? [this.#value()] : []
    const how = r.pick(['all', 'all', 'get', 'iterate'] as const)
    return {
      sql,
      how,
      ...(marks.length > 0 && { args: marks }),
      ...(how === 'iterate' && r.chance(50) && { take: r.below(5) }),
      ...(r.chance(20) && { big: true }),
    }
  }

  /** What a home answers otherwise than plain SQLite, by design. */
  #trouble(): Step {
    const r = this.#random
    const exec = (sql: string): Step => ({ sql, how: 'exec' })
    const all = (sql: string): Step => ({ sql, how: 'all' })
    return r.pick<() => Step>([
      () => exec('insert or rollback into t1(a) values (1), (1)'),
      () =>
        exec(
          "create trigger if not exists back before insert on t2 when new.a = 'back' begin select raise(rollback, 'back'); end",
        ),
      () => exec("insert into t2(a) values ('back')"),
      () => exec('create temp table x(a)'),
      () => exec("attach 'other.db' as other"),
      () => exec("vacuum into 'other.db'"),
      () => exec('begin; insert into child(b) values (4711)'),
      () => exec('savepoint left'),
      () => exec('pragma defer_foreign_keys = on'),
      () => exec('begin; pragma defer_foreign_keys = on; insert into child(c) values (9000); commit'),
      // Draws and moments are those of the turn, and so differ between two agents: replay compares them.
      () =>
        all('select typeof(random()) r, length(randomblob(4)) b, count(*) n from (select random() from t0)'),
      () => exec('insert into drawn values (random(), randomblob(6))'),
      () => all('select count(*) n, count(distinct a) d from drawn'),
      () =>
        all("select datetime('now') = datetime('now', 'localtime') u, datetime('now') = current_timestamp c"),
      () => all('with recursive n(i) as (select 1 union all select i + 1 from n) select i from n'),
      () => all('with recursive n(i) as (select 1 union all select i + 1 from n) select sum(i) from n'),
      () =>
        exec(
          'with recursive n(i) as (select 1 union all select i + 1 from n) insert into log(b) select i from n',
        ),
      () => ({ sql: 'insert into log(b) values (zeroblob(500000))', how: 'run' }),
      () => ({ sql: 'insert into t0(a) values (9223372036854775807)', how: 'run' }),
      () => ({ sql: 'insert into t0(b) values (1)', how: 'run' }),
      () => all('explain select 1'),
      () => all('explain query plan select * from t0 where a = 1'),
      () => all('select * from _cardinal_pair'),
      () => all('select rootpage from sqlite_master'),
      () => all('pragma page_count'),
      () => exec('pragma journal_mode = delete'),
      () => exec('update sqlite_sequence set seq = 9223372036854775806'),
      () => all('select * from f_data'),
      () => all('select zeroblob(1000000000)'),
    ])()
  }
}
