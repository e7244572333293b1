/**
 * What the host does with cards: look at them, mint and derive them, revoke them, confine agents.
 *
 * Every act is an entry of the node's own chain, and holds from the next decision on. Durable when the
 * promise resolves; a crash before that leaves nothing.
 */
import { randomBytes } from 'node:crypto'
import {
  type AgentRow,
  actRequest,
  addCard,
  type CardRow,
  ceilingTerms,
  codec,
  flowSinksOf,
  give,
  isLive,
  isStopped,
  limitToHosts,
  type Minted,
  mintChild,
  type Narrow,
  parseGrants,
  showFullBound,
  showLimits,
  showSinks,
  UNTOUCHED,
  type World,
} from '@cardinal/cards'
import type { Pos } from '@cardinal/oplog'
import { showVerdict } from './acts.ts'
import type { Agents } from './agents.ts'
import type { Actor } from './asking.ts'
import { cardName } from './authority-wire.ts'
import type { Context } from './context.ts'
import type { ConfinementData } from './control.ts'
import type { CardRow as StoredRow } from './derived.ts'
import { KernelError } from './errors.ts'
import { fanoutBack } from './fanout.ts'
import { type Address, parseAddress, showAddress } from './ids.ts'
import { refusalError } from './refusals.ts'
import { requestOf } from './requests.ts'
import { wipingError } from './wiping.ts'

/** A card to be minted by the host. */
export interface MintWish {
  /** The card whose bounds and limits it takes. */
  readonly like: string
  /** `like` is its parent: it dies with it and shares its budgets. */
  readonly below?: boolean | undefined
  /** The hosts that it may carry data to, as cells. */
  readonly egress?: readonly string[] | undefined
  readonly narrow?: { readonly [K in keyof Narrow]: Narrow[K] | undefined } | undefined
  /** Milliseconds from now. */
  readonly expiresInMs?: number | undefined
  /** Gives it to this agent at once, which binds the agent to its `ever`. */
  readonly attach?: string | undefined
  readonly allowLoss?: boolean | undefined
}

export interface ConfineWish {
  readonly target: string
  readonly egress?: readonly string[] | undefined
  readonly ceiling?: readonly unknown[] | undefined
  readonly flow?: readonly string[] | undefined
}

/** How many cards a question about a subtree looks at. */
const MAX_LOOKED = 10_000_000
const MAX_LISTED = 1000
const MAX_NAMED = 100

export class HostCards {
  readonly #ctx: Context
  readonly #agents: Agents

  constructor(ctx: Context, agents: Agents) {
    this.#ctx = ctx
    this.#agents = agents
  }

  /** Cards by owner or parent, in the order of their minting. */
  list(where: {
    agent?: string | undefined
    parent?: string | undefined
    after?: string | undefined
    limit?: number | undefined
  }): object[] {
    const { derived } = this.#ctx
    derived.apply()
    const owner = where.agent === undefined ? undefined : this.#agentRow(where.agent).id
    const parent = where.parent === undefined ? undefined : this.#row(where.parent).id
    const after = where.after === undefined ? 0 : this.#row(where.after).id
    const limit = Math.min(where.limit ?? 100, MAX_LISTED)
    return derived.listCards({ owner, parent, after, limit }).map((row) => this.#summary(row))
  }

  #summary(row: StoredRow): object {
    const { derived } = this.#ctx
    const owner = derived.findAgentByRow(row.owner)
    const { card } = this.#find(row.name)
    const world = this.#world(card)
    return {
      id: row.name,
      owner: owner?.address,
      parent: card.parent?.id ?? null,
      state: row.state,
      live: isLive(world, card),
      grants: card.now.length,
      depth: card.limits.depth,
    }
  }

  /** A card in full, as it is at this moment. */
  get(id: string): object {
    this.#ctx.derived.apply()
    const { card, row } = this.#find(id)
    const world = this.#world(card)
    const spent = Object.fromEntries(
      [...card.counters].map(([name, { spent, reserved }]) => [
        name,
        { spent: String(spent), reserved: String(reserved) },
      ]),
    )
    return {
      id,
      owner: card.owner.id,
      minter: card.minter?.id ?? null,
      parent: card.parent?.id ?? null,
      generation: card.generation,
      state: row?.state ?? 'held',
      live: isLive(world, card),
      now: showFullBound(card.now),
      ever: showFullBound(card.ever),
      limits: showLimits(card.limits),
      spent,
    }
  }

