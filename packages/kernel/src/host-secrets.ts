/**
 * Secrets on a running node: what an operator does with them, on record, and what one attempt of one
 * effect gets of them. Values are never on record, and nothing here returns one but to an executor.
 */
import fs from 'node:fs'
import path from 'node:path'
import {
  type OpenSecret,
  type Providers,
  SecretError,
  SecretStore,
  Vault,
  type VaultKey,
} from '@cardinal/secrets'
import type { WireError } from '@cardinal/tools'
import type { Context } from './context.ts'
import { KernelError, type KernelErrorClass } from './errors.ts'
import { layout, lockFolder } from './folder.ts'

export interface SecretShown {
  readonly tenant: string
  readonly name: string
  readonly version: number
  /** ISO. */
  readonly changed: string
}

const CLASSES: Partial<Record<SecretError['code'], KernelErrorClass>> = {
  NoSuchSecret: 'NotFound',
  SecretExists: 'Conflict',
  BadSecret: 'Malformed',
  SecretDamaged: 'Corrupt',
}

/** Opens the vault of a data folder, if there is a key for it, and whatever else has secrets. */
export async function openSecrets(
  folder: string,
  key: VaultKey | undefined,
  providers: Providers,
): Promise<SecretStore> {
  if (key || Object.keys(providers).length > 0) keepOutOfCoreDumps()
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  try {
    return new SecretStore(key && (await Vault.open(path.join(folder, 'vault.db'), key)), providers)
  } catch (error) {
    throw kernelError(error)
  }
}

/**
 * Wraps the vault of a data folder by another key, and gives how many secrets it holds. `FolderInUse` while a
 * kernel has the folder. The next one that opens it has the change on record.
 */
export async function rekeyVault(data: string, from: VaultKey, to: VaultKey): Promise<number> {
  const file = path.join(layout(data).secrets, 'vault.db')
  if (!fs.existsSync(file)) throw new KernelError('NotFound', 'NoVault', `\`${data}\` has no vault`)
  const lock = lockFolder(data)
  keepOutOfCoreDumps()
  try {
    return await Vault.rekey(file, from, to)
  } catch (error) {
    throw kernelError(error)
  } finally {
    lock.release()
  }
}

/** A core dump of this process, or of one that it starts, holds no memory (proc(5)). Elsewhere than on Linux there is no such switch. */
function keepOutOfCoreDumps(): void {
  const file = '/proc/self/coredump_filter'
  if (fs.existsSync(file)) fs.writeFileSync(file, '0')
}

export class HostSecrets {
  readonly #ctx: Pick<Context, 'control' | 'log' | 'clock'>
  readonly #store: SecretStore

  constructor(ctx: Pick<Context, 'control' | 'log' | 'clock'>, store: SecretStore) {
    this.#ctx = ctx
    this.#store = store
  }

  /**
   * What the vault has and the record does not: the node stopped between the two, or it has another key now. And the other way round
   * an older vault stands where a newer one stood: its secrets are refused one by one, when they are used.
   */
  reconcile(): void {
    if (this.#store.keyId !== undefined) this.#ctx.control.noteVaultKey(this.#store.keyId)
    for (const { tenant, name, version } of this.#store.versions())
      if (version > this.#ctx.control.secretVersion(tenant, name))
        this.#ctx.control.noteSecret({ tenant, name, version, what: 'found', by: 'kernel' })
  }

  /** A new secret; `SecretExists` if there is one. Durable, and on record, once it resolves. */
  set(tenant: string, name: string, value: Buffer, principal: string): Promise<SecretShown> {
    return this.#write(tenant, name, value, { only: 'new', what: 'set', by: principal })
  }

  /** The next value of a secret: whoever uses it from now on has it. */
  rotate(tenant: string, name: string, value: Buffer, principal: string): Promise<SecretShown> {
    return this.#write(tenant, name, value, { only: 'known', what: 'rotated', by: principal })
  }

  async remove(tenant: string, name: string, principal: string): Promise<void> {
    const { control, log, clock } = this.#ctx
    const { version } = await known(() => this.#store.vault.remove(tenant, name, clock.nowMs()))
    await log.untilDurable(control.noteSecret({ tenant, name, version, what: 'removed', by: principal }))
  }

  /** Names and versions; of one tenant, or of all. */
  async list(tenant?: string): Promise<SecretShown[]> {
    return known(async () => this.#store.vault.list(tenant).map(shown))
  }

  /** For one attempt of one effect, which cards have allowed. */
  async open(tenant: string, ref: string): Promise<OpenSecret | WireError> {
    try {
      if (this.#store.isEchoed(tenant, ref, this.#ctx.clock.nowMs()))
        return refusal('SecretEchoed', `secret \`${ref}\` stood in too many answers today`)
      const secret = await this.#store.open(tenant, ref)
      // Somebody put an older vault in its place: it may be one that was replaced because it was stolen.
      if (Number(secret.version) < this.#ctx.control.secretVersion(tenant, ref))
        return refusal('SecretBehind', `the vault has an earlier \`${ref}\` than there was`)
      return secret
    } catch (error) {
      if (!(error instanceof SecretError)) throw error
      if (error.code === 'NoSuchSecret' || error.code === 'NoVault') return refusal(error.code, error.message)
      return { class: 'Unavailable', code: error.code, message: error.message }
    }
  }

  noteMask(tenant: string, ref: string): void {
    this.#store.noteMask(tenant, ref, this.#ctx.clock.nowMs())
  }

  /** What a service answered with goes into the vault, on record with the effect that brought it. */
  async capture(tenant: string, ref: string, value: string, effect: string): Promise<WireError | undefined> {
    try {
      await this.#write(tenant, ref, Buffer.from(value), { what: 'captured', by: effect })
      return undefined
    } catch (error) {
      if (!(error instanceof KernelError)) throw error
      return { class: 'Unavailable', code: error.code, message: error.message }
    }
  }

  close(): void {
    this.#store.close()
  }

  async #write(
    tenant: string,
    name: string,
    value: Buffer,
    { only, what, by }: { only?: 'new' | 'known'; what: string; by: string },
  ): Promise<SecretShown> {
    const { control, log, clock } = this.#ctx
    const row = await known(() => this.#store.write(tenant, name, value, clock.nowMs(), only))
    await log.untilDurable(control.noteSecret({ tenant, name, version: row.version, what, by }))
    return shown(row)
  }
}

function shown({
  tenant,
  name,
  version,
  madeMs,
}: {
  tenant: string
  name: string
  version: number
  madeMs: number
}) {
  return { tenant, name, version, changed: new Date(madeMs).toISOString() }
}

function refusal(code: string, message: string): WireError {
  return { class: 'Refused', code, by: 'middleware', message }
}

async function known<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act()
  } catch (error) {
    throw kernelError(error)
  }
}

function kernelError(error: unknown): unknown {
  if (!(error instanceof SecretError)) return error
  return new KernelError(CLASSES[error.code] ?? 'Unavailable', error.code, error.message)
}
