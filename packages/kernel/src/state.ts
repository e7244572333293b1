/**
 * What the kernel knows of one agent, as a function of its entries alone.
 *
 * `fold` is the only way this state changes, live and on recovery alike, so both always agree.
 */
import { parseRecordJson } from '@cardinal/cards'
import { NO_POS, type Seq, type Tip, ZERO_HASH } from '@cardinal/oplog'
import type { AuthorityMeta, Child, TurnData } from './authority-wire.ts'
import { assert } from './errors.ts'
import { emptyHolding, foldHolding, type Holding } from './holding.ts'
import { type EffectId, effectId, type InvocationId } from './ids.ts'
import type { Taking } from './meters.ts'
import type {
  AcceptedMeta,
  ApprovedMeta,
  BirthMeta,
  EffectMeta,
  FailedTurnMeta,
  MediatedBody,
  MediatedMeta,
  ReceiptMeta,
  RepliedMeta,
  SentMeta,
  TurnMeta,
  VerdictDetail,
} from './wire.ts'
import { type GuestOutput, readOutput, receiptEvent } from './wire.ts'

/** By these a turn names the births that it took in: the agent's first entry, and one after a wipe. */
export const FIRST_BIRTH = '1'
export const REBIRTH = 'birth'

export interface PendingInput {
  readonly ref: string
  readonly kind: 'birth' | 'invoke' | 'receipt' | 'emit' | 'cancel' | 'abandon' | 'offer' | 'card'
  readonly invocation: InvocationId | null
  /** The invocations that whatever comes of it is done for. */
  readonly serves: readonly InvocationId[]
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
  /** The card it is done by; left out: the one its agent was rooted with. */
  readonly via?: string
  /** What it holds of budgets until its receipt. */
  readonly reserved: Readonly<Record<string, string>>
  /** What it holds of budgets that middleware sets. */
  readonly metered?: readonly Taking[]
  /** The invocations that it serves. */
  readonly serves: readonly InvocationId[]
  /** Who must still approve. */
  readonly asks?: readonly (readonly string[])[]
  readonly approved: readonly string[]
  /** Who approved so far, in the same order. */
  readonly approvers?: readonly string[]
  /** Of a call: the invocation at its callee, once it has arrived. */
  readonly sent?: InvocationId | 'lost'
  readonly child?: number
  /** Middleware stands before it, and whether it was through. */
  readonly mediated?: Mediated
  readonly started: boolean
  /** The guest no longer waits for it. */
  readonly dropped: boolean
}

/** What middleware has made of an effect; `done` left out: nothing yet. */
interface Mediated {
  /** What the guest asked for. */
  readonly given: unknown
  readonly done?: Pick<MediatedMeta, 'chain' | 'roles' | 'answered'>
}

export interface AgentState {
  birth: BirthMeta | undefined
  tip: Tip
  pending: PendingInput[]
  readonly invocations: Map<InvocationId, OpenInvocation>
  /** Answered by the kernel's word while the guest was working on them, and until when it may finish. */
  readonly ending: Map<InvocationId, number>
  readonly effects: Map<EffectId, OpenEffect>
  readonly holding: Holding
  /** What invocations mean to authority, while anything that serves them is open. */
  readonly served: Map<InvocationId, TurnData>
  readonly children: Map<string, Child>
  /** Children made so far. */
  spawned: number
  timeMs: number
  turns: number
  quarantined: boolean
  stopped: boolean
  /** By the host: it takes inputs in, and runs nothing. */
  held: boolean
  /** By the host: what it has out comes to its end, and then it begins anew. */
  wiping: boolean
}

export interface Folded {
  readonly kind: string
  readonly tip: Tip
  readonly meta: unknown
  readonly payloads: readonly Buffer[]
}

export function emptyState(birth: Buffer): AgentState {
  return {
    birth: undefined,
    tip: { pos: NO_POS, seq: 0 as Seq, hash: ZERO_HASH },
    pending: [],
    invocations: new Map(),
    ending: new Map(),
    effects: new Map(),
    holding: emptyHolding(birth),
    served: new Map(),
    children: new Map(),
    spawned: 0,
    timeMs: 0,
    turns: 0,
    quarantined: false,
    stopped: false,
    held: false,
    wiping: false,
  }
}

