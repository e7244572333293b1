/**
 * Agents alive below a card (`limits.fanout`): counted along the card's chain when one is born, and
 * given back once it, or the card that it lives by, is dead.
 *
 * A card's own counter says how many were born below it and not given back, so all of them are given
 * back with the card in one step, and nothing is given back through a card that is dead already. In
 * doubt nothing is given back: then fewer agents fit, never more.
 */
import { type AgentRow, type CardRow, debit, isLive } from '@cardinal/cards'
import type { Taken } from './authority-wire.ts'

export const FANOUT: ReadonlyMap<string, bigint> = new Map([['fanout', 1n]])

/**
 * What comes back with cards that were just revoked. `isStopped` says whether an agent's end is on
 * record, which gave back what there was.
 */
export function fanoutBack(
  world: Parameters<typeof isLive>[0],
  revoked: readonly CardRow[],
  isStopped: (agent: string) => boolean,
): Taken[] {
  const back: Taken[] = []
  const ended = new Set<AgentRow>()
  for (const card of revoked) {
    const { parent, owner } = card
    // A second revocation finds it given back.
    if (card.revocations.length > 1 || (parent && !isLive(world, parent))) continue
    give(back, card, outstanding(card))
    const isOver = owner.births.includes(card) && owner.births.every((birth) => !isLive(world, birth))
    if (!isOver || ended.has(owner) || isStopped(owner.id)) continue
    ended.add(owner)
    if (parent) give(back, parent, 1n)
  }
  return back
}

/** What comes back with an agent that ends by the clock, or because whoever made it is stopped. */
export function fanoutOfEnd(world: Parameters<typeof isLive>[0], { births }: AgentRow): Taken[] {
  const back: Taken[] = []
  const [first] = births
  if (births.some((card) => card.revocations.length > 0)) return back
  for (const card of births)
    if (!card.parent || isLive(world, card.parent)) give(back, card, outstanding(card))
  if (first?.parent && isLive(world, first.parent)) give(back, first.parent, 1n)
  return back
}

function outstanding(card: CardRow): bigint {
  return card.counters.get('fanout')?.spent ?? 0n
}

function give(back: Taken[], card: CardRow, agents: bigint): void {
  const most = outstanding(card)
  const amount = agents < most ? agents : most
  if (amount <= 0n) return
  debit(card, new Map([['fanout', -amount]]))
  back.push({ card: card.id, of: { fanout: String(amount) } })
}
