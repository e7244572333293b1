/**
 * `better-sqlite3` in an agent: its classes over the agent's home. What is not there throws and says so:
 * functions, aggregates and tables of one's own, backup, extensions. See `docs/home.md`.
 *
 * @example
 * import Database from 'better-sqlite3'
 * const db = new Database('home.db')
 * const pay = db.transaction((to: string) => db.prepare('insert into paid(payee) values (?)').run(to))
 */
import type { HomeValue, Integers, StatementAbout } from '../guest/home.ts'
import { asBound, plainCount } from './bind.ts'
import { agentHome, SqlFailure } from './host-home.ts'
import { openByName } from './one-database.ts'
import { Reading } from './reading.ts'
import { codeName } from './sql-codes.ts'

/** What SQLite said, with its code by name: `SQLITE_CONSTRAINT_UNIQUE`. */
class SqliteError extends Error {
  readonly code: string
  constructor(message: string, code: string) {
    super(message)
    this.name = 'SqliteError'
    this.code = code
  }
}

function asSqliteError(error: unknown): unknown {
  return error instanceof SqlFailure ? new SqliteError(error.message, codeName(error.errcode)) : error
}

function translated<T>(act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw asSqliteError(error)
  }
}

const missing = (what: string) => new TypeError(`${what} is not there in an agent; see docs/home.md`)

interface Options {
  readonly readonly?: boolean
  readonly fileMustExist?: boolean
  readonly timeout?: number
  readonly verbose?: ((...said: unknown[]) => void) | null
}

type Args = readonly unknown[]
type Made = HomeValue | HomeValue[] | Record<string, unknown>

function toValue(value: unknown): HomeValue {
  if (value === null || typeof value === 'number' || typeof value === 'string') return value
  if (typeof value === 'bigint') {
    if (BigInt.asIntN(64, value) !== value)
      throw new RangeError('The bound string, buffer, or bigint is too big')
    return value
  }
  if (ArrayBuffer.isView(value))
    return value instanceof Uint8Array
      ? value
      : new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
  throw new TypeError('SQLite3 can only bind numbers, strings, bigints, buffers, and null')
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return false
  const proto = Object.getPrototypeOf(value)
  return proto === Object.prototype || proto === null
}

/** What a statement's parameters are called: '' for one that is told by its place. */
function keysOf({ parameters }: StatementAbout): string[] {
  return parameters.map((name) => (name === '' || name.startsWith('?') ? '' : name.slice(1)))
}

/** The values of a statement's parameters: anonymous ones in their order, named ones from one object. */
function bind(keys: readonly string[], args: Args): HomeValue[] {
  const given: unknown[] = []
  let named: Record<string, unknown> | undefined
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]
    if (typeof arg !== 'object' || arg === null) given.push(arg)
    else if (Array.isArray(arg)) given.push(...arg)
    else if (isPlainObject(arg)) {
      if (named) throw new TypeError('You cannot specify named parameters in two different objects')
      named = arg
    } else given.push(arg)
  }
  let plain = 0
  for (let i = 0; i < keys.length; i++) if (keys[i] === '') plain++
  if (given.length < plain) throw new RangeError('Too few parameter values were provided')
  if (given.length > plain) throw new RangeError('Too many parameter values were provided')
  const values: HomeValue[] = []
  let next = 0
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] as string
    if (key === '') {
      values.push(toValue(given[next++]))
      continue
    }
    if (!named) throw new TypeError('Missing named parameters')
    if (!Object.hasOwn(named, key)) throw new RangeError(`Missing named parameter "${key}"`)
    values.push(toValue(named[key]))
  }
  return values
}

const KEY = Symbol('only a database makes statements')

class Statement {
  readonly source: string
  readonly database: Database
  #about: StatementAbout | undefined
  #keys: readonly string[] = []
  #plain = -1
  #mode: 'row' | 'pluck' | 'expand' | 'raw' = 'row'
  #bigints: boolean
  #bound: HomeValue[] | undefined
  readonly #reading: Reading
  #busy = 0

  constructor(key: symbol, database: Database, source: string, bigints: boolean) {
    if (key !== KEY) throw new TypeError('Statements can only be constructed by the db.prepare() method')
    this.database = database
    this.source = source
    this.#reading = new Reading(source, translated)
    this.#bigints = bigints
    this.#look()
  }