  /** The card and those below it, at most so many. */
  tree(id: string, limit = MAX_LISTED): object {
    const { derived } = this.#ctx
    derived.apply()
    const row = this.#row(id)
    let left = Math.min(limit, MAX_LISTED)
    const node = (at: StoredRow): object => {
      left--
      const below: object[] = []
      for (const child of derived.listCards({ parent: at.id, limit: MAX_LISTED })) {
        if (left <= 0) break
        below.push(node(child))
      }
      return { ...this.#summary(at), below }
    }
    return { ...node(row), total: derived.below(row.id, MAX_LOOKED).cards }
  }

  /** What a revocation would reach. */
  blast(id: string): { cards: number; agents: number } {
    this.#ctx.derived.apply()
    return this.#ctx.derived.below(this.#row(id).id, MAX_LOOKED)
  }

  /** The first hundred of the agents that a revocation would reach. */
  holders(id: string): string[] {
    this.#ctx.derived.apply()
    return this.#ctx.derived.ownersBelow(this.#row(id).id, MAX_NAMED)
  }

  /** Kills a card and all below it, at once. */
  async revoke(id: string, principal: string): Promise<void> {
    const { control, authority, log } = this.#ctx
    const { card } = this.#find(id)
    const { tenant } = card.owner
    card.revocations.push({ by: undefined, influence: UNTOUCHED })
    const refunds = fanoutBack(this.#world(card), [card], (agent) => this.#ctx.isStopped(agent))
    const said = { card: id, tenant, by: principal, ...(refunds.length > 0 && { refunds }) }
    const pos = control.note('revoked', said)
    authority.noteRevoked({ pos, card: id, by: null })
    this.#ctx.crashPoint('revoke.appended')
    this.#agents.sunk(tenant)
    await log.untilDurable(pos)
    this.#ctx.crashPoint('revoke.durable')
  }

  async mint(wish: MintWish, principal: string): Promise<object> {
    const { card: like } = this.#find(wish.like)
    return this.keep(wish, this.#minted(this.#world(like), like, wish), principal)
  }

  /** Records a card that the host made, and gives it to whom it is attached. */
  async keep(
    { like: name, below, attach, allowLoss }: Omit<MintWish, 'narrow' | 'egress' | 'expiresInMs'>,
    minted: Minted,
    principal: string,
  ): Promise<object> {
    const { card: like } = this.#find(name)
    const world = this.#world(like)
    const owner = attach === undefined ? like.owner : this.#requireAgent(world, attach)
    const id = cardName(randomBytes(16), 'minted')
    const row = { id, owner, minter: undefined, parent: below ? like : undefined, ...minted }
    if (attach !== undefined) return this.#attach(world, row, allowLoss === true, principal)
    const card = addCard(world, row)
    await this.#ctx.log.untilDurable(this.#record(card, principal))
    return this.get(id)
  }

  /** A card of this node. */
  find(id: string): CardRow | undefined {
    return this.#ctx.authority.findCard(id)
  }

  require(id: string): CardRow {
    return this.#find(id).card
  }

  #minted(world: World, like: CardRow, { below, egress, narrow = {}, expiresInMs }: MintWish): Minted {
    const expires =
      expiresInMs === undefined
        ? like.limits.expires
        : Math.min(world.nowMs + expiresInMs, like.limits.expires ?? Number.POSITIVE_INFINITY)
    const limits = { ...like.limits, ...(expires !== undefined && { expires }) }
    const asked = Object.fromEntries(Object.entries(narrow).filter(([, v]) => v !== undefined)) as Narrow
    let minted: Minted = { now: like.now, ever: like.ever, limits }
    if (below || Object.keys(narrow).length > 0) {
      // As its owner would derive it, but that the host needs no depth to do so.
      const roomy = { ...like, limits: { ...like.limits, depth: Math.max(1, like.limits.depth) } } as CardRow
      const wanted = {
        ...asked,
        limits: { ...(asked.limits as object | undefined), ...(expires !== undefined && { expires }) },
      }
      const made = mintChild(world, unbound(like.owner), roomy, [], wanted)
      if ('error' in made) throw refusal(made.error)
      minted = made
    }
    if (!egress) return minted
    return {
      ...minted,
      now: limitToHosts(world.tools, minted.now, egress),
      ever: limitToHosts(world.tools, minted.ever, egress),
    }
  }

  /** The agent holds it from here on, and is bound to its `ever` as by any card it accepts. */
  async #attach(
    world: World,
    row: Parameters<typeof addCard>[1],
    allowLoss: boolean,
    principal: string,
  ): Promise<object> {
    const agent = await this.#agents.find(row.owner)
    if (!agent) throw new KernelError('NotFound', 'NoSuchAgent', `no agent \`${row.owner.id}\``)
    return new Promise((resolve, reject) => {
      agent.betweenTurns(() => {
        if (agent.state.stopped) {
          reject(new KernelError('Stopped', 'Stopped', `\`${agent.name}\` is stopped`))
          return
        }
        const wiping = wipingError(agent)
        if (wiping) {
          reject(wiping)
          return
        }
        const card = addCard(world, row)
        const given = give(world, agent.standing.row, card, allowLoss)
        if (!given.ok) {
          world.cards.delete(card.id)
          reject(new KernelError('Refused', given.code, refusalError(given).message))
          return
        }
        this.#record(card, principal)
        const handle = agent.state.holding.handles.length
        const event = Buffer.from(JSON.stringify({ t: 'card', card: handle, id: card.id }))
        const tip = agent.append('accepted', { what: 'card', card: card.id, principal, took: [card.id] }, [
          event,
        ])
        agent.pump()
        this.#agents.sunk(card.owner.tenant)
        this.#ctx.log.untilDurable(tip.pos).then(() => resolve(this.get(card.id)), reject)
      })
    })
  }

  #record(card: CardRow, principal: string): Pos {
    const meta = {
      id: card.id,
      owner: card.owner.id,
      ...(card.parent && { parent: card.parent.id }),
      limits: codec.encodeLimits(card.limits),
    }
    const bounds = { now: codec.encodeBound(card.now), ever: codec.encodeBound(card.ever) }
    const pos = this.#ctx.control.minted({ cards: [meta], by: principal }, { minted: [bounds] })
    this.#ctx.authority.mintedByHost(card, pos)
    return pos
  }

