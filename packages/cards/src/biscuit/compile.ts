/**
 * A card as checks of a token (`docs/cards.md`, Biscuit): one check a bound, whose alternatives are its
 * boxes. The verifier gives one fact of the request and one of each of its arguments; each check holds
 * in the other mode, so that a token answers both "now" and "ever".
 */
import type { ArgCell, ArgRule } from '../args.ts'
import type { Bound } from '../bound.ts'
import type { Box, Names } from '../box.ts'
import type { Cell } from '../cell.ts'
import { MAX_SCALE } from '../decimal.ts'
import type { Expression, Predicate, Query, Term } from './datalog.ts'

/** Paths end in a slash and hosts begin with a dot, so that a part of a name is no prefix of it. */
export const ABSENT_TEXT = '-'
/** Stands in every set, because an empty set has no type. */
export const PRESENT = ''

/** The columns of the fact of a request, in order. */
export const REQUEST_COLUMNS = [
  'tool',
  'resource',
  'scheme',
  'host',
  'port',
  'method',
  'path',
  'secret',
  'names',
  'labels',
  'approved',
  'time',
] as const

/** The columns of the fact of one argument. */
export const ARG_COLUMNS = [
  'kind',
  'text',
  'digits',
  'whole',
  'fraction',
  'length',
  'path',
  'host',
  'domain',
] as const

const v = (variable: string): Term => ({ variable })
const s = (string: string): Term => ({ string })
const n = (integer: bigint): Term => ({ integer })
const op = (
  name: '<=' | '>=' | '<' | '>' | '==' | 'contains' | 'startsWith' | 'endsWith',
  left: Expression,
  right: Expression,
): Expression => ({
  op: name,
  left,
  right,
})
const all = (parts: readonly Expression[]): Expression =>
  parts.reduce((left, right) => ({ op: 'and', left, right }))
const either = (left: Expression, right: Expression): Expression => ({ op: 'or', left, right })

export function dotted(at: readonly string[]): string {
  return `${at.join('.')}.`
}
export function slashed(at: readonly string[]): string {
  return `${at.join('/')}/`
}
export function rooted(at: readonly string[]): string {
  return `/${slashed(at)}`
}
export function hosted(at: readonly string[]): string {
  return `.${[...at].reverse().join('.')}`
}

/** Strictly below: begins (or ends) with the stem, and is not the stem. */
function inCell(
  variable: string,
  cell: Cell,
  text: (at: readonly string[]) => string,
  side: 'startsWith' | 'endsWith',
): Expression[] {
  if (cell.kind === 'top') return []
  if (cell.kind === 'absent') return [op('==', v(variable), s(ABSENT_TEXT))]
  if (cell.kind === 'exact') return [op('==', v(variable), s(text(cell.at)))]
  const stem = cell.at.length === 0 ? '/' : text(cell.at)
  return [op(side, v(variable), s(stem)), { not: op('==', v(variable), s(stem)) }]
}

function inNames(variable: string, names: Names): Expression[] {
  if (names === '*') return []
  const texts = [...names].map((name) => (name === '' ? ABSENT_TEXT : name)).sort()
  return [op('contains', { set: texts }, v(variable))]
}

function inBox(box: Box): Expression[] {
  return [
    ...inCell('tool', box.tool, dotted, 'startsWith'),
    ...inCell('resource', box.resource, slashed, 'startsWith'),
    ...inNames('scheme', box.scheme),
    ...inCell('host', box.host, hosted, 'endsWith'),
    ...inNames('port', box.port),
    ...inNames('method', box.method),
    ...inCell('path', box.path, rooted, 'startsWith'),
    ...inCell('secret', box.secret, slashed, 'startsWith'),
    ...(box.labels === '*'
      ? []
      : [op('contains', { set: [PRESENT, ...[...box.labels].sort()] }, v('labels'))]),
    ...(box.ask.size === 0
      ? []
      : [op('contains', v('approved'), { set: [PRESENT, ...[...box.ask].sort()] })]),
  ]
}

/** Of an argument's name in hex: any name is a name of a fact, and no two facts share one. */
export function argFact(name: string): string {
  return `arg_${Buffer.from(name).toString('hex')}`
}

