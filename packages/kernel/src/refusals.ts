/** What the rules refuse, as agents and people read it. */
import {
  type ActOn,
  actRequest,
  explain,
  judge,
  type Refusal,
  type TurnRow,
  type Verdict,
} from '@cardinal/cards'
import type { WireError } from '@cardinal/tools'
import type { Actor } from './asking.ts'

const MESSAGES: Record<string, string> = {
  AmbiguousCard: 'several birth cards name this tool, or none; say which with `via`',
  IdTaken: 'there is an agent of this address already',
  NoDepth: 'this card cannot be handed down: its `depth` is 0',
  NoSuchAgent: 'there is no such agent',
  NoSuchCard: 'no such card is held',
  NoSuchOffer: 'there is no such offer',
  NotLive: 'this card has expired or is revoked',
  NotPreviewed: 'an offer is previewed before it is accepted, and accepted with the digest of what was seen',
  NowNotInEver: '`now` lies outside `ever`; write `clip: true` to narrow it',
  Stopped: 'the agent is stopped',
  TooManyGrants: 'this comes to too many grants; write fewer, or wider ones',
  TooManyOffers: 'too many offers to this agent are open',
  WouldLose: 'this card would leave the agent no way out or nothing at all; accept it with `allowLoss`',
  WouldTaint: 'what this agent has read would lower the receiver, which does not admit it',
}

/** The error that a refusal is to the agent that acted. What a guest may see of `WouldTaint` is its code. */
export function refusalError(refusal: Refusal): WireError {
  const { code, by, missing } = refusal
  if (code === 'Refused') return refusedBy(by ?? 'card', missing)
  if (code === 'BadGrant' || code === 'BadOp')
    return { class: 'Malformed', code: 'BadGrant', message: `no card: ${String(missing ?? 'not valid')}` }
  if (code === 'OverWide') return { class: 'Refused', code, by: 'card', message: overWide(missing), missing }
  const message = MESSAGES[code] ?? code
  if (code === 'Stopped') return { class: 'Stopped', code, message }
  const what = code === 'WouldTaint' ? 'flow' : code === 'NotLive' ? 'revoked' : 'card'
  return { class: 'Refused', code, by: what, message }
}

function refusedBy(by: string, code: unknown): WireError {
  if (by === 'ask')
    return {
      class: 'Refused',
      code: 'NotApproved',
      by: 'person',
      message: 'the grant for this asks a person, which an act on another agent cannot',
    }
  const known = typeof code === 'string' ? code : undefined
  return {
    class: 'Refused',
    code: known ?? 'NoGrant',
    by: by === 'stopped' ? 'revoked' : by,
    message:
      known === undefined
        ? `no grant allows this: refused by ${by}`
        : (MESSAGES[known] ?? `refused by ${by}: ${known}`),
  }
}

function overWide(missing: unknown): string {
  const { bound, grant, limit } = (missing ?? {}) as { bound?: string; grant?: number; limit?: string }
  if (limit !== undefined) return `\`limits.${limit}\` is more than the card that it is taken from has`
  return `grant ${grant} of \`${bound}\` is wider than the card that it is taken from; write \`clip: true\` to narrow it`
}

type RefusedVerdict = Verdict & { readonly verdict: 'refuse' }

/** The error that a refused effect is. */
export function errorOf(explained: ReturnType<typeof explain>, { by }: RefusedVerdict): WireError {
  const { code, message, missing } = explained
  return {
    class: 'Refused',
    code,
    by: by === 'stopped' ? 'revoked' : by,
    message,
    ...(missing && { missing }),
  }
}

/** A refused act on another agent, with what came nearest and what would allow it. */
export function refusedAct(
  { world, row }: Pick<Actor, 'world' | 'row'>,
  on: ActOn,
  via: string | undefined,
  turns: readonly TurnRow[],
  refusal: Refusal,
): { readonly error: WireError; readonly nearest?: unknown } {
  const request = actRequest(on)
  const asked = {
    agent: row,
    request,
    via,
    turns,
    approved: new Set<string>(),
    cost: new Map([['calls', 1n]]),
  }
  const verdict = judge(world, asked)
  if (verdict.verdict !== 'refuse') return { error: refusalError(refusal) }
  const explained = explain(world, row, request, turns, verdict)
  return { error: errorOf(explained, verdict), ...(explained.nearest && { nearest: explained.nearest }) }
}
