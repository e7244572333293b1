/** SQLite's result codes by number: their names, and what they say. */
const PRIMARY: readonly (readonly [number, string, string])[] = [
  [1, 'SQLITE_ERROR', 'SQL logic error'],
  [3, 'SQLITE_PERM', 'access permission denied'],
  [4, 'SQLITE_ABORT', 'query aborted'],
  [5, 'SQLITE_BUSY', 'database is locked'],
  [6, 'SQLITE_LOCKED', 'database table is locked'],
  [7, 'SQLITE_NOMEM', 'out of memory'],
  [8, 'SQLITE_READONLY', 'attempt to write a readonly database'],
  [9, 'SQLITE_INTERRUPT', 'interrupted'],
  [11, 'SQLITE_CORRUPT', 'database disk image is malformed'],
  [13, 'SQLITE_FULL', 'database or disk is full'],
  [17, 'SQLITE_SCHEMA', 'database schema has changed'],
  [18, 'SQLITE_TOOBIG', 'string or blob too big'],
  [19, 'SQLITE_CONSTRAINT', 'constraint failed'],
  [20, 'SQLITE_MISMATCH', 'datatype mismatch'],
  [21, 'SQLITE_MISUSE', 'bad parameter or other API misuse'],
  [23, 'SQLITE_AUTH', 'authorization denied'],
  [25, 'SQLITE_RANGE', 'column index out of range'],
]

const CONSTRAINTS = [
  'CHECK',
  'COMMITHOOK',
  'FOREIGNKEY',
  'FUNCTION',
  'NOTNULL',
  'PRIMARYKEY',
  'TRIGGER',
  'UNIQUE',
  'VTAB',
  'ROWID',
  'PINNED',
  'DATATYPE',
]

const EXTENDED = new Map<number, string>([
  ...CONSTRAINTS.map((name, i): [number, string] => [19 | ((i + 1) << 8), `SQLITE_CONSTRAINT_${name}`]),
  [257, 'SQLITE_ERROR_MISSING_COLLSEQ'],
  [267, 'SQLITE_CORRUPT_VTAB'],
  [516, 'SQLITE_ABORT_ROLLBACK'],
  [523, 'SQLITE_CORRUPT_SEQUENCE'],
])

const NAMES = new Map(PRIMARY.map(([code, name]) => [code, name]))
const TEXTS = new Map(PRIMARY.map(([code, , text]) => [code, text]))

/** `SQLITE_CONSTRAINT_UNIQUE`, as better-sqlite3 has it. */
export function codeName(errcode: number): string {
  return EXTENDED.get(errcode) ?? NAMES.get(errcode & 0xff) ?? 'SQLITE_ERROR'
}

/** What `sqlite3_errstr` says of a code. */
export function codeText(errcode: number): string {
  if (errcode === 516) return 'abort due to ROLLBACK'
  return TEXTS.get(errcode & 0xff) ?? 'unknown error'
}
