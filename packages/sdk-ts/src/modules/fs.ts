/**
 * `node:fs` in an agent: files that lie in its home, in one cut with its tables and its memory. Callbacks
 * come after the call that takes them, in the same turn. What is not there throws and says so: links,
 * watching. See `docs/home.md`.
 *
 * @example
 * import fs from 'node:fs'
 * fs.mkdirSync('/notes', { recursive: true })
 * fs.writeFileSync('/notes/today.txt', 'tea')
 */
import * as calls from './fs-calls.ts'
import promises from './fs-promises.ts'
import * as streams from './fs-streams.ts'

export * from './fs-calls.ts'
export * from './fs-streams.ts'
export { promises }

/** The same with a callback, which comes once the caller has done what it is at. */
function later<A extends readonly unknown[], R>(act: (...args: A) => R) {
  return (...given: readonly unknown[]): void => {
    const callback = given.at(-1)
    if (typeof callback !== 'function')
      throw Object.assign(new TypeError('The "cb" argument must be of type function.'), {
        code: 'ERR_INVALID_ARG_TYPE',
      })
    let result: R
    try {
      result = act(...(given.slice(0, -1) as unknown as A))
    } catch (error) {
      queueMicrotask(() => callback(error))
      return
    }
    queueMicrotask(() => callback(null, result))
  }
}

export const access = later(calls.accessSync)
export const appendFile = later(calls.appendFileSync)
export const chmod = later(calls.chmodSync)
export const close = later(calls.closeSync)
export const copyFile = later(calls.copyFileSync)
export const cp = later(calls.cpSync)
export const fstat = later(calls.fstatSync)
export const fsync = later(calls.fsyncSync)
export const ftruncate = later(calls.ftruncateSync)
export const link = later(calls.linkSync)
export const lstat = later(calls.lstatSync)
export const mkdir = later(calls.mkdirSync)
export const mkdtemp = later(calls.mkdtempSync)
export const open = later(calls.openSync)
export const readFile = later(calls.readFileSync)
export const readdir = later(calls.readdirSync)
export const readlink = later(calls.readlinkSync)
export const realpath = later(calls.realpathSync)
export const rename = later(calls.renameSync)
export const rm = later(calls.rmSync)
export const rmdir = later(calls.rmdirSync)
export const stat = later(calls.statSync)
export const symlink = later(calls.symlinkSync)
export const truncate = later(calls.truncateSync)
export const unlink = later(calls.unlinkSync)
export const utimes = later(calls.utimesSync)
export const writeFile = later(calls.writeFileSync)

export function exists(path: unknown, callback: (there: boolean) => void): void {
  const there = calls.existsSync(path)
  queueMicrotask(() => callback(there))
}

export default {
  ...calls,
  ...streams,
  promises,
  exists,
  access,
  appendFile,
  chmod,
  close,
  copyFile,
  cp,
  fstat,
  fsync,
  ftruncate,
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
