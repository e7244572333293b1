/** Time as the kernel sees it: handed in, so that a test can own it. */

export interface Timer {
  cancel(): void
}

export interface Clock {
  nowMs(): number
  /** Calls back at or after `dueMs`; never before. */
  at(dueMs: number, callback: () => void): Timer
}

const MAX_DELAY = 2 ** 31 - 1

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  at(dueMs, callback) {
    let handle: NodeJS.Timeout
    const arm = () => {
      const delay = dueMs - Date.now()
      handle = delay > MAX_DELAY ? setTimeout(arm, MAX_DELAY) : setTimeout(callback, Math.max(0, delay))
    }
    arm()
    return { cancel: () => clearTimeout(handle) }
  },
}

/** A clock that stands still until it is advanced. */
export class VirtualClock implements Clock {
  #now: number
  #timers: { due: number; callback: () => void }[] = []

  constructor(startMs: number) {
    this.#now = startMs
  }

  nowMs(): number {
    return this.#now
  }

  at(dueMs: number, callback: () => void): Timer {
    if (dueMs <= this.#now) {
      const soon = setImmediate(callback)
      return { cancel: () => clearImmediate(soon) }
    }
    const timer = { due: dueMs, callback }
    this.#timers.push(timer)
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((t) => t !== timer)
      },
    }
  }

  /** When the next timer is due, if there is one. */
  nextDue(): number | undefined {
    return this.#timers.length === 0 ? undefined : Math.min(...this.#timers.map((t) => t.due))
  }

  /** Moves time to `toMs` and calls what has come due, in order. */
  moveTo(toMs: number): void {
    this.#now = Math.max(this.#now, toMs)
    const due = this.#timers.filter((t) => t.due <= this.#now).sort((a, b) => a.due - b.due)
    this.#timers = this.#timers.filter((t) => t.due > this.#now)
    for (const timer of due) timer.callback()
  }
}
