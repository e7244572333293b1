/**
 * From what a guest asked for to verdicts: translate, decide, and what the turn entry says of it.
 *
 * Reserves what it allows, in order, so that two effects of one turn cannot both spend the last of
 * a limit. Runs in the same step as the append of the turn: nothing changes in between.
 */
import { type Card, decide, type Request, type Verdict } from '@cardinal/cards'
import type { ToolSettings, Translated, WireError } from '@cardinal/tools'
import type { Context } from './context.ts'
import type { AgentState } from './state.ts'
import {
  type EffectMeta,
  type GuestEffect,
  type GuestOutput,
  MAX_EFFECTS,
  type VerdictDetail,
} from './wire.ts'

/** The one tool that needs no grant: waiting. */
const SLEEP = 'cardinal.sleep'
const MIN_SLEEP_MS = 10
const MAX_SLEEP_MS = 10 * 365 * 86_400_000

export interface Decided {
  readonly metas: EffectMeta[]
  readonly details: VerdictDetail[]
}

export interface Authority {
  readonly address: string
  readonly tenant: string
  readonly card: Card
  readonly settings: ToolSettings
}

export function decideEffects(
  ctx: Context,
  who: Authority,
  state: AgentState,
  output: GuestOutput,
  seq: number,
  timeMs: number,
): Decided {
  const counters = { ...state.counters }
  const dropped = new Set(output.drops)
  const metas: EffectMeta[] = []
  const details: VerdictDetail[] = []
  const room = MAX_EFFECTS - state.effects.size
  output.effects.forEach((effect, index) => {
    if (dropped.has(effect.cid)) {
      metas.push({ tool: shownTool(ctx, who, effect.tool), class: 'read', verdict: 'drop' })
      return
    }
    const result = index >= room ? tooMany() : decideOne(ctx, who, counters, effect, timeMs)
    metas.push(result.meta)
    if (result.error) {
      const error = { ...result.error, effect: `${who.address}@${seq}.${index}` }
      details.push({ index, error, ...(result.nearest !== undefined && { nearest: result.nearest }) })
    }
    counters.calls += result.meta.verdict === 'allow' ? (result.meta.calls ?? 0) : 0
    counters.bytesOut += result.meta.verdict === 'allow' ? (result.meta.bytesOut ?? 0) : 0
  })
  return { metas, details }
}

interface One {
  readonly meta: EffectMeta
  readonly error?: WireError
  readonly nearest?: unknown
}

/** A name that a guest made up is an argument like any other, and stays out of the readable part. */
function shownTool(ctx: Context, { tenant }: Authority, tool: string): string {
  return tool === SLEEP || ctx.findTool(tenant, tool) ? tool : '?'
}

function tooMany(): One {
  return refuse('?', 'read', {
    class: 'Refused',
    code: 'TooManyOpen',
    by: 'limit',
    message: `more than ${MAX_EFFECTS} effects open at once`,
  })
}

function refuse(tool: string, cls: EffectMeta['class'], error: WireError, nearest?: unknown): One {
  const meta: EffectMeta = {
    tool,
    class: cls,
    verdict: 'refuse',
    code: error.code,
    ...(error.by && { by: error.by }),
  }
  return { meta, error, ...(nearest !== undefined && { nearest }) }
}

function decideOne(
  ctx: Context,
  who: Authority,
  counters: { calls: number; bytesOut: number },
  effect: GuestEffect,
  timeMs: number,
): One {
  if (effect.tool === SLEEP) return sleep(effect, timeMs)
  const tool = ctx.findTool(who.tenant, effect.tool)
  if (effect.via !== undefined && effect.via !== who.card.id.split('#')[0]) {
    return refuse(shownTool(ctx, who, effect.tool), 'read', {
      class: 'Refused',
      code: 'NoSuchCard',
      by: 'card',
      message: 'no such card is held',
    })
  }
  if (!tool) {
    return refuse('?', 'read', {
      class: 'Refused',
      code: 'NoSuchTool',
      by: 'card',
      message: 'there is no tool of this name',
    })
  }
  const translated = tool.translate(effect.args, who.settings)
  if ('bad' in translated) {
    return refuse(tool.name, 'read', {
      class: 'Malformed',
      code: 'BadArguments',
      message: `\`${tool.name}\` was given ${translated.bad}`,
    })
  }
  const verdict = decide({
    card: who.card,
    counters,
    request: translated.request,
    cost: translated.cost,
    nowMs: timeMs,
  })
  if (verdict.verdict === 'allow') return allow(tool.name, translated, verdict)
  const { by, code, message, missing } = verdict
  const error: WireError = { class: 'Refused', code, by, message, ...(missing && { missing }) }
  return refuse(tool.name, translated.effectClass, error, verdict.nearest)
}

function allow(
  tool: string,
  { effectClass, cost }: Translated,
  verdict: Verdict & { verdict: 'allow' },
): One {
  return {
    meta: {
      tool,
      class: effectClass,
      verdict: 'allow',
      grant: verdict.grant,
      calls: cost.calls,
      bytesOut: cost.bytesOut,
    },
  }
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

/** Decides one request anew: before a repeat after a crash, and for every redirect hop. */
export function redecide(who: Authority, request: Request, nowMs: number): WireError | undefined {
  const none = { calls: 0, bytesOut: 0 }
  const verdict = decide({ card: who.card, counters: none, request, cost: none, nowMs })
  if (verdict.verdict === 'allow') return undefined
  const { by, code, message, missing } = verdict
  return { class: 'Refused', code, by, message, ...(missing && { missing }) }
}
