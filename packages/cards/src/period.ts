/** Budgets that start anew each day or month, in UTC: they are counted under the name of their window. */
import type { BudgetName } from './limits.ts'

export type Period = 'day' | 'month'

export const PERIODS: readonly Period[] = ['day', 'month']
const DAY_MS = 86_400_000
const MONTHS = 12

/** The name of a budget per period, as it stands among a card's limits. */
export function perName(name: BudgetName, period: Period): BudgetName {
  return `${name}/${period}`
}

/** The period of a budget's name; undefined if it counts for good. */
export function periodOf(name: BudgetName): Period | undefined {
  return PERIODS.find((period) => name.endsWith(`/${period}`))
}

/** The counter of a budget at a moment. */
export function counterAt(name: BudgetName, nowMs: number): BudgetName {
  const period = periodOf(name)
  return period ? `${name}#${windowAt(period, nowMs)}` : name
}

function windowAt(period: Period, nowMs: number): number {
  if (period === 'day') return Math.floor(nowMs / DAY_MS)
  const at = new Date(nowMs)
  return at.getUTCFullYear() * MONTHS + at.getUTCMonth()
}

/** When the period of a moment is over. */
export function endOfPeriod(period: Period, nowMs: number): number {
  if (period === 'day') return (Math.floor(nowMs / DAY_MS) + 1) * DAY_MS
  const at = new Date(nowMs)
  return Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + 1)
}

/** Amounts with what they count for in each period, so that they are settled where they were reserved. */
export function withPeriods(
  amounts: ReadonlyMap<BudgetName, bigint>,
  nowMs: number,
): Map<BudgetName, bigint> {
  const all = new Map(amounts)
  for (const [name, amount] of amounts)
    for (const period of PERIODS) all.set(counterAt(perName(name, period), nowMs), amount)
  return all
}

/** What is counted by a budget, whatever its period. */
export function plainName(name: BudgetName): BudgetName {
  const at = name.indexOf('/')
  return at < 0 ? name : name.slice(0, at)
}
