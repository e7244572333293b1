/**
 * A module of the operator's own, in a thread of its own: what it does with its time is its own affair, and a
 * call that it does not answer in time ends the thread and whatever else it was asked. The next call begins a
 * new one, with the code as it was when the node started.
 */
import { hash } from 'node:crypto'
import { Worker } from 'node:worker_threads'
import type { OwnModule } from './make.ts'
import type { Back, Call, Step } from './middleware.ts'

/** Less than a chain waits: what hangs must not hold its thread. */
const CALL_MS = 5000
const MAX_HEAP_MB = 128

/** Runs in the thread. The module's default export has `request(call, config)` and `response(call, value, config)`. */
const HARNESS = `
const { parentPort } = require('node:worker_threads')
const loaded = { exports: {} }
;(function (module, exports) { /* the module */ MODULE })(loaded, loaded.exports)
const own = loaded.exports.default ?? loaded.exports
parentPort.on('message', async ({ id, side, call, value, config }) => {
  try {
    const act = own[side]
    const none = side === 'request' ? { do: 'pass' } : { value }
    const given = typeof act !== 'function' ? none : side === 'request' ? await act(call, config) : await act(call, value, config)
    parentPort.postMessage({ id, given })
  } catch (error) {
    parentPort.postMessage({ id, failed: String(error && error.message) })
  }
})
`

interface Waiting {
  readonly resolve: (given: unknown) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

export class ModuleHost implements OwnModule {
  readonly digest: string
  readonly #source: string
  readonly #waiting = new Map<number, Waiting>()
  #worker: Worker | undefined
  #next = 1

  /** `code` is CommonJS with everything that it needs in it, but for what Node has. */
  constructor(code: string) {
    this.digest = hash('sha256', code)
    this.#source = HARNESS.replace('/* the module */ MODULE', () => code)
  }

  make(config: unknown): ReturnType<OwnModule['make']> {
    return {
      leaves: true,
      request: (call) => this.#ask({ side: 'request', call, config }) as Promise<Step>,
      response: (call, value) => this.#ask({ side: 'response', call, value, config }) as Promise<Back>,
    }
  }

  async close(): Promise<void> {
    this.#failAll(new Error('the node is closing'))
    await this.#worker?.terminate()
  }

  #ask(asked: {
    side: 'request' | 'response'
    call: Call
    value?: unknown
    config: unknown
  }): Promise<unknown> {
    const worker = this.#begun()
    const id = this.#next++
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#end(worker, new Error('it did not answer in time')), CALL_MS)
      this.#waiting.set(id, { resolve, reject, timer })
      worker.postMessage({ id, ...asked })
    })
  }

  #begun(): Worker {
    if (this.#worker) return this.#worker
    const worker = new Worker(this.#source, {
      eval: true,
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB },
    })
    worker.unref()
    worker.on('message', ({ id, given, failed }: { id: number; given?: unknown; failed?: string }) => {
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      clearTimeout(waiting?.timer)
      if (failed === undefined) waiting?.resolve(given)
      else waiting?.reject(new Error(failed))
    })
    worker.on('error', (error) => this.#end(worker, error as Error))
    worker.on('exit', () => this.#end(worker, new Error('its thread ended')))
    this.#worker = worker
    return worker
  }

  #end(worker: Worker, why: Error): void {
    if (this.#worker !== worker) return
    this.#worker = undefined
    this.#failAll(why)
    void worker.terminate()
  }

  #failAll(why: Error): void {
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer)
      reject(why)
    }
    this.#waiting.clear()
  }
}
