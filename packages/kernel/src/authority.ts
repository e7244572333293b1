/**
 * The rows of the rules on a running node: one world a tenant, holding the chains of agents that are
 * awake and of whoever they look at.
 *
 * Every change of a row goes with an entry of the log, appended in the same step; so rows that nobody
 * who is awake needs can be forgotten once derived state has caught up, and are read again when they
 * are asked for. Of agents that sleep only the birth is known here: what they hold and have read is in
 * their own entries, and is filled in by `wake`.
 */
import {
  type AgentRow as Agent,
  type CardRow as Card,
  codec,
  fillCard,
  type Influence,
  joinRevocations,
  NODE_NAMES,
  newAgent,
  newDerived,
  newWorld,
  type RootCard,
  receipt,
  type ScopePart,
  type TurnRow,
  UNTOUCHED,
  type World,
} from '@cardinal/cards'
import type { Pos } from '@cardinal/oplog'
import type { AuthorityPayload, MintedBounds, ScopeData, TurnData } from './authority-wire.ts'
import type { Control } from './control.ts'
import type { CardRow, Derived, RevocationRow } from './derived.ts'
import { assert } from './errors.ts'
import type { Holding } from './holding.ts'
import { type Address, parseAddress } from './ids.ts'
import { Rows } from './lazy-rows.ts'

type Language = World['language']

/** The rows of derived state that are read here. */
export type StoredRows = Pick<
  Derived,
  | 'applied'
  | 'revocations'
  | 'findAgent'
  | 'findAgentByRow'
  | 'findCard'
  | 'findCardByRow'
  | 'birthCards'
  | 'countersOf'
  | 'offersOf'
>

/** What the worlds are made of. */
interface Sources {
  readonly derived: StoredRows
  readonly control: Pick<Control, 'requireGeneration' | 'findGeneration' | 'confinements'>
  readonly nowMs: () => number
  /** The authority payload of an agent's entry, or of the node's own; undefined if its key is gone. */
  readonly read: (agent: string | undefined, pos: Pos) => AuthorityPayload | undefined
  readonly defaultsOf: (tenant: string) => Language['defaultsOf']
  readonly toolsOf: (tenant: string) => World['tools']
}

/** Rows above twice what the last sweep left are looked through again. */
const SWEEP_FLOOR = 4096

export class Authority {
  readonly #from: Sources
  readonly #worlds = new Map<string, TenantWorld>()
  readonly #revoked = new Map<string, RevocationRow[]>()

  constructor(from: Sources) {
    this.#from = from
    for (const row of from.derived.revocations()) this.noteRevoked(row)
  }

  /** The world of a tenant, at this moment. */
  of(tenant: string): World {
    const { world } = this.#tenant(tenant)
    world.nowMs = this.#from.nowMs()
    return world
  }

