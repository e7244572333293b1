/** The same steps in plain SQLite, by Node's own binding: what a home should answer. */
import { DatabaseSync } from 'node:sqlite'
import { act } from './act.ts'
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

  act(step: Step): unknown {
    return act(this.#db, step)
  }

  close(): void {
    this.#db.close()
  }
}
