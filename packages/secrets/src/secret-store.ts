/**
 * Where a node's secrets come from: the vault, or the provider that the first segment of a name says.
 * What is opened here lives as long as one attempt of one effect.
 */
import { SecretError } from './errors.ts'
import { type Masker, MIN_MASKABLE_BYTES, maskerOf } from './mask.ts'
import type { SecretProvider } from './providers.ts'
import { isSecretName, type SecretRow, type Vault } from './vault.ts'

/** A secret in the hands of an executor. */
export interface OpenSecret {
  readonly ref: string
  /** Tells this value from an earlier one of the same name. */
  readonly version: string
  readonly value: Buffer
  /** Finds it in an answer; undefined: it is too short for that. */
  readonly masker: Masker | undefined
}

/** Names below these are looked for elsewhere than in the vault. */
const PROVIDERS = ['file', 'env', 'kv'] as const
export type Providers = Readonly<Partial<Record<(typeof PROVIDERS)[number], SecretProvider>>>

const DAY_MS = 86_400_000
/** Answers of a day in which a secret was masked, before it is no longer used on that day. */
const MAX_MASKS = 1000

export class SecretStore {
  readonly #vault: Vault | undefined
  readonly #providers: Providers
  /** Of a node without a vault, which could keep it over a restart. */
  readonly #masked = new Map<string, number>()

  constructor(vault: Vault | undefined, providers: Providers) {
    this.#vault = vault
    this.#providers = providers
  }

  /** The vault, or `NoVault`. */
  get vault(): Vault {
    if (this.#vault) return this.#vault
    throw new SecretError('NoVault', 'this node has no vault: it was started without `--vault-key`')
  }

  /** Names the key of the vault, if there is one. */
  get keyId(): string | undefined {
    return this.#vault?.keyId
  }

  /** The newest version of every name that the vault ever had. */
  versions(): SecretRow[] {
    return this.#vault?.versions() ?? []
  }

  async open(tenant: string, ref: string): Promise<OpenSecret> {
    const { version, value } = await this.#read(tenant, ref)
    const masker = value.length < MIN_MASKABLE_BYTES ? undefined : maskerOf(value, ref)
    return { ref, version, value, masker }
  }

  async #read(tenant: string, ref: string): Promise<{ version: string; value: Buffer }> {
    if (!isSecretName(ref)) throw new SecretError('NoSuchSecret', `\`${ref}\` is no name of a secret`)
    const { provider: kind, name } = placeOf(ref)
    if (kind !== undefined) {
      const provider = this.#providers[kind]
      if (!provider) throw new SecretError('SecretSource', `this node has no secrets of \`${kind}\``)
      return provider.read(tenant, name)
    }
    const found = await this.vault.read(tenant, name)
    if (!found) throw new SecretError('NoSuchSecret', `there is no secret \`${name}\``)
    return { version: String(found.version), value: found.value }
  }

  /** Whether the secret was masked so often today that somebody may be guessing at it. */
  isEchoed(tenant: string, ref: string, nowMs: number): boolean {
    const day = dayOf(nowMs)
    const times = this.#vault?.masks(tenant, ref, day) ?? this.#masked.get(`${day} ${tenant} ${ref}`) ?? 0
    return times >= MAX_MASKS
  }

  noteMask(tenant: string, ref: string, nowMs: number): void {
    const day = dayOf(nowMs)
    if (this.#vault) this.#vault.countMask(tenant, ref, day)
    else {
      const at = `${day} ${tenant} ${ref}`
      this.#masked.set(at, (this.#masked.get(at) ?? 0) + 1)
    }
  }

  async write(...of: Parameters<Vault['write']>): Promise<SecretRow> {
    const [, name] = of
    const { provider } = placeOf(name)
    if (provider !== undefined)
      throw new SecretError('BadSecret', `names below \`${provider}/\` are not the vault's`)
    return this.vault.write(...of)
  }

  close(): void {
    this.#vault?.close()
    for (const provider of Object.values(this.#providers)) provider?.close?.()
  }
}

function placeOf(ref: string): { provider: (typeof PROVIDERS)[number] | undefined; name: string } {
  const [first, ...rest] = ref.split('/')
  const provider = PROVIDERS.find((one) => one === first)
  return provider && rest.length > 0 ? { provider, name: rest.join('/') } : { provider: undefined, name: ref }
}

function dayOf(nowMs: number): number {
  return Math.floor(nowMs / DAY_MS)
}
