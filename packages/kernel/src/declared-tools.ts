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
import type { Control } from './control.ts'

/** The one tool that all models of a tenant are called by. */
const CHAT = 'llm.chat'

export class DeclaredTools {
  readonly #control: Control
  readonly #http: Tool
  readonly #servers: McpServers
  readonly #chat: ChatOptions
  readonly #made = new WeakMap<object, Tool>()

  constructor(control: Control, http: Tool, servers: McpServers, chat: ChatOptions) {
    this.#control = control
    this.#http = http
    this.#servers = servers
    this.#chat = chat
  }

  of(tenant: string): Tool[] {
    const names = [...this.#control.toolsOf(tenant), ...this.#control.mcpToolsOf(tenant)].map(
      ({ name }) => name,
    )
    if (this.#control.modelsOf(tenant).length > 0) names.push(CHAT)
    return names.flatMap((name) => this.find(tenant, name) ?? [])
  }

  find(tenant: string, name: string): Tool | undefined {
    const declared = this.#control.findTool(tenant, name)
    if (declared?.cli) return this.#once(declared, () => cliTool(declared))
    if (declared) return this.#once(declared, () => declaredTool(declared, this.#http))
    const models = name === CHAT ? this.#control.modelsOf(tenant) : []
    if (models.length > 0) return this.#once(models, () => llmChat(models, this.#chat))
    const ofServer = this.#control.mcpToolsOf(tenant).find((tool) => tool.name === name)
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
