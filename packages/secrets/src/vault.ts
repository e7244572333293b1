/**
 * Secrets at rest, each under a key of its own that the vault's key wraps (AES-256-GCM both), bound to
 * tenant, name and version: a row that is moved elsewhere does not open.
 *
 * A write is durable when it resolves. A version is never used twice, not even after a removal; the bytes
 * of an earlier version are gone once there is a later one.
 */
import { createCipheriv, createDecipheriv, createSecretKey, randomBytes } from 'node:crypto'
import Database from 'better-sqlite3'
import { SecretError } from './errors.ts'
import type { VaultKey } from './vault-key.ts'

const FORMAT = 1
const IV_BYTES = 12
const TAG_BYTES = 16
export const MAX_SECRET_BYTES = 8 << 10
const CHECK = Buffer.from('cardinal.vault.1')
const NAME = /^[A-Za-z0-9_~@-][A-Za-z0-9_~@.-]*(\/[A-Za-z0-9_~@-][A-Za-z0-9_~@.-]*)*$/
const MAX_NAME = 256

interface Row {
  readonly tenant: string
  readonly name: string
  readonly version: number
  readonly made_ms: number
  readonly wrapped: Buffer | null
  readonly sealed: Buffer | null
}

/** What may be said of a secret. */
export interface SecretRow {
  readonly tenant: string
  readonly name: string
  readonly version: number
  /** Milliseconds since 1970. */
  readonly madeMs: number
}

export interface VaultSecret {
  readonly version: number
  readonly value: Buffer
}

/** Whether a text can be the name of a secret: segments as in grants, parted by slashes. */
export function isSecretName(name: string): boolean {
  return name.length <= MAX_NAME && NAME.test(name)
}

export class Vault {
  readonly #db: Database.Database
  readonly #key: VaultKey
  /** Writes one after the other: each reads the version that it follows. */
  #writing: Promise<unknown> = Promise.resolve()

  private constructor(db: Database.Database, key: VaultKey) {
    this.#db = db
    this.#key = key
  }

  /** Opens or makes a vault. `OtherVaultKey` if it was made with another key: nothing is changed then. */
  static async open(file: string, key: VaultKey): Promise<Vault> {
    const db = new Database(file)
    try {
      db.pragma('journal_mode = delete')
      db.pragma('synchronous = extra')
      db.pragma('secure_delete = on')
      db.exec(`
        create table if not exists vault (one integer primary key check (one = 1), format int, key_id text, checked blob) strict;
        create table if not exists secrets (tenant text, name text, version int, made_ms int, wrapped blob, sealed blob,
          primary key (tenant, name)) strict, without rowid;
        create table if not exists masked (tenant text, ref text, day int, times int, primary key (tenant, ref)) strict, without rowid;
      `)
      await checkKey(db, key)
      return new Vault(db, key)
    } catch (error) {
      db.close()
      throw error
    }
  }

  /** Names the key that it was opened with. */
  get keyId(): string {
    return this.#key.id
  }

  /**
   * Wraps the keys of all secrets by another key, and gives how many; no value is opened. All of it is done, or
   * nothing is: a crash on the way leaves the vault with its old key. Nobody else may have it open. `OtherVaultKey`
   * where `from` is not its key, `SecretDamaged` where something does not open; nothing is changed then.
   */
  static async rekey(file: string, from: VaultKey, to: VaultKey): Promise<number> {
    if (from.id === to.id) throw new SecretError('VaultKey', 'both are the same key')
    const vault = await Vault.open(file, from)
    const db = vault.#db
    try {
      db.exec('begin exclusive')
      const rows = db.prepare('select * from secrets where wrapped is not null').all() as Row[]
      for (const { tenant, name, version, wrapped } of rows) {
        const bound = boundOf(tenant, name, version)
        const key = await from.unwrap(wrapped as Buffer, bound).catch(() => undefined)
        if (!key)
          throw new SecretError(
            'SecretDamaged',
            `secret \`${name}\` of \`${tenant}\` does not open with the vault's key`,
          )
        const again = await wrapChecked(to, key, bound)
        key.fill(0)
        db.prepare('update secrets set wrapped = ? where tenant = ? and name = ?').run(again, tenant, name)
      }
      db.prepare('update vault set key_id = ?, checked = ?').run(to.id, await wrapChecked(to, CHECK, CHECK))
      db.exec('commit')
      return rows.length
    } finally {
      if (db.inTransaction) db.exec('rollback')
      vault.close()
    }
  }

  close(): void {
    this.#db.close()
  }

  /** Every secret that has a value, by tenant and name; `tenant` left out: of all. */
  list(tenant?: string): SecretRow[] {
    const rows = this.#db
      .prepare(
        'select * from secrets where wrapped is not null and (@tenant is null or tenant = @tenant) order by tenant, name',
      )
      .all({ tenant: tenant ?? null }) as Row[]
    return rows.map(rowOf)
  }

