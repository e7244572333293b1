/**
 * Clients of the Model Context Protocol that may call agents: each with a token of its own, a card within
 * which whatever it has done must lie, and the methods it is offered. Nothing else of the node is open to it.
 */
import type { Context } from './context.ts'
import { KernelError } from './errors.ts'
import { parseAddress, showAddress } from './ids.ts'
import type { Images } from './images.ts'
import { requireLiveCard } from './live-card.ts'
import { digestOfToken, newToken } from './tokens.ts'

/** A method of an agent, by the name that clients know it by. */
export interface OfferedTool {
  readonly name: string
  /** `tenant/type/key`. */
  readonly agent: string
  readonly method: string
}

export interface McpClient {
  readonly tenant: string
  readonly name: string
  readonly card: string
  readonly tools: readonly OfferedTool[]
}

/** A client as it is on record; of its token only the digest is. */
export interface RecordedClient extends McpClient {
  /** SHA-256, hexadecimal. */
  readonly token: string
}

/** A client that has shown its token. */
export interface LetIn extends McpClient {
  /** Of this client alone: another one of the same name, later, has another. */
  readonly principal: string
  /** Aborted once it is ended. */
  readonly ended: AbortSignal
  /** What it waits for now. */
  readonly calls: Set<symbol>
}

/** Tools of the server itself are named so. */
export const OWN_TOOLS = 'cardinal_'

const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/
/** What all clients and models that we know of take for the name of a tool. */
const TOOL_NAME = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/

/** The principal that calls of a client are recorded under. */
function principalOf({ name, token }: RecordedClient): string {
  return `mcp.${name}.${token.slice(0, 12)}`
}

export class McpClients {
  readonly #ctx: Pick<Context, 'control' | 'authority' | 'log'> & { readonly images: Images }
  /** By the digests of their tokens, those that have been here since the node started. */
  readonly #here = new Map<string, { readonly ended: AbortController; readonly calls: Set<symbol> }>()

  constructor(ctx: Pick<Context, 'control' | 'authority' | 'log'> & { readonly images: Images }) {
    this.#ctx = ctx
  }

  list(tenant?: string): McpClient[] {
    return this.#ctx.control
      .listMcpClients()
      .filter((client) => tenant === undefined || client.tenant === tenant)
      .map(({ token: _token, ...client }) => client)
  }

  /**
   * Lets a client in. Its token is told here and never again; durable when the promise resolves.
   * Throws `BadClient`, `ClientExists`, `NoSuchCard`, `NotLive`, `NoSuchType` or `NoSuchMethod`, and changes nothing.
   */
  async add(client: McpClient, principal: string): Promise<{ token: string }> {
    const { control, log } = this.#ctx
    if (!NAME.test(client.name)) throw bad(`\`${client.name}\` is no name: small letters, digits and \`-\``)
    this.requireLive(client)
    const tools = await this.#tools(client)
    if (control.findMcpClient(client.tenant, client.name))
      throw new KernelError(
        'Conflict',
        'ClientExists',
        `\`${client.tenant}\` has a client \`${client.name}\`; \`cardinal mcp clients rm ${client.name}\` ends it`,
      )
    const token = newToken('cmcp')
    const pos = control.addMcpClient({ ...client, tools, token: digestOfToken(token) }, principal)
    await log.untilDurable(pos)
    return { token }
  }

  /** Ends a client, and what it waits for. What it began goes on. */
  async remove(tenant: string, name: string, principal: string): Promise<void> {
    const { control, log } = this.#ctx
    const client = control.findMcpClient(tenant, name)
    if (!client) throw new KernelError('NotFound', 'NoSuchClient', `\`${tenant}\` has no client \`${name}\``)
    const pos = control.removeMcpClient(tenant, name, principal)
    this.#here.get(client.token)?.ended.abort()
    this.#here.delete(client.token)
    await log.untilDurable(pos)
  }

  /** Whose token this is. Throws `NotLive` once the client's card is dead. */
  authenticate(token: string): LetIn | undefined {
    const digest = digestOfToken(token)
    const found = this.#ctx.control.listMcpClients().find((one) => one.token === digest)
    if (!found) return undefined
    this.requireLive(found)
    const here = this.#here.get(digest) ?? { ended: new AbortController(), calls: new Set() }
    this.#here.set(digest, here)
    const { token: _token, ...client } = found
    return { ...client, principal: principalOf(found), ended: here.ended.signal, calls: here.calls }
  }

  /** Throws `NotLive` once the client's card is dead: what it is then answered holds nothing. */
  requireLive(client: Pick<McpClient, 'tenant' | 'card'>): void {
    requireLiveCard(this.#ctx.authority.of(client.tenant), client.card)
  }

  async #tools({ tenant, tools }: McpClient): Promise<OfferedTool[]> {
    const { control, images } = this.#ctx
    if (tools.length === 0) throw bad('a client without tools could do nothing')
    const seen = new Set<string>()
    const offered: OfferedTool[] = []
    for (const { name, agent, method } of tools) {
      if (!TOOL_NAME.test(name) || name.startsWith(OWN_TOOLS))
        throw bad(`\`${name}\` is no name of a tool: letters, digits, \`_\` and \`-\`, not \`${OWN_TOOLS}…\``)
      if (seen.has(name)) throw bad(`two tools are named \`${name}\`: write \`NAME=type/key:method\``)
      seen.add(name)
      const address = parseAddress(agent, tenant)
      if (address.tenant !== tenant) throw bad(`\`${agent}\` is of another tenant than the client`)
      const image = await images.get(control.requireGeneration(tenant, address.type).image)
      if (!Object.hasOwn(image.methods, method))
        throw new KernelError('NotFound', 'NoSuchMethod', `\`${address.type}\` has no method \`${method}\``)
      offered.push({ name, agent: showAddress(address), method })
    }
    return offered
  }
}

function bad(message: string): KernelError {
  return new KernelError('Malformed', 'BadClient', message)
}
