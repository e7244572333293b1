import { DatabaseSync } from 'node:sqlite'
import { Agent } from '@cardinal/sdk'

const db = new DatabaseSync('words.db')
db.exec(
  'create virtual table f using fts5(a); create table t(a primary key, b references t(a)); insert into f values (1)',
)

/** Does something else in the middle of going through a full-text index. */
export default class Iterating extends Agent {
  static methods = { midway: {} }

  midway({ sql }: { sql: string }) {
    db.exec(`delete from f;
      with recursive n(i) as (select 1 union all select i + 1 from n limit 3000) insert into f(a) select 'word ' || i from n`)
    const seen: unknown[] = []
    try {
      for (const row of db.prepare("select a from f('word')").iterate()) {
        if (seen.push(row) === 1) db.prepare(sql).all()
      }
      return { seen: seen.length }
    } catch (error) {
      return { seen: seen.length, error: (error as Error).message }
    }
  }
}
