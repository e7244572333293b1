/** Budgets (R9): counters of a card and of all its ancestors, reserved before an effect and settled after it. */
import type { BudgetName, Counter } from '../limits.ts'
import { counterAt, periodOf, plainName, withPeriods } from '../period.ts'
import { chainOf } from './live.ts'
import type { Card } from './state.ts'

type Amounts = ReadonlyMap<BudgetName, bigint>

function counterOf(card: Card, name: BudgetName): Counter {
  let counter = card.counters.get(name)
  if (!counter) {
    counter = { spent: 0n, reserved: 0n }
    card.counters.set(name, counter)
  }
  return counter
}

function count(card: Card, amounts: Amounts, add: (counter: Counter, amount: bigint) => void): void {
  for (const at of chainOf(card)) for (const [name, amount] of amounts) add(counterOf(at, name), amount)
}

/** Whether a budget of the card or of an ancestor is spent, or only reserved by others at this moment. */
export function budgetShort(
  card: Card,
  cost: Amounts,
  nowMs: number,
): 'BudgetSpent' | 'BudgetBusy' | undefined {
  let busy = false
  for (let at: Card | undefined = card; at; at = at.parent) {
    if (at.limits.budgets.size === 0) continue
    for (const [name, most] of at.limits.budgets) {
      const amount = cost.get(plainName(name))
      if (amount === undefined) continue
      const { spent = 0n, reserved = 0n } = at.counters.get(counterAt(name, nowMs)) ?? {}
      if (spent + amount > most) return 'BudgetSpent'
      if (spent + reserved + amount > most) busy = true
    }
  }
  return busy ? 'BudgetBusy' : undefined
}

/**
 * What amounts count for on a card: where it or an ancestor has a budget per day or month, for the
 * periods of this moment as well.
 */
export function counted(card: Card, amounts: Amounts, nowMs: number): Amounts {
  for (const at of chainOf(card))
    for (const name of at.limits.budgets.keys()) if (periodOf(name)) return withPeriods(amounts, nowMs)
  return amounts
}

export function debit(card: Card, amounts: Amounts): void {
  count(card, amounts, (counter, amount) => {
    counter.spent += amount
  })
}

export function reserve(card: Card, amounts: Amounts): void {
  count(card, amounts, (counter, amount) => {
    counter.reserved += amount
  })
}

/** Gives back what was reserved, and debits what was spent of it. */
export function settle(card: Card, reserved: Amounts, spent: Amounts): void {
  count(card, reserved, (counter, amount) => {
    counter.reserved -= amount
  })
  debit(card, spent)
}
