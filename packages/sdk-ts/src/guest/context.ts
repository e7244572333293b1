/**
 * Which invocation runs: kept over every wait, whoever ends it.
 *
 * A promise that one invocation resolves may be what another one waits for. What runs then belongs
 * to the one that waits, for cancels and deadlines are its own. So every callback of a promise runs
 * under the invocation that was running when it was attached; the bundler turns `await` into such
 * callbacks. The same idea as Zone.js.
 */
import { running, serve } from '../current.ts'

type Callback = ((value?: unknown) => unknown) | null | undefined
const PromiseOf = Promise
const plainThen = Promise.prototype.then
const plainQueue = queueMicrotask
const apply = Reflect.apply

function kept(callback: Callback): Callback {
  if (typeof callback !== 'function') return callback
  const invocation = running()
  return (value) => {
    const before = running()
    serve(invocation)
    try {
      return callback(value)
    } finally {
      serve(before)
    }
  }
}

Object.defineProperty(PromiseOf.prototype, 'then', {
  value: function then(this: Promise<unknown>, fulfilled?: Callback, rejected?: Callback) {
    return apply(plainThen, this, [kept(fulfilled), kept(rejected)])
  },
  writable: true,
  configurable: true,
})
Object.defineProperty(globalThis, 'queueMicrotask', {
  value: (callback: () => void) => plainQueue(kept(callback) as () => void),
  writable: true,
  configurable: true,
})
