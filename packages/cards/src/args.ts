/**
 * Cells of one argument: what values a grant lets through. Numbers are read from their text, never
 * through a float, so `0.1` and `9007199254740993` mean what they say.
 */
import { badGrant } from './errors.ts'

export type ArgCell =
  | { readonly kind: 'any' }
  | { readonly kind: 'enum'; readonly values: ReadonlySet<string> }
  | { readonly kind: 'number'; readonly scale: number; readonly min?: bigint; readonly max?: bigint }
  | { readonly kind: 'length'; readonly max: number }

export interface ArgRule {
  readonly cell: ArgCell
  readonly optional: boolean
}

const DECIMAL = /^-?(?:0|[1-9]\d*)(?:\.\d+)?$/
const MAX_DIGITS = 40

/** An exact decimal as an integer of `scale` digits after the point; undefined if it needs more, or is no plain decimal. */
function scaled(text: string, scale: number): bigint | undefined {
  if (!DECIMAL.test(text) || text.length > MAX_DIGITS || /^-0(?:\.0*)?$/.test(text)) return undefined
  const [whole = '', fraction = ''] = text.split('.')
  const digits = fraction.replace(/0+$/, '')
  if (digits.length > scale) return undefined
  return BigInt(whole + digits.padEnd(scale, '0'))
}

/** The text by which a value is compared: strings as they are quoted, numbers by their own text. */
function valueText(value: unknown): string {
  return typeof value === 'string'
    ? JSON.stringify(value)
    : typeof value === 'number' || typeof value === 'boolean' || value === null
      ? String(value)
      : JSON.stringify(value)
}

const FIELDS = new Set(['in', 'min', 'max', 'decimal', 'len', 'optional'])

export function parseArgRule(given: unknown, path: string): ArgRule {
  if (given === '*') return { cell: { kind: 'any' }, optional: false }
  if (Array.isArray(given)) return { cell: parseEnum(given, path), optional: false }
  if (typeof given !== 'object' || given === null) {
    throw badGrant(
      path,
      'an argument is `"*"`, a list of values, or an object with `in`, `min`, `max`, `decimal`, `len`, `optional`',
    )
  }
  const rule = given as Record<string, unknown>
  for (const key of Object.keys(rule)) {
    if (!FIELDS.has(key)) throw badGrant(`${path}.${key}`, `unknown field \`${key}\``)
  }
  if (rule.optional !== undefined && typeof rule.optional !== 'boolean')
    throw badGrant(`${path}.optional`, 'true or false')
  return { cell: parseCell(rule, path), optional: rule.optional === true }
}

function parseEnum(values: readonly unknown[], path: string): ArgCell {
  if (values.length === 0)
    throw badGrant(path, 'an empty list allows nothing; leave the argument out instead')
  const bad = values.findIndex((v) => !['string', 'number', 'boolean'].includes(typeof v))
  if (bad >= 0) throw badGrant(`${path}[${bad}]`, 'a string, a number or a boolean')
  return { kind: 'enum', values: new Set(values.map(valueText)) }
}

function parseCell(rule: Record<string, unknown>, path: string): ArgCell {
  const kinds = [
    rule.in !== undefined,
    rule.len !== undefined,
    rule.min !== undefined || rule.max !== undefined || rule.decimal !== undefined,
  ]
  if (kinds.filter(Boolean).length > 1)
    throw badGrant(path, 'only one of `in`, `len` and `min`/`max`/`decimal`')
  if (rule.in !== undefined) {
    if (!Array.isArray(rule.in)) throw badGrant(`${path}.in`, 'a list of values')
    return parseEnum(rule.in, `${path}.in`)
  }
  if (rule.len !== undefined) {
    if (!Number.isSafeInteger(rule.len) || (rule.len as number) < 0)
      throw badGrant(`${path}.len`, 'a length in characters, 0 or more')
    return { kind: 'length', max: rule.len as number }
  }
  if (!kinds[2]) return { kind: 'any' }
  const scale = rule.decimal ?? 0
  if (!Number.isSafeInteger(scale) || (scale as number) < 0 || (scale as number) > 18)
    throw badGrant(`${path}.decimal`, 'digits after the point, 0 to 18')
  const end = (name: 'min' | 'max') => {
    if (rule[name] === undefined) return {}
    const text = typeof rule[name] === 'number' ? String(rule[name]) : rule[name]
    const value = typeof text === 'string' ? scaled(text, scale as number) : undefined
    if (value === undefined)
      throw badGrant(`${path}.${name}`, `a decimal with at most ${String(scale)} digits after the point`)
    return { [name]: value }
  }
  const cell: ArgCell & { kind: 'number' } = {
    kind: 'number',
    scale: scale as number,
    ...end('min'),
    ...end('max'),
  }
  if (cell.min !== undefined && cell.max !== undefined && cell.min > cell.max)
    throw badGrant(path, '`min` is above `max`')
  return cell
}

