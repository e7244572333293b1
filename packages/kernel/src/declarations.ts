/** What manifests declare for a tenant beside its agents: the versions in force, one kind as the other. */
import type { LimitsDeclaration } from '@cardinal/manifests'
import type { MiddlewareDeclaration } from '@cardinal/middleware'
import {
  CHAT_DEFAULTS,
  type Defaulted,
  defaultedOf,
  type McpAccepted,
  type McpServerDeclaration,
  type McpToolDeclaration,
  type ModelDeclaration,
  mcpDefaults,
  mcpTools,
  type ToolDeclaration,
} from '@cardinal/tools'

/** Kinds of the log's entries that declare something, and what each holds. */
export interface Declarable {
  readonly tool: ToolDeclaration
  readonly model: ModelDeclaration
  readonly 'mcp-server': McpServerDeclaration
  /** What was accepted of a server, whether it is declared yet or not. */
  readonly 'mcp-tools': McpAccepted
  readonly middleware: MiddlewareDeclaration
  readonly limits: LimitsDeclaration
}

const KINDS = ['tool', 'model', 'mcp-server', 'mcp-tools', 'middleware', 'limits'] as const

/** One declaration that is to be applied. */
export type Declaring = {
  readonly [Kind in keyof Declarable]: { readonly kind: Kind; readonly is: Declarable[Kind] }
}[keyof Declarable]

/** The generation that a wish is or would be. */
export interface Next {
  readonly generation: number
  readonly changed: boolean
}

interface InForce {
  readonly generation: number
  readonly declaration: Declaring['is']
  readonly wish: string
}

export function isDeclarable(kind: string): kind is keyof Declarable {
  return (KINDS as readonly string[]).includes(kind)
}

/** What is in force for one tenant. */
class OfTenant {
  readonly #byKind: Readonly<Record<keyof Declarable, ReadonlyMap<string, InForce>>>
  readonly #lists = new Map<keyof Declarable, readonly Declaring['is'][]>()
  #mcpTools: readonly McpToolDeclaration[] | undefined
  #defaulted: readonly Defaulted[] | undefined

  constructor(byKind: Readonly<Record<keyof Declarable, ReadonlyMap<string, InForce>>>) {
    this.#byKind = byKind
  }

  /** What another kind makes of its declarations stays the same: servers that run, memories that are kept. */
  with({ kind, is }: Declaring, generation: number): OfTenant {
    const inForce = { generation, declaration: is, wish: JSON.stringify(is) }
    const next = new OfTenant({ ...this.#byKind, [kind]: new Map(this.#byKind[kind]).set(is.name, inForce) })
    for (const [other, list] of this.#lists) if (other !== kind) next.#lists.set(other, list)
    if (!kind.startsWith('mcp-')) next.#mcpTools = this.#mcpTools
    return next
  }

  find(kind: keyof Declarable, name: string): InForce | undefined {
    return this.#byKind[kind].get(name)
  }

  list<Kind extends keyof Declarable>(kind: Kind): readonly Declarable[Kind][] {
    const known = this.#lists.get(kind) ?? [...this.#byKind[kind].values()].map((one) => one.declaration)
    this.#lists.set(kind, known)
    return known as readonly Declarable[Kind][]
  }

  get mcpTools(): readonly McpToolDeclaration[] {
    this.#mcpTools ??= this.list('mcp-tools').flatMap((accepted) => {
      const server = this.find('mcp-server', accepted.name)?.declaration
      return server ? mcpTools(server as McpServerDeclaration, accepted) : []
    })
    return this.#mcpTools
  }

  get defaulted(): readonly Defaulted[] {
    this.#defaulted ??= [
      ...this.list('tool').map(defaultedOf),
      ...this.mcpTools.map((tool) => ({ name: tool.name, defaults: mcpDefaults(tool) })),
      ...(this.list('model').length > 0 ? [{ name: 'llm.chat', defaults: CHAT_DEFAULTS }] : []),
    ]
    return this.#defaulted
  }
}

const NONE = new OfTenant(Object.fromEntries(KINDS.map((kind) => [kind, new Map()])) as never)

/** Lists are the same object until something of their tenant changes. */
export class Declarations {
  readonly #tenants: Map<string, OfTenant>

  constructor(tenants: ReadonlyMap<string, OfTenant> = new Map()) {
    this.#tenants = new Map(tenants)
  }

  fold(tenant: string, declaring: Declaring, generation: number): void {
    this.#tenants.set(tenant, this.#of(tenant).with(declaring, generation))
  }

  /** As it would be with these besides; this one stays as it is. */
  with(declaring: readonly (readonly [tenant: string, declaring: Declaring])[]): Declarations {
    const next = new Declarations(this.#tenants)
    for (const [tenant, one] of declaring) next.fold(tenant, one, this.next(tenant, one).generation)
    return next
  }

  find<Kind extends keyof Declarable>(
    kind: Kind,
    tenant: string,
    name: string,
  ): Declarable[Kind] | undefined {
    return this.#of(tenant).find(kind, name)?.declaration as Declarable[Kind] | undefined
  }

  /** All of a kind. */
  of<Kind extends keyof Declarable>(kind: Kind, tenant: string): readonly Declarable[Kind][] {
    return this.#of(tenant).list(kind)
  }

  /** The tools of MCP servers that were accepted. */
  mcpToolsOf(tenant: string): readonly McpToolDeclaration[] {
    return this.#of(tenant).mcpTools
  }

  /** Everything that grants may name, with what they fill in. */
  defaultedOf(tenant: string): readonly Defaulted[] {
    return this.#of(tenant).defaulted
  }

  /** The servers behind accepted tools, of all tenants. */
  mcpServers(): ReadonlySet<McpServerDeclaration> {
    return new Set([...this.#tenants.values()].flatMap(({ mcpTools }) => mcpTools.map((tool) => tool.server)))
  }

  /** Digests of the components that are named, of all tenants. */
  components(): ReadonlySet<string> {
    const all = [...this.#tenants.values()].flatMap((of) => [...of.list('tool'), ...of.list('middleware')])
    return new Set(all.flatMap(({ wasm }) => (wasm ? [wasm.digest] : [])))
  }

  next(tenant: string, { kind, is }: Declaring): Next {
    return nextAfter(this.#of(tenant).find(kind, is.name), JSON.stringify(is))
  }

  #of(tenant: string): OfTenant {
    return this.#tenants.get(tenant) ?? NONE
  }
}

export function nextAfter(before: Pick<InForce, 'generation' | 'wish'> | undefined, wish: string): Next {
  if (before?.wish === wish) return { generation: before.generation, changed: false }
  return { generation: (before?.generation ?? 0) + 1, changed: true }
}
