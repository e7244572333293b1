/**
 * Calls of `node:fs` that answer at once, over the files of the agent's home.
 *
 * The current directory is `/`. Descriptors are data of the agent: one that is open over a suspension is
 * open afterwards.
 */
import { Buffer } from 'buffer'
import {
  change,
  children,
  truncate as cut,
  decodeText,
  destroy,
  type Entry,
  encodeText,
  entryOf,
  existing,
  type Found,
  type FsCode,
  fsError,
  type Kind,
  make,
  move,
  pathOf,
  readAt,
  setMode,
  setTimes,
  unlink as takeOut,
  walk,
  writeAt,
} from './fs-tree.ts'

type PathLike = string | URL | Uint8Array
type Encoding = BufferEncoding
type Data = string | ArrayBufferView
interface ReadOptions {
  readonly encoding?: Encoding | null
  readonly flag?: string
}
interface WriteOptions extends ReadOptions {
  readonly mode?: number
  readonly flush?: boolean
}

export const constants = Object.freeze({
  F_OK: 0,
  R_OK: 4,
  W_OK: 2,
  X_OK: 1,
  COPYFILE_EXCL: 1,
  O_RDONLY: 0,
  O_WRONLY: 1,
  O_RDWR: 2,
  O_CREAT: 64,
  O_EXCL: 128,
  O_TRUNC: 512,
  O_APPEND: 1024,
  S_IFMT: 0o170000,
  S_IFREG: 0o100000,
  S_IFDIR: 0o040000,
})

function invalid(name: string, what: string): TypeError {
  return Object.assign(new TypeError(`The "${name}" argument must be ${what}.`), {
    code: 'ERR_INVALID_ARG_TYPE',
  })
}

function toPath(given: unknown, name = 'path'): string {
  let path: string
  if (typeof given === 'string') path = given
  else if (given instanceof URL) {
    if (given.protocol !== 'file:')
      throw Object.assign(new TypeError('The URL must be of scheme file'), { code: 'ERR_INVALID_URL_SCHEME' })
    path = decodeURIComponent(given.pathname)
  } else if (given instanceof Uint8Array) path = new TextDecoder().decode(given)
  else throw invalid(name, 'of type string or an instance of Buffer or URL')
  if (path.includes('\0'))
    throw Object.assign(new TypeError(`The argument '${name}' must be a string without null bytes.`), {
      code: 'ERR_INVALID_ARG_VALUE',
    })
  return path
}

function toBytes(data: unknown, encoding: Encoding | null | undefined): Uint8Array {
  if (typeof data === 'string')
    return isUtf8(encoding) ? encodeText(data) : Buffer.from(data, encoding ?? 'utf8')
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  throw invalid('data', 'of type string or an instance of Buffer, TypedArray, or DataView')
}

