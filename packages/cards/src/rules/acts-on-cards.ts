/** Acts of agents upon cards: spawn, offer, preview, accept, drop and revoke (R1–R5, R12). */
import { type Bound, MAX_CEILING_BOXES, meet, normalise } from '../bound.ts'
import { cellsMeet } from '../cell.ts'
import { CardError } from '../errors.ts'
import { actor, isRefusal, ONE_CALL, parseAddress, permit, turnsOf } from './act.ts'
import { budgetShort, counted, debit } from './budget.ts'
import {
  birthTerm,
  ceilingTerms,
  confinedTo,
  flowSinksOf,
  influenceOf,
  meetAll,
  meetOrNothing,
  sinksOfAll,
} from './ceiling.ts'
import { chainOf, guestRevocations, heldCard, isDeadTo, isLive } from './live.ts'
import { type MintError, type Minted, mintChild, type Narrow } from './mint.ts'
import { DONE, no, type Outcome, type Refusal } from './outcome.ts'
import {
  type Admits,
  type Agent,
  type Card,
  type Influence,
  NO_ADMITS,
  newAgent,
  type Offer,
  type Turn,
  UNTOUCHED,
  type World,
} from './state.ts'
import { costOf, floorOf, join, meets } from './taint.ts'

const OPEN_OFFERS = 8
const LAPSE_MS = 86_400_000

export interface SpawnOf {
  readonly agent: string
  readonly by: string
  readonly cards: readonly (Narrow & { readonly card: string; readonly from: string })[]
  readonly via?: string
  readonly for?: readonly string[]
}

/** Mints the birth cards of a new agent together with it. It starts with all that its maker has read. */
export function spawn(world: World, of: SpawnOf): Outcome {
  const by = actor(world, of.by)
  if (isRefusal(by)) return by
  const address = parseAddress(of.agent)
  if (!address || of.cards.length === 0)
    return no('BadOp', 'an agent is `tenant/type/key`, with a card or more')
  if (address.tenant !== by.tenant) return no('NoSuchAgent')
  if (world.agents.has(of.agent)) return no('IdTaken')
  const turns = turnsOf(world, by, of.for)
  if (isRefusal(turns)) return turns
  const { type, key } = address
  const via = permit(world, by, { tool: 'agent.spawn', type, key }, of.via, turns)
  if (isRefusal(via)) return via
  const births: (Minted & { id: string; parent: Card })[] = []
  for (const wanted of of.cards) {
    if (world.cards.has(wanted.card) || births.some((b) => b.id === wanted.card)) return no('IdTaken')
    const parent = heldCard(by, wanted.from)
    if (!parent) return no('NoSuchCard')
    if (!isLive(world, parent)) return no('NotLive')
    const minted = mintChild(world, by, parent, turns, wanted)
    if ('error' in minted) return mintRefusal(minted.error)
    births.push({ ...minted, id: wanted.card, parent })
  }
  if (normalise(births.flatMap((b) => b.ever)).length > MAX_CEILING_BOXES) return no('TooManyGrants')
  debit(via, counted(via, ONE_CALL, world.nowMs))
  const agent = newAgent({ id: of.agent, ...address, spawner: by }, influenceOf(world, by))
  for (const { id, parent, ...bounds } of births) {
    const card = addCard(world, { id, owner: agent, minter: by, parent, ...bounds })
    agent.births.push(card)
    agent.held.add(card)
  }
  world.agents.set(agent.id, agent)
  return DONE
}

export function addCard(
  world: World,
  row: Pick<Card, 'id' | 'owner' | 'minter' | 'parent' | 'now' | 'ever' | 'limits'>,
): Card {
  const card: Card = { ...row, generation: 1, counters: new Map(), revocations: [] }
  world.cards.set(card.id, card)
  return card
}

export function mintRefusal(error: MintError): Refusal {
  const says = error.code === 'OverWide' || error.code === 'BadGrant'
  return no(error.code, says ? error.missing : undefined)
}

export interface OfferOf extends Narrow {
  readonly card: string
  readonly by: string
  readonly from: string
  readonly to: string
  /** Milliseconds until it lapses. */
  readonly lapses?: number
  readonly via?: string
  readonly for?: readonly string[]
}

