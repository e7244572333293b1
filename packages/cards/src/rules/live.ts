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

/** Which guests' revocations count; those of the host and the clock always do. */
type Sees = (revocation: Revocation) => boolean

export function isDeadTo(world: World, card: Card, sees: Sees): boolean {
  for (const at of chainOf(card))
    if (expired(world, at) || at.revocations.some((r) => !r.by || sees(r))) return true
  return false
}

export function heldCard(agent: Agent, id: string): Card | undefined {
  for (const card of agent.held) if (card.id === id) return card
  return undefined
}

export function isStopped(world: World, agent: Agent): boolean {
  for (let at: Agent | undefined = agent; at; at = at.spawner) if (!hasLiveBirth(world, at)) return true
  return false
}

function hasLiveBirth(world: World, agent: Agent): boolean {
  for (const card of agent.births) if (isLive(world, card)) return true
  return false
}

/** Whether an agent is stopped for whoever sees only some of the guests' revocations. Each counts by itself. */
export function isStoppedTo(world: World, agent: Agent, sees: Sees): boolean {
  for (let at: Agent | undefined = agent; at; at = at.spawner)
    if (at.births.every((card) => isDeadTo(world, card, sees))) return true
  return false
}

/** The revocations by guests of a card and its ancestors. */
export function guestRevocations(card: Card): Revocation[] {
  return [...chainOf(card)].flatMap((at) => at.revocations.filter((r) => r.by))
}

/** The guests' revocations that have to do with whether an agent is stopped. */
export function stoppingRevocations(agent: Agent): Revocation[] {
  const found: Revocation[] = []
  for (let at: Agent | undefined = agent; at; at = at.spawner)
    found.push(...at.births.flatMap(guestRevocations))
  return found
}
