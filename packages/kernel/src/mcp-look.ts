/** What there is to accept of an MCP server, before it is accepted: for an operator, on record. */
import type { McpServerManifest } from '@cardinal/manifests'
import { type McpAccepted, McpProblem, type McpServers } from '@cardinal/tools'
import type { Context } from './context.ts'
import { KernelError } from './errors.ts'

export class McpLook {
  readonly #ctx: Pick<Context, 'control' | 'secrets' | 'log'>
  readonly #servers: McpServers

  constructor(ctx: Pick<Context, 'control' | 'secrets' | 'log'>, servers: McpServers) {
    this.#ctx = ctx
    this.#servers = servers
  }

  /** Starts or reaches the server as it is declared here, and asks what tools it has. Applies nothing. */
  async look({ tenant, declaration }: McpServerManifest, principal: string): Promise<McpAccepted> {
    const { control, secrets, log } = this.#ctx
    const ref = declaration.stdio?.secret?.ref ?? declaration.http?.secret?.ref
    const pos = control.note('mcp-look', { tenant, name: declaration.name, by: principal })
    await log.untilDurable(pos)
    const secret = ref === undefined ? undefined : await secrets.open(tenant, ref)
    if (secret && 'class' in secret) throw new KernelError(secret.class, secret.code, secret.message)
    try {
      return await this.#servers.look(tenant, declaration, secret)
    } catch (error) {
      if (!(error instanceof McpProblem)) throw error
      throw new KernelError('Unavailable', error.code, error.message)
    }
  }
}
