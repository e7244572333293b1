/**
 * Connections to servers of the Model Context Protocol: one for each server that a tenant declares, made when
 * it is first needed. Servers on standard input run in the sandbox; others are reached by the door.
 *
 * Nothing is offered to a server: no sampling, no elicitation, no roots. Both eras of the protocol are spoken.
 */
import fs from 'node:fs'
import path from 'node:path'
import type { OpenSecret } from '@cardinal/secrets'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import type { EgressDoor } from './egress-door.ts'
import { egressBound } from './egress-grants.ts'
import type { EgressProxy, WayOut } from './egress-proxy.ts'
import { withoutSecret } from './egress-record.ts'
import type { NoteEgress } from './egress-way.ts'
import { digestOf, type McpAccepted, type McpServerDeclaration, type PinnedTool } from './mcp-declaration.ts'
import { findSandbox, isPlainText, sandboxCommand } from './sandbox.ts'
import { treeDigest } from './tree-digest.ts'

/** Why a server cannot be used. */
export class McpProblem extends Error {
  readonly code: 'NoSandbox' | 'NoPackage' | 'PackageChanged' | 'NoServer' | 'ToolChanged'
  constructor(code: McpProblem['code'], message: string) {
    super(message)
    this.code = code
  }
}

export interface McpOptions {
  readonly door: EgressDoor
  readonly proxy: EgressProxy
  /** What a server asks of the world is on record by it. */
  readonly noteEgress: (tenant: string, server: string) => NoteEgress
  /** Where packages of servers lie; undefined: none is started here. */
  readonly packages: string | undefined
}

const CONNECT_MS = 30_000
/** What a server says of its tools is asked again after so long, even if it never says that it changed. */
const LISTING_MS = 60_000
const MAX_TOOLS = 1000

interface Connection {
  readonly client: Client
  /** Of the secret that it was made with. */
  readonly secret: string | undefined
  listing: { readonly digests: ReadonlyMap<string, string>; readonly atMs: number } | undefined
  closed: boolean
}

export class McpServers {
  readonly #options: McpOptions
  readonly #older = new Set<Promise<Connection>>()
  readonly #connections = new Map<McpServerDeclaration, Promise<Connection>>()

  constructor(options: McpOptions) {
    this.#options = options
  }

  /** A client on which the tool is as it was accepted; `McpProblem` if there is none. */
  async clientFor(
    tenant: string,
    server: McpServerDeclaration,
    secret: OpenSecret | undefined,
    tool: string,
    digest: string,
  ): Promise<Client> {
    const connection = await this.#connected(tenant, server, secret)
    const { digests } = await this.#listing(connection, server)
    const now = digests.get(tool)
    if (now === undefined)
      throw new McpProblem('ToolChanged', `\`${server.name}\` has no tool \`${tool}\` any more`)
    if (now !== digest)
      throw new McpProblem(
        'ToolChanged',
        `\`${server.name}\` describes \`${tool}\` otherwise than it was accepted: pin and apply it again to accept that`,
      )
    return connection.client
  }

