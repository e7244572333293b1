/** Ceilings: what a card means at this moment, what an agent may ever do, and where it may still flow. */
import { type Bound, MAX_CARD_BOXES, meet, normalise } from '../bound.ts'
import { BoundIndex } from '../bound-index.ts'
import type { Box } from '../box.ts'
import { type Cell, cellHas, cellsMeet, widest } from '../cell.ts'
import { CardError } from '../errors.ts'
import { ANYWHERE, ceilingSinks, type FlowCeiling, lower, type Reach } from '../flow.ts'
import { HOME, sinkOfHost, sinkOfModel } from '../sink.ts'
import { isLive } from './live.ts'
import type { Agent, Card, Confinement, EffectRequest, Influence, ScopePart, World } from './state.ts'

/** The most that two bounds of cards can have in common: meets of those never grow beyond it. */
const CARD_PAIRS = MAX_CARD_BOXES * MAX_CARD_BOXES

/** The card and its ancestors that the host rooted anew: what a descendant means follows them (R6, R18). */
function moving(card: Card): Card[] {
  const cards = [card]
  for (let at = card.parent; at; at = at.parent) if (at.generation > 1) cards.push(at)
  return cards
}

/** What the card allows now: a request must lie in all of these. */
export function nowTerms(card: Card): Bound[] {
  return moving(card).map((at) => at.now)
}

export function everTerms(card: Card): Bound[] {
  return moving(card).map((at) => at.ever)
}

export function meetAll(terms: readonly Bound[], pairs?: number): Bound {
  if (terms.length === 1) return terms[0] as Bound
  return terms.slice(1).reduce((met, term) => meet(met, term, pairs), terms[0] as Bound)
}

/** What any of these allows. One alone stays itself, so that what was worked out for it holds. */
function union(bounds: readonly Bound[]): Bound {
  const [only] = bounds
  return only && bounds.length === 1 ? only : normalise(bounds.flat())
}

/** What the agent's birth cards, live or not, may ever do. */
export function birthTerm(agent: Agent): Bound {
  return union(agent.births.map((card) => meetAll(everTerms(card), CARD_PAIRS)))
}

/** The agent, who spawned it, whom it is a fork of, and theirs. */
function above(agent: Agent, seen: Set<Agent> = new Set()): Set<Agent> {
  if (seen.has(agent)) return seen
  seen.add(agent)
  for (const next of [agent.spawner, agent.origin]) if (next) above(next, seen)
  return seen
}

const NONE: Confinement[] = []

/** The host's standing confinements that bind the agent (R21). */
function confinementsOn(world: World, agent: Agent): Confinement[] {
  if (world.confinements.length === 0) return NONE
  const names = new Set([...above(agent)].flatMap((a) => [a.tenant, `${a.tenant}/${a.type}`, a.id]))
  return world.confinements.filter((row) => names.has(row.target))
}

/** What the agent may ever do: a request must lie in all of these. */
export function ceilingTerms(world: World, agent: Agent): Bound[] {
  return [birthTerm(agent), ...(agent.accepted ? [agent.accepted] : []), ...confinedTo(world, agent)]
}

export function confinedTo(world: World, agent: Agent): Bound[] {
  return confinementsOn(world, agent)
    .map((row) => row.ceiling)
    .filter((ceiling) => ceiling !== undefined)
}

/** The sinks of all declared tools that lie in a bound. */
function sinksOf(world: World, bound: Bound): readonly Cell[] {
  const known = world.derived.sinks.get(bound)
  if (known) return known
  const found: Cell[] = []
  for (const box of bound)
    for (const tool of world.tools.values()) {
      if (tool.sinks.length === 0 || !cellHas(box.tool, tool.place)) continue
      for (const sink of tool.sinks) {
        const cell = sinkIn(sink, box)
        if (cell) found.push(cell)
      }
    }
  const sinks = widest(found)
  world.derived.sinks.set(bound, sinks)
  return sinks
}

