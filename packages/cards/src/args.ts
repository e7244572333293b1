/**
 * Cells of one argument: which of its values a grant lets through.
 *
 * A cell is a conjunction: of a list, or else of an interval, a length, a path, a host and a mail
 * domain, each if it is there. So a meet is exact. Decimals may stand as numbers or as text.
 */
import { type Cell, cellHas, cellLeq, cellMeet } from './cell.ts'
import { decimalOf, decimalText, MAX_SCALE, scaled } from './decimal.ts'
import { badGrant } from './errors.ts'
import { JsonText, NumberText } from './exact-json.ts'
import { parseHostCell, parsePathCell, placeOfHost, placeOfPlainPath, showHost, showPath } from './names.ts'

/** Decimals from `min` to `max` with at most `scale` digits after the point, all in units of 10^-scale. */
interface Interval {
  readonly scale: number
  readonly min?: bigint
  readonly max?: bigint
}

export interface ArgCell {
  /** Values by their canonical text. Where it is there, nothing else is. */
  readonly in?: ReadonlySet<string>
  readonly interval?: Interval
  /** Code points. */
  readonly len?: number
  readonly path?: Cell
  readonly host?: Cell
  readonly domain?: Cell
}

export interface ArgRule {
  readonly cell: ArgCell
  readonly optional: boolean
}

