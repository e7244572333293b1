/** The rows that an audit derives, entry by entry: agents, cards, and what the host applied by then. */
import {
  addCard,
  type CardRow,
  codec,
  debit,
  decodeBudgets,
  type Influence,
  influenceOf,
  newAgent,
  parseRecordJson,
  stopShown,
  UNTOUCHED,
  type World,
} from '@cardinal/cards'
import type { Entry, KeySlots, Log, PayloadKey } from '@cardinal/oplog'
import type { Tool } from '@cardinal/tools'
import { Authority, type StoredRows } from './authority.ts'
import { type AuthorityMeta, type AuthorityPayload, rootCardName } from './authority-wire.ts'
import { Control, NODE_AGENT } from './control.ts'
import { DeclaredTools } from './declared-tools.ts'
import { fanoutBack } from './fanout.ts'
import { type Address, type InvocationId, showAddress } from './ids.ts'
import type { Images } from './images.ts'
import type { Reply } from './reply.ts'
import { Standing } from './standing.ts'
import { type AgentState, emptyState } from './state.ts'
import { toolRows } from './tool-rows.ts'
import type { BirthMeta } from './wire.ts'

export interface AuditSources {
  readonly slots: KeySlots
  readonly images: Images
  /** The kernel's own tools; declared ones are taken from the log. */
  readonly own: ReadonlyMap<string, Tool>
  readonly defaultsOf: (control: Control) => ConstructorParameters<typeof Control>[2]
}

/** An agent as the audit knows it. */
export interface Audited {
  readonly name: string
  readonly birth: Buffer
  readonly state: AgentState
  readonly standing: Standing
  showReply(ok: boolean, value: unknown): Reply
}

/** Nothing is read back: all rows are made by the entries. */
const NO_ROWS: StoredRows = {
  applied: undefined,
  revocations: () => [],
  findAgent: () => undefined,
  findAgentByRow: () => undefined,
  findCard: () => undefined,
  findCardByRow: () => undefined,
  birthCards: () => [],
  countersOf: () => [],
  offersOf: () => [],
}

/** What a declared tool would be performed by: an audit performs nothing. */
const NOBODY = {
  perform: () => {
    throw new Error('an audit performs nothing')
  },
}

type Given =
  | { readonly influence: Influence; readonly bare: readonly InvocationId[] }
  | { readonly stopped: Audited }

export class AuditRows {
  nowMs = 0
  readonly control: Control
  readonly authority: Authority
  readonly findTool: (tenant: string, name: string) => Tool | undefined
  readonly toolsOf: (tenant: string) => Tool[]
  readonly #from: AuditSources
  readonly #agents = new Map<string, Audited>()
  readonly #names = new Map<string, Audited>()
  readonly #keys = new Map<string, PayloadKey>()
  readonly #answers = new Map<string, Given>()
  readonly #blind = new Map<string, { readonly address: Address; readonly name: string }>()
  readonly #blindNames = new Set<string>()

  constructor(from: AuditSources) {
    this.#from = from
    const unwritten = () => {
      throw new Error('an audit writes nothing')
    }
    const log = { append: unwritten, read: unwritten } as unknown as Log
    const sink = { log, derived: { push: unwritten } as never, clock: { nowMs: () => this.nowMs } as never }
    this.control = new Control(sink, from.slots, (tool, tenant) =>
      from.defaultsOf(this.control)(tool, tenant),
    )
    const declared = new DeclaredTools(this.control.declarations, NOBODY as never)
    this.findTool = (tenant, name) => from.own.get(name) ?? declared.find(tenant, name)
    this.toolsOf = (tenant) => [...from.own.values(), ...declared.of(tenant)]
    this.authority = new Authority({
      derived: NO_ROWS,
      control: this.control,
      nowMs: () => this.nowMs,
      read: () => undefined,
      defaultsOf: (tenant) => (tool) => from.defaultsOf(this.control)(tool, tenant),
      toolsOf: (tenant) => toolRows([...from.own.values(), ...declared.of(tenant)]),
    })
  }

