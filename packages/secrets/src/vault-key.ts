/**
 * The key that wraps the keys of secrets. It comes from outside the data folder, and there is none by
 * default: whoever has the folder alone has no secret.
 *
 * A key management service implements `VaultKey` itself; its key then never comes here.
 */
import { execFileSync } from 'node:child_process'
import { createCipheriv, createDecipheriv, createHash, createSecretKey, randomBytes } from 'node:crypto'
import fs from 'node:fs'
import { SecretError } from './errors.ts'

const KEY_BYTES = 32
const IV_BYTES = 12
const TAG_BYTES = 16
/** Of 32 random bytes fewer are different in one of 10^15 keys. */
const MIN_DISTINCT = 16
const COMMAND_MS = 30_000

/** What wraps and unwraps; `bound` is authenticated with what is wrapped, and must be the same again. */
export interface VaultKey {
  /** Names the key, and tells nothing of it. */
  readonly id: string
  wrap(key: Buffer, bound: Buffer): Promise<Buffer>
  unwrap(wrapped: Buffer, bound: Buffer): Promise<Buffer>
}

/** A key of 32 bytes as text, made anew. */
export function newVaultKey(): string {
  return randomBytes(KEY_BYTES).toString('base64')
}

/**
 * Reads the key from where an operator says: `file:PATH` (readable by nobody else), `env:NAME`, or
 * `command:PROGRAM ARGUMENT …` (run without a shell; it prints the key). Throws `VaultKey` or `WeakVaultKey`.
 */
export function readVaultKey(source: string): VaultKey {
  const [, kind, where = ''] = /^(file|env|command):(.+)$/s.exec(source) ?? []
  if (kind === 'file') return localKey(textOfFile(where))
  if (kind === 'env') return localKey(textOfVariable(where))
  if (kind === 'command') return localKey(textOfCommand(where))
  throw new SecretError('VaultKey', 'a vault key is `file:PATH`, `env:NAME` or `command:PROGRAM`')
}

function textOfFile(file: string): string {
  let stat: fs.Stats
  try {
    stat = fs.statSync(file)
  } catch (error) {
    throw new SecretError('VaultKey', `\`${file}\` cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
  if (!stat.isFile()) throw new SecretError('VaultKey', `\`${file}\` is no file`)
  if ((stat.mode & 0o077) !== 0)
    throw new SecretError('VaultKey', `others may read or write \`${file}\`: \`chmod 600\` it`)
  return fs.readFileSync(file, 'utf8')
}

function textOfVariable(name: string): string {
  const text = process.env[name]
  if (text === undefined) throw new SecretError('VaultKey', `the environment has no \`${name}\``)
  // Programs that this process starts do not inherit it.
  delete process.env[name]
  return text
}

function textOfCommand(line: string): string {
  const [program = '', ...args] = line.trim().split(/\s+/)
  try {
    return execFileSync(program, args, {
      encoding: 'utf8',
      timeout: COMMAND_MS,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
  } catch (error) {
    const { code, status } = error as { code?: string; status?: number }
    throw new SecretError('VaultKey', `\`${program}\` gave no key: ${code ?? `exit code ${status}`}`)
  }
}

/** A key of 32 bytes, as base64 or hexadecimal text; the text is not kept. */
export function localKey(text: string): VaultKey {
  const bytes = bytesOf(text.trim())
  const key = createSecretKey(bytes)
  const id = createHash('sha256').update('cardinal.vault-key.1').update(bytes).digest('hex').slice(0, 16)
  bytes.fill(0)
  return {
    id,
    wrap: async (clear, bound) => {
      const iv = randomBytes(IV_BYTES)
      const cipher = createCipheriv('aes-256-gcm', key, iv)
      cipher.setAAD(bound)
      return Buffer.concat([iv, cipher.update(clear), cipher.final(), cipher.getAuthTag()])
    },
    unwrap: async (wrapped, bound) => {
      const opener = createDecipheriv('aes-256-gcm', key, wrapped.subarray(0, IV_BYTES))
      opener.setAAD(bound)
      opener.setAuthTag(wrapped.subarray(-TAG_BYTES))
      return Buffer.concat([opener.update(wrapped.subarray(IV_BYTES, -TAG_BYTES)), opener.final()])
    },
  }
}

function bytesOf(text: string): Buffer {
  const hex = /^[0-9a-f]{64}$/i.test(text)
  const base64 = /^[A-Za-z0-9+/_-]{43}=?$/.test(text)
  if (!hex && !base64)
    throw new SecretError(
      'WeakVaultKey',
      'a vault key is 32 random bytes as base64 or hexadecimal text; `cardinal secrets key` makes one',
    )
  const bytes = Buffer.from(text, hex ? 'hex' : 'base64')
  const steps = new Set([...bytes].map((byte, i) => (byte - (bytes[i - 1] ?? 0)) & 0xff))
  const words = bytes.toString('latin1')
  // Zeros, repetitions, counting, and words: what people write who mean to change it later.
  const weak = new Set(bytes).size < MIN_DISTINCT || steps.size < MIN_DISTINCT || /^[\x20-\x7e]+$/.test(words)
  if (weak)
    throw new SecretError('WeakVaultKey', 'this vault key is not random; `cardinal secrets key` makes one')
  return bytes
}
