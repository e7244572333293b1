/**
 * What the kernel knows of one agent, as a function of its entries alone.
 *
 * `fold` is the only way this state changes, live and on recovery alike, so both always agree.
 */
import type { Counters } from '@cardinal/cards'
import { NO_POS, type Seq, type Tip, ZERO_HASH } from '@cardinal/oplog'
import { assert } from './errors.ts'
import { type EffectId, effectId, type InvocationId } from './ids.ts'
import type {
  AcceptedMeta,
  BirthMeta,
  EffectMeta,
  FailedTurnMeta,
  ReceiptMeta,
  RepliedMeta,
  TurnMeta,
  VerdictDetail,
} from './wire.ts'
import { type GuestOutput, parseOutput, receiptEvent } from './wire.ts'

export interface PendingInput {
  readonly ref: string
  readonly kind: 'birth' | 'invoke' | 'receipt' | 'emit' | 'cancel' | 'abandon'
  readonly invocation: InvocationId | null
  readonly bytes: Buffer
}

interface OpenInvocation {
  readonly id: InvocationId
  readonly method: string
  readonly shared: boolean
  readonly seq: number
  readonly deadline: number
  readonly delivered: boolean
}

export interface OpenEffect {
  readonly id: EffectId
  readonly cid: number
  readonly invocation: InvocationId | null
  readonly tool: string
  readonly args: unknown
  readonly class: EffectMeta['class']
  readonly due: number
  readonly started: boolean
  /** The guest no longer waits for it. */
  readonly dropped: boolean
}

export interface AgentState {
  birth: BirthMeta | undefined
  tip: Tip
  pending: PendingInput[]
  readonly invocations: Map<InvocationId, OpenInvocation>
  /** Answered by the kernel's word while the guest was working on them, and until when it may finish. */
  readonly ending: Map<InvocationId, number>
  readonly effects: Map<EffectId, OpenEffect>
  counters: Counters
  timeMs: number
  turns: number
  quarantined: boolean
}

export interface Folded {
  readonly kind: string
  readonly tip: Tip
  readonly meta: unknown
  readonly payloads: readonly Buffer[]
}

export function emptyState(): AgentState {
  return {
    birth: undefined,
    tip: { pos: NO_POS, seq: 0 as Seq, hash: ZERO_HASH },
    pending: [],
    invocations: new Map(),
    ending: new Map(),
    effects: new Map(),
    counters: { calls: 0, bytesOut: 0 },
    timeMs: 0,
    turns: 0,
    quarantined: false,
  }
}

/** Applies one entry. What it leaves the agent to do is then in `pending`, `invocations` and `effects`. */
export function fold(state: AgentState, entry: Folded): void {
  assert(entry.tip.seq === state.tip.seq + 1, 'entries are folded in order')
  state.tip = entry.tip
  switch (entry.kind) {
    case 'birth':
      state.birth = entry.meta as BirthMeta
      push(state, entry, 'birth', null)
      break
    case 'accepted':
      foldAccepted(state, entry, entry.meta as AcceptedMeta)
      break
    case 'turn':
      if ('failed' in (entry.meta as object)) foldFailed(state, entry, entry.meta as FailedTurnMeta)
      else foldTurn(state, entry, entry.meta as TurnMeta)
      break
    case 'started': {
      const { effect } = entry.meta as { effect: EffectId }
      const open = state.effects.get(effect)
      if (open) state.effects.set(effect, { ...open, started: true })
      break
    }
    case 'receipt':
      foldReceipt(state, entry, entry.meta as ReceiptMeta)
      break
    case 'replied': {
      const { invocation, until } = entry.meta as RepliedMeta
      const open = state.invocations.get(invocation)
      if (open && !open.delivered) state.pending = state.pending.filter((p) => p.invocation !== invocation)
      state.invocations.delete(invocation)
      if (until !== undefined) state.ending.set(invocation, until)
      break
    }
    case 'quarantined':
      state.quarantined = true
      break
    default:
      // `resolved` and the like change nothing for the guest.
      break
  }
}

function push(
  state: AgentState,
  entry: Folded,
  kind: PendingInput['kind'],
  invocation: InvocationId | null,
): void {
  state.pending.push({ ref: String(entry.tip.seq), kind, invocation, bytes: entry.payloads[0] as Buffer })
}

function foldAccepted(state: AgentState, entry: Folded, meta: AcceptedMeta): void {
  if (meta.what === 'emit') return push(state, entry, 'emit', null)
  const id = meta.invocation as InvocationId
  if (meta.what === 'abandon') {
    state.ending.delete(id)
    return push(state, entry, 'abandon', null)
  }
  if (meta.what === 'cancel') {
    if (state.invocations.get(id)?.delivered) push(state, entry, 'cancel', id)
    return
  }
  state.invocations.set(id, {
    id,
    method: meta.method as string,
    shared: meta.shared === true,
    seq: entry.tip.seq,
    deadline: meta.deadline ?? Number.POSITIVE_INFINITY,
    delivered: false,
  })
  push(state, entry, 'invoke', id)
}

function consume(state: AgentState, refs: readonly string[], delivered: boolean): void {
  const taken = new Set(refs)
  const left: PendingInput[] = []
  for (const input of state.pending) {
    if (!taken.has(input.ref)) left.push(input)
    else if (delivered && input.kind === 'invoke') {
      const open = state.invocations.get(input.invocation as InvocationId)
      if (open) state.invocations.set(open.id, { ...open, delivered: true })
    }
  }
  assert(left.length + taken.size === state.pending.length, 'a turn consumes inputs that are pending')
  state.pending = left
}

