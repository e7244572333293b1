/**
 * One awake agent's place among the rows of the rules: its own row, the turns that it serves, and the
 * effects that it has out. Tells what changed of the row, so that the next entry says it.
 */
import {
  type AgentRow,
  codec,
  decodeBudgets,
  type EffectRequest,
  type TurnRow,
  type World,
} from '@cardinal/cards'
import type { ToolSettings } from '@cardinal/tools'
import { type Actor, effectKey } from './asking.ts'
import { type HoldingChange, rootCardName } from './authority-wire.ts'
import type { Context } from './context.ts'
import type { Address, InvocationId } from './ids.ts'
import type { MethodInfo } from './images.ts'
import { effectRequest, requestOf } from './requests.ts'
import { type AgentState, isAsked, type OpenEffect } from './state.ts'

type RulesContext = Pick<Context, 'authority' | 'control' | 'findTool'>

/** The agent whose standing it is. */
export interface Who {
  readonly address: Address
  readonly name: string
  readonly birth: Buffer
  readonly state: AgentState
  readonly methods: Readonly<Record<string, MethodInfo>>
}

export class Standing {
  readonly row: AgentRow
  readonly #ctx: RulesContext
  readonly #who: Who
  readonly #turns = new Map<InvocationId, TurnRow>()
  readonly #rootCard: string
  #said: { influence: object | undefined; accepted: object | undefined; held: readonly string[] }

  /** For an agent whose row is there: it was just born, or `wake` has filled it in. */
  constructor(ctx: RulesContext, who: Who, row: AgentRow) {
    this.#ctx = ctx
    this.#who = who
    this.row = row
    this.#rootCard = rootCardName(who.birth)
    const { holding } = who.state
    const told = JSON.stringify(codec.encodeInfluence(row.influence))
    const known = told === JSON.stringify(holding.influence ?? codec.encodeInfluence(row.birth))
    this.#said = {
      influence: known ? row.influence : undefined,
      accepted: row.accepted,
      held: holding.held ?? holding.births,
    }
    const methods = Object.entries(who.methods).map(([name, { authority = 'caller', admits = {} }]) => {
      const data =
        admits === '*' ? admits : { labels: admits.labels ?? [], ...(admits.flow && { flow: admits.flow }) }
      return [name, { authority, admits: codec.decodeAdmits(data) }] as const
    })
    this.world.methods.set(row.id, new Map(methods))
    this.sync()
  }

  /** The world at this moment. */
  get world(): World {
    return this.#ctx.authority.of(this.#who.address.tenant)
  }

  actor(): Actor {
    const { address, name, birth, state } = this.#who
    const generation = this.#ctx.control.findGeneration(address.tenant, address.type)
    const { idempotency = [], secrets = {} } = generation ?? {}
    const settings: ToolSettings = { idempotency, secrets, key: address.key }
    return { name, birth, row: this.row, state, world: this.world, settings, rootCard: this.#rootCard }
  }

  /** What changed of the row since the last entry that said so; undefined if nothing. */
  change(): HoldingChange | undefined {
    const { influence, accepted, held } = this.row
    const names = sameNames(held, this.#said.held) ? this.#said.held : [...held].map((card) => card.id)
    const change: HoldingChange = {
      ...(influence !== this.#said.influence && { influence: codec.encodeInfluence(influence) }),
      ...(accepted && accepted !== this.#said.accepted && { accepted: codec.encodeBound(accepted) }),
      ...(names !== this.#said.held && { held: names }),
    }
    this.#said = { influence, accepted, held: names }
    return Object.keys(change).length > 0 ? change : undefined
  }

  /** The row was reset: from here on its next change is told. */
  beganAnew(): void {
    const { held, birth } = this.row
    this.#said = { influence: birth, accepted: undefined, held: [...held].map((card) => card.id) }
  }

  /** Brings the rules' turns in line with the agent's state, after an entry was folded. */
  sync(): void {
    const { served } = this.#who.state
    const { turns } = this.#ctx.authority.peek(this.#who.address.tenant)
    for (const id of this.#turns.keys()) {
      if (served.has(id)) continue
      this.#turns.delete(id)
      turns.delete(id)
    }
    for (const [id, data] of served) {
      if (this.#turns.has(id)) continue
      const row = turns.get(id) ?? this.#ctx.authority.turnOf(this.row, id, data)
      // Answered ones stay only for what they left behind.
      if (!this.#who.state.invocations.has(id)) row.replied = true
      turns.set(id, row)
      this.#turns.set(id, row)
    }
  }

  /** Tells the rules of effects that were under way when the agent slept or the node stopped. */
  restoreEffects(): void {
    for (const effect of this.#who.state.effects.values()) {
      if (effect.class === 'sleep' || effect.class === 'call' || effect.class === 'spawn') continue
      // Nothing is decided of it yet.
      if (effect.mediated && !effect.mediated.done) continue
      this.#restore(effect)
    }
  }

  #restore(effect: OpenEffect): void {
    const { world, name, row, settings, rootCard } = this.actor()
    const key = effectKey(name, effect.id)
    if (world.effects.has(key)) return
    const asked = requestOf(this.#ctx, row.tenant, effect.tool, effect.args, settings)
    const known = asked && !('bad' in asked)
    const ask = effect.mediated?.done?.roles
    const bare = known ? asked.request : nothing(effect.tool)
    const request = ask ? { ...bare, ask } : bare
    const reserved = decodeBudgets(effect.reserved)
    const card = world.cards.get(effect.via ?? rootCard)
    const open = isAsked(effect) || !card ? undefined : { card, reserved, flows: [] }
    if (open)
      // Rows count what is reserved as spent; from here on it is reserved again.
      for (let at: typeof card = open.card; at; at = at.parent)
        for (const [budget, amount] of reserved) {
          const counter = at.counters.get(budget)
          if (!counter) continue
          counter.spent -= amount
          counter.reserved += amount
        }
    const turns = effect.serves.flatMap((id) => this.#turns.get(id) ?? [])
    const approved = new Set(effect.approved)
    world.effects.set(key, {
      id: key,
      agent: row,
      request,
      via: effect.via,
      turns,
      stream: false,
      approved,
      open,
    })
  }

  /** When the agent stops by the clock: the moment at which the last of its birth cards is dead. */
  get diesMs(): number {
    let last = 0
    for (const card of this.row.births) {
      let ends = Number.POSITIVE_INFINITY
      for (let at: typeof card | undefined = card; at; at = at.parent)
        ends = Math.min(ends, at.limits.expires ?? Number.POSITIVE_INFINITY)
      last = Math.max(last, ends)
    }
    return last
  }
}

function sameNames(held: AgentRow['held'], names: readonly string[]): boolean {
  if (held.size !== names.length) return false
  let i = 0
  for (const card of held) if (card.id !== names[i++]) return false
  return true
}

/** What a tool that is no longer there is asked for: no grant holds it. */
function nothing(tool: string): EffectRequest {
  return effectRequest(tool, { request: { tool: [], args: new Map() }, cost: { calls: 1, bytesOut: 0 } })
}
