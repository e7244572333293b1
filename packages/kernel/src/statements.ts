/** Prepared statements of one database, each prepared at its first use. */
import type Database from 'better-sqlite3'

export class Statements {
  readonly #db: Database.Database
  readonly #known = new Map<string, Database.Statement>()

  constructor(db: Database.Database) {
    this.#db = db
  }

  get(sql: string, ...values: unknown[]): unknown {
    return this.#prepare(sql).get(...values)
  }

  all(sql: string, ...values: unknown[]): unknown[] {
    return this.#prepare(sql).all(...values)
  }

  each(sql: string, ...values: unknown[]): IterableIterator<unknown> {
    return this.#prepare(sql).iterate(...values)
  }

  run(sql: string, ...values: unknown[]): void {
    this.#prepare(sql).run(...values)
  }

  #prepare(sql: string): Database.Statement {
    const known = this.#known.get(sql)
    if (known) return known
    const made = this.#db.prepare(sql)
    this.#known.set(sql, made)
    return made
  }
}
