/** What modules of the SDK ask of the home for themselves: rows, and changes that happen whole or not at all. */
import { HomeError, type HomeValue, home } from './home.ts'

const ALL_ROWS = 2 ** 31 - 1
const SQLITE_ERROR = 1

/** Names of columns are told once. */
const stamps = new Map<string, number>()

/** All rows of a query; integers as the nearest numbers. */
export function rows(sql: string, ...values: HomeValue[]): HomeValue[][] {
  const fetched = home.fetch(sql, values, ALL_ROWS, stamps.get(sql) ?? 0, 'nearest')
  if (fetched.columns) stamps.set(sql, fetched.stamp)
  return fetched.rows
}

/** The same of tables that are made when something is first stored: until then there are no rows. */
export function rowsIfAny(sql: string, ...values: HomeValue[]): HomeValue[][] {
  try {
    return rows(sql, ...values)
  } catch (error) {
    if (!isMissingTable(error)) throw error
    return []
  }
}

export function isMissingTable(error: unknown): boolean {
  return error instanceof HomeError && error.errcode === SQLITE_ERROR && /no such table/.test(error.message)
}

/** Does `act` as one change, within whatever transaction the program has open. */
export function atomically<T>(act: () => T): T {
  home.exec('savepoint cardinal_change')
  try {
    const done = act()
    home.exec('release cardinal_change')
    return done
  } catch (error) {
    home.exec('rollback to cardinal_change; release cardinal_change')
    throw error
  }
}
