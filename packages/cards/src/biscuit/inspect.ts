/** What anybody can say of a token with its root's public key and a list of revoked ids, offline. */
import type { Grant } from '../grant.ts'
import { showLimits } from '../limits.ts'
import { showFullBound } from '../sim/full-form.ts'
import { readCards, type TokenCard } from './card-token.ts'
import { type VerifiedToken, verifyToken } from './container.ts'
import { type PublicKeyBytes, TokenError } from './wire.ts'

export interface TokenReport {
  /** Verified, and no block of it is revoked. */
  readonly ok: boolean
  readonly sealed: boolean
  readonly rootKeyId: number | undefined
  /** A list of revocations that is older does not know what was revoked when the token was signed. */
  readonly asOf: number | undefined
  /** When the first of its cards ends, in milliseconds since 1970; undefined if none does, or it is not ours. */
  readonly expires: number | undefined
  readonly blocks: readonly {
    readonly revocationId: string
    readonly revoked: boolean
    /** Undefined if the token is not a chain of our cards. */
    readonly card: TokenCard | undefined
  }[]
}

/**
 * Verifies a Biscuit, ours or not. A revoked id anywhere in the chain revokes all of it. Throws
 * `BadToken` or `BadSignature`; never evaluates what a block says.
 */
export function inspectToken(
  bytes: Uint8Array,
  root: PublicKeyBytes,
  revoked: ReadonlySet<string>,
): TokenReport {
  const token = verifyToken(bytes, root)
  const cards = cardsIn(token)
  const blocks = token.revocationIds.map((revocationId, i) => ({
    revocationId,
    revoked: revoked.has(revocationId),
    card: cards?.[i],
  }))
  const { sealed, rootKeyId } = token
  const marks = cards?.flatMap((card) => card.asOf ?? []) ?? []
  const asOf = marks.length > 0 ? Math.max(...marks) : undefined
  const ends = cards?.flatMap((card) => card.limits.expires ?? []) ?? []
  const expires = ends.length > 0 ? Math.min(...ends) : undefined
  return { ok: !blocks.some((block) => block.revoked), sealed, rootKeyId, asOf, expires, blocks }
}

function cardsIn(token: VerifiedToken): TokenCard[] | undefined {
  try {
    return readCards(token)
  } catch (error) {
    if (error instanceof TokenError) return undefined
    throw error
  }
}

export interface ShownCard {
  readonly id: string
  readonly owner: string
  readonly now: readonly Grant[]
  readonly ever: readonly Grant[]
  readonly limits: object
}

/** A card of a token in full form. */
export function showTokenCard({ id, owner, now, ever, limits }: TokenCard): ShownCard {
  return { id, owner, now: showFullBound(now), ever: showFullBound(ever), limits: showLimits(limits) }
}
