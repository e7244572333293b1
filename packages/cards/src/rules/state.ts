/**
 * What the rules know: agents, cards, turns, offers, effects, confinements and tools.
 *
 * Rows refer to one another directly. The kernel keeps them in its log and loads the chains of those
 * who are awake; `cards sim` keeps all of a history. Nothing here decides anything.
 */
import type { Bound } from '../bound.ts'
import type { BoundIndex } from '../bound-index.ts'
import type { Request } from '../box.ts'
import type { Cell } from '../cell.ts'
import { type Flow, type FlowCeiling, OPEN } from '../flow.ts'
import type { DefaultsOf } from '../grant.ts'
import { type BudgetName, type CardLimits, type Counter, type LimitNames, SIM_NAMES } from '../limits.ts'

/** What an agent has read, as it bears on others: where it may still flow, and its labels. */
export interface Influence {
  readonly flow: FlowCeiling
  readonly labels: ReadonlySet<string>
}

export const UNTOUCHED: Influence = { flow: OPEN, labels: new Set() }

/** One revocation of a card; each counts by itself. Without an agent it is the host's. */
export interface Revocation {
  readonly by: Agent | undefined
  readonly influence: Influence
}

export interface Card {
  readonly id: string
  readonly owner: Agent
  /** Who minted it; undefined is the host. */
  readonly minter: Agent | undefined
  readonly parent: Card | undefined
  now: Bound
  ever: Bound
  limits: CardLimits
  /** 1, and one more each time the host roots it anew. */
  generation: number
  readonly counters: Map<BudgetName, Counter>
  readonly revocations: Revocation[]
}

export interface Agent {
  /** `tenant/type/key`. */
  readonly id: string
  readonly tenant: string
  readonly type: string
  readonly key: string
  /** The agent that spawned it; undefined if the host made it. */
  readonly spawner: Agent | undefined
  /** The agent that it is a fork of. */
  readonly origin: Agent | undefined
  readonly births: Card[]
  readonly held: Set<Card>
  /** The meet of `ever` of every card it accepted. */
  accepted: Bound | undefined
  influence: Influence
  readonly birth: Influence
}

/** A part of the scope that a turn acts in: a role binding, a card named `under`, or the birth cards of a caller. */
export type ScopePart =
  | { readonly kind: 'bound'; readonly bound: Bound }
  | { readonly kind: 'cards'; readonly cards: readonly Card[] }

/** What a caller lets be added to it: labels that may be added, sinks that must remain. */
export type Admits =
  | '*'
  | { readonly labels: ReadonlySet<string>; readonly flow: readonly Cell[] | undefined }

/** What must not be lowered: sinks that must stay, and labels that every grant clears (undefined: all). */
export interface Floor {
  readonly sinks: readonly Cell[]
  readonly clears: ReadonlySet<string> | '*'
}

export interface Turn {
  readonly id: string
  readonly agent: Agent
  /** All of these bound what is done for the turn; none: nothing does. */
  readonly scope: readonly ScopePart[]
  /** Who waits for the answer; a timer's turn has nobody. */
  readonly caller:
    | { readonly kind: 'principal'; readonly name: string }
    | { readonly kind: 'agent'; readonly agent: Agent; readonly floor: Floor; readonly admits: Admits }
    | undefined
  replied: boolean
}

export interface Offer {
  readonly card: Card
  readonly by: Agent
  readonly influence: Influence
  readonly lapses: number
  previewed: boolean
}

export interface EffectRequest {
  readonly q: Request
  /** The name of its tool, dotted. */
  readonly tool: string
  readonly spend: ReadonlyMap<string, bigint>
  /** What it takes of other budgets besides one call. */
  readonly takes?: ReadonlyMap<BudgetName, bigint>
  /** Roles that must approve it whatever the grants say: what stands between the effect and the world asks, too. */
  readonly ask?: readonly string[]
}

