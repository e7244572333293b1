/** Commands about servers of the Model Context Protocol: look at what one offers, and accept it. */
import fs from 'node:fs'
import path from 'node:path'
import type { Command } from 'commander'
import { stringify } from 'yaml'
import { ask } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf } from '../options.ts'
import { print, table } from '../output.ts'
import { defaultTenant } from './agents.ts'

interface Tool {
  readonly name: string
  readonly description?: string
}

interface Looked {
  readonly tenant: string
  readonly name: string
  readonly known: readonly { readonly name: string; readonly as: string }[]
  readonly integrity?: string
  readonly tools: readonly Tool[]
}

export function addMcpCommands(program: Command): void {
  const mcp = program.command('mcp').description('servers of the Model Context Protocol')
  mcp
    .command('pin <manifest>')
    .description(
      'ask the servers that a manifest declares what tools they have, and write that beside it as `NAME.tools.yaml`: read it, and apply both',
    )
    .option('--check', 'write nothing; fail if what is there differs')
    .action(pin)
  addClientCommands(mcp)
}

interface Offered {
  readonly name: string
  readonly agent: string
  readonly method: string
}

interface Client {
  readonly tenant: string
  readonly name: string
  readonly card: string
  readonly tools: readonly Offered[]
}

interface AddOptions {
  readonly tenant?: string
  readonly card: string
  readonly tool: readonly string[]
}

function addClientCommands(mcp: Command): void {
  const clients = mcp.command('clients').description('who may call agents as tools, each within a card')
  clients
    .command('add <name>')
    .description('let a client in, and print its token: once, and never again')
    .requiredOption(
      '--card <card>',
      'what is done for its calls lies within this card: `cards mint` or `cards derive`',
    )
    .requiredOption(
      '--tool <[name=]type/key:method...>',
      'a method that it may call; by its own name, if none is given',
    )
    .option('--tenant <tenant>', 'whose; else CARDINAL_TENANT, else `default`')
    .action(addClient)
  clients
    .command('list')
    .description('clients and what they may call')
    .option('--tenant <tenant>', 'of one tenant')
    .action(listClients)
  clients
    .command('rm <name>')
    .description('end a client: its token is worth nothing from then on')
    .option('--tenant <tenant>', 'whose; else CARDINAL_TENANT, else `default`')
    .action(removeClient)
}

/** `[NAME=]type/key:method`. */
function offeredOf(text: string): Offered {
  const [, name, agent, method] = /^(?:([^=]*)=)?([^=:]+):([^=:]+)$/.exec(text) ?? []
  if (agent === undefined || method === undefined)
    throw new CliError(
      'Usage',
      'BadClient',
      `\`${text}\` is no tool: write \`type/key:method\`, or \`NAME=type/key:method\``,
    )
  return { name: name ?? method, agent, method }
}

async function addClient(name: string, options: AddOptions, command: Command): Promise<void> {
  const endpoint = endpointOf(command)
  const tenant = options.tenant ?? defaultTenant()
  const wish = { tenant, name, card: options.card, tools: options.tool.map(offeredOf) }
  const { body } = await ask(endpoint, '/v1/mcp/clients', { body: wish })
  const added = { tenant, name, url: `${endpoint.url}${String(body.path)}`, token: String(body.token) }
  print(formatOf(command), added, () => `url    ${added.url}\ntoken  ${added.token}`)
}

async function listClients(options: { readonly tenant?: string }, command: Command): Promise<void> {
  const query = options.tenant === undefined ? '' : `?${new URLSearchParams({ tenant: options.tenant })}`
  const { body } = await ask(endpointOf(command), `/v1/mcp/clients${query}`)
  const clients = body.clients as readonly Client[]
  const rows = clients.flatMap(({ tenant, name, card, tools }) =>
    tools.map((tool) => [`${tenant}/${name}`, card, tool.name, `${tool.agent}:${tool.method}`]),
  )
  print(formatOf(command), clients, () => table(rows))
}

async function removeClient(
  name: string,
  options: { readonly tenant?: string },
  command: Command,
): Promise<void> {
  const tenant = options.tenant ?? defaultTenant()
  const path = `/v1/mcp/clients/${encodeURIComponent(tenant)}/${encodeURIComponent(name)}`
  const { body } = await ask(endpointOf(command), path, { method: 'DELETE' })
  print(formatOf(command), body, () => `removed ${String(body.removed)}`)
}

async function pin(manifest: string, options: { check?: true }, command: Command): Promise<void> {
  if (!fs.existsSync(manifest)) throw new CliError('NotFound', 'NoSuchFile', `\`${manifest}\` does not exist`)
  const text = fs.readFileSync(manifest, 'utf8')
  const { body } = await ask(endpointOf(command), '/v1/mcp/look', { body: { file: manifest, text } })
  const found = body.servers as readonly Looked[]
  const written = found.map((server) => {
    const file = path.join(path.dirname(manifest), `${server.name}.tools.yaml`)
    const before = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : undefined
    const after = documentOf(server)
    const same = before === after
    if (!same && !options.check) fs.writeFileSync(file, after)
    return { file, server: server.name, tools: server.known, changed: !same }
  })
  print(formatOf(command), written, () =>
    written
      .map(({ file, tools, changed }) =>
        [`${file}${changed ? '' : ' (as it was)'}`, ...tools.map(({ as }) => `  ${as}`)].join('\n'),
      )
      .join('\n'),
  )
  if (options.check && written.some(({ changed }) => changed))
    throw new CliError(
      'Conflict',
      'ToolChanged',
      'a server offers something else than was accepted; `cardinal mcp pin` writes what it is',
    )
}

function documentOf({ tenant, name, integrity, tools }: Looked): string {
  const document = {
    apiVersion: 'cardinal/v1',
    kind: 'McpTools',
    metadata: { tenant, name },
    spec: { ...(integrity && { integrity }), tools },
  }
  return `# What \`${name}\` said of its tools when it was accepted; made by \`cardinal mcp pin\`.\n${stringify(document, { aliasDuplicateObjects: false })}`
}
