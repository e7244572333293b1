/** What the bench asks of a home. */

import { DatabaseSync } from 'node:sqlite'
import { Agent } from '@cardinal/sdk'

const db = new DatabaseSync('bench.db')
db.exec(
  'create table rows(id integer primary key, at integer, who text, value real); create table fill(bytes blob)',
)
const insert = db.prepare('insert into rows(at, who, value) values (?, ?, ?)')
const one = db.prepare('select value from rows where id = ?')
const fill = db.prepare('insert into fill values (randomblob(?))')

export default class Home extends Agent {
  static methods = { none: {}, insert: {}, read: {}, fill: {} }
  calls = 0

  /** Touches memory only. */
  none() {
    return ++this.calls
  }

  insert({ count }: { count: number }) {
    for (let i = 0; i < count; i++) insert.run(i, 'somebody', i / 7)
    return ++this.calls
  }

  /** `of` rows are there. */
  read({ count, of }: { count: number; of: number }) {
    let sum = 0
    for (let i = 0; i < count; i++) sum += (one.get(1 + ((i * 7919) % of)) as { value: number }).value
    return sum
  }

  fill({ bytes }: { bytes: number }) {
    for (let left = bytes; left > 0; left -= 1_000_000) fill.run(Math.min(left, 1_000_000))
    return ++this.calls
  }
}
