/** What calls of `node:fs` are given, as it is checked once at their beginning. */
import { Buffer } from 'buffer'
import { constants } from './fs-stats.ts'
import { fileTree } from './host-home.ts'

const { encodeText } = fileTree

export type PathLike = string | URL | Uint8Array
export type Encoding = BufferEncoding
export type Data = string | ArrayBufferView
export interface ReadOptions {
  readonly encoding?: Encoding | null
  readonly flag?: string
}
export interface WriteOptions extends ReadOptions {
  readonly mode?: number
  readonly flush?: boolean
}

export function invalid(name: string, what: string): TypeError {
  return Object.assign(new TypeError(`The "${name}" argument must be ${what}.`), {
    code: 'ERR_INVALID_ARG_TYPE',
  })
}

export function toPath(given: unknown, name = 'path'): string {
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

export function toBytes(data: unknown, encoding: Encoding | null | undefined): Uint8Array {
  if (typeof data === 'string')
    return isUtf8(encoding) ? encodeText(data) : Buffer.from(data, encoding ?? 'utf8')
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  throw invalid('data', 'of type string or an instance of Buffer, TypedArray, or DataView')
}

export function isUtf8(encoding: Encoding | null | undefined): boolean {
  return encoding === undefined || encoding === null || encoding === 'utf8' || encoding === 'utf-8'
}

export function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

export function optionsOf<T extends object>(
  given: T | Encoding | null | undefined,
): T & { encoding?: Encoding } {
  if (typeof given === 'string') return { encoding: given } as unknown as T & { encoding?: Encoding }
  return (given ?? {}) as T & { encoding?: Encoding }
}

export interface Flags {
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

export function flagsOf(given: string | number): Flags {
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
