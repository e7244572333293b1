/** AbortController and AbortSignal over the polyfilled EventTarget. */
import { Event, EventTarget } from 'event-target-shim'

type Settle = (signal: AbortSignal, reason: unknown) => void
let settle: Settle

export class AbortSignal extends EventTarget {
  #aborted = false
  #reason: unknown
  onabort: ((event: Event) => void) | null = null

  static {
    settle = (signal, reason) => {
      if (signal.#aborted) return
      signal.#aborted = true
      signal.#reason = reason ?? new DOMException('the operation was aborted', 'AbortError')
      const event = new Event('abort')
      signal.onabort?.(event)
      signal.dispatchEvent(event)
    }
  }
  get aborted(): boolean {
    return this.#aborted
  }
  get reason(): unknown {
    return this.#reason
  }
  throwIfAborted(): void {
    if (this.#aborted) throw this.#reason
  }
  static abort(reason?: unknown): AbortSignal {
    const signal = new AbortSignal()
    settle(signal, reason)
    return signal
  }
  static timeout(ms: number): AbortSignal {
    const signal = new AbortSignal()
    setTimeout(() => settle(signal, new DOMException('the operation timed out', 'TimeoutError')), ms)
    return signal
  }
  static any(signals: Iterable<AbortSignal>): AbortSignal {
    const joined = new AbortSignal()
    for (const signal of signals) {
      if (signal.aborted) {
        settle(joined, signal.reason)
        break
      }
      signal.addEventListener('abort', () => settle(joined, signal.reason))
    }
    return joined
  }
}

export class AbortController {
  readonly signal = new AbortSignal()
  abort(reason?: unknown): void {
    settle(this.signal, reason)
  }
}
