/**
 * From what a guest asked for to verdicts: translate, decide, and what the turn entry says of it.
 *
 * Reserves what it allows, in order, so that two effects of one turn cannot both spend the last of
 * a limit. Runs in the same step as the append of the turn: nothing changes in between.
 */
import {
  begin,
  budgetShort,
  counted,
  debit,
  decide,
  type EffectOf,
  type EffectRequest,
  encodeBudgets,
  explain,
  grantOf,
  judge,
  type TurnRow,
  type Verdict,
} from '@cardinal/cards'
import type { WireError } from '@cardinal/tools'
import { type Acts, actOnCards, isAct } from './acts.ts'
import { type Actor, type Asking, cardOfHandle, effectKey, type One, refuse } from './asking.ts'
import { chainFor, mayMediate } from './chains.ts'
import type { Context } from './context.ts'
import { decideMessage, isMessage } from './messages.ts'
import { errorOf } from './refusals.ts'
import { badArguments, requestOf } from './requests.ts'
import { causesOf, type OpenEffect, principalsOf, servesOf } from './state.ts'
import type { EffectMeta, GuestEffect, GuestOutput, TurnMeta, VerdictDetail } from './wire.ts'

/** Of turns from before anybody could set it. */
const MAX_OPEN = 4096
const ONE_ASK: ReadonlyMap<string, bigint> = new Map([['asks', 1n]])
/** The one tool that needs no grant: waiting. */
const SLEEP = 'cardinal.sleep'
const MIN_SLEEP_MS = 10
const MAX_SLEEP_MS = 10 * 365 * 86_400_000

/** Where tools are found, and who has ended. */
export type Tools = Pick<Context, 'findTool' | 'toolsOf' | 'isStopped' | 'control'>

export interface Decided {
  readonly metas: EffectMeta[]
  readonly details: VerdictDetail[]
}

/** `acts` gathers what acts on cards change, for the turn's entry. */
export function decideEffects(
  ctx: Tools,
  who: Actor,
  output: GuestOutput,
  base: Pick<TurnMeta, 'time' | 'inputs' | 'limits'> & { readonly seq: number },
  acts: Acts,
): Decided {
  const { state } = who
  const dropped = new Set(output.drops)
  const causes = causesOf(state, base.inputs)
  const metas: EffectMeta[] = []
  const details: VerdictDetail[] = []
  const most = base.limits.effects ?? MAX_OPEN
  const room = most - state.effects.size
  output.effects.forEach((effect, index) => {
    if (dropped.has(effect.cid)) {
      metas.push({ tool: shownTool(ctx, who, effect.tool), class: 'read', verdict: 'drop' })
      return
    }
    const served = servesOf(state, causes, effect.invocation)
    const turns = served.flatMap((id) => who.world.turns.get(id) ?? [])
    const id = `${base.seq}.${index}`
    const result =
      index >= room ? tooMany(most) : decideOne(ctx, who, { effect, id, turns, timeMs: base.time }, acts)
    const principals = principalsOf(state, { serves: served })
    const isEffect = result.meta.verdict === 'allow' || result.meta.verdict === 'ask'
    metas.push(isEffect && principals.length > 0 ? { ...result.meta, for: principals } : result.meta)
    if (!result.error && result.meta.verdict !== 'done') return
    const error = result.error && { ...result.error, effect: `${who.name}@${id}` }
    details.push({
      index,
      ...(error && { error }),
      ...(result.nearest !== undefined && { nearest: result.nearest }),
      ...(result.value !== undefined && { value: result.value }),
    })
  })
  return { metas, details }
}

/** A name that a guest made up is an argument like any other, and stays out of the readable part. */
function shownTool(ctx: Tools, { row }: Actor, tool: string): string {
  const known = tool === SLEEP || isMessage(tool) || isAct(tool) || ctx.findTool(row.tenant, tool)
  return known ? tool : '?'
}

function tooMany(most: number): One {
  return refuse('?', 'read', {
    class: 'Refused',
    code: 'TooManyOpen',
    by: 'limit',
    message: `more than ${most} effects open at once: see the limit \`effects\``,
  })
}

function decideOne(ctx: Tools, who: Actor, asked: Omit<Asking, 'via'>, acts: Acts): One {
  const { effect } = asked
  if (effect.tool === SLEEP) return sleep(effect, asked.timeMs)
  const via = cardOfHandle(who, effect.via)
  if (via === null)
    return refuse(shownTool(ctx, who, effect.tool), 'read', {
      class: 'Refused',
      code: 'NoSuchCard',
      by: 'card',
      message: 'no such card is held',
    })
  const asking: Asking = { ...asked, via }
  if (isAct(effect.tool)) return actOnCards(ctx, who, asking, acts)
  if (isMessage(effect.tool)) return decideMessage(who, asking)
  return decideTool(ctx, who, asking, acts)
}

