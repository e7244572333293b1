/** A wipe: the agent begins anew, as it was born (R18). Only the host does this, when its memory is gone. */
import { joinRevocations } from './acts-on-cards.ts'
import type { Agent, World } from './state.ts'

/**
 * Resets what binds an agent beyond its birth: cards that it accepted and their ceiling, and what it has
 * read since. A birth card that it dropped stays dropped. Budgets stay as they are, and so does what it
 * minted, offered and revoked.
 */
export function wipe(world: World, agent: Agent): void {
  for (const card of agent.held) if (!agent.births.includes(card)) agent.held.delete(card)
  agent.accepted = undefined
  agent.influence = agent.birth
  joinRevocations(agent, [])
  for (const offer of world.offers.values()) if (offer.card.owner === agent) offer.previewed = false
}
