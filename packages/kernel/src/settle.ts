/** What came of an effect, for budgets and for what its agent has read. */
import {
  decodeBudgets,
  type EffectRequest,
  encodeBudgets,
  parseAmounts,
  plainName,
  receipt,
} from '@cardinal/cards'
import type { Used } from '@cardinal/tools'
import { type Actor, effectKey } from './asking.ts'
import type { Taken } from './authority-wire.ts'
import type { OpenEffect } from './state.ts'

/**
 * Settles an effect in the rules: what it tells of the world binds the agent from now on, if anything
 * was attempted; what is proven not to have been spent is given back, which is what this returns.
 */
export function settleEffect(
  { world, name, rootCard }: Actor,
  effect: OpenEffect,
  outcome: { readonly ok: true } | { readonly ok: false; readonly error: { readonly class: string } },
  attempted: boolean,
  used: ReadonlyMap<string, bigint> = new Map(),
  spent = false,
): Taken | undefined {
  const key = effectKey(name, effect.id)
  if (!world.effects.get(key)?.open) {
    world.effects.delete(key)
    return undefined
  }
  // Somebody answered in the tool's place, and tells nothing of the world: it was not performed.
  const stood = effect.mediated?.done?.answered !== undefined && !attempted
  const unsure =
    !outcome.ok && (outcome.error.class === 'Indeterminate' || outcome.error.class === 'Withheld')
  const kept = !stood && (outcome.ok || unsure || spent)
  const how = attempted || kept ? (unsure ? 'unknown' : 'done') : 'failed'
  const spend = kept ? (used.size > 0 ? { used } : {}) : { spend: new Map<string, bigint>() }
  const settled = receipt(world, { id: key, outcome: how, ...spend, more: false, learned: attempted })
  if (!settled.ok) throw new Error(`an effect was not settled: ${settled.code}`)
  const back = decodeBudgets(effect.reserved)
  if (kept) return unused(back, used, effect.via ?? rootCard)
  // What left the node counts as a call; what was to be paid was not.
  if (attempted) for (const budget of [...back.keys()]) if (!budget.startsWith('spend.')) back.delete(budget)
  return back.size > 0 ? { card: effect.via ?? rootCard, of: encodeBudgets(back) } : undefined
}

/** What was reserved and not used. */
function unused(
  reserved: ReadonlyMap<string, bigint>,
  used: ReadonlyMap<string, bigint>,
  card: string,
): Taken | undefined {
  const back = new Map<string, bigint>()
  for (const [name, most] of reserved) {
    const taken = used.get(plainName(name))
    if (taken !== undefined && taken < most) back.set(name, most - taken)
  }
  return back.size > 0 ? { card, of: encodeBudgets(back) } : undefined
}

/** What a tool says that it took, by budget. */
export function usedBudgets({ tokens, spend = {} }: Used): Map<string, bigint> {
  const used = new Map<string, bigint>()
  if (tokens !== undefined) used.set('tokens', BigInt(Math.max(0, Math.ceil(tokens))))
  for (const [currency, amount] of parseAmounts(spend, 'spend')) used.set(`spend.${currency}`, amount)
  return used
}

/** A request as a record keeps it. */
export function encodeRequest({ q, tool }: EffectRequest): object {
  return { ...q, tool, args: [...q.args] }
}

export function decodeRequest(data: Record<string, unknown>): EffectRequest {
  const { tool, args, ...places } = data as { tool: string; args: [string, unknown][] }
  return { q: { ...places, tool: tool.split('.'), args: new Map(args) }, tool, spend: new Map() }
}
