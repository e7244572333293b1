/**
 * The tree of an agent's files, as rows of its home: what a file is, and its bytes in chunks.
 *
 * Names mean what they mean to POSIX: a path is walked from the root, `..` of the root is the root, and
 * there are no links, devices or other ways out. Every change is one savepoint: it happens whole, in one
 * cut with tables and memory, or not at all.
 */
import { HomeError, type HomeValue, home } from './home.ts'
import { atomically, rowsIfAny as rows } from './home-rows.ts'

export type Kind = 'file' | 'dir'

export interface Entry {
  readonly id: number
  readonly parent: number
  readonly name: string
  readonly kind: Kind
  readonly size: number
  readonly mode: number
  readonly mtimeMs: number
  readonly ctimeMs: number
  readonly birthtimeMs: number
}

const ERRORS = {
  EPERM: [-1, 'operation not permitted'],
  ENOENT: [-2, 'no such file or directory'],
  EBADF: [-9, 'bad file descriptor'],
  EEXIST: [-17, 'file already exists'],
  ENOTDIR: [-20, 'not a directory'],
  EISDIR: [-21, 'illegal operation on a directory'],
  EINVAL: [-22, 'invalid argument'],
  ESTALE: [-116, 'stale file handle'],
  EMFILE: [-24, 'too many open files'],
  EFBIG: [-27, 'file too large'],
  ENOSPC: [-28, 'no space left on device'],
  ENAMETOOLONG: [-36, 'name too long'],
  ENOTEMPTY: [-39, 'directory not empty'],
} as const

export type FsCode = keyof typeof ERRORS

interface FsFailure extends Error {
  code: string
  errno: number
  syscall: string
  path?: string
  dest?: string
}

/** An error as Node's has it: ``ENOENT: no such file or directory, open 'a/b'``. */
export function fsError(code: FsCode, syscall: string, path?: string, dest?: string): FsFailure {
  const [errno, text] = ERRORS[code]
  const where = path === undefined ? '' : ` '${path}'${dest === undefined ? '' : ` -> '${dest}'`}`
  const error = new Error(`${code}: ${text}, ${syscall}${where}`) as FsFailure
  error.code = code
  error.errno = errno
  error.syscall = syscall
  if (path !== undefined) error.path = path
  if (dest !== undefined) error.dest = dest
  return error
}

export const CHUNK = 65_536
const MAX_NAME_BYTES = 255
const MAX_PATH = 4096
const MAX_FILE = 2 ** 40
const ROOT = 1
const SQLITE_FULL = 13

const SCHEMA = `
  create table if not exists cardinal_files(
    id integer primary key, parent integer not null, name text not null, kind text not null check (kind in ('file', 'dir')),
    size integer not null default 0, mode integer not null, mtime integer not null, ctime integer not null,
    born integer not null, unique(parent, name));
  create table if not exists cardinal_chunks(
    file integer not null, n integer not null, bytes blob not null, primary key(file, n)) without rowid;
  insert or ignore into cardinal_files(id, parent, name, kind, mode, mtime, ctime, born) values (1, 0, '', 'dir', 493, 0, 0, 0)`

const FIELDS = 'id, parent, name, kind, size, mode, mtime, ctime, born'

type Cells = HomeValue[]

function run(sql: string, ...values: HomeValue[]): number {
  return Number(home.run(sql, values).lastInsertRowid)
}

/** UTF-8 by SQLite: a guest of its own takes thousands of instructions a character. */
export function encodeText(text: string): Uint8Array {
  return (rows('select cast(? as blob)', text)[0]?.[0] ?? new Uint8Array(0)) as Uint8Array
}

export function decodeText(bytes: Uint8Array): string {
  return (rows('select cast(? as text)', bytes)[0]?.[0] ?? '') as string
}

/** Does `act` whole or not at all. A home that is full is a disk that is full. */
export function change<T>(syscall: string, path: string | undefined, act: () => T): T {
  try {
    return atomically(() => {
      if (rows('select 1 from cardinal_files where id = 1').length === 0) home.exec(SCHEMA)
      return act()
    })
  } catch (error) {
    if (error instanceof HomeError && (error.errcode & 0xff) === SQLITE_FULL)
      throw fsError('ENOSPC', syscall, path)
    throw error
  }
}