function drop(state: AgentState, drops: readonly EffectId[]): void {
  for (const id of drops) {
    const open = state.effects.get(id)
    if (open?.class === 'sleep') state.effects.delete(id)
    else if (open) state.effects.set(id, { ...open, dropped: true })
  }
}

function foldTurn(state: AgentState, entry: Folded, meta: TurnMeta): void {
  consume(state, meta.inputs, true)
  state.timeMs = meta.time
  state.turns++
  const output: GuestOutput = parseOutput(entry.payloads[0] as Buffer)
  const details = parseDetails(entry.payloads[1])
  const { seq } = entry.tip
  meta.effects.forEach((m, index) => {
    const asked = output.effects[index]
    assert(asked, 'a turn records every effect that its guest asked for')
    const id = effectId(seq, index)
    if (m.verdict === 'allow') {
      const { cid, invocation, tool, args } = asked
      state.effects.set(id, {
        id,
        cid,
        invocation,
        tool,
        args,
        class: m.class,
        due: m.due ?? 0,
        started: false,
        dropped: false,
      })
      state.counters = {
        calls: state.counters.calls + (m.calls ?? 0),
        bytesOut: state.counters.bytesOut + (m.bytesOut ?? 0),
      }
    } else if (m.verdict === 'refuse') {
      const error = details.get(index)?.error
      assert(error, 'a refusal is recorded with its reason')
      state.pending.push({
        ref: id,
        kind: 'receipt',
        invocation: asked.invocation,
        bytes: receiptEvent(asked.cid, { ok: false, error }),
      })
    }
  })
  drop(state, meta.drops)
  for (const [invocation] of meta.replies) state.invocations.delete(invocation)
  // What was ended from outside answers nobody, but has finished.
  for (const { invocation } of output.replies) state.ending.delete(invocation)
}

export function parseDetails(payload: Buffer | undefined): Map<number, VerdictDetail> {
  const list = payload ? (JSON.parse(payload.toString()) as VerdictDetail[]) : []
  return new Map(list.map((d) => [d.index, d]))
}

function foldFailed(state: AgentState, entry: Folded, meta: FailedTurnMeta): void {
  consume(state, meta.inputs, false)
  state.timeMs = meta.time
  drop(state, meta.drops)
  for (const id of meta.ends) state.invocations.delete(id)
  for (const id of meta.forgotten ?? []) state.ending.delete(id)
  if (meta.abandon) {
    state.pending.push({
      ref: `${entry.tip.seq}.0`,
      kind: 'abandon',
      invocation: null,
      bytes: entry.payloads[1] as Buffer,
    })
  }
}

function foldReceipt(state: AgentState, entry: Folded, meta: ReceiptMeta): void {
  const open = state.effects.get(meta.effect)
  state.effects.delete(meta.effect)
  if (open && !meta.dropped) push(state, entry, 'receipt', open.invocation)
}

/** Whether nothing runs, waits for the kernel or is out in the world: only time or a caller can wake it. */
export function isQuiet(state: AgentState): boolean {
  return (
    state.pending.every((p) => p.kind === 'birth') &&
    [...state.effects.values()].every((e) => e.class === 'sleep')
  )
}

/** When the kernel must wake the agent by itself. */
export function nextWake(state: AgentState): number {
  let next = Number.POSITIVE_INFINITY
  for (const effect of state.effects.values()) if (effect.class === 'sleep') next = Math.min(next, effect.due)
  for (const invocation of state.invocations.values()) next = Math.min(next, invocation.deadline)
  for (const until of state.ending.values()) next = Math.min(next, until)
  return next
}

interface SavedState {
  readonly birth: BirthMeta
  readonly pending: readonly (Omit<PendingInput, 'bytes'> & { readonly bytes: string })[]
  readonly invocations: readonly OpenInvocation[]
  readonly ending: readonly (readonly [InvocationId, number])[]
  readonly effects: readonly OpenEffect[]
  readonly counters: Counters
  readonly timeMs: number
  readonly turns: number
}

/** The state beside a snapshot's memory; its tip is kept in the row. */
export function encodeState(state: AgentState): string {
  assert(state.birth, 'an agent that was born is saved')
  const saved: SavedState = {
    birth: state.birth,
    pending: state.pending.map((p) => ({ ...p, bytes: p.bytes.toString('base64') })),
    invocations: [...state.invocations.values()],
    ending: [...state.ending],
    effects: [...state.effects.values()],
    counters: state.counters,
    timeMs: state.timeMs,
    turns: state.turns,
  }
  return JSON.stringify(saved)
}

export function decodeState(text: string, tip: Tip): AgentState {
  const saved = JSON.parse(text) as SavedState
  return {
    birth: saved.birth,
    tip,
    pending: saved.pending.map((p) => ({ ...p, bytes: Buffer.from(p.bytes, 'base64') })),
    invocations: new Map(
      saved.invocations.map((i) => [i.id, { ...i, deadline: i.deadline ?? Number.POSITIVE_INFINITY }]),
    ),
    ending: new Map(saved.ending),
    effects: new Map(saved.effects.map((e) => [e.id, e])),
    counters: saved.counters,
    timeMs: saved.timeMs,
    turns: saved.turns,
    quarantined: false,
  }
}
