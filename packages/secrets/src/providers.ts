/**
 * Secrets that lie elsewhere: in files, in the environment, in a service of the KV protocol that
 * HashiCorp Vault and OpenBao speak. Each looks below its own place for the tenant, so that no name
 * reaches another tenant's.
 */
import fs from 'node:fs'
import path from 'node:path'
import { SecretError } from './errors.ts'
import { MAX_SECRET_BYTES } from './vault.ts'

/** A value with what tells it from an earlier one. */
interface Provided {
  readonly version: string
  readonly value: Buffer
}

export interface SecretProvider {
  /** The value now: what was rotated there holds from the next use on. Throws `SecretError`. */
  read(tenant: string, name: string): Promise<Provided>
  /** What it holds by itself, and forgets. */
  close?(): void
}

/** Files `FOLDER/tenant/name`; one line break at the end is not part of the value. */
export function fileSecrets(folder: string): SecretProvider {
  return {
    read: async (tenant, name) => {
      const file = path.join(folder, tenant, name)
      try {
        // Links are how orchestrators swap versions; none may lead out of the tenant's own folder.
        const [real, own] = [fs.realpathSync(file), fs.realpathSync(path.join(folder, tenant))]
        if (!real.startsWith(`${own}${path.sep}`)) throw missing(name)
        const stat = fs.statSync(real)
        if (!stat.isFile() || stat.size > MAX_SECRET_BYTES) throw missing(name)
        return { version: `${stat.mtimeMs}`, value: withoutLineBreak(fs.readFileSync(real)) }
      } catch (error) {
        if (error instanceof SecretError) throw error
        const { code } = error as NodeJS.ErrnoException
        if (code === 'ENOENT' || code === 'ENOTDIR') throw missing(name)
        throw new SecretError('SecretSource', `secret \`${name}\` cannot be read: ${code}`)
      }
    },
  }
}

/** The value of a variable: `{"tenant": {"name": "value"}}`. */
export function environmentSecrets(text: string): SecretProvider {
  const values = new Map<string, Buffer>()
  const bad = new SecretError('SecretSource', 'this is no JSON object of tenants, names and texts')
  let given: unknown
  try {
    given = JSON.parse(text)
  } catch {
    throw bad
  }
  if (!isObject(given)) throw bad
  for (const [tenant, names] of Object.entries(given)) {
    if (!isObject(names)) throw bad
    for (const [name, value] of Object.entries(names)) {
      if (typeof value !== 'string' || value === '') throw bad
      values.set(`${tenant} ${name}`, Buffer.from(value))
    }
  }
  return {
    read: async (tenant, name) => {
      const value = values.get(`${tenant} ${name}`)
      if (!value) throw missing(name)
      return { version: '1', value }
    },
    close: () => values.clear(),
  }
}

export interface KvOptions {
  /** Of version 2 with `data` in it, as `https://bao.acme.example:8200/v1/secret/data/cardinal`. */
  readonly url: string
  /** Read at each use: an agent beside the node may renew it. */
  readonly token: () => string
  readonly fetch: typeof fetch
  readonly timeoutMs: number
}

/** Field `value` of the secret `URL/tenant/name`. */
export function kvSecrets({ url, token, fetch, timeoutMs }: KvOptions): SecretProvider {
  const base = url.replace(/\/+$/, '')
  return {
    read: async (tenant, name) => {
      const failed = (what: string) =>
        new SecretError('SecretSource', `the secret service gave no \`${name}\`: ${what}`)
      let answer: Response
      try {
        answer = await fetch(`${base}/${tenant}/${name}`, {
          headers: { 'x-vault-token': token() },
          redirect: 'error',
          signal: AbortSignal.timeout(timeoutMs),
        })
      } catch (error) {
        throw failed((error as Error).name)
      }
      if (answer.status === 404) throw missing(name)
      if (answer.status !== 200) throw failed(`status ${answer.status}`)
      const found = kvData(await answer.json().catch(() => undefined))
      if (!found) throw failed('no text `value`')
      return found
    },
  }
}

/** Version 2 wraps the fields and says which version they are; version 1 does neither. */
function kvData(body: unknown): Provided | undefined {
  const data = isObject(body) ? body.data : undefined
  if (!isObject(data)) return undefined
  const inner = isObject(data.data) ? data.data : data
  const metadata = isObject(data.metadata) ? data.metadata : {}
  if (typeof inner.value !== 'string' || inner.value === '') return undefined
  return { version: String(metadata.version ?? '1'), value: Buffer.from(inner.value) }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function missing(name: string): SecretError {
  return new SecretError('NoSuchSecret', `there is no secret \`${name}\``)
}

/** How people write a value into a file or a pipe. */
export function withoutLineBreak(bytes: Buffer): Buffer {
  const end = bytes.at(-1) === 10 ? (bytes.at(-2) === 13 ? 2 : 1) : 0
  return bytes.subarray(0, bytes.length - end)
}