/** Applies one entry. What it leaves the agent to do is then in `pending`, `invocations` and `effects`. */
export function fold(state: AgentState, entry: Folded): void {
  assert(entry.tip.seq === state.tip.seq + 1, 'entries are folded in order')
  state.tip = entry.tip
  foldKind(state, entry)
  foldHolding(state.holding, entry)
  for (const card of (entry.meta as AuthorityMeta).revoked ?? [])
    for (const [address, child] of state.children)
      if (child.cards.includes(card)) state.children.delete(address)
}

function foldKind(state: AgentState, entry: Folded): void {
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
    case 'intent':
      if ((entry.meta as MediatedMeta).what === 'mediated')
        foldMediated(state, entry, entry.meta as MediatedMeta)
      break
    case 'sent': {
      const { effect, invocation, due } = entry.meta as SentMeta
      const open = state.effects.get(effect)
      if (open) state.effects.set(effect, { ...open, sent: invocation ?? 'lost', due: due ?? 0 })
      break
    }
    case 'approved': {
      const { effect, role, principal, verdict, via, spends, meters } = entry.meta as ApprovedMeta
      const { asks, ...open } = state.effects.get(effect) as OpenEffect
      const approved = [...open.approved, role]
      const approvers = [...(open.approvers ?? []), principal]
      const due = verdict === 'ask' ? open.due : 0
      const reserved = spends?.of ?? open.reserved
      if (verdict === 'ask')
        state.effects.set(effect, { ...open, approved, approvers, ...(asks && { asks }) })
      else
        state.effects.set(effect, {
          ...open,
          due,
          approved,
          reserved,
          ...(via && { via }),
          ...(meters && { metered: meters }),
        })
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
      forgetServed(state)
      break
    }
    case 'quarantined':
      state.quarantined = true
      break
    case 'held':
      state.held = true
      break
    case 'released':
      state.held = false
      break
    case 'wiping':
      state.wiping = true
      state.pending = []
      drop(state, [...state.effects.keys()])
      break
    case 'wiped':
      // Addresses and effects of its former life are never used again, and children that it kept live on.
      state.wiping = false
      state.pending = []
      state.ending.clear()
      push(state, { ...entry, ref: REBIRTH }, 'birth', null)
      break
    case 'stopped':
      // Nothing of it runs again; open invocations were ended before.
      state.stopped = true
      state.wiping = false
      state.pending = []
      state.effects.clear()
      state.ending.clear()
      break
    default:
      // `resolved` and the like change nothing for the guest.
      break
  }
}

function push(
  state: AgentState,
  entry: Folded & { readonly ref?: string },
  kind: PendingInput['kind'],
  invocation: InvocationId | null,
  serves: readonly InvocationId[] = invocation === null ? [] : [invocation],
): void {
  const bytes = entry.payloads[0] as Buffer
  state.pending.push({ ref: entry.ref ?? String(entry.tip.seq), kind, invocation, serves, bytes })
}