export interface Effect {
  readonly id: string
  readonly agent: Agent
  readonly request: EffectRequest
  /** As the request named it; undefined: the birth card. */
  readonly via: string | undefined
  readonly turns: readonly Turn[]
  readonly stream: boolean
  readonly approved: Set<string>
  /** Undefined while it waits for approvals. */
  open: OpenEffect | undefined
}

/** What an admitted effect holds: its card, what it may still spend, and where its receipt may flow. */
export interface OpenEffect {
  readonly card: Card
  readonly reserved: Map<BudgetName, bigint>
  readonly flows: readonly (readonly Flow[])[]
}

export interface Confinement {
  /** `tenant`, `tenant/type` or `tenant/type/key`. */
  readonly target: string
  readonly ceiling: Bound | undefined
  readonly flow: readonly Cell[] | undefined
}

export interface ToolRow {
  readonly place: readonly string[]
  /** `host` stands for the host of the request, `model` for the model that it names as its resource. */
  readonly sinks: readonly (Cell | 'host' | 'model')[]
  readonly yields: readonly string[]
}

export interface Method {
  readonly authority: 'caller' | 'own'
  readonly admits: Admits
}

export const NO_ADMITS: Admits = { labels: new Set(), flow: undefined }

/** Answers that are asked for again and again. */
export interface Derived {
  readonly index: WeakMap<Bound, BoundIndex>
  readonly sinks: WeakMap<Bound, readonly Cell[]>
  readonly scopes: WeakMap<Bound, Bound>
  readonly reached: WeakMap<FlowCeiling, readonly Cell[]>
}

export function newDerived(): Derived {
  return { index: new WeakMap(), sinks: new WeakMap(), scopes: new WeakMap(), reached: new WeakMap() }
}

/** How cards are written here: what tools fill in for what a grant leaves out, and which limits there are. */
export interface Language {
  readonly defaultsOf: DefaultsOf
  readonly limits: LimitNames
}

/** What a grant leaves out means: absent in the request. */
const PLAIN: Language = { defaultsOf: () => undefined, limits: SIM_NAMES }

/** The state of one node's rules. */
export interface World {
  readonly language: Language
  nowMs: number
  readonly agents: Map<string, Agent>
  readonly cards: Map<string, Card>
  readonly turns: Map<string, Turn>
  readonly offers: Map<Card, Offer>
  /** Open and pending; ended ones leave, and their ids stay in `effectIds`. */
  readonly effects: Map<string, Effect>
  readonly effectIds: Set<string>
  readonly confinements: Confinement[]
  readonly tools: Map<string, ToolRow>
  /** What was worked out from these rows and holds until tools or roots change. */
  derived: Derived
  /** By `tenant/type`, or by the agent, whose program may be an older one than its type's. */
  readonly methods: Map<string, ReadonlyMap<string, Method>>
}

export const BUILT_IN = ['agent.send', 'agent.spawn'] as const

/** An agent that has done nothing yet. `birth` is what it begins with: what its maker had read. */
export function newAgent(
  of: Pick<Agent, 'id' | 'tenant' | 'type' | 'key' | 'spawner'>,
  birth: Influence = UNTOUCHED,
): Agent {
  const { id, tenant, type, key, spawner } = of
  const empty = { origin: undefined, births: [], held: new Set<Card>(), accepted: undefined }
  return { id, tenant, type, key, spawner, ...empty, influence: birth, birth }
}

/** Acts upon other agents have no sinks: what they carry is joined into whoever receives it. */
export function newWorld(language: Language = PLAIN): World {
  const tools = BUILT_IN.map((name): [string, ToolRow] => [
    name,
    { place: name.split('.'), sinks: [], yields: [] },
  ])
  return {
    language,
    nowMs: 0,
    agents: new Map(),
    cards: new Map(),
    turns: new Map(),
    offers: new Map(),
    effects: new Map(),
    effectIds: new Set(),
    confinements: [],
    tools: new Map(tools),
    derived: newDerived(),
    methods: new Map(),
  }
}
