/** The tools that manifests declare, each made once for the declaration that is in force. */
import { declaredTool, type HttpTool, type Tool, type ToolDeclaration } from '@cardinal/tools'
import type { Control } from './control.ts'

export class DeclaredTools {
  readonly #control: Control
  readonly #http: HttpTool
  readonly #made = new WeakMap<ToolDeclaration, Tool>()

  constructor(control: Control, http: HttpTool) {
    this.#control = control
    this.#http = http
  }

  of(tenant: string): Tool[] {
    return this.#control.toolsOf(tenant).flatMap(({ name }) => this.find(tenant, name) ?? [])
  }

  find(tenant: string, name: string): Tool | undefined {
    const declaration = this.#control.findTool(tenant, name)
    if (!declaration) return undefined
    let tool = this.#made.get(declaration)
    if (!tool) {
      tool = declaredTool(declaration, this.#http)
      this.#made.set(declaration, tool)
    }
    return tool
  }
}
