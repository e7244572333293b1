/** The tools that manifests declare, each made once for the declaration that is in force. */
import {
  type ChatOptions,
  cliTool,
  declaredTool,
  llmChat,
  type McpServers,
  mcpTool,
  type Tool,
} from '@cardinal/tools'
import type { Declarations } from './declarations.ts'

type Declared = Pick<Declarations, 'find' | 'of' | 'mcpToolsOf'>

/** The one tool that all models of a tenant are called by. */
const CHAT = 'llm.chat'

export class DeclaredTools {
  readonly #declared: Declared
  readonly #http: Tool
  readonly #servers: McpServers
  readonly #chat: ChatOptions
  readonly #made = new WeakMap<object, Tool>()

  constructor(declared: Declared, http: Tool, servers: McpServers, chat: ChatOptions) {
    this.#declared = declared
    this.#http = http
    this.#servers = servers
    this.#chat = chat
  }

  /** The tools as they would be of other declarations. */
  from(declared: Declared): DeclaredTools {
    return new DeclaredTools(declared, this.#http, this.#servers, this.#chat)
  }

  of(tenant: string): Tool[] {
    const declared = this.#declared
    const names = [...declared.of('tool', tenant), ...declared.mcpToolsOf(tenant)].map(({ name }) => name)
    if (declared.of('model', tenant).length > 0) names.push(CHAT)
    return names.flatMap((name) => this.find(tenant, name) ?? [])
  }

  find(tenant: string, name: string): Tool | undefined {
    const declared = this.#declared.find('tool', tenant, name)
    if (declared?.cli) return this.#once(declared, () => cliTool(declared))
    if (declared) return this.#once(declared, () => declaredTool(declared, this.#http))
    const models = name === CHAT ? this.#declared.of('model', tenant) : []
    if (models.length > 0) return this.#once(models, () => llmChat(models, this.#chat))
    const ofServer = this.#declared.mcpToolsOf(tenant).find((tool) => tool.name === name)
    return ofServer && this.#once(ofServer, () => mcpTool(ofServer, this.#servers))
  }

  #once(declaration: object, make: () => Tool): Tool {
    const known = this.#made.get(declaration)
    if (known) return known
    const made = make()
    this.#made.set(declaration, made)
    return made
  }
}
