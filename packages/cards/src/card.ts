/** The card of a manifest: what every instance of a type is rooted with, `{key}` and its own address filled in. */
import { type Bound, MAX_CARD_BOXES, meet, normalise } from './bound.ts'
import { type Box, namesLeq, shapeLeq } from './box.ts'
import { type Cell, cellHas } from './cell.ts'
import { CardError } from './errors.ts'
import { defaultFlow, flowSinks } from './flow.ts'
import { type DefaultsOf, parseGrants } from './grant.ts'
import { type CardLimits, NODE_NAMES, parseCardLimits, rootLimits } from './limits.ts'
import { plainName } from './period.ts'
import { DECLASSIFY, isFewBits, MAX_VALUES } from './rules/declassify.ts'
import { sinksLeq } from './sink.ts'

/** What a manifest's card says of any instance. */
export interface RootCard {
  readonly now: Bound
  readonly ever: Bound
  readonly limits: CardLimits
}

/** Stands for the address of the instance in a flow that was left out. */
const SELF = '{agent}'
const KEY = '{key}'

/** Who is asked where a tool cannot be undone and its grant names nobody. */
const APPROVER = 'approver'

/**
 * Parses `{now, ever, limits}` of a manifest. `ever: same` is `now`; a `now` outside `ever` is an error.
 *
 * A flow that is left out is the default of the instance's root; `ask` that is left out of a grant for
 * what cannot be undone is `approver`.
 */
export function parseCard(given: unknown, path: string, defaultsOf: DefaultsOf): RootCard {
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
  const grants = (name: 'now' | 'ever') => {
    const at = `${path}.${name}`
    return parseGrants(asking(card[name] ?? [], defaultsOf), at, defaultsOf, defaultFlow(SELF))
  }
  const now = grants('now')
  const same = card.ever === undefined || card.ever === 'same'
  const ever = same ? now : grants('ever')
  now.forEach((box, i) => {
    if (!ever.some((other) => isWithin(box, other)))
      throw new CardError(
        'NowNotInEver',
        `${path}.now[${i}]`,
        'this grant of `now` lies in no grant of `ever`',
      )
  })
  const bounds = { now: fitting(now, `${path}.now`), ever: fitting(ever, `${path}.ever`) }
  const limits = rootLimits(parseCardLimits(card.limits ?? {}, `${path}.limits`, NODE_NAMES))
  requireFewBits(now, bounds.now, limits, path)
  return { now: same ? bounds.now : meet(bounds.now, bounds.ever), ever: bounds.ever, limits }
}

function asking(grants: unknown, defaultsOf: DefaultsOf): unknown {
  if (!Array.isArray(grants)) return grants
  return grants.map((grant: unknown) => {
    const { tool, ask } = (grant ?? {}) as { tool?: unknown; ask?: unknown }
    const asks = typeof tool === 'string' && ask === undefined && defaultsOf(tool)?.irreversible
    return asks ? { ...(grant as object), ask: [APPROVER] } : grant
  })
}

/** What may be said of anything that was read is a written list, and counted (R8). */
function requireFewBits(written: readonly Box[], now: Bound, { budgets }: CardLimits, path: string): void {
  const place = DECLASSIFY.split('.')
  const rights = written.flatMap((box, i) =>
    box.tool.kind === 'exact' && cellHas(box.tool, place) ? [{ box, i }] : [],
  )
  for (const { box, i } of rights) {
    if (!isFewBits(box))
      throw new CardError(
        'BadGrant',
        `${path}.now[${i}].args`,
        `\`${DECLASSIFY}\` is for a list of at most ${MAX_VALUES} values, without \`ask\`: \`args: { value: [yes, no] }\``,
      )
    if (!now.includes(box) && !now.some((kept) => isFewBits(kept) && shapeLeq(box, kept)))
      throw new CardError(
        'BadGrant',
        `${path}.now[${i}]`,
        `a wider grant of this card covers \`${DECLASSIFY}\`, which no wider grant allows; narrow that one`,
      )
  }
  if (rights.length > 0 && ![...budgets.keys()].some((name) => plainName(name) === 'bits'))
    throw new CardError(
      'BadGrant',
      `${path}.limits`,
      `\`${DECLASSIFY}\` needs the limit \`bits\`, as \`bits: { max: 64, per: day }\``,
    )
}

/** A default flow is compared by what is written of it: what it reaches depends on tools. */
function isWithin(box: Box, other: Box): boolean {
  const everything = () => [{ kind: 'top' }] as const
  return (
    shapeLeq(box, other) &&
    namesLeq(box.labels, other.labels) &&
    sinksLeq(flowSinks(box.flow, everything), flowSinks(other.flow, everything)) &&
    [...other.ask].every((role) => box.ask.has(role))
  )
}

function fitting(boxes: Box[], path: string): Bound {
  const bound = normalise(boxes)
  if (bound.length <= MAX_CARD_BOXES) return bound
  throw new CardError('TooManyGrants', path, `${bound.length} grants; a card holds at most ${MAX_CARD_BOXES}`)
}

/**
 * The card of one instance: its key where the author wrote `{key}` (one exact segment, never a wider
 * cell), its address where a flow was left out.
 */
export function fillCard(card: RootCard, address: string, key: string): RootCard {
  const flow = defaultFlow(address)
  const cell = (c: Cell): Cell =>
    (c.kind === 'exact' || c.kind === 'under') && c.at.includes(KEY)
      ? { ...c, at: c.at.map((s) => (s === KEY ? key : s)) }
      : c
  const fill = (box: Box): Box => ({
    ...box,
    resource: cell(box.resource),
    path: cell(box.path),
    secret: cell(box.secret),
    flow: box.flow.roots.includes(SELF) ? { ...box.flow, roots: flow.roots } : box.flow,
  })
  const now = card.now.map(fill)
  return { now, ever: card.ever === card.now ? now : card.ever.map(fill), limits: card.limits }
}