  /** At the top of a module there is no home to ask yet; then it is asked at the first use. */
  #look(): StatementAbout | undefined {
    if (this.#about) return this.#about
    try {
      this.#about = agentHome.about(this.source)
    } catch (error) {
      if (error instanceof SqlFailure && error.errcode === 21)
        throw new RangeError('The supplied SQL string contains no statements')
      throw asSqliteError(error)
    }
    if (this.#about?.tail) throw new RangeError('The supplied SQL string contains more than one statement')
    if (this.#about) {
      this.#keys = keysOf(this.#about)
      this.#plain = plainCount(this.#about.parameters)
    }
    return this.#about
  }

  #known(): StatementAbout {
    if (!this.database.open) throw new TypeError('The database connection is not open')
    const about = this.#look()
    if (!about) throw new TypeError('an agent has no home while its image is built')
    if (this.database.readonly && !about.readonly)
      throw new SqliteError('attempt to write a readonly database', 'SQLITE_READONLY')
    return about
  }

  get reader(): boolean {
    return this.#known().reader
  }

  get readonly(): boolean {
    return this.#known().readonly
  }

  get busy(): boolean {
    return this.#busy > 0
  }

  #values(args: Args): HomeValue[] {
    if (!this.#bound) return asBound(args, this.#plain) ?? bind(this.#keys, args)
    if (args.length > 0) throw new TypeError('This statement already has bound parameters')
    return this.#bound
  }

  #requireReader(): void {
    if (!this.#known().reader) throw new TypeError('This statement does not return data. Use run() instead')
  }

  get #integers(): Integers {
    return this.#bigints ? 'bigint' : 'nearest'
  }

  /** What is bound, for a statement that answers with rows. */
  #toRead(args: Args): HomeValue[] {
    this.#requireReader()
    const values = this.#values(args)
    this.database.said(this.source)
    return values
  }

  #shape(row: HomeValue[], columns: readonly string[]): Made {
    if (this.#mode === 'raw') return row
    if (this.#mode === 'pluck') return row[0] as HomeValue
    const made: Record<string, unknown> = {}
    if (this.#mode === 'row') {
      for (let i = 0; i < columns.length; i++) made[columns[i] as string] = row[i]
      return made
    }
    const about = this.#known().columns
    for (let i = 0; i < columns.length; i++) {
      const table = about[i]?.table ?? '$'
      const part = (made[table] ?? {}) as Record<string, unknown>
      part[columns[i] as string] = row[i]
      made[table] = part
    }
    return made
  }

  run(...args: Args): { changes: number; lastInsertRowid: number | bigint } {
    this.#known()
    const values = this.#values(args)
    this.database.said(this.source)
    let done: ReturnType<typeof agentHome.run>
    try {
      done = agentHome.run(this.source, values)
    } catch (error) {
      throw asSqliteError(error)
    }
    const { changes, lastInsertRowid } = done
    return {
      changes: Number(changes),
      lastInsertRowid: this.#bigints ? BigInt(lastInsertRowid) : Number(lastInsertRowid),
    }
  }

  get(...args: Args): Made | undefined {
    const row = this.#reading.first(this.#toRead(args), this.#integers)
    return row && this.#shape(row, this.#reading.columns)
  }

  all(...args: Args): Made[] {
    const rows = this.#reading.all(this.#toRead(args), this.#integers)
    const { columns } = this.#reading
    return rows.map((row) => this.#shape(row, columns))
  }

  *iterate(...args: Args): Generator<Made, undefined> {
    const rows = this.#reading.some(this.#toRead(args), this.#integers)
    const { columns } = this.#reading
    this.#busy++
    try {
      for (const row of rows) yield this.#shape(row, columns)
    } finally {
      this.#busy--
    }
  }

  pluck(on = true): this {
    return this.#setMode('pluck', on)
  }

  expand(on = true): this {
    return this.#setMode('expand', on)
  }

  raw(on = true): this {
    return this.#setMode('raw', on)
  }

  #setMode(mode: 'pluck' | 'expand' | 'raw', on: boolean): this {
    this.#requireReader()
    if (on) this.#mode = mode
    else if (this.#mode === mode) this.#mode = 'row'
    return this
  }

  safeIntegers(on = true): this {
    this.#bigints = on
    return this
  }

  bind(...args: Args): this {
    if (this.#bound) throw new TypeError('The bind() method can only be invoked once per statement object')
    this.#known()
    this.#bound = bind(this.#keys, args)
    return this
  }

  columns() {
    this.#requireReader()
    return this.#known().columns.map(({ name, column, table, database, type }) => ({
      name,
      column,
      table,
      database,
      type,
    }))
  }
}

