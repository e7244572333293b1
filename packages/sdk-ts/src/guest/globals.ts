/**
 * The global names that QuickJS lacks, as far as `docs/globals.md` lists them. Pure JavaScript from
 * kept packages, evaluated once into the base image. What would share memory, or tell real time or
 * a real locale, is removed or throws.
 */
import 'core-js/web/url'
import 'core-js/web/url-search-params'
import 'core-js/web/structured-clone'
import { TextDecoder, TextEncoder } from '@exodus/bytes/encoding-lite.js'
import { Event, EventTarget } from 'event-target-shim'
import {
  ByteLengthQueuingStrategy,
  CountQueuingStrategy,
  ReadableStream,
  TransformStream,
  WritableStream,
} from 'web-streams-polyfill'
import { atEvent, effect, write } from '../runtime.ts'
import { show } from '../show.ts'
import { AbortController, AbortSignal } from './abort.ts'
import { subtle } from './subtle.ts'

type RandomBytes = (n: number) => Uint8Array
const scope = globalThis as unknown as Record<string, unknown>
const draw = scope.__cardinal_random as RandomBytes

function hidden(on: object, name: string, value: unknown): void {
  Object.defineProperty(on, name, { value, writable: true, configurable: true, enumerable: false })
}
const define = (name: string, value: unknown) => hidden(scope, name, value)

for (const name of ['SharedArrayBuffer', 'Atomics']) delete scope[name]

define('TextEncoder', TextEncoder)
define('TextDecoder', TextDecoder)
define('Event', Event)
define('EventTarget', EventTarget)
define('AbortController', AbortController)
define('AbortSignal', AbortSignal)
define('ReadableStream', ReadableStream)
define('WritableStream', WritableStream)
define('TransformStream', TransformStream)
define('ByteLengthQueuingStrategy', ByteLengthQueuingStrategy)
define('CountQueuingStrategy', CountQueuingStrategy)
define('self', globalThis)

// Randomness: one stream a turn, so a draw left over from an earlier turn is thrown away.
const empty = new Uint32Array(0)
let pool = empty
let drawn = 0
atEvent(() => {
  pool = empty
  drawn = 0
})
function word(): number {
  if (drawn >= pool.length) {
    pool = new Uint32Array(draw(256).buffer)
    drawn = 0
  }
  return pool[drawn++] as number
}
Math.random = function random() {
  return ((word() >>> 5) * 0x4000000 + (word() >>> 6)) / 2 ** 53
}

