/** Why a request was refused, for people: which card or ceiling, what came nearest, what would allow it. */
import { type Bound, nearest } from '../bound.ts'
import type { Dimension } from '../box.ts'
import { type Grant, grantFor, showGrant } from '../grant.ts'
import { counterAt, plainName } from '../period.ts'
import { showSinks } from '../sink.ts'
import { birthTerm, ceilingTerms, confinedTo, nowTerms, scopeBound } from './ceiling.ts'
import { costOfEffect } from './effects.ts'
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
      return dead(world, refused)
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
        ceilingName(world, agent, request),
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
        : { code: 'BudgetSpent', message: spent(world, request, refused) }
  }
}

function nowTermsOf({ card }: Refused): Bound[] {
  return card ? nowTerms(card) : []
}

/** Which card of the chain is dead, and by what. */
function dead(world: World, { card }: Refused): Explained {
  for (let at = card; at; at = at.parent) {
    const above = at === card ? '' : `, above card \`${card?.id}\`,`
    if (at.revocations.length > 0) return { code: 'Revoked', message: `card \`${at.id}\`${above} is revoked` }
    if (at.limits.expires !== undefined && world.nowMs >= at.limits.expires)
      return { code: 'Expired', message: `card \`${at.id}\`${above} has expired` }
  }
  return { code: 'Revoked', message: `card \`${card?.id}\` is dead` }
}

/** Which budget of which card of the chain does not last. */
function spent(world: World, request: EffectRequest, { card }: Refused): string {
  const cost = costOfEffect(request)
  for (let at = card; at; at = at.parent)
    for (const [name, most] of at.limits.budgets) {
      const amount = cost.get(plainName(name)) ?? 0n
      const used = at.counters.get(counterAt(name, world.nowMs))?.spent ?? 0n
      if (amount > 0n && used + amount > most) return `\`${name}\` of card \`${at.id}\` is spent`
    }
  return `a budget of card \`${card?.id}\`, or of one above it, is spent`
}

/** Which part of what an agent may ever do does not hold the request. */
function ceilingName(world: World, agent: Agent, request: EffectRequest): string {
  const fails = (bound: Bound) => nearest(bound, request.q)?.misses.length !== 0
  if (fails(birthTerm(agent))) return `what \`${agent.id}\` was born with`
  if (agent.accepted && fails(agent.accepted)) return `what \`${agent.id}\` accepted`
  return confinedTo(world, agent).some(fails)
    ? `a confinement of \`${agent.id}\``
    : `the ceiling of \`${agent.id}\``
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