function argParts(box: Box): { body: Predicate[]; where: Expression[] } {
  if (box.args === '*') return { body: [], where: [] }
  const rules = [...box.args].sort(([a], [b]) => (a < b ? -1 : 1))
  const required = rules.filter(([, rule]) => !rule.optional).map(([name]) => name)
  const where: Expression[] = [
    op('contains', { set: [PRESENT, ...rules.map(([name]) => name)] }, v('names')),
    op('contains', v('names'), { set: [PRESENT, ...required] }),
  ]
  const body: Predicate[] = []
  for (const [name, rule] of rules) {
    const values = valueIn(argFact(name), rule)
    if (!values) continue
    body.push({ name: argFact(name), terms: ARG_COLUMNS.map((column) => v(`${argFact(name)}_${column}`)) })
    where.push(values)
  }
  return { body, where }
}

function valueIn(fact: string, { cell, optional }: ArgRule): Expression | undefined {
  const parts = argExpressions((column) => v(`${fact}_${column}`), cell)
  if (parts.length === 0) return undefined
  const holds = all(parts)
  return optional ? either(op('==', v(`${fact}_kind`), s('absent')), holds) : holds
}

function argExpressions(column: (name: (typeof ARG_COLUMNS)[number]) => Term, cell: ArgCell): Expression[] {
  if (cell.in) return [op('contains', { set: [...cell.in].sort() }, column('text'))]
  const { interval, len, path, host, domain } = cell
  const isText = op('==', column('kind'), s('string'))
  const places = [
    ...(path ? placed(column('path'), path, rooted, 'startsWith') : []),
    ...(host
      ? [
          { not: op('==', column('host'), s(ABSENT_TEXT)) },
          ...placed(column('host'), host, hosted, 'endsWith'),
        ]
      : []),
    ...(domain
      ? [
          { not: op('==', column('domain'), s(ABSENT_TEXT)) },
          ...placed(column('domain'), domain, hosted, 'endsWith'),
        ]
      : []),
  ]
  return [
    ...(interval
      ? [
          op('<=', column('digits'), n(BigInt(interval.scale))),
          ...(interval.min === undefined ? [] : [atLeast(column, interval.min, interval.scale)]),
          ...(interval.max === undefined ? [] : [atMost(column, interval.max, interval.scale)]),
        ]
      : []),
    ...(len === undefined ? [] : [isText, op('<=', column('length'), n(BigInt(len)))]),
    ...(places.length > 0 || path || host || domain ? [isText, ...places] : []),
  ]
}

function placed(
  term: Term,
  cell: Cell,
  text: (at: readonly string[]) => string,
  side: 'startsWith' | 'endsWith',
): Expression[] {
  return inCell('variable' in term ? term.variable : '', cell, text, side)
}

type Column = (name: 'whole' | 'fraction') => Term

/** A decimal in two whole numbers, so that 64 bits hold each: its floor, and what is above it, in units of 10^-18. */
export function splitDecimal(digits: bigint, scale: number): { whole: bigint; fraction: bigint } {
  const unit = 10n ** BigInt(MAX_SCALE)
  const all = digits * 10n ** BigInt(MAX_SCALE - scale)
  const rest = ((all % unit) + unit) % unit
  return { whole: (all - rest) / unit, fraction: rest }
}

function atLeast(column: Column, digits: bigint, scale: number): Expression {
  const { whole, fraction } = splitDecimal(digits, scale)
  const same = all([op('==', column('whole'), n(whole)), op('>=', column('fraction'), n(fraction))])
  return either(op('>', column('whole'), n(whole)), same)
}

function atMost(column: Column, digits: bigint, scale: number): Expression {
  const { whole, fraction } = splitDecimal(digits, scale)
  const same = all([op('==', column('whole'), n(whole)), op('<=', column('fraction'), n(fraction))])
  return either(op('<', column('whole'), n(whole)), same)
}

const REQUEST: Predicate = { name: 'request', terms: REQUEST_COLUMNS.map(v) }

function mode(name: 'now' | 'ever'): Predicate {
  return { name: 'mode', terms: [s(name)] }
}

/** The check of one bound. In the other mode it holds; an empty bound holds in that one only. */
export function checkOf(name: 'now' | 'ever', bound: Bound): Query[] {
  const other: Query = { body: [mode(name === 'now' ? 'ever' : 'now')], where: [] }
  return [
    other,
    ...bound.map((box): Query => {
      const args = argParts(box)
      return { body: [mode(name), REQUEST, ...args.body], where: [...inBox(box), ...args.where] }
    }),
  ]
}

/** The card is dead from `expires` on, in milliseconds since 1970. */
export function expiryCheck(expires: number): Query[] {
  return [{ body: [REQUEST], where: [op('<', v('time'), n(BigInt(expires)))] }]
}