function foldAccepted(state: AgentState, entry: Folded, meta: AcceptedMeta): void {
  if (meta.what === 'emit') return push(state, entry, 'emit', null)
  if (meta.what === 'offer' || meta.what === 'card') {
    state.holding.handles.push(meta.card as string)
    return push(state, entry, meta.what, null)
  }
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
  const turn = meta.turn ? (parseRecordJson((entry.payloads[1] as Buffer).toString()) as TurnData) : undefined
  state.served.set(id, turn ?? { scope: [], caller: { principal: meta.principal } })
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
  const causes = causesOf(state, meta.inputs)
  consume(state, meta.inputs, true)
  state.timeMs = meta.time
  state.turns++
  const output: GuestOutput = readOutput(entry.payloads[0] as Buffer)
  const details = detailsOf(entry)
  const { seq } = entry.tip
  meta.effects.forEach((m, index) => {
    const asked = output.effects[index]
    assert(asked, 'a turn records every effect that its guest asked for')
    const id = effectId(seq, index)
    if (m.verdict === 'allow' || m.verdict === 'ask') {
      const { cid, invocation, tool, args } = asked
      state.effects.set(id, {
        id,
        cid,
        invocation,
        tool,
        args,
        class: m.class,
        due: m.due ?? 0,
        ...(m.via && { via: m.via }),
        reserved: reservedOf(m),
        serves: servesOf(state, causes, asked.invocation),
        ...(m.ask && { asks: m.ask }),
        approved: [],
        ...(m.child && { child: m.child }),
        ...(m.mediated && { mediated: { given: args } }),
        started: false,
        dropped: false,
      })
      if (m.child) state.spawned = m.child
    } else if (m.verdict === 'refuse' || m.verdict === 'done') {
      const { error, value } = details.get(index) ?? {}
      assert(error || m.verdict === 'done', 'a refusal is recorded with its reason')
      state.pending.push({
        ref: id,
        kind: 'receipt',
        invocation: asked.invocation,
        serves: servesOf(state, causes, asked.invocation),
        bytes: receiptEvent(asked.cid, error ? { ok: false, error } : { ok: true, value: value ?? null }),
      })
    }
  })
  drop(state, meta.drops)
  for (const [invocation] of meta.replies) state.invocations.delete(invocation)
  // What was ended from outside answers nobody, but has finished.
  for (const { invocation } of output.replies) state.ending.delete(invocation)
  forgetServed(state)
}

/** From here on the effect is what its middleware made of it. */
function foldMediated(state: AgentState, entry: Folded, meta: MediatedMeta): void {
  const open = state.effects.get(meta.effect)
  if (!open || meta.verdict === 'refuse') return
  const { asks: _asks, ...rest } = open
  const { args } = mediatedBody(entry)
  const { chain, roles, answered } = meta
  state.effects.set(meta.effect, {
    ...rest,
    args,
    approved: [],
    approvers: [],
    reserved: meta.spends?.of ?? {},
    due: meta.due ?? 0,
    ...(meta.via && { via: meta.via }),
    ...(meta.ask && { asks: meta.ask }),
    ...(meta.verdict === 'allow' && meta.meters && { metered: meta.meters }),
    mediated: {
      given: open.mediated ? open.mediated.given : open.args,
      done: { chain, ...(roles && { roles }), ...(answered !== undefined && { answered }) },
    },
  })
}

export function mediatedBody({ meta, payloads }: Pick<Folded, 'meta' | 'payloads'>): MediatedBody {
  const said = (meta as AuthorityMeta).auth === 1 ? payloads.slice(0, -1) : payloads
  return parseRecordJson((said[0] as Buffer).toString()) as MediatedBody
}

/** The invocations that a turn serves by what it was given. */
export function causesOf(state: AgentState, refs: readonly string[]): readonly InvocationId[] {
  const [only] = refs
  if (refs.length === 1) return state.pending.find((p) => p.ref === only)?.serves ?? []
  const taken = new Set(refs)
  return [...new Set(state.pending.filter((p) => taken.has(p.ref)).flatMap((p) => p.serves))]
}

/**
 * The invocations that an effect serves: those that its turn serves, and the one that its guest says. A
 * guest that lies can only be bound by more.
 */
export function servesOf(
  state: AgentState,
  causes: readonly InvocationId[],
  claimed: InvocationId | null,
): readonly InvocationId[] {
  if (claimed === null || causes.includes(claimed) || !state.served.has(claimed)) return causes
  return [...causes, claimed]
}

/** Forgets the invocations that nothing open serves any more. */
function forgetServed(state: AgentState): void {
  for (const id of state.served.keys()) {
    // Most are open: then nobody looks through thousands of effects for each of their receipts.
    if (state.invocations.has(id) || state.ending.has(id)) continue
    if (!isServed(state, id)) state.served.delete(id)
  }
}

function isServed({ effects, pending }: AgentState, id: InvocationId): boolean {
  for (const { serves } of effects.values()) if (serves.includes(id)) return true
  return pending.some(({ serves }) => serves.includes(id))
}

function reservedOf({ calls, bytesOut, spend }: EffectMeta): Record<string, string> {
  return {
    ...(calls && { calls: String(calls) }),
    ...(bytesOut && { bytesOut: String(bytesOut) }),
    ...spend,
  }
}

