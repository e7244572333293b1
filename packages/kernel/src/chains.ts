/**
 * Which middleware stands before an effect: what binds its tool in its tenant, then what binds its card and
 * every card that this one was taken from, the outermost first (R22), then what binds its agent's type.
 */
import type { AgentRow, CardRow } from '@cardinal/cards'
import { type Middleware, type MiddlewareDeclaration, makeMiddleware, type Ports } from '@cardinal/middleware'
import type { Control } from './control.ts'

const DEFAULT_ORDER = 100

/** The declarations that stand before an effect of `tool` by `card`, as they are in force. */
export function chainFor(
  control: Pick<Control, 'declarations' | 'findGeneration'>,
  row: AgentRow,
  tool: string,
  card: CardRow | undefined,
): MiddlewareDeclaration[] {
  const { tenant } = row
  const { declarations } = control
  const bound = declarations
    .of('middleware', tenant)
    .filter(({ tools = [] }) => tools.some((pattern) => matches(pattern, tool)))
    .sort((a, b) => (a.order ?? DEFAULT_ORDER) - (b.order ?? DEFAULT_ORDER) || (a.name < b.name ? -1 : 1))
  const types: string[] = [row.type]
  for (let at = card; at; at = at.parent) types.push(at.owner.type)
  const names = types.reverse().flatMap((type) => control.findGeneration(tenant, type)?.middleware ?? [])
  // One that is named and not there refuses: it was there for a reason.
  const named = names.map((name) => declarations.find('middleware', tenant, name) ?? { name })
  return [...new Map([...bound, ...named].map((one) => [one.name, one])).values()]
}

/** Whether anything in a tenant could stand before an effect: where nothing can, nothing is looked for. */
export function mayMediate(
  control: Pick<Control, 'declarations' | 'namesMiddleware'>,
  tenant: string,
): boolean {
  return control.declarations.of('middleware', tenant).length > 0 || control.namesMiddleware(tenant)
}

function matches(pattern: string, tool: string): boolean {
  if (pattern === '*' || pattern === tool) return true
  return pattern.endsWith('.*') && tool.startsWith(pattern.slice(0, -1))
}

/** Declarations made into what they do, each once while it is in force: some keep a memory. */
export class Chains {
  readonly #control: Control
  readonly #ports: Ports
  readonly #made = new WeakMap<MiddlewareDeclaration, Middleware>()

  constructor(control: Control, ports: Ports) {
    this.#control = control
    this.#ports = ports
  }

  of(row: AgentRow, tool: string, card: CardRow | undefined): Middleware[] {
    return chainFor(this.#control, row, tool, card).map((declaration) => {
      const known = this.#made.get(declaration)
      if (known) return known
      const made = makeMiddleware(declaration, this.#ports)
      this.#made.set(declaration, made)
      return made
    })
  }
}