function sinkIn(sink: Cell | 'host' | 'model', { host, resource }: Box): Cell | undefined {
  if (sink === 'host') return sinkOfHost(host)
  return sink === 'model' ? sinkOfModel(resource) : sink
}

/**
 * The default flow of a root reaches the sinks of its current `ever`, the log and callers. `next` is a
 * root that is about to be made, or made anew.
 */
export function reachOf(world: World, next?: { readonly address: string; readonly ever: Bound }): Reach {
  return (root) => {
    const ever = root === next?.address ? next.ever : world.agents.get(root)?.births[0]?.ever
    return widest([...(ever ? sinksOf(world, ever) : []), ...HOME])
  }
}

/** The flow ceiling of an agent, its confinements included. */
export function flowOf(world: World, agent: Agent, from: Influence = agent.influence): FlowCeiling {
  return confinementsOn(world, agent).reduce(
    (flow, row) => (row.flow ? lower(flow, [{ sinks: row.flow, roots: [] }]) : flow),
    from.flow,
  )
}

/** What others take on from the agent: its flow ceiling and its labels. */
export function influenceOf(world: World, agent: Agent): Influence {
  return { flow: flowOf(world, agent), labels: agent.influence.labels }
}

export function flowSinksOf(world: World, agent: Agent): readonly Cell[] {
  const flow = flowOf(world, agent)
  if (flow.moving.length === 0) return flow.sinks
  const known = world.derived.reached.get(flow)
  if (known) return known
  const sinks = ceilingSinks(flow, reachOf(world))
  world.derived.reached.set(flow, sinks)
  return sinks
}

/** The boxes of a bound that hold a request. */
export function holding(world: World, bound: Bound, { q, tool }: EffectRequest): readonly Box[] {
  let index = world.derived.index.get(bound)
  if (!index) {
    index = new BoundIndex(bound)
    world.derived.index.set(bound, index)
  }
  return index.holding(q, tool)
}

/** The sinks of all bounds together, the log and callers, as far as `flow` reaches them. */
export function sinksWithin(world: World, terms: readonly Bound[], flow: readonly Cell[]): readonly Cell[] {
  return cellsMeet(widest([...sinksOfAll(world, terms), ...HOME]), flow)
}

/**
 * The sinks of what all bounds allow. Bounds whose meet is too large to look at are taken one by one:
 * that can only name more sinks, which are then guarded for nothing.
 */
export function sinksOfAll(world: World, terms: readonly Bound[]): readonly Cell[] {
  const met = meetOrNothing(terms)
  if (met) return sinksOf(world, met)
  return terms.map((term) => sinksOf(world, term)).reduce(cellsMeet)
}

/** The meet of bounds, unless it is too large to look at. */
export function meetOrNothing(terms: readonly Bound[]): Bound | undefined {
  try {
    return meetAll(terms, CARD_PAIRS)
  } catch (error) {
    if (error instanceof CardError && error.code === 'TooManyGrants') return undefined
    throw error
  }
}

/** The sinks that an agent keeps: what its ceiling reaches, the log and callers, within its flow. */
export function keptSinks(world: World, agent: Agent): readonly Cell[] {
  return sinksWithin(world, ceilingTerms(world, agent), flowSinksOf(world, agent))
}

/** A part of a scope as a bound at this moment: what dead cards allowed, nobody has any more. It counts the request and `ask` only. */
export function scopeBound(world: World, part: ScopePart): Bound {
  const bound =
    part.kind === 'bound'
      ? part.bound
      : union(part.cards.filter((c) => isLive(world, c)).map((c) => meetAll(nowTerms(c), CARD_PAIRS)))
  const known = world.derived.scopes.get(bound)
  if (known) return known
  const scope = normalise(bound.map((box) => ({ ...box, labels: '*', flow: ANYWHERE })))
  world.derived.scopes.set(bound, scope)
  return scope
}
