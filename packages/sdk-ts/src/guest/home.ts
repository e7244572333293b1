/**
 * The way to the agent's home: calls of the host, with whose transaction is open.
 *
 * A transaction belongs to the invocation that began it and ends with the turn at the latest; whoever
 * had one open at an `await` is told so by the next statement of that invocation, until it says
 * ROLLBACK or COMMIT. While an image is built there is no home: what a program says then, at the top of
 * its module, is said to every agent's home when the agent first uses it.
 */
import { running } from '../current.ts'

/** What a home keeps in a cell. Integers are bigints where they are asked for, or are no safe numbers. */
export type HomeValue = null | number | bigint | string | Uint8Array

export type Row = HomeValue[]

/**
 * `strict`: an integer that is no safe number is an error; `nearest`: it becomes the nearest number;
 * `mixed`: it becomes a bigint.
 */
export type Integers = 'strict' | 'bigint' | 'nearest' | 'mixed'

export interface StatementAbout {
  readonly readonly: boolean
  /** It answers with rows. */
  readonly reader: boolean
  /** More statements follow it in the same text. */
  readonly tail: boolean
  /** `:a`, `@a`, `$a` or `?2`; empty for a plain `?`. */
  readonly parameters: readonly string[]
  readonly columns: readonly ColumnAbout[]
}

interface ColumnAbout {
  readonly name: string
  readonly column: string | null
  readonly table: string | null
  readonly database: string | null
  readonly type: string | null
}

export interface Fetched {
  readonly rows: Row[]
  /** Of the rows that are left; 0: none. */
  readonly cursor: number
  /** Stands for the names of the columns; they are told where the caller knew another. */
  readonly stamp: number
  readonly columns: readonly string[] | undefined
}

/** What SQLite said: its extended result code and its words. */
export class HomeError extends Error {
  readonly errcode: number
  constructor(errcode: number, message: string) {
    super(message)
    this.errcode = errcode
  }
}

type HostHome = (
  op: number,
  sql?: string,
  tags?: string,
  values?: readonly unknown[],
  a?: number,
  b?: number,
  c?: number,
) => unknown

const host = (globalThis as unknown as { __cardinal_home: HostHome }).__cardinal_home
const NONE: readonly HomeValue[] = []
const OPS = { exec: 0, about: 1, run: 2, fetch: 3, next: 4, close: 5, end: 6, expand: 7 } as const
const MODES = { strict: 0, bigint: 1, nearest: 2, mixed: 3 } as const
const SQLITE_BUSY = 5
const SQLITE_MISUSE = 21
const SQLITE_ABORT_ROLLBACK = 516

/** Said at the top of a module, while there was no home yet. */
let early: string[] = []
let born = false
/** Nothing is left to be said to the home, and nobody has anything to be told. */
let settled = false
let touched = false
/** Whose transaction is open; undefined: nobody's. */
let owner: string | null | undefined
/** Whose transaction was ended by the end of its turn, and who has not been told yet. */
const lost = new Set<string | null>()

function ask(op: number, sql: string, values: readonly HomeValue[], a = 0, b = 0, c = 0): unknown {
  touched = true
  let tags = ''
  let given: readonly unknown[] = values
  for (let i = 0; i < values.length; i++) {
    const value = values[i]
    if (value === null) tags += '0'
    else if (typeof value === 'number') tags += 'n'
    else if (typeof value === 'string') tags += 's'
    else if (typeof value === 'bigint') {
      tags += 'i'
      if (given === values) given = [...values]
      ;(given as unknown[])[i] = String(value)
    } else tags += 'b'
  }
  const answer = host(op, sql, tags, given, a, b, c)
  if (typeof answer !== 'string') return answer
  const space = answer.indexOf(' ')
  throw new HomeError(Number(answer.slice(0, space)), answer.slice(space + 1))
}

const CONTROL = /^(?:\s|;|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)*(begin|commit|end|rollback|savepoint|release)\b/i