  /** Agents and cards in memory. */
  get rows(): number {
    let rows = 0
    for (const world of this.#worlds.values()) rows += world.rows
    return rows
  }

  /** The world of a tenant, where no moment matters. */
  peek(tenant: string): World {
    return this.#tenant(tenant).world
  }

  /** A card of any tenant, by its name. */
  findCard(name: string): Card | undefined {
    for (const world of this.#worlds.values()) {
      const known = world.peekCard(name)
      if (known) return known
    }
    const { derived } = this.#from
    const row = derived.findCard(name)
    const owner = row && derived.findAgentByRow(row.owner)
    return owner && this.of(owner.tenant).cards.get(name)
  }

  /** Fills in what an agent holds and has read: it is awake from here on. */
  wake(address: Address, name: string, holding: Holding): Agent {
    return this.#tenant(address.tenant).wake(name, holding)
  }

  /** What its open invocations and effects mean to the rules. */
  turnOf(agent: Agent, id: string, data: TurnData): TurnRow {
    return this.#tenant(agent.tenant).turnOf(agent, id, data)
  }

  scopeOf(tenant: string, data: ScopeData): ScopePart[] {
    return this.#tenant(tenant).scopeOf(data)
  }

  /** The agent sleeps: only its birth may be looked at from here on. */
  sleep(agent: Agent): void {
    const tenant = this.#tenant(agent.tenant)
    tenant.sleep(agent)
    if (tenant.rows > SWEEP_FLOOR + 2 * tenant.kept) tenant.sweep()
  }

  /** A row that the host made with its first generation: the instance of a type. */
  bornRoot(address: Address, name: string, card: string, told: Influence = UNTOUCHED): Agent {
    return this.#tenant(address.tenant).bornRoot(address, name, card, told)
  }

  /** A child is born: the rules have made its row. */
  born(agent: Agent): void {
    this.#tenant(agent.tenant).born(agent)
  }

  /** The host applied a manifest: the roots of a type mean something else from now on (R18). */
  reroot(tenant: string, type: string): void {
    this.#worlds.get(tenant)?.reroot(type)
  }

  /** The agent's key is destroyed: it never acts again, and nobody acts for it. */
  erased({ tenant }: Address, name: string): void {
    const agent = this.peek(tenant).agents.get(name)
    for (const card of agent?.births ?? []) card.revocations.push({ by: undefined, influence: UNTOUCHED })
  }

  /** Tools were declared or confinements made. */
  refresh(tenant?: string): void {
    for (const [name, world] of this.#worlds) if (tenant === undefined || name === tenant) world.refresh()
  }

  /** A card that the host minted, on record at `pos`. */
  mintedByHost(card: Card, pos: Pos): void {
    this.#tenant(card.owner.tenant).minted(card, pos)
  }

  /** A revocation by the host, on record. */
  revokedByHost(tenant: string, name: string, pos: Pos): void {
    this.noteRevoked({ pos, card: name, by: null })
    this.of(tenant).cards.get(name)?.revocations.push({ by: undefined, influence: UNTOUCHED })
  }

  /** A revocation that an entry holds, for when its card is loaded anew. */
  noteRevoked(row: RevocationRow): void {
    const known = this.#revoked.get(row.card)
    if (known) known.push(row)
    else this.#revoked.set(row.card, [row])
  }

  #tenant(tenant: string): TenantWorld {
    let known = this.#worlds.get(tenant)
    if (!known) {
      known = new TenantWorld(tenant, this.#from, this.#revoked)
      this.#worlds.set(tenant, known)
    }
    return known
  }
}

/** A card of the host's making, for one instance of a type: what it means follows the type's generations. */
interface RootOf {
  readonly address: Address
  readonly name: string
  /** The generation it was born with. */
  readonly born: number
}

class TenantWorld {
  readonly world: World
  readonly tenant: string
  /** Rows that the last sweep kept. */
  kept = 0
  readonly #from: Sources
  readonly #revoked: ReadonlyMap<string, readonly RevocationRow[]>
  readonly #agents: Rows<Agent>
  readonly #cards: Rows<Card>
  readonly #roots = new Map<Card, RootOf>()
  readonly #awake = new Set<Agent>()
  /** Cards that the host minted, and where that stands, until derived state has them. */
  readonly #minted = new Map<Card, Pos>()

  constructor(tenant: string, from: Sources, revoked: ReadonlyMap<string, readonly RevocationRow[]>) {
    this.tenant = tenant
    this.#from = from
    this.#revoked = revoked
    this.#agents = new Rows((name) => this.#loadAgent(name))
    this.#cards = new Rows((name) => this.#loadCard(name))
    const language = { defaultsOf: from.defaultsOf(tenant), limits: NODE_NAMES }
    this.world = { ...newWorld(language), agents: this.#agents, cards: this.#cards }
    this.refresh()
  }

  minted(card: Card, pos: Pos): void {
    this.#minted.set(card, pos)
  }

  peekCard(name: string): Card | undefined {
    return this.#cards.peek(name)
  }

  get rows(): number {
    return this.#agents.size + this.#cards.size
  }

  refresh(): void {
    const { tools, confinements } = this.world
    tools.clear()
    for (const [name, tool] of this.#from.toolsOf(this.tenant)) tools.set(name, tool)
    confinements.splice(0, confinements.length, ...this.#from.control.confinements(this.tenant))
    this.world.derived = newDerived()
  }

  bornRoot(address: Address, name: string, cardName: string, told: Influence): Agent {
    const { generation } = this.#from.control.requireGeneration(address.tenant, address.type)
    const agent = newAgent({ id: name, ...address, spawner: undefined }, told)
    this.#agents.set(name, agent)
    const card = this.#rootCard(agent, cardName, { address, name, born: generation })
    this.#cards.set(cardName, card)
    agent.births.push(card)
    agent.held.add(card)
    this.#awake.add(agent)
    return agent
  }

  born(agent: Agent): void {
    this.#awake.add(agent)
  }

  wake(name: string, holding: Holding): Agent {
    const agent = this.#agents.get(name)
    assert(agent, 'an agent that wakes was born')
    agent.held.clear()
    for (const card of holding.held ?? []) {
      const row = this.#cards.get(card)
      if (row) agent.held.add(row)
    }
    agent.accepted = holding.accepted && codec.decodeBound(holding.accepted)
    agent.influence = holding.influence ? codec.decodeInfluence(holding.influence) : agent.birth
    this.#awake.add(agent)
    this.#loadOffers(agent, new Set(holding.previewed))
    joinRevocations(agent, [])
    return agent
  }

  turnOf(agent: Agent, id: string, { scope, caller }: TurnData): TurnRow {
    const turn: TurnRow = {
      id,
      agent,
      scope: this.scopeOf(scope),
      caller: caller && this.#callerOf(caller),
      replied: false,
    }
    joinRevocations(agent, [turn])
    return turn
  }

  #callerOf(caller: NonNullable<TurnData['caller']>): TurnRow['caller'] {
    if ('principal' in caller) return { kind: 'principal', name: caller.principal }
    const agent = this.#agents.get(caller.agent)
    if (!agent) return undefined
    const { floor, admits } = caller
    return { kind: 'agent', agent, floor: codec.decodeFloor(floor), admits: codec.decodeAdmits(admits) }
  }

  scopeOf(data: ScopeData): ScopePart[] {
    return data.map((part) =>
      'bound' in part
        ? { kind: 'bound', bound: codec.decodeBound(part.bound) }
        : { kind: 'cards', cards: part.cards.flatMap((name) => this.#cards.get(name) ?? []) },
    )
  }

  sleep(agent: Agent): void {
    this.#awake.delete(agent)
    agent.held.clear()
    agent.accepted = undefined
    agent.influence = agent.birth
    const { turns, effects, methods } = this.world
    for (const [id, turn] of turns) if (turn.agent === agent) turns.delete(id)
    for (const [id, effect] of effects) {
      if (effect.agent !== agent) continue
      // What is still out when its agent is gone counts as done.
      if (effect.open) receipt(this.world, { id, outcome: 'unknown', more: false, learned: false })
      effects.delete(id)
    }
    methods.delete(agent.id)
  }

  reroot(type: string): void {
    for (const [card, root] of this.#roots) if (root.address.type === type) this.#fill(card, root)
    this.world.derived = newDerived()
  }

  /**
   * Forgets every row that nobody who is awake refers to. What an agent that sleeps did to rows was applied
   * to derived state before it slept, so all of them can be read again; only cards of the host's making may
   * not be there yet.
   */
  sweep(): void {
    const applied = this.#from.derived.applied?.pos ?? 0
    const agents = new Set<Agent>()
    const cards = new Set<Card>()
    const keepAgent = (agent: Agent | undefined): void => {
      for (let at = agent; at && !agents.has(at); at = at.spawner) {
        agents.add(at)
        for (const card of at.births) keepCard(card)
      }
    }
    const keepCard = (card: Card): void => {
      for (let at: Card | undefined = card; at && !cards.has(at); at = at.parent) {
        cards.add(at)
        keepAgent(at.owner)
        keepAgent(at.minter)
      }
    }
    for (const [card, pos] of this.#minted) {
      if (pos > applied) keepCard(card)
      else this.#minted.delete(card)
    }
    for (const agent of this.#awake) {
      keepAgent(agent)
      for (const card of agent.held) keepCard(card)
    }
    for (const { scope, caller } of this.world.turns.values()) {
      for (const part of scope) if (part.kind === 'cards') part.cards.forEach(keepCard)
      if (caller?.kind === 'agent') keepAgent(caller.agent)
    }
    for (const [card, offer] of this.world.offers) {
      if (!this.#awake.has(card.owner) && !this.#awake.has(offer.by)) this.world.offers.delete(card)
      else keepCard(card)
    }
    for (const [name, agent] of this.#agents) if (!agents.has(agent)) this.#agents.delete(name)
    for (const [name, card] of this.#cards) {
      if (cards.has(card)) continue
      this.#cards.delete(name)
      this.#roots.delete(card)
    }
    this.kept = this.rows
  }

  #loadAgent(name: string): Agent | undefined {
    const { derived, read } = this.#from
    if (!name.startsWith(`${this.tenant}/`)) return undefined
    const address = parseAddress(name)
    const row = derived.findAgent(address)
    if (!row) return undefined
    const spawner = row.spawner === null ? undefined : derived.findAgentByRow(row.spawner)
    // Of an agent that the host made, unless another one was the first to call it, nothing stands there.
    const told = codec.decodeInfluence(read(name, row.born_pos)?.influence)
    const maker = spawner && this.#agents.get(spawner.address)
    const agent = newAgent({ id: name, ...address, spawner: maker }, told)
    this.#agents.set(name, agent)
    for (const card of derived.birthCards(row.id)) {
      const birth = (this.#cards.peek(card.name) ?? this.#loadCard(card.name, card)) as Card
      agent.births.push(birth)
      // Who was erased never acts again, and nobody acts for it.
      if (row.erased) birth.revocations.push({ by: undefined, influence: UNTOUCHED })
    }
    return agent
  }

  #loadCard(name: string, known?: CardRow): Card | undefined {
    const { derived } = this.#from
    const row = known ?? derived.findCard(name)
    const owner = row && derived.findAgentByRow(row.owner)
    if (!row || owner?.tenant !== this.tenant) return undefined
    const holder = this.#agents.get(owner.address) as Agent
    const already = this.#cards.peek(name)
    if (already) return already
    const counters = new Map(
      derived.countersOf(row.id).map((c) => [c.name, { spent: BigInt(c.spent), reserved: 0n }] as const),
    )
    // Of an agent that the host made; a child's cards have a parent, one that the host gave later is no birth.
    const isRoot = row.parent === null && row.birth === 1
    const card = isRoot
      ? this.#rootCard(holder, name, { address: owner, name: owner.address, born: owner.generation })
      : this.#child(holder, row)
    for (const [budget, counter] of counters) card.counters.set(budget, counter)
    this.#cards.set(name, card)
    for (const revocation of this.#revoked.get(name) ?? [])
      card.revocations.push(this.#revocation(revocation))
    return card
  }

  #rootCard(owner: Agent, id: string, root: RootOf): Card {
    const card: Card = {
      id,
      owner,
      minter: undefined,
      parent: undefined,
      now: [],
      ever: [],
      limits: { depth: 0, budgets: new Map() },
      generation: 1,
      counters: new Map(),
      revocations: [],
    }
    this.#fill(card, root)
    this.#roots.set(card, root)
    return card
  }

  #fill(card: Card, { address, name, born }: RootOf): void {
    const generation = this.#from.control.findGeneration(address.tenant, address.type)
    if (!generation) return
    const filled: RootCard = fillCard(generation.card, name, address.key)
    Object.assign(card, filled)
    card.generation = generation.generation - born + 1
  }

  #child(owner: Agent, row: CardRow): Card {
    const { derived, read } = this.#from
    const parent = row.parent === null ? undefined : derived.findCardByRow(row.parent)
    const minter = row.minter === null ? undefined : derived.findAgentByRow(row.minter)
    const writer = row.birth === 1 ? owner.id : minter?.address
    return new StoredCard(
      {
        id: row.name,
        owner,
        minter: minter && this.#agents.get(minter.address),
        parent: parent && this.#cards.get(parent.name),
        limits: codec.decodeLimits(JSON.parse(row.limits) as codec.LimitsData),
      },
      () => read(writer, row.pos)?.minted?.[row.part],
    )
  }

  #revocation({ by, pos }: RevocationRow): Card['revocations'][number] {
    const told = by === null ? undefined : this.#from.read(by, pos)?.told
    // What an erased agent had read, nobody knows any more; that it revoked stays.
    if (by === null || !told) return { by: undefined, influence: UNTOUCHED }
    return { by: this.#agents.get(by), influence: codec.decodeInfluence(told) }
  }

  #loadOffers(agent: Agent, previewed: ReadonlySet<string>): void {
    const { derived, nowMs, read } = this.#from
    const id = derived.findAgent(agent)?.id
    if (id === undefined) return
    for (const row of derived.offersOf(id, nowMs())) {
      const card = this.#cards.get(row.name)
      if (!card?.minter || this.world.offers.has(card)) continue
      const told = read(card.minter.id, row.pos)?.told
      if (!told) continue
      this.world.offers.set(card, {
        card,
        by: card.minter,
        influence: codec.decodeInfluence(told),
        lapses: row.lapses as number,
        previewed: previewed.has(row.name),
      })
    }
  }
}

/** A card whose bounds are read from the log when somebody first looks at them. */
class StoredCard implements Card {
  readonly id: string
  readonly owner: Agent
  readonly minter: Agent | undefined
  readonly parent: Card | undefined
  limits: Card['limits']
  generation = 1
  readonly counters: Card['counters'] = new Map()
  readonly revocations: Card['revocations'] = []
  readonly #read: () => MintedBounds | undefined
  #bounds: { now: Card['now']; ever: Card['ever'] } | undefined

  constructor(
    row: Pick<Card, 'id' | 'owner' | 'minter' | 'parent' | 'limits'>,
    read: () => MintedBounds | undefined,
  ) {
    this.id = row.id
    this.owner = row.owner
    this.minter = row.minter
    this.parent = row.parent
    this.limits = row.limits
    this.#read = read
  }

  get now(): Card['now'] {
    return this.#open().now
  }
  get ever(): Card['ever'] {
    return this.#open().ever
  }

  /** What can no longer be read allows nothing. */
  #open(): { now: Card['now']; ever: Card['ever'] } {
    if (!this.#bounds) {
      const read = this.#read()
      const ever = codec.decodeBound(read?.ever ?? [])
      const same = read !== undefined && JSON.stringify(read.now) === JSON.stringify(read.ever)
      this.#bounds = { now: same ? ever : codec.decodeBound(read?.now ?? []), ever }
    }
    return this.#bounds
  }
}
