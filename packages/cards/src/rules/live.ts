/** Who is live: cards by their chains, agents by their birth cards and their spawners (R10, R11). */
import type { Agent, Card, Revocation, World } from './state.ts'

/** The card and its ancestors, nearest first. */
export function* chainOf(card: Card): Generator<Card> {
  for (let at: Card | undefined = card; at; at = at.parent) yield at
}

function expired(world: World, card: Card): boolean {
  return card.limits.expires !== undefined && world.nowMs >= card.limits.expires
}

export function isLive(world: World, card: Card): boolean {
  for (let at: Card | undefined = card; at; at = at.parent)
    if (at.revocations.length > 0 || expired(world, at)) return false
  return true
}

/** Whether the card is dead by what the host did or the clock, whatever guests revoked. */
function isDeadByHost(world: World, card: Card): boolean {
  for (const at of chainOf(card)) if (expired(world, at) || at.revocations.some((r) => !r.by)) return true
  return false
}

export function isStopped(world: World, agent: Agent): boolean {
  for (let at: Agent | undefined = agent; at; at = at.spawner) if (!hasLiveBirth(world, at)) return true
  return false
}

function hasLiveBirth(world: World, agent: Agent): boolean {
  for (const card of agent.births) if (isLive(world, card)) return true
  return false
}

/** Whether an agent would be stopped without any guest's revocation. */
export function isStoppedByHost(world: World, agent: Agent): boolean {
  for (let at: Agent | undefined = agent; at; at = at.spawner)
    if (at.births.every((card) => isDeadByHost(world, card))) return true
  return false
}

/** The revocations by guests of a card and its ancestors. */
export function guestRevocations(card: Card): Revocation[] {
  return [...chainOf(card)].flatMap((at) => at.revocations.filter((r) => r.by))
}

/** The guests' revocations that a stopped agent is stopped by. */
export function stoppingRevocations(world: World, agent: Agent): Revocation[] {
  for (let at: Agent | undefined = agent; at; at = at.spawner) {
    if (hasLiveBirth(world, at)) continue
    return at.births.filter((card) => !isDeadByHost(world, card)).flatMap(guestRevocations)
  }
  return []
}
