/** Commands about what agents store: read a home, see how large it is and whether it is whole, take it elsewhere. */
import fs from 'node:fs'
import { checkHomeFile, type HomeHeader } from '@cardinal/kernel'
import { type Command, InvalidArgumentError } from 'commander'
import { ask } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf, whole } from '../options.ts'
import { print, table } from '../output.ts'
import { fetchFile, sendFile } from '../streams.ts'
import { readArgs, route } from './agents.ts'

type Cell = null | number | string | { readonly hex: string }

interface Rows {
  readonly columns: readonly string[]
  readonly rows: readonly (readonly Cell[])[]
  readonly more: boolean
}

export function addHomeCommands(program: Command): void {
  program
    .command('sql <agent> [select]')
    .description("read an agent's home with one statement that cannot write; @file, or - for standard input")
    .option('--limit <rows>', 'at most so many rows', whole(1), 1000)
    .option('--check', "the home's size, and what SQLite finds wrong with it, instead of a statement")
    .action(sql)
  const home = program.command('home').description('take the home of an agent out of a node, and into one')
  home
    .command('export <agent> <file>')
    .description('write the home into a new file, signed with what the agent had read')
    .action(exportHome)
  home
    .command('import <agent> <file>')
    .description('let an agent begin anew with such a file, and with what its agent had read')
    .option('--key <hex>', 'public key of the node that signed it; the own one if left out', keyOf)
    .option('--replace', 'wipe an agent that has been at work')
    .action(importHome)
  home
    .command('inspect <file>')
    .description('whose home a file is, and whether it is as its node signed it; needs no node')
    .requiredOption(
      '--key <hex>',
      'public key of the node that signed it; /v1/health of a node tells it',
      keyOf,
    )
    .action(inspect)
}

function keyOf(text: string): string {
  if (/^[0-9a-f]{64}$/i.test(text)) return text
  throw new InvalidArgumentError('a public key is 64 hexadecimal digits')
}

async function exportHome(agent: string, file: string, _options: unknown, command: Command): Promise<void> {
  if (fs.existsSync(file)) throw new CliError('Conflict', 'FileExists', `\`${file}\` is there already`)
  const done = await fetchFile(endpointOf(command), `${route(agent)}/home/export`, file)
  print(formatOf(command), done, () => `${done.file}  ${done.size} bytes`)
}

async function importHome(
  agent: string,
  file: string,
  options: { key?: string; replace?: true },
  command: Command,
): Promise<void> {
  const query = new URLSearchParams({
    ...(options.key && { key: options.key }),
    ...(options.replace && { replace: 'true' }),
  })
  const to = `${route(agent)}/home/import?${query}`
  const body = await sendFile<{ address: string; from: string; bytes: number }>(endpointOf(command), to, file)
  print(
    formatOf(command),
    body,
    () => `${body.address} begins anew with the home of ${body.from} (${body.bytes} bytes)`,
  )
}

async function inspect(file: string, { key }: { key: string }, command: Command): Promise<void> {
  if (!fs.existsSync(file)) throw new CliError('NotFound', 'NoSuchFile', `\`${file}\` does not exist`)
  const { header } = await checkHomeFile(file, key)
  print(formatOf(command), header, () => lines(header).join('\n'))
}

function lines({ address, birth, seq, exported, node, bytes, sha256, sqlite, fixed }: HomeHeader): string[] {
  return [
    `home of   ${address} (born ${birth}), at entry ${seq}`,
    `taken     ${exported} from node ${node}`,
    `database  ${bytes} bytes, SQLite ${sqlite}, sha256 ${sha256}`,
    `flow      ${fixed.sinks.join(', ') || 'nowhere'}`,
    `labels    ${fixed.labels?.join(', ') || 'none'}`,
    'as it was signed',
  ]
}

async function sql(
  agent: string,
  given: string | undefined,
  options: { limit: number; check?: boolean },
  command: Command,
): Promise<void> {
  if (options.check) return check(agent, command)
  if (given === undefined)
    throw new CliError('Usage', 'Usage', 'say what to read: `cardinal sql AGENT "select …"`')
  const body = { sql: readArgs(given, String), limit: options.limit }
  const found = (await ask(endpointOf(command), `${route(agent)}/sql`, { body })).body as unknown as Rows
  print(formatOf(command), found, () => {
    const lines = [found.columns, ...found.rows.map((row) => row.map(show))]
    return found.more ? `${table(lines)}\n(more than ${options.limit} rows; see --limit)` : table(lines)
  })
}

async function check(agent: string, command: Command): Promise<void> {
  const { body } = await ask(endpointOf(command), `${route(agent)}/home`)
  const { bytes, walBytes, problems } = body as unknown as {
    bytes: number
    walBytes: number
    problems: string[]
  }
  print(formatOf(command), body, () => {
    const size = `${bytes} bytes, ${walBytes} in its write-ahead log`
    return problems.length === 0 ? `${size}; nothing is wrong` : [size, ...problems].join('\n')
  })
  if (problems.length > 0) process.exitCode = 1
}

function show(cell: Cell): string {
  if (cell === null) return 'NULL'
  if (typeof cell === 'object') return `x'${cell.hex}'`
  return String(cell)
}
