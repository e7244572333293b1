/**
 * The decision on one effect (R6): a pure function of the world's rows, the request and the time.
 *
 * `by` names the first that fails of: stopped, card (which), revoked, card (now), ceiling, scope, label,
 * flow, limit. What passes them all is allowed, or waits for approvals.
 */
import type { Bound } from '../bound.ts'
import type { Box, Request } from '../box.ts'
import { type Cell, cellHas, cellsBeyond, exact } from '../cell.ts'
import type { Flow } from '../flow.ts'
import type { BudgetName } from '../limits.ts'
import { budgetShort } from './budget.ts'
import { ceilingTerms, flowSinksOf, holding, nowTerms, scopeBound } from './ceiling.ts'
import { heldCard, isLive, isStopped } from './live.ts'
import type { Agent, Card, EffectRequest, ToolRow, Turn, World } from './state.ts'

type RefusedBy = 'stopped' | 'card' | 'revoked' | 'ceiling' | 'scope' | 'label' | 'flow' | 'limit'

export type Verdict =
  | {
      readonly verdict: 'allow'
      readonly card: Card
      readonly flows: readonly (readonly Flow[])[]
      /** The first grant of the card's `now` that lets it through as it is approved. */
      readonly grant: Box | undefined
    }
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

  // In the order of `by`: what the card allows now, what the agent may ever do, whom it acts for.
  const ways: (readonly Box[])[] = []
  const { labels } = agent.influence
  let uncleared = false
  const holds = (bound: Bound, counted: boolean): boolean => {
    const boxes = holding(world, bound, request)
    if (boxes.length === 0) return false
    const cleared = counted ? clearing(boxes, labels) : boxes
    if (cleared.length === 0) uncleared = true
    ways.push(cleared)
    return true
  }
  for (const bound of nowTerms(card)) if (!holds(bound, true)) return refuse('card')
  // A card whose two bounds are one has answered for both.
  for (const bound of ceilingTerms(world, agent))
    if (bound !== card.now && !holds(bound, true)) return refuse('ceiling')
  const bounds = ways.length
  for (const turn of turns)
    for (const part of turn.scope) if (!holds(scopeBound(world, part), false)) return refuse('scope')
  if (uncleared) return refuse('label')
  const sinks = requestSinks(world, request)
  if (sinks.length > 0) {
    const missing = cellsBeyond(sinks, flowSinksOf(world, agent))
    if (missing.length > 0) return { ...refuse('flow'), missing }
  }
  const short = asked.cost && budgetShort(card, asked.cost, world.nowMs)
  if (short) return { ...refuse('limit'), code: short }

  const besides = new Set(request.ask)
  if (!isWithin(besides, approved) || !ways.every((boxes) => isApproved(boxes, approved))) {
    const choices = [...ways.map((boxes) => boxes.map((box) => box.ask)), [besides]]
    const ask = fewest(choices).map((roles) => [...roles].sort())
    return { verdict: 'ask', card, ask: ask.sort(byText) }
  }
  const back: Flow = { sinks, roots: [] }
  const flows = ways.slice(0, bounds).map((boxes) => flowsOf(boxes, approved, back))
  const grant = ways[0]?.find((box) => isWithin(box.ask, approved))
  return { verdict: 'allow', card, flows, grant }
}

/** Whether a live card allows a request, whoever holds it and whoever must approve. */
export function isWithinCard(world: World, card: Card, request: EffectRequest): boolean {
  return isLive(world, card) && nowTerms(card).every((bound) => holding(world, bound, request).length > 0)
}

/** Where a verdict's grant stands in its card, from 0. */
export function grantOf(verdict: Verdict): number | undefined {
  if (verdict.verdict !== 'allow' || !verdict.grant) return undefined
  const index = verdict.card.now.indexOf(verdict.grant)
  return index < 0 ? undefined : index
}

function isApproved(boxes: readonly Box[], approved: Roles): boolean {
  for (const box of boxes) if (isWithin(box.ask, approved)) return true
  return false
}

/** Where a receipt may flow: wherever a box that allows it says, and back to where it came from. */
function flowsOf(boxes: readonly Box[], approved: Roles, back: Flow): Flow[] {
  const flows = [back]
  for (const box of boxes) if (isWithin(box.ask, approved)) flows.push(box.flow)
  return flows
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
  if (via !== undefined) return heldCard(agent, via) ?? 'NoSuchCard'
  const { births } = agent
  const naming =
    births.length === 1 ? births : births.filter((card) => card.now.some((box) => cellHas(box.tool, q.tool)))
  const card = naming[0]
  if (naming.length !== 1 || !card) return 'AmbiguousCard'
  return agent.held.has(card) ? card : 'NoSuchCard'
}

function clearing(boxes: readonly Box[], labels: ReadonlySet<string>): readonly Box[] {
  for (const box of boxes) if (!clears(box, labels)) return boxes.filter((each) => clears(each, labels))
  return boxes
}

function clears(box: Box, labels: ReadonlySet<string>): boolean {
  if (box.labels === '*') return true
  for (const label of labels) if (!box.labels.has(label)) return false
  return true
}

/** Every place that the tool can carry the request's data to. */
function requestSinks(world: World, { q, tool }: EffectRequest): Cell[] {
  const { sinks } = world.tools.get(tool) as ToolRow
  const cells: Cell[] = []
  for (const sink of sinks) {
    if (sink === 'model') cells.push(exact(['model', (q.resource ?? []).join('/')]))
    else if (sink !== 'host') cells.push(sink)
    else if (q.host) cells.push(exact(['host', ...q.host]))
  }
  return cells
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
