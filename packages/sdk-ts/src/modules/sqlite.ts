/**
 * `node:sqlite` in an agent: the same classes over the agent's home, which is one consistent cut with
 * its memory and files. What is not there throws and says so: user functions, sessions, extensions,
 * backup. See `docs/home.md`.
 *
 * @example
 * import { DatabaseSync } from 'node:sqlite'
 * const db = new DatabaseSync('home.db')
 * db.exec('create table if not exists paid(id integer primary key, amount text)')
 * db.prepare('insert into paid(amount) values(?)').run('12.50')
 */
import type { HomeValue, Integers, StatementAbout } from '../guest/home.ts'
import { asBound, plainCount } from './bind.ts'
import { agentHome, SqlFailure } from './host-home.ts'
import { openByName } from './one-database.ts'
import { Reading } from './reading.ts'
import { codeText } from './sql-codes.ts'

interface CodedError extends Error {
  code?: string
  errcode?: number
  errstr?: string
}

function coded(error: CodedError, code: string): CodedError {
  error.code = code
  return error
}

const invalidType = (text: string) => coded(new TypeError(text), 'ERR_INVALID_ARG_TYPE')
const invalidState = (text: string) => coded(new Error(text), 'ERR_INVALID_STATE')
const missing = (what: string) =>
  coded(new Error(`${what} is not there in an agent; see docs/home.md`), 'ERR_FEATURE_UNAVAILABLE')

/** Runs `act`; what SQLite says becomes an error as Node has it. */
function translated<T>(act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw asNodeError(error)
  }
}

function asNodeError(error: unknown): unknown {
  if (!(error instanceof SqlFailure)) return error
  if (error.message.startsWith('Value is too large to be represented'))
    return coded(new RangeError(error.message), 'ERR_OUT_OF_RANGE')
  const made: CodedError = new Error(error.message)
  made.errcode = error.errcode
  made.errstr = codeText(error.errcode)
  return coded(made, 'ERR_SQLITE_ERROR')
}

const MIN_INTEGER = -(2n ** 63n)
const MAX_INTEGER = 2n ** 63n - 1n

function toValue(value: unknown, at: string): HomeValue {
  if (value === null || typeof value === 'number' || typeof value === 'string') return value
  if (typeof value === 'bigint') {
    if (value < MIN_INTEGER || value > MAX_INTEGER)
      throw coded(new TypeError(`BigInt value is too large to bind.`), 'ERR_INVALID_ARG_VALUE')
    return value
  }
  if (ArrayBuffer.isView(value))
    return value instanceof Uint8Array
      ? value
      : new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  throw invalidType(`Provided value cannot be bound to SQLite parameter ${at}.`)
}

export interface DatabaseSyncOptions {
  readonly open?: boolean
  readonly readOnly?: boolean
  readonly enableForeignKeyConstraints?: boolean
  readonly enableDoubleQuotedStringLiterals?: boolean
  readonly allowExtension?: boolean
  readonly timeout?: number
  readonly readBigInts?: boolean
  readonly returnArrays?: boolean
  readonly allowBareNamedParameters?: boolean
  readonly allowUnknownNamedParameters?: boolean
  readonly defensive?: boolean
}

type StatementOptions = Pick<
  DatabaseSyncOptions,
  'readBigInts' | 'returnArrays' | 'allowBareNamedParameters' | 'allowUnknownNamedParameters'
>

const READS = /^(?:\s|;|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)*(select|values|with|explain|pragma)\b/i

/** The agent's home as a database. Opened by one name; closing it closes this object, not the home. */
export class DatabaseSync {
  readonly #name: string
  readonly #options: DatabaseSyncOptions
  #open = false

  constructor(path: string | URL | Uint8Array, options: DatabaseSyncOptions = {}) {
    if (
      path === undefined ||
      (typeof path !== 'string' && !(path instanceof URL) && !ArrayBuffer.isView(path))
    )
      throw invalidType('The "path" argument must be a string, Uint8Array, or URL without null bytes.')
    if (typeof options !== 'object' || options === null)
      throw invalidType('The "options" argument must be an object.')
    if (options.enableForeignKeyConstraints === false) throw missing('a database without foreign keys')
    if (options.enableDoubleQuotedStringLiterals) throw missing('"text" in double quotes')
    if (options.allowExtension) throw missing('loading an extension')
    this.#name = String(ArrayBuffer.isView(path) ? new TextDecoder().decode(path) : path)
    this.#options = options
    if (options.open !== false) this.open()
  }

