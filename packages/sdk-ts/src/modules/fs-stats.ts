/** What `node:fs` says of a file, and its constants. */
import type { Entry, Kind } from '../guest/file-tree.ts'

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