/** Nothing that JSON would escape. */
const PLAIN = /^[ !#-[\]-~]*$/

/** The text by which a value is compared: decimals by their value, all else as JSON. */
export function valueText(value: unknown): string {
  if (value instanceof JsonText) return valueText(value.text)
  if (typeof value === 'string' && PLAIN.test(value)) return `"${value}"`
  if (!(value instanceof NumberText) && typeof value !== 'number') return JSON.stringify(value)
  const decimal = decimalOf(value)
  // An exponent or −0 equals nothing that a list can hold.
  return decimal ? decimalText(decimal.digits, decimal.scale) : `?${String(value)}`
}

function fromText(text: string): unknown {
  return /^[-\d]/.test(text) ? new NumberText(text) : JSON.parse(text)
}

const FIELDS = new Set(['in', 'min', 'max', 'decimal', 'len', 'path', 'host', 'domain', 'optional'])

export function parseArgRule(given: unknown, path: string): ArgRule {
  if (given === '*') return { cell: {}, optional: false }
  if (Array.isArray(given)) return { cell: { in: parseList(given, path) }, optional: false }
  if (typeof given !== 'object' || given === null || given instanceof NumberText) {
    throw badGrant(
      path,
      'an argument is `"*"`, a list of values, or an object with `in`, `min`, `max`, `decimal`, `len`, `path`, `host`, `domain`, `optional`',
    )
  }
  const rule = given as Record<string, unknown>
  for (const key of Object.keys(rule)) {
    if (!FIELDS.has(key)) throw badGrant(`${path}.${key}`, `unknown field \`${key}\``)
  }
  if (rule.optional !== undefined && typeof rule.optional !== 'boolean')
    throw badGrant(`${path}.optional`, 'true or false')
  const parts = parseParts(rule, path)
  const cell = parts.reduce<ArgCell | undefined>((met, part) => met && argMeet(met, part), {})
  if (!cell) throw badGrant(path, 'no value fits all of this')
  return { cell, optional: rule.optional === true }
}

function parseList(values: readonly unknown[], path: string): Set<string> {
  if (values.length === 0)
    throw badGrant(path, 'an empty list allows nothing; leave the argument out instead')
  const texts = values.map((value, i) => {
    const plain = value === null || typeof value === 'string' || typeof value === 'boolean'
    if (!plain && !decimalOf(value))
      throw badGrant(`${path}[${i}]`, 'a string, a plain number, a boolean or null')
    return valueText(value)
  })
  return new Set(texts)
}

function parseParts(rule: Record<string, unknown>, path: string): ArgCell[] {
  const parts: ArgCell[] = []
  if (rule.in !== undefined) {
    if (!Array.isArray(rule.in)) throw badGrant(`${path}.in`, 'a list of values')
    parts.push({ in: parseList(rule.in, `${path}.in`) })
  }
  if (rule.len !== undefined) parts.push({ len: wholeOf(rule.len, `${path}.len`, 'a length in characters') })
  for (const name of ['path', 'host', 'domain'] as const) {
    const text = rule[name]
    if (text === undefined) continue
    if (typeof text !== 'string') throw badGrant(`${path}.${name}`, 'a text')
    const parse = name === 'path' ? parsePathCell : parseHostCell
    parts.push({ [name]: parse(text, `${path}.${name}`) })
  }
  if (rule.min !== undefined || rule.max !== undefined || rule.decimal !== undefined)
    parts.push({ interval: parseInterval(rule, path) })
  return parts
}

function wholeOf(given: unknown, path: string, what: string, most = Number.MAX_SAFE_INTEGER): number {
  const value = given instanceof NumberText ? decimalOf(given) : undefined
  const number = value?.scale === 0 ? Number(value.digits) : typeof given === 'number' ? given : Number.NaN
  if (!Number.isSafeInteger(number) || number < 0 || number > most)
    throw badGrant(path, `${what}, 0 to ${most}`)
  return number
}

function parseInterval(rule: Record<string, unknown>, path: string): Interval {
  const scale =
    rule.decimal === undefined
      ? 0
      : wholeOf(rule.decimal, `${path}.decimal`, 'digits after the point', MAX_SCALE)
  const end = (name: 'min' | 'max') => {
    if (rule[name] === undefined) return {}
    const decimal = decimalOf(rule[name])
    const value = decimal && scaled(decimal, scale)
    if (value === undefined)
      throw badGrant(`${path}.${name}`, `a decimal with at most ${scale} digits after the point`)
    return { [name]: value }
  }
  const interval: Interval = { scale, ...end('min'), ...end('max') }
  if (isEmpty(interval)) throw badGrant(path, '`min` is above `max`')
  return coarsest(interval)
}

function isEmpty({ min, max }: Interval): boolean {
  return min !== undefined && max !== undefined && min > max
}

/** One value needs only its own digits; an interval of more needs all that it was given. */
function coarsest(interval: Interval): Interval {
  const { min, max } = interval
  let scale = interval.scale
  if (min === undefined || min !== max) return interval
  let digits = min
  for (; scale > 0 && digits % 10n === 0n; scale--) digits /= 10n
  return { scale, min: digits, max: digits }
}

function intervalHas(interval: Interval, value: unknown): boolean {
  const decimal = decimalOf(value)
  const at = decimal && scaled(decimal, interval.scale)
  if (at === undefined) return false
  return (
    (interval.min === undefined || at >= interval.min) && (interval.max === undefined || at <= interval.max)
  )
}

/** Whether the cell holds a value as it stands in a request. */
export function argHas(cell: ArgCell, value: unknown): boolean {
  if (cell.in) return cell.in.has(valueText(value))
  if (cell.interval && !intervalHas(cell.interval, value)) return false
  if (cell.len === undefined && !cell.path && !cell.host && !cell.domain) return true
  const text = value instanceof JsonText ? value.text : value
  if (typeof text !== 'string') return false
  if (cell.len !== undefined && [...text].length > cell.len) return false
  return (
    (!cell.path || cellHas(cell.path, placeOfPlainPath(text))) &&
    (!cell.host || isPlace(cell.host, placeOfHost(text))) &&
    (!cell.domain || isPlace(cell.domain, domainOf(text)))
  )
}

function isPlace(cell: Cell, place: readonly string[] | undefined): boolean {
  return place !== undefined && cellHas(cell, place)
}

/** The domain of one plain mail address; anything with a second `@`, a quote or a space is none. */
export function domainOf(value: string): readonly string[] | undefined {
  const parts = /^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@([^@]+)$/.exec(value)
  return parts ? placeOfHost((parts[1] as string).toLowerCase()) : undefined
}

function rescale({ min, max, scale }: Interval, to: number): { min?: bigint; max?: bigint } {
  const by = 10n ** BigInt(to - scale)
  return { ...(min !== undefined && { min: min * by }), ...(max !== undefined && { max: max * by }) }
}

function intervalLeq(a: Interval, b: Interval): boolean {
  if (a.scale > b.scale) return false
  const inner = rescale(a, b.scale)
  const low = b.min === undefined || (inner.min !== undefined && inner.min >= b.min)
  const high = b.max === undefined || (inner.max !== undefined && inner.max <= b.max)
  return low && high
}

/** Whether every value of `a` is a value of `b`. */
export function argLeq(a: ArgCell, b: ArgCell): boolean {
  if (a.in) return [...a.in].every((text) => argHas(b, fromText(text)))
  if (b.in) return false
  return (
    (!b.interval || (a.interval !== undefined && intervalLeq(a.interval, b.interval))) &&
    (b.len === undefined || (a.len !== undefined && a.len <= b.len)) &&
    (['path', 'host', 'domain'] as const).every((name) => {
      const [inner, outer] = [a[name], b[name]]
      return !outer || (inner !== undefined && cellLeq(inner, outer))
    })
  )
}

/** The values of both, or undefined if there are none. */
export function argMeet(a: ArgCell, b: ArgCell): ArgCell | undefined {
  const list = a.in ?? b.in
  if (list) {
    const values = new Set([...list].filter((text) => argHas(a, fromText(text)) && argHas(b, fromText(text))))
    return values.size === 0 ? undefined : { in: values }
  }
  const places: { path?: Cell; host?: Cell; domain?: Cell } = {}
  for (const name of ['path', 'host', 'domain'] as const) {
    const [x, y] = [a[name], b[name]]
    const met = x && y ? cellMeet(x, y) : (x ?? y)
    if (met) places[name] = met
    else if (x && y) return undefined
  }
  const interval =
    a.interval && b.interval ? intervalMeet(a.interval, b.interval) : (a.interval ?? b.interval)
  if (interval === null) return undefined
  const len = a.len === undefined ? b.len : b.len === undefined ? a.len : Math.min(a.len, b.len)
  if (interval && (places.path || (len !== undefined && len < shortest(interval)))) return undefined
  return { ...places, ...(interval && { interval }), ...(len !== undefined && { len }) }
}

/** Intervals of different scales meet in the coarser one: what has more digits lies in only one of them. */
function intervalMeet(a: Interval, b: Interval): Interval | null {
  const scale = Math.min(a.scale, b.scale)
  const fine = Math.max(a.scale, b.scale)
  const by = 10n ** BigInt(fine - scale)
  const [x, y] = [rescale(a, fine), rescale(b, fine)]
  const mins = [x.min, y.min].filter((m) => m !== undefined)
  const maxs = [x.max, y.max].filter((m) => m !== undefined)
  const met: Interval = {
    scale,
    ...(mins.length > 0 && {
      min: ceilDiv(
        mins.reduce((p, q) => (p > q ? p : q)),
        by,
      ),
    }),
    ...(maxs.length > 0 && {
      max: floorDiv(
        maxs.reduce((p, q) => (p < q ? p : q)),
        by,
      ),
    }),
  }
  return isEmpty(met) ? null : coarsest(met)
}

function floorDiv(a: bigint, b: bigint): bigint {
  return a / b - (a % b < 0n ? 1n : 0n)
}
function ceilDiv(a: bigint, b: bigint): bigint {
  return -floorDiv(-a, b)
}

/** The length of the shortest text of a decimal of the interval. */
function shortest({ scale, min, max }: Interval): number {
  if ((min === undefined || min <= 0n) && (max === undefined || max >= 0n)) return 1
  const negative = max !== undefined && max < 0n
  const near = (negative ? -(max as bigint) : min) as bigint
  const far = negative ? (min === undefined ? undefined : -min) : max
  for (let digits = 0; digits <= scale; digits++) {
    const by = 10n ** BigInt(scale - digits)
    const at = ceilDiv(near, by)
    if (far === undefined || at * by <= far) return decimalText(at, digits).length + (negative ? 1 : 0)
  }
  return 1
}

/** The rule as people write it. */
export function showArgRule(rule: ArgRule): unknown {
  const { cell, optional } = rule
  if (cell.in) {
    const values = [...cell.in].sort().map(fromText)
    return optional ? { in: values, optional } : values
  }
  const { interval, len, path, host, domain } = cell
  const bare = interval && interval.min === undefined && interval.max === undefined
  const shown = {
    ...(interval && {
      ...(interval.min !== undefined && { min: numberOf(interval.min, interval.scale) }),
      ...(interval.max !== undefined && { max: numberOf(interval.max, interval.scale) }),
      ...((interval.scale > 0 || bare) && { decimal: interval.scale }),
    }),
    ...(len !== undefined && { len }),
    ...(path && { path: showPath(path) }),
    ...(host && { host: showHost(host) }),
    ...(domain && { domain: showHost(domain) }),
    ...(optional && { optional }),
  }
  return Object.keys(shown).length === 0 ? '*' : shown
}

function numberOf(digits: bigint, scale: number): NumberText {
  return new NumberText(decimalText(digits, scale))
}

/** A value's own narrowest rule. */
export function ruleFor(value: unknown, longest: number): unknown {
  if (typeof value === 'string') return [...value].length > longest ? { len: [...value].length } : [value]
  if (value === null || typeof value === 'boolean' || decimalOf(value)) return [value]
  return '*'
}