function isUtf8(encoding: Encoding | null | undefined): boolean {
  return encoding === undefined || encoding === null || encoding === 'utf8' || encoding === 'utf-8'
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function optionsOf<T extends object>(given: T | Encoding | null | undefined): T & { encoding?: Encoding } {
  if (typeof given === 'string') return { encoding: given } as unknown as T & { encoding?: Encoding }
  return (given ?? {}) as T & { encoding?: Encoding }
}

/** What `stat` says. */
export class Stats {
  readonly #kind: Kind
  readonly dev = 0
  readonly ino: number
  readonly mode: number
  readonly nlink = 1
  readonly uid = 0
  readonly gid = 0
  readonly rdev = 0
  readonly size: number
  readonly blksize = 65_536
  readonly blocks: number
  readonly atimeMs: number
  readonly mtimeMs: number
  readonly ctimeMs: number
  readonly birthtimeMs: number

  constructor(entry: Entry) {
    this.#kind = entry.kind
    this.ino = entry.id
    this.mode = entry.mode | (entry.kind === 'dir' ? constants.S_IFDIR : constants.S_IFREG)
    this.size = entry.size
    this.blocks = Math.ceil(entry.size / 512)
    this.atimeMs = entry.mtimeMs
    this.mtimeMs = entry.mtimeMs
    this.ctimeMs = entry.ctimeMs
    this.birthtimeMs = entry.birthtimeMs
  }

  get atime() {
    return new Date(this.atimeMs)
  }
  get mtime() {
    return new Date(this.mtimeMs)
  }
  get ctime() {
    return new Date(this.ctimeMs)
  }
  get birthtime() {
    return new Date(this.birthtimeMs)
  }
  isFile() {
    return this.#kind === 'file'
  }
  isDirectory() {
    return this.#kind === 'dir'
  }
  isSymbolicLink() {
    return false
  }
  isFIFO() {
    return false
  }
  isSocket() {
    return false
  }
  isBlockDevice() {
    return false
  }
  isCharacterDevice() {
    return false
  }
}

/** What `readdir` says with `withFileTypes`. */
export class Dirent {
  readonly name: string
  readonly parentPath: string
  readonly #kind: Kind

  constructor(name: string, parentPath: string, kind: Kind) {
    this.name = name
    this.parentPath = parentPath
    this.#kind = kind
  }

  isFile() {
    return this.#kind === 'file'
  }
  isDirectory() {
    return this.#kind === 'dir'
  }
  isSymbolicLink() {
    return false
  }
}

interface Open {
  readonly id: number
  at: number
  readonly reads: boolean
  readonly writes: boolean
  readonly appends: boolean
}

const MAX_OPEN = 1024
const FIRST_FD = 3
const opened = new Map<number, Open>()

function isOpen(id: number): boolean {
  for (const file of opened.values()) if (file.id === id) return true
  return false
}

interface Flags {
  readonly reads: boolean
  readonly writes: boolean
  readonly appends: boolean
  readonly creates: boolean
  readonly excludes: boolean
  readonly truncates: boolean
}

const O = constants
const FLAGS: Readonly<Record<string, number>> = {
  r: O.O_RDONLY,
  rs: O.O_RDONLY,
  'r+': O.O_RDWR,
  'rs+': O.O_RDWR,
  w: O.O_WRONLY | O.O_CREAT | O.O_TRUNC,
  wx: O.O_WRONLY | O.O_CREAT | O.O_TRUNC | O.O_EXCL,
  'w+': O.O_RDWR | O.O_CREAT | O.O_TRUNC,
  'wx+': O.O_RDWR | O.O_CREAT | O.O_TRUNC | O.O_EXCL,
  a: O.O_WRONLY | O.O_CREAT | O.O_APPEND,
  ax: O.O_WRONLY | O.O_CREAT | O.O_APPEND | O.O_EXCL,
  'a+': O.O_RDWR | O.O_CREAT | O.O_APPEND,
  'ax+': O.O_RDWR | O.O_CREAT | O.O_APPEND | O.O_EXCL,
}

function flagsOf(given: string | number): Flags {
  const bits = typeof given === 'number' ? given : FLAGS[given]
  if (bits === undefined)
    throw Object.assign(new TypeError(`The argument 'flags' is invalid. Received '${given}'`), {
      code: 'ERR_INVALID_ARG_VALUE',
    })
  const access = bits & 3
  return {
    reads: access !== O.O_WRONLY,
    writes: access !== O.O_RDONLY,
    appends: (bits & O.O_APPEND) !== 0,
    creates: (bits & O.O_CREAT) !== 0,
    excludes: (bits & O.O_EXCL) !== 0,
    truncates: (bits & O.O_TRUNC) !== 0,
  }
}

/** The file of a path as these flags want it: made, emptied, or refused. */
function fileFor(path: string, flags: Flags, mode: number): Entry {
  // What would be made by a name that only a directory can have is none.
  const slash = path.length > 1 && path.endsWith('/')
  const found = walk(slash && flags.creates ? path.replace(/\/+$/, '') : path, 'open')
  const { entry } = found
  if (slash && flags.creates && entry?.kind !== 'dir') throw fsError('EISDIR', 'open', path)
  if (entry && flags.creates && flags.excludes) throw fsError('EEXIST', 'open', path)
  if (entry?.kind === 'dir') {
    if (flags.writes) throw fsError('EISDIR', 'open', path)
    return entry
  }
  if (entry) {
    if (flags.truncates && flags.writes) change('open', path, () => cut(entry.id, 0))
    return entry
  }
  if (!flags.creates) throw fsError('ENOENT', 'open', path)
  return change('open', path, () => make(parentOf(found), 'file', mode))
}

/** The root may have had no row when it was looked at. */
function parentOf(found: Found): Found {
  return { ...found, parent: entryOf(found.parent.id) as Entry }
}

export function openSync(path: PathLike, flags: string | number = 'r', mode = 0o644): number {
  const wanted = flagsOf(flags)
  const { id } = fileFor(toPath(path), wanted, mode)
  let fd = FIRST_FD
  while (opened.has(fd)) fd++
  if (fd >= MAX_OPEN) throw fsError('EMFILE', 'open', toPath(path))
  opened.set(fd, { id, at: 0, reads: wanted.reads, writes: wanted.writes, appends: wanted.appends })
  return fd
}

function fileOf(fd: unknown, syscall: string): Open {
  if (typeof fd !== 'number') throw invalid('fd', 'of type number')
  const file = opened.get(fd)
  if (!file) throw fsError('EBADF', syscall)
  return file
}

export function closeSync(fd: number): void {
  const { id } = fileOf(fd, 'close')
  opened.delete(fd)
  const entry = entryOf(id)
  // Its name was taken away while it was open.
  if (entry && entry.parent < 0 && !isOpen(id)) change('close', undefined, () => destroy(id))
}

interface ReadPlace {
  readonly offset?: number
  readonly length?: number
  readonly position?: number | bigint | null
}

export function readSync(
  fd: number,
  buffer: ArrayBufferView,
  offsetOrOptions: number | ReadPlace | null = 0,
  length?: number,
  position?: number | bigint | null,
): number {
  const file = fileOf(fd, 'read')
  if (!file.reads) throw fsError('EBADF', 'read')
  const place: ReadPlace =
    typeof offsetOrOptions === 'object' && offsetOrOptions !== null
      ? offsetOrOptions
      : { offset: offsetOrOptions ?? 0, ...(length !== undefined && { length }), position: position ?? null }
  const into = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
  const offset = place.offset ?? 0
  const count = place.length ?? into.length - offset
  if (offset < 0 || count < 0 || offset + count > into.length)
    throw Object.assign(new RangeError('The value of "length" is out of range.'), {
      code: 'ERR_OUT_OF_RANGE',
    })
  if (entryOf(file.id)?.kind === 'dir') throw fsError('EISDIR', 'read')
  const at = place.position === null || place.position === undefined ? file.at : Number(place.position)
  const bytes = readAt(file.id, at, count)
  into.set(bytes, offset)
  if (place.position === null || place.position === undefined) file.at += bytes.length
  return bytes.length
}

export function writeSync(
  fd: number,
  data: Data,
  offsetOrPosition?: number | null,
  lengthOrEncoding?: number | Encoding | null,
  position?: number | null,
): number {
  const file = fileOf(fd, 'write')
  if (!file.writes) throw fsError('EBADF', 'write')
  let bytes: Uint8Array
  let place: number | null | undefined
  if (typeof data === 'string') {
    bytes = toBytes(data, lengthOrEncoding as Encoding | null | undefined)
    place = offsetOrPosition
  } else {
    const whole = toBytes(data, undefined)
    const offset = offsetOrPosition ?? 0
    const count = (lengthOrEncoding as number | null | undefined) ?? whole.length - offset
    if (offset < 0 || count < 0 || offset + count > whole.length)
      throw Object.assign(new RangeError('The value of "length" is out of range.'), {
        code: 'ERR_OUT_OF_RANGE',
      })
    bytes = whole.subarray(offset, offset + count)
    place = position
  }
  const size = entryOf(file.id)?.size ?? 0
  const at = file.appends ? size : typeof place === 'number' ? place : file.at
  change('write', undefined, () => writeAt(file.id, at, bytes, 'write'))
  if (typeof place !== 'number' || file.appends) file.at = at + bytes.length
  return bytes.length
}

type ReadResult<O> = O extends Encoding | { readonly encoding: Encoding } ? string : Buffer

export function readFileSync<O extends ReadOptions | Encoding | null | undefined>(
  path: PathLike | number,
  options?: O,
): ReadResult<O> {
  const { encoding, flag = 'r' } = optionsOf<ReadOptions>(options)
  let id: number
  let at = 0
  if (typeof path === 'number') {
    const file = fileOf(path, 'read')
    if (!file.reads) throw fsError('EBADF', 'read')
    ;({ id, at } = file)
  } else id = fileFor(toPath(path), flagsOf(flag), 0o644).id
  const entry = entryOf(id)
  if (entry?.kind === 'dir') throw fsError('EISDIR', 'read')
  const bytes = readAt(id, at, (entry?.size ?? 0) - at)
  if (typeof path === 'number') fileOf(path, 'read').at = at + bytes.length
  if (!encoding) return toBuffer(bytes) as ReadResult<O>
  return (isUtf8(encoding) ? decodeText(bytes) : toBuffer(bytes).toString(encoding)) as ReadResult<O>
}

export function writeFileSync(
  path: PathLike | number,
  data: Data,
  options?: WriteOptions | Encoding | null,
): void {
  const { encoding, flag = 'w', mode = 0o666 & ~0o022 } = optionsOf<WriteOptions>(options)
  const bytes = toBytes(data, encoding)
  if (typeof path === 'number') {
    const file = fileOf(path, 'write')
    if (!file.writes) throw fsError('EBADF', 'write')
    const at = file.appends ? (entryOf(file.id)?.size ?? 0) : file.at
    change('write', undefined, () => writeAt(file.id, at, bytes, 'write'))
    file.at = at + bytes.length
    return
  }
  const name = toPath(path)
  change('open', name, () => {
    const flags = flagsOf(flag)
    if (!flags.writes) throw fsError('EBADF', 'write')
    const { id, size } = fileFor(name, flags, mode)
    writeAt(id, flags.appends ? size : 0, bytes, 'write')
  })
}

export function appendFileSync(
  path: PathLike | number,
  data: Data,
  options?: WriteOptions | Encoding | null,
): void {
  writeFileSync(path, data, { flag: 'a', ...optionsOf<WriteOptions>(options) })
}

export function existsSync(path: unknown): boolean {
  try {
    return walk(toPath(path), 'access').entry !== undefined
  } catch {
    return false
  }
}

export function accessSync(path: PathLike, _mode = constants.F_OK): void {
  existing(toPath(path), 'access')
}

interface StatOptions {
  readonly throwIfNoEntry?: boolean
}

export function statSync(path: PathLike, options?: StatOptions): Stats | undefined {
  const name = toPath(path)
  try {
    return new Stats(existing(name, 'stat'))
  } catch (error) {
    if (options?.throwIfNoEntry === false && (error as { code?: string }).code === 'ENOENT') return undefined
    throw error
  }
}

/** There are no links, so that it is the same. */
export function lstatSync(path: PathLike, options?: StatOptions): Stats | undefined {
  return statSync(path, options)
}

export function fstatSync(fd: number): Stats {
  return new Stats(entryOf(fileOf(fd, 'fstat').id) as Entry)
}

interface ReaddirOptions {
  readonly encoding?: Encoding | null
  readonly withFileTypes?: boolean
  readonly recursive?: boolean
}

export function readdirSync(path: PathLike, options?: ReaddirOptions | Encoding | null): string[] | Dirent[] {
  const { withFileTypes = false, recursive = false } = optionsOf<ReaddirOptions>(options)
  const name = toPath(path)
  const start = existing(name, 'scandir')
  if (start.kind !== 'dir') throw fsError('ENOTDIR', 'scandir', name)
  const found: { entry: Entry; below: string }[] = []
  const list = (id: number, below: string) => {
    for (const entry of children(id)) {
      found.push({ entry, below })
      if (recursive && entry.kind === 'dir') list(entry.id, `${below}${entry.name}/`)
    }
  }
  list(start.id, '')
  if (!withFileTypes) return found.map(({ entry, below }) => below + entry.name)
  return found.map(({ entry, below }) => {
    const parent = below === '' ? name : `${name.replace(/\/$/, '')}/${below.slice(0, -1)}`
    return new Dirent(entry.name, parent, entry.kind)
  })
}

interface MkdirOptions {
  readonly recursive?: boolean
  readonly mode?: number
}

export function mkdirSync(path: PathLike, options?: MkdirOptions | number | null): string | undefined {
  const name = toPath(path)
  const given = typeof options === 'number' ? { mode: options } : (options ?? {})
  const { recursive = false, mode = 0o755 } = given as MkdirOptions
  return change('mkdir', name, () => {
    if (!recursive) {
      const found = walk(name.replace(/\/+$/, '') || '/', 'mkdir')
      if (found.entry) throw fsError('EEXIST', 'mkdir', name)
      make(found, 'dir', mode)
      return undefined
    }
    let first: string | undefined
    const parts = [...name.matchAll(/[^/]+/g)]
    for (const [i, part] of parts.entries()) {
      const last = i === parts.length - 1
      const at = name.slice(0, part.index + part[0].length)
      const found = walk(at, 'mkdir')
      if (found.entry?.kind === 'file')
        throw fsError(last && at === name ? 'EEXIST' : 'ENOTDIR', 'mkdir', name)
      if (found.entry) continue
      make(found, 'dir', mode)
      first ??= last ? name : at
    }
    return first
  })
}

export function mkdtempSync(prefix: string): string {
  const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'
  for (;;) {
    const name = Array.from({ length: 6 }, () => letters[Math.floor(Math.random() * letters.length)]).join('')
    if (existsSync(prefix + name)) continue
    mkdirSync(prefix + name, 0o700)
    return prefix + name
  }
}

export function unlinkSync(path: PathLike): void {
  const name = toPath(path)
  change('unlink', name, () => {
    const entry = existing(name, 'unlink')
    if (entry.kind === 'dir') throw fsError('EISDIR', 'unlink', name)
    takeOut(entry, isOpen(entry.id))
  })
}

export function rmdirSync(path: PathLike): void {
  const name = toPath(path)
  change('rmdir', name, () => {
    const entry = existing(name, 'rmdir')
    if (entry.kind !== 'dir') throw fsError('ENOTDIR', 'rmdir', name)
    if (entry.parent === 0) throw fsError('EPERM', 'rmdir', name)
    if (children(entry.id).length > 0) throw fsError('ENOTEMPTY', 'rmdir', name)
    takeOut(entry, false)
  })
}

interface RmOptions {
  readonly force?: boolean
  readonly recursive?: boolean
}

export function rmSync(path: PathLike, { force = false, recursive = false }: RmOptions = {}): void {
  const name = toPath(path)
  change('rm', name, () => {
    const found = tolerant(() => walk(name, 'lstat'), force, recursive)
    if (!found?.entry) {
      if (force) return
      throw fsError('ENOENT', 'lstat', name)
    }
    if (found.entry.kind === 'dir' && !recursive)
      throw Object.assign(new Error(`Path is a directory: rm returned EISDIR (is a directory) ${name}`), {
        code: 'ERR_FS_EISDIR',
        errno: 21,
        syscall: 'rm',
        path: name,
      })
    if (found.entry.parent === 0) throw fsError('EPERM', 'rm', name)
    removeTree(found.entry)
  })
}

function tolerant<T>(act: () => T, force: boolean, recursive: boolean): T | undefined {
  try {
    return act()
  } catch (error) {
    const { code } = error as { code?: string }
    if (force && (code === 'ENOENT' || (recursive && code === 'ENOTDIR'))) return undefined
    throw error
  }
}

function removeTree(entry: Entry): void {
  if (entry.kind === 'dir') for (const below of children(entry.id)) removeTree(below)
  takeOut(entry, isOpen(entry.id))
}

/** Whether an entry lies somewhere below another. */
function isWithin(entry: Entry, above: Entry): boolean {
  for (let at = entryOf(entry.parent); at; at = entryOf(at.parent)) if (at.id === above.id) return true
  return false
}

/** What goes wrong with one of two paths is told with both. */
function withBoth<T>(syscall: string, from: string, to: string, act: () => T): T {
  try {
    return act()
  } catch (error) {
    throw fsError((error as { code: FsCode }).code, syscall, from, to)
  }
}

export function renameSync(from: PathLike, to: PathLike): void {
  const [oldName, newName] = [toPath(from, 'oldPath'), toPath(to, 'newPath')]
  const fail = (code: FsCode) => fsError(code, 'rename', oldName, newName)
  change('rename', oldName, () => {
    const { entry } = withBoth('rename', oldName, newName, () => walk(oldName, 'rename'))
    const target = withBoth('rename', oldName, newName, () =>
      walk(newName.replace(/(.)\/+$/, '$1'), 'rename'),
    )
    if (!entry) throw fail('ENOENT')
    if (entry.parent === 0) throw fail('EPERM')
    if (target.entry?.id === entry.id) return
    if (target.entry && isWithin(entry, target.entry)) throw fail('ENOTEMPTY')
    if (isWithin(target.parent, entry) || target.parent.id === entry.id) throw fail('EINVAL')
    const { entry: there } = target
    if (there) {
      if (there.kind === 'dir' && entry.kind !== 'dir') throw fail('EISDIR')
      if (there.kind !== 'dir' && entry.kind === 'dir') throw fail('ENOTDIR')
      if (there.kind === 'dir' && children(there.id).length > 0) throw fail('ENOTEMPTY')
      takeOut(there, isOpen(there.id))
    }
    move(entry, target)
  })
}

export function copyFileSync(from: PathLike, to: PathLike, mode = 0): void {
  const [source, target] = [toPath(from, 'src'), toPath(to, 'dest')]
  change('copyfile', source, () => {
    const { entry } = withBoth('copyfile', source, target, () => walk(source, 'copyfile'))
    if (!entry) throw fsError('ENOENT', 'copyfile', source, target)
    withBoth('copyfile', source, target, () => walk(target, 'copyfile'))
    if (entry.kind === 'dir') throw fsError('EISDIR', 'copyfile', source, target)
    const flag = (mode & constants.COPYFILE_EXCL) !== 0 ? 'wx' : 'w'
    const bytes = readAt(entry.id, 0, entry.size)
    withBoth('copyfile', source, target, () => writeFileSync(target, bytes, { flag, mode: entry.mode }))
  })
}

interface CpOptions {
  readonly recursive?: boolean
  readonly force?: boolean
  readonly errorOnExist?: boolean
}

export function cpSync(from: PathLike, to: PathLike, options: CpOptions = {}): void {
  const [source, target] = [toPath(from, 'src'), toPath(to, 'dest')]
  change('cp', source, () => copyTree(existing(source, 'cp'), source, target, options))
}

function copyTree(entry: Entry, source: string, target: string, options: CpOptions): void {
  if (entry.kind === 'file') {
    if (existsSync(target)) {
      if (options.errorOnExist && options.force === false) throw fsError('EEXIST', 'cp', target)
      if (options.force === false) return
    }
    mkdirSync(target.replace(/[^/]*\/*$/, '') || '/', { recursive: true })
    copyFileSync(source, target)
    return
  }
  if (!options.recursive)
    throw Object.assign(new Error(`Recursive option not enabled, cannot copy a directory: ${source}`), {
      code: 'ERR_FS_EISDIR',
    })
  mkdirSync(target, { recursive: true })
  for (const below of children(entry.id))
    copyTree(below, `${source}/${below.name}`, `${target}/${below.name}`, options)
}

export function truncateSync(path: PathLike, length = 0): void {
  const name = toPath(path)
  change('open', name, () => {
    const entry = existing(name, 'open')
    if (entry.kind === 'dir') throw fsError('EISDIR', 'open', name)
    cut(entry.id, length)
  })
}

export function ftruncateSync(fd: number, length = 0): void {
  const file = fileOf(fd, 'ftruncate')
  if (!file.writes) throw fsError('EINVAL', 'ftruncate')
  change('ftruncate', undefined, () => cut(file.id, length))
}

function toMs(time: number | string | Date): number {
  return time instanceof Date ? time.getTime() : Number(time) * 1000
}

export function utimesSync(
  path: PathLike,
  _atime: number | string | Date,
  mtime: number | string | Date,
): void {
  const name = toPath(path)
  change('utime', name, () => setTimes(existing(name, 'utime').id, toMs(mtime)))
}

export function chmodSync(path: PathLike, mode: number | string): void {
  const name = toPath(path)
  const bits = typeof mode === 'string' ? Number.parseInt(mode, 8) : mode
  change('chmod', name, () => setMode(existing(name, 'chmod').id, bits))
}

export function realpathSync(path: PathLike): string {
  return pathOf(existing(toPath(path), 'lstat'))
}

/** What is written is safe with its turn; there is nothing to wait for. */
export function fsyncSync(fd: number): void {
  fileOf(fd, 'fsync')
}

export function fdatasyncSync(fd: number): void {
  fileOf(fd, 'fdatasync')
}

const missing = (name: string) => (): never => {
  throw Object.assign(new Error(`\`fs.${name}\` is not there in an agent; see docs/home.md`), {
    code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM',
  })
}

export const symlinkSync = missing('symlink')
export const linkSync = missing('link')
export const readlinkSync = missing('readlink')
export const watch = missing('watch')
export const watchFile = missing('watchFile')
export const createReadStream = missing('createReadStream')
export const createWriteStream = missing('createWriteStream')
