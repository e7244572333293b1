/** Rows of one statement, as many at a time as are wanted. The names of its columns are told once. */
import type { HomeValue, Integers } from '../guest/home.ts'
import { agentHome } from './host-home.ts'

const FIRST_ROWS = 64
const MORE_ROWS = 1024
const ALL_ROWS = 2 ** 31 - 1

export class Reading {
  columns: readonly string[] = []
  readonly #sql: string
  /** Runs something; what SQLite says becomes an error as the caller's module has it. */
  readonly #translated: <T>(act: () => T) => T
  #stamp = 0

  constructor(sql: string, translated: <T>(act: () => T) => T) {
    this.#sql = sql
    this.#translated = translated
  }

  #fetch(values: readonly HomeValue[], max: number, integers: Integers) {
    const fetched = this.#translated(() => agentHome.fetch(this.#sql, values, max, this.#stamp, integers))
    if (fetched.columns) this.columns = fetched.columns
    this.#stamp = fetched.stamp
    return fetched
  }

  all(values: readonly HomeValue[], integers: Integers): HomeValue[][] {
    return this.#fetch(values, ALL_ROWS, integers).rows
  }

  first(values: readonly HomeValue[], integers: Integers): HomeValue[] | undefined {
    return this.#fetch(values, 1, integers).rows[0]
  }

  /** The first rows are read at once, the rest while they are taken; who stops gives the rest back. */
  some(values: readonly HomeValue[], integers: Integers): Generator<HomeValue[], undefined> {
    const { rows, cursor } = this.#fetch(values, FIRST_ROWS, integers)
    return this.#rest(rows, cursor, integers)
  }

  *#rest(first: HomeValue[][], cursor: number, integers: Integers): Generator<HomeValue[], undefined> {
    let [rows, open] = [first, cursor !== 0]
    try {
      for (;;) {
        yield* rows
        if (!open) return
        const next = this.#translated(() => agentHome.next(cursor, MORE_ROWS, integers))
        rows = next.rows
        open = next.more
      }
    } finally {
      if (open) agentHome.close(cursor)
    }
  }
}
