/**
 * What entries say of authority. The readable part names cards and limits; bounds, influence and
 * floors stand in payloads, under the key of the agent whose entry it is, and go with it.
 */
import type { codec, Grant } from '@cardinal/cards'
import { sha256 } from '@cardinal/oplog'
import type { EffectId, InvocationId } from './ids.ts'

/** Amounts of budgets by name, as texts of whole units, taken from one card and all above it. */
export interface Taken {
  readonly card: string
  readonly of: Readonly<Record<string, string>>
}

/** A card as the readable part of the entry that minted it names it. */
export interface MintedMeta {
  readonly id: string
  /** Left out: the host's own. */
  readonly parent?: string
  /** The owner's address, if it is not the agent whose entry this is. */
  readonly owner?: string
  readonly limits: codec.LimitsData
  /** When the offer of it lapses. */
  readonly lapses?: number
}

/** The bounds of a minted card, in the same order as the metas. */
export interface MintedBounds {
  readonly now: readonly Grant[]
  readonly ever: readonly Grant[]
}

/** What changed of an agent's own row since its last entry: whole values. */
export interface HoldingChange {
  readonly influence?: codec.InfluenceData
  readonly accepted?: readonly Grant[]
  readonly held?: readonly string[]
  readonly previewed?: readonly string[]
}

/** The last payload of an entry whose meta says `auth`. */
export interface AuthorityPayload extends HoldingChange {
  readonly minted?: readonly MintedBounds[]
  /** What the agent had read when it offered or revoked what the meta names, and when it answered. */
  readonly told?: codec.InfluenceData
  /** Answers that were not passed on, and what they would have cost whoever asked. */
  readonly kept?: readonly Kept[]
}

export interface Kept {
  readonly invocation: InvocationId
  readonly code: string
  /** `WouldTaint`: `{sinks, labels}`; `Refused` to somebody outside: sinks. */
  readonly missing?: unknown
  /** Why it could not be declassified, if its agent asked for that. */
  readonly undeclassified?: { readonly by?: string; readonly code: string }
}

/** What the meta of an entry says of cards besides. */
export interface AuthorityMeta {
  readonly auth?: 1
  /** Taken from budgets, and given back. */
  readonly debits?: readonly Taken[]
  readonly refunds?: readonly Taken[]
  readonly cards?: readonly MintedMeta[]
  readonly revoked?: readonly string[]
  /** Invocations whose answers were declassified. */
  readonly declassified?: readonly string[]
  /** Cards that the agent took or gave up by this entry. */
  readonly took?: readonly string[]
  readonly gave?: readonly string[]
}

export type ScopeData = readonly (
  | { readonly cards: readonly string[] }
  | { readonly bound: readonly Grant[] }
)[]

type CallerData =
  | { readonly principal: string }
  | {
      readonly agent: string
      readonly effect: EffectId
      readonly floor: codec.FloorData
      readonly admits: codec.AdmitsData
    }

/** What an agent acts for: an invocation, as authority sees it. */
export interface TurnData {
  readonly scope: ScopeData
  readonly caller?: CallerData
  /** Of what another agent asked for: on behalf of whom from outside. */
  readonly principals?: readonly string[]
}

/** An agent that this one spawned, and the invocation whose end is its own. */
export interface Child {
  readonly address: string
  readonly cards: readonly string[]
  readonly invocation: InvocationId | null
  readonly keep: boolean
}

const ID_DIGITS = 20

/** The name of a card: it says nothing and confers nothing. */
export function cardName(birth: Buffer, what: string): string {
  return `card_${sha256(Buffer.concat([birth, Buffer.from(what)]))
    .toString('hex')
    .slice(0, ID_DIGITS)}`
}

/** The name of the card that a host-made agent is born with. */
export function rootCardName(birth: Buffer): string {
  return cardName(birth, 'root')
}
