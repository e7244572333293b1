/**
 * `node:fs/promises` in an agent: done at once, told in the same turn.
 *
 * @example
 * import { readFile } from 'node:fs/promises'
 * const text = await readFile('/notes/today.txt', 'utf8')
 */
import { Buffer } from 'buffer'
import * as calls from './fs-calls.ts'

function told<A extends readonly unknown[], R>(act: (...args: A) => R) {
  return async (...args: A): Promise<R> => act(...args)
}

/** An open file. */
export class FileHandle {
  readonly fd: number

  constructor(fd: number) {
    this.fd = fd
  }

  async read(
    buffer: ArrayBufferView = Buffer.alloc(16_384),
    offset?: number,
    length?: number,
    position?: number | null,
  ) {
    const bytesRead = calls.readSync(this.fd, buffer, offset ?? 0, length, position)
    return { bytesRead, buffer }
  }

  async write(data: string | ArrayBufferView, ...place: (number | null)[]) {
    const [offset, length, position] = place
    return { bytesWritten: calls.writeSync(this.fd, data, offset, length, position), buffer: data }
  }

  async readFile(options?: Parameters<typeof calls.readFileSync>[1]) {
    return calls.readFileSync(this.fd, options)
  }

  async writeFile(data: string | ArrayBufferView, options?: Parameters<typeof calls.writeFileSync>[2]) {
    calls.writeFileSync(this.fd, data, options)
  }

  async appendFile(data: string | ArrayBufferView, options?: Parameters<typeof calls.writeFileSync>[2]) {
    calls.writeFileSync(this.fd, data, options)
  }

  async stat() {
    return calls.fstatSync(this.fd)
  }

  async truncate(length?: number) {
    calls.ftruncateSync(this.fd, length)
  }

  async sync() {}

  async datasync() {}

  async close() {
    calls.closeSync(this.fd)
  }

  async [Symbol.asyncDispose]() {
    calls.closeSync(this.fd)
  }
}

export async function open(...args: Parameters<typeof calls.openSync>): Promise<FileHandle> {
  return new FileHandle(calls.openSync(...args))
}

/** A file by its name, or one that is open. */
function target<T>(given: T | FileHandle): T | number {
  return given instanceof FileHandle ? given.fd : given
}

type Path = Parameters<typeof calls.readFileSync>[0]

export async function readFile(path: Path | FileHandle, options?: Parameters<typeof calls.readFileSync>[1]) {
  return calls.readFileSync(target(path), options)
}

export async function writeFile(
  path: Path | FileHandle,
  data: string | ArrayBufferView,
  options?: Parameters<typeof calls.writeFileSync>[2],
) {
  calls.writeFileSync(target(path), data, options)
}

export async function appendFile(
  path: Path | FileHandle,
  data: string | ArrayBufferView,
  options?: Parameters<typeof calls.writeFileSync>[2],
) {
  calls.appendFileSync(target(path), data, options)
}

export const access = told(calls.accessSync)
export const chmod = told(calls.chmodSync)
export const copyFile = told(calls.copyFileSync)
export const cp = told(calls.cpSync)
export const lstat = told(calls.lstatSync)
export const mkdir = told(calls.mkdirSync)
export const mkdtemp = told(calls.mkdtempSync)
export const readdir = told(calls.readdirSync)
export const realpath = told(calls.realpathSync)
export const rename = told(calls.renameSync)
export const rm = told(calls.rmSync)
export const rmdir = told(calls.rmdirSync)
export const stat = told(calls.statSync)
export const truncate = told(calls.truncateSync)
export const unlink = told(calls.unlinkSync)
export const utimes = told(calls.utimesSync)
export const symlink = told(calls.symlinkSync)
export const link = told(calls.linkSync)
export const readlink = told(calls.readlinkSync)
export const { constants } = calls

export default {
  access,
  appendFile,
  chmod,
  constants,
  copyFile,
  cp,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readFile,
  readdir,
  readlink,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile,
}
