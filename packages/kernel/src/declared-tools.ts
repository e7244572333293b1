/** The tools that manifests declare, each made once for the declaration that is in force. */
import {
  type ChatOptions,
  cliTool,
  declaredTool,
  type EgressProxy,
  hostTool,
  llmChat,
  type McpServers,
  mcpTool,
  type OwnFunction,
  type RunComponent,
  type Tool,
  wasmTool,
} from '@cardinal/tools'
import type { Declarations } from './declarations.ts'

type Declared = Pick<Declarations, 'find' | 'of' | 'mcpToolsOf'>

/** The one tool that all models of a tenant are called by. */
const CHAT = 'llm.chat'

/** What tools are performed with. */
export interface ToolPorts {
  readonly http: Tool
  readonly servers: McpServers
  /** The way out of sandboxes. */
  readonly proxy: EgressProxy
  readonly chat: ChatOptions
  /** The operator's own, by name. */
  readonly functions: (name: string) => OwnFunction | undefined
  readonly component: RunComponent
}

export class DeclaredTools {
  readonly #declared: Declared
  readonly #ports: ToolPorts
  readonly #made = new WeakMap<object, Tool>()

  constructor(declared: Declared, ports: ToolPorts) {
    this.#declared = declared
    this.#ports = ports
  }

  /** The tools as they would be of other declarations. */
  from(declared: Declared): DeclaredTools {
    return new DeclaredTools(declared, this.#ports)
  }

  of(tenant: string): Tool[] {
    const declared = this.#declared
    const names = [...declared.of('tool', tenant), ...declared.mcpToolsOf(tenant)].map(({ name }) => name)
    if (declared.of('model', tenant).length > 0) names.push(CHAT)
    return names.flatMap((name) => this.find(tenant, name) ?? [])
  }

  find(tenant: string, name: string): Tool | undefined {
    const declared = this.#declared.find('tool', tenant, name)
    if (declared?.cli)
      return this.#once(declared, () => cliTool(declared, (...of) => this.#ports.proxy.open(tenant, ...of)))
    if (declared?.wasm) return this.#once(declared, () => wasmTool(declared, this.#ports.component))
    if (declared?.host) return this.#once(declared, () => hostTool(declared, this.#ports.functions))
    if (declared) return this.#once(declared, () => declaredTool(declared, this.#ports.http))
    const models = name === CHAT ? this.#declared.of('model', tenant) : []
    if (models.length > 0) return this.#once(models, () => llmChat(models, this.#ports.chat))
    const ofServer = this.#declared.mcpToolsOf(tenant).find((tool) => tool.name === name)
    return ofServer && this.#once(ofServer, () => mcpTool(ofServer, this.#ports.servers, tenant))
  }

  #once(declaration: object, make: () => Tool): Tool {
    const known = this.#made.get(declaration)
    if (known) return known
    const made = make()
    this.#made.set(declaration, made)
    return made
  }
}
