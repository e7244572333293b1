/** Minting (R1): a root from what the host wrote, a child from what its minter asks for, strictly below its parent. */
import { type Bound, leq, MAX_CARD_BOXES, meet, normalise } from '../bound.ts'
import { type Box, namesLeq, shapeLeq } from '../box.ts'
import { CardError } from '../errors.ts'
import { defaultFlow, flowSinks, type Reach } from '../flow.ts'
import { parseWritten, type Written } from '../grant.ts'
import {
  type CardLimits,
  childLimits,
  limitBeyond,
  parseCardLimits,
  rootLimits,
  type WrittenLimits,
} from '../limits.ts'
import { sinksLeq } from '../sink.ts'
import { ceilingTerms, everTerms, meetAll, nowTerms, reachOf, scopeBound } from './ceiling.ts'
import type { Agent, Card, Turn, World } from './state.ts'

/** A card as somebody asks for it; what is left out is the parent's. */
export interface Narrow {
  readonly now?: unknown
  readonly ever?: unknown
  readonly limits?: unknown
  readonly clip?: boolean
}

export interface Minted {
  readonly now: Bound
  readonly ever: Bound
  readonly limits: CardLimits
}

export type MintError =
  | { readonly code: 'NoDepth' }
  | { readonly code: 'BadGrant' | 'TooManyGrants'; readonly missing: string }
  | {
      readonly code: 'OverWide' | 'NowNotInEver'
      readonly missing: { readonly bound?: 'ever' | 'now'; readonly grant?: number; readonly limit?: string }
    }

/** What the rules refuse while they mint; the caller has changed nothing yet. */
class Unmintable extends Error {
  readonly error: MintError
  constructor(error: MintError) {
    super(error.code)
    this.error = error
  }
}

function minting(mint: () => Minted): Minted | { error: MintError } {
  try {
    return mint()
  } catch (error) {
    if (error instanceof Unmintable) return { error: error.error }
    if (error instanceof CardError)
      return {
        error: {
          code: error.code === 'TooManyGrants' ? 'TooManyGrants' : 'BadGrant',
          missing: `${error.path}: ${error.message}`,
        },
      }
    throw error
  }
}

/** Mints a root card of `address`. */
export function mintRoot(world: World, address: string, asked: Narrow): Minted | { error: MintError } {
  return minting(() => {
    const flow = defaultFlow(address)
    const same = asked.ever === undefined || asked.ever === 'same'
    const parse = (name: 'now' | 'ever') =>
      boxes(parseWritten(asked[name], name, world.language.defaultsOf, flow))
    const ever = parse(same ? 'now' : 'ever')
    const wanted = same ? ever : parse('now')
    requireIn(wanted, ever, reachOf(world, { address, ever }))
    const bounds = { now: fitting(meet(wanted, ever), 'now'), ever: fitting(ever, 'ever') }
    return {
      ...bounds,
      limits: rootLimits(parseCardLimits(asked.limits, 'limits', world.language.limits)),
    }
  })
}

/** Mints a child of `parent` for its holder `minter`, in the turns that ask for it. */
export function mintChild(
  world: World,
  minter: Agent,
  parent: Card,
  turns: readonly Turn[],
  asked: Narrow,
): Minted | { error: MintError } {
  return minting(() => {
    if (parent.limits.depth < 1) throw new Unmintable({ code: 'NoDepth' })
    const reach = reachOf(world)
    const scopes = turns.flatMap((turn) => turn.scope).map((part) => scopeBound(world, part))
    const above = (own: Bound[]) => [...own, ...ceilingTerms(world, minter), ...scopes]
    const nows = above(nowTerms(parent))
    const evers = above(everTerms(parent))
    const written = (name: 'now' | 'ever', terms: readonly Bound[]) => {
      if (asked[name] === undefined) return undefined
      const grants = parseWritten(asked[name], name, world.language.defaultsOf)
      if (!asked.clip) requireBelow(grants, terms, name, reach)
      return boxes(grants)
    }
    const [wantedEver, wantedNow] = [written('ever', evers), written('now', nows)]
    const ever = meetAll(wantedEver ? [...evers, wantedEver] : evers)
    const wanted = meetAll(wantedNow ? [...nows, wantedNow] : nows)
    if (!asked.clip) requireIn(wanted, ever, reach)
    const bounds = { now: fitting(oneOf(meet(wanted, ever), ever), 'now'), ever: fitting(ever, 'ever') }
    const limits = parseCardLimits(asked.limits, 'limits', world.language.limits)
    if (!asked.clip) requireLimits(limits, parent.limits)
    return { ...bounds, limits: childLimits(limits, parent.limits) }
  })
}

/** Two bounds that are the same become one, which is then asked once. */
function oneOf(now: Bound, ever: Bound): Bound {
  return leq(ever, now) ? ever : now
}

function boxes(written: readonly Written[]): Bound {
  return normalise(written.map(({ box }) => box))
}

function fitting(bound: Bound, path: string): Bound {
  if (bound.length <= MAX_CARD_BOXES) return bound
  throw new CardError('TooManyGrants', path, `${bound.length} grants; a card holds at most ${MAX_CARD_BOXES}`)
}

/** Every grant must lie in one box of each bound, by what it names itself. */
function requireBelow(
  grants: readonly Written[],
  terms: readonly Bound[],
  bound: 'ever' | 'now',
  reach: Reach,
): void {
  const grant = grants.findIndex((g) => !terms.every((term) => term.some((box) => isBelow(g, box, reach))))
  if (grant >= 0) throw new Unmintable({ code: 'OverWide', missing: { bound, grant } })
}

const ALL_NAMED = { labels: true, flow: true, ask: true }

function requireIn(now: Bound, ever: Bound, reach: Reach): void {
  const grant = now.findIndex((box) => !ever.some((e) => isBelow({ box, names: ALL_NAMED }, e, reach)))
  if (grant >= 0) throw new Unmintable({ code: 'NowNotInEver', missing: { bound: 'now', grant } })
}

/** A written flow is compared with what the other reaches at this moment. */
function isBelow({ box, names }: Written, other: Box, reach: Reach): boolean {
  return (
    shapeLeq(box, other) &&
    (!names.labels || namesLeq(box.labels, other.labels)) &&
    (!names.flow || sinksLeq(flowSinks(box.flow, reach), flowSinks(other.flow, reach))) &&
    (!names.ask || [...other.ask].every((role) => box.ask.has(role)))
  )
}

function requireLimits(limits: WrittenLimits, parent: CardLimits): void {
  const limit = limitBeyond(limits, parent)
  if (limit !== undefined) throw new Unmintable({ code: 'OverWide', missing: { limit } })
}
