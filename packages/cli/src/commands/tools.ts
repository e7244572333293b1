/** Commands about tools: which there are, how each is called, and their types for programs. */
import fs from 'node:fs'
import { type ToolInfo, typesOf } from '@cardinal/tools'
import type { Command } from 'commander'
import { ask } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf } from '../options.ts'
import { print, table } from '../output.ts'
import { defaultTenant, route } from './agents.ts'

const TENANT = ['--tenant <tenant>', 'whose; else CARDINAL_TENANT, else `default`'] as const

export function addToolCommands(program: Command): void {
  const tools = program.command('tools').description('what agents may call')
  tools
    .command('list [agent]')
    .description('the tools of a tenant, or those that the cards of an agent let it call')
    .option(...TENANT)
    .action(list)
  tools
    .command('show <name>')
    .description('how a tool is called, what it does, and where its arguments go')
    .option(...TENANT)
    .action(show)
  program
    .command('types [file]')
    .description(
      'write the types of the tools of a tenant for TypeScript programs; `cardinal-tools.d.ts` if left out',
    )
    .option(...TENANT)
    .action(types)
}

async function toolsOf(path: string, command: Command): Promise<ToolInfo[]> {
  return (await ask(endpointOf(command), path)).body.tools as ToolInfo[]
}

function ofTenant({ tenant }: { tenant?: string }): string {
  return `/v1/tools/${encodeURIComponent(tenant ?? defaultTenant())}`
}

async function list(
  agent: string | undefined,
  options: { tenant?: string },
  command: Command,
): Promise<void> {
  const found = await toolsOf(agent === undefined ? ofTenant(options) : `${route(agent)}/tools`, command)
  print(formatOf(command), found, () =>
    table(found.map(({ name, effect, about }) => [name, effect ?? '', about.split('\n')[0] ?? ''])),
  )
}

async function show(name: string, options: { tenant?: string }, command: Command): Promise<void> {
  const found = (await toolsOf(ofTenant(options), command)).find((tool) => tool.name === name)
  if (!found)
    throw new CliError(
      'NotFound',
      'NoSuchTool',
      `no tool \`${name}\`; \`cardinal tools list\` shows those that there are`,
    )
  print(formatOf(command), found, () => found.help)
}

async function types(
  file: string | undefined,
  options: { tenant?: string },
  command: Command,
): Promise<void> {
  const to = file ?? 'cardinal-tools.d.ts'
  const text = typesOf(await toolsOf(ofTenant(options), command))
  if (to === '-') process.stdout.write(text)
  else {
    fs.writeFileSync(to, text)
    print(formatOf(command), { file: to }, () => `wrote ${to}`)
  }
}
