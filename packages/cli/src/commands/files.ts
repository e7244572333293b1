/** Commands about the files of an agent: what is there, out, and in. */
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Command } from 'commander'
import { ask, send } from '../client.ts'
import { CliError } from '../errors.ts'
import { endpointOf, formatOf } from '../options.ts'
import { note, print, table } from '../output.ts'
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

/** Who waits longer than that for a file to go up is told how far it is. */
const PROGRESS_MS = 2000

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

async function fetched(agent: string, at: string, command: Command): Promise<Readable> {
  const query = new URLSearchParams({ path: at })
  const answer = await send(endpointOf(command), `${route(agent)}/file?${query}`, {})
  return Readable.fromWeb((answer.body ?? new Blob([]).stream()) as never)
}

async function cat(agent: string, at: string, _options: unknown, command: Command): Promise<void> {
  for await (const piece of await fetched(agent, at, command))
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
  const bytes = await fetched(agent, at, command)
  // Nobody finds half of it under its name.
  const part = `${to}.part`
  try {
    await pipeline(bytes, fs.createWriteStream(part))
    fs.renameSync(part, to)
  } catch (error) {
    fs.rmSync(part, { force: true })
    const { code, message } = error as NodeJS.ErrnoException
    throw new CliError('Unavailable', 'CannotWrite', `\`${to}\`: ${code ?? message}`)
  }
  const { size } = fs.statSync(to)
  print(formatOf(command), { file: to, size }, () => `${to}  ${size} bytes`)
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
  const whole = file === '-' ? undefined : statOf(file)
  const named = at ?? `/${path.basename(file)}`
  const query = new URLSearchParams({ path: named.endsWith('/') ? named + path.basename(file) : named })
  const bytes = file === '-' ? process.stdin : fs.createReadStream(file)
  const answer = await send(endpointOf(command), `${route(agent)}/file?${query}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/octet-stream' },
    body: Readable.toWeb(Readable.from(told(bytes, whole))) as never,
    duplex: 'half',
  } as RequestInit)
  const body = (await answer.json()) as { path: string; size: number }
  print(formatOf(command), body, () => `${body.path}  ${body.size} bytes`)
}

function statOf(file: string): number {
  const found = fs.statSync(file, { throwIfNoEntry: false })
  if (!found) throw new CliError('NotFound', 'NoSuchFile', `\`${file}\` does not exist`)
  if (!found.isFile()) throw new CliError('Malformed', 'BadFile', `\`${file}\` is no file`)
  return found.size
}

/** The same bytes; of what takes long is told how far it is. */
async function* told(bytes: AsyncIterable<Buffer>, whole: number | undefined): AsyncGenerator<Buffer> {
  let sent = 0
  let last = Date.now()
  for await (const piece of bytes) {
    yield piece
    sent += piece.length
    if (Date.now() - last < PROGRESS_MS) continue
    last = Date.now()
    note(`${sent}${whole === undefined ? '' : ` of ${whole}`} bytes sent`)
  }
}