  /** Lowers what an agent, a type or a tenant may ever do, now and later, until it is lifted (R21). */
  async confine({ target, egress, ceiling, flow }: ConfineWish, principal: string): Promise<ConfinementData> {
    const [tenant = ''] = target.split('/')
    if (!/^[a-z0-9-]+(\/[a-z0-9-]+(\/[A-Za-z0-9._~@-]+)?)?$/.test(target))
      throw new KernelError('Malformed', 'BadAddress', `\`${target}\` is no tenant, \`tenant/type\` or agent`)
    const [, type] = target.split('/')
    const { control } = this.#ctx
    const known =
      type === undefined
        ? control.generations().some((g) => g.tenant === tenant)
        : control.findGeneration(tenant, type)
    // A mistyped target would bind nobody, and nobody would notice.
    if (!known)
      throw new KernelError(
        'NotFound',
        'NoSuchType',
        `nothing is applied of \`${type === undefined ? tenant : `${tenant}/${type}`}\``,
      )
    if (!egress && !ceiling && !flow)
      throw new KernelError('Malformed', 'BadRequest', 'a confinement has egress, a ceiling or a flow')
    const world = this.#ctx.authority.of(tenant)
    // Data may still go to callers, the record and models: egress is about hosts.
    const sinks = egress ? [...egress, 'caller:*', 'log', 'model:*'] : flow
    const bound = ceiling && parseGrants([...ceiling], 'ceiling', world.language.defaultsOf)
    const row: ConfinementData = {
      id: `con_${randomBytes(6).toString('hex')}`,
      target,
      ...(bound && { ceiling: codec.encodeBound(bound) }),
      ...(sinks && { flow: showSinks(codec.decodeFlow({ sinks }).sinks) }),
    }
    const pos = this.#ctx.control.confine(row, principal)
    this.#sank(tenant)
    await this.#ctx.log.untilDurable(pos)
    return row
  }

  async lift(id: string, principal: string): Promise<void> {
    const known = this.confinements().find((row) => row.id === id)
    if (!known) throw new KernelError('NotFound', 'NoSuchConfinement', `no confinement \`${id}\``)
    const pos = this.#ctx.control.lift(id, principal)
    this.#sank(known.target.split('/')[0] as string)
    await this.#ctx.log.untilDurable(pos)
  }

  confinements(): ConfinementData[] {
    return this.#ctx.control.listConfinements()
  }