  open(): void {
    if (this.#open) throw invalidState('database is already open')
    openByName(this.#name)
    this.#open = true
  }

  close(): void {
    this.#require()
    this.#open = false
  }

  [Symbol.dispose](): void {
    this.#open = false
  }

  get isOpen(): boolean {
    return this.#open
  }

  get isTransaction(): boolean {
    this.#require()
    return agentHome.inTransaction
  }

  location(): string | null {
    this.#require()
    return this.#name
  }

  exec(sql: string): void {
    this.#require()
    if (typeof sql !== 'string') throw invalidType('The "sql" argument must be a string.')
    if (this.#options.readOnly && !READS.test(sql)) throw translatedReadonly()
    translated(() => agentHome.exec(sql))
  }

  prepare(sql: string, options: StatementOptions = {}): StatementSync {
    this.#require()
    if (typeof sql !== 'string') throw invalidType('The "sql" argument must be a string.')
    const about = translated(() => agentHome.about(sql))
    const isOpen = () => this.#open
    return new StatementSync(KEY, sql, about, { ...this.#options, ...options }, isOpen)
  }

  function(): never {
    throw missing('a function of your own in SQL')
  }

  aggregate(): never {
    throw missing('an aggregate of your own in SQL')
  }

  createSession(): never {
    throw missing('a session')
  }

  applyChangeset(): never {
    throw missing('a changeset')
  }

  enableLoadExtension(allow: boolean): void {
    if (allow) throw missing('loading an extension')
  }

  loadExtension(): never {
    throw missing('loading an extension')
  }

  setAuthorizer(): never {
    throw missing('an authorizer of your own')
  }

  #require(): void {
    if (!this.#open) throw invalidState('database is not open')
  }
}

function translatedReadonly(): CodedError {
  const error: CodedError = new Error('attempt to write a readonly database')
  error.errcode = 8
  error.errstr = codeText(8)
  return coded(error, 'ERR_SQLITE_ERROR')
}

const KEY = Symbol('only a database makes statements')

type Bound = readonly unknown[]
type Named = Readonly<Record<string, unknown>>
export type SqlRow = Record<string, HomeValue>

export class StatementSync {
  readonly #sql: string
  readonly #options: DatabaseSyncOptions
  readonly #isOpen: () => boolean
  readonly #reading: Reading
  #about: StatementAbout | undefined
  #plain = -1
  #bigints: boolean
  #arrays: boolean
  #bare: boolean
  #unknown: boolean
  #last: readonly HomeValue[] = []

  constructor(
    key: symbol,
    sql: string,
    about: StatementAbout | undefined,
    options: DatabaseSyncOptions,
    isOpen: () => boolean,
  ) {
    if (key !== KEY) throw coded(new TypeError('Illegal constructor'), 'ERR_ILLEGAL_CONSTRUCTOR')
    this.#sql = sql
    this.#options = options
    this.#isOpen = isOpen
    this.#reading = new Reading(sql, translated)
    this.#bigints = options.readBigInts ?? false
    this.#arrays = options.returnArrays ?? false
    this.#bare = options.allowBareNamedParameters ?? true
    this.#unknown = options.allowUnknownNamedParameters ?? false
    this.#learn(about)
  }

  #learn(about: StatementAbout | undefined): void {
    this.#about = about
    this.#plain = about ? plainCount(about.parameters) : -1
  }

  /** A statement that was prepared while the image was built is looked at when it is first used. */
  #known(): StatementAbout {
    if (!this.#isOpen()) throw invalidState('statement has been finalized')
    if (!this.#about) this.#learn(translated(() => agentHome.about(this.#sql)))
    if (!this.#about) throw invalidState('an agent has no home while its image is built')
    if (this.#options.readOnly && !this.#about.readonly) throw translatedReadonly()
    return this.#about
  }

  #bind(given: Bound): HomeValue[] {
    const { parameters } = this.#known()
    const plain = asBound(given, this.#plain)
    if (plain) {
      this.#last = plain
      return plain
    }
    const values: HomeValue[] = new Array(parameters.length).fill(null)
    let from = 0
    const [first] = given
    if (typeof first === 'object' && first !== null && !ArrayBuffer.isView(first)) {
      this.#bindNamed(first as Named, parameters, values)
      from = 1
    }
    let at = 0
    for (let i = from; i < given.length; i++) {
      while (at < parameters.length && !isPlain(parameters[at] as string)) at++
      const value = toValue(given[i], String(at + 1))
      if (at >= parameters.length)
        translated(() => {
          throw new SqlFailure(25, 'column index out of range')
        })
      values[at++] = value
    }
    this.#last = values
    return values
  }

  #bindNamed(named: Named, parameters: readonly string[], values: HomeValue[]): void {
    for (const name of Object.keys(named)) {
      let found = parameters.indexOf(name)
      if (found < 0 && this.#bare) {
        const alike = parameters.filter((p) => p.slice(1) === name && !p.startsWith('?'))
        if (alike.length > 1)
          throw invalidState(
            `Cannot create bare named parameter '${name}' because of conflicting names '${alike[0]}' and '${alike[1]}'.`,
          )
        if (alike[0] !== undefined) found = parameters.indexOf(alike[0])
      }
      if (found < 0) {
        if (this.#unknown) continue
        throw invalidState(`Unknown named parameter '${name}'`)
      }
      values[found] = toValue(named[name], String(found + 1))
    }
  }

  get #integers(): Integers {
    return this.#bigints ? 'bigint' : 'strict'
  }

  #shape(row: HomeValue[], columns: readonly string[]): SqlRow {
    if (this.#arrays) return row as unknown as SqlRow
    const made = Object.create(null) as SqlRow
    for (let i = 0; i < columns.length; i++) made[columns[i] as string] = row[i] as HomeValue
    return made
  }

  all(...given: Bound): SqlRow[] {
    const rows = this.#reading.all(this.#bind(given), this.#integers)
    const { columns } = this.#reading
    return rows.map((row) => this.#shape(row, columns))
  }

  get(...given: Bound): SqlRow | undefined {
    const row = this.#reading.first(this.#bind(given), this.#integers)
    return row && this.#shape(row, this.#reading.columns)
  }

  iterate(...given: Bound): IterableIterator<SqlRow> {
    // Rows are fetched ahead: one that cannot be shown is an error when it is its turn.
    const rows = this.#reading.some(this.#bind(given), this.#bigints ? 'bigint' : 'mixed')
    return this.#shaped(rows, this.#reading.columns)
  }

  *#shaped(
    rows: Generator<HomeValue[], undefined>,
    columns: readonly string[],
  ): Generator<SqlRow, undefined> {
    for (const row of rows) yield this.#shape(this.#bigints ? row : row.map(requireSafe), columns)
  }

  run(...given: Bound): { changes: number | bigint; lastInsertRowid: number | bigint } {
    const values = this.#bind(given)
    let done: ReturnType<typeof agentHome.run>
    try {
      done = agentHome.run(this.#sql, values)
    } catch (error) {
      throw asNodeError(error)
    }
    const { changes, lastInsertRowid } = done
    if (!this.#bigints) return { changes: Number(changes), lastInsertRowid: Number(lastInsertRowid) }
    return { changes: BigInt(changes), lastInsertRowid: BigInt(lastInsertRowid) }
  }

  columns() {
    return this.#known().columns.map(({ column, database, name, table, type }) => ({
      __proto__: null,
      column,
      database,
      name,
      table,
      type,
    }))
  }

  get sourceSQL(): string {
    return this.#sql
  }

  get expandedSQL(): string {
    this.#known()
    return translated(() => agentHome.expand(this.#sql, this.#last))
  }

  setReadBigInts(enabled: boolean): void {
    this.#bigints = requireBoolean(enabled, 'readBigInts')
  }

  setReturnArrays(enabled: boolean): void {
    this.#arrays = requireBoolean(enabled, 'returnArrays')
  }

  setAllowBareNamedParameters(enabled: boolean): void {
    this.#bare = requireBoolean(enabled, 'allowBareNamedParameters')
  }

  setAllowUnknownNamedParameters(enabled: boolean): void {
    this.#unknown = requireBoolean(enabled, 'enabled')
  }
}

function requireSafe(value: HomeValue): HomeValue {
  if (typeof value !== 'bigint') return value
  throw coded(
    new RangeError(`Value is too large to be represented as a JavaScript number: ${value}`),
    'ERR_OUT_OF_RANGE',
  )
}

function isPlain(name: string): boolean {
  return name === '' || name.startsWith('?')
}

function requireBoolean(value: unknown, name: string): boolean {
  if (typeof value !== 'boolean') throw invalidType(`The "${name}" argument must be a boolean.`)
  return value
}

export function backup(): never {
  throw missing('backup')
}

export const constants = Object.freeze({
  SQLITE_CHANGESET_OMIT: 0,
  SQLITE_CHANGESET_REPLACE: 1,
  SQLITE_CHANGESET_ABORT: 2,
})

export default { DatabaseSync, StatementSync, backup, constants }
