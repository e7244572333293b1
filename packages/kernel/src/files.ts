/**
 * An agent's files as an operator sees them: listed and read in its home between turns, on record; put as an
 * input of the agent, on record too, which its own runtime writes.
 *
 * The tables are those of `docs/home.md`. There are no links, so a path means what it says: `..` is resolved
 * here, and that of the root is the root.
 */
import { randomUUID } from 'node:crypto'
import path from 'node:path'
import type { AskHome } from './agent.ts'
import { KernelError } from './errors.ts'
import { parseAddress } from './ids.ts'
import type { Intake } from './intake.ts'

interface FileAbout {
  readonly name: string
  readonly kind: 'file' | 'dir'
  readonly size: number
  readonly modifiedMs: number
}

/** A directory with what is in it by name, as far as one answer goes; or a file. */
export interface FileListing extends FileAbout {
  readonly path: string
  readonly entries?: readonly FileAbout[]
  /** There is more behind the last entry. */
  readonly more?: boolean
}

/** The name of the method that the runtime of every agent has. */
export const PUT_METHOD = 'cardinal.put'
const CHUNK = 65_536
const CHUNKS_A_PART = 16
const ENTRIES = 1000
const MAX_PATH = 4096
const MAX_READ = 256 << 20

export class Files {
  readonly #intake: Intake

  readonly #admit: () => void
  /** Tells puts of this run from those that an earlier one left unfinished. */
  readonly #run = randomUUID()

  constructor(intake: Intake, admit: () => void) {
    this.#admit = admit
    this.#intake = intake
  }

  /** What is at a path; of a directory the entries behind the name `after`. */
  async list(address: string, given: string, principal: string, after = ''): Promise<FileListing> {
    const at = canonical(given)
    const agent = await this.#intake.requireBorn(parseAddress(address))
    return agent.look(`files list ${at}`, principal, async (ask) => {
      const { id, ...about } = await find(ask, at)
      if (about.kind === 'file') return { path: at, ...about }
      const sql = `select name, kind, size, mtime from cardinal_files where parent = ${id} and name > ${text(after)} order by name`
      const found = await rows(ask, sql, ENTRIES)
      const entries = found.rows.map(([name, kind, size, mtime]) => aboutOf(name, kind, size, mtime))
      return { path: at, ...about, entries, ...(found.more && { more: true }) }
    })
  }

  /** The bytes of a file, 256 MiB at most, all of one moment. */
  async read(address: string, given: string, principal: string): Promise<Buffer> {
    const at = canonical(given)
    const agent = await this.#intake.requireBorn(parseAddress(address))
    return agent.look(`files read ${at}`, principal, async (ask) => {
      const { id, kind, size } = await find(ask, at)
      if (kind === 'dir') throw new KernelError('Malformed', 'BadPath', `\`${at}\` is a directory`)
      if (!Number.isSafeInteger(size) || size < 0) throw odd(at)
      if (size > MAX_READ)
        throw new KernelError('Malformed', 'TooLarge', `\`${at}\` has more than ${MAX_READ} bytes`)
      // What was never written is zeros.
      const bytes = Buffer.alloc(size)
      for (let n = 0; n * CHUNK < size; n += CHUNKS_A_PART) {
        const sql = `select n, bytes from cardinal_chunks where file = ${id} and n >= ${n} and n < ${n + CHUNKS_A_PART}`
        const found = await rows(ask, sql, CHUNKS_A_PART)
        if (found.more) throw odd(at)
        for (const [place, chunk] of found.rows) {
          const hex = (chunk as { hex?: unknown } | null)?.hex
          if (typeof hex !== 'string') throw odd(at)
          bytes.write(hex, Number(place) * CHUNK, 'hex')
        }
      }
      return bytes
    })
  }

  /**
   * Puts a file in the place of whatever file was there; directories on the way are made. Resolves when all of
   * it is durable. It is taken in parts while it comes; the file is there with the last one or not at all.
   *
   * `NoSpace`: the home may not become so large. `BadPath`: a directory is there, or a file is on the way.
   */
  async put(
    address: string,
    given: string,
    bytes: AsyncIterable<Uint8Array>,
    principal: string,
  ): Promise<{ readonly path: string; readonly size: number }> {
    if (given.endsWith('/')) throw new KernelError('Malformed', 'BadPath', `\`${given}\` is a directory`)
    const at = canonical(given)
    this.#admit()
    const put = `${this.#run}/${randomUUID()}`
    const send = (part: number, chunks: readonly string[], last: boolean) =>
      this.#send({ address, principal }, { path: at, put, part, chunks, last })
    let part = 0
    try {
      let waiting: string[] = []
      for await (const chunk of chunksOf(bytes)) {
        if (waiting.length === CHUNKS_A_PART) {
          await send(part++, waiting, false)
          waiting = []
        }
        waiting.push(chunk.toString('hex'))
      }
      return { path: at, size: await send(part++, waiting, true) }
    } catch (error) {
      // Whoever sent it is gone: what came so far is taken away. If that fails too, the first error is the one to tell.
      if (part > 0) await send(-1, [], false).catch(() => {})
      throw error
    }
  }