  #sank(tenant: string): void {
    this.#ctx.authority.refresh(tenant)
    this.#agents.sunk(tenant)
  }

  /** What would be decided now on a call of a tool by an agent. */
  async explain(address: string, tool: string, args: unknown, via?: string): Promise<object> {
    const agent = await this.#agents.find(parseAddress(address))
    if (!agent) throw new KernelError('NotFound', 'NoSuchAgent', `no agent \`${address}\``)
    const actor = agent.standing.actor()
    if (tool.startsWith('agent.')) return explainAct(actor, tool, args, via)
    const asked = requestOf(this.#ctx, agent.address.tenant, tool, args, actor.settings)
    if (!asked) throw new KernelError('NotFound', 'NoSuchTool', `there is no tool \`${tool}\``)
    if ('bad' in asked)
      throw new KernelError('Malformed', 'BadArguments', `\`${tool}\` was given ${asked.bad}`)
    return showVerdict(actor, asked.request, via, [])
  }

  /** What binds an agent at this moment. */
  async standing(address: string): Promise<object> {
    const agent = await this.#agents.find(parseAddress(address))
    if (!agent) throw new KernelError('NotFound', 'NoSuchAgent', `no agent \`${address}\``)
    const { world, row } = agent.standing
    return {
      address: agent.name,
      stopped: isStopped(world, row),
      cards: [...row.held].map((card) => card.id),
      ceiling: ceilingTerms(world, row).map(showFullBound),
      flow: showSinks(flowSinksOf(world, row)),
      labels: [...row.influence.labels].sort(),
      spawner: row.spawner?.id ?? null,
    }
  }

  #requireAgent(world: World, address: string): AgentRow {
    const parsed: Address = parseAddress(address)
    const agent = world.agents.get(showAddress(parsed))
    if (!agent) throw new KernelError('NotFound', 'NoSuchAgent', `no agent \`${address}\` in this tenant`)
    return agent
  }

  #agentRow(address: string) {
    const row = this.#ctx.derived.findAgent(parseAddress(address))
    if (!row) throw new KernelError('NotFound', 'NoSuchAgent', `no agent \`${address}\``)
    return row
  }

  #row(id: string): StoredRow {
    const row = this.#ctx.derived.findCard(id)
    if (!row) throw noSuchCard(id)
    return row
  }

  #find(id: string): { card: CardRow; row: StoredRow | undefined } {
    const card = this.#ctx.authority.findCard(id)
    if (!card) throw noSuchCard(id)
    return { card, row: this.#ctx.derived.findCard(id) }
  }

  #world(card: CardRow): World {
    return this.#ctx.authority.of(card.owner.tenant)
  }
}

/** The host mints within the card alone: what binds its owner binds the owner's effects anyway. */
function unbound(owner: AgentRow): AgentRow {
  return { ...owner, accepted: undefined, influence: UNTOUCHED }
}

function noSuchCard(id: string): KernelError {
  return new KernelError('NotFound', 'NoSuchCard', `no card \`${id}\``)
}

function refusal(error: { readonly code: string; readonly missing?: unknown }): KernelError {
  const { class: cls, code, message } = refusalError({ ok: false, ...error })
  return new KernelError(cls as 'Refused' | 'Malformed', code, message)
}

const ACTS = ['agent.invoke', 'agent.send', 'agent.spawn'] as const

/** What would be decided on an act upon another agent, whose arguments are `{to, method}`. */
function explainAct(actor: Actor, tool: string, args: unknown, via: string | undefined): object {
  const act = ACTS.find((name) => name === tool)
  if (!act) throw new KernelError('NotFound', 'NoSuchTool', `there is no tool \`${tool}\` to be explained`)
  const { to, method } = (args ?? {}) as { to?: unknown; method?: unknown }
  const fits = typeof to === 'string' && (act === 'agent.spawn') === (method === undefined)
  if (!fits || (method !== undefined && typeof method !== 'string'))
    throw new KernelError(
      'Malformed',
      'BadArguments',
      `\`${tool}\` takes \`{"to":"type/key"${act === 'agent.spawn' ? '' : ',"method":"name"'}}\``,
    )
  const address = parseAddress(to, actor.row.tenant)
  const { type, key } = address
  const own = act !== 'agent.spawn' && actor.world.agents.get(showAddress(address))?.spawner === actor.row
  if (own) return { verdict: 'allow', message: 'its own children it may always call' }
  return showVerdict(
    actor,
    actRequest({ tool: act, type, key, ...(method !== undefined && { method }) }),
    via,
    [],
  )
}
