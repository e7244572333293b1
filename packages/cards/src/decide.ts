/**
 * The decision on one effect: a pure function of card, counters, request and time.
 *
 * Default deny. `by` names the first check that fails, in this order: revoked (the card is dead),
 * card (`now`), ceiling (`ever`), limit.
 */
import { type Bound, nearest } from './bound.ts'
import { boxMisses, type Dimension, type Request } from './box.ts'
import type { Card } from './card.ts'
import { type Grant, grantFor, showGrant } from './grant.ts'

/** What the card's chain has spent so far. */
export interface Counters {
  readonly calls: number
  readonly bytesOut: number
}

export interface Cost {
  readonly calls: number
  readonly bytesOut: number
}

export type Verdict =
  | {
      readonly verdict: 'allow'
      readonly card: string
      readonly grant: number
      readonly ask: readonly string[]
    }
  | {
      readonly verdict: 'refuse'
      readonly by: 'card' | 'ceiling' | 'limit' | 'revoked'
      readonly card: string
      readonly code: 'NoGrant' | 'OutOfCeiling' | 'BudgetSpent' | 'Expired'
      readonly message: string
      /** The narrowest grant that would have allowed it. */
      readonly missing?: Grant
      /** The grant that came nearest, and the dimensions in which it fell short. */
      readonly nearest?: { readonly grant: Grant; readonly misses: readonly Dimension[] }
    }

export interface DecideInput {
  readonly card: Card
  readonly counters: Counters
  readonly request: Request
  readonly cost: Cost
  readonly nowMs: number
}

export function decide({ card, counters, request, cost, nowMs }: DecideInput): Verdict {
  const { expires } = card.limits
  if (expires !== undefined && nowMs >= expires) {
    return {
      verdict: 'refuse',
      by: 'revoked',
      card: card.id,
      code: 'Expired',
      message: `card \`${card.id}\` has expired`,
    }
  }
  const grant = card.now.findIndex((box) => boxMisses(box, request).length === 0)
  if (grant < 0) return outside(card, card.now, request, 'card')
  const inEver = card.ever.some((box) => boxMisses(box, request).length === 0)
  if (!inEver) return outside(card, card.ever, request, 'ceiling')
  for (const name of ['calls', 'bytesOut'] as const) {
    const limit = card.limits[name]
    if (limit !== undefined && counters[name] + cost[name] > limit) {
      const message = `\`${name}\` of card \`${card.id}\` is spent: ${counters[name]} of ${limit}`
      return { verdict: 'refuse', by: 'limit', card: card.id, code: 'BudgetSpent', message }
    }
  }
  return { verdict: 'allow', card: card.id, grant, ask: [...(card.now[grant]?.ask ?? [])] }
}

function outside(card: Card, bound: Bound, request: Request, by: 'card' | 'ceiling'): Verdict {
  const near = nearest(bound, request)
  const box = near && !near.misses.includes('tool') ? bound[near.index] : undefined
  const what = by === 'card' ? `card \`${card.id}\`` : `the ceiling of card \`${card.id}\``
  const short =
    box && near
      ? `the nearest grant falls short in ${near.misses.join(', ')}`
      : `it has no grant for \`${request.tool.join('.')}\``
  return {
    verdict: 'refuse',
    by,
    card: card.id,
    code: by === 'card' ? 'NoGrant' : 'OutOfCeiling',
    message: `${what} does not allow this: ${short}`,
    missing: grantFor(request),
    ...(box && near && { nearest: { grant: showGrant(box), misses: near.misses } }),
  }
}
