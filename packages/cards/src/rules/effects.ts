/** Effects (R6, R9, R14, R15): decided and reserved, approved, settled by their receipts, and cut when authority sinks. */

import { type FlowCeiling, lower, OPEN } from '../flow.ts'
import type { BudgetName } from '../limits.ts'
import { plainName } from '../period.ts'
import { isRefusal, turnsOf } from './act.ts'
import { counted, reserve, settle } from './budget.ts'
import { judge, type Verdict } from './judge.ts'
import { DONE, no, type Outcome } from './outcome.ts'
import type { Agent, Effect, EffectRequest, OpenEffect, ToolRow, Turn, World } from './state.ts'
import { join } from './taint.ts'

/** What an effect takes from budgets: one call, and what it may spend. */
export function costOfEffect({ spend, takes }: EffectRequest): Map<BudgetName, bigint> {
  const cost = new Map<BudgetName, bigint>([['calls', 1n], ...(takes ?? [])])
  for (const [currency, amount] of spend) cost.set(`spend.${currency}`, amount)
  return cost
}

export interface EffectOf {
  readonly agent: string
  readonly request: EffectRequest
  readonly via?: string
  readonly for?: readonly string[]
}

interface Found {
  readonly agent: Agent
  readonly turns: readonly Turn[]
}

function find(world: World, of: EffectOf): Found | Outcome<never> {
  const agent = world.agents.get(of.agent)
  if (!agent) return no('NoSuchAgent')
  if (!world.tools.has(of.request.tool)) return no('NoSuchTool')
  const turns = turnsOf(world, agent, of.for)
  return isRefusal(turns) ? turns : { agent, turns }
}

/** What would be decided now. Changes nothing. */
export function decide(
  world: World,
  of: EffectOf,
  approved: ReadonlySet<string>,
): Outcome<{ verdict: Verdict }> {
  const found = find(world, of)
  if ('ok' in found) return found
  const { agent, turns } = found
  const { request, via } = of
  const verdict = judge(world, { agent, request, via, turns, approved, cost: costOfEffect(request) })
  return { ok: true, verdict }
}

/** Decides and reserves: an allowed effect is open, one that asks is pending. */
export function begin(
  world: World,
  id: string,
  of: EffectOf & { readonly stream: boolean },
): Outcome<{ verdict: Verdict }> {
  const found = find(world, of)
  if ('ok' in found) return found
  const { agent, turns } = found
  const { request, via, stream } = of
  const effect: Effect = { id, agent, request, via, turns, stream, approved: new Set(), open: undefined }
  const verdict = attempt(world, effect)
  if (verdict.verdict !== 'refuse') {
    world.effects.set(id, effect)
    world.effectIds.add(id)
  }
  return { ok: true, verdict }
}

function attempt(world: World, effect: Effect): Verdict {
  const { agent, request, via, turns, approved } = effect
  const cost = costOfEffect(request)
  const verdict = judge(world, { agent, request, via, turns, approved, cost })
  if (verdict.verdict === 'allow') {
    const reserved = new Map(counted(verdict.card, cost, world.nowMs))
    reserve(verdict.card, reserved)
    effect.open = { card: verdict.card, reserved, flows: verdict.flows }
  }
  return verdict
}

/** Adds an approval to a pending effect, and decides it again. */
export function approve(world: World, id: string, role: string): Outcome<{ verdict: Verdict }> {
  const effect = world.effects.get(id)
  if (!effect || effect.open) return no('NoSuchEffect')
  effect.approved.add(role)
  const verdict = attempt(world, effect)
  if (verdict.verdict === 'refuse') world.effects.delete(id)
  return { ok: true, verdict }
}

export interface ReceiptOf {
  readonly id: string
  readonly outcome: 'done' | 'failed' | 'unknown'
  /** What was spent of the reserve; left out: all of it. */
  readonly spend?: ReadonlyMap<string, bigint>
  /** What was taken of other budgets, by their plain names; left out: what was reserved. */
  readonly used?: ReadonlyMap<string, bigint>
  /** A piece of a stream that goes on. */
  readonly more: boolean
  /** Whether something of what came back reaches the agent; left out: if it is done. */
  readonly learned?: boolean
}

/** What came of an effect. What was read binds from now on; what was not spent is given back. */
export function receipt(world: World, of: ReceiptOf): Outcome {
  const effect = world.effects.get(of.id)
  if (!effect?.open) return no('NoSuchEffect')
  const { open } = effect
  const spent = new Map(open.reserved)
  if (of.spend) {
    for (const name of spent.keys()) if (name.startsWith('spend.')) spent.set(name, 0n)
    for (const [currency, amount] of of.spend) {
      if (amount > (open.reserved.get(`spend.${currency}`) ?? 0n)) return no('OverReserve')
      for (const name of open.reserved.keys())
        if (amount > 0n && plainName(name) === `spend.${currency}`) spent.set(name, amount)
    }
  }
  for (const [budget, amount] of of.used ?? [])
    for (const [name, most] of open.reserved)
      if (plainName(name) === budget) spent.set(name, amount < most ? amount : most)
  if (of.learned ?? of.outcome === 'done') join(effect.agent, learned(world, effect))
  if (of.more && of.outcome === 'done') {
    if (of.spend) settlePart(open, of.spend)
    return DONE
  }
  settle(
    open.card,
    open.reserved,
    of.outcome === 'failed' ? new Map() : of.outcome === 'unknown' ? open.reserved : spent,
  )
  world.effects.delete(of.id)
  return DONE
}

/** What a piece of a stream has spent is debited with it. */
function settlePart({ card, reserved }: OpenEffect, spend: ReadonlyMap<string, bigint>): void {
  const part = new Map(
    [...spend].map(([currency, amount]): [BudgetName, bigint] => [`spend.${currency}`, amount]),
  )
  settle(card, part, part)
  for (const [name, amount] of part) reserved.set(name, (reserved.get(name) ?? 0n) - amount)
}

function learned(
  world: World,
  { open, request }: Effect,
): { flow: FlowCeiling; labels: ReadonlySet<string> } {
  const flows = open?.flows ?? []
  const flow = flows.reduce<FlowCeiling>((ceiling, clause) => lower(ceiling, clause), OPEN)
  const tool = world.tools.get(request.tool) as ToolRow
  return { flow, labels: new Set(tool.yields) }
}

/** Decides the open streams and pending asks again, and ends those that fail (R15). What they reserved stays debited. */
export function cut(world: World): string[] {
  const ended: string[] = []
  for (const effect of world.effects.values()) {
    const { id, agent, request, via, turns, approved, open, stream } = effect
    if (open && !stream) continue
    const verdict = judge(world, { agent, request, via, turns, approved, cost: undefined })
    if (open ? verdict.verdict === 'allow' : verdict.verdict !== 'refuse') continue
    if (open) settle(open.card, open.reserved, open.reserved)
    world.effects.delete(id)
    ended.push(id)
  }
  return ended.sort()
}
