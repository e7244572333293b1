/** Limits of a card: when it ends, how far it may be handed down, and budgets counted along its chain. */
import { decimalOf, moneyText, parseMoney } from './decimal.ts'
import { CardError } from './errors.ts'
import { PERIODS, type Period, periodOf, perName } from './period.ts'

/** `calls` and the like, or `spend.` and a currency. Things are counted in ones, money in units of 10^-18. */
export type BudgetName = string

/** What a card's author may count, and what `cards sim` knows of it. */
export interface LimitNames {
  readonly counts: readonly string[]
  /** In bytes, with a unit. */
  readonly sizes: readonly string[]
  /** Whether a limit may be written `{ max, per: day }`. */
  readonly periods: boolean
}

export const SIM_NAMES: LimitNames = { counts: ['calls'], sizes: [], periods: false }
/**
 * On a node. `fanout` counts the agents alive below the card, `bits` what was declassified. `homeBytes` bounds each home
 * by itself. Nothing takes tokens or bytes of the log yet; children are narrowed by them all the same.
 */
export const NODE_NAMES: LimitNames = {
  counts: ['calls', 'asks', 'bits', 'fanout', 'tokens'],
  sizes: ['bytesOut', 'homeBytes', 'logBytes'],
  periods: true,
}

export interface CardLimits {
  /** How many generations of children may stand below the card. */
  readonly depth: number
  /** The card is dead from this moment on. */
  readonly expires?: number
  readonly budgets: ReadonlyMap<BudgetName, bigint>
}

/** Limits as somebody wrote them; what is left out is the parent's, and for a root there is none. */
export interface WrittenLimits {
  readonly depth?: number
  readonly expires?: number
  readonly budgets: ReadonlyMap<BudgetName, bigint>
}

/** What has been taken from the budgets of one card: settled, and reserved for what is under way. */
export interface Counter {
  spent: bigint
  reserved: bigint
}

const MAX_DEPTH = 15
const CURRENCY = /^[A-Za-z][A-Za-z0-9_-]{0,15}$/

export function parseCardLimits(
  given: unknown = {},
  path: string,
  names: LimitNames = SIM_NAMES,
): WrittenLimits {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new CardError('BadGrant', path, 'a mapping of limits')
  const budgets = new Map<BudgetName, bigint>()
  const written: { depth?: number; expires?: number } = {}
  const limit = (name: BudgetName, value: unknown, at: string, amount: (max: unknown) => bigint) => {
    const per = names.periods && name !== 'fanout' ? perOf(value, at) : undefined
    budgets.set(per ? perName(name, per.period) : name, amount(per ? per.max : value))
  }
  for (const [name, value] of Object.entries(given)) {
    const at = `${path}.${name}`
    if (name === 'depth') written.depth = whole(value, at, MAX_DEPTH)
    else if (name === 'expires') written.expires = names === SIM_NAMES ? whole(value, at) : moment(value, at)
    else if (names.counts.includes(name)) limit(name, value, at, (max) => BigInt(whole(max, at)))
    else if (names.sizes.includes(name)) limit(name, value, at, (max) => BigInt(size(max, at)))
    else if (name === 'spend')
      for (const [c, amount] of Object.entries(amountsOf(value, at)))
        limit(`spend.${c}`, amount, at, (max) => moneyOf(c, max, at))
    else throw new CardError('BadGrant', at, unknownLimit(name, names))
  }
  return { ...written, budgets }
}

function unknownLimit(name: string, { counts, sizes }: LimitNames): string {
  const known = ['depth', 'expires', ...counts, ...sizes, 'spend']
  return `unknown limit \`${name}\`; there are ${known.join(', ')}`
}

/** A moment in milliseconds since 1970, or as people write it. */
function moment(value: unknown, path: string): number {
  const at = typeof value === 'string' ? Date.parse(value) : (value as number)
  if (!Number.isSafeInteger(at) || at < 0)
    throw new CardError('BadGrant', path, 'a time, as 2027-01-31T12:00:00Z')
  return at
}

const SIZE = /^(\d{1,12})(B|KiB|MiB|GiB)?$/
const UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }

function size(value: unknown, path: string): number {
  const match = SIZE.exec(String(value))
  if (!match) throw new CardError('BadGrant', path, 'a size, as 4096, 64KiB or 1GiB')
  return Number(match[1]) * UNITS[(match[2] ?? 'B') as keyof typeof UNITS]
}

