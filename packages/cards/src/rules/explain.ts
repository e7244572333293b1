/** Why a request was refused, for people: which card or ceiling, what came nearest, what would allow it. */
import { type Bound, nearest } from '../bound.ts'
import type { Dimension } from '../box.ts'
import { type Grant, grantFor, showGrant } from '../grant.ts'
import { showSinks } from '../sink.ts'
import { ceilingTerms, nowTerms, scopeBound } from './ceiling.ts'
import type { Verdict } from './judge.ts'
import type { Agent, EffectRequest, Turn, World } from './state.ts'

export interface Explained {
  readonly code: string
  readonly message: string
  /** The narrowest grant that would have allowed it. */
  readonly missing?: Grant
  /** The grant that came nearest, and the dimensions in which it fell short. */
  readonly nearest?: { readonly grant: Grant; readonly misses: readonly Dimension[] }
}

type Refused = Verdict & { readonly verdict: 'refuse' }

export function explain(
  world: World,
  agent: Agent,
  request: EffectRequest,
  turns: readonly Turn[],
  refused: Refused,
): Explained {
  const card = refused.card?.id
  switch (refused.by) {
    case 'stopped':
      return { code: 'Stopped', message: `\`${agent.id}\` is stopped` }
    case 'revoked':
      return expired(world, refused)
        ? { code: 'Expired', message: `card \`${card}\` has expired` }
        : { code: 'Revoked', message: `card \`${card}\`, or one above it, is revoked` }
    case 'card':
      if (refused.code === 'NoSuchCard') return { code: 'NoSuchCard', message: 'no such card is held' }
      if (refused.code === 'AmbiguousCard')
        return {
          code: 'AmbiguousCard',
          message: 'several birth cards name this tool, or none; say which with `via`',
        }
      return outside(failing(nowTermsOf(refused), request), request, 'NoGrant', `card \`${card}\``)
    case 'ceiling':
      return outside(
        failing(ceilingTerms(world, agent), request),
        request,
        'OutOfCeiling',
        `the ceiling of \`${agent.id}\``,
      )
    case 'scope': {
      const parts = turns.flatMap((turn) => turn.scope).map((part) => scopeBound(world, part))
      return outside(failing(parts, request), request, 'OutOfScope', 'the authority of whom this is done for')
    }
    case 'label':
      return {
        code: 'NotCleared',
        message: `no grant for this clears what the agent has read: ${[...agent.influence.labels].sort().join(', ')}`,
      }
    case 'flow':
      return {
        code: 'WouldFlow',
        message: `what the agent has read may not flow to ${showSinks(refused.missing ?? []).join(', ')}`,
      }
    case 'limit':
      return refused.code === 'BudgetBusy'
        ? {
            code: 'BudgetBusy',
            message: `what is left of a budget of card \`${card}\` is reserved by effects under way`,
          }
        : { code: 'BudgetSpent', message: `a budget of card \`${card}\`, or of one above it, is spent` }
  }
}

function nowTermsOf({ card }: Refused): Bound[] {
  return card ? nowTerms(card) : []
}

function expired(world: World, { card }: Refused): boolean {
  for (let at = card; at; at = at.parent)
    if (at.limits.expires !== undefined && world.nowMs >= at.limits.expires) return true
  return false
}

/** The first of the bounds that does not hold the request. */
function failing(terms: readonly Bound[], { q }: EffectRequest): Bound {
  return terms.find((term) => nearest(term, q)?.misses.length !== 0) ?? []
}

function outside(bound: Bound, { q }: EffectRequest, code: string, what: string): Explained {
  const near = nearest(bound, q)
  const box = near && !near.misses.includes('tool') ? bound[near.index] : undefined
  const short =
    box && near
      ? `the nearest grant falls short in ${near.misses.join(', ')}`
      : `it has no grant for \`${q.tool.join('.')}\``
  return {
    code,
    message: `${what} does not allow this: ${short}`,
    missing: grantFor(q),
    ...(box && near && { nearest: { grant: showGrant(box), misses: near.misses } }),
  }
}