function toEntry(row: Cells): Entry {
  const [id, parent, name, kind, size, mode, mtimeMs, ctimeMs, birthtimeMs] = row
  return { id, parent, name, kind, size, mode, mtimeMs, ctimeMs, birthtimeMs } as Entry
}

const EMPTY_ROOT: Entry = {
  id: ROOT,
  parent: 0,
  name: '',
  kind: 'dir',
  size: 0,
  mode: 0o755,
  mtimeMs: 0,
  ctimeMs: 0,
  birthtimeMs: 0,
}

export function entryOf(id: number): Entry | undefined {
  const [row] = rows(`select ${FIELDS} from cardinal_files where id = ?`, id)
  return row ? toEntry(row) : id === ROOT ? EMPTY_ROOT : undefined
}

export function child(parent: number, name: string): Entry | undefined {
  const [row] = rows(`select ${FIELDS} from cardinal_files where parent = ? and name = ?`, parent, name)
  return row && toEntry(row)
}

export function children(parent: number): Entry[] {
  return rows(`select ${FIELDS} from cardinal_files where parent = ? order by name`, parent).map(toEntry)
}

/** Where a path leads: what is there, or the directory in which it would be and under what name. */
export interface Found {
  readonly entry: Entry | undefined
  readonly parent: Entry
  readonly name: string
}

/** Walks a path from the root. All but its last part must be there. */
export function walk(path: string, syscall: string): Found {
  if (path.length > MAX_PATH) throw fsError('ENAMETOOLONG', syscall, path)
  if (path === '') throw fsError('ENOENT', syscall, path)
  const parts = path.split('/').filter((part) => part !== '' && part !== '.')
  let parent = entryOf(ROOT) as Entry
  let entry: Entry | undefined = parent
  let name = ''
  for (const part of parts) {
    if (!entry) throw fsError('ENOENT', syscall, path)
    if (entry.kind !== 'dir') throw fsError('ENOTDIR', syscall, path)
    if (part === '..') {
      entry = entry.id === ROOT ? entry : (entryOf(entry.parent) as Entry)
      parent = entry.id === ROOT ? entry : (entryOf(entry.parent) as Entry)
      name = entry.name
      continue
    }
    if (part.length > MAX_NAME_BYTES / 4 && encodeText(part).length > MAX_NAME_BYTES)
      throw fsError('ENAMETOOLONG', syscall, path)
    parent = entry
    name = part
    entry = child(parent.id, part)
  }
  const wantsDir = path.endsWith('/') || path.endsWith('/.')
  if (wantsDir && entry && entry.kind !== 'dir') throw fsError('ENOTDIR', syscall, path)
  return { entry, parent, name }
}

export function existing(path: string, syscall: string): Entry {
  const { entry } = walk(path, syscall)
  if (!entry) throw fsError('ENOENT', syscall, path)
  return entry
}

/** The path of an entry from the root. */
export function pathOf(entry: Entry): string {
  const names: string[] = []
  for (let at: Entry | undefined = entry; at && at.id !== ROOT; at = entryOf(at.parent))
    names.unshift(at.name)
  return `/${names.join('/')}`
}

export function make({ parent, name }: Found, kind: Kind, mode: number): Entry {
  const now = Date.now()
  const sql =
    'insert into cardinal_files(parent, name, kind, mode, mtime, ctime, born) values (?, ?, ?, ?, ?, ?, ?)'
  const id = run(sql, parent.id, name, kind, mode & 0o7777, now, now, now)
  touch(parent.id)
  return { id, parent: parent.id, name, kind, size: 0, mode, mtimeMs: now, ctimeMs: now, birthtimeMs: now }
}

function touch(id: number): void {
  const now = Date.now()
  run('update cardinal_files set mtime = ?, ctime = ? where id = ?', now, now, id)
}

export function setTimes(id: number, mtimeMs: number): void {
  run('update cardinal_files set mtime = ?, ctime = ? where id = ?', Math.round(mtimeMs), Date.now(), id)
}

export function setMode(id: number, mode: number): void {
  run('update cardinal_files set mode = ?, ctime = ? where id = ?', mode & 0o7777, Date.now(), id)
}

/** Takes an entry out of its directory. One that is still open lives on without a name. */
export function unlink(entry: Entry, open: boolean): void {
  if (open) run('update cardinal_files set parent = -id, name = ? where id = ?', '', entry.id)
  else destroy(entry.id)
  touch(entry.parent)
}

