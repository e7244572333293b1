/** Commands about what agents store: read a home, see how large it is and whether it is whole. */
import type { Command } from 'commander'
import { ask } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf, whole } from '../options.ts'
import { print, table } from '../output.ts'
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
