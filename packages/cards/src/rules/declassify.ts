/**
 * Declassification (R8): a few bits that an agent may answer whatever it has read, by a right that only
 * the host mints.
 *
 * The right is a grant of exactly `agent.declassify` whose one argument `value` is a finite list. No
 * wider grant holds it, `*` and `agent.*` neither, so it stands in the root card or nowhere. Each answer
 * takes of the limit `bits` of the card and all above it, and a card without that limit in its chain
 * declassifies nothing. What is counted is the root's alphabet: cards of one value each that an agent
 * derives would else say many bits by which of them is used.
 */
import { type Box, boxHas, type Request } from '../box.ts'
import type { BudgetName } from '../limits.ts'
import { plainName } from '../period.ts'
import { budgetShort } from './budget.ts'
import { judge } from './judge.ts'
import { chainOf } from './live.ts'
import { no, type Refusal } from './outcome.ts'
import type { Card, EffectRequest, World } from './state.ts'

export const DECLASSIFY = 'agent.declassify'
/** So much of an answer is still few bits. */
export const MAX_VALUES = 256

export interface Declassified {
  readonly ok: true
  readonly card: Card
  /** One call, and so many bits. Nothing is debited yet. */
  readonly cost: ReadonlyMap<BudgetName, bigint>
}

export interface DeclassifyOf {
  /** The turn that is answered. */
  readonly turn: string
  /** The method that it called. */
  readonly method: string
  readonly value: unknown
  readonly via?: string
}

/** Whether the agent may answer a turn with `value` as if it had read nothing. */
export function declassify(world: World, of: DeclassifyOf): Declassified | Refusal {
  const turn = world.turns.get(of.turn)
  if (!turn?.caller || turn.replied) return no('NoSuchCall')
  const { agent } = turn
  const request = declassifyRequest(agent, of)
  const asked = { agent, request, via: of.via, turns: [turn], approved: new Set<string>() }
  const verdict = judge(world, { ...asked, cost: undefined })
  if (verdict.verdict === 'ask') return no('Refused', undefined, 'ask')
  if (verdict.verdict === 'refuse') return no('Refused', verdict.code, verdict.by)
  const { card } = verdict
  const chain = [...chainOf(card)]
  for (const at of chain)
    if (
      !at.now.some((box) => clears(box, agent.influence.labels) && isFewBits(box) && boxHas(box, request.q))
    )
      return no('Refused', undefined, 'card')
  if (!chain.some(({ limits }) => [...limits.budgets.keys()].some((name) => plainName(name) === 'bits')))
    return no('Refused', 'BudgetSpent', 'limit')
  const cost = new Map([
    ['calls', 1n],
    ['bits', bitsOf(chain.at(-1) as Card)],
  ])
  const short = budgetShort(card, cost, world.nowMs)
  return short ? no('Refused', short, 'limit') : { ok: true, card, cost }
}

function declassifyRequest(
  { type, key }: { readonly type: string; readonly key: string },
  { method, value }: DeclassifyOf,
): EffectRequest {
  const q: Request = {
    tool: DECLASSIFY.split('.'),
    resource: [type, key],
    method,
    args: new Map([['value', value]]),
  }
  return { q, tool: DECLASSIFY, spend: new Map() }
}

/** Whether the grant is for nothing but a declared list of values. */
export function isFewBits({ tool, args, ask }: Box): boolean {
  if (tool.kind !== 'exact' || tool.at.join('.') !== DECLASSIFY || ask.size > 0) return false
  if (args === '*' || args.size !== 1) return false
  const values = args.get('value')?.cell.in
  return values !== undefined && values.size <= MAX_VALUES
}

function clears({ labels }: Box, read: ReadonlySet<string>): boolean {
  return labels === '*' || [...read].every((label) => labels.has(label))
}

/** The bits of one answer: which of all values that the card may ever let through, or none of them. */
function bitsOf(root: Card): bigint {
  const values = new Set<string>()
  for (const box of root.now)
    if (isFewBits(box) && box.args !== '*')
      for (const value of box.args.get('value')?.cell.in ?? []) values.add(value)
  return BigInt(Math.ceil(Math.log2(values.size + 1)))
}
