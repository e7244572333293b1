/**
 * Cards as Biscuits: one block a card, so that every ancestor's checks stand beside the child's and
 * nothing that mints wrongly can widen.
 *
 * The block says of itself, as JSON, what its checks check; a reader rebuilds the checks from that and
 * requires the same bytes. So nobody else's Datalog is ever evaluated, or even read.
 */
import { type Bound, meet, normalise } from '../bound.ts'
import { type NumberText, parseExactJson } from '../exact-json.ts'
import { parseGrants } from '../grant.ts'
import { type CardLimits, parseCardLimits, rootLimits, showLimits } from '../limits.ts'
import { showFullBound } from '../sim/full-form.ts'
import { checkOf, expiryCheck } from './compile.ts'
import { appendBlock, beginToken, type OpenToken, type VerifiedToken } from './container.ts'
import { encodeBlockSource, Symbols } from './datalog.ts'
import type { KeyPair } from './keys.ts'
import { badToken, contextOfBlock } from './wire.ts'

/** What a block says of one card. */
export interface TokenCard {
  readonly id: string
  /** `tenant/type/key`. */
  readonly owner: string
  readonly now: Bound
  readonly ever: Bound
  readonly limits: CardLimits
  /** How far the node's record reached when the token was signed; lists of revocations are no older. */
  readonly asOf?: number
}

const FORMAT = 1
const MAX_CHAIN = 16

function contextOf({ id, owner, now, ever, limits, asOf }: TokenCard): string {
  return JSON.stringify({
    cardinal: FORMAT,
    card: id,
    owner,
    ...(asOf !== undefined && { asOf }),
    limits: showLimits(limits),
    now: showFullBound(now),
    ever: showFullBound(ever),
  })
}

function blockOf(card: TokenCard, symbols: Symbols): Uint8Array {
  const { expires } = card.limits
  const checks = [
    checkOf('now', sorted(card.now)),
    checkOf('ever', sorted(card.ever)),
    ...(expires === undefined ? [] : [expiryCheck(expires)]),
  ]
  return encodeBlockSource({ context: contextOf(card), checks }, symbols)
}

/** Boxes in the order of their full form: equal bounds make equal bytes. */
function sorted(bound: Bound): Bound {
  return bound
    .map((box) => ({ box, text: JSON.stringify(showFullBound([box])) }))
    .sort((a, b) => (a.text < b.text ? -1 : 1))
    .map(({ box }) => box)
}

/** Signs a chain of cards, the root first. Throws `BadToken` beyond 16. */
export function signCards(root: KeyPair, chain: readonly TokenCard[], rootKeyId?: number): OpenToken {
  const [first, ...rest] = chain
  if (!first || chain.length > MAX_CHAIN)
    throw badToken(`${chain.length} cards; a token holds 1 to ${MAX_CHAIN}`)
  const symbols = new Symbols()
  const begun = beginToken(root, blockOf(first, symbols), rootKeyId === undefined ? {} : { rootKeyId })
  return rest.reduce((token, card) => appendBlock(token, blockOf(card, symbols)), begun)
}

/** Reads the cards of a verified token, the root first. What is not exactly what we write is `BadToken`. */
export function readCards({ blocks }: VerifiedToken): TokenCard[] {
  if (blocks.length > MAX_CHAIN)
    throw badToken(`${blocks.length} blocks; a chain of cards has at most ${MAX_CHAIN}`)
  const symbols = new Symbols()
  return blocks.map(({ block, external }, i) => {
    if (external) throw badToken(`block ${i} is somebody else's`)
    const card = cardOf(contextOfBlock(block) ?? '', i)
    if (!Buffer.from(blockOf(card, symbols)).equals(block))
      throw badToken(`block ${i} checks something else than it says`)
    return card
  })
}

function cardOf(context: string, i: number): TokenCard {
  try {
    const said = parseExactJson(context) as Record<string, unknown>
    const boundOf = (name: 'now' | 'ever') => normalise(parseGrants(said[name], name, () => undefined))
    if (typeof said.card !== 'string' || typeof said.owner !== 'string') throw new Error('no card and owner')
    const limits = rootLimits(parseCardLimits(said.limits, 'limits'))
    const asOf = said.asOf === undefined ? undefined : Number(String((said.asOf as NumberText).text))
    if (asOf !== undefined && !Number.isSafeInteger(asOf)) throw new Error('`asOf` is no whole number')
    const bounds = { now: boundOf('now'), ever: boundOf('ever') }
    return { id: said.card, owner: said.owner, ...bounds, limits, ...(asOf !== undefined && { asOf }) }
  } catch (error) {
    throw badToken(`block ${i} is no card: ${(error as Error).message}`)
  }
}

/** The arguments that a chain of cards speaks of. */
export function argsNamed(chain: readonly TokenCard[]): string[] {
  const boxes = chain.flatMap(({ now, ever }) => [...now, ...ever])
  return [...new Set(boxes.flatMap(({ args }) => (args === '*' ? [] : [...args.keys()])))]
}

/** What a chain allows together: the meet of every card's bound. */
export function chainBound(chain: readonly TokenCard[], mode: 'now' | 'ever'): Bound {
  return chain.map((card) => card[mode]).reduce((a, b) => meet(a, b))
}
