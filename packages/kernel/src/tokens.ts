/** Bearer tokens that the node gives out: told once, and on record by their digest alone. */
import { createHash, randomBytes } from 'node:crypto'

/** `prefix` says what it opens to whoever finds it. */
export function newToken(prefix: string): string {
  return `${prefix}_${randomBytes(32).toString('base64url')}`
}

/** Tokens are 32 random bytes: a digest of one says nothing of it, and looking it up tells no time of it. */
export function digestOfToken(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}
