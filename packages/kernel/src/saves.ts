/**
 * What is saved of agents without a home, encrypted under their keys: in a file beside derived state, which it is
 * joined with and outlives. The log has the same, but only the engine that ran a turn may repeat it.
 */
import type { Seq, Tip } from '@cardinal/oplog'
import type Database from 'better-sqlite3'
import { KernelError } from './errors.ts'
import type { Statements } from './statements.ts'

const VERSION = 1

/** Their number keeps those together that were saved one after the other; whose they are does not change with rows. */
const SCHEMA = `
  create table if not exists saves.snapshots(
    id integer primary key, birth blob not null unique, seq integer not null, hash blob not null, bytes blob not null);
`

export interface SnapshotRow {
  readonly seq: Seq
  readonly hash: Buffer
  readonly bytes: Buffer
}

export class Saves {
  readonly #db: Database.Database
  readonly #statements: Statements

  constructor(db: Database.Database, statements: Statements, file: string) {
    this.#db = db
    this.#statements = statements
    db.prepare('attach ? as saves').run(file)
    const version = db.pragma('saves.user_version', { simple: true }) as number
    if (version !== 0 && version !== VERSION)
      throw new KernelError(
        'Unavailable',
        'FolderUnusable',
        `\`${file}\` is of version ${version}, which this build does not know; it knows ${VERSION}`,
      )
    db.pragma('saves.journal_mode = wal')
    db.exec(SCHEMA)
    db.pragma(`saves.user_version = ${VERSION}`)
    db.pragma('saves.synchronous = normal')
    // What was saved of whoever is erased must not linger in free pages.
    db.pragma('saves.secure_delete = on')
    db.pragma('saves.cache_size = -65536')
  }

  find(birth: Buffer): SnapshotRow | undefined {
    return this.#statements.get('select seq, hash, bytes from snapshots where birth = ?', birth) as
      | SnapshotRow
      | undefined
  }

  /** Keeps what is saved of an agent at `tip`, whose entry must be durable. False: not, for want of room. */
  keep(birth: Buffer, { seq, hash }: Tip, bytes: Buffer): boolean {
    try {
      this.#statements.run(
        'insert into snapshots(birth, seq, hash, bytes) values(@birth, @seq, @hash, @bytes) on conflict(birth) do update set seq = @seq, hash = @hash, bytes = @bytes',
        { birth, seq, hash, bytes },
      )
      return true
    } catch (error) {
      if (!isFull(error)) throw error
      return false
    }
  }

  /** What was kept so far is on the disk when this returns. */
  sync(): void {
    this.#db.pragma('saves.wal_checkpoint(passive)')
  }

  remove(birth: Buffer): void {
    this.#statements.run('delete from snapshots where birth = ?', birth)
  }
}

export function isFull(error: unknown): boolean {
  return (error as { code?: string }).code === 'SQLITE_FULL'
}
