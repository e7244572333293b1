/** Whether anything new may be taken in for an agent: bounded queues, and bounded logs, for it, its type and its tenant. */
import type { Derived } from './derived.ts'
import { KernelError } from './errors.ts'
import type { Address } from './ids.ts'
import { type Limits, told } from './limits.ts'

const RETRY_AFTER_MS = 1000

/** An agent that is awake, as somebody wants it to take something in. */
interface Receiver {
  readonly address: Address
  readonly name: string
  readonly state: Waiting
}

interface Waiting {
  readonly pending: readonly { readonly kind: string }[]
}

/** Inputs that wait; a birth waits for the first of them, and nobody has sent it. */
export function waitingOf({ pending }: Waiting): number {
  return pending.length - (pending[0]?.kind === 'birth' ? 1 : 0)
}

export class Admission {
  readonly #limits: Limits
  readonly #derived: Pick<Derived, 'writtenBy' | 'findAgent'>
  /** Inputs that wait for agents that are awake, by tenant and by type; who sleeps has none. */
  readonly #waiting = new Map<string, number>()

  constructor(limits: Limits, derived: Pick<Derived, 'writtenBy' | 'findAgent'>) {
    this.#limits = limits
    this.#derived = derived
  }

  /** So many inputs more, or less, wait for an agent. */
  changed({ tenant, type }: Address, by: number): void {
    if (by === 0) return
    for (const scope of [tenant, `${tenant}/${type}`]) {
      const now = (this.#waiting.get(scope) ?? 0) + by
      if (now > 0) this.#waiting.set(scope, now)
      else this.#waiting.delete(scope)
    }
  }

  /** Why an agent takes nothing new in; undefined: it does. */
  refusal({ address, name, state }: Receiver): KernelError | undefined {
    const { queue } = this.#limits.of(address)
    const own = waitingOf(state)
    if (own >= queue.value) return busy(`\`${name}\` has ${own} inputs waiting: ${told('queue', queue)}`)
    for (const backlog of this.#limits.scopes(address, 'backlog')) {
      const waiting = backlog.scope === name ? own : (this.#waiting.get(backlog.scope) ?? 0)
      if (waiting >= backlog.value)
        return busy(`\`${backlog.scope}\` has ${waiting} inputs waiting: ${told('backlog', backlog)}`)
    }
    for (const log of this.#limits.scopes(address, 'log')) {
      const written =
        log.scope === name
          ? (this.#derived.findAgent(address)?.written ?? 0)
          : this.#derived.writtenBy(log.scope)
      if (written >= log.value)
        return new KernelError(
          'Refused',
          'LogSpent',
          `\`${log.scope}\` has written ${written} bytes of log: ${told('log', log)}`,
        )
    }
    return undefined
  }
}

function busy(why: string): KernelError {
  return new KernelError('Busy', 'Busy', why, { retryAfterMs: RETRY_AFTER_MS })
}
