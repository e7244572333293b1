/** Exact decimals: numbers of a JSON text and amounts of money, never through a float. */
import { NumberText } from './exact-json.ts'

/** `digits` × 10^-`scale`, with as few digits after the point as the value needs. */
export interface Decimal {
  readonly digits: bigint
  readonly scale: number
}

const DECIMAL = /^-?(?:0|[1-9]\d*)(?:\.\d+)?$/
export const MAX_SCALE = 18
const MAX_LENGTH = 40
const I64_END = 2n ** 63n
/** So short a text is far below 64 bits. */
const SHORT = 15
const POWERS = Array.from({ length: MAX_SCALE + 1 }, (_, i) => 10n ** BigInt(i))

/** Reads a plain decimal; undefined for an exponent, −0, more than 18 digits after the point, or a whole part beyond 64 bits. */
function parseDecimal(text: string): Decimal | undefined {
  if (text.length > MAX_LENGTH || !DECIMAL.test(text)) return undefined
  const [whole = '', fraction = ''] = text.split('.')
  const kept = fraction.replace(/0+$/, '')
  if (kept.length > MAX_SCALE) return undefined
  const digits = BigInt(whole + kept)
  if (digits === 0n && text.startsWith('-')) return undefined
  if (text.length <= SHORT) return { digits, scale: kept.length }
  const at = BigInt(whole === '-0' ? '0' : whole)
  if (at >= I64_END || at < -I64_END) return undefined
  return { digits, scale: kept.length }
}

/** The number that a value of an argument stands for: a JSON number, or a text that is a plain decimal. */
export function decimalOf(value: unknown): Decimal | undefined {
  if (value instanceof NumberText) return parseDecimal(value.text)
  if (typeof value === 'string') return parseDecimal(value)
  if (typeof value === 'number') return Object.is(value, -0) ? undefined : parseDecimal(String(value))
  return undefined
}

/** The digits of `value` at a scale; undefined if it needs more. */
export function scaled(value: Decimal, scale: number): bigint | undefined {
  if (value.scale === scale) return value.digits
  return value.scale > scale ? undefined : value.digits * (POWERS[scale - value.scale] as bigint)
}

/** The shortest text of `digits` × 10^-`scale`. */
export function decimalText(digits: bigint, scale: number): string {
  const sign = digits < 0n ? '-' : ''
  const all = (digits < 0n ? -digits : digits).toString().padStart(scale + 1, '0')
  const fraction = all.slice(all.length - scale).replace(/0+$/, '')
  const whole = all.slice(0, all.length - scale)
  return sign + whole + (scale > 0 && fraction !== '' ? `.${fraction}` : '')
}

/** Money is counted in units of 10^-18. */
export function parseMoney(value: unknown): bigint | undefined {
  const decimal = decimalOf(value)
  return decimal && decimal.digits >= 0n ? scaled(decimal, MAX_SCALE) : undefined
}

export function moneyText(amount: bigint): string {
  return decimalText(amount, MAX_SCALE)
}
