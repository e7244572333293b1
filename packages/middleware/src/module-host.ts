/** A module of the operator's own as middleware, in a thread of its own. */
import { OwnCode } from '@cardinal/tools'
import type { OwnModule } from './make.ts'
import type { Back, Step } from './middleware.ts'

/** Less than a chain waits: what hangs must not hold its thread. */
const CALL_MS = 5000

/** The module's default export has `request(call, config)` and `response(call, value, config)`. */
const ACT = `(own, { side, call, value, config }) => {
  const act = own[side]
  if (typeof act !== 'function') return side === 'request' ? { do: 'pass' } : { value }
  return side === 'request' ? act(call, config) : act(call, value, config)
}`

export class ModuleHost implements OwnModule {
  readonly #code: OwnCode

  /** `code` is CommonJS with everything that it needs in it, but for what Node has. */
  constructor(code: string) {
    this.#code = new OwnCode(code, ACT)
  }

  get digest(): string {
    return this.#code.digest
  }

  make(config: unknown): ReturnType<OwnModule['make']> {
    return {
      leaves: true,
      request: (call) => this.#code.ask({ side: 'request', call, config }, CALL_MS) as Promise<Step>,
      response: (call, value) =>
        this.#code.ask({ side: 'response', call, value, config }, CALL_MS) as Promise<Back>,
    }
  }

  close(): Promise<void> {
    return this.#code.close()
  }
}
