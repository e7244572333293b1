/** Commands about servers of the Model Context Protocol: look at what one offers, and accept it. */
import fs from 'node:fs'
import path from 'node:path'
import type { Command } from 'commander'
import { stringify } from 'yaml'
import { ask } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf } from '../options.ts'
import { print } from '../output.ts'

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