  async #send(to: { readonly address: string; readonly principal: string }, args: PartArgs): Promise<number> {
    const { reply } = await this.#intake.beginOwn({ ...to, method: PUT_METHOD, args })
    const answer = await reply
    if (!answer.ok) {
      const { class: cls, code, message, ...rest } = answer.error
      throw new KernelError(cls as 'Stopped', code, message, rest)
    }
    const { size, failed, message } = answer.value as { size?: number; failed?: string; message?: string }
    if (size !== undefined) return size
    if (failed === 'ENOSPC')
      throw new KernelError(
        'Refused',
        'NoSpace',
        `the home of \`${to.address}\` has no room for \`${args.path}\``,
      )
    if (failed === 'ESTALE')
      throw new KernelError('Conflict', 'PutTwice', `somebody else puts \`${args.path}\` at the same time`)
    throw new KernelError('Malformed', 'BadPath', String(message))
  }
}

/** What such a call is given; see `guest/put-file.ts` of the SDK. */
export interface PartArgs {
  readonly path: string
  readonly put: string
  readonly part: number
  readonly chunks: readonly string[]
  readonly last: boolean
}

/** The path from the root, without `.`, `..` and doubled slashes. */
function canonical(given: string): string {
  if (given.includes('\0')) throw new KernelError('Malformed', 'BadPath', 'a path has no null bytes')
  const at = path.posix.resolve('/', given)
  if (at.length > MAX_PATH) throw new KernelError('Malformed', 'BadPath', 'the path is too long')
  return at
}

/** Its program has written to the tables of its files itself. */
function odd(at: string): KernelError {
  return new KernelError('Malformed', 'BadPath', `\`${at}\` is not a file as \`node:fs\` writes it`)
}

/** A text in SQL, whatever it holds. */
function text(value: string): string {
  return `cast(x'${Buffer.from(value).toString('hex')}' as text)`
}

/** Rows of tables that an agent may not have made yet. */
async function rows(ask: AskHome, sql: string, max: number) {
  const found = await ask(sql, max)
  if (!('error' in found)) return found
  if (/^no such table|has stored nothing/.test(found.error)) return { rows: [], more: false }
  throw new KernelError('Malformed', 'BadSql', found.error)
}

function aboutOf(name: unknown, kind: unknown, size: unknown, mtime: unknown): FileAbout {
  return { name, kind, size: Number(size), modifiedMs: Number(mtime) } as FileAbout
}

async function find(ask: AskHome, at: string): Promise<FileAbout & { readonly id: number }> {
  const names = at.split('/').filter((name) => name !== '')
  const sql = `with recursive
    names(n, name) as (select key, value from json_each(${text(JSON.stringify(names))})),
    walk(n, id) as (select 0, 1 union all select w.n + 1, f.id from walk w join names on names.n = w.n
      join cardinal_files f on f.parent = w.id and f.name = names.name)
    select f.id, f.name, f.kind, f.size, f.mtime from walk join cardinal_files f on f.id = walk.id where walk.n = ${names.length}`
  const [row] = (await rows(ask, sql, 1)).rows
  if (row) return { id: Number(row[0]), ...aboutOf(row[1], row[2], row[3], row[4]) }
  if (at === '/') return { id: 1, ...aboutOf('', 'dir', 0, 0) }
  throw new KernelError('NotFound', 'NoSuchFile', `no file \`${at}\``)
}

/** Pieces of 64 KiB, all whole but the last. */
async function* chunksOf(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let rest = Buffer.alloc(0)
  for await (const piece of bytes) {
    rest = rest.length === 0 ? Buffer.from(piece) : Buffer.concat([rest, piece])
    while (rest.length >= CHUNK) {
      yield rest.subarray(0, CHUNK)
      rest = rest.subarray(CHUNK)
    }
  }
  if (rest.length > 0) yield rest
}