export function destroy(id: number): void {
  run('delete from cardinal_chunks where file = ?', id)
  run('delete from cardinal_files where id = ?', id)
}

export function move(entry: Entry, to: Found): void {
  run(
    'update cardinal_files set parent = ?, name = ?, ctime = ? where id = ?',
    to.parent.id,
    to.name,
    Date.now(),
    entry.id,
  )
  touch(entry.parent)
  touch(to.parent.id)
}

/** A file that stands nowhere yet. */
export function makeNameless(mode: number): number {
  const { id } = make({ parent: { id: -ROOT } as Entry, name: '', entry: undefined }, 'file', mode)
  run('update cardinal_files set parent = -id where id = ?', id)
  return id
}

/** A chunk that is not there yet, as hex: SQLite reads that many times faster than a guest could. */
export function insertChunk(id: number, n: number, hex: string): void {
  run('insert into cardinal_chunks(file, n, bytes) values (?, ?, unhex(?))', id, n, hex)
}

export function setSize(id: number, size: number): void {
  const now = Date.now()
  run('update cardinal_files set size = ?, mtime = ?, ctime = ? where id = ?', size, now, now, id)
}

/** The bytes of `from` take the place of those of `id`, and `from` is no more. */
export function overwrite(id: number, from: number): void {
  run('delete from cardinal_chunks where file = ?', id)
  run('update cardinal_chunks set file = ? where file = ?', id, from)
  setSize(id, entryOf(from)?.size ?? 0)
  destroy(from)
}

/** Bytes from `at` on, `length` at most. */
export function readAt(id: number, at: number, length: number): Uint8Array {
  const size = entryOf(id)?.size ?? 0
  const end = Math.min(size, at + length)
  if (at >= end) return new Uint8Array(0)
  const out = new Uint8Array(end - at)
  const [first, last] = [Math.floor(at / CHUNK), Math.floor((end - 1) / CHUNK)]
  // Chunks that were never written are zeros.
  for (const [n, bytes] of rows(
    'select n, bytes from cardinal_chunks where file = ? and n between ? and ?',
    id,
    first,
    last,
  ) as [number, Uint8Array][]) {
    const start = n * CHUNK
    const from = Math.max(at, start) - start
    const until = Math.min(end - start, bytes.length)
    if (until > from) out.set(bytes.subarray(from, until), start + from - at)
  }
  return out
}

/** Writes bytes at a place, and makes the file longer where it must. */
export function writeAt(id: number, at: number, bytes: Uint8Array, syscall: string): void {
  if (at + bytes.length > MAX_FILE) throw fsError('EFBIG', syscall)
  const size = entryOf(id)?.size ?? 0
  for (let done = 0; done < bytes.length; ) {
    const n = Math.floor((at + done) / CHUNK)
    const offset = at + done - n * CHUNK
    const part = bytes.subarray(done, done + CHUNK - offset)
    putChunk(id, n, offset, part)
    done += part.length
  }
  setSize(id, Math.max(size, at + bytes.length))
}

function putChunk(id: number, n: number, offset: number, part: Uint8Array): void {
  let chunk = part
  if (offset > 0 || part.length < CHUNK) {
    const [row] = rows('select bytes from cardinal_chunks where file = ? and n = ?', id, n)
    const before = row?.[0] as Uint8Array | undefined
    if (before || offset > 0) {
      chunk = new Uint8Array(Math.max(before?.length ?? 0, offset + part.length))
      if (before) chunk.set(before)
      chunk.set(part, offset)
    }
  }
  run('insert or replace into cardinal_chunks(file, n, bytes) values (?, ?, ?)', id, n, chunk)
}

export function truncate(id: number, length: number): void {
  const last = Math.floor(length / CHUNK)
  run('delete from cardinal_chunks where file = ? and n > ?', id, last)
  const rest = length - last * CHUNK
  if (rest === 0) run('delete from cardinal_chunks where file = ? and n = ?', id, last)
  else
    run(
      'update cardinal_chunks set bytes = substr(bytes, 1, ?) where file = ? and n = ? and length(bytes) > ?',
      rest,
      id,
      last,
      rest,
    )
  setSize(id, length)
}
