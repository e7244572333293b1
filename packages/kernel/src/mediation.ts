/**
 * Between the turn that asked for an effect and its intent: middleware, and then the decision on exactly
 * what it lets out (decide₂), in one step with the entry that says so.
 */
import {
  begin,
  budgetShort,
  type CardRow,
  costOfEffect,
  counted,
  debit,
  decide,
  type EffectRequest,
  encodeBudgets,
  explain,
  grantOf,
  type TurnRow,
} from '@cardinal/cards'
import type { Call, Middleware, Ran } from '@cardinal/middleware'
import type { WireError } from '@cardinal/tools'
import { type Actor, effectKey } from './asking.ts'
import type { Taken } from './authority-wire.ts'
import type { Context } from './context.ts'
import type { Taking } from './meters.ts'
import { errorOf } from './refusals.ts'
import { requestOf } from './requests.ts'
import { encodeRequest } from './settle.ts'
import type { OpenEffect } from './state.ts'
import type { MediatedMeta } from './wire.ts'

const ONE_ASK: ReadonlyMap<string, bigint> = new Map([['asks', 1n]])

/** What an effect looks like to its middleware. */
export function callOf(
  ctx: Pick<Context, 'control' | 'findTool' | 'clock'>,
  who: Actor,
  effect: OpenEffect,
  args: unknown,
): Call {
  const { tenant, type, key } = who.row
  const asked = requestOf(ctx, tenant, effect.tool, args, who.settings)
  const secret = asked && !('bad' in asked) ? asked.request.q.secret : undefined
  const version = secret && ctx.control.secretVersion(tenant, secret.join('/'))
  return {
    tool: effect.tool,
    args,
    effectClass: effect.class as Call['effectClass'],
    tenant,
    type,
    key,
    effect: `${who.name}@${effect.id}`,
    card: effect.via ?? who.rootCard,
    // What a provider keeps has no version that is known here.
    secret: { carried: secret !== undefined, version: version === 0 ? undefined : version },
    nowMs: ctx.clock.nowMs(),
  }
}

/** The card that an effect is done by, as far as it is chosen. */
export function cardOf(
  { world, rootCard }: Pick<Actor, 'world' | 'rootCard'>,
  via: string | undefined,
): CardRow | undefined {
  return world.cards.get(via ?? rootCard)
}

/** Whether the chain that ran is the chain that stands there now. One that refused or answered ran to its end. */
export function isSameChain(
  ran: readonly (readonly [name: string, digest: string, did: string])[],
  chain: readonly Pick<Middleware, 'name' | 'digest'>[],
): boolean {
  if (ran.length !== chain.length) return false
  return ran.every(([name, digest], i) => chain[i]?.name === name && chain[i]?.digest === digest)
}

/**
 * What an effect takes of the budgets before it, if it is decided as it comes out of its chain. Where one is
 * short, the chain has refused it there.
 */
export function withinBudgets(
  ctx: Pick<Context, 'findTool' | 'meters' | 'clock'>,
  who: Actor,
  effect: OpenEffect,
  { chain, call }: { readonly chain: readonly Middleware[]; readonly call: Call },
  ran: Ran,
): { readonly ran: Ran; readonly takes: readonly Taking[] } {
  if (ran.end.kind === 'refuse' || !chain.some(({ budget }) => budget)) return { ran, takes: [] }
  const { row, world, settings } = who
  const asked = requestOf(ctx, row.tenant, effect.tool, ran.args, settings)
  // No request at all, or none that cards allow: that is for the decision to say.
  if (!asked || 'bad' in asked) return { ran, takes: [] }
  const request: EffectRequest = { ...asked.request, ...(ran.ask.length > 0 && { ask: ran.ask }) }
  const of = { agent: row.id, request, for: turnsOf(who, effect).map(({ id }) => id) }
  const via = effect.via === undefined ? {} : { via: effect.via }
  const decided = decide(world, { ...of, ...via }, new Set())
  if (!decided.ok || decided.verdict.verdict === 'refuse') return { ran, takes: [] }
  const cost = decided.verdict.verdict === 'ask' ? ONE_ASK : costOfEffect(request)
  // A chain may have taken its time, over midnight even.
  const need = ctx.meters.need(chain, { ...call, nowMs: ctx.clock.nowMs() }, cost)
  if ('takes' in need) return { ran, takes: need.takes }
  const { name, digest } = chain[need.by] as Middleware
  const did = [...ran.did.slice(0, need.by), [name, digest, 'refuse'] as const]
  return { ran: { ...ran, did, end: { kind: 'refuse', error: need.short } }, takes: [] }
}

