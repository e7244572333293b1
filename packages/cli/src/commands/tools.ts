/** Commands about tools: which there are, how each is called, and their types for programs. */
import fs from 'node:fs'
import path from 'node:path'
import { type ToolInfo, typesOf } from '@cardinal/tools'
import { type Command, Option } from 'commander'
import { stringify } from 'yaml'
import { ask } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf } from '../options.ts'
import { indented, note, print, table } from '../output.ts'
import { componentTemplate } from '../templates/component.ts'
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
  tools
    .command('new <name>')
    .description(
      'write a folder with a tool in TypeScript that becomes a WebAssembly component; needs no node',
    )
    .option(...TENANT)
    .action(newTool)
  tools
    .command('import <file>')
    .description(
      'make a manifest of tools from an OpenAPI document (2.0 to 3.1, JSON or YAML), to be read and applied; needs no node',
    )
    .option(...TENANT)
    .option('--server <url>', 'where the service is; the first server of the document, if left out')
    .option('--prefix <name>', 'how names of the tools begin; the title of the document, if left out')
    .option('--only <operation...>', 'these operations, by their ids; all, if left out')
    .option('--secret <name>', 'the secret that they carry where the document says that they need one')
    .addOption(
      new Option('--answers <which>', 'whose answers are held to the document')
        .choices(['reads', 'all', 'none'])
        .default('reads'),
    )
    .option('--out <file>', 'where to; `PREFIX.tools.yaml`, if left out, and `-` is standard output')
    .option('--check', 'write nothing; fail if what is there differs')
    .action(importTools)
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

interface ImportFlags {
  readonly tenant?: string
  readonly server?: string
  readonly prefix?: string
  readonly only?: readonly string[]
  readonly secret?: string
  readonly answers: 'reads' | 'all' | 'none'
  readonly out?: string
  readonly check?: true
}

function newTool(name: string, options: { tenant?: string }, command: Command): void {
  if (!/^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$/.test(name))
    throw new CliError('Usage', 'BadName', `\`${name}\` is no name of a tool: dotted, as \`calc.sum\``)
  const folder = name.replaceAll('.', '-')
  if (fs.existsSync(folder)) throw new CliError('Conflict', 'FileExists', `\`${folder}\` is there already`)
  const files = componentTemplate(name, options.tenant ?? defaultTenant())
  fs.mkdirSync(folder)
  for (const [file, text] of Object.entries(files)) fs.writeFileSync(path.join(folder, file), text)
  const said = { folder, files: Object.keys(files) }
  print(
    formatOf(command),
    said,
    () => `wrote ${folder}/: cd ${folder} && npm install && npm run build && cardinal apply .`,
  )
}

/** How files begin that this made. */
const IMPORTED = '# Made by `cardinal tools import'

async function importTools(from: string, options: ImportFlags, command: Command): Promise<void> {
  if (!fs.existsSync(from)) throw new CliError('NotFound', 'NoSuchFile', `\`${from}\` does not exist`)
  // Whoever imports nothing does not wait for it.
  const { toolsOfOpenApi } = await import('@cardinal/manifests/openapi')
  const { tenant = defaultTenant(), out, check, ...rest } = options
  const { tools, left, notes, bare } = toolsOfOpenApi(fs.readFileSync(from, 'utf8'), from, {
    tenant,
    ...rest,
  })
  for (const { operation, why } of left) note(indented(`left out ${operation}: ${why}`))
  for (const { tool, note: text } of notes) note(indented(`${tool}: ${text}`))
  if (bare.length > 0) note(`${bare.length} of them need a secret: name it with \`--secret\``)
  if (tools.length === 0)
    throw new CliError('Malformed', 'BadManifest', `no operation of \`${from}\` can be a tool`)
  const name = tools[0]?.metadata.name.split('.')[0] as string
  const to = out ?? `${name}.tools.yaml`
  const after = `${IMPORTED} ${path.basename(from)}\`: read it before it is applied.\n${tools
    .map((tool) => stringify(tool, { aliasDuplicateObjects: false, lineWidth: 0 }))
    .join('---\n')}`
  if (to === '-') {
    process.stdout.write(after)
    return
  }
  const before = fs.existsSync(to) ? fs.readFileSync(to, 'utf8') : undefined
  if (out === undefined && before !== undefined && !before.startsWith(IMPORTED))
    throw new CliError(
      'Conflict',
      'FileExists',
      `\`${to}\` was not made by an import: name another with \`--out\``,
    )
  const same = before === after
  if (check && !same)
    throw new CliError('Conflict', 'ToolChanged', `\`${to}\` is not what \`${from}\` says; import it again`)
  if (!same) fs.writeFileSync(to, after)
  const said = { file: to, changed: !same, tools: tools.map(({ metadata }) => metadata.name), left, notes }
  print(
    formatOf(command),
    said,
    () => `${to}${same ? ' (as it was)' : ''}: ${tools.length} tools, ${left.length} operations left out`,
  )
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
