/** What came of an effect, for budgets and for what its agent has read. */
import { decodeBudgets, type EffectRequest, encodeBudgets, receipt } from '@cardinal/cards'
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
): Taken | undefined {
  const key = effectKey(name, effect.id)
  if (!world.effects.get(key)?.open) {
    world.effects.delete(key)
    return undefined
  }
  const unsure =
    !outcome.ok && (outcome.error.class === 'Indeterminate' || outcome.error.class === 'Withheld')
  const kept = outcome.ok || unsure
  const how = attempted || kept ? (unsure ? 'unknown' : 'done') : 'failed'
  const spend = kept ? {} : { spend: new Map<string, bigint>() }
  const settled = receipt(world, { id: key, outcome: how, ...spend, more: false, learned: attempted })
  if (!settled.ok) throw new Error(`an effect was not settled: ${settled.code}`)
  if (kept) return undefined
  const back = decodeBudgets(effect.reserved)
  // What left the node counts as a call; what was to be paid was not.
  if (attempted) for (const budget of [...back.keys()]) if (!budget.startsWith('spend.')) back.delete(budget)
  return back.size > 0 ? { card: effect.via ?? rootCard, of: encodeBudgets(back) } : undefined
}

/** A request as a record keeps it. */
export function encodeRequest({ q, tool }: EffectRequest): object {
  return { ...q, tool, args: [...q.args] }
}

export function decodeRequest(data: Record<string, unknown>): EffectRequest {
  const { tool, args, ...places } = data as { tool: string; args: [string, unknown][] }
  return { q: { ...places, tool: tool.split('.'), args: new Map(args) }, tool, spend: new Map() }
}