function turnsOf({ world }: Pick<Actor, 'world'>, { serves }: OpenEffect): TurnRow[] {
  return serves.flatMap((id) => world.turns.get(id) ?? [])
}

type Decided = Pick<
  MediatedMeta,
  'verdict' | 'by' | 'code' | 'via' | 'grant' | 'spends' | 'asks' | 'ask' | 'due' | 'answered'
>

interface Mediated {
  readonly meta: Decided
  /** The request as it would go out; undefined where there is none. */
  readonly request: EffectRequest | undefined
  /** Why it does not go out. */
  readonly error?: WireError
}

/** What a chain has made of an effect, as the decision needs it. */
export type Outward = Pick<Ran, 'args' | 'ask' | 'expiresMs' | 'end'>

/** Decides on what middleware made of an effect, and reserves it. Changes nothing where it is refused. */
export function decideMediated(
  ctx: Pick<Context, 'findTool'>,
  who: Actor,
  effect: OpenEffect,
  { args, ask, expiresMs, end }: Outward,
): Mediated {
  if (end.kind === 'refuse') return refused(undefined, end.error)
  const { row, world, settings } = who
  const asked = requestOf(ctx, row.tenant, effect.tool, args, settings)
  if (!asked || 'bad' in asked || asked.translated.effectClass !== effect.class)
    return refused(undefined, {
      class: 'Refused',
      code: 'BadRewrite',
      by: 'middleware',
      message: 'what middleware made of it is no request of this tool, or one of another class',
    })
  const request: EffectRequest = { ...asked.request, ...(ask.length > 0 && { ask }) }
  const turns = turnsOf(who, effect)
  const key = effectKey(who.name, effect.id)
  const begun = begin(world, key, {
    agent: row.id,
    request,
    stream: false,
    for: turns.map((turn) => turn.id),
    ...(effect.via !== undefined && { via: effect.via }),
  })
  if (!begun.ok) throw new Error(`the rules do not know of an effect: ${begun.code}`)
  const { verdict } = begun
  if (verdict.verdict === 'refuse')
    return refused(request, errorOf(explain(world, row, request, turns, verdict), verdict))
  const grant = grantOf(verdict)
  const via = {
    ...(verdict.card.id !== who.rootCard && { via: verdict.card.id }),
    ...(grant !== undefined && { grant }),
  }
  if (verdict.verdict === 'ask') {
    const short = budgetShort(verdict.card, ONE_ASK, world.nowMs)
    if (short) {
      world.effects.delete(key)
      const message = `\`asks\` of card \`${verdict.card.id}\`, or of one above it, is spent`
      return refused(request, { class: 'Refused', code: short, by: 'limit', message })
    }
    const taken = counted(verdict.card, ONE_ASK, world.nowMs)
    debit(verdict.card, taken)
    const asks = { card: verdict.card.id, of: encodeBudgets(taken) }
    const due = expiresMs === undefined ? {} : { due: expiresMs }
    return { request, meta: { verdict: 'ask', ...via, asks, ask: verdict.ask, ...due } }
  }
  const reserved = world.effects.get(key)?.open?.reserved ?? new Map()
  const spends: Taken = { card: verdict.card.id, of: encodeBudgets(reserved) }
  const answered = end.kind === 'answer' ? { answered: end.by } : {}
  return { request, meta: { verdict: 'allow', ...via, spends, ...answered } }
}

function refused(request: EffectRequest | undefined, error: WireError): Mediated {
  const by = error.by === undefined ? {} : { by: error.by }
  return { request, error, meta: { verdict: 'refuse', ...by, code: error.code } }
}

/** What the entry's payload holds. */
export function bodyOf(args: unknown, request: EffectRequest | undefined): Buffer {
  return Buffer.from(JSON.stringify({ args, request: request ? encodeRequest(request) : {} }))
}