/** Mints a child for another agent, who may accept it. The offerer never learns whether it did. */
export function offer(world: World, of: OfferOf): Outcome {
  const by = actor(world, of.by)
  if (isRefusal(by)) return by
  const from = heldCard(by, of.from)
  if (!from) return no('NoSuchCard')
  if (!isLive(world, from)) return no('NotLive')
  if (world.cards.has(of.card)) return no('IdTaken')
  const address = parseAddress(of.to)
  if (!address) return no('BadOp', 'an agent is `tenant/type/key`')
  const turns = turnsOf(world, by, of.for)
  if (isRefusal(turns)) return turns
  const to = world.agents.get(of.to)
  if (to?.spawner !== by) {
    const { type, key } = address
    const on = { tool: 'agent.send', type, key, method: 'offer' } as const
    const permitted = permit(world, by, on, of.via, turns)
    if (isRefusal(permitted)) return permitted
  }
  if (!to || !meets(world, by, to)) return no('NoSuchAgent')
  const open = [...world.offers.values()].filter(
    (o) => o.by === by && o.card.owner === to && !lapsed(world, o),
  )
  if (open.length >= OPEN_OFFERS) return no('TooManyOffers')
  const short = budgetShort(from, ONE_CALL, world.nowMs)
  if (short) return no('Refused', short, 'limit')
  const minted = mintChild(world, by, from, turns, of)
  if ('error' in minted) return mintRefusal(minted.error)
  debit(from, counted(from, ONE_CALL, world.nowMs))
  const card = addCard(world, { id: of.card, owner: to, minter: by, parent: from, ...minted })
  world.offers.set(card, {
    card,
    by,
    influence: influenceOf(world, by),
    lapses: world.nowMs + (of.lapses ?? LAPSE_MS),
    previewed: false,
  })
  return DONE
}

function lapsed(world: World, { lapses }: Offer): boolean {
  return world.nowMs >= lapses
}

/** What an offer would give and bind; looking at it takes on what its offerer had read. */
export function preview(
  world: World,
  agentId: string,
  id: string,
  admits: Admits = NO_ADMITS,
): Outcome<{ card: Card }> {
  const agent = actor(world, agentId)
  if (isRefusal(agent)) return agent
  const card = world.cards.get(id)
  const offered = card && world.offers.get(card)
  if (!card || offered?.card.owner !== agent || lapsed(world, offered)) return no('NoSuchOffer')
  if (costOf(world, floorOf(world, agent), offered.influence, admits)) return no('NoSuchOffer')
  join(agent, offered.influence)
  offered.previewed = true
  return { ok: true, card }
}

/** Takes a previewed card, and binds the ceiling by its `ever` for good. */
export function accept(world: World, agentId: string, id: string, allowLoss: boolean): Outcome {
  const agent = actor(world, agentId)
  if (isRefusal(agent)) return agent
  if (heldCard(agent, id)) return DONE
  const card = world.cards.get(id)
  const offered = card && world.offers.get(card)
  if (!card || offered?.card.owner !== agent || !offered.previewed) return no('NotPreviewed')
  if (lapsed(world, offered) || isDeadTo(world, card, () => false)) return no('NotLive')
  if (!isLive(world, card)) {
    // To see that a guest revoked it is to learn of that guest.
    for (const { influence } of guestRevocations(card)) join(agent, influence)
    return no('NotLive')
  }
  const accepted = acceptedWith(world, agent, card.ever)
  if (!accepted) return no('TooManyGrants')
  if (!allowLoss && wouldLose(world, agent, accepted)) return no('WouldLose')
  agent.held.add(card)
  agent.accepted = accepted
  return DONE
}

/** The host gives a card to an agent, unasked: as if the agent had accepted it. */
export function give(world: World, agent: Agent, card: Card, allowLoss: boolean): Outcome {
  const accepted = acceptedWith(world, agent, card.ever)
  if (!accepted) return no('TooManyGrants')
  if (!allowLoss && wouldLose(world, agent, accepted)) return no('WouldLose')
  agent.held.add(card)
  agent.accepted = accepted
  return DONE
}

/** The accepted term with one more `ever` in it; undefined if it or the ceiling would hold too many grants. */
function acceptedWith(world: World, agent: Agent, ever: Bound): Bound | undefined {
  try {
    const accepted = agent.accepted ? meet(agent.accepted, ever) : ever
    const ceiling = meetAll([birthTerm(agent), accepted, ...confinedTo(world, agent)])
    return ceiling.length > MAX_CEILING_BOXES ? undefined : accepted
  } catch (error) {
    if (error instanceof CardError && error.code === 'TooManyGrants') return undefined
    throw error
  }
}

