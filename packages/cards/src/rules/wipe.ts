/** A wipe: the agent begins anew, as it was born (R18). Only the host does this, when its memory is gone. */
import { joinRevocations } from './acts-on-cards.ts'
import type { Agent, World } from './state.ts'

/**
 * Resets what binds an agent beyond its birth: cards that it accepted and their ceiling, and what it has
 * read since. It holds its birth cards again, also one that it dropped. Budgets stay as they are, and so
 * does what it minted, offered and revoked.
 */
export function wipe(world: World, agent: Agent): void {
  agent.held.clear()
  for (const card of agent.births) agent.held.add(card)
  agent.accepted = undefined
  agent.influence = agent.birth
  joinRevocations(agent, [])
  for (const offer of world.offers.values()) if (offer.card.owner === agent) offer.previewed = false
}