  get count(): number {
    return this.#agents.size
  }

  isNode({ header }: Entry): boolean {
    return header.agent.equals(NODE_AGENT)
  }

  /** An act of the host. */
  takeNode(entry: Entry): void {
    this.control.take(entry)
    const meta = JSON.parse(entry.header.meta) as Record<string, string> & AuthorityMeta
    switch (entry.header.kind) {
      case 'applied':
        return this.authority.reroot(meta.tenant as string, meta.name as string)
      case 'tool':
      case 'model':
      case 'mcp-server':
      case 'mcp-tools':
        return this.authority.refresh(meta.tenant)
      case 'confined':
      case 'lifted':
        return this.authority.refresh()
      case 'revoked': {
        this.authority.revokedByHost(meta.tenant as string, meta.card as string, entry.pos)
        const world = this.authority.of(meta.tenant as string)
        const card = world.cards.get(meta.card as string)
        // Compared with what derived state says, at the end.
        if (card) fanoutBack(world, [card], this.isStopped)
        return
      }
      case 'minted':
        return this.#minted(meta, entry.payloads(() => this.control.key as PayloadKey)[0] as Buffer)
    }
  }

  #minted({ cards = [] }: AuthorityMeta, payload: Buffer): void {
    const { minted = [] } = parseRecordJson(payload.toString()) as AuthorityPayload
    cards.forEach(({ id, owner, parent, limits }, i) => {
      const world = this.#worldOf(owner as string)
      const holder = world.agents.get(owner as string)
      if (!holder) return
      addCard(world, {
        id,
        owner: holder,
        minter: undefined,
        parent: parent === undefined ? undefined : world.cards.get(parent),
        now: codec.decodeBound(minted[i]?.now ?? []),
        ever: codec.decodeBound(minted[i]?.ever ?? []),
        limits: codec.decodeLimits(limits),
      })
    })
  }

  #worldOf(address: string): World {
    return this.authority.of(address.split('/')[0] as string)
  }

  /** The key of an entry's agent; undefined once it is destroyed. */
  keyOf({ header }: Entry): PayloadKey | undefined {
    const birth = header.agent.toString('hex')
    const known = this.#keys.get(birth)
    if (known) return known
    if (header.kind !== 'birth') return undefined
    const { slot, tenant } = JSON.parse(header.meta) as BirthMeta
    try {
      const key = this.#from.slots.open(slot, this.control.tenantKey(tenant))
      this.#keys.set(birth, key)
      return key
    } catch (error) {
      if ((error as { code?: string }).code === 'KeyDestroyed') return undefined
      throw error
    }
  }

  /** An agent that was erased: nobody can say what it did. Its address stays taken. */
  forget({ header }: Entry): void {
    const meta = JSON.parse(header.meta) as BirthMeta
    const { tenant, type, key } = meta
    const name = showAddress({ tenant, type, key })
    this.#blind.set(header.agent.toString('hex'), { address: { tenant, type, key }, name })
    this.#blindNames.add(name)
    if (!this.control.findGeneration(tenant, type)) return
    const known = this.authority.of(tenant).agents.get(name)
    if (!known) this.authority.bornRoot({ tenant, type, key }, name, rootCardName(header.agent))
  }

  isBlind(name: string): boolean {
    return this.#blindNames.has(name)
  }

  /** What the readable part of an erased agent's entries says: cards that it revoked, and its own end. */
  takeBlind({ header, pos }: Entry): void {
    const who = this.#blind.get(header.agent.toString('hex'))
    if (!who) return
    const { revoked = [], refunds = [] } = JSON.parse(header.meta) as AuthorityMeta
    for (const card of revoked) this.authority.revokedByHost(who.address.tenant, card, pos)
    if (header.kind !== 'erased') return
    this.authority.erased(who.address, who.name)
    const world = this.authority.of(who.address.tenant)
    for (const { card, of } of refunds) {
      const row = world.cards.get(card)
      const back = [...decodeBudgets(of)].map(([name, amount]) => [name, -amount] as const)
      if (row) debit(row, new Map(back))
    }
  }

  /** Whether an agent's end is on record by now. */
  readonly isStopped = (agent: string): boolean => this.byName(agent)?.state.stopped === true

  /** A child of an agent that was erased: its cards are as they are recorded. */
  async recorded(entry: Entry, meta: BirthMeta, said: AuthorityPayload): Promise<Audited> {
    const { tenant, type, key, cards = [], spawned } = meta
    const address = { tenant, type, key }
    const world = this.authority.of(tenant)
    const influence = codec.decodeInfluence(said.influence)
    const spawner = spawned && world.agents.get(spawned.by)
    const row = newAgent({ id: showAddress(address), ...address, spawner }, influence)
    world.agents.set(row.id, row)
    cards.forEach(({ id, parent, limits }, i) => {
      const card = addCard(world, {
        id,
        owner: row,
        minter: spawner,
        parent: parent === undefined ? undefined : world.cards.get(parent),
        now: codec.decodeBound(said.minted?.[i]?.now ?? []),
        ever: codec.decodeBound(said.minted?.[i]?.ever ?? []),
        limits: codec.decodeLimits(limits),
      })
      row.births.push(card)
      row.held.add(card)
    })
    this.authority.born(row)
    return this.#add(entry, meta, address, row)
  }

  async root(entry: Entry, meta: BirthMeta, told: Influence = UNTOUCHED): Promise<Audited> {
    const { tenant, type, key } = meta
    const address = { tenant, type, key }
    const name = showAddress(address)
    const row = this.authority.bornRoot(address, name, rootCardName(entry.header.agent), told)
    return this.#add(entry, meta, address, row)
  }

  async child(entry: Entry, meta: BirthMeta): Promise<Audited> {
    const { tenant, type, key } = meta
    const address = { tenant, type, key }
    const row = this.#worldOf(showAddress(address)).agents.get(showAddress(address))
    if (!row) return this.root(entry, meta)
    this.authority.born(row)
    return this.#add(entry, meta, address, row)
  }

  async #add(entry: Entry, meta: BirthMeta, address: Address, row: Standing['row']): Promise<Audited> {
    const birth = entry.header.agent
    const image = await this.#from.images.get(meta.image)
    const state = emptyState(birth)
    if (meta.cards) state.holding.births = meta.cards.map((card) => card.id)
    const name = showAddress(address)
    const standing = new Standing(this, { address, name, birth, state, methods: image.methods }, row)
    const who: Audited = {
      name,
      birth,
      state,
      standing,
      showReply: (ok, value) => (ok ? { ok, value } : { ok, error: value as never }),
    }
    this.#agents.set(birth.toString('hex'), who)
    this.#names.set(name, who)
    return who
  }

  find(birth: string): Audited | undefined {
    return this.#agents.get(birth)
  }

  byName(name: string): Audited | undefined {
    return this.#names.get(name)
  }

  debit(card: CardRow, amounts: ReadonlyMap<string, bigint>): void {
    debit(card, amounts)
  }

  /** What the agent had read when it answered at `address@seq`, and which answers say nothing of it. */
  noteAnswers(at: string, who: Audited, bare: readonly InvocationId[]): void {
    this.#answers.set(at, { influence: influenceOf(who.standing.world, who.standing.row), bare })
  }

  noteStop(at: string, who: Audited): void {
    this.#answers.set(at, { stopped: who })
  }

  /** What the answer to an invocation adds to the agent that called. */
  answered(
    at: string,
    invocation: string | undefined,
    caller: Audited,
  ): { readonly bare: boolean; readonly influences: readonly Influence[] } {
    const given = this.#answers.get(at)
    if (!given) return { bare: false, influences: [] }
    if ('stopped' in given) {
      const { world, row } = caller.standing
      return { bare: false, influences: stopShown(world, row, given.stopped.standing.row) ?? [] }
    }
    const bare = given.bare.some((id) => id === invocation)
    return { bare, influences: bare ? [] : [given.influence] }
  }
}
