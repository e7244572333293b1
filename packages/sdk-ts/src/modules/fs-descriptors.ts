/**
 * Open files of `node:fs`, told by a number. They are data of the agent: one that is open over a suspension
 * is open afterwards.
 */
import type { Entry, Found } from '../guest/file-tree.ts'
import {
  type Data,
  type Encoding,
  type Flags,
  flagsOf,
  invalid,
  type PathLike,
  toBytes,
  toPath,
} from './fs-arguments.ts'
import { Stats } from './fs-stats.ts'
import { fileTree } from './host-home.ts'

const { change, truncate: cut, destroy, entryOf, fsError, make, readAt, walk, writeAt } = fileTree

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

export function isOpen(id: number): boolean {
  for (const file of opened.values()) if (file.id === id) return true
  return false
}

/** The file of a path as these flags want it: made, emptied, or refused. */
export function fileFor(path: string, flags: Flags, mode: number): Entry {
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

export function fileOf(fd: unknown, syscall: string): Open {
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

export function fstatSync(fd: number): Stats {
  return new Stats(entryOf(fileOf(fd, 'fstat').id) as Entry)
}

export function ftruncateSync(fd: number, length = 0): void {
  const file = fileOf(fd, 'ftruncate')
  if (!file.writes) throw fsError('EINVAL', 'ftruncate')
  change('ftruncate', undefined, () => cut(file.id, length))
}

/** What is written is safe with its turn; there is nothing to wait for. */
export function fsyncSync(fd: number): void {
  fileOf(fd, 'fsync')
}

export function fdatasyncSync(fd: number): void {
  fileOf(fd, 'fdatasync')
}
