/**
 * Cards that leave the node as sealed Biscuits, and come in as such.
 *
 * An exported token is verified offline, so nothing of it can be counted, asked or moved any more:
 * a card with budgets or `ask` is not exported, and what an apply changes later does not reach it. Its
 * revocation ids are on record; those of revoked cards are the list that an offline verifier needs.
 */
import {
  type CardRow,
  chainBound,
  inspectToken,
  isLive,
  type KeyPair,
  keysOfSecret,
  meet,
  type PublicKeyBytes,
  readCards,
  sealToken,
  signCards,
  signRevocations,
  type TokenCard,
  verifyToken,
} from '@cardinal/cards'
import type { Pos } from '@cardinal/oplog'
import type { Context } from './context.ts'
import { KernelError } from './errors.ts'
import type { HostCards } from './host-cards.ts'

export interface Exported {
  readonly card: string
  /** Base64url, as tokens are passed on. */
  readonly token: string
  /** Hexadecimal: what a verifier is given beforehand. */
  readonly rootKey: string
  /** One a card of the chain, the root first. */
  readonly revocationIds: readonly string[]
}

export interface ImportWish {
  readonly token: string
  /** The key that must have signed it; left out: this node's own. */
  readonly rootKey?: string | undefined
  /** Of a foreign token: the card within whose bounds it is taken. */
  readonly like?: string | undefined
  /** Of a foreign token: the agent that holds it from now on. */
  readonly attach?: string | undefined
  readonly allowLoss?: boolean | undefined
}

export class HostTokens {
  readonly #ctx: Context
  readonly #cards: HostCards
  readonly #keys: KeyPair

  /** `secret` seeds the key that signs exported cards. */
  constructor(ctx: Context, cards: HostCards, secret: Buffer) {
    this.#ctx = ctx
    this.#cards = cards
    this.#keys = keysOfSecret('ed25519', secret)
  }

  /** The public key of tokens that this node exports. */
  get rootKey(): string {
    return Buffer.from(this.#keys.public.key).toString('hex')
  }

  async export(id: string, principal: string): Promise<Exported> {
    const card = this.#cards.require(id)
    const world = this.#ctx.authority.of(card.owner.tenant)
    if (!isLive(world, card)) throw new KernelError('Refused', 'NotLive', `card \`${id}\` is dead`)
    const chain = chainFrom(card)
    const unfit = chain.map(whyNot).find((why) => why !== undefined)
    if (unfit) throw new KernelError('Refused', 'NotExportable', unfit)
    const asOf = this.#ctx.log.end
    const bytes = sealToken(
      signCards(
        this.#keys,
        chain.map((one) => ({ ...tokenCard(one), asOf })),
      ),
    )
    const { revocationIds } = verifyToken(bytes, this.#keys.public)
    const record = chain.map(({ id: of }, i) => [of, revocationIds[i] as string] as const)
    const pos = this.#ctx.control.exported(record, principal)
    await this.#ctx.log.untilDurable(pos)
    const token = Buffer.from(bytes).toString('base64url')
    return { card: id, token, rootKey: this.rootKey, revocationIds }
  }

  /** The revocation ids of all exported blocks whose card, or one above it, is dead by revocation. */
  revoked(): string[] {
    return this.#ctx.control
      .listExported()
      .filter(([card]) => this.#cards.find(card)?.revocations.length)
      .map(([, id]) => id)
  }

  /** The same, signed and dated, as a verifier keeps it. Everything in it is durable. */
  async revocationList(): Promise<{ asOf: number; issued: string; ids: readonly string[]; text: string }> {
    const { log, clock } = this.#ctx
    const asOf = log.end
    const ids = this.revoked()
    const issuedMs = clock.nowMs()
    if (asOf > 0) await log.untilDurable((asOf - 1) as Pos)
    const text = signRevocations(this.#keys, { asOf, issuedMs, ids })
    return { asOf, issued: new Date(issuedMs).toISOString(), ids, text }
  }

  /** A token of this node names the card that it is; another one becomes a card under the importer's bound. */
  async import({ token, rootKey, like, attach, allowLoss }: ImportWish, principal: string): Promise<object> {
    const bytes = Buffer.from(token, 'base64url')
    const own = rootKey === undefined || rootKey.toLowerCase() === this.rootKey
    const root: PublicKeyBytes = own ? this.#keys.public : keyOf(rootKey as string)
    const revoked = new Set(own ? this.revoked() : [])
    const { ok, expires: ends } = inspectToken(bytes, root, revoked)
    if (!ok) throw new KernelError('Refused', 'Revoked', 'a card of this token is revoked')
    if (ends !== undefined && ends <= this.#ctx.clock.nowMs())
      throw new KernelError('Refused', 'NotLive', 'a card of this token has expired')
    const chain = readCards(verifyToken(bytes, root))
    const last = chain.at(-1) as TokenCard
    if (own) return this.#cards.get(last.id)
    if (like === undefined)
      throw new KernelError(
        'Malformed',
        'BadRequest',
        'a foreign token is taken within a card of this node: name it',
      )
    const within = this.#cards.require(like)
    const expires = chain.flatMap((card) => card.limits.expires ?? [])
    const minted = {
      now: meet(chainBound(chain, 'now'), within.now),
      ever: meet(chainBound(chain, 'ever'), within.ever),
      limits: {
        ...within.limits,
        depth: 0,
        ...(expires.length > 0 && {
          expires: Math.min(...expires, within.limits.expires ?? Number.POSITIVE_INFINITY),
        }),
      },
    }
    return this.#cards.keep({ like, attach, allowLoss }, minted, principal)
  }
}

function keyOf(hex: string): PublicKeyBytes {
  if (/^[0-9a-fA-F]{64}$/.test(hex)) return { algorithm: 'ed25519', key: Buffer.from(hex, 'hex') }
  if (/^[0-9a-fA-F]{66}$/.test(hex)) return { algorithm: 'p256', key: Buffer.from(hex, 'hex') }
  throw new KernelError(
    'Malformed',
    'BadRequest',
    'a root key is 64 hexadecimal digits (Ed25519) or 66 (P-256)',
  )
}

/** The card and its ancestors, the root first. */
function chainFrom(card: CardRow): CardRow[] {
  const chain: CardRow[] = []
  for (let at: CardRow | undefined = card; at; at = at.parent) chain.unshift(at)
  return chain
}

function whyNot({ id, limits, now, ever }: CardRow): string | undefined {
  if (limits.budgets.size > 0) return `card \`${id}\` has budgets, which nobody could count elsewhere`
  if ([...now, ...ever].some((box) => box.ask.size > 0))
    return `card \`${id}\` asks a person, which nobody could elsewhere`
  return undefined
}

function tokenCard({ id, owner, now, ever, limits }: CardRow): TokenCard {
  return { id, owner: owner.id, now, ever, limits }
}
