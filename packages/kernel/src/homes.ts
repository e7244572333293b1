/**
 * Where agents' homes lie, and who keeps their files in order.
 *
 * A home is `homes/<aa>/<birth>.db` with its `-wal` beside it. Whoever sleeps has no handle here. Its
 * write-ahead log goes into the file afterwards, one home at a time, never while somebody waits.
 */
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { type Engine, EngineFailure, type FoundHome } from '@cardinal/engine'
import { syncFolder } from '@cardinal/oplog'
import { KernelError } from './errors.ts'
import { mostOpen, OpenHomes } from './open-homes.ts'

/** A log of more pages than this makes the next opening slower than it need be. */
const WAL_PAGES = 64
const WAL_FRAME = 4096 + 24
/** A disk with less room than this is full. */
const DISK_ROOM = 1 << 20
/** What a log may grow to while its agent does not sleep. */
export const WAL_BYTES_AWAKE = 4 << 20

export class Homes {
  readonly open: OpenHomes
  /** Agents whose homes the disk has no room for. */
  readonly waiting = new Set<object>()
  readonly #folder: string
  readonly #engine: Engine
  readonly #fatal: (error: unknown) => void
  /** Logs that wait to be moved into their files. */
  readonly #due = new Set<string>()
  #tending: { readonly file: string; readonly done: Promise<void> } | undefined
  #closed = false

  constructor(folder: string, engine: Engine, fatal: (error: unknown) => void, mostOpenHomes?: number) {
    this.#folder = folder
    this.#engine = engine
    this.#fatal = fatal
    this.open = new OpenHomes(mostOpenHomes ?? mostOpen(engine.descriptors))
    fs.rmSync(path.join(folder, 'scratch'), { recursive: true, force: true })
  }

  /** Whether the disk failed, or does not answer now, and not what a guest did there. */
  isOfDisk(error: unknown): boolean {
    if (error instanceof KernelError) return error.code === 'HomeUnavailable'
    if (error instanceof EngineFailure) return error.ofDisk || (error.ofHome && this.#hasNoRoom)
    return /^(ENOSPC|EDQUOT|EIO|EMFILE|ENFILE)$/.test((error as NodeJS.ErrnoException).code ?? '')
  }

  /** Whether that is for want of room. */
  isFull(error: unknown): boolean {
    return this.#hasNoRoom || /\bfull\b|ENOSPC|EDQUOT/.test((error as Error).message)
  }

  /** What somebody who waits for this agent is told of such a failure; of others what they are. */
  toTell(error: unknown, agent: string): unknown {
    if (!this.isOfDisk(error) || error instanceof KernelError) return error
    return this.isFull(error)
      ? homeUnavailable(`the disk has no room for the home of \`${agent}\``)
      : homeUnavailable(`the home of \`${agent}\`: ${(error as Error).message}`)
  }

  get #hasNoRoom(): boolean {
    const { bavail, bsize } = fs.statfsSync(
      fs.existsSync(this.#folder) ? this.#folder : path.dirname(this.#folder),
    )
    return bavail * bsize < DISK_ROOM
  }

  fileOf(birth: Buffer): string {
    const name = birth.toString('hex')
    return path.join(this.#folder, name.slice(0, 2), `${name}.db`)
  }

  sizeOf(birth: Buffer): { readonly bytes: number; readonly walBytes: number } {
    const size = (file: string) => fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0
    const file = this.fileOf(birth)
    return { bytes: size(file), walBytes: size(`${file}-wal`) }
  }

  /** For a life that is repeated beside the agent: a home of its own, removed afterwards. */
  scratchOf(birth: Buffer, nonce: string): string {
    return path.join(this.#folder, 'scratch', `${birth.toString('hex')}-${nonce}.db`)
  }

  /** A file on its way, which is the caller's to remove; none outlives the process. */
  spool(): string {
    const folder = path.join(this.#folder, 'scratch')
    fs.mkdirSync(folder, { recursive: true })
    return path.join(folder, `spool-${randomBytes(8).toString('hex')}`)
  }

  /** The home of an agent that is not awake; undefined: it has none that can be used. */
  async find(file: string): Promise<FoundHome | undefined> {
    this.#due.delete(file)
    if (this.#tending?.file === file) await this.#tending.done
    if (!fs.existsSync(file)) return undefined
    try {
      return await this.#engine.findHome(file)
    } catch (error) {
      if (!(error instanceof EngineFailure)) throw error
      throw homeUnavailable(`${error.message}: is it open elsewhere?`)
    }
  }

  /** Removes a home, its log first, so that nothing comes back after a power cut. */
  async remove(file: string): Promise<void> {
    this.#due.delete(file)
    if (this.#tending?.file === file) await this.#tending.done
    let found = false
    for (const name of [`${file}-wal`, file]) {
      if (!fs.existsSync(name)) continue
      fs.rmSync(name)
      found = true
    }
    if (found) syncFolder(path.dirname(file))
  }

  /** An agent sleeps whose log has so many bytes. */
  asleep(file: string, walBytes: number): void {
    if (walBytes <= WAL_PAGES * WAL_FRAME || this.#closed) return
    this.#due.add(file)
    this.#tend()
  }

  #tend(): void {
    const [file] = this.#due
    if (this.#tending || this.#closed || file === undefined) return
    this.#due.delete(file)
    const done = this.#engine
      .checkpointFile(file)
      .catch((error) => {
        // Its log only stays longer than it need.
        if (!(error instanceof EngineFailure)) this.#fatal(error)
      })
      .then(() => {
        this.#tending = undefined
        setImmediate(() => this.#tend())
      })
    this.#tending = { file, done }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#due.clear()
    await this.#tending?.done
  }
}

/** A home cannot be opened or written now. */
export function homeUnavailable(why: string): KernelError {
  return new KernelError('Unavailable', 'HomeUnavailable', why, { retryAfterMs: 5000 })
}
