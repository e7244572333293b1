/**
 * Calls of `node:fs` that answer at once, over the files of the agent's home. The current directory is `/`.
 */
import type { Entry, FsCode } from '../guest/file-tree.ts'
import {
  type Data,
  type Encoding,
  flagsOf,
  isUtf8,
  optionsOf,
  type PathLike,
  type ReadOptions,
  toBuffer,
  toBytes,
  toPath,
  type WriteOptions,
} from './fs-arguments.ts'
import { fileFor, fileOf, isOpen } from './fs-descriptors.ts'
import { constants, Dirent, Stats } from './fs-stats.ts'
import { fileTree } from './host-home.ts'

export {
  closeSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  writeSync,
} from './fs-descriptors.ts'
export { constants, Dirent, Stats } from './fs-stats.ts'

const {
  change,
  children,
  truncate: cut,
  decodeText,
  entryOf,
  existing,
  fsError,
  make,
  move,
  pathOf,
  readAt,
  setMode,
  setTimes,
  unlink: takeOut,
  walk,
  writeAt,
} = fileTree

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
