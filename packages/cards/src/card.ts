/** A card: what its bearer may do now, what it may ever do, and the limits counted along its chain. */
import { type Bound, leq, MAX_CARD_BOXES, normalise } from './bound.ts'
import type { Box } from './box.ts'
import { exact } from './cell.ts'
import { CardError } from './errors.ts'
import { type DefaultsOf, parseGrants, showGrant } from './grant.ts'

export interface Limits {
  /** Milliseconds since 1970; the card is dead from then on. */
  readonly expires?: number
  /** Effects in all. */
  readonly calls?: number
  /** Bytes of request bodies in all. */
  readonly bytesOut?: number
  readonly depth?: number
  readonly fanout?: number
  readonly homeBytes?: number
  readonly logBytes?: number
  readonly tokens?: number
  readonly asks?: number
  /** Exact decimals by currency. */
  readonly spend?: Readonly<Record<string, string>>
}

export interface Card {
  readonly id: string
  readonly now: Bound
  readonly ever: Bound
  readonly limits: Limits
}

const BYTES = /^(\d+)(B|KiB|MiB|GiB)?$/
const UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }
const COUNTS = ['calls', 'depth', 'fanout', 'tokens', 'asks'] as const
const SIZES = ['bytesOut', 'homeBytes', 'logBytes'] as const
const MAX_DEPTH = 15

/** Parses `{now, ever, limits}` of a manifest. `ever: same` is `now`; a `now` outside `ever` is an error. */
export function parseCard(id: string, given: unknown, path: string, defaultsOf: DefaultsOf): Card {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new CardError('BadGrant', path, 'a card is a mapping with `now`')
  const card = given as Record<string, unknown>
  for (const key of Object.keys(card)) {
    if (!['now', 'ever', 'limits'].includes(key))
      throw new CardError(
        'BadGrant',
        `${path}.${key}`,
        `unknown field \`${key}\`; a card has now, ever, limits`,
      )
  }
  const now = bounded(parseGrants(card.now ?? [], `${path}.now`, defaultsOf), `${path}.now`)
  const ever =
    card.ever === undefined || card.ever === 'same'
      ? now
      : bounded(parseGrants(card.ever, `${path}.ever`, defaultsOf), `${path}.ever`)
  now.forEach((box, i) => {
    if (!leq([box], ever))
      throw new CardError(
        'NowNotInEver',
        `${path}.now[${i}]`,
        'this grant of `now` lies in no grant of `ever`',
      )
  })
  return { id, now, ever, limits: parseLimits(card.limits ?? {}, `${path}.limits`) }
}

function bounded(boxes: Box[], path: string): Bound {
  const bound = normalise(boxes)
  if (bound.length > MAX_CARD_BOXES)
    throw new CardError(
      'TooManyGrants',
      path,
      `${bound.length} grants; a card holds at most ${MAX_CARD_BOXES}`,
    )
  return bound
}

function parseLimits(given: unknown, path: string): Limits {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new CardError('BadLimit', path, 'a mapping of limits')
  const limits: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(given)) limits[name] = parseLimit(name, value, `${path}.${name}`)
  return limits as Limits
}

function parseLimit(name: string, value: unknown, path: string): unknown {
  const bad = (what: string) => new CardError('BadLimit', path, what)
  if ((COUNTS as readonly string[]).includes(name)) {
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw bad('a whole number, 0 or more')
    if (name === 'depth' && (value as number) > MAX_DEPTH) throw bad(`at most ${MAX_DEPTH}`)
    return value
  }
  if ((SIZES as readonly string[]).includes(name)) {
    const match = BYTES.exec(String(value))
    if (!match) throw bad('a size, as 4096, 64KiB or 1GiB')
    return Number(match[1]) * UNITS[(match[2] ?? 'B') as keyof typeof UNITS]
  }
  if (name === 'expires') {
    const at = typeof value === 'string' ? Date.parse(value) : Number.NaN
    if (Number.isNaN(at)) throw bad('a time, as 2027-01-31T12:00:00Z')
    return at
  }
  if (name === 'spend') {
    const amounts = Object.entries((value ?? {}) as object)
    if (amounts.some(([c, a]) => !/^[A-Z]{3}$/.test(c) || typeof a !== 'string' || !/^\d+(\.\d+)?$/.test(a)))
      throw bad('amounts by currency, as { EUR: "500.00" }')
    return Object.fromEntries(amounts)
  }
  throw bad(`unknown limit \`${name}\`; there are ${[...COUNTS, ...SIZES, 'expires', 'spend'].join(', ')}`)
}

/** Puts an instance's key where the card's author wrote `{key}`: one exact segment, never a wider cell. */
export function fillKey(card: Card, id: string, key: string): Card {
  const fill = (box: Box): Box => {
    const cell = (c: Box['path']) =>
      c.kind === 'exact' || c.kind === 'under' ? { ...c, at: c.at.map((s) => (s === '{key}' ? key : s)) } : c
    const host = box.host.kind === 'exact' ? exact(box.host.at) : box.host
    return { ...box, resource: cell(box.resource), path: cell(box.path), secret: cell(box.secret), host }
  }
  return { id, now: card.now.map(fill), ever: card.ever.map(fill), limits: card.limits }
}

/** The card in full form, as `cards get` and the log show it. */
export function showCard(card: Card): { id: string; now: object[]; ever: object[]; limits: Limits } {
  const sorted = (bound: Bound) =>
    bound.map(showGrant).sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
  return { id: card.id, now: sorted(card.now), ever: sorted(card.ever), limits: card.limits }
}