/** What a turn's entry says of refusals and results; what it says of authority stands behind. */
export function detailsOf({ meta, payloads }: Pick<Folded, 'meta' | 'payloads'>): Map<number, VerdictDetail> {
  const said = (meta as AuthorityMeta).auth === 1 ? payloads.slice(0, -1) : payloads
  return parseDetails(said[1])
}

function parseDetails(payload: Buffer | undefined): Map<number, VerdictDetail> {
  const list = payload ? (parseRecordJson(payload.toString()) as VerdictDetail[]) : []
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
      serves: [],
      bytes: entry.payloads[1] as Buffer,
    })
  }
}

function foldReceipt(state: AgentState, entry: Folded, meta: ReceiptMeta): void {
  const open = state.effects.get(meta.effect)
  state.effects.delete(meta.effect)
  if (meta.child) state.children.set(meta.child.address, meta.child)
  if (open && !meta.dropped) push(state, entry, 'receipt', open.invocation, open.serves)
  forgetServed(state)
}

/** On behalf of whom from outside an effect is done, through however many agents. */
export function principalsOf(
  state: Pick<AgentState, 'served'>,
  { serves }: Pick<OpenEffect, 'serves'>,
): readonly string[] {
  const all = serves.flatMap((id): readonly string[] => {
    const { caller, principals = [] } = state.served.get(id) ?? {}
    return caller && 'principal' in caller ? [caller.principal] : principals
  })
  return [...new Set(all)]
}

/** Whether an effect is out nowhere: it waits for time, for another agent's answer, or for a person. */
export function onlyWaits(effect: OpenEffect, nowMs: number): boolean {
  if (effect.class === 'sleep' || isAsked(effect)) return true
  return effect.class === 'call' && (effect.sent !== undefined || effect.due > nowMs)
}

export function isAsked({ asks }: OpenEffect): boolean {
  return asks !== undefined
}

/** Whether nothing runs, waits for the kernel or is out in the world: only time or a caller can wake it. */
export function isQuiet(state: AgentState, nowMs: number): boolean {
  return (
    state.pending.every((p) => p.kind === 'birth') &&
    [...state.effects.values()].every((effect) => onlyWaits(effect, nowMs))
  )
}

/** When the kernel must wake the agent by itself. */
export function nextWake(state: AgentState, nowMs: number): number {
  let next = Number.POSITIVE_INFINITY
  for (const { class: cls, due, sent, asks } of state.effects.values()) {
    // A message that is due and not sent is on its way: its receiver wakes.
    const underWay = cls === 'call' && sent === undefined && due <= nowMs
    const waits = cls === 'sleep' || cls === 'call' || asks !== undefined
    if (due > 0 && !underWay && waits) next = Math.min(next, due)
  }
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
  readonly holding: Holding
  readonly served: readonly (readonly [InvocationId, TurnData])[]
  readonly children: readonly Child[]
  readonly spawned: number
  readonly timeMs: number
  readonly turns: number
  readonly stopped: boolean
  readonly held: boolean
  readonly wiping: boolean
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
    holding: state.holding,
    served: [...state.served],
    children: [...state.children.values()],
    spawned: state.spawned,
    timeMs: state.timeMs,
    turns: state.turns,
    stopped: state.stopped,
    held: state.held,
    wiping: state.wiping,
  }
  return JSON.stringify(saved)
}

export function decodeState(text: string, tip: Tip): AgentState {
  const saved = parseRecordJson(text) as SavedState
  return {
    birth: saved.birth,
    tip,
    pending: saved.pending.map((p) => ({ ...p, bytes: Buffer.from(p.bytes, 'base64') })),
    invocations: new Map(
      saved.invocations.map((i) => [i.id, { ...i, deadline: i.deadline ?? Number.POSITIVE_INFINITY }]),
    ),
    ending: new Map(saved.ending),
    effects: new Map(saved.effects.map((e) => [e.id, e])),
    holding: saved.holding,
    served: new Map(saved.served),
    children: new Map(saved.children.map((child) => [child.address, child])),
    spawned: saved.spawned,
    timeMs: saved.timeMs,
    turns: saved.turns,
    quarantined: false,
    stopped: saved.stopped,
    held: saved.held,
    wiping: saved.wiping,
  }
}