function decideTool(ctx: Tools, who: Actor, { effect, id, via, turns }: Asking, acts: Acts): One {
  const { row, world, settings } = who
  const asked = requestOf(ctx, row.tenant, effect.tool, effect.args, settings)
  if (!asked)
    return refuse('?', 'read', {
      class: 'Refused',
      code: 'NoSuchTool',
      by: 'card',
      message: 'there is no tool of this name',
    })
  if ('bad' in asked) return refuse(effect.tool, 'read', badArguments(effect.tool, asked))
  const { translated, request } = asked
  const of = { agent: row.id, request, for: turns.map((turn) => turn.id), ...(via !== undefined && { via }) }
  if (mayMediate(ctx.control, row.tenant)) {
    const one = filterMediated(ctx, who, of, turns, translated.effectClass)
    if (one) return one
  }
  const begun = begin(world, effectKey(who.name, id), { ...of, stream: false })
  if (!begun.ok) throw new Error(`the rules do not know of an effect: ${begun.code}`)
  const { verdict } = begun
  const meta = { tool: effect.tool, class: translated.effectClass } as const
  if (verdict.verdict === 'refuse') return refused(who, meta.class, request, turns, verdict)
  const grant = grantOf(verdict)
  const named = {
    ...(verdict.card.id !== who.rootCard && { via: verdict.card.id }),
    ...(grant !== undefined && { grant }),
  }
  if (verdict.verdict === 'ask') {
    // A person's patience is a budget, too.
    const short = budgetShort(verdict.card, ONE_ASK, world.nowMs)
    if (short) {
      world.effects.delete(effectKey(who.name, id))
      return refuse(effect.tool, meta.class, {
        class: 'Refused',
        code: short,
        by: 'limit',
        message: `\`asks\` of card \`${verdict.card.id}\`, or of one above it, is spent`,
      })
    }
    const taken = counted(verdict.card, ONE_ASK, world.nowMs)
    debit(verdict.card, taken)
    acts.debits.push({ card: verdict.card.id, of: encodeBudgets(taken) })
    return { meta: { ...meta, verdict: 'ask', ...named, ask: verdict.ask } }
  }
  const { reserved } = world.effects.get(effectKey(who.name, id))?.open ?? { reserved: new Map() }
  return { meta: { ...meta, verdict: 'allow', ...named, ...costOf(reserved) } }
}

/**
 * The first verdict on an effect that middleware stands before: whether it may be asked for at all. What may
 * go out, and what it costs, is decided once it is known. Undefined if nothing stands before it.
 */
function filterMediated(
  ctx: Tools,
  who: Actor,
  of: EffectOf,
  turns: readonly TurnRow[],
  cls: EffectMeta['class'],
): One | undefined {
  const { world, row, rootCard } = who
  const { request } = of
  const filtered = decide(world, of, NOBODY_APPROVED)
  if (!filtered.ok) throw new Error(`the rules do not know of an effect: ${filtered.code}`)
  const { verdict } = filtered
  if (verdict.verdict === 'refuse') return refused(who, cls, request, turns, verdict)
  if (chainFor(ctx.control, row, request.tool, verdict.card).length === 0) return undefined
  const via = verdict.card.id === rootCard ? {} : { via: verdict.card.id }
  return { meta: { tool: request.tool, class: cls, verdict: 'allow', ...via, mediated: 1 } }
}

const NOBODY_APPROVED: ReadonlySet<string> = new Set()

function costOf(reserved: ReadonlyMap<string, bigint>): Pick<EffectMeta, 'calls' | 'bytesOut' | 'spend'> {
  const bytesOut = Number(reserved.get('bytesOut') ?? 0n)
  const rest = [...reserved].filter(([name]) => name !== 'calls' && name !== 'bytesOut')
  return {
    calls: 1,
    ...(bytesOut > 0 && { bytesOut }),
    ...(rest.length > 0 && { spend: encodeBudgets(new Map(rest)) }),
  }
}

function refused(
  { world, row, rootCard }: Actor,
  cls: EffectMeta['class'],
  request: EffectRequest,
  turns: readonly TurnRow[],
  verdict: Verdict & { readonly verdict: 'refuse' },
): One {
  const explained = explain(world, row, request, turns, verdict)
  const one = refuse(request.tool, cls, errorOf(explained, verdict), explained.nearest)
  const via = verdict.card && verdict.card.id !== rootCard ? { via: verdict.card.id } : {}
  return { ...one, meta: { ...one.meta, ...via } }
}

function sleep(effect: GuestEffect, timeMs: number): One {
  const ms = (effect.args as { ms?: unknown } | null)?.ms
  if (typeof ms !== 'number' || !(ms >= 0) || ms > MAX_SLEEP_MS) {
    return refuse(SLEEP, 'sleep', {
      class: 'Malformed',
      code: 'BadArguments',
      message: 'a wait is 0 to 10 years long',
    })
  }
  return {
    meta: {
      tool: SLEEP,
      class: 'sleep',
      verdict: 'allow',
      due: Math.ceil(timeMs + Math.max(MIN_SLEEP_MS, ms)),
    },
  }
}

/**
 * Decides a request of an admitted effect anew: before a repeat after a crash, and for every redirect
 * hop. `reads`: what is read by it is noted with the effect. Returns why not, or nothing.
 */
export function redecide(
  who: Actor,
  effect: OpenEffect,
  request: EffectRequest,
  reads: boolean,
): WireError | undefined {
  const { row, world } = who
  const turns = effect.serves.flatMap((id) => world.turns.get(id) ?? [])
  const verdict = judge(world, {
    agent: row,
    request,
    via: effect.via,
    turns,
    approved: new Set(effect.approved),
    cost: undefined,
  })
  if (verdict.verdict === 'allow') {
    const open = world.effects.get(effectKey(who.name, effect.id))
    if (reads && open?.open)
      open.open = { ...open.open, flows: [...new Set([...open.open.flows, ...verdict.flows])] }
    return undefined
  }
  if (verdict.verdict === 'ask')
    return {
      class: 'Refused',
      code: 'NotApproved',
      by: 'person',
      message: 'this needs an approval that it does not have',
    }
  return errorOf(explain(world, row, request, turns, verdict), verdict)
}
