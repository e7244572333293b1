/**
 * A server of the Model Context Protocol as manifests declare it: how it is reached, and which of its tools
 * were accepted, each as it described itself then.
 */
import { hash } from 'node:crypto'
import type { EgressGrant } from './egress-grants.ts'
import type { EffectClass } from './tool.ts'

export interface McpServerDeclaration {
  readonly name: string
  readonly stdio?:
    | {
        /** A folder below the one that the node was started with. */
        readonly package: string
        /** `sha256-…` of all that is in it, as it was accepted; none was, if it is left out. */
        readonly integrity?: string | undefined
        /** As seen in the sandbox, where the package is the working folder. */
        readonly command: readonly string[]
        readonly env?: Readonly<Record<string, string>> | undefined
        /** Where it may go; left out: it has no network. */
        readonly egress?: readonly EgressGrant[] | undefined
        /** A secret in a variable of the environment. */
        readonly secret?: { readonly ref: string; readonly env: string } | undefined
      }
    | undefined
  readonly http?:
    | {
        readonly url: string
        readonly secret?:
          | { readonly ref: string; readonly header: string; readonly as?: 'plain' | 'bearer' | undefined }
          | undefined
      }
    | undefined
  /** By the server's own names; `once` where nothing is said, whatever the server says of itself. */
  readonly effects?: Readonly<Record<string, EffectClass>> | undefined
  /** Where arguments can be carried to; left out: anywhere. */
  readonly sinks?: readonly string[] | undefined
  readonly yields?: readonly string[] | undefined
  readonly timeoutMs: number
}

/** One tool as its server described it. */
export interface PinnedTool {
  readonly name: string
  readonly description?: string | undefined
  readonly inputSchema: Readonly<Record<string, unknown>>
  readonly outputSchema?: Readonly<Record<string, unknown>> | undefined
}

/** A tool of a server, as the kernel knows it. */
export interface McpToolDeclaration {
  /** `server.tool`. */
  readonly name: string
  readonly server: McpServerDeclaration
  readonly tool: PinnedTool
  readonly digest: string
}

/** The name by which cards and programs know a tool of a server. */
export function mcpToolName(server: string, tool: string): string {
  const plain = (text: string) => text.toLowerCase().replace(/[^a-z0-9_]/g, '_')
  const segment = plain(tool)
  return `${plain(server)}.${/^[a-z]/.test(segment) ? segment : `t_${segment}`}`
}

/** Changes with whatever a model would read of the tool. */
export function digestOf({
  name,
  description = '',
  inputSchema,
  outputSchema = null,
}: Readonly<{
  name: string
  description?: string | undefined
  inputSchema: unknown
  outputSchema?: unknown
}>): string {
  return hash('sha256', canonical([name, description, inputSchema, outputSchema ?? null]))
}

/** JSON with names in one order. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined)
  return `{${entries
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, inner]) => `${JSON.stringify(name)}:${canonical(inner)}`)
    .join(',')}}`
}

/** What an operator accepted of a server. */
export interface McpAccepted {
  /** Of the server. */
  readonly name: string
  /** Of its package. */
  readonly integrity?: string | undefined
  readonly tools: readonly PinnedTool[]
}

/** The tools of a server that were accepted. */
export function mcpTools(
  declared: McpServerDeclaration,
  { integrity, tools }: McpAccepted,
): McpToolDeclaration[] {
  const server = declared.stdio ? { ...declared, stdio: { ...declared.stdio, integrity } } : declared
  return tools.map((tool) => ({
    name: mcpToolName(server.name, tool.name),
    server,
    tool,
    digest: digestOf(tool),
  }))
}
