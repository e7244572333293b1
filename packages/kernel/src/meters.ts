/**
 * Budgets that middleware sets: how much of them is taken, over restarts. Every entry that takes or gives back
 * says so, and derived state adds that up.
 */
import { endOfPeriod } from '@cardinal/cards'
import { type Call, type Middleware, whose } from '@cardinal/middleware'
import type { WireError } from '@cardinal/tools'
import type { Derived } from './derived.ts'

/** What an entry takes of one counter: its name, of what, how much in whole units, and when its period is over. */
export type Taking = readonly [counter: string, what: string, amount: string, endsMs: number]

export class Meters {
  readonly #derived: Pick<Derived, 'findMeter'>
  readonly #counters = new Map<string, { taken: bigint; readonly endsMs: number }>()
  /** When the first period of these is over. */
  #endsMs = Number.POSITIVE_INFINITY

  constructor(derived: Pick<Derived, 'findMeter'>) {
    this.#derived = derived
  }

  /** What an effect takes of the budgets before it; or, where one is short, how it is refused. Changes nothing. */
  need(
    chain: readonly Middleware[],
    call: Pick<Call, 'tenant' | 'type' | 'key' | 'nowMs'>,
    cost: ReadonlyMap<string, bigint>,
  ): { readonly takes: readonly Taking[] } | { readonly short: WireError; readonly by: number } {
    this.#forget(call.nowMs)
    const takes: Taking[] = []
    for (const [index, { name, budget }] of chain.entries()) {
      if (!budget) continue
      const { by, per, most } = budget
      const endsMs = endOfPeriod(per, call.nowMs)
      const counter = `${call.tenant}/${name} ${whose(call, by)} ${per} ${endsMs}`
      for (const [what, bound] of Object.entries(most)) {
        const amount = cost.get(what) ?? 0n
        if (amount === 0n) continue
        if (this.#taken(counter, what) + amount > BigInt(bound))
          return { by: index, short: spent(name, what, by, per, endsMs) }
        takes.push([counter, what, String(amount), endsMs])
      }
    }
    return { takes }
  }

  /** Together with the entry that says so. */
  take(takes: readonly Taking[] = []): void {
    for (const [counter, what, amount, endsMs] of takes) {
      const taken = this.#taken(counter, what) + BigInt(amount)
      this.#counters.set(`${counter} ${what}`, { taken, endsMs })
      this.#endsMs = Math.min(this.#endsMs, endsMs)
    }
  }

  /** Of periods that are over nobody asks any more. */
  #forget(nowMs: number): void {
    if (nowMs < this.#endsMs) return
    this.#endsMs = Number.POSITIVE_INFINITY
    for (const [name, { endsMs }] of this.#counters)
      if (endsMs <= nowMs) this.#counters.delete(name)
      else this.#endsMs = Math.min(this.#endsMs, endsMs)
  }

  #taken(counter: string, what: string): bigint {
    const known = this.#counters.get(`${counter} ${what}`)
    return known ? known.taken : this.#derived.findMeter(counter, what)
  }
}

/** What an effect gives back of what it took: of each thing, as much as cards are given back of it. */
export function givenBack(
  takes: readonly Taking[] = [],
  refund: Readonly<Record<string, string>> = {},
): readonly Taking[] {
  return takes.flatMap(([counter, what, amount, endsMs]): Taking[] => {
    const back = BigInt(refund[what] ?? 0)
    const most = BigInt(amount)
    return back > 0n ? [[counter, what, String(-(back < most ? back : most)), endsMs]] : []
  })
}

function spent(name: string, what: string, by: string, per: string, endsMs: number): WireError {
  const until = new Date(endsMs).toISOString()
  const message = `middleware \`${name}\`: \`${what}\` of this ${by} are spent or held until ${until} (per ${per})`
  return { class: 'Refused', code: 'BudgetSpent', by: 'middleware', message }
}