  /** The newest version of every name there ever was. */
  versions(): SecretRow[] {
    return (this.#db.prepare('select * from secrets').all() as Row[]).map(rowOf)
  }

  find(tenant: string, name: string): SecretRow | undefined {
    const row = this.#row(tenant, name)
    return row?.wrapped ? rowOf(row) : undefined
  }

  async read(tenant: string, name: string): Promise<VaultSecret | undefined> {
    const row = this.#row(tenant, name)
    if (!row?.wrapped || !row.sealed) return undefined
    const { version } = row
    try {
      const bound = boundOf(tenant, name, version)
      const key = await this.#key.unwrap(row.wrapped, bound)
      const value = open(row.sealed, key, bound)
      key.fill(0)
      return { version, value }
    } catch {
      // What a cipher says of bytes that it cannot open helps nobody but who changed them.
      throw new SecretError('SecretDamaged', `secret \`${name}\` does not open with the vault's key`)
    }
  }

  /** Writes the next version. `only`: refused unless there is none yet, or unless there is one. */
  write(
    tenant: string,
    name: string,
    value: Buffer,
    nowMs: number,
    only?: 'new' | 'known',
  ): Promise<SecretRow> {
    return this.#serially(async () => {
      if (!isSecretName(name)) throw new SecretError('BadSecret', `\`${name}\` is no name of a secret`)
      if (value.length === 0) throw new SecretError('BadSecret', 'a secret is not empty')
      if (value.length > MAX_SECRET_BYTES)
        throw new SecretError('BadSecret', `a secret is at most ${MAX_SECRET_BYTES} bytes long`)
      const before = this.#row(tenant, name)
      if (only === 'new' && before?.wrapped)
        throw new SecretError('SecretExists', `there is a secret \`${name}\`; \`secrets rotate\` replaces it`)
      if (only === 'known' && !before?.wrapped)
        throw new SecretError('NoSuchSecret', `there is no secret \`${name}\``)
      const version = (before?.version ?? 0) + 1
      const bound = boundOf(tenant, name, version)
      const key = randomBytes(32)
      const sealed = seal(value, key, bound)
      const wrapped = await this.#key.wrap(key, bound)
      key.fill(0)
      this.#put(tenant, name, version, nowMs, wrapped, sealed)
      return { tenant, name, version, madeMs: nowMs }
    })
  }

  /** Removes the value; the name keeps its last version, so that no later one is taken for it. */
  remove(tenant: string, name: string, nowMs: number): Promise<SecretRow> {
    return this.#serially(async () => {
      const before = this.#row(tenant, name)
      if (!before?.wrapped) throw new SecretError('NoSuchSecret', `there is no secret \`${name}\``)
      const version = before.version + 1
      this.#put(tenant, name, version, nowMs, null, null)
      return { tenant, name, version, madeMs: nowMs }
    })
  }

  /** Counts an answer in which a secret was masked; returns how many there were on that day. */
  countMask(tenant: string, ref: string, day: number): number {
    const row = this.#db
      .prepare(
        `insert into masked values (@tenant, @ref, @day, 1) on conflict do update
         set times = case when day = @day then times + 1 else 1 end, day = @day returning times`,
      )
      .get({ tenant, ref, day }) as { times: number }
    return row.times
  }

  masks(tenant: string, ref: string, day: number): number {
    const row = this.#db
      .prepare('select times from masked where tenant = ? and ref = ? and day = ?')
      .get(tenant, ref, day) as { times: number } | undefined
    return row?.times ?? 0
  }

  #serially<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#writing.then(act)
    this.#writing = done.catch(() => {})
    return done
  }

  #row(tenant: string, name: string): Row | undefined {
    return this.#db.prepare('select * from secrets where tenant = ? and name = ?').get(tenant, name) as
      | Row
      | undefined
  }

  #put(
    tenant: string,
    name: string,
    version: number,
    nowMs: number,
    wrapped: Buffer | null,
    sealed: Buffer | null,
  ): void {
    this.#db
      .prepare('insert or replace into secrets values (?, ?, ?, ?, ?, ?)')
      .run(tenant, name, version, nowMs, wrapped, sealed)
  }
}

/** Nothing is given away for what cannot be opened again. */
async function wrapChecked(by: VaultKey, key: Buffer, bound: Buffer): Promise<Buffer> {
  const wrapped = await by.wrap(key, bound)
  const back = await by.unwrap(wrapped, bound).catch(() => undefined)
  if (!back?.equals(key)) throw new SecretError('VaultKey', 'the new key does not open what it has wrapped')
  return wrapped
}

function rowOf({ tenant, name, version, made_ms: madeMs }: Row): SecretRow {
  return { tenant, name, version, madeMs }
}

function boundOf(tenant: string, name: string, version: number): Buffer {
  return Buffer.from(JSON.stringify([FORMAT, tenant, name, version]))
}

function seal(value: Buffer, key: Buffer, bound: Buffer): Buffer {
  const iv = randomBytes(IV_BYTES)
  const cipher = createCipheriv('aes-256-gcm', createSecretKey(key), iv)
  cipher.setAAD(bound)
  return Buffer.concat([iv, cipher.update(value), cipher.final(), cipher.getAuthTag()])
}

function open(sealed: Buffer, key: Buffer, bound: Buffer): Buffer {
  const opener = createDecipheriv('aes-256-gcm', createSecretKey(key), sealed.subarray(0, IV_BYTES))
  opener.setAAD(bound)
  opener.setAuthTag(sealed.subarray(-TAG_BYTES))
  return Buffer.concat([opener.update(sealed.subarray(IV_BYTES, -TAG_BYTES)), opener.final()])
}

/** The first key that a vault is opened with is its key from then on. */
async function checkKey(db: Database.Database, key: VaultKey): Promise<void> {
  const known = db.prepare('select * from vault').get() as
    | { format: number; key_id: string; checked: Buffer }
    | undefined
  if (!known) {
    const checked = await key.wrap(CHECK, CHECK)
    db.prepare('insert into vault values (1, ?, ?, ?)').run(FORMAT, key.id, checked)
    return
  }
  if (known.format !== FORMAT)
    throw new SecretError('SecretDamaged', `a vault of format ${known.format}; this build reads ${FORMAT}`)
  const other = new SecretError(
    'OtherVaultKey',
    `this vault was made with the key ${known.key_id}, and was given ${key.id}`,
  )
  if (known.key_id !== key.id) throw other
  const clear = await key.unwrap(known.checked, CHECK).catch(() => undefined)
  if (!clear?.equals(CHECK)) throw other
}