function whole(value: unknown, path: string, most = Number.MAX_SAFE_INTEGER): number {
  const decimal = typeof value === 'string' ? undefined : decimalOf(value)
  const number = decimal?.scale === 0 ? Number(decimal.digits) : Number.NaN
  if (!(number >= 0 && number <= most)) throw new CardError('BadGrant', path, `a whole number, 0 to ${most}`)
  return number
}

/** `{ max, per }`, of a limit that starts anew each day or month; undefined if it is none. */
function perOf(value: unknown, path: string): { max: unknown; period: Period } | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || !('per' in value))
    return undefined
  const { max, per, ...rest } = value as Record<string, unknown>
  const period = PERIODS.find((p) => p === per)
  if (!period || max === undefined || Object.keys(rest).length > 0)
    throw new CardError('BadGrant', path, 'a limit per period is `{ max: 10, per: day }`, or `month`')
  return { max, period }
}

/** Amounts by currency, as exact decimal texts. */
export function parseAmounts(given: unknown, path: string): Map<string, bigint> {
  const amounts = Object.entries(amountsOf(given, path))
  return new Map(amounts.map(([currency, value]) => [currency, moneyOf(currency, value, path)]))
}

function amountsOf(given: unknown, path: string): object {
  if (typeof given === 'object' && given !== null && !Array.isArray(given)) return given
  throw new CardError('BadGrant', path, 'amounts by currency, as { EUR: "500.00" }')
}

function moneyOf(currency: string, value: unknown, path: string): bigint {
  const amount = parseMoney(value)
  if (CURRENCY.test(currency) && amount !== undefined) return amount
  throw new CardError('BadGrant', `${path}.${currency}`, 'a currency and a plain decimal, 0 or more')
}

/** The first limit, in the order depth, expires, calls, spend, by which a child would have more than its parent. */
export function limitBeyond(child: WrittenLimits, parent: CardLimits): string | undefined {
  if ((child.depth ?? 0) > parent.depth - 1) return 'depth'
  if (child.expires !== undefined && child.expires > (parent.expires ?? Number.POSITIVE_INFINITY))
    return 'expires'
  return [...child.budgets.keys()].sort().find((name) => {
    const most = parent.budgets.get(name)
    return most !== undefined && (child.budgets.get(name) as bigint) > most
  })
}

/** A root's limits. */
export function rootLimits(written: WrittenLimits): CardLimits {
  return { ...written, depth: written.depth ?? 0 }
}

/** A child's limits: what it wrote, never more than its parent's; what it left out is its parent's, counted by itself. */
export function childLimits(written: WrittenLimits, parent: CardLimits): CardLimits {
  const budgets = new Map(parent.budgets)
  for (const [name, amount] of written.budgets) {
    const most = parent.budgets.get(name)
    budgets.set(name, most !== undefined && most < amount ? most : amount)
  }
  const ends = [written.expires, parent.expires].filter((e) => e !== undefined)
  return {
    depth: Math.min(written.depth ?? 0, parent.depth - 1),
    ...(ends.length > 0 && { expires: Math.min(...ends) }),
    budgets,
  }
}

/** Limits as people write them. */
export function showLimits({ depth, expires, budgets }: CardLimits): Record<string, unknown> {
  const shown: Record<string, unknown> = { depth, ...(expires !== undefined && { expires }) }
  const spend: Record<string, unknown> = {}
  for (const [name, most] of [...budgets].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const period = periodOf(name)
    const plain = period ? name.slice(0, -period.length - 1) : name
    const currency = plain.startsWith('spend.') ? plain.slice('spend.'.length) : undefined
    const max = currency === undefined ? Number(most) : moneyText(most)
    const value = period ? { max, per: period } : max
    if (currency === undefined) shown[plain] = value
    else spend[currency] = value
  }
  return { ...shown, ...(Object.keys(spend).length > 0 && { spend }) }
}

/** Budgets as texts of their units, for records. */
export function encodeBudgets(budgets: ReadonlyMap<BudgetName, bigint>): Record<string, string> {
  return Object.fromEntries([...budgets].map(([name, v]) => [name, String(v)]))
}

export function decodeBudgets(data: Readonly<Record<string, string>>): Map<BudgetName, bigint> {
  return new Map(Object.entries(data).map(([name, v]) => [name, BigInt(v)]))
}
