/**
 * The decision on one effect (R6): a pure function of the world's rows, the request and the time.
 *
 * `by` names the first that fails of: stopped, card (which), revoked, card (now), ceiling, scope, label,
 * flow, limit. What passes them all is allowed, or waits for approvals.
 */
import type { Bound } from '../bound.ts'
import { type Box, boxHas, type Request } from '../box.ts'
import { type Cell, cellHas, cellsBeyond, exact } from '../cell.ts'
import type { Flow } from '../flow.ts'
import type { BudgetName } from '../limits.ts'
import { budgetShort } from './budget.ts'
import { ceilingTerms, flowSinksOf, nowTerms, scopeBound } from './ceiling.ts'
import { isLive, isStopped } from './live.ts'
import type { Agent, Card, EffectRequest, ToolRow, Turn, World } from './state.ts'

type RefusedBy = 'stopped' | 'card' | 'revoked' | 'ceiling' | 'scope' | 'label' | 'flow' | 'limit'

export type Verdict =
  | { readonly verdict: 'allow'; readonly card: Card; readonly flows: readonly (readonly Flow[])[] }
  | { readonly verdict: 'ask'; readonly card: Card; readonly ask: readonly (readonly string[])[] }
  | {
      readonly verdict: 'refuse'
      readonly by: RefusedBy
      readonly card?: Card
      readonly code?: 'AmbiguousCard' | 'NoSuchCard' | 'BudgetSpent' | 'BudgetBusy'
      /** By `flow`: the sinks that the agent can no longer reach. */
      readonly missing?: readonly Cell[]
    }

export interface Asked {
  readonly agent: Agent
  readonly request: EffectRequest
  readonly via: string | undefined
  readonly turns: readonly Turn[]
  readonly approved: ReadonlySet<string>
  /** Left out where an effect that is already counted is decided again. */
  readonly cost: ReadonlyMap<BudgetName, bigint> | undefined
}

export function judge(world: World, asked: Asked): Verdict {
  const { agent, request, turns, approved } = asked
  const { q } = request
  if (isStopped(world, agent)) return { verdict: 'refuse', by: 'stopped' }
  const card = chooseCard(agent, q, asked.via)
  if (typeof card === 'string') return { verdict: 'refuse', by: 'card', code: card }
  const refuse = (by: RefusedBy) => ({ verdict: 'refuse', by, card }) as const
  if (!isLive(world, card)) return refuse('revoked')

  const nows = holding(nowTerms(card), q)
  if (!nows) return refuse('card')
  const ceilings = holding(ceilingTerms(world, agent), q)
  if (!ceilings) return refuse('ceiling')
  const parts = turns.flatMap((turn) => turn.scope)
  const scopes = holding(
    parts.map((part) => scopeBound(world, part)),
    q,
  )
  if (!scopes) return refuse('scope')

  const { labels } = agent.influence
  const bounds = [...nows, ...ceilings].map((boxes) => boxes.filter((box) => clears(box, labels)))
  if (bounds.some((boxes) => boxes.length === 0)) return refuse('label')
  const sinks = requestSinks(world, q)
  if (sinks.length > 0) {
    const missing = cellsBeyond(sinks, flowSinksOf(world, agent))
    if (missing.length > 0) return { ...refuse('flow'), missing }
  }
  const short = asked.cost && budgetShort(card, asked.cost)
  if (short) return { ...refuse('limit'), code: short }

  const needed = [...bounds, ...scopes].map((boxes) => boxes.map((box) => box.ask))
  if (!needed.every((sets) => sets.some((roles) => isWithin(roles, approved)))) {
    const ask = fewest(needed).map((roles) => [...roles].sort())
    return { verdict: 'ask', card, ask: ask.sort(byText) }
  }
  const flows = bounds.map((boxes) => boxes.filter((b) => isWithin(b.ask, approved)).map((b) => b.flow))
  const back: Flow = { sinks, roots: [] }
  return { verdict: 'allow', card, flows: flows.map((clause) => [...clause, back]) }
}

/**
 * The card that is meant: the one that is named, else the birth card; of several birth cards the only
 * one that names the tool, dead and dropped ones included, or a revocation would add authority.
 */
function chooseCard(
  agent: Agent,
  q: Request,
  via: string | undefined,
): Card | 'NoSuchCard' | 'AmbiguousCard' {
  if (via !== undefined) return [...agent.held].find((card) => card.id === via) ?? 'NoSuchCard'
  const naming =
    agent.births.length === 1
      ? agent.births
      : agent.births.filter((card) => card.now.some((box) => cellHas(box.tool, q.tool)))
  const [card] = naming
  if (naming.length !== 1 || !card) return 'AmbiguousCard'
  return agent.held.has(card) ? card : 'NoSuchCard'
}

/** The boxes of each bound that hold the request; undefined if one has none. */
function holding(bounds: readonly Bound[], q: Request): Box[][] | undefined {
  const found: Box[][] = []
  for (const bound of bounds) {
    const boxes = bound.filter((box) => boxHas(box, q))
    if (boxes.length === 0) return undefined
    found.push(boxes)
  }
  return found
}

function clears(box: Box, labels: ReadonlySet<string>): boolean {
  if (box.labels === '*') return true
  for (const label of labels) if (!box.labels.has(label)) return false
  return true
}

/** Every place that the tool can carry the request's data to. */
function requestSinks(world: World, q: Request): Cell[] {
  const { sinks } = world.tools.get(q.tool.join('.')) as ToolRow
  return sinks.flatMap((sink) => (sink !== 'host' ? sink : q.host ? exact(['host', ...q.host]) : []))
}

type Roles = ReadonlySet<string>

function isWithin(a: Roles, b: Roles): boolean {
  for (const role of a) if (!b.has(role)) return false
  return true
}

/** Enough ways to approve one effect; beyond these the longest are not named. */
const MAX_WAYS = 256

/** The sets that contain no other of the sets, shortest first. */
function fewestOf(sets: readonly Roles[]): Roles[] {
  const kept: Roles[] = []
  for (const set of [...sets].sort((a, b) => a.size - b.size)) {
    if (kept.length >= MAX_WAYS) break
    if (!kept.some((other) => isWithin(other, set))) kept.push(set)
  }
  return kept
}

/** One choice of each, joined: the least that satisfies all of them. */
function fewest(choices: readonly (readonly Roles[])[]): Roles[] {
  return choices.reduce<Roles[]>(
    (all, sets) => fewestOf(all.flatMap((a) => fewestOf(sets).map((b) => new Set([...a, ...b])))),
    [new Set()],
  )
}

function byText(a: readonly string[], b: readonly string[]): number {
  const [x, y] = [JSON.stringify(a), JSON.stringify(b)]
  return x < y ? -1 : x > y ? 1 : 0
}
