/** Acts of the host: roots and their next generations, confinement, and forks (R18, R21). */
import { type Bound, MAX_CEILING_BOXES, normalise } from '../bound.ts'
import type { Cell } from '../cell.ts'
import { parseAddress } from './act.ts'
import { addCard, mintRefusal } from './acts-on-cards.ts'
import { mintRoot, type Narrow } from './mint.ts'
import { DONE, no, type Outcome } from './outcome.ts'
import { type Agent, type Card, newAgent, newDerived, type World } from './state.ts'

export interface RootOf extends Narrow {
  readonly agent: string
  readonly card: string
}

/** A root agent and its birth card. */
export function root(world: World, of: RootOf): Outcome {
  const address = parseAddress(of.agent)
  if (!address) return no('BadOp', 'an agent is `tenant/type/key`')
  if (world.agents.has(of.agent) || world.cards.has(of.card)) return no('IdTaken')
  const minted = mintRoot(world, of.agent, of)
  if ('error' in minted) return mintRefusal(minted.error)
  const agent = newAgent({ id: of.agent, ...address, spawner: undefined })
  const card = addCard(world, { id: of.card, owner: agent, minter: undefined, parent: undefined, ...minted })
  agent.births.push(card)
  agent.held.add(card)
  world.agents.set(agent.id, agent)
  return DONE
}

/** The next generation of a root: other bounds and limits of the same card, whose counters stay. */
export function reroot(world: World, of: Omit<RootOf, 'card'>): Outcome {
  const agent = world.agents.get(of.agent)
  if (!agent) return no('NoSuchAgent')
  const [card] = agent.births
  if (!card || card.parent || card.minter) return no('NotRoot')
  const minted = mintRoot(world, of.agent, of)
  if ('error' in minted) return mintRefusal(minted.error)
  Object.assign(card, minted)
  world.derived = newDerived()
  card.generation += 1
  return DONE
}

/** Lowers the ceiling and the flow of an agent, a type or a tenant, now and later, until the host lifts it. */
export function confine(
  world: World,
  target: string,
  ceiling: Bound | undefined,
  flow: readonly Cell[] | undefined,
): Outcome {
  if (ceiling && ceiling.length > MAX_CEILING_BOXES) return no('TooManyGrants')
  world.confinements.push({ target, ceiling: ceiling && normalise(ceiling), flow })
  return DONE
}

/** A second agent with the cards, ceilings and influence of the first; every birth and held card is named anew. */
export function fork(
  world: World,
  agentId: string,
  as: string,
  cards: Readonly<Record<string, string>>,
): Outcome {
  const agent = world.agents.get(agentId)
  if (!agent) return no('NoSuchAgent')
  const address = parseAddress(as)
  if (!address || address.tenant !== agent.tenant)
    return no('BadOp', 'a fork is `tenant/type/key`, of the same tenant')
  const old = new Set([...agent.births, ...agent.held])
  const fresh = Object.values(cards)
  if (world.agents.has(as) || fresh.some((id) => world.cards.has(id)) || new Set(fresh).size < fresh.length)
    return no('IdTaken')
  if (Object.keys(cards).length !== old.size || ![...old].every((card) => Object.hasOwn(cards, card.id)))
    return no('BadOp', 'every birth and held card is named, and no other')
  // That there is a fork tells as much as that there is an original: its birth and its spawner stay.
  const copy: Agent = { ...agent, id: as, ...address, origin: agent, births: [], held: new Set() }
  const twin = (card: Card) => {
    const { now, ever, limits } = card
    const id = cards[card.id] as string
    return addCard(world, { id, owner: copy, minter: undefined, parent: card, now, ever, limits })
  }
  for (const card of old) {
    const child = twin(card)
    if (agent.births.includes(card)) copy.births.push(child)
    if (agent.held.has(card)) copy.held.add(child)
  }
  world.agents.set(as, copy)
  return DONE
}