type Work = (...args: never[]) => unknown

class Database {
  readonly name: string
  readonly readonly: boolean
  readonly memory = false
  readonly #verbose: ((...said: unknown[]) => void) | undefined
  #open = true
  #bigints = false

  constructor(name: string, options: Options = {}) {
    if (typeof name !== 'string') throw new TypeError('Expected first argument to be a string')
    openByName(name)
    this.name = name
    this.readonly = options.readonly === true
    this.#verbose = options.verbose ?? undefined
  }

  get open(): boolean {
    return this.#open
  }

  get inTransaction(): boolean {
    return agentHome.inTransaction
  }

  said(sql: string): void {
    this.#verbose?.(sql)
  }

  prepare(sql: string): Statement {
    this.#require()
    if (typeof sql !== 'string') throw new TypeError('Expected first argument to be a string')
    return new Statement(KEY, this, sql, this.#bigints)
  }

  exec(sql: string): this {
    this.#require()
    if (typeof sql !== 'string') throw new TypeError('Expected first argument to be a string')
    if (this.readonly) throw new SqliteError('attempt to write a readonly database', 'SQLITE_READONLY')
    this.said(sql)
    translated(() => agentHome.exec(sql))
    return this
  }

  /** At the top of a module settings that are fixed anyway (`journal_mode = WAL`) are not asked for. */
  pragma(source: string, { simple = false }: { readonly simple?: boolean } = {}): unknown {
    if (typeof source !== 'string') throw new TypeError('Expected first argument to be a string')
    const sql = `PRAGMA ${source}`
    const about = translated(() => agentHome.about(sql))
    if (!about) {
      this.exec(sql)
      return simple ? undefined : []
    }
    const statement = this.prepare(sql)
    if (!about.reader) {
      statement.run()
      return simple ? undefined : []
    }
    return simple ? statement.pluck().get() : statement.all()
  }

  /** Runs `work` in a transaction, or in a savepoint of the one that is open; undone if it throws. */
  transaction<F extends Work>(work: F) {
    if (typeof work !== 'function') throw new TypeError('Expected first argument to be a function')
    const wrap = (begin: string) => {
      const db = this
      return function transaction(this: unknown, ...args: Parameters<F>): ReturnType<F> {
        const nested = db.inTransaction
        const [open, close, undo] = nested
          ? ['SAVEPOINT "\t_bs3.\t"', 'RELEASE "\t_bs3.\t"', 'ROLLBACK TO "\t_bs3.\t"']
          : [begin, 'COMMIT', 'ROLLBACK']
        db.exec(open as string)
        try {
          const result = work.apply(this, args)
          if (typeof (result as { then?: unknown } | undefined)?.then === 'function')
            throw new TypeError('Transaction function cannot return a promise')
          db.exec(close as string)
          return result as ReturnType<F>
        } catch (error) {
          if (db.inTransaction) {
            db.exec(undo as string)
            if (nested) db.exec(close as string)
          }
          throw error
        }
      }
    }
    const made = wrap('BEGIN')
    const kinds = {
      default: made,
      deferred: wrap('BEGIN DEFERRED'),
      immediate: wrap('BEGIN IMMEDIATE'),
      exclusive: wrap('BEGIN EXCLUSIVE'),
    }
    return Object.assign(made, kinds)
  }

  defaultSafeIntegers(on = true): this {
    this.#bigints = on
    return this
  }

  close(): this {
    this.#open = false
    return this
  }

  function(): never {
    throw missing('a function of your own in SQL')
  }

  aggregate(): never {
    throw missing('an aggregate of your own in SQL')
  }

  table(): never {
    throw missing('a table of your own')
  }

  loadExtension(): never {
    throw missing('loading an extension')
  }

  backup(): never {
    throw missing('backup')
  }

  serialize(): never {
    throw missing('a copy of the home')
  }

  unsafeMode(): never {
    throw missing('unsafe mode')
  }

  #require(): void {
    if (!this.#open) throw new TypeError('The database connection is not open')
  }
}

// It is called with and without `new`.
const Callable = new Proxy(Database, {
  apply: (target, _self, [name, options]) => new target(name as string, options as Options),
})
Object.assign(Callable, { SqliteError, Database: Callable })

export default Callable
export { SqliteError }
