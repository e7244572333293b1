/** Bodies that are too long to be held: a file that is fetched, and one that is sent. */
import fs from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Endpoint, send } from './client.ts'
import { CliError } from './errors.ts'
import { note } from './output.ts'

/** Who waits longer than that for a file to go up is told how far it is. */
const PROGRESS_MS = 2000

export async function fetchStream(endpoint: Endpoint, route: string): Promise<Readable> {
  const answer = await send(endpoint, route, {})
  return Readable.fromWeb((answer.body ?? new Blob([]).stream()) as never)
}

/** Writes what a route answers into a file, which nobody finds half written under its name. */
export async function fetchFile(
  endpoint: Endpoint,
  route: string,
  to: string,
): Promise<{ file: string; size: number }> {
  const bytes = await fetchStream(endpoint, route)
  const part = `${to}.part`
  try {
    await pipeline(bytes, fs.createWriteStream(part))
    fs.renameSync(part, to)
  } catch (error) {
    fs.rmSync(part, { force: true })
    const { code, message } = error as NodeJS.ErrnoException
    throw new CliError('Unavailable', 'CannotWrite', `\`${to}\`: ${code ?? message}`)
  }
  return { file: to, size: fs.statSync(to).size }
}

/** Sends a file, or standard input for `-`, and gives the answer, which is JSON. */
export async function sendFile<T>(endpoint: Endpoint, route: string, file: string): Promise<T> {
  const whole = file === '-' ? undefined : sizeOf(file)
  const bytes = file === '-' ? process.stdin : fs.createReadStream(file)
  const answer = await send(endpoint, route, {
    method: 'PUT',
    headers: { 'content-type': 'application/octet-stream' },
    body: Readable.toWeb(Readable.from(told(bytes, whole))) as never,
    duplex: 'half',
  } as RequestInit)
  return (await answer.json()) as T
}

function sizeOf(file: string): number {
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
