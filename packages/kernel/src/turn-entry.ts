/** What a turn's entry says: of one that went well, and of one that failed and is undone. */

import type { Answered } from './answers.ts'
import type { Decided } from './decide.ts'
import { assert } from './errors.ts'
import type { EffectId } from './ids.ts'
import type { ReplyError } from './reply.ts'
import { type AgentState, isAsked, type PendingInput } from './state.ts'
import type { FailedTurnMeta, GuestOutput, HomeMeta, TurnMeta } from './wire.ts'

/** What both say: the inputs, the entry whose hash was the seed, the time, and the limits in force. */
export type TurnBase = Pick<TurnMeta, 'inputs' | 'basis' | 'time' | 'limits'>

export interface TurnUsage {
  readonly fuel: number
  readonly home: HomeMeta | undefined
}

export interface TurnEntry {
  readonly meta: TurnMeta
  readonly payloads: readonly Buffer[]
}

export function turnEntry(
  state: AgentState,
  base: TurnBase,
  card: string,
  { metas, details }: Decided,
  answers: readonly Answered[],
  output: GuestOutput,
  raw: Buffer,
  { fuel, home }: TurnUsage,
): TurnEntry {
  requirePending(state, base.inputs)
  const drops = dropped(state, output.drops)
  const meta: TurnMeta = {
    ...base,
    card,
    effects: metas,
    replies: answers.map(({ id, ok, refused }) => (refused === undefined ? [id, ok] : [id, ok, refused])),
    drops,
    ...owed(state, drops),
    usage: { fuel },
    ...(home && { home }),
  }
  return { meta, payloads: details.length > 0 ? [raw, Buffer.from(JSON.stringify(details))] : [raw] }
}

export interface FailedEntry {
  readonly meta: FailedTurnMeta
  readonly payloads: readonly Buffer[]
  /** What everybody whose input was in the turn is told. */
  readonly error: ReplyError
}

/** `shown` is what the guest said, with the program's own lines. */
export function failedEntry(
  state: AgentState,
  base: TurnBase,
  inputs: readonly PendingInput[],
  kind: string,
  shown: string,
): FailedEntry {
  const asked = inputs.flatMap((i) =>
    i.invocation && state.invocations.has(i.invocation) ? [i.invocation] : [],
  )
  const ends = [...new Set(asked)]
  const taking = inputs.flatMap((i) => (i.invocation && state.ending.has(i.invocation) ? [i.invocation] : []))
  const forgotten = [...new Set(taking)]
  const known = [...ends.filter((id) => state.invocations.get(id)?.delivered), ...forgotten]
  const drops = [...state.effects.values()].filter(
    (e) => e.invocation && [...ends, ...forgotten].includes(e.invocation),
  )
  const meta: FailedTurnMeta = {
    ...base,
    // The guest was not born in a turn that never happened.
    inputs: inputs.filter((i) => i.kind !== 'birth').map((i) => i.ref),
    failed: kind,
    ends,
    drops: drops.map((e) => e.id),
    ...owed(
      state,
      drops.map((e) => e.id),
    ),
    abandon: known.length > 0,
    ...(forgotten.length > 0 && { forgotten }),
  }
  requirePending(state, meta.inputs)
  const error: ReplyError = {
    class: 'Thrown',
    code: kind,
    message: `the turn failed and was undone: ${firstLine(shown)}`,
    ...(shown.includes('\n') && { stack: shown }),
  }
  const payloads = [Buffer.from(JSON.stringify(error))]
  if (meta.abandon) payloads.push(Buffer.from(JSON.stringify({ t: 'abandon', ids: known })))
  return { meta, payloads, error }
}

/** The effects that the guest no longer waits for, by the kernel's names. */
function dropped(state: AgentState, cids: readonly number[]): EffectId[] {
  if (cids.length === 0) return []
  const wanted = new Set(cids)
  return [...state.effects.values()].filter((e) => wanted.has(e.cid)).map((e) => e.id)
}

/** Calls and asks that are dropped are told so by a receipt, over a crash too. */
export function owed(state: AgentState, drops: readonly EffectId[]): { readonly owes?: number } {
  const owes = drops.filter((id) => {
    const effect = state.effects.get(id)
    return effect && (effect.class === 'call' ? effect.sent !== undefined || effect.due > 0 : isAsked(effect))
  }).length
  return owes > 0 ? { owes } : {}
}

/** Before anything is written: an entry that consumes what is not there could never be replayed. */
function requirePending(state: AgentState, refs: readonly string[]): void {
  const pending = new Set(state.pending.map((input) => input.ref))
  for (const ref of refs) assert(pending.has(ref), 'a turn consumes inputs that are pending')
}

export function firstLine(text: string): string {
  return text.split('\n')[0] ?? ''
}
