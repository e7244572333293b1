/**
 * Code of the operator's own, in a thread of its own: what it does with its time is its own affair. A call
 * that is not answered in time is given up; a thread that answers nothing any more is ended, with whatever
 * else it was asked. The next call begins a new one, with the code as it was when the node started.
 */
import { hash } from 'node:crypto'
import { Worker } from 'node:worker_threads'

const MAX_HEAP_MB = 128
/** How long a thread may be deaf before it is ended. */
const DEAF_MS = 1000

/** `act` is what the thread does with one message: it has `own`, the module's default export, and `signal`. */
const HARNESS = `
const { parentPort } = require('node:worker_threads')
const loaded = { exports: {} }
;(function (module, exports) { /* the module */ MODULE })(loaded, loaded.exports)
const own = loaded.exports.default ?? loaded.exports
const calls = new Map()
// A promise that nobody waits for is one call's affair, and not that of all others here.
process.on('unhandledRejection', (error) => process.stderr.write('cardinal: a promise of the operator’s code was rejected: ' + String(error && error.message).slice(0, 200) + '\\n'))
parentPort.on('message', async ({ id, ping, abort, asked }) => {
  if (ping) return parentPort.postMessage({ pong: ping })
  if (abort) return calls.get(abort)?.abort()
  const controller = new AbortController()
  calls.set(id, controller)
  try {
    const given = await (ACT)(own, asked, controller.signal)
    parentPort.postMessage({ id, given })
  } catch (error) {
    parentPort.postMessage({ id, failed: { message: String(error && error.message).slice(0, 1000), notDone: Boolean(error && error.notDone) } })
  } finally {
    calls.delete(id)
  }
})
`

/** What the code threw, or that it gave no answer. */
export class OwnCodeFailed extends Error {
  /** Its own word that nothing was done. */
  readonly notDone: boolean

  constructor(message: string, notDone = false) {
    super(message)
    this.notDone = notDone
  }
}

interface Waiting {
  readonly resolve: (given: unknown) => void
  readonly reject: (error: Error) => void
  readonly end: () => void
}

export class OwnCode {
  /** SHA-256 of the code, hexadecimal. */
  readonly digest: string
  readonly #source: string
  readonly #waiting = new Map<number, Waiting>()
  #worker: Worker | undefined
  #next = 1
  #closed = false
  #listening: { readonly heard: Promise<void>; readonly stop: () => void } | undefined

  /** `code` is CommonJS with everything that it needs in it, but for what Node has. `act` is a function's source. */
  constructor(code: string, act: string) {
    this.digest = hash('sha256', code)
    this.#source = HARNESS.replace('(ACT)', () => `(${act})`).replace('/* the module */ MODULE', () => code)
  }

  /** Rejects with `OwnCodeFailed`. What is asked and answered is cloned. */
  async ask(asked: unknown, timeoutMs: number, signal?: AbortSignal): Promise<unknown> {
    // Nothing new is asked of a thread that may be deaf.
    while (this.#listening) await this.#listening.heard
    if (signal?.aborted) throw new OwnCodeFailed('it was cancelled', true)
    if (this.#closed) throw new OwnCodeFailed('the node is closing', true)
    const worker = this.#begun()
    const id = this.#next++
    return new Promise((resolve, reject) => {
      const giveUp = (why: string) => {
        worker.postMessage({ abort: id })
        this.#listen(worker)
        this.#take(id)?.reject(new OwnCodeFailed(why))
      }
      const timer = setTimeout(() => giveUp('it did not answer in time'), timeoutMs)
      const cancel = () => giveUp('it was cancelled')
      signal?.addEventListener('abort', cancel, { once: true })
      const end = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', cancel)
      }
      this.#waiting.set(id, { resolve, reject, end })
      worker.postMessage({ id, asked })
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#failAll('the node is closing')
    await this.#worker?.terminate()
  }

  #begun(): Worker {
    if (this.#worker) return this.#worker
    const worker = new Worker(this.#source, {
      eval: true,
      // Flags of the process are for its own code.
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB },
    })
    worker.on('message', ({ id, given, failed, pong }) => {
      if (pong) return this.#worker === worker ? this.#listening?.stop() : undefined
      const waiting = this.#take(id as number)
      if (failed === undefined) waiting?.resolve(given)
      else waiting?.reject(new OwnCodeFailed(failed.message, failed.notDone))
    })
    worker.on('error', (error) => this.#end(worker, (error as Error).message))
    worker.on('exit', () => this.#end(worker, 'its thread ended'))
    // Listening has made it one that is waited for.
    worker.unref()
    this.#worker = worker
    return worker
  }

  /** Ends a thread that does not say within a moment that it is there. */
  #listen(worker: Worker): void {
    if (this.#worker !== worker || this.#listening) return
    const { promise: heard, resolve } = Promise.withResolvers<void>()
    const deaf = setTimeout(() => this.#end(worker, 'its thread did not go on'), DEAF_MS)
    const stop = () => {
      clearTimeout(deaf)
      this.#listening = undefined
      resolve()
    }
    this.#listening = { heard, stop }
    worker.postMessage({ ping: 1 })
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    waiting?.end()
    return waiting
  }

  #end(worker: Worker, why: string): void {
    if (this.#worker !== worker) return
    this.#worker = undefined
    this.#listening?.stop()
    this.#failAll(why)
    void worker.terminate()
  }

  #failAll(why: string): void {
    for (const id of [...this.#waiting.keys()]) this.#take(id)?.reject(new OwnCodeFailed(why))
  }
}