/** An argument as it stands in a request: its JSON value, and its text if it is a number. */
export function argHas(cell: ArgCell, value: unknown): boolean {
  switch (cell.kind) {
    case 'any':
      return true
    case 'enum':
      return cell.values.has(valueText(value))
    case 'length':
      return typeof value === 'string' && [...value].length <= cell.max
    case 'number': {
      if (typeof value !== 'number' && typeof value !== 'string') return false
      const at = scaled(String(value), cell.scale)
      if (at === undefined || Object.is(value, -0)) return false
      return (cell.min === undefined || at >= cell.min) && (cell.max === undefined || at <= cell.max)
    }
  }
}

function rescale(cell: ArgCell & { kind: 'number' }, scale: number): { min?: bigint; max?: bigint } {
  const by = 10n ** BigInt(scale - cell.scale)
  return {
    ...(cell.min !== undefined && { min: cell.min * by }),
    ...(cell.max !== undefined && { max: cell.max * by }),
  }
}

function fromText(text: string): unknown {
  return JSON.parse(text)
}

export function argLeq(a: ArgCell, b: ArgCell): boolean {
  if (b.kind === 'any') return true
  if (a.kind === 'enum') return [...a.values].every((text) => argHas(b, fromText(text)))
  if (a.kind === 'length' && b.kind === 'length') return a.max <= b.max
  if (a.kind !== 'number' || b.kind !== 'number' || a.scale > b.scale) return false
  const inner = rescale(a, b.scale)
  const low = b.min === undefined || (inner.min !== undefined && inner.min >= b.min)
  const high = b.max === undefined || (inner.max !== undefined && inner.max <= b.max)
  return low && high
}

/** The values of both, or undefined if there are none. */
export function argMeet(a: ArgCell, b: ArgCell): ArgCell | undefined {
  if (argLeq(a, b)) return a
  if (argLeq(b, a)) return b
  if (a.kind === 'enum' || b.kind === 'enum') {
    const [list, other] = a.kind === 'enum' ? [a, b] : [b as ArgCell & { kind: 'enum' }, a]
    const values = new Set([...list.values].filter((text) => argHas(other, fromText(text))))
    return values.size === 0 ? undefined : { kind: 'enum', values }
  }
  if (a.kind !== 'number' || b.kind !== 'number') return undefined
  const scale = Math.min(a.scale, b.scale)
  return numberMeet(a, b, scale)
}

/** Intervals of different scales meet in the coarser one: what has more digits lies in only one of them. */
function numberMeet(
  a: ArgCell & { kind: 'number' },
  b: ArgCell & { kind: 'number' },
  scale: number,
): ArgCell | undefined {
  const fine = Math.max(a.scale, b.scale)
  const [x, y] = [rescale(a, fine), rescale(b, fine)]
  const by = 10n ** BigInt(fine - scale)
  const mins = [x.min, y.min].filter((m) => m !== undefined)
  const maxs = [x.max, y.max].filter((m) => m !== undefined)
  const min =
    mins.length > 0
      ? ceilDiv(
          mins.reduce((p, q) => (p > q ? p : q)),
          by,
        )
      : undefined
  const max =
    maxs.length > 0
      ? floorDiv(
          maxs.reduce((p, q) => (p < q ? p : q)),
          by,
        )
      : undefined
  if (min !== undefined && max !== undefined && min > max) return undefined
  return { kind: 'number', scale, ...(min !== undefined && { min }), ...(max !== undefined && { max }) }
}

function floorDiv(a: bigint, b: bigint): bigint {
  return a / b - (a % b < 0n ? 1n : 0n)
}
function ceilDiv(a: bigint, b: bigint): bigint {
  return -floorDiv(-a, b)
}

function decimalText(value: bigint, scale: number): string {
  const sign = value < 0n ? '-' : ''
  const digits = (value < 0n ? -value : value).toString().padStart(scale + 1, '0')
  const fraction = scale > 0 ? `.${digits.slice(-scale)}` : ''
  return sign + digits.slice(0, digits.length - scale) + fraction
}

/** The rule as people write it. */
export function showArgRule(rule: ArgRule): unknown {
  const optional = rule.optional ? { optional: true } : {}
  const { cell } = rule
  switch (cell.kind) {
    case 'any':
      return rule.optional ? optional : '*'
    case 'enum': {
      const values = [...cell.values].sort().map(fromText)
      return rule.optional ? { in: values, ...optional } : values
    }
    case 'length':
      return { len: cell.max, ...optional }
    case 'number':
      return {
        ...(cell.scale > 0 && { decimal: cell.scale }),
        ...(cell.min !== undefined && { min: decimalText(cell.min, cell.scale) }),
        ...(cell.max !== undefined && { max: decimalText(cell.max, cell.scale) }),
        ...(cell.scale === 0 && cell.min === undefined && cell.max === undefined && { decimal: 0 }),
        ...optional,
      }
  }
}