/** Before anything is asked: whether this invocation may, and what was said before there was a home. */
function enter(sql: string): void {
  if (settled && owner === undefined) return
  if (!born) throw new HomeError(SQLITE_MISUSE, 'an agent has no home while its image is built')
  if (early.length > 0) {
    // What fails is said again the next time, and nothing is done without it.
    for (; early.length > 0; early = early.slice(1)) ask(OPS.exec, early[0] as string, NONE)
  }
  settled = lost.size === 0
  const who = running()
  if (owner !== undefined && owner !== who)
    throw new HomeError(SQLITE_BUSY, 'a transaction of another invocation is open in this turn')
  if (lost.size === 0 || !lost.has(who)) return
  const control = CONTROL.exec(sql)?.[1]?.toLowerCase()
  if (control === 'rollback' || control === 'commit' || control === 'end') lost.delete(who)
  const message = 'the transaction was rolled back: it was open at an await, and none outlives its turn'
  throw new HomeError(SQLITE_ABORT_ROLLBACK, message)
}

function note(open: unknown): void {
  owner = open ? (owner === undefined ? running() : owner) : undefined
}

export const home = {
  /** Runs every statement of a text. At the top of a module: later, when the home is first used. */
  exec(sql: string): void {
    if (!born) {
      early.push(sql)
      return
    }
    enter(sql)
    try {
      note(ask(OPS.exec, sql, NONE))
    } catch (error) {
      // Statements before the one that failed may have begun something.
      if (CONTROL.test(sql) || sql.includes(';')) note(ask(OPS.exec, '', NONE))
      throw error
    }
  },

  /** What a statement is; undefined where the text holds none, or there is no home to ask yet. */
  about(sql: string): StatementAbout | undefined {
    if (!born) return undefined
    enter(sql)
    const answer = ask(OPS.about, sql, NONE) as [number, string[], (string | null)[][]] | null
    if (answer === null) throw new HomeError(SQLITE_MISUSE, 'the SQL holds no statement')
    const [flags, parameters, columns] = answer
    return {
      readonly: (flags & 1) !== 0,
      reader: (flags & 2) !== 0,
      tail: (flags & 4) !== 0,
      parameters,
      columns: columns.map(([name, column, table, database, type]) => ({
        name: name as string,
        column: column as string | null,
        table: table as string | null,
        database: database as string | null,
        type: type as string | null,
      })),
    }
  },

  run(sql: string, values: readonly HomeValue[]): { changes: number; lastInsertRowid: number | bigint } {
    enter(sql)
    const [changes, lastInsertRowid, open] = ask(OPS.run, sql, values) as [number, number | bigint, number]
    note(open)
    return { changes, lastInsertRowid }
  },

  /** The first rows, `max` at most; where that is one, nothing holds the rest. */
  fetch(sql: string, values: readonly HomeValue[], max: number, known: number, integers: Integers): Fetched {
    enter(sql)
    const answer = ask(OPS.fetch, sql, values, max, known, MODES[integers])
    const [rows, cursor, stamp, columns, open] = answer as [Row[], number, number, string[] | null, number]
    note(open)
    return { rows, cursor, stamp, columns: columns ?? undefined }
  },

  next(cursor: number, max: number, integers: Integers): { rows: Row[]; more: boolean } {
    enter('')
    const [rows, more] = ask(OPS.next, '', NONE, max, cursor, MODES[integers]) as [Row[], number]
    return { rows, more: more !== 0 }
  },

  close(cursor: number): void {
    if (touched) ask(OPS.close, '', NONE, 0, cursor)
  },

  expand(sql: string, values: readonly HomeValue[]): string {
    enter(sql)
    const [text] = ask(OPS.expand, sql, values) as [string]
    return text
  },

  get inTransaction(): boolean {
    return owner !== undefined && owner === running()
  },
}

/**
 * The agent is born: there is a home from now on. One that came from elsewhere was set up by this very
 * program, or this program's first words are said to it now, so that it is from here on.
 */
export function openHome(from: 'same' | 'other' | undefined): void {
  born = true
  if (from === 'same') early = []
  if (from !== 'other') return
  try {
    enter('')
  } catch (error) {
    // Whoever uses the home is told.
    if (!(error instanceof HomeError)) throw error
  }
}

/** Before each event and at the end of a turn: what one left open ends. */
export function endTransaction(): void {
  if (owner === undefined) return
  lost.add(owner)
  settled = false
  owner = undefined
  ask(OPS.end, '', NONE)
}

/** The turn ends. */
export function leaveHome(): void {
  endTransaction()
  touched = false
}

/** An invocation has ended: nobody is left to be told what it lost. */
export function forgetLost(invocation: string | null): void {
  lost.delete(invocation)
}