  /** What there is to accept of a server now: its package as it lies here, and what it says of its tools. */
  async look(
    tenant: string,
    server: McpServerDeclaration,
    secret: OpenSecret | undefined,
  ): Promise<McpAccepted> {
    const { name, stdio } = server
    const integrity = stdio && (await digestOfPackage(stdio.package, this.#folderOf(stdio.package)))
    const looked = stdio ? { ...server, stdio: { ...stdio, integrity } } : server
    const { client } = await this.#connect(tenant, looked, secret)
    try {
      return { name, ...(integrity && { integrity }), tools: await listTools(client) }
    } finally {
      await client.close().catch(() => {})
    }
  }

  #folderOf(name: string): string {
    const { packages } = this.#options
    const folder = packages && path.join(packages, name)
    if (folder && fs.existsSync(folder)) return folder
    throw new McpProblem(
      'NoPackage',
      `this node has no package \`${name}\`: it is started with \`--packages FOLDER\``,
    )
  }

  /** Ends connections to servers that are declared no more, once whoever uses them has had the time to end. */
  retire(inForce: ReadonlySet<McpServerDeclaration>): void {
    for (const [server, connection] of this.#connections) {
      if (inForce.has(server)) continue
      this.#connections.delete(server)
      this.#older.add(connection)
      setTimeout(() => void this.#end(connection), server.timeoutMs).unref()
    }
  }

  async #end(connection: Promise<Connection>): Promise<void> {
    this.#older.delete(connection)
    await connection.then(({ client }) => client.close()).catch(() => {})
  }

  async close(): Promise<void> {
    const all = [...this.#connections.values(), ...this.#older]
    this.#connections.clear()
    await Promise.all(all.map((connection) => this.#end(connection)))
  }

  async #connected(
    tenant: string,
    server: McpServerDeclaration,
    secret: OpenSecret | undefined,
  ): Promise<Connection> {
    const known = await this.#connections.get(server)?.catch(() => undefined)
    if (known && !known.closed && known.secret === secret?.version) return known
    // Whoever else saw the same meanwhile has made one already.
    const now = this.#connections.get(server)
    const latest = await now?.catch(() => undefined)
    if (latest && latest !== known && !latest.closed && latest.secret === secret?.version) return latest
    const making = this.#connect(tenant, server, secret)
    this.#connections.set(server, making)
    void known?.client.close().catch(() => {})
    try {
      return await making
    } catch (error) {
      if (this.#connections.get(server) === making) this.#connections.delete(server)
      throw error
    }
  }

  async #connect(
    tenant: string,
    server: McpServerDeclaration,
    secret: OpenSecret | undefined,
  ): Promise<Connection> {
    const { stdio } = server
    const out =
      stdio?.egress &&
      (await this.#options.proxy.open(
        tenant,
        egressBound(stdio.egress, 'egress'),
        withoutSecret(this.#options.noteEgress(tenant, server.name), secret?.masker),
      ))
    const client = new Client(
      { name: 'cardinal', version: '1' },
      { capabilities: {}, versionNegotiation: { mode: 'auto' }, inputRequired: { autoFulfill: false } },
    )
    const connection: Connection = { client, secret: secret?.version, listing: undefined, closed: false }
    client.onclose = () => {
      connection.closed = true
      out?.close()
    }
    client.setNotificationHandler('notifications/tools/list_changed', () => {
      connection.listing = undefined
    })
    try {
      const transport = stdio
        ? await this.#stdio(stdio, secret, out)
        : this.#http(server.http as NonNullable<McpServerDeclaration['http']>, secret)
      await client.connect(transport, { timeout: CONNECT_MS })
    } catch (error) {
      await client.close().catch(() => {})
      out?.close()
      if (error instanceof McpProblem) throw error
      throw new McpProblem('NoServer', `\`${server.name}\` cannot be reached (${nameOf(error)})`)
    }
    return connection
  }

  async #stdio(
    {
      package: name,
      integrity,
      command,
      env = {},
      secret: binding,
    }: NonNullable<McpServerDeclaration['stdio']>,
    secret: OpenSecret | undefined,
    out: WayOut | undefined,
  ): Promise<StdioClientTransport> {
    const bwrap = findSandbox()
    if (!bwrap)
      throw new McpProblem(
        'NoSandbox',
        'this machine has no `bwrap` (bubblewrap): nothing of others is started without',
      )
    const folder = this.#folderOf(name)
    const found = await digestOfPackage(name, folder)
    if (found !== integrity)
      throw new McpProblem(
        'PackageChanged',
        `package \`${name}\` is not the one that was accepted: it is ${found}`,
      )
    const [program = '', ...args] = command
    if (secret && !isPlainText(secret.value))
      throw new McpProblem('NoServer', `secret \`${secret.ref}\` is no text that a variable could hold`)
    const own = binding && secret ? { [binding.env]: secret.value.toString() } : {}
    const sandboxed = sandboxCommand(bwrap, {
      program,
      args,
      readOnly: [[folder, '/package']],
      cwd: '/package',
      env: { ...env, ...own },
      out: out?.folder,
    })
    return new StdioClientTransport({ ...sandboxed, stderr: 'ignore' })
  }

  #http(
    { url, secret: binding }: NonNullable<McpServerDeclaration['http']>,
    secret: OpenSecret | undefined,
  ): StreamableHTTPClientTransport {
    const headers: Record<string, string> = {}
    if (binding && secret) {
      const text = secret.value.toString('latin1')
      headers[binding.header] = binding.as === 'bearer' ? `Bearer ${text}` : text
      headers['accept-encoding'] = 'identity'
    }
    const at = new URL(url)
    return new StreamableHTTPClientTransport(at, {
      fetch: this.#options.door.fetchTo(at.origin, () => headers),
    })
  }

  async #listing(
    connection: Connection,
    server: McpServerDeclaration,
  ): Promise<NonNullable<Connection['listing']>> {
    const known = connection.listing
    if (known && Date.now() - known.atMs < LISTING_MS) return known
    let tools: PinnedTool[]
    try {
      tools = await listTools(connection.client)
    } catch (error) {
      throw new McpProblem('NoServer', `\`${server.name}\` does not say what tools it has (${nameOf(error)})`)
    }
    const listing = { digests: new Map(tools.map((tool) => [tool.name, digestOf(tool)])), atMs: Date.now() }
    connection.listing = listing
    return listing
  }
}

/** What cannot be read whole is not what was accepted. */
async function digestOfPackage(name: string, folder: string): Promise<string> {
  try {
    return await treeDigest(folder)
  } catch (error) {
    throw new McpProblem('PackageChanged', `package \`${name}\` cannot be read whole (${nameOf(error)})`)
  }
}

async function listTools(client: Client): Promise<PinnedTool[]> {
  const tools: PinnedTool[] = []
  let cursor: string | undefined
  do {
    const page = await client.listTools(cursor === undefined ? {} : { cursor }, { cacheMode: 'bypass' })
    for (const { name, description, inputSchema, outputSchema } of page.tools)
      tools.push({ name, description, inputSchema, outputSchema })
    cursor = page.nextCursor
  } while (cursor !== undefined && tools.length < MAX_TOOLS)
  return tools
}

/** What went wrong, without whatever the other side says about it. */
export function nameOf(error: unknown): string {
  const { code, name } = error as { code?: unknown; name?: unknown }
  return String(code ?? name ?? 'error').slice(0, 64)
}
