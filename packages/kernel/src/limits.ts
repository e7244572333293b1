/** Which limits are in force for whom: the least of what is set for the node, a tenant, a type and an agent. */
import type { CardRow } from '@cardinal/cards'
import {
  LIMIT_NAMES,
  LIMITS,
  type LimitName,
  type LimitsDeclaration,
  type LimitValues,
  showLimit,
} from '@cardinal/manifests'
import type { Declarations } from './declarations.ts'
import { type Address, showAddress } from './ids.ts'

/** A limit, and where it is set. */
export interface InForce {
  readonly value: number
  /** `the node`, or what the manifest is for: `acme`, `acme/clerk` or `acme/clerk/alice`. */
  readonly setFor: string
}

/** What bounds one agent: each limit at its least. */
export type AgentLimits = Readonly<Record<LimitName, InForce>>

const WHOLE_TENANT = '*'
const NODE = 'the node'

export class Limits {
  readonly #declarations: () => Pick<Declarations, 'of'>
  readonly #node: LimitValues
  /** By the list of a tenant's limits, which is another one once something of it changes. */
  #known = new WeakMap<readonly LimitsDeclaration[], Map<string, AgentLimits>>()

  constructor(declarations: () => Pick<Declarations, 'of'>, node: LimitValues) {
    this.#declarations = declarations
    this.#node = node
  }

  /** What bounds an agent by itself, and as one of its type and tenant. */
  of(address: Address): AgentLimits {
    const { tenant, type, key } = address
    const declared = this.#declared(tenant)
    const known = this.#known.get(declared) ?? new Map<string, AgentLimits>()
    this.#known.set(declared, known)
    // Agents for whom nothing is set are all bounded alike.
    const own = declared.some(({ name }) => name === `${type}/${key}`) ? `${type}/${key}` : type
    const found = known.get(own) ?? this.#resolve(tenant, [WHOLE_TENANT, type, `${type}/${key}`])
    known.set(own, found)
    return found
  }

  /** What is set for a tenant as a whole. */
  ofTenant(tenant: string): AgentLimits {
    return this.#resolve(tenant, [WHOLE_TENANT])
  }

  /** A limit over all agents of a scope, where somebody set one: for the tenant, the type or the agent alone. */
  scopes(address: Address, name: LimitName): readonly (InForce & { readonly scope: string })[] {
    const { tenant, type } = address
    const declared = this.#declared(tenant)
    const scopes = [
      [WHOLE_TENANT, tenant],
      [type, `${tenant}/${type}`],
      [`${type}/${address.key}`, showAddress(address)],
    ] as const
    const byDefault = this.#node[name] ?? LIMITS[name].byDefault
    const bound = this.#node[name]
    return scopes.flatMap(([of, scope], i) => {
      const set = declared.find((one) => one.name === of)?.values[name]
      if (set !== undefined && (bound === undefined || set <= bound))
        return [{ value: set, setFor: scope, scope }]
      return i === 0 && byDefault !== undefined ? [{ value: byDefault, setFor: NODE, scope }] : []
    })
  }

  #declared(tenant: string): readonly LimitsDeclaration[] {
    return this.#declarations().of('limits', tenant)
  }

  #resolve(tenant: string, names: readonly string[]): AgentLimits {
    const declared = this.#declared(tenant)
    const entries = LIMIT_NAMES.map((limit) => {
      const byDefault = this.#node[limit] ?? LIMITS[limit].byDefault ?? Number.POSITIVE_INFINITY
      let least: InForce | undefined
      for (const name of names) {
        const value = declared.find((one) => one.name === name)?.values[limit]
        if (value === undefined || (least && least.value <= value)) continue
        least = { value, setFor: name === WHOLE_TENANT ? tenant : `${tenant}/${name}` }
      }
      // What an operator sets takes the place of what nobody chose; the node itself may set a bound beyond which no one goes.
      const bound = this.#node[limit]
      if (least && bound !== undefined && bound < least.value) least = undefined
      return [limit, least ?? { value: byDefault, setFor: NODE }] as const
    })
    return Object.fromEntries(entries) as AgentLimits
  }
}

/** What a home may take: what is set, or what a card says of it that its agent was born with. */
export function homeOf({ home }: AgentLimits, births: readonly Pick<CardRow, 'id' | 'limits'>[]): InForce {
  let least = home
  for (const { id, limits } of births) {
    const said = limits.budgets.get('homeBytes')
    if (said !== undefined && said < least.value)
      least = { value: Number(said), setFor: `the bearer of card \`${id}\`` }
  }
  return least
}

/** How a refusal names a limit: which, how much, and where it is set. */
export function told(name: LimitName, { value, setFor }: InForce): string {
  return `\`${name}\` is ${showLimit(name, value)}, set for ${setFor}`
}

/** A limit as an operator reads it. */
export interface ShownLimit {
  readonly limit: LimitName
  /** Bytes, ones or milliseconds; null: no bound. */
  readonly value: number | null
  readonly shown: string
  readonly setFor: string
}

export function showLimits(limits: AgentLimits): ShownLimit[] {
  return LIMIT_NAMES.map((limit) => {
    const { value, setFor } = limits[limit]
    return Number.isFinite(value)
      ? { limit, value, shown: showLimit(limit, value), setFor }
      : { limit, value: null, shown: 'none', setFor }
  })
}
