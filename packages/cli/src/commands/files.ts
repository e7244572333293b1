/** Commands about the files of an agent: what is there, out, and in. */
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import type { Command } from 'commander'
import { ask } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf } from '../options.ts'
import { print, table } from '../output.ts'
import { fetchFile, fetchStream, sendFile } from '../streams.ts'
import { route } from './agents.ts'

interface FileAbout {
  readonly name: string
  readonly kind: 'file' | 'dir'
  readonly size: number
  readonly modifiedMs: number
}

interface Listing extends FileAbout {
  readonly path: string
  readonly entries?: readonly FileAbout[]
  readonly more?: boolean
}

export function addFileCommands(program: Command): void {
  const files = program
    .command('files')
    .description('the files of an agent; every look and every put is recorded')
  files.command('ls <agent> [path]').description('what is in a directory, or what a file is').action(list)
  files.command('cat <agent> <path>').description('write a file to standard output').action(cat)
  files
    .command('get <agent> <path> [file]')
    .description('fetch a file; into one of the same name here, if no other is given')
    .option('--force', 'write over a file that is there')
    .action(get)
  files
    .command('put <agent> <file> [path]')
    .description('put a file, or - for standard input; in the root under its own name, if no path is given')
    .action(put)
}

async function list(
  agent: string,
  at: string | undefined,
  _options: unknown,
  command: Command,
): Promise<void> {
  const found: FileAbout[] = []
  let listing: Listing
  let after = ''
  do {
    const query = new URLSearchParams({ path: at ?? '/', ...(after !== '' && { after }) })
    listing = (await ask(endpointOf(command), `${route(agent)}/files?${query}`)).body as unknown as Listing
    found.push(...(listing.entries ?? []))
    after = found.at(-1)?.name ?? ''
  } while (listing.more)
  const { entries: _entries, more: _more, ...about } = listing
  const isFile = about.kind === 'file'
  print(formatOf(command), isFile ? about : { ...about, entries: found }, () =>
    table((isFile ? [about] : found).map(lineOf)),
  )
}

function lineOf({ name, kind, size, modifiedMs }: FileAbout): string[] {
  const isDir = kind === 'dir'
  return [new Date(modifiedMs).toISOString(), isDir ? '' : String(size), isDir ? `${name}/` : name]
}

async function cat(agent: string, at: string, _options: unknown, command: Command): Promise<void> {
  for await (const piece of await fetchStream(endpointOf(command), fileRoute(agent, at)))
    if (!process.stdout.write(piece)) await once(process.stdout, 'drain')
}

async function get(
  agent: string,
  at: string,
  file: string | undefined,
  options: { force?: true },
  command: Command,
): Promise<void> {
  const name = file ?? path.posix.basename(at)
  const to = fs.statSync(name, { throwIfNoEntry: false })?.isDirectory()
    ? path.join(name, path.posix.basename(at))
    : name
  if (fs.existsSync(to) && !options.force)
    throw new CliError('Conflict', 'FileExists', `\`${to}\` is there already; \`--force\` writes over it`)
  const done = await fetchFile(endpointOf(command), fileRoute(agent, at), to)
  print(formatOf(command), done, () => `${done.file}  ${done.size} bytes`)
}

async function put(
  agent: string,
  file: string,
  at: string | undefined,
  _options: unknown,
  command: Command,
): Promise<void> {
  if (file === '-' && at === undefined)
    throw new CliError('Usage', 'Usage', 'say where it goes: `cardinal files put AGENT - /path`')
  const named = at ?? `/${path.basename(file)}`
  const to = fileRoute(agent, named.endsWith('/') ? named + path.basename(file) : named)
  const body = await sendFile<{ path: string; size: number }>(endpointOf(command), to, file)
  print(formatOf(command), body, () => `${body.path}  ${body.size} bytes`)
}

function fileRoute(agent: string, at: string): string {
  return `${route(agent)}/file?${new URLSearchParams({ path: at })}`
}