function wouldLose(world: World, agent: Agent, accepted: Bound): boolean {
  const before = ceilingTerms(world, agent)
  const after = [birthTerm(agent), accepted, ...confinedTo(world, agent)]
  const flow = flowSinksOf(world, agent)
  const reaches = (terms: readonly Bound[]) => cellsMeet(sinksOfAll(world, terms), flow).length > 0
  const empty = (terms: readonly Bound[]) => meetOrNothing(terms)?.length === 0
  return (!empty(before) && empty(after)) || (reaches(before) && !reaches(after))
}

export interface DeriveOf extends Narrow {
  readonly card: string
  readonly by: string
  readonly from: string
  readonly for?: readonly string[]
}

/** Mints a narrower card for its minter itself. It lies in what binds the agent already, so no ceiling sinks. */
export function derive(world: World, of: DeriveOf): Outcome<{ card: Card }> {
  const by = actor(world, of.by)
  if (isRefusal(by)) return by
  const from = heldCard(by, of.from)
  if (!from) return no('NoSuchCard')
  if (!isLive(world, from)) return no('NotLive')
  if (world.cards.has(of.card)) return no('IdTaken')
  const turns = turnsOf(world, by, of.for)
  if (isRefusal(turns)) return turns
  const minted = mintChild(world, by, from, turns, of)
  if ('error' in minted) return mintRefusal(minted.error)
  const card = addCard(world, { id: of.card, owner: by, minter: by, parent: from, ...minted })
  by.held.add(card)
  return { ok: true, card }
}

/** Gives up what a card allows now. What it bound stays bound. */
export function drop(world: World, agentId: string, id: string): Outcome {
  const agent = actor(world, agentId)
  if (isRefusal(agent)) return agent
  const card = heldCard(agent, id)
  if (!card) return no('NoSuchCard')
  agent.held.delete(card)
  return DONE
}

/**
 * Kills a card and all below it, at once. Left out, the host does it; an agent may if it minted the card
 * or an ancestor. All who hold the card or one below it, or act for a call under it, take on what the
 * revoker has read.
 */
export function revoke(world: World, id: string, byId: string | undefined): Outcome {
  const by = byId === undefined ? undefined : actor(world, byId)
  if (by && isRefusal(by)) return by
  const card = world.cards.get(id)
  if (!card || (by && ![...chainOf(card)].some((at) => at.minter === by))) return no('NoSuchCard')
  if (!by) {
    card.revocations.push({ by, influence: UNTOUCHED })
    return DONE
  }
  const influence = influenceOf(world, by)
  card.revocations.push({ by, influence })
  tellBelow(world, new Set([card]), influence)
  return DONE
}

/** As `revoke` by an agent of many cards at once, which looks at who holds what once. Returns those that it may. */
export function revokeAll(world: World, ids: readonly string[], byId: string): Card[] {
  const by = actor(world, byId)
  if (isRefusal(by)) return []
  const influence = influenceOf(world, by)
  const revoked = new Set<Card>()
  for (const id of ids) {
    const card = world.cards.get(id)
    if (!card || ![...chainOf(card)].some((at) => at.minter === by)) continue
    card.revocations.push({ by, influence })
    revoked.add(card)
  }
  if (revoked.size > 0) tellBelow(world, revoked, influence)
  return [...revoked]
}

/** All who hold one of the cards or one below it, or act for a call under it, take on what the revoker has read. */
function tellBelow(world: World, cards: ReadonlySet<Card>, influence: Influence): void {
  const below = (other: Card) => {
    for (let at: Card | undefined = other; at; at = at.parent) if (cards.has(at)) return true
    return false
  }
  for (const agent of world.agents.values())
    for (const held of agent.held) if (below(held)) join(agent, influence)
  for (const turn of world.turns.values()) if (scopeCards(turn).some(below)) join(turn.agent, influence)
}

function scopeCards({ scope }: Turn): Card[] {
  return scope.flatMap((part) => (part.kind === 'cards' ? part.cards : []))
}

/**
 * What an agent that slept takes on when it wakes: the guests' revocations of what it holds and of what
 * its turns act under, which would have joined into it at once.
 */
export function joinRevocations(agent: Agent, turns: readonly Turn[]): void {
  const revocations = [...agent.held, ...turns.flatMap(scopeCards)].flatMap(guestRevocations)
  for (const { influence } of revocations) join(agent, influence)
}