const QUOTA = 65_536
function getRandomValues<T extends ArrayBufferView>(array: T): T {
  if (
    !ArrayBuffer.isView(array) ||
    array instanceof DataView ||
    array instanceof Float32Array ||
    array instanceof Float64Array
  ) {
    throw new DOMException('getRandomValues takes an integer typed array', 'TypeMismatchError')
  }
  if (array.byteLength > QUOTA) throw new DOMException(`at most ${QUOTA} bytes at once`, 'QuotaExceededError')
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(draw(array.byteLength))
  return array
}
function randomUUID(): string {
  const b = draw(16)
  b[6] = ((b[6] as number) & 0x0f) | 0x40
  b[8] = ((b[8] as number) & 0x3f) | 0x80
  const hex = Array.from(b, (x) => x.toString(16).padStart(2, '0')).join('')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
define('crypto', Object.freeze({ getRandomValues, randomUUID, subtle }))

// Timers are durable waits like `sleep`; an interval is a chain of them.
interface Timer {
  cancel: () => void
}
const timers = new Map<number, Timer>()
let nextTimer = 1
type Callback = (...args: unknown[]) => void
function start(callback: Callback, ms: unknown, args: unknown[], repeat: boolean): number {
  if (typeof callback !== 'function') throw new TypeError('a timer takes a function')
  const id = nextTimer++
  const delay = Math.max(0, Number(ms) || 0)
  const arm = () => {
    const wait = effect('cardinal.sleep', { ms: delay })
    timers.set(id, { cancel: () => void wait.cancel() })
    wait.then(
      () => {
        if (!timers.has(id)) return
        if (repeat) arm()
        else timers.delete(id)
        callback(...args)
      },
      () => timers.delete(id),
    )
  }
  arm()
  return id
}
function stop(id: unknown): void {
  const timer = timers.get(Number(id))
  timers.delete(Number(id))
  timer?.cancel()
}
define('setTimeout', (callback: Callback, ms?: unknown, ...args: unknown[]) =>
  start(callback, ms, args, false),
)
define('setInterval', (callback: Callback, ms?: unknown, ...args: unknown[]) =>
  start(callback, ms, args, true),
)
define('clearTimeout', stop)
define('clearInterval', stop)

/** `%s`, `%d`, `%i`, `%f`, `%o`, `%O`, `%j` and `%%` in the first part, as everywhere. */
function formatted(parts: unknown[]): string {
  const [first, ...rest] = parts
  if (typeof first !== 'string' || rest.length === 0) return parts.map(show).join(' ')
  const text = first.replace(/%[sdifoOj%]/g, (mark) => {
    if (mark === '%%') return '%'
    if (rest.length === 0) return mark
    const value = rest.shift()
    return mark === '%d' || mark === '%f'
      ? String(Number(value))
      : mark === '%i'
        ? String(Math.trunc(Number(value)))
        : show(value)
  })
  return [text, ...rest.map(show)].join(' ')
}

const line =
  (level: string) =>
  (...parts: unknown[]) =>
    write(level, group + formatted(parts))
let group = ''
const info = line('info')
const counts = new Map<string, number>()
define('console', {
  log: info,
  info,
  debug: line('debug'),
  warn: line('warn'),
  error: line('error'),
  trace: line('debug'),
  dir: info,
  table: info,
  assert: (ok: unknown, ...parts: unknown[]) => ok || line('error')('assertion failed:', ...parts),
  group: (...parts: unknown[]) => {
    if (parts.length > 0) info(...parts)
    group += '  '
  },
  groupEnd: () => {
    group = group.slice(2)
  },
  count: (name = 'default') => {
    counts.set(name, (counts.get(name) ?? 0) + 1)
    info(`${name}: ${counts.get(name)}`)
  },
  // The clock stands still within a turn, so there is nothing to measure.
  time: () => {},
  timeEnd: (name = 'default') => info(`${name}: 0ms (time stands still within a turn)`),
  timeLog: (name = 'default') => info(`${name}: 0ms (time stands still within a turn)`),
})

// QuickJS ignores the locale and gives wrong text silently; an error is better than a wrong invoice.
// A program that names these functions gets `intl.ts` instead; what stays here is for names made up
// while it runs.
const noLocale = (what: string) =>
  function localeText(): never {
    throw new RangeError(`${what} is not there unless the program writes its name; see docs/globals.md`)
  }
Number.prototype.toLocaleString = noLocale('Number.toLocaleString') as typeof Number.prototype.toLocaleString
BigInt.prototype.toLocaleString = noLocale('BigInt.toLocaleString') as typeof BigInt.prototype.toLocaleString
for (const name of ['toLocaleString', 'toLocaleDateString', 'toLocaleTimeString'] as const) {
  Date.prototype[name] = noLocale(`Date.${name}`) as typeof Date.prototype.toLocaleString
}

// These compare and change letters without any locale, and so are right only where none is asked for.
const { localeCompare, toLocaleUpperCase, toLocaleLowerCase } = String.prototype
const plain = (locale: unknown) => {
  if (locale !== undefined)
    throw new RangeError(`a locale for letters (\`${String(locale)}\`) is not supported; see docs/globals.md`)
}
hidden(
  String.prototype,
  'localeCompare',
  function compare(this: string, ...args: [string, unknown?, unknown?]) {
    const [other, locale, options] = args
    plain(locale ?? options)
    return localeCompare.call(this, other)
  },
)
hidden(String.prototype, 'toLocaleUpperCase', function upper(this: string, locale?: unknown) {
  plain(locale)
  return toLocaleUpperCase.call(this)
})
hidden(String.prototype, 'toLocaleLowerCase', function lower(this: string, locale?: unknown) {
  plain(locale)
  return toLocaleLowerCase.call(this)
})
